"""Captured steps without a card: a graph that computes the part of a step that it stands for."""

from contextlib import nullcontext


class Replay:
    """Plays a graph, whose backward pass writes its gradients anew."""

    def __init__(self, captured, part):
        self.captured, self.part = captured, part

    def replay(self):
        if self.part == self.captured.step:
            self.captured.net.optimizer_.zero_grad(set_to_none=True)
        self.part()


def capture_on_cpu(monkeypatch):
    """Have every net be captured on a CPU; the function that records a part of a step."""
    captured = "sklearn_metakan.training.capture.CapturedStep"
    monkeypatch.setattr(f"{captured}._record", lambda self, part: Replay(self, part))
    monkeypatch.setattr(f"{captured}._aside", lambda self: nullcontext())
    monkeypatch.setattr("sklearn_metakan.training.capture.obstacle", lambda net: None)
    monkeypatch.setattr("sklearn_metakan.training.net.CAPTURING", ("cuda", "cpu"))
    return Replay
