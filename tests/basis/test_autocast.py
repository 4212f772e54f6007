"""Inside autocast features are what they are outside: matrices alone are to be rounded."""

from typing import get_args

import pytest
import torch

from sklearn_metakan.basis import BasisName, make_basis

KNOTS = {"shared": (-1.0, 1.0), "ends": [[-1.0, 1.0], [0.0, 3.0], [-2.0, 0.5]]}


@pytest.mark.parametrize("name", get_args(BasisName))
@pytest.mark.parametrize("knots", KNOTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("derivative", [0, 1, 2])
def test_nothing_is_rounded(name, knots, dtype, derivative):
    basis = make_basis(name, 3, knots=KNOTS[knots], dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20, 3, generator=generator, dtype=dtype)
    grad = torch.randn(20, 3, basis.n_functions, generator=generator, dtype=dtype)

    def compute():
        both = basis.values_and_contract(grad, x, 0, derivative)
        contracted = basis.contract(grad, x, 0, derivative)
        evaluated = basis.evaluate(x, derivative=derivative)
        return [basis.values(x, 0, derivative), contracted, evaluated, *both]

    expected = compute()
    with torch.autocast("cpu", torch.bfloat16):
        got = compute()
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
