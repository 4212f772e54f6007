"""One optimiser after the other, each within its share of the time."""

import warnings

import pytest
from sklearn.exceptions import ConvergenceWarning

from sklearn_metakan.pde import Dirichlet, Interval, KANPDESolver
from sklearn_metakan.pde.solve import stages


def string(**settings):
    return KANPDESolver(
        lambda x, u: u.d(0, 0) + 1, domain=Interval(0, 1), conditions=[Dirichlet(0.0)],
        hidden_layer_sizes=(4,), n_interior=60, random_state=0, device="cpu", **settings,
    )  # fmt: skip


def test_a_share_of_the_time_that_is_too_short_for_a_step_is_no_failure(monkeypatch):
    """Another optimiser goes on."""
    monkeypatch.setattr(stages, "AUTO_SHARE", 1e-9)
    monkeypatch.setitem(stages.AUTO_ITERATIONS, "lm_iter", 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        solver = string(time_limit=600).fit()
    assert abs(float(solver.predict([[0.5]])[0]) - 0.125) < 1e-3


def test_a_time_limit_that_is_too_short_for_a_step_says_so():
    with pytest.warns(ConvergenceWarning, match="time_limit=1e-09 ended training"):
        string(time_limit=1e-9, max_iter=100).fit()
