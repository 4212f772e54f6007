"""The change of basis: the same function where it can be, else the closest; always finite."""

import numpy as np
import pytest
import torch

from sklearn_metakan.basis import BSplineBasis, make_basis, refit_matrix

F64 = torch.float64
EXTRAPOLATIONS = ["linear", "base", "constant", "error"]
KNOTS = {
    "shared": (-1.0, 1.0),
    "ends": [[-1.0, 1.0], [2.0, 9.0]],
    "own": [[0.0, 0.1, 0.2, 2.0], [-4.0, 3.0, 5.0, 6.0]],
}
each_extrapolation = pytest.mark.parametrize("extrapolation", EXTRAPOLATIONS)


def points(basis, n=200, beyond=0.5):
    """On the grid, and beyond it where finer grids continue alike."""
    low, high = basis.domain.double().T
    share = torch.rand(n, len(low), dtype=F64, generator=torch.Generator().manual_seed(0))
    beyond = beyond if basis.extrapolation in ("linear", "constant") else 0.0
    return low + ((1 + 2 * beyond) * share - beyond) * (high - low)


def function(basis, weights, x, derivative=0):
    """sum_c w_ic B_c(x_i), (n, in)."""
    return torch.einsum("nic,ic->ni", basis.evaluate(x, derivative=derivative), weights)


def draw_weights(basis, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, basis.n_functions, dtype=F64, generator=generator)


def carried(old, new, weights):
    return (refit_matrix(old, new) @ weights[..., None])[..., 0]


@each_extrapolation
@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("knots", KNOTS)
@pytest.mark.parametrize("times", [2, 3])
def test_nested_knots_keep_the_function(degree, knots, extrapolation, times):
    old = BSplineBasis(2, 3, degree, KNOTS[knots], extrapolation, F64)
    new = old.refined(3 * times)
    x, weights = points(old), draw_weights(old)
    for order in range(degree):
        expected = function(old, weights, x, order)
        found = function(new, carried(old, new, weights), x, order)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@each_extrapolation
@pytest.mark.parametrize("grid_size", [4, 5, 7])
def test_own_knots_stay_whatever_the_number_of_cells(extrapolation, grid_size):
    old = BSplineBasis(2, 3, 3, KNOTS["own"], extrapolation, F64)
    new = old.refined(grid_size)
    for before, after in zip(old.knots, new.knots, strict=True):
        assert np.isin(before, after).all()
    x, weights = points(old), draw_weights(old)
    found = function(new, carried(old, new, weights), x)
    torch.testing.assert_close(found, function(old, weights, x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mother", ["mexican_hat", "morlet", "dog", "shannon"])
def test_levels_of_wavelets_are_among_those_of_twice_as_many_cells(mother):
    old = make_basis(mother, 2, grid_size=3, dtype=F64)
    new = old.refined(6)
    x, weights = points(old, beyond=0.0), draw_weights(old)
    found = function(new, carried(old, new, weights), x)
    torch.testing.assert_close(found, function(old, weights, x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["chebyshev", "legendre", "gram"])
def test_polynomials_have_no_cells(name):
    old = make_basis(name, 2, dtype=F64)
    for grid_size in (2, 9):
        matrix = refit_matrix(old, old.refined(grid_size))
        torch.testing.assert_close(matrix[0], torch.eye(old.n_functions, dtype=F64))


@pytest.mark.parametrize("extrapolation", ["linear", "base", "constant"])
@pytest.mark.parametrize("name", ["bspline", "rbf", "gram"])
def test_other_grids_hold_the_closest_function(name, extrapolation):
    """The residual is orthogonal to every function that may change."""
    old = make_basis(name, 2, grid_size=3, extrapolation=extrapolation, dtype=F64)
    new = old.with_grid(5, torch.tensor([-0.7, 1.1]))
    margin = 0.0 if extrapolation == "base" else 1.8 / new.n_functions
    nodes = (torch.arange(200_000, dtype=F64) + 0.5) / 200_000
    x = (-0.7 - margin + nodes * (1.8 + 2 * margin))[:, None].expand(-1, 2)
    weights = draw_weights(old)
    found = carried(old, new, weights)
    assert torch.equal(found[:, 0], weights[:, 0])  # silu
    residual = function(new, found, x) - function(old, weights, x)
    assert residual.abs().max() > 1e-4
    slopes = torch.einsum("ni,nic->ic", residual, new.evaluate(x))[:, 1:] / len(x)
    assert slopes.abs().max() < 1e-8


def test_inputs_of_one_shape_share_one_matrix():
    shared = BSplineBasis(3, 3, dtype=F64)
    assert refit_matrix(shared, shared.refined(5)).shape == (1, 9, 7)
    apart = BSplineBasis(2, 3, knots=KNOTS["ends"], dtype=F64)
    first, second = refit_matrix(apart, apart.refined(5))
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first, refit_matrix(shared, shared.refined(5))[0])


@pytest.mark.parametrize("name", ["bspline", "rbf", "mexican_hat", "shannon", "chebyshev"])
@pytest.mark.parametrize("ends", [(-1e-4, 1e-4), (-1e6, 1e6), (5.0, 6.0), (-1.0, 100.0)])
def test_never_nan(name, ends):
    old = make_basis(name, 1, grid_size=4, dtype=F64)
    matrix = refit_matrix(old, old.with_grid(knots=torch.tensor(ends, dtype=F64)))
    assert matrix.isfinite().all()
    small = make_basis(name, 1, grid_size=4)
    assert refit_matrix(small, small.refined(7)).dtype == F64


def test_matrices_of_many_inputs_are_made_in_blocks(monkeypatch):
    knots = np.sort(np.random.default_rng(0).normal(size=(5, 4)), axis=1)
    old = BSplineBasis(5, 3, knots=knots, dtype=F64)
    expected = refit_matrix(old, old.refined(6))
    monkeypatch.setattr("sklearn_metakan.basis.refit._BLOCK", 1)
    torch.testing.assert_close(refit_matrix(old, old.refined(6)), expected)


def test_a_basis_keeps_its_kind_on_another_grid():
    old = BSplineBasis(2, 3, 2, KNOTS["own"], "constant", F64)
    new = old.with_grid()
    assert repr(new) == repr(old)
    assert torch.equal(new.breaks, old.breaks)
    assert old.with_grid(4, torch.tensor([0.0, 1.0])).uniform
    assert old.with_grid(dtype=torch.float32).breaks.dtype == torch.float32


@pytest.mark.parametrize("name", ["bspline", "rbf", "dog"])
def test_fewer_cells_raise(name):
    with pytest.raises(ValueError, match="from 5 to 4: a grid only becomes finer"):
        make_basis(name, 1, grid_size=5).refined(4)


def test_bases_of_different_inputs_raise():
    with pytest.raises(ValueError, match="as many inputs, got 1 and 2"):
        refit_matrix(BSplineBasis(1), BSplineBasis(2))
