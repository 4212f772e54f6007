"""Every basis: blocked equals the reference, outputs and every gradient, within its memory."""

from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from sklearn_metakan.basis import BasisName, make_basis
from sklearn_metakan.nn import DirectCoefficients, KANLinear, MetaCoefficients, MetaLearner
from sklearn_metakan.ops import edge_sum

TINY = 1e-5  # MiB: one input and the fewest rows a block
NAMES = [name for name in get_args(BasisName) if name != "bspline"]
SOURCES = {  # prompt_dim, hidden_dim, activation, edge_scale
    "direct": None,
    "relu": (1, 4, "relu", False),
    "scaled_sin": (2, 4, "sin", True),
    "linear_2": (2, 0, "relu", False),
}
each_name = pytest.mark.parametrize("name", NAMES)
each_source = pytest.mark.parametrize("source", SOURCES)


def make(name, source, n_in=5, n_out=3, dtype=torch.float64, extrapolation="linear"):
    """A layer with a grid for each input and random numbers in every parameter."""
    rng = np.random.default_rng(0)
    ends = np.sort(rng.uniform(-1, 1, (n_in, 2))) + np.array([-0.5, 0.5])
    options = {"grid_size": 3, "knots": ends, "extrapolation": extrapolation}
    basis = make_basis(name, n_in, dtype=dtype, **options)
    if SOURCES[source] is None:
        coefficients = DirectCoefficients(n_in, n_out, basis.n_functions, dtype=dtype)
    else:
        p, hidden, activation, edge_scale = SOURCES[source]
        learner = MetaLearner(p, hidden, basis.n_functions, activation, dtype=dtype)
        coefficients = MetaCoefficients(n_in, n_out, learner, edge_scale, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    for parameter in coefficients.parameters():
        nn.init.normal_(parameter, generator=generator)
    return KANLinear(n_in, n_out, basis, coefficients, init=None, dtype=dtype)


def draw(layer, n=7):
    """Points on the grid and a little beyond."""
    low, high = layer.basis.domain.T
    generator = torch.Generator().manual_seed(1)
    share = torch.rand(n, layer.in_features, generator=generator, dtype=torch.float64).to(low)
    return low + (1.4 * share - 0.2) * (high - low)


def compute(layer, x, backend, memory=TINY, derivative=0):
    """y, the gradient of x, and those of all parameters by name."""
    layer.zero_grad()
    x = x.detach().requires_grad_()
    y = edge_sum(x, layer.basis, layer.source, derivative, backend, memory)
    y.backward(torch.cos(torch.arange(y.numel()).view(y.shape)).to(y))
    gradients = {parameter: p.grad.clone() for parameter, p in layer.named_parameters()}
    return {"y": y.detach(), "x": x.grad} | gradients


def assert_same(got, expected, ulps=1e3):
    """Equal to so many units of the last place of the largest number."""
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        tolerance = ulps * torch.finfo(value.dtype).eps * max(1.0, value.abs().max().item())
        torch.testing.assert_close(got[name], value, rtol=0, atol=tolerance)


@each_name
@each_source
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equals_the_reference(name, source, dtype):
    for n, n_in, n_out in [(7, 5, 3), (1, 1, 2)]:
        layer = make(name, source, n_in, n_out, dtype)
        x = draw(layer, n)
        for derivative in (0, 1, 2):
            expected = compute(layer, x, "reference", derivative=derivative)
            for memory in (TINY, 3e-3):
                got = compute(layer, x, "blocked", memory, derivative)
                assert_same(got, expected)


@each_name
@pytest.mark.parametrize("extrapolation", ["base", "constant"])
def test_equals_the_reference_beyond_the_grid(name, extrapolation):
    if (name, extrapolation) == ("legendre", "base"):
        return
    layer = make(name, "scaled_sin", extrapolation=extrapolation)
    x = draw(layer, n=20)
    for derivative in (0, 1, 2):
        expected = compute(layer, x, "reference", derivative=derivative)
        assert_same(compute(layer, x, "blocked", derivative=derivative), expected)


@each_name
@each_source
def test_gradients_of_every_order(name, source):
    """First and second derivatives by the input and by every parameter, through blocks."""
    layer = make(name, source, n_in=2, n_out=2, extrapolation="linear")
    layer.backend, layer.working_memory = "blocked", TINY
    names, parameters = zip(*layer.named_parameters(), strict=True)
    x = draw(layer, n=3).requires_grad_()

    def call(x, *values):
        return functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert gradcheck(call, (x, *parameters), fast_mode=True)
    assert gradgradcheck(call, (x, *parameters), fast_mode=True)


@each_name
def test_autocast_is_close(name):
    layer = make(name, "scaled_sin", n_in=12, dtype=torch.float32)
    x = draw(layer, n=20)
    expected = compute(layer, x, "blocked")
    for backend in ("blocked", "reference"):
        with torch.autocast("cpu", torch.bfloat16):
            got = compute(layer, x, backend)
        assert not torch.equal(got["y"], expected["y"])  # it was on
        assert_same(got, expected, ulps=0.1 / torch.finfo(torch.float32).eps)
