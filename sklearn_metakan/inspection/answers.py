"""What a fitted model answers to rows as its owner hands them over, member by member."""

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_metakan.estimators import responses, with_pairs
from sklearn_metakan.inspection.holders import Within, opened
from sklearn_metakan.inspection.tables import Table

_CHUNK = 2**15  # rows that are answered at a time


class Answers:
    """Answers of an estimator, or of what holds one, in the units in which it gives them.

    Parameters
    ----------
    holder : fitted estimator
        Or a Pipeline, a search, a TransformedTargetRegressor around one. The columns are those of
        the outermost, before any step.

    Attributes
    ----------
    n_outputs, n_members : int
    classes : list or None
        Of a classifier; or of several labels at once, which each has.
    outputs : list
        Labels of the outputs: classes, or numbers; of two classes, the second alone.
    what : str
        What an output is, before its label.
    is_additive : bool
        Whether an answer is known to be a sum of functions of one column or of two.
    pairs : list of (int, int)
        Columns that have a function together, where it is.

    Raises
    ------
    TypeError
        For what is no KAN of tables and holds none.
    NotFittedError
    """

    def __init__(self, holder: Any) -> None:
        inner, self._steps, regressors = opened(holder)
        self._targets = [regressor.transformer_ for regressor in regressors]
        within = Within(inner)
        if within.scaler is None:
            raise TypeError(
                "estimator must be a fitted KAN or MetaKAN estimator, or hold one, got "
                f"{type(inner).__name__}."
            )
        self.estimator, self.n_members = inner, within.n_members
        target = inner.target_
        self.classes = None if target.is_numeric else target.names
        self._of_two = self.classes is not None and target.n_network_outputs == 1
        self.what = "output"
        if self.classes is not None:
            self.what = "log-odds of" if self._of_two or target.noun == "label" else "score of"
        quantiles = within.quantiles
        if self.classes is None:
            self.outputs: list[Any] = [*range(inner.n_outputs_)]
            if quantiles:
                several = inner.n_outputs_ > 1
                self.outputs = [(o, q) if several else q for o in self.outputs for q in quantiles]
        else:
            self.outputs = self.classes[1:] if self._of_two else self.classes
        self.n_outputs = len(self.outputs)
        is_sum = len(within.layers) == 1 and getattr(inner, "loss", None) != "poisson"
        self.is_additive = is_sum and not (quantiles or self._steps or self._targets)
        self.pairs = [*inner.interactions_] if self.is_additive else []

    def with_pairs(self, kept: Sequence[int]) -> "Answers":
        """Those of the model without its functions of two columns, but for some of them."""
        found = copy(self)
        found.estimator = with_pairs(self.estimator, kept)
        return found

    def of(self, table: Table, index: NDArray[np.intp]) -> NDArray[np.float64]:
        """For rows that ``table.compose(index)`` gives, (n, 1 + n_members, n_outputs).

        The first is what the whole says, the others are its members.
        """
        found = np.empty((len(index), 1 + self.n_members, self.n_outputs))
        for start in range(0, len(index), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            found[chunk] = self._answers(table.compose(index[chunk]))
        return found

    def _answers(self, X: Any) -> NDArray[np.float64]:
        for step in self._steps:
            X = step.transform(X)
        whole, members = responses(self.estimator, X)
        found = np.concatenate([whole[:, None], members], axis=1).astype(np.float64)
        for transformer in reversed(self._targets):
            n_targets = self.estimator.n_outputs_
            columns = found.reshape(*found.shape[:2], n_targets, -1).swapaxes(2, 3)
            inverse = transformer.inverse_transform(columns.reshape(-1, n_targets))
            found = inverse.reshape(columns.shape).swapaxes(2, 3).reshape(found.shape)
        return found

    def output(self, target: Any) -> tuple[int, float, str]:
        """Position and sign of an output that is given by its label, and what it is.

        Raises ValueError for a target that there is not, and without one where there are several.
        """
        if self.classes is not None:
            if target is None and self._of_two:
                target = self.classes[1]
            if target not in self.classes:
                raise ValueError(
                    f"target must be one of the classes {self.classes}, got {target!r}."
                )
            place = self.classes.index(target)
            if self._of_two:
                return 0, 1.0 if place else -1.0, f"{self.what} {target}"
            return place, 1.0, f"{self.what} {target}"
        if target is None and self.n_outputs == 1:
            target = 0
        if target not in self.outputs:
            raise ValueError(f"target must be one of the outputs {self.outputs}, got {target!r}.")
        what = "prediction" if self.n_outputs == 1 else f"{self.what} {target}"
        return self.outputs.index(target), 1.0, what
