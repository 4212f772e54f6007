"""What counts as recovered, the cases, and the table."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import sympy

from benchmarks import symbolic
from sklearn_metakan.datasets import feynman_names, make_feynman


@pytest.mark.parametrize(
    ("found", "is_recovered"),
    [
        ("0.159155*h*omega", True),
        ("h*omega/(2*pi)", True),
        ("0.1593*h*omega", True),
        ("0.165*h*omega", False),
        ("0.159155*h*omega + 0.001", False),
        ("0.159155*h*sin(omega)", False),
        ("0.159155*h", False),
        ("0.159155*h**1.0001*omega", True),
    ],
)
def test_three_digits_of_constants_and_the_whole_form(found, is_recovered):
    case = symbolic.case("I.34.27", 0.0)
    assert symbolic.recovered(sympy.sympify(found), case) == is_recovered


@pytest.mark.parametrize("name", [*symbolic.CHOSEN, *feynman_names()[::9]])
def test_a_rule_recovers_itself(name):
    case = symbolic.case(name, 0.0)
    assert case.X.shape[0] == symbolic.N_ROWS and np.isfinite(case.y).all()
    assert symbolic.recovered(case.rule, case)
    if name not in symbolic.OWN:
        X, y = make_feynman(name, symbolic.N_ROWS, random_state=0)
        np.testing.assert_array_equal(X, case.X)
        np.testing.assert_allclose(y, case.y, rtol=1e-9)


def test_noise_is_a_share_of_the_spread():
    exact, noisy = (symbolic.case("x y", noise).y for noise in (0.0, 0.1))
    assert np.std(noisy - exact) == pytest.approx(0.1 * np.std(exact), rel=0.1)


def test_the_table_counts_what_was_found():
    row = {"function": "x y", "noise": 0.0, "model": "KAN", "formula": "x*y", "error": 0.0}
    row |= dict.fromkeys(["network", "fit_seconds", "prune_seconds", "read_seconds"], 1.0)
    rows = pd.DataFrame(
        [
            row | {"found": "yes", "numbers": 9, "pruned": 4},
            row | {"function": "x / y", "found": "no", "numbers": 9, "pruned": 4},
        ]
    )
    versions, counts, functions = symbolic.report(rows)
    assert "sympy" in versions
    assert "| KAN | 0 | chosen | 1 of 2 | 3 | 3 |" in counts
    assert "| x y | 0 | yes | `x*y` |" in functions and len(functions.splitlines()) == 4


def test_a_run_from_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(symbolic.MODELS, "KAN", lambda **given: symbolic.KANRegressor(
        (6,), n_estimators=1, max_iter=60, **given))  # fmt: skip
    monkeypatch.setattr(symbolic, "N_ROWS", 200)
    symbolic.main(["--functions", "x / y", "--model", "KAN", "--out", str(tmp_path)])
    assert "1 of 1" in capsys.readouterr().out
    assert pd.read_csv(tmp_path / "symbolic.csv").found.tolist() == ["yes"]


def test_edges_that_sparsity_leaves(tmp_path, monkeypatch, capsys):
    quick = {name: partial(model, max_iter=2) for name, model in symbolic.MODELS.items()}
    monkeypatch.setattr(symbolic, "MODELS", quick)
    symbolic.main(["--sparsity", "0", "100", "--out", str(tmp_path)])
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header == "| model | sparsity | edges | error |"
    cells = [row.strip("| ").split(" | ") for row in rows]
    assert [row[:2] for row in cells] == [[m, s] for m in symbolic.MODELS for s in ("0", "100")]
    assert all(1 <= int(n) <= 64 for row in cells for n in row[2].split(", "))
