"""Networks of the Feynman table: published numbers, coefficient sources, small candidates."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from sklearn_metakan import KANRegressor, MetaKANRegressor

DEGREE = 3
STARTS = 4  # of every small network
_KEY = re.compile(r"kan|(?P<source>paper|relu|silu|sin|linear)-(?P<number>\d+)(?P<layer>-layer)?")


class Published(NamedTuple):
    """Test error and number of parameters, as published for G = 5."""

    kan_error: float
    kan_parameters: int
    metakan_error: float
    metakan_parameters: int


PUBLISHED_GRID = 5
PUBLISHED = {
    "I.6.20a": Published(5.94e-4, 58, 3.88e-4, 218),
    "I.8.4": Published(1.30e-2, 979, 3.76e-3, 461),
    "I.9.18": Published(2.39e-3, 781, 1.70e-3, 993),
    "I.12.5": Published(1.32e-3, 57, 1.16e-4, 30),
    "I.15.3x": Published(1.57e-2, 223, 5.38e-3, 80),
}


@dataclass(frozen=True)
class Candidate:
    """A network and how it starts; ``model`` is a key, see ``settings``."""

    model: str
    hidden: tuple[int, ...]
    start: int = 0

    @property
    def label(self) -> str:
        return f"{self.model} {'-'.join(map(str, self.hidden))}".strip()

    def estimator(
        self, net_params: dict[str, Any], **options: Any
    ) -> KANRegressor | MetaKANRegressor:
        kind = KANRegressor if self.model == "kan" else MetaKANRegressor
        if self.model.startswith("paper"):
            net_params = net_params | {"module__init": "paper"}
        options |= settings(self.model)
        return kind(self.hidden, degree=DEGREE, net_params=net_params, **options)


def settings(model: str) -> dict[str, Any]:
    """Of a coefficient source, by its key.

    "kan"; "paper-H", the paper's meta-learner and starting values; "relu-H", with our starting
    values; "silu-H", with that activation; "sin-H", with edge scale; "linear-p". One meta-learner
    serves all layers (Algorithm 1); with "-layer" at the end, each has its own.
    """
    match = _KEY.fullmatch(model)
    if match is None:
        known = "kan, or (paper|relu|silu|sin|linear)-NUMBER[-layer]"
        raise ValueError(f"A model is {known}: {model!r}.")
    if model == "kan":
        return {}
    number = int(match["number"])
    common: dict[str, Any] = {"n_meta_learners": "layer" if match["layer"] else 1}
    if match["source"] == "linear":
        return common | {"prompt_dim": number, "meta_hidden_dim": 0, "edge_scale": False}
    common |= {"prompt_dim": 1, "meta_hidden_dim": number}
    if match["source"] == "sin":
        return common | {"meta_activation": "sin", "edge_scale": True}
    activation = "silu" if match["source"] == "silu" else "relu"
    return common | {"meta_activation": activation, "edge_scale": False}


def contestants(hidden_dims: Sequence[int]) -> list[str]:
    linear = ["linear-3-layer", "linear-2-layer", "linear-3", "linear-2"]
    nonlinear = [f"{source}-{H}" for H in hidden_dims for source in ("sin", "relu", "paper")]
    return ["kan", *linear, *nonlinear]


def n_edges(widths: Sequence[int]) -> int:
    return sum(n_in * n_out for n_in, n_out in pairwise(widths))


def small_networks(n_inputs: int, grid_size: int, most: int) -> list[Candidate]:
    """The largest linear MetaKANs of at most this many parameters, each with a few starts.

    With 1, 2 or 3 functions in the one dictionary, and one hidden layer or two, of which the
    second is as wide as the first, half as wide, or between.
    """
    found = []
    for p in (1, 2, 3):
        room = most // p - (1 + grid_size + DEGREE)  # for edges
        one = [(width,) for width in range(1, room) if n_edges((n_inputs, width, 1)) <= room]
        two = [(width, second) for (width,) in one for second in range(-(-width // 2), width + 1)]
        for shapes in (one, two):
            counted = [(n_edges((n_inputs, *hidden, 1)), hidden[-1], hidden) for hidden in shapes]
            fitting = [each for each in counted if each[0] <= room]
            if fitting:  # the most edges, then the widest at the end
                found.append((f"linear-{p}", max(fitting)[-1]))
    return [Candidate(model, hidden, start) for model, hidden in found for start in range(STARTS)]
