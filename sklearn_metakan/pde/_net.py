"""Training of physics: steps on points, losses by term, their weights, the bar."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sklearn_metakan.pde._collocation import Batch, Steps
from sklearn_metakan.training import KANNet, Progress

REPORT = 100  # steps between two readings of the losses
_KEEP = 0.9  # of balanced weights, from one reading to the next


class PDENet(KANNet):
    """A net over ``Physics`` and ``Steps``: an epoch is a run of steps between readings.

    Parameters beyond KANNet's
    --------------------------
    loss_weights : mapping of str to float, or "balanced"
        Factors of the terms, 1 for those not named. "balanced": every term's gradient gets
        the norm that all have together, renewed at every reading and smoothed.
    truth : callable, optional
        Of the module: its relative error, recorded at every reading.

    Source: Wang, Sankaran, Wang, Perdikaris, "An expert's guide to training PINNs" (2023),
    equation 2.13.
    """

    def __init__(
        self,
        *args: Any,
        loss_weights: Mapping[str, float] | str = "balanced",
        truth: Callable[[Any], float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.loss_weights, self.truth = loss_weights, truth
        self.weights_: dict[str, float] = {}

    def _captured(self, data: Any) -> None:
        if self.cuda_graph is True:
            raise ValueError("cuda_graph=True is not for PDE solvers. Set cuda_graph='auto'.")
        return None

    def goes_on_from(self, other: "PDENet") -> None:
        """Take over what was found out about the same physics before."""
        self.weights_ = other.weights_
        self.module_.requests, self.module_.target = other.module_.requests, other.module_.target

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        return dataset

    def run_single_epoch(  # type: ignore[override]
        self, iterator: Steps | None, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        if iterator is None:
            return
        total: dict[str, Tensor] = {}
        steps = len(iterator)
        for number, batch in enumerate(iterator):
            if number == 0 and self._is_due():
                self._balance(batch)
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **fit_params)
            for name, loss in (step["y_pred"] | {"": step["loss"]}).items():
                total[name] = total.get(name, 0.0) + loss.detach()
            self.notify("on_batch_end", batch=batch, training=training, **step)
        means = {name: float(value) / steps for name, value in total.items()}
        self.history.record("train_loss", means.pop(""))
        self.history.record("terms", means)
        self.history.record("steps", steps)
        if self.truth is not None:
            self.history.record("error", self.truth(self.module_))

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        self._set_training(True)
        points, seed = batch
        losses = self.module_(points, seed)
        loss = self._total(losses)
        loss.backward()
        return {"loss": loss, "y_pred": {name: each.detach() for name, each in losses.items()}}

    def loss_of_few(self, data: Any) -> Tensor:
        return self._total(self.module_(data.points, 0)).detach()

    def _total(self, losses: Mapping[str, Tensor]) -> Tensor:
        terms = [self._weight(name) * loss for name, loss in losses.items()]
        return torch.stack(terms).sum()

    def _weight(self, name: str) -> float:
        if isinstance(self.loss_weights, Mapping):
            return self.loss_weights.get(name, 1.0)
        return self.weights_.get(name, 1.0)

    def _is_due(self) -> bool:
        """L-BFGS minimises one function: its weights stay."""
        stays = isinstance(self.optimizer_, torch.optim.LBFGS) and self.weights_
        return self.loss_weights == "balanced" and not stays

    def _balance(self, batch: tuple[Batch, int]) -> None:
        self._set_training(True)
        losses = self.module_(*batch)
        if len(losses) < 2:
            return
        trained = [p for p in self.module_.parameters() if p.requires_grad]
        norms = {}
        for name, loss in losses.items():
            slopes = torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True)
            parts = [slope.double().square().sum() for slope in slopes if slope is not None]
            norms[name] = float(torch.stack(parts).sum().sqrt())
        together = sum(norms.values())
        for name, norm in norms.items():
            wanted = together / norm if norm > 1e-12 * together else self._weight(name)
            known = self.weights_.get(name, wanted)
            self.weights_[name] = _KEEP * known + (1 - _KEEP) * wanted


class PDEProgress(Progress):
    """The bar over steps: each term's loss, and the relative error where the solution is known."""

    def _total(self, net: Any) -> int:
        return net.planned_steps_

    def _advance(self, row: Mapping[str, Any]) -> int:
        return row["steps"]

    def _shown(self, row: Mapping[str, Any]) -> dict[str, str]:
        shown = {name: f"{loss:.2g}" for name, loss in row["terms"].items()}
        if "error" in row:
            shown["error"] = f"{row['error']:.2g}"
        return shown
