"""The fused kernels equal the reference; without a card they run in Triton's interpreter.

The interpreter takes seconds for what a card does in microseconds, so shapes are small and
odd, and a few cases stand for many.
"""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_metakan.basis import make_basis, quantile_knots
from sklearn_metakan.nn import KAN, DirectCoefficients, KANLinear, MetaCoefficients, MetaLearner
from sklearn_metakan.ops import Convolution, blocked, edge_sum
from sklearn_metakan.ops.products import Product

pytest.importorskip("triton")

from sklearn_metakan.ops.triton import features_of
from sklearn_metakan.ops.triton.smooth import SmoothFeatures
from sklearn_metakan.ops.triton.splines import SplineFeatures

CARD = torch.cuda.is_available()
DEVICE = "cuda" if CARD else "cpu"
SOURCES = {  # prompt_dim, hidden_dim, activation, edge_scale
    "direct": None,
    "relu": (1, 32, "relu", False),
    "silu": (2, 5, "silu", False),
    "tanh": (3, 8, "tanh", False),
    "scaled_relu": (1, 7, "relu", True),
    "scaled_sin": (2, 17, "sin", True),
    "linear_1": (1, 0, "relu", False),
    "linear_2": (2, 0, "relu", False),
    "linear_3": (3, 0, "relu", False),
}
GRIDS = [  # knots, extrapolation, cells, degree
    ("uniform", "linear", 5, 3),
    ("ends", "base", 4, 2),
    ("quantile", "linear", 5, 3),
    ("quantile", "base", 3, 3),
    ("uniform", "constant", 7, 5),
    ("ends", "linear", 20, 1),
]
FAMILIES = {  # how each continues beyond the grid with ends for every input
    "rbf": "base",
    "mexican_hat": "constant",
    "morlet": "base",
    "dog": "linear",
    "shannon": "base",
    "chebyshev": "base",
    "legendre": "constant",
    "gram": "base",
}


def make(source, n_in, n_out, grid=GRIDS[0], family="bspline"):
    """A layer in float32 with random numbers in every parameter."""
    knots, extrapolation, cells, degree = grid
    rng = np.random.default_rng(0)
    ends = np.sort(rng.uniform(-1, 1, (n_in, 2))) + np.array([-0.5, 0.5])
    where = {
        "uniform": (-1.0, 1.0),
        "ends": ends,
        "quantile": quantile_knots(rng.normal(size=(100, n_in)), cells),
    }[knots]
    basis = make_basis(
        family, n_in, grid_size=cells, degree=degree, knots=where, extrapolation=extrapolation
    )
    functions = basis.n_functions
    if SOURCES[source] is None:
        coefficients = DirectCoefficients(n_in, n_out, functions)
    else:
        p, hidden, activation, edge_scale = SOURCES[source]
        learner = MetaLearner(p, hidden, functions, activation)
        coefficients = MetaCoefficients(n_in, n_out, learner, edge_scale)
    generator = torch.Generator().manual_seed(0)
    for parameter in coefficients.parameters():
        nn.init.normal_(parameter, generator=generator)
    return KANLinear(n_in, n_out, basis, coefficients, init=None)


def draw(layer, n):
    """Points on the grid and beyond it."""
    low, high = layer.basis.domain.T
    share = torch.rand(n, layer.in_features, generator=torch.Generator().manual_seed(1))
    return low + (1.4 * share - 0.2) * (high - low)


def compute(layer, x, backend, working_memory=None):
    """y and every gradient, on the CPU in float64."""
    layer.zero_grad()
    x = x.detach().clone().requires_grad_()
    y = edge_sum(x, layer.basis, layer.source, 0, backend, working_memory)
    # At random: of a regular gradient, such as a cosine, the sums over all edges cancel to nothing.
    generator = torch.Generator().manual_seed(2)
    y.backward(torch.randn(y.shape, dtype=torch.float64, generator=generator).to(y))
    found = {name: p.grad for name, p in layer.named_parameters() if p.grad is not None}
    return {name: t.detach().double().cpu() for name, t in {"y": y, "x": x.grad, **found}.items()}


def assert_like_reference(layer, x, working_memory=None, tolerance=3e-5, precision=None):
    """Largest difference to float64, relative to the largest number of the tensor."""
    expected = compute(copy.deepcopy(layer).double(), x.double(), "reference")
    with torch.autocast(DEVICE, torch.bfloat16, precision == "bf16", cache_enabled=False):
        got = compute(copy.deepcopy(layer).to(DEVICE), x.to(DEVICE), "triton", working_memory)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        difference = (got[name] - value).abs().max() / value.abs().max().clamp_min(1.0)
        assert difference <= tolerance, name


@pytest.mark.parametrize("source", SOURCES)
def test_equals_the_reference(source):
    layer = make(source, 5, 3)
    assert_like_reference(layer, draw(layer, 7), working_memory=1e-5)


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: "_".join(map(str, grid)))
@pytest.mark.parametrize("source", ["relu", "linear_2", "direct"])
def test_equals_the_reference_on_every_grid(source, grid):
    layer = make(source, 4, 2, grid)
    assert_like_reference(layer, draw(layer, 6))


@pytest.mark.parametrize("source", ["relu", "silu", "scaled_sin", "linear_2", "direct"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 5, 1), (37, 35, 5), (3, 2, 260)])
def test_equals_the_reference_in_odd_shapes(source, shape):
    layer = make(source, *shape[1:])
    assert_like_reference(layer, draw(layer, shape[0]))


@pytest.mark.parametrize(
    "source",
    [
        "direct",
        "linear_2",
        "silu",
        pytest.param("linear_1", marks=pytest.mark.slow),
        pytest.param("linear_3", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_reference_in_every_family(family, source):
    for grid in [("uniform", "linear", 5, 3), ("ends", FAMILIES[family], 2, 5)]:
        layer = make(source, 4, 2, grid, family)
        assert_like_reference(layer, draw(layer, 6), working_memory=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_families_with_few_and_many_functions(family):
    for cells, degree in [(1, 1), (20, 9)]:  # wavelets: 43 functions, summed in parts
        grid = ("uniform", "linear", cells, degree)
        for source in ["direct", "linear_2"]:
            layer = make(source, 3, 2, grid, family)
            assert_like_reference(layer, draw(layer, 5))


@pytest.mark.parametrize("family", ["bspline", *FAMILIES])
def test_every_family_has_kernels(family):
    """What has none is made in plain PyTorch, and equals the reference as well."""

    def kernels(derivative=0, dtype=torch.float32, **options):
        basis = make_basis(family, 2, **{"extrapolation": "linear"} | options)
        return features_of(basis.to(dtype), derivative)

    kind = SplineFeatures if family == "bspline" else SmoothFeatures
    assert kernels() is kind
    assert kernels(derivative=1) is kernels(dtype=torch.float64) is None
    assert kernels(extrapolation="error") is None
    many = {"degree": 6} if family == "bspline" else {"grid_size": 70, "degree": 70}
    assert kernels(**many) is None


def test_larger_blocks_where_no_gradient_lies_beside_the_features():
    layer = make("relu", 64, 8)
    plan = blocked._Plan(layer.basis, layer.source, 0, True, Product(), 1, 1.0, 2**16)
    made = plan.kernels(*layer.source.tensors())
    forward, back = (plan.block(draw(layer, 4096), *made, back) for back in (False, True))
    assert forward[0] * forward[1] > 1.5 * back[0] * back[1]


def test_channels_of_zeros_count():
    layer = make("relu", 1, 8)  # nine features, 32 channels
    image = Convolution(1, (64, 64), (1, 1), (1, 1), (0, 0), (1, 1), 1)
    plan = blocked._Plan(layer.basis, layer.source, 0, True, image, 1, 64.0, 2**16)
    x = torch.zeros(1000, 1, 64, 64)
    forward = plan.block(x, *plan.kernels(*layer.source.tensors()), back=False)
    assert forward[1] * 64 * 64 * 32 * 4 <= 64 * 2**20


@pytest.mark.filterwarnings("ignore:overflow")  # of the interpreter: z * z, exp
@pytest.mark.parametrize("family", FAMILIES)
def test_families_far_beyond_the_grid(family):
    extrapolation = "constant" if family == "legendre" else "base"
    layer = make("direct", 3, 2, ("uniform", extrapolation, 4, 3), family)
    with torch.no_grad():
        layer.source.weight[:, 0] = 0.0  # silu, which would hide the others
    x = torch.tensor([[1e2, -1e3, 1e4], [1e10, -1e20, 3e37]])
    assert_like_reference(layer, x, tolerance=1e-3)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("family", ["bspline", *FAMILIES])
def test_far_beyond_the_grid_answers_are_finite(family):
    """As far as they can be held: slopes of splines are below one cell, of others below 100."""
    layer = make("direct", 2, 2, ("uniform", "linear", 5, 3), family)
    for functions in layer.source.weight.data.unbind(1):
        functions.div_(100.0)
    far = 3e38 if family == "bspline" else 1e36
    x = torch.tensor([[far, 0.1], [-far, 0.1]])
    assert_like_reference(layer, x.div(1e3))
    assert compute(layer.to(DEVICE), x.to(DEVICE), "triton")["y"].isfinite().all()


def test_a_basis_without_kernels_goes_with_generated_weights():
    layer = make("scaled_sin", 3, 4, ("uniform", "linear", 3, 7))
    assert_like_reference(layer, draw(layer, 5))


def test_frozen_tensors_get_no_gradient():
    layer = make("scaled_sin", 3, 4)
    layer.source.prompts.requires_grad_(False)
    layer.source.meta_learner.hidden_weight.requires_grad_(False)
    x = draw(layer, 5)
    expected = compute(copy.deepcopy(layer).double(), x.double(), "reference")
    assert compute(layer.to(DEVICE), x.to(DEVICE), "triton").keys() == expected.keys()
    assert "source.prompts" not in expected


def test_nan_stays_in_its_row():
    layer = make("relu", 3, 4).to(DEVICE)
    x = draw(layer.cpu(), 5)
    x[2, 1] = torch.nan
    y = edge_sum(x.to(DEVICE), layer.to(DEVICE).basis, layer.source, backend="triton")
    assert y.isnan().any(1).tolist() == [False, False, True, False, False]


def test_no_rows():
    layer = make("relu", 3, 4).to(DEVICE)
    x = torch.zeros(0, 3, device=DEVICE)
    assert edge_sum(x, layer.basis, layer.source, backend="triton").shape == (0, 4)


@pytest.mark.parametrize("family", ["bspline", "morlet", "gram"])
@pytest.mark.parametrize("source", ["scaled_sin", "linear_2"])
def test_the_same_bits_each_time(source, family):
    layer = make(source, 9, 6, family=family).to(DEVICE)
    x = draw(layer.cpu(), 20).to(DEVICE)
    first, second = (compute(layer.to(DEVICE), x, "triton") for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_float64_is_refused_with_the_remedy():
    layer = make("relu", 2, 2).double().to(DEVICE)
    x = torch.zeros(3, 2, dtype=torch.float64, device=DEVICE)
    with pytest.raises(ValueError, match=r"needs float32 layers.*float64.*backend='blocked'"):
        edge_sum(x, layer.basis, layer.source, backend="triton")


WIDE = [(300, 130, 70), (1000, 33, 257), (4099, 7, 64)]


@pytest.mark.gpu
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("working_memory", [None, 0.5])
def test_wide_layers_in_float32(source, working_memory):
    for n, n_in, n_out in WIDE:
        layer = make(source, n_in, n_out)
        assert_like_reference(layer, draw(layer, n), working_memory, tolerance=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_wide_layers_of_every_family(family):
    grid = ("ends", FAMILIES[family], 7, 4)
    for source in ["direct", "linear_2", "linear_3", "relu"]:
        for n, n_in, n_out in WIDE:
            layer = make(source, n_in, n_out, grid, family)
            assert_like_reference(layer, draw(layer, n), tolerance=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("source", SOURCES)
def test_rounded_products(source):
    layer = make(source, 130, 70)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        assert_like_reference(layer, draw(layer, 300), tolerance=1e-2)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    assert_like_reference(layer, draw(layer, 300), tolerance=5e-2, precision="bf16")


@pytest.mark.gpu
@pytest.mark.parametrize("family", ["bspline", "morlet", "gram"])
@pytest.mark.parametrize("source", ["relu", "scaled_sin", "linear_2", "direct"])
def test_wide_layers_give_the_same_bits(source, family):
    layer = make(source, 300, 200, family=family).to(DEVICE)
    x = draw(layer.cpu(), 2000).to(DEVICE)
    first, second = (compute(layer.to(DEVICE), x, "triton") for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.gpu
def test_auto_uses_the_kernels_and_keeps_little():
    layer = make("relu", 512, 512).to(DEVICE)
    x = draw(layer.cpu(), 4096).to(DEVICE).requires_grad_()
    layer.to(DEVICE)(x).sum().backward()  # loads what is loaded once
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    y = layer(x)
    assert torch.cuda.memory_allocated() - before <= y.numel() * 4 + 2**21
    features = 4096 * 512 * 9 * 4
    assert torch.cuda.max_memory_allocated() - before < features


@pytest.mark.gpu
@pytest.mark.parametrize("hidden", [32, 0])
def test_more_numbers_in_a_block_than_32_bits_can_count(hidden):
    """Features of 600,000 rows at once, as in blocks of rows."""
    learners = [MetaLearner(1, hidden, 9)] if hidden else None
    network = KAN([512, 16], meta_learners=learners, working_memory=60_000).to(DEVICE)
    generator = torch.Generator(DEVICE).manual_seed(0)
    x = torch.randn(600_000, 512, device=DEVICE, generator=generator).requires_grad_()
    grad = torch.randn(len(x), 16, device=DEVICE, generator=generator)
    found = {}
    for rows in (len(x), 100_000):
        network.layers[0].working_memory = 60_000 if rows == len(x) else 1_000
        network.zero_grad()
        x.grad = None
        y = []
        for part, of_part in zip(x.split(rows), grad.split(rows), strict=True):
            y.append(network(part).detach())
            network(part).backward(of_part)
        gradients = [p.grad.clone() for p in network.parameters()]
        found[rows] = torch.cat(y), x.grad, *gradients
    for whole, cut in zip(*found.values(), strict=True):
        assert (whole - cut).abs().max() <= 1e-4 * cut.abs().max()
