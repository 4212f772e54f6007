"""References of others' equations are solutions of them, and a row says what is compared."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.pde import cases, suite


@cache
def at(name, count=300):
    case = cases.CASES[name]()
    domain, generator = case.settings["domain"], torch.Generator().manual_seed(0)
    return case, domain.sample(count, generator, dtype=torch.float64).numpy()


@pytest.mark.parametrize("name", ["beam", "schroedinger", "kovasznay", "lorenz-forced"])
def test_references_are_of_the_shape_that_is_compared(name):
    case, x = at(name)
    exact = case.reference(x)
    k = case.settings.get("n_outputs", 1)
    assert exact.shape == ((len(x),) if k == 1 else (len(x), k))
    assert case.compared(exact).shape[0] == len(x)
    assert case.must is None or case.aim < case.must < 1


def test_lines_of_a_statement_are_its_settings_and_what_they_use():
    assert cases.statement_lines(cases.CASES["heat"]) == 6
    assert cases.statement_lines(cases.CASES["poisson-neumann"]) == 7
    assert cases.statement_lines(cases.CASES["burgers"]) is None


@pytest.mark.parametrize("name", ["schroedinger", "kdv"])
def test_waves_keep_their_mass(name):
    """The integrals of |h|^2 and u^2 do not change."""
    case, _ = at(name)
    (low, high), (t0, t1) = case.settings["domain"].bounds
    x = np.linspace(low, high, 400, endpoint=False)
    masses = [
        np.mean(case.compared(case.reference(np.stack([x, np.full_like(x, t)], 1))) ** 2)
        for t in np.linspace(t0, t1, 5)
    ]
    np.testing.assert_allclose(masses, masses[0], rtol=1e-5)


def test_the_l_shape_has_its_load_and_its_edge():
    case, x = at("l-shape")
    h = 1e-3
    steps = [h * np.array(step) for step in ([1, 0], [-1, 0], [0, 1], [0, -1])]
    inside = x[np.abs(x).max(1) < 0.9]
    inside = inside[(np.abs(inside) > 0.05).all(1)]
    bends = sum(case.reference(inside + step) for step in steps) - 4 * case.reference(inside)
    np.testing.assert_allclose(bends / h**2, -1, atol=1e-3)
    edge, _ = case.settings["domain"].sample_boundary(500, dtype=torch.float64)
    assert np.sqrt(np.mean(case.reference(edge.numpy()) ** 2)) < 5e-5


def test_a_row_says_how_far_off_a_solution_is():
    trial = suite.Trial("beam", "tuned", 0, "cpu", 3.0)
    row = suite.measure(trial)
    assert row.keys() == {*suite.RESULTS}
    assert 0 < row["error"] < 10 and row["parameters"] > 0
    rows = [trial._asdict() | row, trial._asdict() | row | {"seed": 1, "said_so": True}]
    text = "\n".join(suite.report(rows))
    assert "Setting: tuned." in text and "| beam |" in text and "1 of 2" in text
    assert (
        suite.error_of(Constants({"v_e": 1e-3, "K": 2e-3}), cases.CASES["brinkman-forchheimer"]())
        == 1.0
    )


class Constants:
    def __init__(self, found):
        self.pde_params_ = found


def test_a_trial_that_is_there_is_not_repeated(tmp_path, monkeypatch, capsys):
    row = {"error": 0.5, "parameters": 1, "iterations": 1, "seconds_taken": 1.0, "said_so": True}
    monkeypatch.setattr(suite, "measure", lambda trial: row)
    options = ["--cases", "kdv", "--seeds", "0", "--device", "cpu", "--out", str(tmp_path)]
    suite.main(options)
    monkeypatch.setattr(suite, "measure", None)
    suite.main(options)
    assert len(pd.read_csv(tmp_path / "suite.csv")) == 2
    assert "SHORT by a factor 1e+03" in (tmp_path / "suite.md").read_text(encoding="utf-8")
