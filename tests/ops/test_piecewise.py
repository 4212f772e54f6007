"""Weights read from a table of lines equal those of the hidden layer, with every gradient."""

import pytest
import torch
from torch import nn

from sklearn_metakan.basis import BSplineBasis
from sklearn_metakan.nn import KANLinear, MetaCoefficients, MetaLearner
from sklearn_metakan.ops import blocked, edge_sum
from sklearn_metakan.ops.plain import piecewise
from sklearn_metakan.ops.products import Product

N_FUNCTIONS = 8
each_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])


@pytest.fixture(autouse=True)
def small_layers(monkeypatch):
    """A table also for layers that are too small to gain by it."""
    monkeypatch.setattr(piecewise, "LEAST_EDGES", 1)


def make(n_in=5, n_out=3, hidden=4, edge_scale=False, dtype=torch.float64, seed=0):
    """A layer with random numbers in every parameter."""
    learner = MetaLearner(1, hidden, N_FUNCTIONS, "relu", dtype=dtype)
    source = MetaCoefficients(n_in, n_out, learner, edge_scale, dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    for parameter in source.parameters():
        nn.init.normal_(parameter, generator=generator)
    basis = BSplineBasis(n_in, 4, dtype=dtype)
    return KANLinear(n_in, n_out, basis, source, init=None, dtype=dtype)


def compute(layer, backend, working_memory=1.0, n=6):
    """y, the gradient of x, and those of all parameters by name."""
    layer.zero_grad()
    numbers = torch.arange(n * layer.in_features, dtype=torch.float64)
    x = torch.sin(7 * numbers).view(n, -1).to(layer.basis.domain).requires_grad_()
    y = edge_sum(x, layer.basis, layer.source, 0, backend, working_memory)
    y.backward(torch.cos(torch.arange(y.numel(), dtype=torch.float64)).view(y.shape).to(y))
    gradients = {name: p.grad for name, p in layer.named_parameters() if p.requires_grad}
    return {"y": y.detach(), "x": x.grad} | {name: g.clone() for name, g in gradients.items()}


def assert_same(got, expected, ulps=1e3):
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        tolerance = ulps * torch.finfo(value.dtype).eps * max(1.0, value.abs().max().item())
        torch.testing.assert_close(got[name], value, rtol=0, atol=tolerance)


def assert_equals_the_reference(layer, **options):
    plan = blocked._Plan(layer.basis, layer.source, 0, False, Product(), 1, 1.0, 2**16)
    assert isinstance(plan.kernels(*layer.source.tensors())[1], piecewise.PiecewiseWeights)
    assert_same(compute(layer, "blocked", **options), compute(layer, "reference"))


@each_dtype
@pytest.mark.parametrize("edge_scale", [False, True])
@pytest.mark.parametrize(
    ("n_in", "n_out", "hidden"), [(5, 3, 4), (1, 1, 1), (7, 2, 33), (3, 40, 64), (2, 1, 2)]
)
def test_equals_the_reference_in_every_shape(n_in, n_out, hidden, edge_scale, dtype):
    layer = make(n_in, n_out, hidden, edge_scale, dtype)
    assert_equals_the_reference(layer)
    assert_equals_the_reference(layer, working_memory=1e-5)  # an input a block


def test_tiles_add_up(monkeypatch):
    layer = make(19, 11, edge_scale=True)  # of 64 edges: four
    expected = compute(layer, "blocked")
    monkeypatch.setattr(piecewise.PiecewiseWeights, "numbers_per_edge", 2**20)  # the fewest
    assert_same(compute(layer, "blocked"), expected)


def shift(value):
    def change(learner, prompts):
        learner.hidden_bias.fill_(value)

    return change


def no_slope(learner, prompts):
    """Units that are constant, on or off or zero: they have no kink."""
    learner.hidden_weight[:3] = 0.0
    learner.hidden_bias[:3] = torch.tensor([[1.0], [-1.0], [0.0]])


def equal_units(learner, prompts):
    """More kinks at one place than are compared one by one."""
    learner.hidden_weight[:] = learner.hidden_weight.sign()
    learner.hidden_bias.copy_(-0.3 * learner.hidden_weight)


def far_apart(learner, prompts):
    """Kinks that share a cell of the index, as one prompt widens it."""
    prompts[0, 0] = 1e4


def one_prompt(learner, prompts):
    prompts.fill_(0.7)


@each_dtype
@pytest.mark.parametrize(
    "change", [shift(0.0), shift(50.0), shift(-50.0), no_slope, equal_units, far_apart, one_prompt]
)
def test_kinks_anywhere(change, dtype):
    layer = make(6, 7, hidden=12, edge_scale=True, dtype=dtype)
    with torch.no_grad():
        change(layer.source.meta_learner, layer.source.prompts)
    assert_equals_the_reference(layer)


@pytest.mark.parametrize("spread", [1e-3, 1.0, 1e3])
def test_pieces_count_the_kinks_below(spread):
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randn(5000, generator=generator)
    kinks = spread * torch.randn(20, generator=generator)
    kinks = torch.cat([kinks, prompts[:5]]).sort()[0]  # some lie exactly on prompts
    found = piecewise._Pieces(kinks, prompts).of(prompts)
    assert torch.equal(found, (kinks < prompts[:, None]).sum(1))


def test_lines_meet_at_the_kinks():
    """M is continuous: both pieces beside a kink have one value there."""
    _, shared = make(hidden=9).source.tensors()
    kinks, table = piecewise.lines(*shared)
    intercepts, slopes = table.split(N_FUNCTIONS)
    values = intercepts[:, :-1] + slopes[:, :-1] * kinks
    torch.testing.assert_close(values, intercepts[:, 1:] + slopes[:, 1:] * kinks)


@pytest.mark.parametrize("frozen", ["prompts", "edge_scale", "meta_learner"])
def test_frozen_tensors_get_no_gradient_and_others_theirs(frozen):
    layer = make(edge_scale=True)
    getattr(layer.source, frozen).requires_grad_(False)
    assert_same(compute(layer, "blocked"), compute(layer, "reference"))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_broken_prompt_breaks_its_output_alone(value):
    """A diverged network answers with NaN or infinity, not with an error."""
    layer = make()
    with torch.no_grad():
        layer.source.prompts[2, :, 1] = value
        y = edge_sum(torch.rand(4, 5).double(), layer.basis, layer.source, 0, "blocked")
    assert not y[:, 1].isfinite().any()
    assert y[:, [0, 2]].isfinite().all()


def test_backward_twice_gives_the_same_bits():
    layer = make(20, 30, hidden=16, edge_scale=True)
    first, second = compute(layer, "blocked"), compute(layer, "blocked")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_large_layers_alone_have_a_table(monkeypatch):
    monkeypatch.undo()
    tensors = {n: make(n, 128).source.tensors()[0] for n in (127, 128)}
    source = make().source
    assert not piecewise.is_piecewise(source, tensors[127])
    assert piecewise.is_piecewise(source, tensors[128])
