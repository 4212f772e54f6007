"""Sums of powers are the splines of the same grid, where a cell is looked for."""

import pytest
import torch

from sklearn_metakan.basis import BSplineBasis


@pytest.mark.parametrize("extrapolation", ["linear", "constant"])
@pytest.mark.parametrize("degree", [1, 2, 3, 4])
@pytest.mark.parametrize("grid_size", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 4.0, 100.0])  # of the last, a cell is the unit of t
def test_same_as_with_a_cell(grid_size, degree, extrapolation, dtype, scale):
    knots = -0.7 * scale, 1.3 * scale
    basis = BSplineBasis(3, grid_size, degree, knots, extrapolation, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    x = 2 * scale * torch.randn(65, 3, dtype=dtype, generator=generator)
    with_cells = basis.values(x, 0, 0, basis._on_cells(x, 0, 0, 0))
    slopes = basis.values(x, 0, 1)
    close = {"rtol": 0.0, "atol": 200 * scale * torch.finfo(dtype).eps}
    torch.testing.assert_close(basis.evaluate(x), with_cells, **close)
    for functions_first, axes in ((True, (2, 1, 0)), (False, (1, 2, 0))):
        terms, matrix, kept = basis.linearize(x, functions_first, True)
        axis = [1 - functions_first]
        functions = torch.tensordot(matrix, terms, ([1], axis)).permute(2, 1, 0)
        torch.testing.assert_close(functions, with_cells, **close)
        grad = torch.randn((*x.shape, len(matrix)), dtype=dtype, generator=generator)
        of_terms = (grad @ matrix).permute(axes)
        wanted = (grad * slopes).sum(-1)
        torch.testing.assert_close(basis.pull(of_terms, kept), wanted, **close)


def test_inputs_outside_are_refused():
    basis = BSplineBasis(1, 2, 2, extrapolation="error")
    with pytest.raises(ValueError, match="outside the grid"):
        basis.linearize(torch.tensor([[2.0]]), True, True)


def test_autocast_does_not_round_functions():
    basis = BSplineBasis(3, 2, 2, dtype=torch.float32)
    x = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    wanted, (terms, _, kept) = basis.evaluate(x), basis.linearize(x, False, True)
    slopes = basis.pull(terms, kept)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(basis.evaluate(x), wanted)
        assert torch.equal(basis.linearize(x, False, True)[0], terms)
        assert torch.equal(basis.pull(terms, kept), slopes)
