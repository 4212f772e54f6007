"""Commands on tables, on small ones."""

import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest

from benchmarks.tables import defaults, quick, sharing


@pytest.fixture
def folder(tmp_path):
    """A data folder with one table."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    (tmp_path / "uci_energy").mkdir()
    rows = {"train_idx": [np.arange(40)], "test_idx": [np.arange(40, 60)]}
    np.savez(tmp_path / "uci_energy" / "data.npz", X=X, y=X.sum(1), **rows)
    return tmp_path


@pytest.fixture
def small_sharing(monkeypatch):
    monkeypatch.setattr(sharing, "TABLES", ("uci_energy",))
    monkeypatch.setattr(sharing, "NETWORKS", {"4": (4,), "4-3-2": (4, 3, 2)})


def test_every_number_of_meta_learners_is_fitted_once(small_sharing, folder, capsys):
    arguments = ["--data-dir", str(folder), "--out", str(folder)]
    arguments += ["--seeds", "0", "--jobs", "1", "--max-iter", "2"]
    sharing.main(arguments)
    path = folder / "sharing.csv"
    rows = pd.read_csv(path)
    assert len(rows) == len(sharing.SOURCES) * (2 + 4)  # two layers cannot have three
    by_count = rows[(rows["network"] == "4-3-2") & (rows["source"] == "default")]
    parameters = by_count.set_index("n_meta_learners")["parameters"]
    learner = 2 * 32 + 33 * 9
    assert parameters.diff().dropna().tolist() == [learner, learner, learner]
    before = path.read_text()
    sharing.main(arguments)
    assert path.read_text() == before
    assert "| 4-3-2 | linear p=3 | 1 |" in capsys.readouterr().out


def test_a_missing_table_is_named(small_sharing, folder, monkeypatch, capsys):
    monkeypatch.setattr(sharing, "TABLES", ("uci_energy", "uci_power"))
    with pytest.raises(SystemExit):
        sharing.main(["--data-dir", str(folder)])
    assert "uci_power" in capsys.readouterr().err


def test_ratios_are_to_one_meta_learner():
    rows = [
        ["t", "4", "default", count, str(seed), 1 - error, 0.9, 10, 1.0]
        for count, errors in (("1", (0.2, 0.4)), ("layer", (0.1, 0.2)))
        for seed, error in enumerate(errors)
    ]
    columns = [*sharing.Trial._fields, *sharing.RESULTS]
    text = sharing.report(pd.DataFrame(rows, columns=columns)).splitlines()
    assert text[0].count("|") == 6  # nothing of two or three
    assert text[-1] == "| 4 | default | 2 | 0.50 ± 0.00 | 0.900 |"


def test_defaults_beside_scikit_learns_own(tmp_path, monkeypatch, capsys):
    tiny = partial(quick.KANClassifier, (2,), max_iter=2)
    monkeypatch.setattr(quick, "CLASSIFIERS", (quick.MLPClassifier, tiny, tiny, tiny))
    monkeypatch.setattr(quick, "N_FOLDS", 2)
    options = ["--only", "breast_cancer", "adult", "--data-dir", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["quick", *options, "--csv", str(tmp_path / "rows.csv")])
    quick.main()
    rows = pd.read_csv(tmp_path / "rows.csv")
    assert rows["model"].tolist() == ["MLP", "MetaKAN", "KAN", "HGB"]
    assert rows["score"].between(0, 1).all() and (rows["seconds"] > 0).all()
    printed = capsys.readouterr().out
    assert "| breast_cancer | MetaKAN |" in printed and "adult: skipped." in printed


def test_text_columns_become_numbers():
    X = pd.DataFrame({"a": [1.0, None, 3.0], "b": ["x", None, "y"]})
    ((_, step),) = quick.columns("adult", X)
    assert step.fit_transform(X).tolist() == [[1, 0, 1], [1, 0, 2], [0, 1, 3]]
    assert quick.columns("adult", X[["a"]]) == []
    X = pd.DataFrame({"cut": ["Ideal", "Fair"], "carat": [1.0, 2.0]})
    ((_, step),) = quick.columns("diamonds", X)
    assert step.fit_transform(X).tolist() == [[4, 1], [0, 2]]


@pytest.mark.parametrize(
    ("name", "scores", "seconds", "line"),
    [
        ("digits", (0.9, 0.98), (1.0, 9.0), "reached"),
        ("digits", (0.9, 0.9), (1.0, 1.0), "missed: score below 0.97"),
        ("california_housing", (0.9, 0.85), (1.0, 1.0), "missed: score not above the MLP's"),
        ("digits", (0.9, 0.98), (3.0, 9.5), "missed: more than 3 times the MLP's seconds"),
        ("diamonds_numeric", (0.9, 0.1), (1.0, 1.0), ""),
    ],
)
def test_what_is_asked_of_the_defaults(name, scores, seconds, line):
    folds = {"model": ["MLP", "MetaKAN"], "score": scores, "seconds": seconds}
    assert quick.judge(name, pd.DataFrame(folds))["line"].tolist() == ["", line]


def test_settings_are_searched(folder, monkeypatch, capsys):
    space = {"source": ["direct", "sin p1 scaled"], "hidden_layer_sizes": [(2,)]}
    space |= {"max_iter": ["auto x2"], "batch_size": [64], "prompt_decay": [False]}
    monkeypatch.setattr(defaults, "SPACES", {"tiny": space | {"hidden_range": [2.0]}})
    monkeypatch.setattr(defaults, "TABLES", ("uci_energy", "friedman1"))
    monkeypatch.setattr(defaults, "STEPS", 4)
    monkeypatch.setattr(defaults, "PASSES", (1, 2))
    monkeypatch.setattr(defaults, "set_constant", (constants := {}).__setitem__)
    options = ["--space", "tiny", "--draws", "2", "--jobs", "1", "--data-dir", str(folder)]
    monkeypatch.setattr(sys, "argv", ["defaults", *options, "--csv", str(folder / "rows.csv")])
    defaults.main()
    rows = pd.read_csv(folder / "rows.csv")
    assert rows["table"].tolist() == 2 * ["uci_energy", "friedman1"]
    assert (rows["loss"] > 0).all() and constants == {"HIDDEN_RANGE": 2.0}
    assert "KAN: mean of log(loss / median loss of the table)" in capsys.readouterr().out


def test_constants_that_the_search_varies_are_there(monkeypatch):
    for name in ("HIDDEN_RANGE", "SMOOTHNESS"):
        found = [m for key, m in sys.modules.items() if key.startswith("sklearn_metakan.nn")]
        for module in [module for module in found if name in vars(module)]:
            monkeypatch.setattr(module, name, vars(module)[name])  # put back afterwards
        defaults.set_constant(name, 2.5)
    with pytest.raises(LookupError, match="no constant HIDDEN_RANGES"):
        defaults.set_constant("HIDDEN_RANGES", 1.0)
