"""The demo reads anybody's table and says why where it cannot."""

import warnings

import numpy as np
import pandas as pd
import pytest

from sklearn_metakan import MetaKANClassifier, MetaKANRegressor, demo

N = 60
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "Größe [cm]": np.where(RNG.random(N) < 0.1, np.nan, RNG.normal(170, 10, N)),
        "a,b $x$": RNG.choice(["Rome", "København"], N),
        "": RNG.choice(["1", "x", None], N),
        "limit": np.where(RNG.random(N) < 0.1, np.inf, RNG.normal(size=N)),
        "flag": RNG.random(N) < 0.5,
        "day": pd.date_range("2020-01-01", periods=N).astype(str),
        "nothing": np.nan,
        "same": 1,
        "y": RNG.normal(size=N),
        "class": RNG.choice(["low", "high_$"], N),
    }
)
FRAME.loc[[3, 5], ["y", "class"]] = None
SHORT = {"hidden_layer_sizes": (2,), "max_iter": 2, "random_state": 0}


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    FRAME.to_csv(path, index=False)
    return path


def run(path, target, *more):
    demo.main(["--csv", str(path), "--target", target, *more])


@pytest.mark.parametrize(("target", "score"), [("y", "R2"), ("class", "accuracy")])
def test_scores_and_picture_of_a_table_with_text_gaps_and_odd_names(
    table, tmp_path, target, score, monkeypatch, capsys
):
    def short_models(classify):
        return {"Short": (MetaKANClassifier if classify else MetaKANRegressor)(**SHORT)}

    monkeypatch.setattr(demo, "make_models", short_models)
    picture = tmp_path / "new" / "demo.png"
    run(table, target, "--out", str(picture))
    said = capsys.readouterr().out
    assert "left out: 2 rows without a target" in said
    for column in ("day", "nothing", "same"):
        assert f"left out: column '{column}'" in said
    assert f"{N - 2} rows" in said
    assert score in said
    assert picture.stat().st_size > 10_000


def test_separator_and_decimal_comma(tmp_path, capsys):
    path = tmp_path / "table.csv"
    FRAME.to_csv(path, index=False, sep=";", decimal=",")
    with pytest.raises(SystemExit):
        run(path, "y")
    assert "--sep" in capsys.readouterr().err
    options = ["--csv", str(path), "--target", "y", "--sep", ";", "--decimal", ","]
    X, y = demo.read_table(demo._parse(options))
    np.testing.assert_allclose(y, FRAME["y"].dropna())
    assert X["limit"].dtype == float


@pytest.mark.parametrize("content", [b"", b"\xff\xfea\x00"], ids=["empty", "UTF-16"])
def test_files_that_are_no_table(tmp_path, content, capsys):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(SystemExit):
        run(path, "y")
    assert f"{path} is no table" in capsys.readouterr().err


def test_missing_files_and_columns_are_named(table, capsys):
    for path, target, name in ((table, "z", "'Größe [cm]'"), (table.parent / "no.csv", "y", "no")):
        with pytest.raises(SystemExit):
            run(path, target)
        assert name in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "more", "rule"),
    [
        ("same", [], "at least two values"),
        ("nothing", [], "'nothing' has 0 rows"),
        ("class", ["--task", "regression"], "regression needs numbers"),
    ],
)
def test_targets_that_cannot_be_learnt(table, target, more, rule):
    with pytest.raises(SystemExit, match=rule):
        run(table, target, *more)


@pytest.mark.parametrize("target", ["y", "class"])
@pytest.mark.parametrize("n", [5, 9])
def test_tables_too_short_to_be_compared_on(tmp_path, target, n):
    path = tmp_path / "short.csv"
    FRAME.dropna(subset=["y"]).head(n).to_csv(path, index=False)
    with pytest.raises(SystemExit, match=f"{target!r} has {n} rows.*at least 10"):
        run(path, target)


def test_the_shortest_table_gets_scores(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "make_models", lambda classify: {"Short": MetaKANRegressor(**SHORT)})
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    path = tmp_path / "short.csv"
    FRAME[["limit", "y"]].dropna().head(10).to_csv(path, index=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(path, "y")
    said = capsys.readouterr().out
    assert "10 rows" in said
    assert "nan" not in said


@pytest.mark.parametrize(
    ("y", "classes"),
    [([0, 1, 1], True), (["a", "b", "b"], True), ([True, False], True), ([0.5, 1.0], False)],
)
def test_kind_of_target(y, classes):
    assert demo.is_classification(pd.Series(y)) is classes
    assert demo.is_classification(pd.Series(range(30))) is False
