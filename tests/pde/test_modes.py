"""Eigenvalue problems: where eigenvalues are, and modes that are fitted to them."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

import sklearn_metakan
from sklearn_metakan.pde import (
    Ball,
    Box,
    Dirichlet,
    Integral,
    Interval,
    KANPDESolver,
    MetaKANPDESolver,
    Neumann,
    Periodic,
    SolutionDisplay,
)
from sklearn_metakan.pde.solve.ritz import nearest_eigenvalues

QUICK = {"hidden_layer_sizes": (6,), "n_interior": 200, "n_boundary": 40, "max_iter": 0}
QUICK |= {"lm_iter": 40, "sampling": "sobol", "random_state": 0, "device": "cpu", "hard": True}
SQUARE = Box([0, 0], [1, 1])


def string(x, u, k):
    return u.laplacian() + k * u.value


def oscillator(x, u, k):  # -u''/2 + x^2 u / 2 = k u
    return -u.d(0, 0) / 2 + x[:, 0] ** 2 * u.value / 2 - k * u.value


def downwards(x, u, k):
    return u.laplacian() - k * u.value


def first(residual, domain, conditions, count, near=None, kind=KANPDESolver, **settings):
    settings = {"conditions": conditions, "pde_params": {"k": 1.0}, **QUICK, **settings}
    return nearest_eigenvalues(kind(residual, domain=domain, **settings), "k", near, count)


PI2 = np.pi**2
KNOWN = {
    "string": (string, Interval(0, 1), [Dirichlet()], [PI2, 4 * PI2, 9 * PI2]),
    "downwards": (downwards, Interval(0, 1), [Dirichlet()], [-PI2, -4 * PI2, -9 * PI2]),
    "free": (string, Interval(0, 2), [Neumann()], [0, PI2 / 4, PI2]),
    "ring": (string, Interval(0, 1), [Periodic(0)], [0, 4 * PI2, 4 * PI2]),
    "oscillator": (oscillator, Interval(-8, 8), [Dirichlet()], [0.5, 1.5, 2.5]),
    "square": (string, SQUARE, [Dirichlet()], [2 * PI2, 5 * PI2, 5 * PI2]),
    "disc": (string, Ball([0, 0]), [Dirichlet()], [5.783186, 14.681971, 14.681971]),
}


@pytest.mark.parametrize("name", KNOWN)
def test_eigenvalues_of_matrices(name):
    *problem, wanted = KNOWN[name]
    np.testing.assert_allclose(first(*problem, 3), wanted, rtol=1e-4, atol=1e-4)


def test_eigenvalues_where_conditions_are_losses():
    *problem, wanted = KNOWN["square"]
    np.testing.assert_allclose(first(*problem, 3, hard=False), wanted, rtol=1e-4)


def test_those_nearest_to_a_number():
    found = first(string, Interval(0, 1), [Dirichlet()], 2, near=95.0)
    np.testing.assert_allclose(found, [9 * PI2, 4 * PI2], rtol=1e-4)


def test_a_system():
    """u' = v and v' = -k u: the string as two equations."""

    def equations(x, u, k):
        return u[0].d(0) - u[1].value, u[1].d(0) + k * u[0].value

    ends = [Dirichlet(0.0, output=0)]
    found = first(equations, Interval(0, 1), ends, 2, n_outputs=2, hard=False)
    np.testing.assert_allclose(found, [PI2, 4 * PI2], rtol=1e-3)


def modes(count, residual=string, domain=None, kind=KANPDESolver, **settings):
    given = {"domain": domain or Interval(0, 1), "conditions": [Dirichlet()], "eigenvalue": "k"}
    return kind(residual, **given | {"n_modes": count} | QUICK | settings).fit()


@pytest.fixture(scope="module")
def strings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        return modes(3, lm_iter=25, n_interior=120)


def test_three_modes_of_a_string(strings):
    np.testing.assert_allclose(strings.eigenvalues_, [PI2, 4 * PI2, 9 * PI2], rtol=2e-3)
    x = np.linspace(0, 1, 101)
    u = strings.predict(x[:, None])
    assert u.shape == (101, 3)
    exact = np.sqrt(2) * np.sin(np.pi * x[:, None] * [1, 2, 3])
    signs = np.sign((u * exact).sum(0))
    np.testing.assert_allclose(signs * u, exact, atol=0.05)
    assert np.allclose(np.trapezoid(u**2, x, axis=0), 1, atol=1e-3)


def test_attributes_of_modes(strings):
    assert len(strings.modes_) == 3
    assert strings.n_iter_ == sum(mode.n_iter_ for mode in strings.modes_)
    assert strings.n_parameters_ == 3 * strings.modes_[0].n_parameters_
    assert strings.pde_params_["k"] == strings.eigenvalues_[0]
    assert strings.predict_residual([[0.3]]).shape == (1, 3)
    assert -1 < strings.score() < 0
    assert strings.predict_derivative([[0.3]], (0, 0)).shape == (1, 3)
    SolutionDisplay.from_estimator(strings)


def test_modes_in_pickles_and_files(strings, tmp_path):
    x = np.linspace(0, 1, 7)[:, None]
    for again in (pickle.loads(pickle.dumps(strings)), saved(strings, tmp_path)):
        np.testing.assert_array_equal(again.predict(x), strings.predict(x))
        np.testing.assert_array_equal(again.eigenvalues_, strings.eigenvalues_)


def saved(solver, folder):
    solver.save(folder / "modes")
    return sklearn_metakan.load(folder / "modes", residual=string)


def test_one_mode_is_a_function():
    """With generated coefficients; a second fit forgets it."""
    solver = modes(1, oscillator, Interval(-6, 6), MetaKANPDESolver, hidden_layer_sizes=(8,))
    assert solver.eigenvalues_ == pytest.approx([0.5], rel=5e-3)
    x = np.linspace(-2, 2, 21)
    found = solver.predict(x[:, None])
    assert found.shape == (21,)
    np.testing.assert_allclose(np.abs(found), np.pi**-0.25 * np.exp(-(x**2) / 2), atol=0.02)
    settings = {"eigenvalue": None, "pde_params": {"k": 1.0}, "lm_iter": 1}
    assert not hasattr(clone(solver).set_params(**settings).fit(), "modes_")


def test_modes_of_one_eigenvalue_are_orthogonal():
    """Of the square the second and third."""
    solver = modes(3, domain=SQUARE, n_interior=600, lm_iter=30, basis="chebyshev")
    np.testing.assert_allclose(solver.eigenvalues_, np.array([2, 5, 5]) * PI2, rtol=5e-3)
    x = SQUARE.sample(4000, method="grid").numpy()
    u = solver.predict(x)
    np.testing.assert_allclose(u.T @ u / len(u), np.eye(3), atol=0.03)


REFUSED = {
    "zero for u = 0": {"conditions": [Dirichlet(1.0)]},
    "and residual.* is not: .*sources": {"residual": lambda x, u, k: u.d(0, 0) + k * u.value + 1},
    "not linear in k": {"residual": lambda x, u, k: u.laplacian() + k**2 * u.value},
    "not linear in u": {"residual": lambda x, u, k: u.laplacian() + k * u.value + u.value**3},
    "does not depend on k": {"residual": lambda x, u, k: u.laplacian() + u.value + 0 * k},
    "only 0 real": {"residual": lambda x, u, k: u.d(0) + k * u.value},
    "does not go with pde_params with": {"pde_params": {"k": 1.0, "a": 1.0}},
    "does not go with windows": {"windows": 2},
    "does not go with warm_start": {"warm_start": True},
    "needs eigenvalue=": {"eigenvalue": None},
    "of 4 inputs": {"domain": Box([0] * 4, [1] * 4)},
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_eigenvalue_problem(text):
    settings = {"residual": string, "count": 2} | REFUSED[text]
    with pytest.raises((ValueError, TypeError), match=text):
        modes(**settings)


def test_observations_are_refused():
    with pytest.raises(ValueError, match="X, y or sample_weight"):
        KANPDESolver(string, domain=Interval(0, 1), eigenvalue="k").fit([[0.5]], [1.0])


def test_an_equation_that_is_not_linear_starts_where_it_is_told():
    """u'' + k u = u^3 with the length one: k is above that of the string by about 3/2."""
    solver = modes(
        1, lambda x, u, k: u.laplacian() + k * u.value - u.value**3, pde_params={"k": 11.0}
    )
    assert solver.eigenvalues_[0] == pytest.approx(PI2 + 1.5, abs=0.02)


def test_own_integrals_are_kept():
    """Without the constant: the second mode of the free string is the first."""
    conditions = [Neumann(), Integral(lambda x, u: u.value, name="mass")]
    assert first(string, Interval(0, 2), conditions, 1)[0] == pytest.approx(PI2 / 4, rel=1e-4)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_ansatz_alone_will_do():
    settings = QUICK | {"hard": False, "ansatz": lambda x, u: x[:, 0] * (1 - x[:, 0]) * u}
    model = KANPDESolver(
        string, domain=Interval(0, 1), conditions=None, eigenvalue="k", **settings
    ).fit()
    np.testing.assert_allclose(model.eigenvalues_, PI2, rtol=1e-3)
