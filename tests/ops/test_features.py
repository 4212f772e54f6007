"""Sums of a basis' functions, D^T B: a linear meta-learner's, and what its dictionary learns."""

import pytest
import torch

from sklearn_metakan.basis import BSplineBasis
from sklearn_metakan.nn import KANLinear, MetaCoefficients, MetaLearner


def draw(*shape, dtype=torch.float64):
    return 1.5 * torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


def dictionary_gradient(x, backend, dtype, knots=(-1.0, 1.0)):
    learner = MetaLearner(2, 0, 9)
    source = MetaCoefficients(x.shape[1], 4, learner)
    layer = KANLinear(x.shape[1], 4, BSplineBasis(x.shape[1], knots=knots), source, backend=backend)
    for parameter in layer.parameters():
        generator = torch.Generator().manual_seed(3)
        torch.nn.init.normal_(parameter, generator=generator)
    layer.to(dtype)
    y = layer(x.to(dtype))
    y.backward(torch.cos(torch.arange(y.numel(), dtype=dtype)).view(y.shape))
    return y.detach().double(), learner.output_weight.grad.double()


def test_a_dictionary_learns_nothing_of_splines_that_no_input_reaches():
    x = torch.rand(500, 8, generator=torch.Generator().manual_seed(0)) * 0.3 - 1.0
    _, gradient = dictionary_gradient(x, "blocked", torch.float32)
    assert gradient[1 + 4 :].eq(0.0).all() and gradient[:5].ne(0.0).all()


def test_an_input_far_away_does_not_drown_the_others():
    x = draw(2000, 8).div(3).clamp(-1, 1)
    x[0, 0] = 1e6
    _, want = dictionary_gradient(x, "reference", torch.float64)
    errors = {}
    for backend in ("reference", "blocked"):
        _, got = dictionary_gradient(x, backend, torch.float32)
        errors[backend] = (got - want).abs().amax(1) / want.abs().amax(1)
    assert (errors["blocked"] < errors["reference"].mul(2) + 2e-5).all()


def test_a_grid_far_from_zero_keeps_its_digits():
    knots = (1000.1, 1001.3)
    x = (1000.2 + draw(300, 3).abs() / 5).float()
    want, _ = dictionary_gradient(x, "reference", torch.float32, knots)
    got, _ = dictionary_gradient(x, "blocked", torch.float32, knots)
    assert (got - want).abs().max() / want.abs().max() < 2e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_layer_cast_to_double_computes_in_double(dtype):
    source = MetaCoefficients(3, 4, MetaLearner(2, 0, 9, dtype=dtype), dtype=dtype)
    layer = KANLinear(3, 4, BSplineBasis(3, dtype=dtype), source, dtype=dtype).double()
    assert torch.equal(layer.basis.polynomials, BSplineBasis(3, dtype=torch.float64).polynomials)
    found = []
    for backend in ("reference", "blocked"):
        layer.backend = backend
        found.append(layer(draw(300, 3)))
    torch.testing.assert_close(*found, rtol=0, atol=1e-14 * found[0].abs().max().item())


def test_the_default_device_does_not_matter():
    layer = KANLinear(3, 2, source=MetaCoefficients(3, 2, MetaLearner(2, 0, 9)), backend="blocked")
    x = draw(4, 3).float()
    with torch.device("meta"):
        y = layer(x)
    assert y.device.type == "cpu"
