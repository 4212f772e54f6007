"""The target's side of classification, whatever the inputs are."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d
from torch import Tensor, nn

from sklearn_metakan.estimators._estimator import DataEstimator
from sklearn_metakan.estimators._rows import Rows, count_held_out
from sklearn_metakan.estimators._to_torch import Probabilities
from sklearn_metakan.estimators.inputs.checks import check_classes, class_factors, is_stochastic
from sklearn_metakan.training import weighted_accuracy


class Classification(ClassifierMixin, DataEstimator):
    """One logit for two classes, else one each."""

    adamw_weight_decay = 0.1
    classes_: NDArray[Any]

    def decision_function(self, X: ArrayLike) -> NDArray[Any]:
        """Logits.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) for two classes: log odds of ``classes_[1]``; else
        (n_samples, n_classes)
        """
        outputs = self._outputs(X)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Probabilities of the classes, shape (n_samples, n_classes), order of ``classes_``.

        At least the smallest normal number, so that their logarithms are finite.
        """
        logits = self._outputs(X)
        if logits.shape[1] == 1:
            logits = np.hstack([np.zeros_like(logits), logits])
        return np.maximum(softmax(logits, axis=1), np.finfo(logits.dtype).tiny)

    def predict_log_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Logarithms of the probabilities."""
        return np.log(self.predict_proba(X))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable class of each row, shape (n_samples,)."""
        logits = self.decision_function(X)
        index = (logits > 0).astype(int) if logits.ndim == 1 else logits.argmax(axis=1)
        return self.classes_[index]

    @property
    def _n_network_outputs(self) -> int:
        return 1 if len(self.classes_) == 2 else len(self.classes_)

    def _encode_target(self, y: NDArray[Any], reset: bool, classes: Any = None) -> NDArray[Any]:
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if classes is not None:
            check_classes(classes)
        declared = np.unique(y if classes is None else classes)
        if not reset and classes is not None and not np.array_equal(declared, self.classes_):
            raise ValueError(
                f"classes={declared.tolist()} differs from those of the first call, "
                f"{self.classes_.tolist()}."
            )
        if reset:
            self.classes_ = declared
            if len(self.classes_) < 2:
                raise ValueError(
                    f"{type(self).__name__} needs at least 2 classes in y, got only one class: "
                    f"{declared.tolist()[0]!r}. Where others come in later calls of partial_fit, "
                    "name all of them in classes=."
                )
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(
                f"y holds the class {unknown.tolist()[0]!r}, which is not among "
                f"{self.classes_.tolist()}, the classes of the first call. Name all of them in "
                "the first partial_fit(..., classes=...), or call fit with warm_start=False."
            )
        return np.searchsorted(self.classes_, y)

    def _row_weights(self, y: NDArray[Any], weight: NDArray[Any] | None) -> NDArray[Any] | None:
        if self.class_weight is None:
            return weight
        if isinstance(self.class_weight, dict):
            factors = class_factors(self.class_weight, self.classes_)
        else:
            totals = np.bincount(y, weight)
            factors = np.divide(1.0, totals, out=np.zeros(len(totals)), where=totals > 0)
        return factors[y] if weight is None else factors[y] * weight

    def _hold_out(self, rows: Rows, seed: int) -> tuple[Rows, Rows]:
        """Stratified where each side has room for every class; a class of one row is trained on."""
        counts, fraction = np.bincount(rows.y), self.validation_fraction
        single = counts[rows.y] == 1
        if np.count_nonzero(~single) < 2:
            return super()._hold_out(rows, seed)
        (alone,), (others,) = np.nonzero(single), np.nonzero(~single)
        y, n = rows.y[others], len(others)
        held_out = count_held_out(n, fraction)
        enough = min(held_out, n - held_out) >= np.count_nonzero(counts > 1)
        # Positions in place of inputs.
        train, valid = Rows(others, y, None).hold_out(fraction, seed, y if enough else None)
        return rows.take(np.concatenate([alone, train.X])), rows.take(valid.X)

    def _scale_target(self, y: NDArray[Any]) -> NDArray[Any]:
        return y[:, None].astype(np.float64) if self._n_network_outputs == 1 else y

    def _make_criterion(self) -> nn.Module:
        if self._n_network_outputs == 1:
            return nn.BCEWithLogitsLoss(reduction="none")
        return nn.CrossEntropyLoss(reduction="none")

    def _score_outputs(self, target: Tensor, outputs: Tensor, weight: Tensor | None) -> float:
        if self._n_network_outputs == 1:
            return weighted_accuracy(target[:, 0], (outputs[:, 0] > 0).to(target), weight)
        return weighted_accuracy(target, outputs.argmax(1), weight)

    def _torch_head(self) -> nn.Module:
        return Probabilities()

    @available_if(is_stochastic)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> "Classification":
        """One pass over these rows, with a constant learning rate.

        The first call fixes classes, scaling and knots; give it rows typical of all. Pickles
        hold no optimiser: a loaded copy goes on with a fresh one. ``class_weight`` must not be
        "balanced", which these rows alone cannot tell.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : array-like of shape (n_samples,)
        classes : array-like of shape (n_classes,), optional
            All classes that will come; the first call needs it unless y holds them all.
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        self
        """
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' is not supported by partial_fit, which does not know how "
                "frequent the classes will be. Pass a dict of their weights, such as "
                "dict(zip(classes, compute_class_weight('balanced', classes=classes, y=y))), of "
                "all of y or a sample of it."
            )
        return self._partial_fit(X, y, sample_weight, classes=classes)
