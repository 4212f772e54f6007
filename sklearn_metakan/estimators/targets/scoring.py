"""Scorers of scikit-learn on a network's outputs, for early stopping."""

from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.metrics import check_scoring
from sklearn.metrics._scorer import _BaseScorer
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if
from torch import Tensor


class Answers(BaseEstimator):
    """What a scorer takes for an estimator: its X are outputs of the network, (n, n_outputs)."""

    def __init__(self, target: Any) -> None:
        self.target = target

    def _has_classes(self) -> bool:
        return hasattr(self.target, "classes_")

    @property
    def classes_(self) -> NDArray[Any]:
        return self.target.classes_

    def predict(self, outputs: Tensor) -> NDArray[Any]:
        return self.target.predictions(outputs)

    @available_if(_has_classes)
    def predict_proba(self, outputs: Tensor) -> NDArray[Any]:
        return self.target(outputs).numpy()

    @available_if(_has_classes)
    def decision_function(self, outputs: Tensor) -> NDArray[Any]:
        found: NDArray[Any] = self.target.logits(outputs).numpy()
        return found[:, 0] if found.shape[1] == 1 else found

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.estimator_type = "classifier" if self._has_classes() else "regressor"
        return tags


class Scoring:
    """(target, outputs, weight) -> score in the user's units, higher is better.

    Raises ValueError for an unknown name; when called, for a score that does not suit the target,
    or is no finite number.

    Parameters
    ----------
    scoring : str or callable
        As scikit-learn has it: a name, or ``scorer(estimator, X, y)``, whose X is not to be
        looked at.
    target : NumberTarget or LabelTarget
    """

    def __init__(self, scoring: Any, target: Any) -> None:
        self.answers = Answers(target)
        self.scoring, self.scorer = scoring, check_scoring(self.answers, scoring)

    def __call__(self, target: Tensor, outputs: Tensor, weight: Tensor | None) -> float:
        target, outputs, given = target.cpu(), outputs.cpu(), {}
        if weight is not None:  # rows that a member did not hold out have none
            weight = weight.cpu()
            held_out = weight > 0
            target, outputs, weight = target[held_out], outputs[held_out], weight[held_out]
            if isinstance(self.scorer, _BaseScorer) and bool((weight != weight[0]).any()):
                given = {"sample_weight": weight.numpy()}
        y = self.answers.target.decode(target.numpy())
        try:
            score = float(np.asarray(self.scorer(self.answers, outputs, y, **given)))
        except (AttributeError, TypeError, ValueError) as error:
            if not isinstance(self.scorer, _BaseScorer):  # a user's own function
                raise
            raise ValueError(
                f"scoring={self.scoring!r} does not suit this target: {error}. Choose another "
                "score, or scoring=None."
            ) from error
        if not isfinite(score):
            raise ValueError(
                f"scoring={self.scoring!r} gives {score} for {len(y)} held-out rows; it needs more "
                "of them, or of each class. Raise validation_fraction, or use scoring=None."
            )
        return score
