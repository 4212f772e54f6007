"""Derivatives of silu equal nested autograd's."""

import pytest
import torch

from sklearn_metakan.basis._silu import silu


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("order", [0, 1, 2, 3, 4])
def test_equals_nested_autograd(dtype, order):
    t = torch.linspace(-12, 12, 101, dtype=torch.float64, requires_grad=True)
    expected = t * torch.sigmoid(t)
    for _ in range(order):
        (expected,) = torch.autograd.grad(expected.sum(), t, create_graph=True)
    got = silu(t.detach().to(dtype), order).double()
    # t, up to 12, times a polynomial of sigmoid with coefficients of up to 150 in sum
    tolerance = 12 * 150 * torch.finfo(dtype).eps
    torch.testing.assert_close(got, expected.detach(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_far_away_it_is_zero_or_the_identity(order):
    t = torch.tensor([-1e6, 1e6])
    assert silu(t, 0).tolist() == [0.0, t[1].item()]
    assert silu(t, order).tolist() == [0.0, 1.0 if order == 1 else 0.0]
