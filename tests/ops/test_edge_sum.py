"""edge_sum equals a sum over edges, one by one, whatever gives the coefficients."""

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from scipy.special import expit
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from sklearn_metakan.basis import BSplineBasis, quantile_knots
from sklearn_metakan.nn import DirectCoefficients, MetaCoefficients, MetaLearner
from sklearn_metakan.ops import edge_sum

IN, OUT, CELLS, DEGREE = 3, 2, 4, 3
N_FUNCTIONS = 1 + CELLS + DEGREE
KNOTS = {
    "uniform": (-1.0, 1.0),
    "quantile": quantile_knots(np.random.default_rng(0).normal(size=(100, IN)), CELLS),
}


def meta(prompt_dim, hidden_dim, activation="relu", edge_scale=False):
    learner = MetaLearner(prompt_dim, hidden_dim, N_FUNCTIONS, activation, dtype=torch.float64)
    return MetaCoefficients(IN, OUT, learner, edge_scale, dtype=torch.float64)


SOURCES = {
    "direct": lambda: DirectCoefficients(IN, OUT, N_FUNCTIONS, dtype=torch.float64),
    **{
        f"{activation}_{p}": lambda p=p, activation=activation: meta(p, 4, activation)
        for activation in ("relu", "silu", "tanh", "sin")
        for p in (1, 2)
    },
    "scaled_relu": lambda: meta(1, 4, edge_scale=True),
    "scaled_sin": lambda: meta(2, 4, "sin", edge_scale=True),
    **{f"linear_{p}": lambda p=p: meta(p, 0) for p in (1, 2, 3)},
}
each_source = pytest.mark.parametrize("source", SOURCES)
each_knots = pytest.mark.parametrize("knots", KNOTS)


def make(source, knots="uniform", extrapolation="base", seed=0):
    """A basis, and a source with random numbers in every parameter."""
    basis = BSplineBasis(IN, CELLS, DEGREE, KNOTS[knots], extrapolation, dtype=torch.float64)
    source = SOURCES[source]()
    generator = torch.Generator().manual_seed(seed)
    for parameter in source.parameters():
        nn.init.normal_(parameter, generator=generator)
    return basis, source


def draw(basis, n=7, seed=1):
    """Points on the grid and a little beyond."""
    low, high = basis.domain.T
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(n, IN, generator=generator, dtype=torch.float64)
    return low - 0.2 * (high - low) + 1.4 * share * (high - low)


def silu(t, derivative):
    s = expit(t)
    if derivative == 0:
        return t * s
    if derivative == 1:
        return s * (1 + t * (1 - s))
    return s * (1 - s) * (2 + t * (1 - 2 * s))


def sum_edge_by_edge(x, basis, weights, derivative):
    """Two loops and scipy: y_o = sum_i (w_oi0 silu + sum_c w_oic B_c)^(m)(x_i)."""
    x, weights = x.detach().numpy(), weights.detach().numpy()
    knots = basis.breaks.expand(IN, -1).numpy()
    y = np.zeros((len(x), OUT))
    for o in range(OUT):
        for i in range(IN):
            y[:, o] += weights[i, 0, o] * silu(x[:, i], derivative)
            for c in range(1, N_FUNCTIONS):
                spline = BSpline.basis_element(knots[i, c - 1 : c + DEGREE + 1], extrapolate=False)
                y[:, o] += weights[i, c, o] * np.nan_to_num(spline(x[:, i], nu=derivative))
    return torch.from_numpy(y)


class EdgeSum(nn.Module):
    def __init__(self, basis, source):
        super().__init__()
        self.basis, self.source = basis, source

    def forward(self, x):
        return edge_sum(x, self.basis, self.source)


@each_source
@each_knots
@pytest.mark.parametrize("derivative", [0, 1, 2])
@pytest.mark.parametrize("backend", ["auto", "reference", "kept", "blocked"])
def test_equals_the_sum_over_edges(source, knots, derivative, backend):
    basis, source = make(source, knots)
    x = draw(basis)
    expected = sum_edge_by_edge(x, basis, source.block(0, IN), derivative)
    got = edge_sum(x, basis, source, derivative, backend)
    tolerance = 1e4 * torch.finfo(x.dtype).eps * expected.abs().max().item()
    torch.testing.assert_close(got, expected, rtol=0, atol=tolerance)


@each_source
def test_first_derivative_is_autograds(source):
    """Each input enters its own functions alone: the slopes by all inputs add up to it."""
    basis, source = make(source)
    x = draw(basis).requires_grad_()
    for o in range(OUT):
        (slope,) = torch.autograd.grad(edge_sum(x, basis, source)[:, o].sum(), x)
        torch.testing.assert_close(
            slope.sum(1).detach(), edge_sum(x, basis, source, derivative=1)[:, o].detach()
        )


@pytest.mark.parametrize("prompt_dim", [1, 2, 3])
def test_combined_features_times_prompts_is_the_product_with_the_block(prompt_dim):
    """F D V, block by block: the weights of a linear source are never formed."""
    _, source = make(f"linear_{prompt_dim}")
    features = torch.randn(5, IN, N_FUNCTIONS, dtype=torch.float64)
    by_input, shared = source.tensors()
    dictionary = source.dictionary(shared)
    assert dictionary.shape == (N_FUNCTIONS, prompt_dim)
    for start, stop in [(0, IN), (0, 1), (1, 3)]:
        expected = torch.einsum("nic,ico->no", features[:, start:stop], source.block(start, stop))
        weights = source.generate([t[start:stop] for t in by_input], shared)
        assert weights.shape == (stop - start, prompt_dim, OUT)
        combined = features[:, start:stop] @ dictionary
        torch.testing.assert_close(combined.flatten(1) @ weights.flatten(0, 1), expected)


@each_source
def test_blocks_add_up(source):
    """What a bounded-memory backend relies on: blocks are slices of the whole."""
    basis, source = make(source)
    x = draw(basis)
    y = torch.zeros(len(x), OUT, dtype=x.dtype)
    for start, stop in [(0, 2), (2, 3)]:
        features, weights = basis.evaluate(x, start, stop), source.block(start, stop)
        y = y + features.flatten(1) @ weights.flatten(0, 1)
    torch.testing.assert_close(edge_sum(x, basis, source), y)


@each_source
@each_knots
def test_gradients_of_every_order(source, knots):
    """First and second derivatives by the input and by every parameter."""
    layer = EdgeSum(*make(source, knots, "linear"))
    x = draw(layer.basis, n=3).requires_grad_()
    names, parameters = zip(*layer.named_parameters(), strict=True)

    def call(x, *values):
        return functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert gradcheck(call, (x, *parameters))
    assert gradgradcheck(call, (x, *parameters), fast_mode=True)


def test_no_gradient_for_the_input_is_fine():
    basis, source = make("scaled_relu")
    edge_sum(draw(basis), basis, source).sum().backward()
    assert all(parameter.grad.any() for parameter in source.parameters())


def test_no_rows():
    basis, source = make("direct")
    assert edge_sum(torch.zeros(0, IN), basis, source).shape == (0, OUT)


@pytest.mark.parametrize("shape", [(4, IN + 1), (IN,), (2, 4, IN)])
def test_wrong_shape_raises(shape):
    basis, source = make("direct")
    with pytest.raises(ValueError, match=rf"in_features = {IN}.*got \({shape[0]},"):
        edge_sum(torch.zeros(shape), basis, source)


def test_unknown_backend_raises():
    basis, source = make("direct")
    with pytest.raises(ValueError, match=r"backend must be .*'reference'.*got 'cuda'"):
        edge_sum(draw(basis), basis, source, backend="cuda")
