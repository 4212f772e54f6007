"""Who is compared, each with its defaults: how it is made, what it takes, how large it is."""

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.common.data import Task
from benchmarks.tables.sets import encoder, filler

Inputs = Literal["scaled", "encoded", "targets", "filled", "raw"]


class Peer(NamedTuple):
    """A regressor and a classifier.

    Parameters
    ----------
    package : str
        What to install.
    module : str
        Where the two ``classes`` are.
    inputs : {"scaled", "encoded", "targets", "filled", "raw"}
        "encoded": numbers, see ``sets.encoder``. "scaled": these, and a regressor's target,
        standardised. "targets": each category as the cross-fitted mean of its rows' targets.
        "filled": categories as such, gaps filled. "raw": as they are.
    options : dict
        Of one thread, and of silence; all else is left as it is.
    on_card : bool
        Whether it takes ``device``.
    """

    package: str
    module: str
    classes: tuple[str, str]
    inputs: Inputs
    options: dict[str, Any] = {}
    on_card: bool = False

    def is_there(self, peers_dir: Path | None = None) -> bool:
        if self.package == EFFICIENT_KAN:
            from benchmarks.tables.efficient_kan import find_network

            return find_network(peers_dir) is not None
        return importlib.util.find_spec(self.module.partition(".")[0]) is not None

    def version(self) -> str:
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:  # a folder on the path
            return "checkout"


EFFICIENT_KAN = "efficient-kan"
_SKLEARN, _OURS = "scikit-learn", "sklearn_metakan"
_ONE_JOB = {"n_jobs": 1}
_SILENT_CAT = {"thread_count": 1, "verbose": False, "allow_writing_files": False}
_TABKIT = {"n_threads": 1}
_KAN, _META = ("KANRegressor", "KANClassifier"), ("MetaKANRegressor", "MetaKANClassifier")
PEERS: dict[str, Peer] = {
    "linear": Peer(_SKLEARN, "sklearn.linear_model", ("Ridge", "LogisticRegression"), "scaled"),
    "mlp": Peer(_SKLEARN, "sklearn.neural_network", ("MLPRegressor", "MLPClassifier"), "scaled"),
    "histgb": Peer(_SKLEARN, "sklearn.ensemble",
        ("HistGradientBoostingRegressor", "HistGradientBoostingClassifier"), "raw"),
    "rf": Peer(_SKLEARN, "sklearn.ensemble",
        ("RandomForestRegressor", "RandomForestClassifier"), "encoded", _ONE_JOB),
    "lightgbm": Peer("lightgbm", "lightgbm",
        ("LGBMRegressor", "LGBMClassifier"), "raw", _ONE_JOB | {"verbose": -1}),
    "catboost": Peer("catboost", "catboost",
        ("CatBoostRegressor", "CatBoostClassifier"), "raw", _SILENT_CAT),
    "ebm": Peer("interpret-core", "interpret.glassbox",
        ("ExplainableBoostingRegressor", "ExplainableBoostingClassifier"), "raw",
        {"n_jobs": None}),  # the processes that joblib is told
    "realmlp": Peer("pytabkit", "pytabkit",
        ("RealMLP_TD_Regressor", "RealMLP_TD_Classifier"), "filled", _TABKIT, True),
    "tabm": Peer("pytabkit", "pytabkit",
        ("TabM_D_Regressor", "TabM_D_Classifier"), "filled", _TABKIT, True),
    EFFICIENT_KAN: Peer(EFFICIENT_KAN, "benchmarks.tables.efficient_kan",
        ("EfficientKANRegressor", "EfficientKANClassifier"), "scaled"),
    "kan": Peer(_OURS, _OURS, _KAN, "raw", {}, True),
    "metakan": Peer(_OURS, _OURS, _META, "raw", {}, True),
}  # fmt: skip
_MADE, _AVERAGED = ("regressor", "classifier"), "benchmarks.tables.averaged"
# Ours behind encoders, as all were that take numbers alone, as sums, and averaged with these; only
# when asked for.
ENCODED: dict[str, Peer] = {
    "kan-encoded": Peer(_OURS, _OURS, _KAN, "encoded", {}, True),
    "metakan-encoded": Peer(_OURS, _OURS, _META, "encoded", {}, True),
    "metakan-targets": Peer(_OURS, _OURS, _META, "targets", {}, True),
    "kan-additive": Peer(_OURS, "benchmarks.additive", _MADE, "raw", {}, True),
    "metakan-additive": Peer(_OURS, "benchmarks.additive", _MADE, "raw", {"meta": True}, True),
    "kan-averaged": Peer(_OURS, _AVERAGED, _MADE, "raw", {}, True),
    "metakan-averaged": Peer(_OURS, _AVERAGED, _MADE, "raw", {"meta": True}, True),
}
PEERS |= ENCODED


def peer_of(label: str) -> str:
    """Whose variant a label is: "metakan-deep" is one of "metakan". Raises ValueError."""
    fitting = [name for name in PEERS if label == name or label.startswith(name + "-")]
    if not fitting:
        raise ValueError(
            f"{label!r} must be one of {', '.join(PEERS)}, or begin with one and a hyphen, as in "
            "'metakan-deep'."
        )
    return max(fitting, key=len)


def make(
    name: str,
    task: Task,
    seed: int,
    device: str = "cpu",
    settings: Mapping[str, Any] | None = None,
    categories: Sequence[str] = (),
    peers_dir: str | None = None,
) -> Any:
    """An estimator that takes a Fold's columns; ``settings`` replace its defaults."""
    peer = PEERS[name]
    kind = getattr(importlib.import_module(peer.module), peer.classes[task == "classification"])
    more = {"device": device} if peer.on_card else {}
    if name == "catboost" and categories:
        more = {"cat_features": list(categories)}  # the only one that must be told
    if name == EFFICIENT_KAN:
        more = {"peers_dir": peers_dir}
    listed = {key: tuple(v) if isinstance(v, list) else v for key, v in (settings or {}).items()}
    model = kind(**{"random_state": seed} | peer.options | more | listed)
    if peer.inputs == "raw":
        return model
    if peer.inputs == "filled":
        return make_pipeline(filler(), model)
    if peer.inputs in ("encoded", "targets"):
        return make_pipeline(encoder(peer.inputs == "targets"), model)
    pipeline = make_pipeline(encoder(), StandardScaler(), model)
    if task == "classification":
        return pipeline
    return TransformedTargetRegressor(pipeline, transformer=StandardScaler())


def n_parameters(model: Any) -> int | None:
    """Trained numbers of a fitted network of ours or scikit-learn's; of others nobody counts."""
    inner = model.regressor_ if isinstance(model, TransformedTargetRegressor) else model
    last = inner[-1] if isinstance(inner, Pipeline) else inner
    if hasattr(last, "n_parameters_"):
        return int(last.n_parameters_)
    if hasattr(last, "coefs_"):
        return sum(part.size for part in (*last.coefs_, *last.intercepts_))
    return None
