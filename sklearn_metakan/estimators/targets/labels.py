"""Labels to predict: classes, their weights, and probabilities made of a network's logits."""

from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d
from torch import Tensor, nn

from sklearn_metakan.estimators.inputs.checks import check_classes, class_factors
from sklearn_metakan.estimators.inputs.rows import Rows
from sklearn_metakan.estimators.inputs.scaling import FittedModule

_STEPS = 20  # of Newton's method
_SHARPEST = 16.0
_SPREAD = 0.5  # of the factors, as far as is known before


def weighted_accuracy(target: Tensor, label: Tensor, weight: Tensor | None) -> float:
    """Share of the weight whose label is right."""
    hit = (target == label).double()
    return float(hit.mean() if weight is None else (hit * weight).sum() / weight.sum())


def best_sharpness(
    logits: Tensor, labels: Tensor, weight: Tensor | None, start: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Factors on logits that suit held-out rows best, and the loss with them: refinement.

    Minimises ``sum_i w_i CE(s z_i, y_i) + (s - 1)^2 / (2 0.5^2)`` over s in [1/16, 16], which is
    convex, by Newton steps. 1 / s is the temperature; the second term keeps it near one where
    rows are few.

    Parameters
    ----------
    logits : Tensor of shape (n, n_members, n_classes)
    labels : Tensor of int, shape (n,)
    weight : Tensor of shape (n,) or (n, n_members), optional
    start : Tensor of shape (n_members,), optional
        Where to begin; four steps suffice from a good start.

    Returns
    -------
    sharpness, loss : Tensor of shape (n_members,)

    Source: Guo et al., "On Calibration of Modern Neural Networks" (2017); Berta et al.,
    "Rethinking Early Stopping: Refine, Then Calibrate" (2025).
    """
    n, members = logits.shape[:2]
    weight = logits.new_ones(n, 1) if weight is None else weight.view(n, -1)
    found = logits.new_ones(members) if start is None else start
    of_label = logits.gather(2, labels[:, None, None].expand(-1, members, 1))[:, :, 0]
    for _ in range(_STEPS if start is None else 4):
        p = (logits * found[:, None]).softmax(-1)
        mean = (p * logits).sum(-1)
        variance = (p * logits.square()).sum(-1) - mean.square()
        slope = (weight * (mean - of_label)).sum(0) + (found - 1) / _SPREAD**2
        curvature = (weight * variance).sum(0) + 1 / _SPREAD**2
        step = (slope / curvature).clamp(-1, 1)
        found = (found - step).clamp(1 / _SHARPEST, _SHARPEST)
    scaled = logits * found[:, None]
    losses = scaled.logsumexp(-1) - of_label * found
    return found, (weight * losses).mean(0)


def at_most_one(weight: NDArray[Any] | None) -> NDArray[Any] | None:
    """Weights up to a power of two, so that their sum does not overflow."""
    if weight is None or not len(weight):
        return weight
    return np.asarray(np.ldexp(weight, -int(np.frexp(weight.max())[1])))


def balanced_factors(y: NDArray[Any], weight: NDArray[Any] | None) -> NDArray[np.float64]:
    """Factors of the classes 0, 1, ... with which all weigh the same; 0 of an absent one."""
    totals = np.bincount(y, weight)
    return np.divide(1.0, totals, out=np.zeros(len(totals)), where=totals > 0)


def times_factors(weight: NDArray[Any] | None, factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of rows times those of their classes.

    Raises ValueError for products that float64 cannot hold.
    """
    if weight is None:
        return factors
    with np.errstate(over="ignore", under="ignore"):
        product = factors * weight
    if not np.isfinite(product).all() or ((product == 0) & (weight > 0) & (factors > 0)).any():
        raise ValueError(
            "sample_weight times class_weight is too large or too small for float64; divide "
            "them by their means."
        )
    return product


class LabelTarget(FittedModule):
    """Probabilities of classes from logits: one logit for two classes, else one each.

    With held-out rows, the logits of each member are multiplied by the factor that suits those rows
    best (temperature scaling).

    Parameters
    ----------
    widths : sequence of int, or int, optional
        Of hidden layers: without any, members' logits are averaged in place of their
        probabilities, so that those of additive models are sums of functions of the columns.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    sharpness : Tensor of shape (n_members,), a buffer
        The factors, where there are some.

    Shape
    -----
    Logits (n, 1) -> (n, 2) for two classes, whose first logit is 0; else (n, k) -> (n, k). Of
    several members (n, n_members, ...), the mean of their probabilities, or of their logits.
    Probabilities are at least the smallest normal number, so that their logarithms are finite.
    """

    is_numeric: ClassVar[bool] = False
    noun: ClassVar[str] = "class"
    arguments: ClassVar[tuple[str, ...]] = ("hidden_layer_sizes",)
    validation: ClassVar[dict[str, Any]] = {}
    wide = False
    of_sums = False

    def __init__(self, widths: Any = None) -> None:
        super().__init__()
        self.of_sums = widths is not None and np.size(widths) == 0
        self.classes_: NDArray[Any] = np.empty(0)
        self.n_network_outputs = 0

    def follow(self, estimator: Any) -> "LabelTarget":
        """The same for training that goes on, not yet calibrated."""
        target = LabelTarget()
        target.of_sums = self.of_sums
        target.classes_, target.n_network_outputs = self.classes_, self.n_network_outputs
        return target

    @property
    def names(self) -> list[Any]:
        """Of what has a probability each."""
        return [*self.classes_.tolist()]

    @property
    def fitted(self) -> dict[str, Any]:
        """What the estimator shows of it."""
        return {"classes_": self.classes_}

    def encode(self, y: NDArray[Any], classes: Any = None) -> NDArray[np.intp]:
        """Positions of labels in ``classes_``; ``classes`` are those that partial_fit was told.

        Raises ValueError for labels that are none, fewer than two classes, and others than before.
        """
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if classes is not None:
            check_classes(classes)
        declared = np.unique(y if classes is None else classes)
        if not len(self.classes_):
            if len(declared) < 2:
                raise ValueError(
                    f"A classifier needs at least 2 classes in y, got only one class: "
                    f"{declared.tolist()[0]!r}. Where others come in later calls of partial_fit, "
                    "name all of them in classes=."
                )
            self.classes_ = declared
            self.n_network_outputs = 1 if len(declared) == 2 else len(declared)
        elif classes is not None and not np.array_equal(declared, self.classes_):
            raise ValueError(
                f"classes={declared.tolist()} differs from those of the first call, "
                f"{self.classes_.tolist()}."
            )
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(
                f"y holds the class {unknown.tolist()[0]!r}, which is not among "
                f"{self.classes_.tolist()}, the classes of the first call. Name all of them in "
                "the first partial_fit(..., classes=...), or call fit with warm_start=False."
            )
        return np.searchsorted(self.classes_, y)

    def fit(self, rows: Rows) -> Self:
        return self

    def tensor(self, rows: Rows, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Targets of the loss: 0. and 1. as (n, 1) for two classes, else positions (n,)."""
        labels = torch.from_numpy(rows.y).to(device)
        return labels[:, None].to(dtype) if self.n_network_outputs == 1 else labels

    def criterion(self, rows: Rows | None = None) -> nn.Module:
        """The loss by row."""
        if self.n_network_outputs == 1:
            return nn.BCEWithLogitsLoss(reduction="none")
        return nn.CrossEntropyLoss(reduction="none")

    def weights(
        self, y: NDArray[Any], weight: NDArray[Any] | None, class_weight: Any
    ) -> NDArray[Any]:
        """Weights of the rows, times those of their classes.

        Raises ValueError for weights of classes that are no finite numbers of at least 0.
        """
        if isinstance(class_weight, list):
            raise ValueError(
                "class_weight must be a dict, 'balanced' or None; a list of dicts is for several "
                "labels, y of shape (n_samples, n_labels)."
            )
        if isinstance(class_weight, dict):
            factors = class_factors(class_weight, self.classes_)
        else:
            weight = at_most_one(weight)
            factors = balanced_factors(y, weight)
        return times_factors(weight, factors[y])

    def refine(
        self, target: Tensor, outputs: Tensor, weight: Tensor | None, start: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The best factors on the logits of held-out rows, and the losses with them, by member."""
        labels = target[:, 0].long() if self.n_network_outputs == 1 else target
        return best_sharpness(self._by_class(outputs).double(), labels, weight, start)

    def calibrate(self, target: Tensor, outputs: Tensor, weight: Tensor | None) -> None:
        """Have the logits multiplied from now on by what suits these held-out rows."""
        self.set_buffers(sharpness=self.refine(target, outputs, weight)[0].float().numpy())

    def _by_class(self, outputs: Tensor) -> Tensor:
        """Logits of every class, (n, n_members, n_classes)."""
        outputs = outputs if outputs.dim() == 3 else outputs[:, None]
        if outputs.shape[-1] == 1:
            outputs = torch.cat([torch.zeros_like(outputs), outputs], dim=-1)
        return outputs

    def score(self, target: Tensor, outputs: Tensor, weight: Tensor | None) -> float:
        """Accuracy of the network's logits."""
        if self.n_network_outputs == 1:
            return weighted_accuracy(target[:, 0], (outputs[:, 0] > 0).to(target), weight)
        return weighted_accuracy(target, outputs.argmax(1), weight)

    def forward(self, outputs: Tensor) -> Tensor:
        logits = self._by_class(self._sharpened(outputs))
        logits = logits.mean(1, keepdim=True) if self.of_sums else logits
        return logits.softmax(-1).clamp(min=torch.finfo(outputs.dtype).tiny).mean(1)

    def _sharpened(self, outputs: Tensor) -> Tensor:
        sharpness = self._buffers.get("sharpness")
        if sharpness is None:
            return outputs
        return outputs * sharpness.to(outputs.dtype).view(*[-1, 1][-(outputs.dim() - 1) :])

    def logits(self, outputs: Tensor) -> Tensor:
        """Logits (n, 1) or (n, k): of several members those of their mean probabilities.

        Of sums of functions of the columns, the mean logits.
        """
        if outputs.dim() == 2 or self.of_sums:
            sharpened = self._sharpened(outputs)
            return sharpened if outputs.dim() == 2 else sharpened.mean(1)
        logarithms = self(outputs).log()
        return logarithms.diff(dim=1) if self.n_network_outputs == 1 else logarithms

    def by_member(self, outputs: Tensor) -> Tensor:
        """Logits of each member, (n, n_members, 1) or (n, n_members, k)."""
        sharpened = self._sharpened(outputs)
        return sharpened if outputs.dim() == 3 else sharpened[:, None]

    def predictions(self, outputs: Tensor) -> NDArray[Any]:
        """The most probable class of each row, what ``predict`` gives."""
        logits = self.logits(outputs)
        if logits.shape[1] == 1:
            return self.classes_[(logits[:, 0] > 0).long().numpy()]
        return self.classes_[logits.argmax(1).numpy()]

    def decode(self, target: NDArray[Any]) -> NDArray[Any]:
        """From targets of the loss back to labels."""
        return self.classes_[target.astype(np.intp).ravel()]
