"""Levenberg-Marquardt: a step's loss as a sum of squares, for all parameters at once."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sklearn_metakan.ops import slices
from sklearn_metakan.pde.derivatives.per_sample import PerSample, per_sample
from sklearn_metakan.pde.derivatives.push import modules_in_order
from sklearn_metakan.pde.physics.conditions import PointSet
from sklearn_metakan.pde.physics.physics import EQUATION, Batch, Physics, with_parts
from sklearn_metakan.training import PRESENT, set_values

# MiB that the gradients of a block of rows may take.
BLOCK_MEMORY = {"cpu": 128.0, "cuda": 1024.0}
_COPIES = 4  # of a row's gradients while they are made
_ELSEWHERE = 8  # times as much, where u is evaluated at other points too
MOST_PARAMETERS = 20_000  # matrices (P, P) of float64: 3 GB
_TRIES = 12  # of a step, each more damped than the one before
_LEAST = 1e-6  # of D's mean, for parameters that hardly matter
_WELL, _BADLY = 0.75, 0.25  # of the decrease that the linear model foresees
_HELD = 1e-3  # of L: what a factor e of a positive constant must gain


class LevenbergMarquardt(torch.optim.Optimizer):
    """``(J' V J + mu D) delta = -J' V r``, D the diagonal of J' V J.

    A step is taken if it lowers the loss at the same points; else mu is raised and the step
    solved again. Where the loss falls as the linear model foresees, mu is lowered. D makes steps
    independent of the units of single parameters: prompts and dictionaries need that.

    Parameters
    ----------
    params : iterable of Parameter
    lr : float, default=1.0
        What of a step is taken.
    damping : float, default=1e-3
        mu at the start.

    Attributes
    ----------
    damping : float

    Source: Marquardt, "An algorithm for least-squares estimation of nonlinear parameters"
    (1963); Madsen, Nielsen, Tingleff, "Methods for non-linear least squares problems" (2004),
    section 3.2.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float = 1.0, damping: float = 1e-3
    ) -> None:
        super().__init__(params, {"lr": lr})
        self.damping = damping

    def extra_state(self) -> dict[str, Any]:
        """What ``state_dict`` lacks, for checkpoints."""
        return {"damping": self.damping}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """The inverse."""
        self.damping = state["damping"]

    @property
    def trained(self) -> list[nn.Parameter]:
        return [p for group in self.param_groups for p in group["params"] if p.requires_grad]

    @torch.no_grad()
    def step(self, problem: "LeastSquares") -> bool:  # type: ignore[override]
        """One step from the parameters' present values; False if no damping lowers the loss."""
        before = problem.total
        matrix, vector = problem.normal_equations()
        trained = self.trained
        start = [parameter.clone() for parameter in trained]
        sizes = [parameter.numel() for parameter in trained]
        damping, accepted = self.damping, False
        try:
            for _ in range(_TRIES):
                delta = self._solved(matrix, vector)
                if delta is not None:
                    parts = zip(start, delta.split(sizes), strict=True)
                    set_values(trained, [p - d.view_as(p).to(p.dtype) for p, d in parts])
                    decrease = before - problem.loss()
                    if decrease > 0:  # not NaN
                        accepted = True
                        self._adapt(decrease / float(delta @ (2 * vector - matrix @ delta)))
                        break
                self.damping *= 4
        finally:
            if not accepted:
                set_values(trained, start)
                self.damping = damping
        return accepted

    def _solved(self, matrix: Tensor, vector: Tensor) -> Tensor | None:
        diagonal = matrix.diagonal()
        damped = matrix.clone()
        damped.diagonal().add_(diagonal.clamp_min(_LEAST * diagonal.mean()), alpha=self.damping)
        factor, failed = torch.linalg.cholesky_ex(damped)
        if failed:
            return None
        delta = torch.cholesky_solve(vector[:, None], factor)[:, 0]
        return delta * self.param_groups[0]["lr"]

    def _adapt(self, ratio: float) -> None:
        if ratio > _WELL:
            self.damping = max(self.damping / 4, 1e-15)
        elif ratio < _BADLY:
            self.damping *= 2


class LeastSquares:
    """``L = sum_k f_k sum_j v_kj r_kj^2`` at the points of a batch, the weights v fixed.

    Without weights of points v is one over the number of rows, and L the loss of training; factor
    gives f_k by the name of the loss. Unknowns are the P numbers in ``trained``, in their order.
    ``memory``, MiB for the gradients of a block of rows, is halved where a card does not have
    them. ``first`` are the terms of L, before their factors, where it was made.

    A step of logarithms of positive constants has ``0.001 L`` times its square added to its model:
    as long as they hardly matter beside what else is wrong, they stay.
    """

    def __init__(
        self,
        physics: Physics,
        batch: Batch,
        factor: Callable[[str], float],
        trained: Sequence[Tensor],
        memory: float | None = None,
    ) -> None:
        modules = modules_in_order(physics.trial.network)
        assert modules is not None  # check_least_squares has seen to it
        self.physics, self.batch, self.trained = physics, batch, trained
        self.modules, self.places, size = modules, {}, 0
        for parameter in trained:
            self.places[id(parameter)] = slice(size, size + parameter.numel())
            size += parameter.numel()
        self.size = size
        usual = BLOCK_MEMORY["cpu" if trained[0].device.type == "cpu" else "cuda"]
        self.memory = usual if memory is None else memory
        found = self.misfits = self._misfits()
        self.factors = {name: factor(name) for r in found.values() for name in r}
        self.weights = {
            name: self._weights(term, name, r)
            for term, rows in found.items()
            for name, r in rows.items()
        }
        self.first = self._terms(found)

    @torch.no_grad()
    def _misfits(self) -> dict[str, dict[str, Tensor]]:
        """By term, and by the name of the loss."""
        return {term: self.physics.misfits(term, sets) for term, sets in self.batch.items()}

    def _weights(self, term: str, name: str, r: Tensor) -> Tensor:
        if term == EQUATION and self.physics.causal is not None:
            weights = self.physics.causal_weights(r.square(), self.batch[term][0][0])
        else:
            weights = torch.full_like(r, 1 / r.numel())
        return self.physics.by_point(name, r.square()) * weights

    def _terms(self, found: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return {
            name: r.mean().square()
            if self.physics.is_mean(name)
            else (self.weights[name] * r.square()).sum()
            for rows in found.values()
            for name, r in rows.items()
        }

    def _summed(self, terms: Mapping[str, Tensor]) -> float:
        weighted = [self.factors[name] * term.double() for name, term in terms.items()]
        return float(torch.stack(weighted).sum())

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
            is_mean, mean = self.physics.is_mean(term), torch.zeros_like(vector)
            for rows in slices(len(sets[0][0]), size):
                for weights, r, jacobian in self.linearised(term, rows):
                    if is_mean:
                        mean += jacobian.sum(0) / len(sets[0][0])
                        continue
                    scaled = jacobian * weights[:, None]
                    matrix.addmm_(scaled.T, jacobian)
                    vector.addmv_(scaled.T, r)
            if is_mean:
                value = self.misfits[term][term].mean().double()
                matrix.addr_(mean, mean, alpha=self.factors[term])
                vector.add_(mean, alpha=float(self.factors[term] * value))
        self._hold_constants(matrix)
        return matrix, vector

    def _hold_constants(self, matrix: Tensor) -> None:
        for constant in self.physics.pde_params.logarithms():
            place = self.places.get(id(constant))
            if place is not None:
                matrix[place, place] += _HELD * self.total

    def _rows_at_once(self) -> int:
        _, layers = per_sample(self.modules, 1)
        numbers = sum(leaf.numel() for layer in layers for leaf in layer.leaves)
        copies = _COPIES * (_ELSEWHERE if self.physics.calls_u else 1)
        block = self.memory * 2**20 / copies / self.trained[0].element_size()
        return max(1, int(block / (numbers + self.size)))

    @torch.enable_grad()
    def linearised(self, term: str, rows: slice) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Weights, residuals and their gradients (n, P), for each column of a term's losses."""
        network, layers = per_sample(self.modules, rows.stop - rows.start)
        physics = with_parts(self.physics, trial=with_parts(self.physics.trial, network=network))
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
        ones = torch.ones_like(column)
        found = iter(
            torch.autograd.grad(column, leaves, ones, retain_graph=keep, materialize_grads=True)
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


def check_least_squares(physics: Physics, batch: Batch) -> None:
    """Raise a ValueError where it cannot solve: it needs every point's own gradients."""
    if PRESENT.get() is not None:
        raise ValueError(
            "lm_iter solves on the points of one process, and several train together. Set "
            "lm_iter=0 and ssbroyden_iter or lbfgs_iter."
        )
    for name, sets in batch.items():
        if _couples(physics, name, sets):
            raise ValueError(
                "lm_iter needs misfits of each point by itself, but those of "
                f"{physics.title(name)} change with the other points, as with a mean over them. "
                "Set lm_iter=0 and lbfgs_iter."
            )
    if modules_in_order(physics.trial.network) is None:
        raise ValueError("lm_iter knows KAN and linear layers alone. Set lm_iter=0.")
    for name in batch if physics.calls_u else ():
        if not _keeps_rows(physics, name, batch[name]):
            raise ValueError(
                "lm_iter needs to know which point u is evaluated for: u(points) must have those "
                f"of the first point in its first rows, and so on, as u.integral does, and "
                f"derivatives must be u.d(...); in {physics.title(name)} it is not so. Set "
                "lm_iter=0 and ssbroyden_iter."
            )
    size = sum(p.numel() for p in physics.parameters() if p.requires_grad)
    if size > MOST_PARAMETERS:
        raise ValueError(
            f"lm_iter solves for all parameters at once, at most {MOST_PARAMETERS:,}; the network "
            f"has {size:,}. Lower hidden_layer_sizes, or set lm_iter=0 and lbfgs_iter."
        )


@torch.no_grad()
def _couples(physics: Physics, name: str, sets: Sequence[PointSet]) -> bool:
    """Whether misfits of the first half of a term's points depend on the second half."""
    half = slice(0, (len(sets[0][0]) + 1) // 2)
    whole, part = physics.misfits(name, sets), physics.misfits(name, sets, half)
    for key, found in whole.items():
        away, size = (found[half] - part[key]).abs().max(), found.abs().max()
        if away > torch.finfo(found.dtype).eps ** 0.5 * size:
            return True
    return False


def _keeps_rows(physics: Physics, name: str, sets: Sequence[PointSet]) -> bool:
    """Whether gradients of single points, where u is evaluated elsewhere too, are right in sum."""
    few = [(x[:3], None if normal is None else normal[:3]) for x, normal in sets]
    trained = [p for p in physics.parameters() if p.requires_grad]
    physics = with_parts(physics)
    physics.attention = None  # it would take these points for those of training
    problem = LeastSquares(physics, {name: few}, lambda _: 1.0, trained)
    total = torch.zeros(problem.size, dtype=torch.float64, device=trained[0].device)
    weighted, number = trained[0].new_zeros(()), 0
    whole = slice(0, len(few[0][0]))
    with torch.enable_grad():
        direct = [c for r in physics.misfits(name, few).values() for c in _columns(r)]
    try:
        for _, r, jacobian in problem.linearised(name, whole):
            v = torch.sin(torch.arange(1.0, len(r) + 1) + number).to(jacobian)  # any numbers
            total += v @ jacobian
            weighted = weighted + v.to(r) @ direct[number].to(r)
            number += 1
    except RuntimeError:  # rows that are not so many for each point; no second derivatives
        return False
    found = torch.autograd.grad(weighted, trained, allow_unused=True, materialize_grads=True)
    wanted = torch.cat([each.reshape(-1) for each in found]).double()
    tolerance = torch.finfo(trained[0].dtype).eps ** 0.5
    return bool((total - wanted).abs().max() <= tolerance * wanted.abs().max())
