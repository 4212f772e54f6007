"""The average of a network and of an additive model with pairs: of predictions or probabilities.

The additive model is that of ``benchmarks.additive``, two pairs a column, by ``solver="reml"``.
"""

from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

import sklearn_metakan
from benchmarks import additive

PAIRS = 2


class Averaged(BaseEstimator):
    """The estimator of this name beside an additive model; what is more goes to it."""

    def __init__(self, kind: str, settings: dict[str, Any]) -> None:
        self.kind, self.settings = kind, settings

    def fit(self, X: pd.DataFrame, y: ArrayLike) -> Self:
        network = getattr(sklearn_metakan, self.kind)(**self.settings)
        beside = additive.Additive(self.kind.removeprefix("Meta"), settings={"pairs": PAIRS})
        self.models_ = [model.fit(X, y) for model in (network, beside)]
        return self

    @property
    def n_parameters_(self) -> int:
        return sum(model.n_parameters_ for model in self.models_)

    def predict(self, X: pd.DataFrame) -> NDArray[Any]:
        return np.mean([model.predict(X) for model in self.models_], axis=0)

    def predict_proba(self, X: pd.DataFrame) -> NDArray[Any]:
        return np.mean([model.predict_proba(X) for model in self.models_], axis=0)


def regressor(meta: bool = False, **settings: Any) -> Averaged:
    return Averaged(("Meta" if meta else "") + "KANRegressor", settings)


def classifier(meta: bool = False, **settings: Any) -> Averaged:
    return Averaged(("Meta" if meta else "") + "KANClassifier", settings)
