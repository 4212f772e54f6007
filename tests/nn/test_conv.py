"""Convolutions equal sums over edges, and cost no more memory than their inputs."""

from itertools import product
from math import prod
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call

from sklearn_metakan.basis import BasisName, make_basis
from sklearn_metakan.nn import (
    DirectCoefficients,
    KANConv1d,
    KANConv2d,
    KANConv3d,
    KANLinear,
    MetaCoefficients,
    MetaLearner,
)
from sklearn_metakan.training import Execution

LAYERS = {1: KANConv1d, 2: KANConv2d, 3: KANConv3d}
SIZES = {1: (7,), 2: (5, 6), 3: (4, 3, 5)}
TINY = 1e-6  # MiB: one channel and the fewest pixels a block
SOURCES = {  # prompt_dim, hidden_dim, activation, edge_scale
    "direct": None,
    "relu": (1, 4, "relu", False),
    "scaled_sin": (2, 4, "sin", True),
    "linear_1": (1, 0, "relu", False),
    "linear_2": (2, 0, "relu", False),
}
GEOMETRIES = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 2, "stride": 2},
    {"kernel_size": 3, "stride": 2, "padding": 2, "dilation": 2},
    {"kernel_size": 1},
    {"kernel_size": 3, "padding": "same", "groups": 2},
    {"kernel_size": 2, "padding": 1, "groups": 4},
]
each_source = pytest.mark.parametrize("source", SOURCES)
each_name = pytest.mark.parametrize("name", get_args(BasisName))
each_geometry = pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)


@pytest.fixture(autouse=True)
def few_pixels(monkeypatch):
    """Small examples fall into blocks of one image, and of some channels."""
    monkeypatch.setattr("sklearn_metakan.ops.memory.FEWEST_PIXELS", 3)


def make(source="relu", n_in=4, n_out=8, dims=2, name="bspline", dtype=torch.float64, **options):
    """A layer with random numbers in every parameter, and a grid for each channel."""
    generator = torch.Generator().manual_seed(0)
    ends = torch.rand(n_in, 2, generator=generator, dtype=torch.float64) + torch.tensor([-2.0, 1])
    basis = make_basis(name, n_in, grid_size=2, degree=3, knots=ends.numpy(), dtype=dtype)
    kernel = options.setdefault("kernel_size", 3)
    shape = (n_in, *([kernel] * dims if isinstance(kernel, int) else kernel))
    out = n_out // options.get("groups", 1)
    if SOURCES[source] is None:
        coefficients = DirectCoefficients(shape, out, basis.n_functions, dtype=dtype)
    else:
        p, hidden, activation, edge_scale = SOURCES[source]
        learner = MetaLearner(p, hidden, basis.n_functions, activation, dtype=dtype)
        coefficients = MetaCoefficients(shape, out, learner, edge_scale, dtype=dtype)
    options.update(basis=basis, source=coefficients, init=None, bias=True, dtype=dtype)
    layer = LAYERS[dims](n_in, n_out, **options)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, generator=generator)
    return layer


def draw(layer, n=3, size=None):
    """Pixels on the grid and a little beyond."""
    size = SIZES[layer.n_dimensions] if size is None else size
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(n, layer.in_channels, *size, generator=generator, dtype=torch.float64)
    return (4.4 * x - 2.2).to(layer.basis.domain)


def compute(layer, x, backend="blocked", memory=TINY):
    """y, the gradient of x, and those of all parameters by name."""
    layer.backend, layer.working_memory = backend, memory
    layer.zero_grad()
    x = x.detach().requires_grad_()
    y = layer(x)
    y.backward(torch.cos(torch.arange(y.numel()).view(y.shape)).to(y))
    gradients = {name: p.grad.clone() for name, p in layer.named_parameters()}
    return {"y": y.detach(), "x": x.grad} | gradients


def assert_same(got, expected, ulps=1e3):
    """Equal to so many units of the last place of the largest number."""
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert got[name].dtype == value.dtype
        tolerance = ulps * torch.finfo(value.dtype).eps * max(1.0, value.abs().max().item())
        torch.testing.assert_close(got[name], value, rtol=0, atol=tolerance)


def edge_by_edge(layer, x):
    """The definition, pixel by pixel, from each edge's own coefficients."""
    weights = layer.source.block(0, layer.source.in_features)
    weights = weights.unflatten(0, (layer.in_channels, *layer.kernel_size))
    n, of_group = len(x), layer.in_channels // layer.groups
    outputs = layer.out_channels // layer.groups
    y = layer.bias.view(-1, *[1] * layer.n_dimensions).repeat(n, *[1] * (layer.n_dimensions + 1))
    y = y.expand(n, layer.out_channels, *layer.out_size(x.shape[2:])).clone()
    for t in product(*map(range, layer.out_size(x.shape[2:]))):
        for i in range(layer.in_channels):
            channels = slice(i // of_group * outputs, (i // of_group + 1) * outputs)
            for k in product(*map(range, layer.kernel_size)):
                at = [
                    s * a + d * b - p
                    for s, a, d, b, p in zip(
                        layer.stride, t, layer.dilation, k, layer.padding, strict=True
                    )
                ]
                if all(0 <= a < side for a, side in zip(at, x.shape[2:], strict=True)):
                    pixels = x[(slice(None), slice(None), *at)]
                    features = layer.basis.evaluate(pixels, i, i + 1)[:, 0]
                    y[(slice(None), channels, *t)] += features @ weights[(i, *k)]
    return y


@pytest.mark.parametrize("dims", [1, 2])
@each_geometry
def test_is_the_sum_over_edges(dims, geometry):
    for source in ("direct", "scaled_sin", "linear_2"):
        layer = make(source, dims=dims, **geometry)
        x = draw(layer, n=2, size=(3, 2)[-dims:])
        torch.testing.assert_close(layer(x), edge_by_edge(layer, x))


def test_every_side_has_its_own_geometry():
    options = {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)}
    layer = make("relu", kernel_size=(2, 3), **options)
    x = draw(layer)
    torch.testing.assert_close(layer(x), edge_by_edge(layer, x))
    assert_same(compute(layer, x), compute(layer, x, "reference"))


@each_source
@each_geometry
def test_blocked_equals_the_reference(source, geometry):
    for dims, dtype, n in [(1, torch.float32, 3), (2, torch.float64, 1), (2, torch.float32, 3)]:
        layer = make(source, dims=dims, dtype=dtype, **geometry)
        x = draw(layer, n)
        expected = compute(layer, x, "reference")
        for memory in (TINY, 0.02, 10.0):
            assert_same(compute(layer, x, memory=memory), expected)


@each_source
def test_volumes(source):
    for geometry in ({"kernel_size": (1, 3, 2), "padding": (0, 1, 1)}, {"kernel_size": 2}):
        layer = make(source, 2, 3, dims=3, **geometry)
        x = draw(layer)
        assert_same(compute(layer, x), compute(layer, x, "reference"))
    torch.testing.assert_close(layer(x), edge_by_edge(layer, x))


@each_name
def test_every_basis(name):
    layer = make("scaled_sin", 3, 2, name=name, kernel_size=3, stride=2, padding=1)
    x = draw(layer)
    expected = compute(layer, x, "reference")
    assert_same(compute(layer, x), expected)
    torch.testing.assert_close(expected["y"], edge_by_edge(layer, x).detach())


@each_source
@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_of_every_order(source, groups):
    """First and second derivatives by the input and by every parameter, through blocks."""
    layer = make(source, 2, 2, kernel_size=2, padding=1, stride=2, groups=groups)
    layer.backend, layer.working_memory = "blocked", TINY
    names, parameters = zip(*layer.named_parameters(), strict=True)
    x = draw(layer, n=2, size=(3, 2)).requires_grad_()

    def call(x, *values):
        return functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert gradcheck(call, (x, *parameters), fast_mode=True)
    assert gradgradcheck(call, (x, *parameters), fast_mode=True)


@each_source
def test_kernel_of_one_is_a_dense_layer_on_pixels(source):
    layer = make(source, 3, 5, kernel_size=1)
    dense = KANLinear(3, 5, layer.basis, dense_source(layer.source), init=None, bias=True)
    dense.bias = layer.bias
    x = draw(layer)
    expected = dense(x.movedim(1, -1).flatten(0, -2)).unflatten(0, (3, *x.shape[2:]))
    for backend in ("reference", "blocked"):
        layer.backend = backend
        torch.testing.assert_close(layer(x), expected.movedim(-1, 1))


def dense_source(source):
    """The same numbers for a dense layer."""
    n_in, n_out = source.in_features, source.out_features
    if isinstance(source, DirectCoefficients):
        result = DirectCoefficients(n_in, n_out, source.n_functions)
        result.weight = nn.Parameter(source.weight.detach().flatten(0, 2))
        return result
    scale = source.edge_scale
    result = MetaCoefficients(n_in, n_out, source.meta_learner, scale is not None)
    result.prompts = nn.Parameter(source.prompts.detach().flatten(0, 2))
    result.gain = source.gain
    if scale is not None:
        result.edge_scale = nn.Parameter(scale.detach().flatten(0, 2))
    return result


def test_a_prompt_belongs_to_one_edge():
    """Changing one prompt changes one kernel entry of one output, and nothing else."""
    layer = make("relu", kernel_size=3)
    before = layer.source.block(0, layer.source.in_features)
    with torch.no_grad():
        layer.source.prompts[2, 0, 1, :, 5] += 1.0
    change = (layer.source.block(0, layer.source.in_features) - before).abs().sum(1)
    changed = change.unflatten(0, layer.source.in_shape).nonzero().tolist()
    assert changed == [[2, 0, 1, 5]]


def test_padding_contributes_nothing():
    """Not even phi(0): an edge that sees padding alone is silent."""
    layer = make("direct", 1, 1, kernel_size=3, padding=1)
    inner = {(1, 1)}
    with torch.no_grad():
        layer.bias.zero_()
        for k in product(range(3), range(3)):
            if k not in inner:
                layer.source.weight[(0, *k)] = 1e3
    x = draw(layer, size=(1, 1))
    features = layer.basis.evaluate(x.flatten(1))[:, 0]
    expected = features @ layer.source.weight[0, 1, 1]
    torch.testing.assert_close(layer(x).flatten(1), expected)


def saved(layer, x):
    """Bytes kept for the backward pass, each storage once."""
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        layer(x).sum()
    return sum(kept.values())


@each_source
@each_name
def test_only_inputs_and_parameters_are_kept(source, name):
    layer = make(source, 6, 8, name=name, kernel_size=3, padding=1, groups=2)
    x = draw(layer, n=4).requires_grad_()
    most = x.nbytes + sum(p.nbytes for p in layer.parameters())
    layer.backend = "blocked"
    assert x.nbytes <= saved(layer, x) <= most
    layer.backend = "reference"
    maps = layer.basis.n_functions * x.nbytes
    assert saved(layer, x) > maps


def test_memory_layouts_give_the_same():
    """Channels first, channels last, a slice: of x and of y's gradient."""
    layer = make("scaled_sin", kernel_size=3, padding=1)
    x = draw(layer, n=4)
    expected = compute(layer, x)
    last = compute(layer, x.contiguous(memory_format=torch.channels_last))
    room = torch.zeros(8, 4, 7, 12).to(x)
    room[::2, :, 1:6, ::2] = x
    assert_same(last, expected)
    assert_same(compute(layer, room[::2, :, 1:6, ::2]), expected)
    layer.zero_grad()
    layer(x).sum().backward()  # a gradient without strides
    assert torch.isfinite(layer.source.prompts.grad).all()


@pytest.mark.parametrize("name", ["bspline", "rbf", "gram"])
@pytest.mark.parametrize("n", [1, 3])
def test_one_channel_of_small_images(name, n):
    """For these torch's convolutions take other ways, and ask for other layouts."""
    layer = KANConv2d(1, 1, 3, make_basis(name, 1), backend="reference")
    x = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    found = []
    for backend in ("reference", "blocked"):
        layer.backend = backend
        found.append(torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()]))
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected)


def test_no_rows():
    for backend, groups in product(("reference", "blocked"), (1, 2)):
        layer = make("relu", kernel_size=3, padding=1, groups=groups)
        got = compute(layer, draw(layer)[:0], backend)
        assert got["y"].shape == (0, 8, 5, 6) and not got["source.prompts"].any()


@pytest.mark.parametrize("backend", ["reference", "blocked"])
@pytest.mark.parametrize("source", ["direct", "scaled_sin", "linear_2"])
def test_autocast_is_close(source, backend):
    layer = make(source, dtype=torch.float32, kernel_size=3, padding=1)
    x = draw(layer, n=5)
    expected = compute(layer, x)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        got = compute(layer, x, backend)
    assert not torch.equal(got["y"], expected["y"])  # it was on
    assert_same(got, expected, ulps=0.1 / torch.finfo(torch.float32).eps)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("bspline", "relu"),
        ("rbf", "linear_2"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in product(("bspline", "rbf"), ("scaled_sin", "linear_1"))
        ),
        pytest.param("bspline", "linear_2", marks=pytest.mark.slow),
    ],
)
def test_fused_equals_the_reference(name, source):
    """In Triton's interpreter where there is no card."""
    pytest.importorskip("triton")
    for groups in (1, 2):
        layer = make(
            source, 4, 6, name=name, dtype=torch.float32, kernel_size=2, padding=1, groups=groups
        )
        x = draw(layer, n=2, size=(3, 2))
        expected = compute(layer, x, "reference")
        for memory in (TINY, 10.0):
            assert_same(compute(layer, x, "triton", memory), expected, ulps=1e4)


def test_frozen_parameters_and_inputs_get_no_gradient():
    layer = make("scaled_sin", kernel_size=3)
    layer.backend = "blocked"
    x = draw(layer)
    expected = compute(layer, x)
    layer.source.prompts.requires_grad_(False)
    layer.zero_grad()
    y = layer(x)
    y.backward(torch.cos(torch.arange(y.numel()).view(y.shape)).to(y))
    assert layer.source.prompts.grad is None
    got = {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}
    assert_same(got, {name: expected[name] for name in got})


def test_one_meta_learner_serves_convolutions_of_every_kind():
    """Layers start with outputs of variance one, whatever kernel and groups."""
    generator = torch.Generator().manual_seed(0)
    learner = MetaLearner(1, 16, 9, "sin")
    x = torch.rand(16, 12, 9, 9, generator=generator) * 2 - 1
    for kernel, groups in [(1, 1), (3, 1), (5, 3), (3, 12)]:
        source = MetaCoefficients((12, kernel, kernel), 48 // groups, learner)
        layer = KANConv2d(12, 48, kernel, source=source, groups=groups, generator=generator)
        assert 0.5 < layer(x).var() < 2
        assert source.gain.item() == pytest.approx((12 // groups * kernel**2) ** -0.5)


def test_parameters():
    def count(layer):
        return sum(parameter.numel() for parameter in layer.parameters())

    edges = 6 // 2 * 8 * 9
    assert count(KANConv2d(6, 8, 3, groups=2)) == 9 * edges
    source = MetaCoefficients((6, 3, 3), 4, MetaLearner(2, 16, 9), edge_scale=True)
    assert source.prompts.shape == (6, 3, 3, 2, 4) and source.edge_scale.shape == (6, 3, 3, 4)
    assert count(KANConv2d(6, 8, 3, source=source, groups=2)) == 3 * edges + 3 * 16 + 17 * 9


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"groups": 3}, "groups"),
        ({"groups": 0}, "groups"),
        ({"groups": 2.0}, "groups must be a whole number.*got groups=2.0"),
        ({"groups": True}, "got groups=True"),
        ({"kernel_size": 0}, "kernel_size"),
        ({"kernel_size": True}, "kernel_size must be a whole number.*got True"),
        ({"kernel_size": (3, 2.0)}, r"kernel_size must be a whole number.*got \(3, 2.0\)"),
        ({"dilation": None}, "dilation must be a whole number.*got None"),
        ({"stride": (1, 2, 3)}, "stride"),
        ({"padding": -1}, "padding"),
        ({"padding": "same", "stride": 2}, "same"),
        ({"padding": "same", "kernel_size": 2}, "same"),
        ({"padding": "full"}, "padding must be numbers, 'same' or 'valid', got 'full'"),
        ({"source": DirectCoefficients(36, 8, 9)}, "source"),
    ],
)
def test_wrong_settings(options, word):
    with pytest.raises(ValueError, match=word):
        KANConv2d(4, 8, **{"kernel_size": 3} | options)


def test_numbers_of_numpy_and_names_of_padding():
    layer = KANConv2d(4, 8, np.int64(3), stride=np.array([1, 2]), groups=np.int32(2))
    assert (layer.kernel_size, layer.stride) == ((3, 3), (1, 2))
    assert layer(torch.zeros(1, 4, 5, 5)).shape == (1, 8, 3, 2)
    assert KANConv2d(4, 8, 3, padding="valid").padding == (0, 0)
    assert KANConv2d(4, 8, (3, 5), padding="same").padding == (1, 2)


@pytest.mark.parametrize(
    ("shape", "word"),
    [((2, 4, 5), "in_channels = 4"), ((2, 3, 5, 5), "in_channels = 4"), ((2, 4, 2, 5), "larger")],
)
def test_wrong_inputs(shape, word):
    with pytest.raises(ValueError, match=word):
        KANConv2d(4, 8, 3)(torch.zeros(shape))


def test_memory_is_bounded(monkeypatch):
    """Features of a block stay within working_memory, as long as an image's channel does."""
    monkeypatch.undo()
    layer = make("relu", 16, 16, dtype=torch.float32, kernel_size=3, padding=1)
    x = draw(layer, n=8, size=(16, 16))
    largest, evaluate = [], layer.basis.values_and_contract

    def watched(grad, x, start, derivative):
        largest.append(x.numel() * layer.basis.n_functions * x.element_size())
        return evaluate(grad, x, start, derivative)

    monkeypatch.setattr(layer.basis, "values_and_contract", watched)
    expected = compute(layer, x, memory=100.0)
    everything = prod(x.shape) * layer.basis.n_functions * 4
    assert largest == [everything]
    for memory in (0.2, 0.5):
        largest.clear()
        assert_same(compute(layer, x, memory=memory), expected, ulps=1e4)
        assert max(largest) <= memory * 2**20
        assert sum(largest) == everything


CARD_GEOMETRIES = [  # n_in, n_out, geometry
    (16, 32, {"kernel_size": 3, "padding": 1}),
    (5, 12, {"kernel_size": 3, "stride": 2, "padding": 2, "dilation": 2}),
    (8, 8, {"kernel_size": 2, "stride": 2, "groups": 4}),
]


def on_card(layer, x, products="full", backend="auto", memory=None):
    """Computed there; the numbers here in float64."""
    layer.to("cuda")
    with Execution(torch.device("cuda"), x.dtype, products).active():
        got = compute(layer, x.cuda(), backend, memory)
    layer.to("cpu")
    return {name: value.cpu().double() for name, value in got.items()}


def close_to(got, expected, tolerance):
    for name, value in expected.items():
        error = (got[name] - value).norm() / value.norm()
        assert error < tolerance, f"{name}: {error:.1e}"


@pytest.mark.gpu
@each_source
@pytest.mark.parametrize("name", ["bspline", "rbf", "chebyshev"])
def test_on_a_card(source, name):
    for n_in, n_out, geometry in CARD_GEOMETRIES:
        layer = make(source, n_in, n_out, name=name, dtype=torch.float32, **geometry)
        x = draw(layer, n=9, size=(15, 17))
        expected = compute(layer.double(), x.double(), "reference")
        layer.float()
        for memory in (None, 0.5):
            for backend in ("auto", "blocked"):
                close_to(on_card(layer, x, backend=backend, memory=memory), expected, 1e-4)
        close_to(on_card(layer, x, "tf32"), expected, 1e-2)
        close_to(on_card(layer, x, "bf16"), expected, 5e-2)
        first, second = on_card(layer, x), on_card(layer, x)
        assert all(torch.equal(first[key], second[key]) for key in first)
