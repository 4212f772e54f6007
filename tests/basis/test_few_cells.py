"""Sums of powers are the splines of the same grid, where a cell is looked for."""

import pytest
import torch

from sklearn_metakan.basis import BSplineBasis


@pytest.mark.parametrize("extrapolation", ["linear", "constant"])
@pytest.mark.parametrize("degree", [1, 2, 3, 4])
@pytest.mark.parametrize("grid_size", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_same_as_with_a_cell(grid_size, degree, extrapolation, dtype):
    basis = BSplineBasis(3, grid_size, degree, (-0.7, 1.3), extrapolation, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.randn(65, 3, dtype=dtype, generator=generator)
    with_cells = basis.values(x, 0, 0, basis._on_cells(x, 0, 0, 0))
    slopes = basis.values(x, 0, 1)
    close = {"rtol": 0.0, "atol": 200 * torch.finfo(dtype).eps}
    torch.testing.assert_close(basis.evaluate(x), with_cells, **close)
    for functions_first, axes in ((True, (2, 1, 0)), (False, (2, 0, 1))):
        features, kept = basis.linearize(x, functions_first, True)
        torch.testing.assert_close(features.permute(axes), with_cells, **close)
        grad = torch.randn(features.shape, dtype=dtype, generator=generator)
        wanted = (grad.permute(axes) * slopes).sum(-1)
        torch.testing.assert_close(basis.pull(grad, kept), wanted, **close)


def test_inputs_outside_are_refused():
    basis = BSplineBasis(1, 2, 2, extrapolation="error")
    with pytest.raises(ValueError, match="outside the grid"):
        basis.linearize(torch.tensor([[2.0]]), True, True)
