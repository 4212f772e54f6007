"""Weights of single points, which follow what is left there."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

_KEEPS, _ADDS = 0.999, 0.01  # of a strength, from one step to the next
_CLIMBS = 0.01  # steps of an ascent


def by_residual(strength: Tensor, size: Tensor, step: Tensor) -> Tensor:
    """``0.999 s + 0.01 |r| / max |r|``: residual-based attention (RBA)."""
    return _KEEPS * strength + _ADDS * size / largest(size)


def by_tilted_residual(strength: Tensor, size: Tensor, step: Tensor) -> Tensor:
    """``0.999 s + 0.01 exp((|r| / max |r| - 1) log(k + 2))`` at step k: variational RBA."""
    return _KEEPS * strength + _ADDS * ((size / largest(size) - 1) * (step + 2).log()).exp()


def by_ascent(strength: Tensor, size: Tensor, step: Tensor) -> Tensor:
    """``s (1 + 0.01 r^2 / mean r^2)``: up the gradient of ``s^2 r^2``, self-adaptive."""
    square = size.square()
    return strength * (1 + _CLIMBS * square / square.mean().clamp_min(_tiny(square)))


def largest(size: Tensor) -> Tensor:
    return size.amax().clamp_min(_tiny(size))


def _tiny(like: Tensor) -> float:
    return torch.finfo(like.dtype).tiny


class Attention:
    """Weights ``s_j^2 / mean s^2`` of the squares of a loss: their mean is one.

    A loss as a whole keeps its weight. Strengths s start at one where points are new; those that a
    captured step reads stay where they are in memory.

    Parameters
    ----------
    rule : {"self-adaptive", "rba", "vrba"}

    Sources: McClenny, Braga-Neto, "Self-adaptive physics-informed neural networks" (2023);
    Anagnostopoulos et al., "Residual-based attention in PINNs" (2024); Toscano et al., "A
    principled framework for residual-based adaptivity" (2025), with the exponential potential.
    """

    RULES: ClassVar[dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
        "self-adaptive": by_ascent,
        "rba": by_residual,
        "vrba": by_tilted_residual,
    }

    def __init__(self, rule: str) -> None:
        self.rule = rule
        self.strengths: dict[str, Tensor] = {}  # by number of squares and loss
        self.steps: dict[str, Tensor] = {}
        self.seen: dict[str, Tensor] = {}  # squares, of the last step

    def weights(self, name: str, squares: Tensor) -> Tensor:
        """Of the squares of a loss, which are remembered."""
        squares = squares.detach()
        key = f"{squares.numel()} {name}"
        if key not in self.strengths:
            self.strengths[key] = torch.ones_like(squares)
            self.steps[key] = squares.new_zeros(())
        self.seen[key] = squares
        each = self.strengths[key].square()
        return each / each.mean()

    @torch.no_grad()
    def follow(self) -> None:
        """Have strengths follow what was seen last; their mean square is one again."""
        for key, squares in self.seen.items():
            strength, step = self.strengths[key], self.steps[key]
            found = self.RULES[self.rule](strength, squares.clamp_min(0).sqrt(), step)
            strength.copy_(found / found.square().mean().sqrt())
            step.add_(1)

    @torch.no_grad()
    def start(self) -> None:
        """Of new points."""
        for strength, step in zip(self.strengths.values(), self.steps.values(), strict=True):
            strength.fill_(1)
            step.zero_()
        self.seen = {}

    def forget(self) -> None:
        """All points."""
        self.strengths, self.steps, self.seen = {}, {}, {}

    def extra_state(self) -> dict[str, Any]:
        """What a checkpoint has of them."""
        return {"strengths": self.strengths, "steps": self.steps}

    def set_extra_state(self, state: dict[str, Any], device: torch.device) -> None:
        """The inverse."""
        self.strengths, self.steps = (
            {key: tensor.to(device) for key, tensor in state[name].items()}
            for name in ("strengths", "steps")
        )
