"""One optimiser after the other, each within its share of the time."""

import time
import warnings

import pytest
from sklearn.exceptions import ConvergenceWarning

from sklearn_metakan.pde import Dirichlet, Interval, KANPDESolver, MetaKANPDESolver, Positive
from sklearn_metakan.pde.solve import stages
from sklearn_metakan.pde.solve.collocation import PATIENCE, Steps


def string(**settings):
    return KANPDESolver(
        lambda x, u: u.d(0, 0) + 1, domain=Interval(0, 1), conditions=[Dirichlet(0.0)],
        hidden_layer_sizes=(4,), n_interior=60, random_state=0, device="cpu", **settings,
    )  # fmt: skip


def test_a_share_of_the_time_that_is_too_short_for_a_step_is_no_failure(monkeypatch):
    """Another optimiser goes on."""
    monkeypatch.setattr(stages, "AUTO_SHARE", 1e-9)
    monkeypatch.setattr(stages, "MOST_LEAST_SQUARES", 0)
    monkeypatch.setitem(stages.AUTO_ITERATIONS, "ssbroyden_iter", 400)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        solver = string(time_limit=600).fit()
    assert abs(float(solver.predict([[0.5]])[0]) - 0.125) < 1e-3


def test_a_time_limit_that_is_too_short_for_a_step_says_so():
    with pytest.warns(ConvergenceWarning, match="time_limit=1e-09 ended training"):
        string(time_limit=1e-9, max_iter=100).fit()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_time_limit_ends_quasi_newton_methods_between_two_readings():
    """Losses are read every 100 of their iterations."""
    calls = []

    def slow(x, u):
        calls.append(len(x))
        time.sleep(0.05)
        return u.d(0, 0) + 1

    string(time_limit=1, max_iter=0, ssbroyden_iter=1000).set_params(residual=slow).fit()
    assert len(calls) < 100


def test_least_squares_start_at_once_with_few_points(monkeypatch):
    """Residuals just outnumber the parameters."""
    monkeypatch.setitem(stages.AUTO_ITERATIONS, "lm_iter", 5)
    seen = []

    def residual(x, u):
        seen.append(len(x))
        return u.d(0, 0) + 1

    solver = string().set_params(residual=residual, n_interior=600).fit()
    assert solver.n_iter_ == 5  # no AdamW
    few = round(stages.FEW * solver.n_parameters_)
    assert 600 not in seen[seen.index(few) :]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_generated_coefficients_alone_have_steps_of_adamw_first(monkeypatch):
    monkeypatch.setattr(stages, "AUTO_STEPS", 7)
    monkeypatch.setitem(stages.AUTO_ITERATIONS, "lm_iter", 2)
    settings = string().get_params()
    assert MetaKANPDESolver(**settings).fit().n_iter_ == 9
    settings["residual"] = lambda x, u, k: u.d(0, 0) + k
    for k in (Positive(1.0), 1.0):
        assert KANPDESolver(**settings | {"pde_params": {"k": k}}).fit().n_iter_ == 2


def steps_told(losses, share=0.25, every=2):
    steps = Steps(FewPoints(), None, [len(losses)], every, share)
    for loss, _ in zip(losses, steps, strict=True):
        steps.told(loss)
    return steps.share


class FewPoints:
    def draw(self, residual_size, share):
        return {}


def test_points_stay_few_while_the_loss_at_new_ones_falls():
    falling = [0.99**j for j in range(200)]
    assert steps_told(falling) == 0.25
    assert steps_told([1.0] * (PATIENCE + 4)) == 0.5
    assert steps_told([1.0] * 200) == 1.0
