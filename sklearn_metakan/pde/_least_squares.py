"""The loss of a step as a sum of squares, linearised in all parameters at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_metakan.ops import slices
from sklearn_metakan.pde._collocation import EQUATION, Batch
from sklearn_metakan.pde._per_sample import PerSample, per_sample
from sklearn_metakan.pde._physics import Physics
from sklearn_metakan.pde._push import steps

# MiB that the gradients of a block of rows may take.
BLOCK_MEMORY = {"cpu": 128.0, "cuda": 1024.0}
_COPIES = 4  # of a row's gradients while they are made


class LeastSquares:
    """``L = sum_k f_k sum_j v_kj r_kj^2`` at the points of a batch, the weights v fixed.

    Without causal weights v is one over the number of rows, and L the loss of training.

    Parameters
    ----------
    physics : Physics
        With exact Laplacians.
    batch : Batch
    factor : callable
        f_k, by the name of the loss.
    trained : sequence of Parameter
        Of the physics, in the order of the unknowns.
    memory : float, optional
        MiB for the gradients of a block of rows; halved where a card does not have them.

    Attributes
    ----------
    first : dict of str to Tensor
        The terms of L, before their factors, where it was made.
    size : int
        P, the number of unknowns.
    memory : float
        MiB, as halved so far.
    """

    def __init__(
        self,
        physics: Physics,
        batch: Batch,
        factor: Callable[[str], float],
        trained: Sequence[Tensor],
        memory: float | None = None,
    ) -> None:
        modules = steps(physics.trial.network)
        assert modules is not None  # check_least_squares has seen to it
        self.physics, self.batch, self.trained = physics, batch, trained
        self.modules, self.places, size = modules, {}, 0
        for parameter in trained:
            self.places[id(parameter)] = slice(size, size + parameter.numel())
            size += parameter.numel()
        self.size = size
        device = trained[0].device.type
        memory = BLOCK_MEMORY["cpu" if device == "cpu" else "cuda"] if memory is None else memory
        self.memory = memory
        found = self._misfits()
        self.factors = {name: factor(name) for r in found.values() for name in r}
        self.weights = {
            name: self._weights(term, r) for term, rows in found.items() for name, r in rows.items()
        }
        self.first = self._terms(found)

    @torch.no_grad()
    def _misfits(self) -> dict[str, dict[str, Tensor]]:
        """By term, and by the name of the loss."""
        return {term: self.physics.misfits(term, sets) for term, sets in self.batch.items()}

    def _weights(self, term: str, r: Tensor) -> Tensor:
        if term == EQUATION and self.physics.causal is not None:
            return self.physics.causal_weights(r.square(), self.batch[term][0][0])
        return torch.full_like(r, 1 / r.numel())

    def _terms(self, found: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return {
            name: (self.weights[name] * r.square()).sum()
            for rows in found.values()
            for name, r in rows.items()
        }

    def _summed(self, terms: Mapping[str, Tensor]) -> float:
        return float(
            torch.stack([self.factors[n] * term.double() for n, term in terms.items()]).sum()
        )

    @property
    def total(self) -> float:
        """L where it was made."""
        return self._summed(self.first)

    def loss(self) -> float:
        """L at the parameters' present values."""
        return self._summed(self._terms(self._misfits()))

    def normal_equations(self) -> tuple[Tensor, Tensor]:
        """``J' V J`` (P, P) and ``J' V r`` (P), J = dr / dparameters, V = f v: float64."""
        while True:
            try:
                return self._normal_equations()
            except torch.cuda.OutOfMemoryError:
                if self._rows_at_once() == 1:
                    raise
            torch.cuda.empty_cache()  # out here, the error no longer holds what it interrupted
            self.memory /= 2

    def _normal_equations(self) -> tuple[Tensor, Tensor]:
        like = self.trained[0]
        matrix = torch.zeros(self.size, self.size, dtype=torch.float64, device=like.device)
        vector = matrix.new_zeros(self.size)
        size = self._rows_at_once()
        for term, sets in self.batch.items():
            for rows in slices(len(sets[0][0]), size):
                for weights, r, jacobian in self._linearised(term, rows):
                    scaled = jacobian * weights[:, None]
                    matrix.addmm_(scaled.T, jacobian)
                    vector.addmv_(scaled.T, r)
        return matrix, vector

    def _rows_at_once(self) -> int:
        _, layers = per_sample(self.modules, 1)
        numbers = sum(leaf.numel() for layer in layers for leaf in layer.leaves)
        block = self.memory * 2**20 / _COPIES / self.trained[0].element_size()
        return max(1, int(block / (numbers + self.size)))

    @torch.enable_grad()
    def _linearised(self, term: str, rows: slice) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Weights, residuals and their gradients (n, P), for each column of a term's losses."""
        network, layers = per_sample(self.modules, rows.stop - rows.start)
        physics = _with(self.physics, trial=_with(self.physics.trial, network=network))
        found = physics.misfits(term, self.batch[term], rows)
        columns = [
            (self.factors[name] * weights, column)
            for name, r in found.items()
            for weights, column in zip(_columns(self.weights[name][rows]), _columns(r), strict=True)
        ]
        for number, (weights, column) in enumerate(columns):
            keep = number + 1 < len(columns) or bool(physics.pde_params)
            jacobian = self._jacobian(column, layers, keep)
            self._add_constants(jacobian, column, physics)
            yield weights.double(), column.detach().double(), jacobian

    def _jacobian(self, column: Tensor, layers: Sequence[PerSample], keep: bool) -> Tensor:
        leaves = [leaf for layer in layers for leaf in layer.leaves]
        found = iter(
            torch.autograd.grad(
                column,
                leaves,
                torch.ones_like(column),
                retain_graph=keep,
                allow_unused=True,
                materialize_grads=True,
            )
        )
        jacobian = column.new_zeros(len(column), self.size, dtype=torch.float64)
        for layer in layers:
            for parameter, gradient in layer.by_parameter([next(found) for _ in layer.leaves]):
                place = self.places.get(id(parameter))
                if place is not None:
                    jacobian[:, place] += gradient.flatten(1)
        return jacobian

    def _add_constants(self, jacobian: Tensor, column: Tensor, physics: Physics) -> None:
        """Columns of the equation's constants: ``d(v' dr/dc) / dv`` is dr/dc by row."""
        for constant in physics.pde_params.values():
            place = self.places.get(id(constant))
            if place is None:
                continue
            v = torch.ones_like(column, requires_grad=True)
            (slope,) = torch.autograd.grad(
                column, constant, v, create_graph=True, retain_graph=True, allow_unused=True
            )
            if slope is not None and slope.requires_grad:
                (by_row,) = torch.autograd.grad(slope, v, retain_graph=True)
                jacobian[:, place] = by_row[:, None]


def _columns(rows: Tensor) -> tuple[Tensor, ...]:
    return rows.reshape(len(rows), -1).unbind(1)


def _with(module: Any, **parts: nn.Module) -> Any:
    """A copy that shares everything but these parts."""
    changed = copy(module)
    changed._modules = {**module._modules, **parts}
    return changed
