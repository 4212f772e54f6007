"""Additive models with pairs of columns beside EBM, on the tables of ``benchmarks.tables``.

    python -m benchmarks.additive [--sets NAME ...] [--splits N] [--jobs N] [--processes N]

All options are those of ``benchmarks.tables``, whose CSV, splits and processes are used; EBM has
its defaults. Ours are sums of functions of one column and of two, with five pairs a column, 60 at
most: of a KAN by ``solver="reml"`` (labels: 600 divided by the columns at most; many classes:
L-BFGS), of a MetaKAN a search over L-BFGS's weight decay. Prints errors, ratios, wins, seconds.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV

import sklearn_metakan
from benchmarks.common.report import constants, publish, table
from benchmarks.tables import __main__ as tables
from benchmarks.tables.report import compare, geometric_mean

MODELS = ("ebm", "kan-additive", "metakan-additive")
CHOSEN_ON = ("uci_boston", "uci_concrete", "uci_energy", "uci_wine_red", "uci_yacht")
CHOSEN_ON += ("credit_g", "phoneme", "letter", "spambase")  # their training rows, for the settings
PAIRS: dict[str, Any] = {"pairs": 5, "most_pairs": 60}  # a column, and in all
OF_LABELS, BY_COLUMNS = {"extrapolation": "constant"}, 600  # pairs, that many columns make fewer
MOST_CLASSES = 10  # of a KAN by solver="reml"
SOLVED: dict[str, Any] = {"solver": "reml", "degree": 1, "knots": "quantile", "n_estimators": 1}
MANY_CLASSES = {"solver": "lbfgs", "grid_size": 32, "weight_decay": 1e-6, "early_stopping": True}
MANY_CLASSES |= {"pairs": 8, "most_pairs": 120}
DECAYS = (3e-4, 3e-3, 3e-2, 3e-1)
SEARCHED: dict[str, Any] = {"solver": "lbfgs", "grid_size": 10, "n_estimators": 6, "prompt_dim": 6}
SEARCHED |= {"early_stopping": True}


class Additive(BaseEstimator):
    """The estimator of this name, without hidden layers; a MetaKAN's decay by three folds.

    ``settings`` replace some of those above; "pairs" among them is a number for each column.
    """

    def __init__(
        self,
        kind: str,
        random_state: int = 0,
        device: str = "cpu",
        settings: dict[str, Any] | None = None,
    ) -> None:
        self.kind, self.settings = kind, settings
        self.random_state, self.device = random_state, device

    def fit(self, X: pd.DataFrame, y: ArrayLike) -> Self:
        is_meta = self.kind.startswith("Meta")
        how = PAIRS | {"decays": DECAYS, "random_state": self.random_state, "device": self.device}
        how |= SEARCHED if is_meta else SOLVED
        if self.kind == "KANClassifier":
            few = OF_LABELS | {"most_pairs": min(how["most_pairs"], BY_COLUMNS // X.shape[1])}
            how |= MANY_CLASSES if len(np.unique(y)) > MOST_CLASSES else few
        how |= self.settings or {}
        pairs, decays = min(how.pop("pairs") * X.shape[1], how.pop("most_pairs")), how.pop("decays")
        model = getattr(sklearn_metakan, self.kind)((), **how, interactions=pairs)
        if not is_meta:
            self.model_ = model.fit(X, y)
            return self
        scoring = "neg_log_loss" if self.kind.endswith("Classifier") else "neg_mean_squared_error"
        search = GridSearchCV(model, {"weight_decay": decays}, scoring=scoring, cv=3)
        self.model_ = search.fit(X, y).best_estimator_
        return self

    @property
    def n_parameters_(self) -> int:
        """Of the model that was chosen."""
        return self.model_.n_parameters_

    def predict(self, X: pd.DataFrame) -> NDArray[Any]:
        return self.model_.predict(X)

    def predict_proba(self, X: pd.DataFrame) -> NDArray[Any]:
        return self.model_.predict_proba(X)


def regressor(
    meta: bool = False, random_state: int = 0, device: str = "cpu", **settings: Any
) -> Additive:
    return Additive(("Meta" if meta else "") + "KANRegressor", random_state, device, settings)


def classifier(
    meta: bool = False, random_state: int = 0, device: str = "cpu", **settings: Any
) -> Additive:
    return Additive(("Meta" if meta else "") + "KANClassifier", random_state, device, settings)


def main(arguments: Sequence[str] | None = None) -> None:
    given = ["--sets", "uci", "classification", "--peers", *MODELS, "--out", "out/additive"]
    options = tables.parse([*given, *(sys.argv[1:] if arguments is None else arguments)])
    ledger = tables.finished(options)
    rows = tables.asked(ledger.rows(), options)
    if "ebm" not in {*rows["model"]}:
        raise SystemExit(f"{ledger.path} has no rows of ebm, which the others stand beside.")
    publish(report(rows), options.out / "additive.md")


def report(rows: pd.DataFrame) -> Iterator[str]:
    """Blocks of Markdown."""
    compared = compare(rows)
    means = compared.means.loc[compared.complete]
    deviations = compared.deviations.loc[compared.complete]
    models = [name for name in MODELS if name in means]
    ratios = means[models].div(means["ebm"], axis=0)
    splits = compared.rows.groupby("data")["split"].nunique()
    shown = pd.DataFrame({"data": means.index, "splits": splits[means.index].to_numpy()})
    columns = {"set": "{data}", "splits": "{splits}"}
    for k, name in enumerate(models):
        spread = deviations[name].map(lambda s: "" if pd.isna(s) else f" ± {s:.1g}")
        shown[f"m{k}"] = (means[name].map("{:.4g}".format) + spread).to_numpy()
        columns[name] = f"{{m{k}}}"
    for k, name in enumerate(models[1:], 1):
        shown[f"r{k}"] = ratios[name].to_numpy()
        columns[f"{name} / ebm"] = f"{{r{k}:.3f}}"
    yield table(shown, columns)
    spent = compared.rows[compared.rows["data"].isin(compared.complete)]
    spent = spent.groupby(["label", "data"])[["fit_seconds", "fit_cpu"]].mean()
    others = [name for name in means.index if name not in CHOSEN_ON]
    summary = []
    for name in models:
        seconds = [geometric_mean(spent.loc[name][column]) for column in ("fit_seconds", "fit_cpu")]
        summary.append(
            {
                "model": name,
                "all": geometric_mean(ratios[name]),
                "others": geometric_mean(ratios[name].loc[others]) if others else np.nan,
                "wins": f"{int((ratios[name] < 1).sum())} of {len(ratios)}",
                "seconds": seconds[0],
                "cpu": seconds[1],
            }
        )
    yield table(
        pd.DataFrame(summary),
        {
            "model": "{model}",
            "error / ebm's": "{all:.3f}",
            f"without {', '.join(CHOSEN_ON)}": "{others:.3f}",
            "better in": "{wins}",
            "fit, s": "{seconds:.3g}",
            "fit, CPU s": "{cpu:.3g}",
        },
    )
    yield f"Means of sets are geometric. {constants(rows, ['processor', 'device_name', 'torch'])}."


if __name__ == "__main__":
    main()
