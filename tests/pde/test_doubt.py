"""Errors that a small residual does not tell of."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from sklearn_metakan.pde import (
    Dirichlet,
    Initial,
    Interval,
    KANPDESolver,
    SpaceTime,
    problems,
)
from sklearn_metakan.pde.solve.doubt import FINE, POINTS, can_doubt, error_of_first_order

QUICK = {"hidden_layer_sizes": (8,), "n_interior": 200, "n_boundary": 60, "n_initial": 40}
QUICK |= {"max_iter": 0, "sampling": "sobol", "random_state": 0, "device": "cpu"}
IN_TIME = {"domain": Interval(0, 1), "variables": ("t",), "hard": True}


def estimated(solver):
    physics, count = solver._physics, FINE[solver.n_features_in_][0]
    counts = {"interior": POINTS * count, "boundary": count, "initial": count}
    batches = [solver._collocation(counts, seed).draw() for seed in (5, 6)]
    return error_of_first_order(physics, *batches, solver._sizes.weights())


def relative(solver, exact):
    x = np.linspace(0, 1, 501)[:, None]
    return np.sqrt(np.mean((solver.predict(x) - exact(x[:, 0])) ** 2)) / np.std(solver.predict(x))


@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("rate", [-3.0, 6.0])
def test_of_linear_equations_it_is_the_error(rate, hard):
    """u' = rate (u - sin 9t) + 9 cos 9t from 0, before it is solved."""

    def residual(x, u):
        s = 9 * x[:, 0]
        return u.dt() - rate * (u.value - s.sin()) - 9 * s.cos()

    settings = IN_TIME | {"hard": hard} | QUICK
    solver = KANPDESolver(residual, conditions=[Initial(0.0)], lm_iter=6, **settings).fit()
    error = relative(solver, lambda t: np.sin(9 * t))
    assert error > 1e-4
    assert estimated(solver) == pytest.approx(error, rel=0.1)


def hares_and_foxes(x, u):
    hares, foxes = u[0].value, u[1].value
    return (
        u[0].dt() - 20 * (2 * hares - 8 * hares * foxes),
        u[1].dt() - 20 * (4 * hares * foxes - 1.06 * foxes),
    )


def cycles(windows, **more):
    start = [Initial(0.5, output=0, name="hares"), Initial(0.075, output=1, name="foxes")]
    settings = IN_TIME | QUICK | {"n_outputs": 2, "basis": "chebyshev", "lm_iter": 40} | more
    return KANPDESolver(hares_and_foxes, conditions=start, windows=windows, **settings)


def test_cycles_that_went_astray_are_told_of():
    with pytest.warns(ConvergenceWarning, match=r"small as the residual is.*windows="):
        cycles(1, n_interior=400, hidden_layer_sizes=(10,), lm_iter=60).fit()


SOLVED = {
    "oscillator": {
        "residual": lambda x, u: u.d(0, 0) + u.value,
        "conditions": [Initial(0.0), Initial(1.0, order=1)],
        "domain": Interval(0, 9),
        "variables": ("t",),
    },
    "burgers": problems.Burgers(viscosity=0.05).settings | {"basis": "chebyshev"},
    "heat": {
        "residual": lambda x, u: u.dt() - 0.1 * u.laplacian(),
        "domain": SpaceTime(Interval(0, np.pi), 0, 2),
        "conditions": [Dirichlet(0.0), Initial(lambda x: x[:, 0].sin())],
        "hard": False,
    },
}


@pytest.mark.parametrize("name", SOLVED)
def test_what_is_solved_is_not_doubted(name):
    settings = QUICK | {"n_interior": 400, "lm_iter": 40, "hard": True} | SOLVED[name]
    settings["solution"] = None
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        solver = KANPDESolver(**settings).fit()
    assert estimated(solver) < 0.1


def test_in_space_alone_it_is_the_error_too():
    """A solution of u'' = -900 sin 30x, asked whether it is one of u'' = -900 sin 30x - 2."""

    def residual(x, u):
        return u.d(0, 0) + 900 * (30 * x[:, 0]).sin()

    settings = QUICK | {"hidden_layer_sizes": (16,), "hard": True, "lm_iter": 40}
    solver = KANPDESolver(
        residual, domain=Interval(0, 1), conditions=[Dirichlet(0.0)], **settings
    ).fit()
    x = np.linspace(0, 1, 501)
    spread = np.std(solver.predict(x[:, None]))
    assert estimated(solver) < 0.05
    solver._physics.residual = lambda x, u: residual(x, u) + 2
    away = np.sqrt(np.mean((x * (1 - x)) ** 2)) / spread
    assert estimated(solver) == pytest.approx(away, rel=0.1)


def test_where_there_is_no_estimate():
    """In many dimensions, for unknown constants, and where others differentiate functions."""
    solver = KANPDESolver(
        lambda x, u: u.laplacian() + 1, domain=Interval(0, 1), conditions=[Dirichlet(0.0)],
        lm_iter=1, **QUICK,
    ).fit()  # fmt: skip
    assert can_doubt(solver._physics, 1) and not can_doubt(solver._physics, 4)
    solver._physics.observe(np.zeros((1, 1)), None)
    assert not can_doubt(solver._physics, 1)
    solver.module_.time = True
    assert can_doubt(solver._physics, 1)
    solver.module_.ansatz = torch.mul
    assert not can_doubt(solver._physics, 1)
