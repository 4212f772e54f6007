"""Training that goes on from an earlier fit: ``warm_start``, and ``partial_fit`` after others."""

from typing import Any

import numpy as np

from sklearn_metakan.estimators.inputs.rows import Rows
from sklearn_metakan.nn import KANNetwork, refine
from sklearn_metakan.training import KANNet, Trainer, check_unchanged

# Settings of the network that may change as training goes on.
CHANGEABLE = {"dropout", "grid_size", "augment"}


def made_anew(estimator: Any, trainer: Trainer, rows: Rows, seed: int) -> KANNet:
    """A new net for the same function: present settings, fresh optimiser."""
    check_same_network(estimator, trainer, rows.X.dtype)
    before = estimator.net_.module_
    if estimator.grid_size not in ("auto", estimator._network["grid_size"]):
        try:
            before = refine(before, int(estimator.grid_size))
        except ValueError as error:
            raise ValueError(f"{error} Or call fit with warm_start=False.") from error
    changed = {k: v for k, v in trainer.network.items() if k in CHANGEABLE and v != "auto"}
    if np.shape(estimator._network["knots"])[-1] > 2:  # all knots, not only the ends
        first, *_ = before.kan_layers()
        changed["knots"] = first.basis.knots.double().cpu().numpy()
    estimator._network = estimator._network | {
        **changed,
        "dtype": trainer.execution.dtype,
        "working_memory": trainer.parameters.working_memory,
        "backend": trainer.options.get("backend", "auto"),
    }

    def make() -> KANNetwork:
        module = estimator._make_network(**estimator._network | {"init": None, "seed": seed})
        module.load_state_dict(before.state_dict())
        return module

    return trainer.net(
        make, estimator.target_.criterion(rows), trainer.execution, estimator.target_
    )


def check_same_network(estimator: Any, trainer: Trainer, dtype: np.dtype[Any]) -> None:
    """Raise a ValueError for another dtype, or another network, than those of the fit before."""
    known = estimator.input_scaler_.dtype
    if dtype != known:
        raise ValueError(
            f"X has dtype {dtype}, but the fit that goes on had {known}; convert it with "
            f"X.astype({str(known)!r})."
        )
    settings = estimator._fixed_settings(trainer)
    pairs = {name: (estimator._fixed[name], value) for name, value in settings.items()}
    options = trainer.options_then_and_now(estimator._options, estimator.net_.module_)
    check_unchanged(pairs | options)
