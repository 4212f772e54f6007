"""The comparison of additive models: what is fitted, and what is said of rows."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import additive
from benchmarks.tables.fit import RESULTS, Trial
from benchmarks.tables.peers import make, peer_of
from benchmarks.tables.report import labelled

RNG = np.random.default_rng(0)
X = pd.DataFrame({"a": RNG.uniform(size=60), "b": RNG.choice(["x", "y"], 60)})
X["b"] = X["b"].astype("category")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", ["kan-additive", "metakan-additive"])
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_what_is_fitted(name, task, monkeypatch):
    monkeypatch.setattr(additive, "SEARCHED", additive.SEARCHED | {"max_iter": 3})
    y = X["a"].to_numpy() if task == "regression" else np.arange(60) % 2
    model = make(name, task, seed=0, settings={"pairs": 1}).fit(X, y)
    best, is_meta = model.model_, name.startswith("meta")
    assert type(best).__name__.startswith("Meta") == is_meta
    assert best.solver == ("lbfgs" if is_meta else "reml")
    assert not is_meta or best.weight_decay in additive.DECAYS
    assert best.interactions_ == [(0, 1)]
    goes_on = is_meta or task == "regression"
    assert best.extrapolation == ("linear" if goes_on else "constant")
    assert model.n_parameters_ == best.n_parameters_
    method = model.predict if task == "regression" else model.predict_proba
    assert len(method(X)) == 60


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", ["kan-averaged", "metakan-averaged"])
@pytest.mark.parametrize("task", ["regression", "classification"])
def test_averages(name, task):
    y = X["a"].to_numpy() if task == "regression" else np.arange(60) % 2
    model = make(name, task, seed=0, settings={"n_estimators": 1, "max_iter": 1}).fit(X, y)
    network, beside = model.models_
    assert type(network).__name__.startswith("Meta") == name.startswith("meta")
    assert beside.model_.solver == "reml" and beside.model_.interactions_ == [(0, 1)]
    method = "predict" if task == "regression" else "predict_proba"
    parts = [getattr(each, method)(X) for each in (network, beside)]
    np.testing.assert_allclose(getattr(model, method)(X), (parts[0] + parts[1]) / 2)
    assert model.n_parameters_ == network.n_parameters_ + beside.n_parameters_


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("task", "pairs"), [("regression", 20), ("classification", 10)])
def test_many_columns_have_fewer_pairs_for_labels(task, pairs, monkeypatch):
    monkeypatch.setattr(additive, "BY_COLUMNS", 50)
    x = pd.DataFrame(RNG.normal(size=(60, 5)))
    y = x[0].to_numpy() if task == "regression" else np.arange(60) % 2
    model = make("kan-additive", task, seed=0, settings={"pairs": 4, "max_iter": 1}).fit(x, y)
    assert model.model_.interactions == pairs


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_many_classes_do_not_take_turns(monkeypatch):
    monkeypatch.setattr(additive, "MOST_CLASSES", 2)
    monkeypatch.setattr(additive, "MANY_CLASSES", additive.MANY_CLASSES | {"max_iter": 3})
    model = make("kan-additive", "classification", seed=0).fit(X, np.arange(60) % 3)
    assert model.model_.solver == "lbfgs"


def rows():
    """Of two sets and three models; on the first ours has half the error, on the second twice."""
    found = []
    for data, factors in (("uci_power", (1, 0.5, 1)), ("uci_boston", (1, 2, 1))):
        for model, factor in zip(additive.MODELS, factors, strict=True):
            trial = Trial(data, 0, model, "", "test", 0, "cpu")._asdict()
            results = dict.fromkeys(RESULTS) | {"error": 3.0 * factor, "fit_seconds": 2.0}
            about = {"fit_cpu": 1.0, "processor": "p", "device_name": "CPU", "torch": "2"}
            found.append(trial | results | about)
    return labelled(pd.DataFrame(found))


def test_ratios_and_wins():
    errors, summary, _ = additive.report(rows())
    assert "| uci_power | 1 | 3 | 1.5 | 3 | 0.500 | 1.000 |" in errors
    assert "| kan-additive | 1.000 | 0.500 | 1 of 2 | 2 | 1 |" in summary


def test_without_ebm_there_is_nothing_to_compare(tmp_path):
    with pytest.raises(SystemExit, match="no rows of ebm"):
        additive.main(["--out", str(tmp_path), "--report"])


def test_ours_are_variants_of_nobody():
    assert [peer_of(name) for name in additive.MODELS] == [*additive.MODELS]
