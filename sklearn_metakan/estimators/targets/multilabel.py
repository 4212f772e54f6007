"""Several labels at once, each there or not: their probabilities from a network's logits."""

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sklearn_metakan.estimators.inputs.checks import as_array, class_factors
from sklearn_metakan.estimators.inputs.frames import shown
from sklearn_metakan.estimators.inputs.rows import Rows
from sklearn_metakan.estimators.targets.labels import (
    LabelTarget,
    at_most_one,
    balanced_factors,
    best_sharpness,
    times_factors,
    weighted_accuracy,
)

_NO_OR_YES = np.array([0, 1])


def target_of_labels(y: Any) -> Any:
    """What makes a target for y: one label a row, or several, for its columns."""
    shape = y.shape if hasattr(y, "shape") else np.asarray(as_array(y, "y")).shape
    if len(shape) != 2 or shape[1] < 2:
        return LabelTarget
    names = [*getattr(y, "columns", range(shape[1]))]
    return partial(MultilabelTarget, names if len(names) == shape[1] else [*range(shape[1])])


class MultilabelTarget(LabelTarget):
    """Probabilities of k labels, of which a row has any number: one logit each, apart.

    The loss of a row is the mean of its k binary cross-entropies. With held-out rows, all logits
    of a member are multiplied by one factor, see ``LabelTarget``.

    Parameters
    ----------
    names : sequence
        Of the labels: those of y's columns, or numbers from 0 on.

    Attributes
    ----------
    classes_ : list of k ndarrays
        [0, 1] each, as scikit-learn's trees have it: its scorers know several labels by that.

    Shape
    -----
    Logits (n, k) -> (n, k), each between 0 and 1. Of several members (n, n_members, k), the mean of
    their probabilities.
    """

    noun: ClassVar[str] = "label"
    validation: ClassVar[dict[str, Any]] = {"multi_output": True}

    def __init__(self, names: Sequence[Any], widths: Any = None) -> None:
        super().__init__(widths)
        self.own_names = [each.item() if isinstance(each, np.generic) else each for each in names]
        self.n_network_outputs = len(self.own_names)
        self.classes_: Any = [_NO_OR_YES.copy() for _ in names]

    def follow(self, estimator: Any) -> "MultilabelTarget":
        """The same for training that goes on, not yet calibrated."""
        target = MultilabelTarget(self.own_names)
        target.of_sums = self.of_sums
        return target

    @property
    def names(self) -> list[Any]:
        return self.own_names

    def encode(self, y: NDArray[Any], classes: Any = None) -> NDArray[Any]:
        """y of shape (n, k) as 0 and 1; ``classes`` are labels that partial_fit was told.

        Raises ValueError for another number of columns than before, other entries than 0 and 1, and
        other labels.
        """
        k = self.n_network_outputs
        if y.ndim != 2 or y.shape[1] != k:
            raise ValueError(
                f"y has the shape {y.shape}, but must be (n_samples, {k}): a column of 0 and 1 for "
                "each label, as in the first call."
            )
        odd = ~np.asarray((y == 0) | (y == 1), dtype=bool)
        if odd.any():
            row, column = np.argwhere(odd)[0].tolist()
            entry = y.astype(object)[row, column]
            raise ValueError(
                f"y of shape {y.shape} must hold 0 and 1 alone, whether a row has each of {k} "
                f"labels, got {shown(entry)} in row {row}. Where a row has one of several "
                "classes, y is one column; for several such columns, use "
                "sklearn.multioutput.MultiOutputClassifier."
            )
        if classes is not None and [*classes] not in ([*self.own_names], [*range(k)]):
            raise ValueError(
                f"classes={[*classes]} are not the {k} labels of y, {self.own_names}; leave it out."
            )
        return y.astype(np.uint8)  # not int, which is stratified by

    def tensor(self, rows: Rows, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Targets of the loss, 0. and 1. as (n, k)."""
        return torch.from_numpy(rows.y).to(device, dtype)

    def criterion(self, rows: Rows | None = None) -> nn.Module:
        """The loss by row and label."""
        return nn.BCEWithLogitsLoss(reduction="none")

    def weights(
        self, y: NDArray[Any], weight: NDArray[Any] | None, class_weight: Any
    ) -> NDArray[Any]:
        """Weights of the rows, times those of their classes in each label.

        Raises ValueError for a class_weight that is neither "balanced" nor a dict for each label.
        """
        if isinstance(class_weight, str):
            weight = at_most_one(weight)
            of_labels = [balanced_factors(column, weight) for column in y.T]
        elif isinstance(class_weight, list) and [*map(type, class_weight)] == y.shape[1] * [dict]:
            of_labels = [class_factors(each, _NO_OR_YES) for each in class_weight]
        else:
            raise ValueError(
                f"For y of {y.shape[1]} labels, class_weight must be 'balanced', None or a list of "
                f"as many dicts, such as {{0: 1.0, 1: 5.0}}, one for each column of y; got "
                f"{shown(class_weight)}."
            )
        factors = [of[column] for of, column in zip(of_labels, y.T, strict=True)]
        return times_factors(weight, np.prod(factors, axis=0))

    def refine(
        self, target: Tensor, outputs: Tensor, weight: Tensor | None, start: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The best factors on the logits of held-out rows, and the losses with them, by member.

        As of two classes, with rows for every row and label.
        """
        by_label = super().by_member(outputs).mT.flatten(0, 1)[..., None].double()
        logits = torch.cat([torch.zeros_like(by_label), by_label], dim=-1)
        weight = None if weight is None else weight.repeat_interleave(target.shape[1], 0)
        return best_sharpness(logits, target.flatten().long(), weight, start)

    def score(self, target: Tensor, outputs: Tensor, weight: Tensor | None) -> float:
        """Share of the rows whose labels are all right."""
        right = ((outputs > 0) == (target > 0)).all(1)
        return weighted_accuracy(right, torch.ones_like(right), weight)

    def forward(self, outputs: Tensor) -> Tensor:
        by_member = self.by_member(outputs)
        return self._mean(by_member.mean(1, keepdim=True) if self.of_sums else by_member)

    def logits(self, outputs: Tensor) -> Tensor:
        """Logits (n, k): of several members those of their mean probabilities.

        Of sums of functions of the columns, the mean logits.
        """
        by_member = self.by_member(outputs)
        if outputs.dim() == 2 or self.of_sums:
            return by_member.mean(1)
        return self._mean(by_member).log() - self._mean(-by_member).log()

    def _mean(self, by_member: Tensor) -> Tensor:
        """Mean probabilities of logits of members; their logarithms are finite."""
        return by_member.sigmoid().clamp(min=torch.finfo(by_member.dtype).tiny).mean(1)

    def predictions(self, outputs: Tensor) -> NDArray[np.int64]:
        """Which labels are more probable than not, what ``predict`` gives."""
        return (self.logits(outputs) > 0).long().numpy()

    def decode(self, target: NDArray[Any]) -> NDArray[np.int64]:
        """From targets of the loss back to 0 and 1, (n, k)."""
        return target.astype(np.int64)
