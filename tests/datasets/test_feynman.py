"""make_feynman: ranges, noise, randomness, names and errors."""

import ast
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sklearn_metakan.datasets
from sklearn_metakan.datasets import (
    Equation,
    Variable,
    feynman_equation,
    feynman_names,
    make_feynman,
)

TABLE, PAPER = feynman_names(), feynman_names("paper")


def test_names_are_those_of_the_table_and_of_the_papers():
    assert len(TABLE) == len({*TABLE}) == 100
    assert len(PAPER) == len({*PAPER}) == 18
    equations = [feynman_equation(name) for name in TABLE]
    every = [name for equation in equations for name in (equation.name, *equation.aliases)]
    assert len(every) == len({*every})
    assert {*every} >= {*PAPER, "I.6.20", "I.15.10", "I.34.10", "I.48.20", "II.11.7"}


def test_names_are_a_list_of_the_callers_own():
    feynman_names("paper").clear()
    assert feynman_names("paper") == PAPER


@pytest.mark.parametrize(("ranges", "names"), [("table", TABLE), ("paper", PAPER)])
def test_variables_fill_their_ranges(ranges, names):
    for name in names:
        X, y = make_feynman(name, 2000, random_state=0, ranges=ranges)
        variables = feynman_equation(name).variables
        limits = [v.paper_limits if ranges == "paper" else v.limits for v in variables]
        low, high = np.transpose(limits)
        assert X.shape == (2000, len(variables))
        assert (low <= X).all() and (high >= X).all()
        np.testing.assert_allclose(X.min(0), low, atol=0.02 * (high - low).max())
        np.testing.assert_allclose(X.mean(0), (low + high) / 2, atol=0.05 * (high - low).max())
        assert y.shape == (2000,)
        assert y.std() > 0


def test_own_ranges_change_those_of_the_table():
    X, y = make_feynman("I.12.5", 100, random_state=0, ranges={"Ef": (-3, -2)})
    assert (X[:, 1] < -2).all() and (X[:, 0] > 1).all() and (y < 0).all()


@pytest.mark.parametrize("name", TABLE)
def test_without_noise_y_is_the_formula(name):
    X, y = make_feynman(name, 50, random_state=3)
    np.testing.assert_array_equal(y, feynman_equation(name)(X))


def test_noise_is_added_to_y_alone():
    X, y = make_feynman("I.8.4", 5000, random_state=0)
    noisy_X, noisy_y = make_feynman("I.8.4", 5000, 0.3, random_state=0)
    twice = make_feynman("I.8.4", 5000, 0.6, random_state=0)[1]
    np.testing.assert_array_equal(X, noisy_X)
    np.testing.assert_allclose(twice - y, 2 * (noisy_y - y))
    assert np.std(noisy_y - y) == pytest.approx(0.3, rel=0.05)
    assert abs(np.mean(noisy_y - y)) < 0.02


def test_random_state():
    def draw(state):
        return make_feynman("I.9.18", 20, 0.1, state)[1]

    before = np.random.get_state()[1].copy()  # noqa: NPY002
    np.testing.assert_array_equal(draw(1), draw(1))
    np.testing.assert_array_equal(draw(1), draw(np.random.RandomState(1)))
    assert (draw(1) != draw(2)).all()
    assert (draw(None) != draw(None)).all()
    generator = np.random.default_rng(0)
    assert (draw(generator) != draw(generator)).all()
    assert (before == np.random.get_state()[1]).all()  # noqa: NPY002


def test_as_frame_names_the_columns():
    X, y = make_feynman("I.9.18", 10, random_state=0, as_frame=True)
    plain_X, plain_y = make_feynman("I.9.18", 10, random_state=0)
    assert list(X) == ["m1", "m2", "G", "x1", "x2", "y1", "y2", "z1", "z2"]
    assert isinstance(y, pd.Series) and y.name == "F"
    np.testing.assert_array_equal(X, plain_X)
    np.testing.assert_array_equal(y, plain_y)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "I.6.20c"}, r"no Feynman equation 'I.6.20c'. Close: .*I.6.20"),
        ({"name": "friedman"}, r"feynman_names\(\) lists"),
        ({"name": 3}, "no Feynman equation 3"),
        ({"n_samples": 0}, "n_samples must be a whole number of at least 1, got 0"),
        ({"n_samples": 10.0}, "n_samples must be a whole number"),
        ({"n_samples": True}, "n_samples must be a whole number"),
        ({"noise": -0.1}, "noise must be a finite number of at least 0, got -0.1"),
        ({"noise": np.nan}, "noise must be a finite number"),
        ({"noise": "0.1"}, "noise must be a finite number"),
        ({"random_state": -1}, "random_state must be a non-negative int"),
        ({"random_state": "seed"}, "random_state must be a non-negative int"),
        ({"ranges": "papers"}, "ranges must be 'table', 'paper' or a dict, got 'papers'"),
        ({"name": "I.10.7", "ranges": "paper"}, "ranges='paper' is known for .*not for I.10.7"),
        ({"ranges": {"x": (0, 1)}}, r"I.12.5 has no variable 'x'; it has \['q2', 'Ef'\]"),
        ({"ranges": {"q2": (1, 1)}}, r"ranges\['q2'\] must be \(low, high\) with low < high"),
        ({"ranges": {"q2": (0, np.inf)}}, r"ranges\['q2'\] must be"),
        ({"ranges": {"q2": 3}}, r"ranges\['q2'\] must be"),
        ({"ranges": 3}, "ranges must be 'table', 'paper' or a dict, got 3"),
        ({"name": "I.26.2", "ranges": {"n": (2, 3)}}, "I.26.2 is not finite in .*Narrow"),
    ],
)
def test_errors_name_the_rule(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_feynman(**{"name": "I.12.5", "n_samples": 100, "random_state": 0} | arguments)


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("-2**2 + 9/3", -1.0),
        ("hypot(a, 4)*2", 10.0),
        ("sqrt(a + pi - pi)", 3**0.5),
        (" 2.5e0 ", 2.5),
    ],
)
def test_formulas_are_arithmetic(formula, value):
    equation = Equation("own", (), "y", "", formula, (Variable("a", "", (0, 9), None),))
    assert equation(np.array([[3.0]])) == pytest.approx(value)


@pytest.mark.parametrize(
    ("formula", "rule"),
    [
        ("__import__('os').getcwd()", "may not hold"),
        ("().__class__", r"may not hold '\(\).__class__'"),
        ("a.dtype", "may not hold 'a.dtype'"),
        ("open('x')", "may not hold"),
        ("[a for a in (1,)]", "may not hold"),
        ("a < 3", "may not hold"),
        ("'a'", "may not hold"),
        ("b + 1", r"may not hold 'b'; it knows \['a', 'pi'\]"),
        ("a +", "is no arithmetic"),
        ("a = 3", "is no arithmetic"),
        ("", "is no arithmetic"),
    ],
)
def test_formulas_that_are_more_than_arithmetic_are_not_run(formula, rule):
    equation = Equation("own", (), "y", "", formula, (Variable("a", "", (0, 9), None),))
    with pytest.raises(ValueError, match=rule):
        equation(np.array([[3.0]]))


def test_names_need_known_ranges():
    with pytest.raises(ValueError, match="ranges must be 'table' or 'paper', got 'kan'"):
        feynman_names("kan")


def test_the_folder_imports_numpy_alone():
    folder = Path(sklearn_metakan.datasets.__file__).parent
    for path in folder.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            tops = {name.split(".")[0] for name in names}
            assert tops <= {"numpy", "sklearn_metakan", *sys.stdlib_module_names}
