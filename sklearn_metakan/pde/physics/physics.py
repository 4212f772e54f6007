"""What is minimised: the equation's residual and the conditions' misfits, as one module."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_metakan.pde.physics.attention import Attention
from sklearn_metakan.pde.physics.conditions import BaseCondition, PointSet
from sklearn_metakan.pde.physics.constants import Constants, Start
from sklearn_metakan.pde.physics.field import Field, Request
from sklearn_metakan.pde.physics.trial import TrialFunction, order_of

EQUATION, DATA = "residual", "data"
CHUNKS = 32  # of time, for causal weights

# By term: the equation, each condition, observations, these with their numbers as normals.
Batch = dict[str, list[PointSet]]
Residual = Callable[..., Any]


class Physics(nn.Module):
    """A trial function with its equation and conditions; gives the loss of each.

    Raises ValueError if the network's dtype cannot hold a constant.

    Parameters
    ----------
    trial : TrialFunction
    residual : callable
        ``residual(x, u, **pde_params)``: (n,), or a tuple or dict of such.
    conditions : mapping of str to condition
    pde_params : mapping of str to float or Positive
        Starting values of trainable constants of the equation.
    causal : (epsilon, t0, t1), optional
        Weights ``exp(-epsilon * loss of all earlier times)`` on the equation, in 32 chunks of
        time: later times count once earlier ones are solved.
    attention : {"self-adaptive", "rba", "vrba"}, optional
        Weights of single points in training.

    Source: Wang, Sankaran, Perdikaris, "Respecting causality for training PINNs" (2024).
    """

    calls_u: Tensor

    def __init__(
        self,
        trial: TrialFunction,
        residual: Residual,
        conditions: Mapping[str, BaseCondition],
        pde_params: Mapping[str, Start],
        causal: tuple[float, float, float] | None = None,
        attention: str | None = None,
    ) -> None:
        super().__init__()
        self.trial, self.residual, self.conditions = trial, residual, dict(conditions)
        self.pde_params = Constants(pde_params, next(trial.parameters()))
        self.causal = causal
        self.attention = None if attention is None else Attention(attention)
        self.requests: dict[str, Request] = {}  # what each term asks for, once it was probed
        self.target: Tensor | None = None  # of the observations, (n, k)
        self.target_weight: Tensor | None = None  # roots of weights, (n, k)
        # Whether a term evaluates u elsewhere, for autograd of its own; kept when pickled.
        self.register_buffer("calls_u", torch.tensor(False))

    def forward(self, batch: Batch, seed: int | torch.Generator = 0) -> dict[str, Tensor]:
        """The loss of each term: means of squares, scalars; seed is that of random directions.

        A random Laplacian is drawn twice: the product of both residuals has the exact square
        as its mean.
        """
        x, request = batch[EQUATION][0][0], self._request(EQUATION)
        generator = torch.Generator(x.device).manual_seed(seed) if isinstance(seed, int) else seed
        random = self.trial.derivatives != "exact" and "laplacian" in request
        fields = self.trial.fields(x, request=request, generator=generator, n_sets=1 + random)
        first, *others = (self._named(x, field) for field in fields)
        losses = {}
        for name, r in first.items():
            squares = r * others[0][name] if others else r.square()
            weighted = self.by_point(name, squares) * squares
            if self.causal is None:
                losses[name] = weighted.mean()
            else:
                losses[name] = (self.causal_weights(squares.detach(), x) * weighted).sum()
        for name, sets in batch.items():
            if name == EQUATION:
                continue
            misfit = self.misfit(name, sets)
            if self.attention is None or self.is_mean(name):
                losses[name] = self.squared(name, misfit)
            else:
                squares = misfit.square()
                losses[name] = (self.by_point(name, squares) * squares).mean()
        return losses

    def by_point(self, name: str, squares: Tensor) -> Tensor | float:
        """What each square of a loss counts in training, one in the mean."""
        return 1.0 if self.attention is None else self.attention.weights(name, squares)

    def misfits(
        self, name: str, sets: Sequence[PointSet], rows: slice = slice(None)
    ) -> dict[str, Tensor]:
        """What the losses of a term, at some rows of its points, are mean squares of."""
        part = [(x[rows], None if normal is None else normal[rows]) for x, normal in sets]
        if name == EQUATION:
            return self.residuals(part[0][0])
        return {name: self.misfit(name, part)}

    def residuals(self, x: Tensor) -> dict[str, Tensor]:
        """The equation's residuals at x, each (n,)."""
        with self._graph() as freed:
            named = self._named(x, self.trial.field(x, request=self._request(EQUATION)))
        return {name: freed(r) for name, r in named.items()}

    def misfit(self, name: str, sets: Sequence[PointSet]) -> Tensor:
        """What is zero where the condition, or these observations, hold; Laplacians are exact."""
        if name == DATA:
            points, numbers = sets[0]
            assert self.target is not None
            away = self.trial.columns(points) - self.target[numbers]
            return away if self.target_weight is None else self.target_weight[numbers] * away
        request = self._request(name)
        with self.exact(), self._graph() as freed:
            fields = [self.trial.field(x, normal, request=request) for x, normal in sets]
            return freed(self.conditions[name].misfit([x for x, _ in sets], fields, sets[0][1]))

    @contextmanager
    def _graph(self) -> Iterator[Callable[[Tensor], Tensor]]:
        """Where a term differentiates u itself, a graph within; gives what frees a result of it."""
        wanted = torch.is_grad_enabled()
        with torch.set_grad_enabled(wanted or bool(self.calls_u)):
            yield (lambda found: found) if wanted else Tensor.detach

    def observe(self, values: Any, weights: Any) -> None:
        """Take observations, and the weights of their squares, as arrays (n, k) or None."""
        like = next(self.trial.parameters())
        self.target = None if values is None else torch.tensor(values).to(like)
        self.target_weight = None if weights is None else torch.tensor(weights).to(like).sqrt()

    def squared(self, name: str, misfit: Tensor) -> Tensor:
        """The loss of a condition, or of data."""
        return misfit.mean().square() if self.is_mean(name) else misfit.square().mean()

    def is_mean(self, name: str) -> bool:
        """Whether a term asks that its misfits are zero in the mean alone."""
        return name in self.conditions and self.conditions[name].is_mean

    def title(self, name: str) -> str:
        """How messages call a term."""
        if name == DATA:
            return "the observations"
        return "residual(x, u)" if name == EQUATION else repr(self.conditions[name])

    def probe(self, name: str, sets: Sequence[PointSet]) -> Any:
        """What a term gives at some points, unchecked; its request is remembered."""
        fields = [self.trial.field(x, normal) for x, normal in sets]
        points = [x for x, _ in sets]
        versions = [x._version for x in points]
        if name == EQUATION:
            found = self.residual(points[0], fields[0], **self.pde_params.constants())
        else:
            found = self.conditions[name].misfit(points, fields, sets[0][1])
        if versions != [x._version for x in points] or any(u.was_changed for u in fields):
            raise ValueError(
                f"{self.title(name)} must not change x or u in place, as x *= 2 does: later terms "
                "and steps would see it. Write x = 2 * x."
            )
        if any(field.was_called for field in fields):
            self.calls_u.fill_(True)
        self.requests[name] = frozenset().union(*(field.request for field in fields))
        return found

    @property
    def order(self) -> int:
        """The highest derivative that any term asks for."""
        return max(map(order_of, self.requests.values()), default=0)

    def _request(self, name: str) -> Request:
        return self.requests.get(name, frozenset())

    @contextmanager
    def exact(self) -> Iterator[None]:
        """Within it, Laplacians are exact."""
        before = self.trial.derivatives
        self.trial.derivatives = "exact"
        try:
            yield
        finally:
            self.trial.derivatives = before

    @torch.no_grad()
    def is_linear_in_laplacian(self, x: Tensor) -> bool:
        """Whether the squared loss of a random Laplacian has no bias.

        The residual of the mean of two estimates is then the mean of their residuals.
        """
        generator = torch.Generator(x.device).manual_seed(0)
        with self._graph():
            pair = self.trial.fields(x, request=self._request(EQUATION), generator=generator)
            found = [self._named(x, u) for u in (*pair, pair[0].of_all_sets())]
        for name, first in found[0].items():
            second, middle = found[1][name], found[2][name]
            away, spread = (middle - (first + second) / 2).abs().max(), (first - second).abs().max()
            if away > 0.01 * spread + 100 * torch.finfo(x.dtype).eps * middle.abs().max():
                return False
        return True

    def _named(self, x: Tensor, u: Field) -> dict[str, Tensor]:
        return named_residuals(self.residual(x, u, **self.pde_params.constants()))

    def causal_weights(self, squares: Tensor, x: Tensor) -> Tensor:
        """What each squared residual counts, (n)."""
        assert self.causal is not None
        epsilon, t0, t1 = self.causal
        place = ((x[:, -1] - t0) / (t1 - t0) * CHUNKS).long().clamp(0, CHUNKS - 1)
        sums = squares.new_zeros(CHUNKS).index_add(0, place, squares)
        counts = squares.new_zeros(CHUNKS).index_add(0, place, torch.ones_like(squares))
        chunks = sums / counts.clamp_min(1)
        earlier = chunks.cumsum(0) - chunks
        of_chunks = (-epsilon * earlier).exp() / counts.clamp_min(1) / (counts > 0).sum()
        return of_chunks[place]


def named_residuals(found: Any) -> dict[str, Tensor]:
    """A residual, or a tuple or dict of such, by the names of their losses."""
    if isinstance(found, Mapping):
        return dict(found)
    if isinstance(found, tuple | list):
        return {f"{EQUATION}_{j}": each for j, each in enumerate(found)}
    return {EQUATION: found}


def with_parts(module: Any, **parts: nn.Module) -> Any:
    """A copy of a module that shares everything but these parts of it."""
    changed = copy(module)
    changed._modules = {**module._modules, **parts}
    return changed
