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
    def short_models(classify, seconds):
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
    monkeypatch.setattr(
        demo, "make_models", lambda classify, seconds: {"Short": MetaKANRegressor(**SHORT)}
    )
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


HEADER, LINES = "y,b,c\n", "\n".join(f"{i},{i % 3},{'uv'[i % 2]}" for i in range(40)) + "\n"


@pytest.fixture
def short(monkeypatch):
    """One short fit a fold."""

    def models(classify, seconds):
        return {"Short": (MetaKANClassifier if classify else MetaKANRegressor)(**SHORT)}

    monkeypatch.setattr(demo, "make_models", models)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (HEADER + LINES + "1,2,3,4\n", "Expected 3 fields in line 42, saw 4"),
        (HEADER + LINES.replace("\n", ",9\n"), "Length of header"),
        (HEADER + LINES + '1,2,"open\n', "EOF inside string"),
        ((HEADER + LINES).encode() + b"1,2,\xff\n", "utf-8"),
    ],
    ids=["a longer row", "longer rows", "an open quote", "no UTF-8"],
)
def test_rows_after_the_header_that_cannot_be_read(tmp_path, content, rule, capsys):
    path = tmp_path / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SystemExit) as error:
        run(path, "y")
    assert error.value.code == 2
    said = capsys.readouterr().err
    assert f"{path} is no table" in said and rule in said


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (["--max-rows", "-3"], "--max-rows must be at least 10, got -3"),
        (["--seconds", "0"], "--seconds must be above 0, at most 1e9, got 0"),
        (["--out", "."], "--out: . cannot be written: its name must end in"),
        (["--out", "table.csv/picture.png"], "--out: table.csv/picture.png cannot be written"),
        (["--out", "folder.png"], "--out: folder.png cannot be written"),
        (["--out", "picture.xyz"], "--out: picture.xyz cannot be written: its name"),
        (["--sep", "(("], "is no table that can be read: missing )"),
        (["--decimal", ".."], "is no table that can be read"),
    ],
    ids=str,
)
def test_options_that_cannot_work_are_named_before_any_fit(
    tmp_path, options, rule, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "table.csv").write_text(HEADER + LINES)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(SystemExit) as error:
        run("table.csv", "y", *options)
    assert error.value.code == 2
    assert rule in capsys.readouterr().err


def test_two_columns_called_as_the_target(tmp_path, capsys):
    path = tmp_path / "table.csv"
    path.write_text("y,y,c\n" + LINES)
    with pytest.raises(SystemExit) as error:
        run(path, "y")
    assert error.value.code == 2
    assert "has 2 columns 'y'; rename all but one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "target"),
    [
        (r"$\frac{$", "u", "y"),
        ("b", r"$\frac{$", "c"),
        ("b", "long " * 4000, "y"),
        ("b", "x" * 20_000, "c"),
        ("n" * 20_000, "u", "y"),
    ],
    ids=["mathematics", "a class of it", "long text", "a long class", "a long name"],
)
def test_odd_names_and_long_texts_are_drawn(tmp_path, name, text, target, short):
    path, picture = tmp_path / "table.csv", tmp_path / "demo.png"
    path.write_text(HEADER.replace("b", name) + LINES.replace("u", text))
    run(path, target, "--out", str(picture))
    assert picture.stat().st_size > 10_000


def test_a_separator_of_two_signs_and_a_tab_by_its_name(tmp_path):
    path = tmp_path / "table.csv"
    for sep, given in (("\t", r"\t"), (";;", ";;")):
        path.write_text((HEADER + LINES).replace(",", sep))
        options = demo._parse(["--csv", str(path), "--target", "y", "--sep", given])
        X, y = demo.read_table(options)
        assert list(X) == ["b", "c"] and y.tolist() == list(range(40))


def test_a_rare_level_stands_for_unseen_ones():
    train = pd.DataFrame({"city": ["a"] * 100 + ["b"] * 99 + ["rare"], "b": np.arange(200.0)})
    columns = demo.make_columns(["b"], ["city"]).fit(train)
    seen, unseen = (columns.transform(train.iloc[:1].assign(city=c)) for c in ("rare", "new"))
    pd.testing.assert_frame_equal(seen, unseen)
    assert unseen["city = infrequent_sklearn"].item() == 1


def test_columns_whose_names_might_meet_those_of_levels(tmp_path, short):
    path = tmp_path / "table.csv"
    path.write_text("y,c_u,c\n" + LINES)
    run(path, "y", "--out", str(tmp_path / "demo.png"))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("classify", [False, True])
def test_numbers_of_every_model_are_counted(classify):
    y = (FRAME["same"] + np.arange(N)) % 2
    for name, model in demo.make_models(classify, 0.05).items():
        fitted = demo.make_pipeline(model.fit(RNG.normal(size=(N, 3)), y))
        count = demo.count_parameters(fitted)
        assert count == 4 if "linear" in name else count is None or count > 4, name
