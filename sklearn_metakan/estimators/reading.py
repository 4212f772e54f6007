"""What is read of a fitted estimator to look inside."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sklearn_metakan.estimators.inputs.scaling import N_QUANTILES

N_TYPICAL = 512


def typical_inputs(estimator: Any) -> tuple[Tensor, Tensor]:
    """Two independent samples of a fitted network's inputs, (512, n_kept).

    Drawn column by column from the training data's quantiles, always the same.
    """
    rng, samples = np.random.default_rng(0), []
    table, execution = estimator.input_scaler_.quantiles_, estimator.net_.execution_
    for _ in range(2):
        rows = rng.integers(N_QUANTILES, size=(N_TYPICAL, table.shape[1]))
        drawn = torch.from_numpy(np.take_along_axis(table, rows, axis=0))
        samples.append(drawn.to(execution.device, execution.dtype))
    return samples[0], samples[1]


def network_inputs(estimator: Any, X: Any) -> Tensor:
    """Rows as the network of a fitted estimator takes them, (n_samples, n_kept)."""
    execution = estimator.net_.execution_
    rows = torch.from_numpy(estimator.input_scaler_.transform(estimator._validated(X)))
    return rows.to(execution.device, execution.dtype)


def responses(estimator: Any, X: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """What a fitted estimator says of rows, and what each of its members says by itself.

    Parameters
    ----------
    estimator : fitted estimator of tables
    X : array-like of shape (n_samples, n_features)

    Returns
    -------
    whole : ndarray of shape (n_samples, n_outputs)
        What ``predict`` gives (regressors) or ``decision_function`` (classifiers). Of several
        quantiles, those of an output side by side.
    members : ndarray of shape (n_samples, n_members, n_outputs)
        The same of each member.
    """
    check_is_fitted(estimator)
    fitted, _, outputs = estimator._outputs(X)
    target = fitted.target_
    whole = (target if target.is_numeric else target.logits)(outputs).numpy()
    members = target.by_member(outputs).numpy()
    return whole.reshape(len(whole), -1), members.reshape(*members.shape[:2], -1)


class Summary(str):
    """A text that a console or notebook shows as it is."""

    def __repr__(self) -> str:
        return str(self)


def summary(estimator: Any) -> Summary:
    """Layers of a fitted estimator's network and their trainable numbers, as a table."""
    module = estimator.module_
    members, shared = module.n_members, {}
    head = ("layer", "inputs", "outputs", "edges", "functions", "numbers")
    rows: list[tuple[str, ...]] = [head]
    n_edges = n_dense = n_units = as_kan = of_edges = 0
    for number, layer in enumerate(module.kan_layers()):
        source, own = layer.source, 0
        for name, parameter in layer.named_parameters():
            if ".meta_learner." in name:
                shared[id(parameter)] = parameter.numel()
            else:
                own += parameter.numel()
        levels = getattr(layer, "levels", None)
        of_levels = 0 if levels is None else len(levels.sizes)
        dense = (source.in_features + of_levels) * source.out_features
        edges = getattr(source, "n_edges", dense)  # of a pruned layer those that there are
        outputs = getattr(layer, "out_features", source.out_features)
        sizes = layer.fan_in, outputs // members, edges, layer.basis.n_functions, own
        rows.append((str(number), *(f"{size:,}" for size in sizes)))
        n_edges, n_units = n_edges + edges, n_units + outputs
        n_dense, as_kan = n_dense + dense, as_kan + dense * layer.basis.n_functions
        of_edges += own
    total, of_learners = estimator.n_parameters_, sum(shared.values())
    others = total - of_edges - of_learners
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.rjust, row, widths)) for row in rows]
    pairs = getattr(estimator, "interactions_", [])
    of_pairs = f" and {len(pairs):,} pair{'s'[: len(pairs) > 1]} of columns" if pairs else ""
    each = f"{members} networks of these layers, " if members > 1 else ""
    learners = f"{of_learners:,} of them the meta-learners', " if of_learners else ""
    lines += [
        f"{type(estimator).__name__}: {each}{total:,} trainable numbers, {learners}on {n_edges:,} "
        f"edges{of_pairs}.",
        f"Of the same widths: a KAN {as_kan + others:,}, an MLP {n_dense + n_units + others:,}.",
    ]
    return Summary("\n".join(lines))
