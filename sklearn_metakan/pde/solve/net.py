"""Training of physics: steps on points, losses by term, their weights, the bar."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sklearn_metakan.pde.physics.physics import Batch
from sklearn_metakan.pde.solve.collocation import Steps
from sklearn_metakan.pde.solve.least_squares import LeastSquares, LevenbergMarquardt
from sklearn_metakan.pde.solve.weights import RENEWED, measured
from sklearn_metakan.training import (
    LINE_SEARCHED,
    CapturedStep,
    KANNet,
    Progress,
    SelfScaled,
    StopTraining,
    is_captured,
)

SETTLES = (LevenbergMarquardt, SelfScaled)  # methods that minimise at the points that there are
REPORT = 100  # steps between two readings of the losses
_KEEP = 0.9  # of weights that are renewed, from one reading to the next


class CapturedPhysics(CapturedStep):
    """Steps on as many points as the first had; random directions have a generator of their own.

    Parameters
    ----------
    net : PDENet
    eager : callable
        A step without a graph, on points and a seed.
    """

    def __init__(self, net: Any, eager: Callable[[Any], dict[str, Any]]) -> None:
        super().__init__(net, None, eager)
        self.drawing = torch.Generator(self.device).manual_seed(net.shuffle_seed)
        self.loaded: Batch | None = None

    def fits(self, batch: Any) -> bool:
        points: Batch = batch[0]
        if self.batch is None:
            copies = {
                name: [tuple(None if t is None else t.clone() for t in pair) for pair in sets]
                for name, sets in points.items()
            }
            self.batch = copies, self.drawing
        return [t.shape for t in _tensors(points)] == [t.shape for t in _tensors(self.batch[0])]

    def load(self, batch: Any) -> None:
        points: Batch = batch[0]
        if points is not self.loaded:
            self.loaded = points
            for room, tensor in zip(_tensors(self.batch[0]), _tensors(points), strict=True):
                room.copy_(tensor)

    def generators(self) -> list[torch.Generator]:
        return [*super().generators(), self.drawing]


class PDENet(KANNet):
    """A net over ``Physics`` and ``Steps``: an epoch is a run of steps between readings.

    Parameters beyond KANNet's
    --------------------------
    loss_weights : mapping of str to float, "balanced", "gradient" or "ntk"
        Factors of the terms, 1 for those not named. By name they follow the terms' gradients (see
        ``measured``), renewed at every reading and smoothed.
    truth : callable, optional
        Of the module: its relative error, recorded at every reading.
    working_memory : float, optional
        MiB that the gradients of single points may take; see ``LeastSquares``.
    """

    keeps = ("loss", "y_pred")

    def __init__(
        self,
        *args: Any,
        loss_weights: Mapping[str, float] | str = "balanced",
        truth: Callable[[Any], float] | None = None,
        working_memory: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.loss_weights, self.truth = loss_weights, truth
        self.working_memory = working_memory
        self._lowered: float | None = None  # working_memory, once a card was full
        self.weights_: dict[str, float] = {}
        self._names: list[str] = []  # of the terms
        self._factors: Tensor | None = None  # their weights, where a captured step reads them
        self._stuck: Batch | None = None  # points where nothing lower can be found
        self._points: Batch | None = None  # of the last step

    def fit_on(self, data: Any, validation: Any = None) -> "PDENet":
        try:
            super().fit_on(data, validation)
        finally:
            self._factors = self._stuck = self._points = None
            if self.module_.attention is not None:
                self.module_.attention.forget()
        return self

    def extra_state(self) -> dict[str, Any]:
        attention = self.module_.attention
        known = {} if attention is None else {"attention": attention.extra_state()}
        return {"weights": self.weights_, "lowered": self._lowered, "stuck": self._stuck, **known}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.weights_, self._lowered = state["weights"], state["lowered"]
        self._stuck = state["stuck"]
        if self.module_.attention is not None:
            self.module_.attention.set_extra_state(state["attention"], torch.device(self.device))

    def _captured(self, data: Any) -> CapturedPhysics | None:
        if self._of_squares or not is_captured(self, len(data)):
            return None
        return CapturedPhysics(self, self.eager_step)

    def run_single_epoch(
        self, iterator: Steps, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        total, steps = torch.zeros((), device=self.device), 0
        self.history.record("share", iterator.share)
        try:
            for batch in iterator:
                if self._stuck is not None and _same_points(self._stuck, batch[0]):
                    break  # another step would find nothing lower again
                if isinstance(self.optimizer_, SelfScaled) and batch[0] is not self._points:
                    self.optimizer_.forget()
                self._points = batch[0]
                if iterator.fresh and self.module_.attention is not None:
                    self.module_.attention.start()
                if steps == 0 and self._is_due():
                    self._balance(batch)
                self.notify("on_batch_begin", batch=batch, training=training)
                step = step_fn(batch, **fit_params)
                total, steps = total + step["y_pred"], steps + 1
                iterator.worn |= self._stuck is not None
                if iterator.share < 1 and isinstance(self.optimizer_, SETTLES):
                    iterator.told(float(step["loss"]))
                self.notify("on_batch_end", batch=batch, training=training, **step)
        except KeyboardInterrupt:
            if steps:
                self._record_run(total, steps)
            raise
        if not steps:
            self._drop_unfinished_epoch()
            raise StopTraining
        self._record_run(total, steps)

    def _record_run(self, total: Tensor, steps: int) -> None:
        loss, *terms = (total / steps).tolist()
        self.history.record("train_loss", loss)
        self.history.record("terms", dict(zip(self._names, terms, strict=True)))
        self.history.record("steps", steps)
        if self.truth is not None:
            self.history.record("error", self.truth(self.module_))

    def _done(self) -> str:
        return f"{sum(row['steps'] for row in self.history)} steps"

    @property
    def _of_squares(self) -> bool:
        """Whether its steps solve for all parameters at once."""
        return isinstance(self.optimizer_, LevenbergMarquardt)

    def train_step(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        if not self._of_squares:
            found = super().train_step(batch, **fit_params)
            self._stuck = batch[0] if getattr(self.optimizer_, "stuck", False) else None
            return found
        self._set_training(True)
        physics, optimizer = self.module_, self.optimizer_
        memory = self.working_memory if self._lowered is None else self._lowered
        problem = LeastSquares(physics, batch[0], self.factor, optimizer.trained, memory)
        asked = problem.memory
        loss, terms = self._total(problem.first)
        self._stuck = None if optimizer.step(problem) else batch[0]
        if physics.attention is not None:
            physics.attention.follow()
        if problem.memory < asked:
            self._lower(problem.memory)
        return {"loss": loss, "y_pred": torch.cat([loss[None], terms])}

    def _lower(self, memory: float) -> None:
        """From now on steps of least squares start with so much; said once."""
        if self._lowered is None:
            warnings.warn(
                "The card's memory was full: gradients of fewer points are made at a time. The "
                f"result is the same, but takes longer. Set working_memory={memory:.3g} to start "
                "there.",
                RuntimeWarning,
                stacklevel=2,
            )
        self._lowered = memory

    def evaluate(self, batch: Any, step: Any = None) -> dict[str, Any]:
        return self.gradients(batch) if step is None else step(batch, 1.0)

    def own(self, batch: Any) -> tuple[Any, float]:
        """All of it: the points of each process are its own."""
        return batch, 1.0 if self.ranks_ is None else 1 / self.ranks_.size

    def gradients(self, batch: Any, share: float = 1.0) -> dict[str, Any]:
        """Of points and what draws random directions; "y_pred" is the loss, then its terms."""
        self._set_training(True)
        losses = self.module_(*batch)
        loss, terms = self._total(losses)
        if share != 1.0:
            loss, terms = loss * share, terms * share
        loss.backward()
        # A line search compares values of one function: its weights stay.
        attention = None if isinstance(self.optimizer_, LINE_SEARCHED) else self.module_.attention
        if attention is not None:
            attention.follow()
        return {"loss": loss, "y_pred": torch.cat([loss.detach()[None], terms.detach()])}

    def loss_of_few(self, data: Any) -> Tensor:
        return self._total(self.module_(data.points, 0))[0].detach()

    def _total(self, losses: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The weighted sum, and the terms."""
        terms = torch.stack([*losses.values()])
        if self._factors is None:
            self._names = [*losses]
            self._factors = self._present_factors().to(terms)
        return (self._factors * terms).sum(), terms

    def _present_factors(self) -> Tensor:
        return torch.tensor([self.factor(name) for name in self._names])

    def factor(self, name: str) -> float:
        """Of a term, at present."""
        if isinstance(self.loss_weights, Mapping):
            return self.loss_weights.get(name, 1.0)
        return self.weights_.get(name, 1.0)

    def _is_due(self) -> bool:
        """Line searches and Levenberg-Marquardt minimise one function: its weights stay."""
        one = self._of_squares or isinstance(self.optimizer_, LINE_SEARCHED)
        stays = one and self.weights_
        return self.loss_weights in RENEWED and not stays

    def _balance(self, batch: tuple[Batch, int]) -> None:
        self._set_training(True)
        assert isinstance(self.loss_weights, str)
        sizes = measured(self.loss_weights, self.module_, batch)
        if self.ranks_ is not None:
            sizes = dict(zip(sizes, self.ranks_.mean([*sizes.values()]), strict=True))
        together = sizes.pop("")
        if len(sizes) < 2:
            return
        for name, size in sizes.items():
            wanted = together / size if size > 1e-12 * together else self.factor(name)
            known = self.weights_.get(name, wanted)
            self.weights_[name] = _KEEP * known + (1 - _KEEP) * wanted
        if self._factors is not None:
            self._factors.copy_(self._present_factors())


class PDEProgress(Progress):
    """The bar over steps: each term's error, and the relative one where the solution is known."""

    def _total(self, net: Any) -> int:
        return net.planned_steps_

    def advance(self, row: Mapping[str, Any]) -> int:
        return row["steps"]

    def _shown(self, row: Mapping[str, Any]) -> dict[str, str]:
        shown = {name: f"{root(loss):.2g}" for name, loss in row["terms"].items()}
        if "error" in row:
            shown["error"] = f"{row['error']:.2g}"
        return shown


def root(loss: Any) -> Any:
    """The error that a loss, or each of an array, is the square of; one of estimates may be < 0."""
    return np.sqrt(np.maximum(loss, 0))


def _tensors(points: Batch) -> Iterator[Tensor]:
    for sets in points.values():
        for pair in sets:
            yield from (t for t in pair if t is not None)


def _same_points(one: Batch, other: Batch) -> bool:
    pairs = zip(_tensors(one), _tensors(other), strict=True)
    return one is other or all(torch.equal(a, b) for a, b in pairs)
