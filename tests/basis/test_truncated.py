"""Truncated powers span the splines: the same values, slopes and ways back, inside and beyond."""

import pytest
import torch

from sklearn_metakan.basis import BSplineBasis
from sklearn_metakan.basis._truncated import spans

ENDS = {"shared": (-1.0, 1.0), "own": [[-1.0, 1.0], [0.0, 3.0], [-2.0, 0.5]]}
SIZES = [(1, 2), (2, 3), (3, 5), (4, 3), (5, 2), (5, 3), (9, 2)]  # cells, degree
each_grid = pytest.mark.parametrize("ends", ENDS)
each_size = pytest.mark.parametrize(("cells", "degree"), SIZES)
each_extrapolation = pytest.mark.parametrize("extrapolation", ["linear", "constant"])


class FromPowers:
    """Splines as sums of truncated powers."""

    def __init__(self, basis, highest):
        self.functions, self.matrix = basis.in_other_functions(highest)

    def values(self, *call):
        return self.functions.values(*call) @ self.matrix

    def contract(self, grad, *call):
        return self.functions.contract(grad @ self.matrix.T, *call)

    def values_and_contract(self, grad, *call):
        values, contracted = self.functions.values_and_contract(grad @ self.matrix.T, *call)
        return values @ self.matrix, contracted


def both(ends, cells=5, degree=3, extrapolation="linear", dtype=torch.float64):
    """From truncated powers, and the naive twin: splines on each cell, put into their places."""
    local = BSplineBasis(3, cells, degree, ENDS[ends], extrapolation, dtype)
    return FromPowers(local, degree - 1), local


def draw(*shape, dtype=torch.float64):
    return 1.5 * torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


@each_grid
@each_size
@each_extrapolation
def test_equal_local_splines(ends, cells, degree, extrapolation):
    basis, local = both(ends, cells, degree, extrapolation)
    x, grad = draw(200, 3), draw(200, 3, local.n_functions)
    for m in range(degree):
        want = local.values(x, 0, m)
        torch.testing.assert_close(basis.values(x, 0, m), want, rtol=1e-11, atol=1e-11)
        want = local.contract(grad, x, 0, m)
        torch.testing.assert_close(basis.contract(grad, x, 0, m), want, rtol=1e-10, atol=1e-10)
    for m in range(degree - 1):
        values, contracted = basis.values_and_contract(grad, x, 0, m)
        assert torch.equal(values, basis.values(x, 0, m))
        assert torch.equal(contracted, basis.contract(grad, x, 0, m + 1))


@each_grid
def test_equal_in_float32_to_the_digits_that_it_has(ends):
    basis, _ = both(ends, dtype=torch.float32)
    _, local = both(ends)
    x = draw(500, 3, dtype=torch.float32)
    for m in range(3):
        want = local.values(x.double(), 0, m)
        error = (basis.values(x, 0, m) - want).abs().max() / want.abs().max()
        assert error < 1e-5


@each_grid
def test_a_block_of_inputs(ends):
    basis, local = both(ends)
    x = draw(50, 2)
    torch.testing.assert_close(basis.values(x, 1, 0), local.values(x, 1, 0))


@each_extrapolation
def test_far_away_and_nan(extrapolation):
    basis, _ = both("own", extrapolation=extrapolation)
    x = torch.tensor([[1e9, -1e9, 0.1], [float("nan"), 0.0, -0.2]], dtype=torch.float64)
    for m in range(3):
        values = basis.values(x, 0, m)
        assert values[0].isfinite().all() and values[1, 1:].isfinite().all()
        flat = m > (1 if extrapolation == "linear" else 0)
        assert flat or values[1, 0].isnan().any()


@each_extrapolation
def test_infinite_inputs_are_as_far_as_they_can_be(extrapolation):
    basis, _ = both("shared", extrapolation=extrapolation)
    x = torch.tensor([[float("inf"), -float("inf"), 0.5]], dtype=torch.float64)
    values = basis.values(x, 0, 0)
    assert values[0, 2].isfinite().all()
    assert values[0, :2].isfinite().all() == (extrapolation == "constant")


def test_error_beyond_the_grid():
    basis, _ = both("own", extrapolation="error")
    ends = torch.tensor([[-1.0, 3.0, -2.0]], dtype=torch.float64)
    assert basis.values(ends, 0, 0).isfinite().all()
    with pytest.raises(ValueError, match="outside the grid"):
        basis.values(ends + 0.1, 0, 0)


@pytest.mark.parametrize(
    ("change", "derivative"),
    [
        ({"grid_size": 20}, 0),
        ({"degree": 1}, 0),
        ({"extrapolation": "base"}, 0),
        ({"knots": [[-1.0, 0.0, 2.0], [0.0, 1.0, 3.0], [0.0, 1.0, 2.0]], "grid_size": 2}, 0),
        ({}, 3),
    ],
)
def test_other_splines_are_made_cell_by_cell(change, derivative):
    assert BSplineBasis(3, **change).in_other_functions(derivative) is None


def test_few_cells_alone_keep_their_digits():
    assert spans(5, 3, 2)
    assert not spans(8, 3, 0)
    assert not spans(5, 5, 0)
