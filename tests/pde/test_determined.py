"""Constants that nothing determines."""

import warnings
from math import pi

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from sklearn_metakan.pde import (
    Dirichlet,
    Initial,
    Interval,
    KANPDESolver,
    MetaKANPDESolver,
    Positive,
    SpaceTime,
)

QUICK = {"hidden_layer_sizes": (6,), "n_interior": 300, "n_boundary": 60, "n_initial": 60}
QUICK |= {"max_iter": 0, "lm_iter": 20, "sampling": "sobol", "hard": True, "random_state": 0}
QUICK |= {"device": "cpu"}


def decay(x, u, rate):
    return u.dt() + rate * u.value


DECAY = {"residual": decay, "domain": Interval(0, 1), "variables": ("t",)}
DECAY |= {"conditions": [Initial(1.0)]}


def heat(x, u, diffusion):
    return u.dt() - diffusion * u.d("x", "x")


HEAT = {"residual": heat, "domain": SpaceTime(Interval(0, 1), 0.0, 1.0), "variables": ("x", "t")}
HEAT |= {"conditions": [Initial(lambda x: (pi * x[:, 0]).sin()), Dirichlet(0.0)]}


def beam(x, u, load, stiffness):  # their ratio is all that shows
    return stiffness * u.d(0, 0) + load


BEAM = {"residual": beam, "domain": Interval(0, 1), "conditions": [Dirichlet(0.0)]}

FREE = {
    "in time": (DECAY, {"rate": 2.0}),
    "from zero": (DECAY, {"rate": 0.0}),
    "positive": (DECAY, {"rate": Positive(2.0)}),
    "in space and time": (HEAT, {"diffusion": 0.1}),
}


@pytest.mark.parametrize(("problem", "constants"), FREE.values(), ids=FREE)
@pytest.mark.parametrize("kind", [KANPDESolver, MetaKANPDESolver])
def test_without_observations_it_says_so(kind, problem, constants):
    solver = kind(**problem, **QUICK, pde_params=constants)
    with pytest.warns(ConvergenceWarning, match=rf"Not determined.*{[*constants]}.*fit\(X, y\)"):
        solver.fit()


SEEN = {
    "in time": (DECAY, {"rate": 2.0}, [[0.7]], [np.exp(-2.1)], 3.0),
    "to zero": (DECAY, {"rate": 1.0}, [[0.7]], [1.0], 0.0),
    "positive": (DECAY, {"rate": Positive(2.0)}, [[0.7]], [np.exp(-2.1)], 3.0),
    "in space and time": (
        HEAT, {"diffusion": 0.1}, [[0.4, 0.8]], [np.sin(0.4 * pi) * np.exp(-(pi**2) * 0.04)], 0.05,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("problem", "constants", "X", "y", "exact"), SEEN.values(), ids=SEEN)
def test_one_observation_is_enough(problem, constants, X, y, exact):
    solver = KANPDESolver(**problem, **QUICK, pde_params=constants)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        solver.fit(X, y)
    assert next(iter(solver.pde_params_.values())) == pytest.approx(exact, rel=1e-2, abs=1e-2)


def test_both_are_named_where_their_ratio_alone_shows():
    constants = {"load": Positive(1.0), "stiffness": Positive(0.5)}
    solver = KANPDESolver(**BEAM, **QUICK, pde_params=constants)
    with pytest.warns(ConvergenceWarning, match="load.*stiffness"):
        solver.fit([[0.5], [0.2]], [1 / 8, 0.08])
    found = solver.pde_params_
    assert found["load"] / found["stiffness"] == pytest.approx(1.0, rel=1e-2)


def test_noise_hides_nothing():
    """A constant is known from many poor observations."""
    x = np.linspace(0, 1, 200)
    y = np.exp(-x) + 0.1 * np.random.default_rng(0).standard_normal(200)
    solver = KANPDESolver(**DECAY, **QUICK, pde_params={"rate": 0.3})
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        solver.fit(x[:, None], y)
    assert solver.pde_params_["rate"] == pytest.approx(1.0, abs=0.2)
