"""Blocked equals the reference: outputs and every gradient, however it is cut into blocks."""

import weakref
from copy import deepcopy
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sklearn_metakan.basis import BSplineBasis, RBFBasis, quantile_knots
from sklearn_metakan.nn import (
    DirectCoefficients,
    KANLinear,
    MetaCoefficients,
    MetaLearner,
    build_network,
)
from sklearn_metakan.ops import edge_sum
from sklearn_metakan.ops.memory import block_sizes

CELLS, DEGREE = 4, 3
N_FUNCTIONS = 1 + CELLS + DEGREE
TINY = 1e-5  # MiB: one input and the fewest rows a block
SOURCES = {  # prompt_dim, hidden_dim, activation, edge_scale
    "direct": None,
    "relu": (1, 4, "relu", False),
    "silu": (2, 4, "silu", False),
    "tanh": (1, 4, "tanh", False),
    "sin": (3, 4, "sin", False),
    "scaled_relu": (1, 4, "relu", True),
    "scaled_sin": (2, 4, "sin", True),
    "linear_1": (1, 0, "relu", False),
    "linear_2": (2, 0, "relu", False),
    "linear_3": (3, 0, "relu", False),
}
NETWORKS = {  # the same by the names of build_network
    name: {}
    if options is None
    else {
        "n_meta_learners": "auto",
        "prompt_dim": options[0],
        "meta_hidden_dim": options[1],
        "meta_activation": options[2],
        "edge_scale": options[3],
    }
    for name, options in SOURCES.items()
}
KNOTS = ["uniform", "ends", "quantile"]
each_source = pytest.mark.parametrize("source", SOURCES)
each_knots = pytest.mark.parametrize("knots", KNOTS)
each_dtype = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])


@pytest.fixture(autouse=True)
def few_rows(monkeypatch):
    """Small examples fall into several blocks of rows, too."""
    monkeypatch.setattr("sklearn_metakan.ops.memory.FEWEST_ROWS", 3)


def make(source, n_in=5, n_out=3, dtype=torch.float64, knots="uniform", extrapolation="linear"):
    """A layer with random numbers in every parameter."""
    rng = np.random.default_rng(0)
    ends = np.sort(rng.uniform(-1, 1, (n_in, 2))) + np.array([-0.5, 0.5])
    grid = {
        "uniform": (-1.0, 1.0),
        "ends": ends,
        "quantile": quantile_knots(rng.normal(size=(100, n_in)), CELLS),
    }[knots]
    basis = BSplineBasis(n_in, CELLS, DEGREE, grid, extrapolation, dtype=dtype)
    if SOURCES[source] is None:
        coefficients = DirectCoefficients(n_in, n_out, N_FUNCTIONS, dtype=dtype)
    else:
        p, hidden, activation, edge_scale = SOURCES[source]
        learner = MetaLearner(p, hidden, N_FUNCTIONS, activation, dtype=dtype)
        coefficients = MetaCoefficients(n_in, n_out, learner, edge_scale, dtype=dtype)
    generator = torch.Generator().manual_seed(0)
    for parameter in coefficients.parameters():
        nn.init.normal_(parameter, generator=generator)
    return KANLinear(n_in, n_out, basis, coefficients, init=None, dtype=dtype)


def draw(layer, n=7, seed=1):
    """Points on the grid and a little beyond; on it alone where the rest is forbidden."""
    low, high = layer.basis.domain.T
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(n, layer.in_features, generator=generator, dtype=torch.float64).to(low)
    if layer.basis.extrapolation != "error":
        share = 1.4 * share - 0.2
    return low + share * (high - low)


def weights_of(y):
    """Some gradient to send back."""
    numbers = torch.arange(y.numel(), dtype=torch.float64).view(y.shape)
    return torch.cos(numbers).to(y)


def compute(layer, x, backend="blocked", working_memory=TINY, derivative=0):
    """y, the gradient of x, and those of all parameters by name."""
    layer.zero_grad()
    x = x.detach().requires_grad_()
    y = edge_sum(x, layer.basis, layer.source, derivative, backend, working_memory)
    y.backward(weights_of(y))
    gradients = {name: p.grad.clone() for name, p in layer.named_parameters()}
    return {"y": y.detach(), "x": x.grad} | gradients


def assert_same(got, expected, ulps=1e3):
    """Equal to so many units of the last place of the largest number."""
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert got[name].dtype == value.dtype
        largest = max(1.0, value.abs().max().item()) if value.numel() else 1.0
        tolerance = ulps * torch.finfo(value.dtype).eps * largest
        difference = (got[name] - value).abs().max().item() if value.numel() else 0.0
        assert got[name].shape == value.shape
        assert difference <= tolerance, name


SHAPES = [(7, 5, 3), (1, 4, 2), (0, 3, 2), (6, 1, 3), (5, 7, 1), (1, 1, 1), (3, 2, 2)]


@each_source
@each_dtype
@pytest.mark.parametrize("derivative", [0, 1, 2])
def test_equals_the_reference_in_every_shape(source, dtype, derivative):
    for n, n_in, n_out in SHAPES:
        layer = make(source, n_in, n_out, dtype)
        x = draw(layer, n)
        expected = compute(layer, x, "reference", derivative=derivative)
        assert expected["y"].shape == (n, n_out)
        for memory in (TINY, 3e-3):  # an input a block, and two or three
            assert_same(compute(layer, x, "blocked", memory, derivative), expected)


@each_knots
@each_dtype
@pytest.mark.parametrize("extrapolation", ["linear", "base", "constant", "error"])
def test_equals_the_reference_on_and_beyond_every_grid(knots, dtype, extrapolation):
    for source, derivative in product(["scaled_sin", "linear_2"], [0, 1, 2]):
        layer = make(source, dtype=dtype, knots=knots, extrapolation=extrapolation)
        x = draw(layer, n=20)
        expected = compute(layer, x, "reference", derivative=derivative)
        assert_same(compute(layer, x, derivative=derivative), expected)


@each_source
@each_dtype
def test_memory_changes_the_result_by_rounding_alone(source, dtype):
    layer = make(source, n_in=9, dtype=dtype)
    x = draw(layer, n=17)
    expected = compute(layer, x, "reference")
    for memory in [1e-9, TINY, 1e-3, 3e-3, 0.01, 0.03, 0.1, 1.0, 1e6, float("inf"), None]:
        assert_same(compute(layer, x, working_memory=memory), expected)


@each_source
@pytest.mark.parametrize("knots", ["uniform", pytest.param("quantile", marks=pytest.mark.slow)])
def test_gradients_of_every_order(source, knots):
    """First and second derivatives by the input and by every parameter, through blocks."""
    layer = make(source, n_in=3, n_out=2, knots=knots)
    layer.backend, layer.working_memory = "blocked", TINY
    names, parameters = zip(*layer.named_parameters(), strict=True)
    x = draw(layer, n=4).requires_grad_()

    def call(x, *values):
        return functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert gradcheck(call, (x, *parameters))
    assert gradgradcheck(call, (x, *parameters), fast_mode=True)


@each_source
def test_poisoned_memory_does_not_come_through(source):
    """Every number of outputs and gradients is written: fresh memory holds NaN here."""
    layer = make(source)
    examples = [draw(layer, n) for n in (0, 1, 7)]
    expected = [compute(layer, x, "reference") for x in examples]
    before = torch.are_deterministic_algorithms_enabled()
    filling = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        assert torch.empty(3).isnan().all()
        for x, want in zip(examples, expected, strict=True):
            for memory in (TINY, None):
                assert_same(compute(layer, x, working_memory=memory), want)
    finally:
        torch.use_deterministic_algorithms(before)
        torch.utils.deterministic.fill_uninitialized_memory = filling


@each_source
def test_frozen_tensors_get_no_gradient_and_others_theirs(source):
    layer = make(source)
    x = draw(layer)
    expected = compute(layer, x, "reference")
    names = ["x", *dict(layer.named_parameters())]
    alone = [[name == other for other in names] for name in names]
    without = [[not want for want in wanted] for wanted in alone]
    for wanted in [*alone, *without, [False] * len(names)]:
        layer.zero_grad()
        own = x.clone()
        tensors = {"x": own} | dict(layer.named_parameters())
        for name, want in zip(names, wanted, strict=True):
            tensors[name].requires_grad_(want)
        y = edge_sum(own, layer.basis, layer.source, 0, "blocked", TINY)
        assert y.requires_grad == any(wanted)
        if any(wanted):
            y.backward(weights_of(y))
        got = {name: t.grad for name, t in tensors.items() if t.requires_grad}
        assert all(tensors[n].grad is None for n, w in zip(names, wanted, strict=True) if not w)
        assert_same(got, {name: expected[name] for name in got})


class CountingBasis(RBFBasis):
    """Which of the three were evaluated."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.calls = []

    def values(self, *args):
        self.calls.append("values")
        return super().values(*args)

    def contract(self, *args):
        self.calls.append("contract")
        return super().contract(*args)

    def values_and_contract(self, *args):
        self.calls.append("both")
        return super().values_and_contract(*args)


@pytest.mark.parametrize(
    ("of_x", "of_parameters", "calls"),
    [(False, True, ["values"]), (True, False, ["contract"]), (True, True, ["both"])],
)
@pytest.mark.parametrize("source", ["direct", "relu", "linear_2"])
def test_nothing_is_computed_for_what_needs_no_gradient(source, of_x, of_parameters, calls):
    layer = make(source)
    basis = CountingBasis(5, N_FUNCTIONS - 2, dtype=torch.float64)
    layer.source.requires_grad_(of_parameters)
    y = edge_sum(draw(layer).requires_grad_(of_x), basis, layer.source, backend="blocked")
    basis.calls.clear()
    y.sum().backward()
    assert basis.calls == calls


@each_source
def test_without_gradients(source):
    layer = make(source)
    x = draw(layer)
    expected = edge_sum(x, layer.basis, layer.source, backend="reference").detach()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            y = edge_sum(x, layer.basis, layer.source, 0, "blocked", TINY)
        torch.testing.assert_close(y, expected)
        assert not y.requires_grad


@each_source
def test_any_strides(source):
    """A transposed or strided input, an expanded one, and an expanded gradient."""
    layer = make(source)
    wide = draw(make(source, n_in=11), n=7)
    for x in (wide.T[:5].T, wide[:, ::2][:, :5], wide[:1, :5].expand(7, 5), wide.T[:5].T[::2]):
        expected = compute(layer, x.contiguous(), "reference")
        assert_same(compute(layer, x), expected)
        results = {}
        for backend in ("reference", "blocked"):
            layer.zero_grad()
            edge_sum(x, layer.basis, layer.source, 0, backend, TINY).sum().backward()
            results[backend] = {n: p.grad.clone() for n, p in layer.named_parameters()}
        assert_same(results["blocked"], results["reference"])


@each_source
def test_other_parameters_of_any_strides(source):
    """functional_call, with gradients of both orders; the layer's own are left alone."""
    layer = make(source)
    x = draw(layer)
    values = {}
    for name, p in layer.named_parameters():
        turned = p.detach().transpose(0, -1).contiguous().transpose(0, -1)  # same, other strides
        values[name] = (1.1 * turned).requires_grad_()
    results = []
    for backend, memory in [("reference", None), ("blocked", TINY), ("blocked", None)]:
        layer.backend, layer.working_memory = backend, memory
        y = functional_call(layer, values, (x,))
        first = torch.autograd.grad(y.square().sum(), [*values.values()], retain_graph=True)
        graph = torch.autograd.grad(y.square().sum(), [*values.values()], create_graph=True)
        norm = sum(g.square().sum() for g in graph)
        second = torch.autograd.grad(norm, [*values.values()])
        numbers = [y.detach(), *first, *(g.detach() for g in graph), *second]
        results.append({str(i): number for i, number in enumerate(numbers)})
    assert_same(results[1], results[0], ulps=1e4)
    assert_same(results[2], results[0], ulps=1e4)
    assert all(p.grad is None for p in layer.parameters())


@each_source
def test_deepcopy_after_a_step_is_apart(source):
    layer = make(source)
    layer.backend = "blocked"
    x = draw(layer)
    layer(x).sum().backward()
    copy = deepcopy(layer)
    torch.testing.assert_close(copy(x), layer(x), rtol=0, atol=0)
    before = layer(x).detach()
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.add_(1.0)
    copy(x).sum().backward()
    torch.testing.assert_close(layer(x), before, rtol=0, atol=0)


@each_source
def test_backward_twice_gives_the_same(source):
    layer = make(source)
    y = edge_sum(draw(layer), layer.basis, layer.source, 0, "blocked", TINY)
    parameters = [*layer.parameters()]
    first = torch.autograd.grad(y.sum(), parameters, retain_graph=True)
    second = torch.autograd.grad(y.sum(), parameters)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@each_source
def test_half_precision_inputs(source):
    layer = make(source, dtype=torch.float32)
    x = draw(layer).bfloat16()
    expected = compute(layer, x, "reference")
    got = compute(layer, x, "blocked")
    assert got["x"].dtype == torch.bfloat16
    assert_same(got, expected)


@pytest.mark.parametrize("extrapolation", ["linear", "base", "constant"])
@each_source
def test_nan_stays_in_its_row(source, extrapolation):
    layer = make(source, extrapolation=extrapolation)
    x = draw(layer)
    expected = compute(layer, x)["y"]
    x[1, 2] = torch.nan
    y = compute(layer, x)["y"]
    assert y[1].isnan().all()
    rest = [0, *range(2, 7)]
    torch.testing.assert_close(y[rest], expected[rest])


@pytest.mark.parametrize("source", ["relu", "linear_2"])
def test_error_beyond_the_grid(source):
    layer = make(source, extrapolation="error")
    x = draw(layer)
    x[6, 4] = 1.01
    with pytest.raises(ValueError, match='extrapolation="error"'):
        edge_sum(x, layer.basis, layer.source, 0, "blocked", TINY)


@each_source
def test_autocast_is_close_and_keeps_the_precision_of_sums(source):
    layer = make(source, n_in=12, dtype=torch.float32)
    x = draw(layer, n=20)
    expected = compute(layer, x)
    for backend in ("blocked", "reference"):
        with torch.autocast("cpu", torch.bfloat16):
            got = compute(layer, x, backend)
        assert not torch.equal(got["y"], expected["y"])  # it was on
        assert_same(got, expected, ulps=0.1 / torch.finfo(torch.float32).eps)


@each_source
def test_backward_has_the_precision_of_its_forward(source):
    """Wherever it is called: inside the autocast region or after it."""
    layer = make(source, dtype=torch.float32)
    x = draw(layer)
    gradients = {}
    for inside in (True, False):
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            y = edge_sum(x, layer.basis, layer.source, 0, "blocked", TINY)
            if inside:
                y.backward(weights_of(y))
        if not inside:
            y.backward(weights_of(y))
        gradients[inside] = [p.grad.clone() for p in layer.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(*gradients.values(), strict=True))
    exact = compute(layer, x)
    pairs = zip(gradients[True], layer.named_parameters(), strict=True)
    assert any(not torch.equal(got, exact[name]) for got, (name, _) in pairs)


def test_autocast_leaves_float64_alone():
    layer = make("scaled_sin")
    x = draw(layer)
    expected = compute(layer, x)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same(compute(layer, x), expected, ulps=10)


@pytest.mark.parametrize("backends", [*product(["reference", "blocked"], repeat=2)])
def test_autocasts_cache_does_not_cut_a_shared_meta_learner_off(backends):
    """What one layer casts without a graph must not serve another that needs one."""
    gradients = []
    for region in (False, True):
        network = build_network([5, 6, 3], n_meta_learners="auto", meta_activation="silu")
        for layer, backend in zip(network.layers, backends, strict=True):
            layer.backend = backend
        with torch.autocast("cpu", torch.bfloat16, enabled=region):
            y = network(torch.linspace(-1, 1, 35).view(7, 5))
            y.square().sum().backward()
        gradients.append({n: p.grad for n, p in network.named_parameters()})
    for name, exact in gradients[0].items():
        assert (gradients[1][name] - exact).norm() < 0.1 * exact.norm() + 0.01


def test_a_graph_of_gradients_of_layers_that_share_a_meta_learner():
    options = {"n_meta_learners": "auto", "meta_activation": "sin", "dtype": torch.float64}
    found = []
    for backend in ("reference", "blocked"):
        network = build_network([2, 3, 3, 1], backend=backend, **options)
        x = torch.linspace(-0.9, 0.9, 12, dtype=torch.float64).view(6, 2)
        y = network(x).pow(2).sum()
        gradients = torch.autograd.grad(y, list(network.parameters()), create_graph=True)
        again = torch.autograd.grad(sum(g.pow(2).sum() for g in gradients), network.parameters())
        found.append(dict(enumerate((*gradients, *again))))
    assert_same(found[1], found[0])


class LiveBytes(TorchDispatchMode):
    """Bytes of all tensors made inside that are alive, now and at most."""

    def __init__(self):
        super().__init__()
        self.known, self.now, self.most = set(), 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        given = {t.untyped_storage()._cdata for t in tensors_in((args, kwargs))}
        for tensor in tensors_in(out):
            storage = tensor.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if key not in self.known and key not in given:
                self.known.add(key)
                self.now += size
                weakref.finalize(storage, self.drop, key, size)
        self.most = max(self.most, self.now)
        return out

    def drop(self, key, size):
        self.known.remove(key)
        self.now -= size


def tensors_in(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def test_live_bytes_counts():
    with LiveBytes() as memory:
        a = torch.zeros(1000)
        b = a[:10].exp()
        del a
        c = (b + 1).view(2, 5)
    assert c.shape == (2, 5)
    assert (memory.most, memory.now) == (4040, 80)


MIB = 2**20
WIDE = [(256, 512, 256), (3000, 16, 4), (3000, 3, 64), (8, 128, 256)]


@each_dtype
@pytest.mark.parametrize(
    "source",
    [
        *("direct", "linear_3"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("relu", "sin", "scaled_sin")),
    ],
)
def test_a_block_stays_within_the_memory(source, dtype, monkeypatch):
    """All temporaries together, backward included; outputs and gradients do not count."""
    monkeypatch.undo()  # blocks as they are
    for (n, n_in, n_out), knots in zip(WIDE, [*KNOTS, "uniform"], strict=True):
        layer = make(source, n_in, n_out, dtype, knots)
        x = draw(layer, n).requires_grad_()
        for memory in (1, 4):
            layer.zero_grad()
            x.grad = None
            with LiveBytes() as forward:
                y = edge_sum(x, layer.basis, layer.source, 0, "blocked", memory)
            out = weights_of(y)
            with LiveBytes() as backward:
                y.backward(out)
            for used in (forward, backward):
                assert used.most - used.now <= memory * MIB


def saved_bytes(layer, x):
    """Storages kept for the backward pass, but for parameters."""
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = layer(x)
    own = {t.untyped_storage().data_ptr() for t in (*layer.parameters(), *layer.buffers())}
    assert y.requires_grad
    return sum(size for pointer, size in kept.items() if pointer not in own)


@each_source
def test_keeps_its_input_alone(source):
    layer = make(source, n_in=64, n_out=32)
    layer.backend = "blocked"
    x = draw(layer, n=100)
    assert saved_bytes(layer, x) == x.numel() * 8
    assert saved_bytes(layer, x.requires_grad_()) == x.numel() * 8
    layer.backend = "reference"
    assert saved_bytes(layer, x) > 8 * x.numel() * 8


@pytest.mark.parametrize(
    ("n", "n_in", "memory", "sizes"),
    [
        (100, 10, 1e-9, (1, 100)),  # nothing fits: an input, and the rows below the fewest
        (1000, 10, 1e-9, (1, 250)),  # or the fewest, in equal blocks
        (1000, 10, 1e9, (10, 1000)),  # everything fits
        (0, 10, 16.0, (10, 1)),
        (1, 1, 16.0, (1, 1)),
    ],
)
def test_block_sizes(n, n_in, memory, sizes, monkeypatch):
    monkeypatch.undo()
    layer = make("relu", n_in)
    x = torch.zeros(n, n_in, dtype=torch.float64)
    assert (
        block_sizes(x, layer.basis.numbers_per_value, layer.source.numbers_per_input, memory)
        == sizes
    )


def test_blocks_of_inputs_are_even():
    layer = make("relu", n_in=784, n_out=256, dtype=torch.float32)
    x = torch.zeros(256, 784)
    for memory in (1.0, 2.0, 5.0, 16.0):
        inputs, rows = block_sizes(
            x, layer.basis.numbers_per_value, layer.source.numbers_per_input, memory
        )
        blocks = -(-784 // inputs)
        assert 784 - (blocks - 1) * inputs > inputs - blocks  # the last one is about as wide
        assert 1 <= rows <= 256


def train(network, x, target, optimizer, steps=20):
    optimizer = optimizer(network.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        (network(x) - target).square().mean().backward()
        optimizer.step()
    return {name: p.detach() for name, p in network.named_parameters()}


@pytest.mark.parametrize(
    ("source", "optimizer"),
    [*((name, torch.optim.Adam) for name in NETWORKS), ("scaled_sin", torch.optim.SGD)],
)
def test_training_ends_in_the_same_weights(source, optimizer):
    """20 steps with little memory, with much, and with the reference."""
    x = torch.linspace(-1.2, 1.2, 32, dtype=torch.float64).view(8, 4)
    target = x.sin().prod(1, keepdim=True)
    trained = []
    for backend, memory in [("blocked", TINY), ("blocked", 64.0), ("reference", None)]:
        network = build_network([4, 5, 1], dtype=torch.float64, seed=0, **NETWORKS[source])
        for layer in network.layers:
            layer.backend, layer.working_memory = backend, memory
        trained.append(train(network, x, target, optimizer))
    assert_same(trained[0], trained[1], ulps=1e6)
    assert_same(trained[0], trained[2], ulps=1e6)


@pytest.mark.parametrize("source", [name for name in NETWORKS if name != "direct"])
def test_layers_add_up_in_a_shared_meta_learner(source):
    """Its gradient is the sum of those of copies, one a layer."""
    options = NETWORKS[source]
    shared = build_network([4, 5, 3, 2], dtype=torch.float64, seed=0, **options)
    options = options | {"n_meta_learners": "layer"}
    apart = build_network([4, 5, 3, 2], dtype=torch.float64, **options)
    apart.load_state_dict(shared.state_dict())
    for network in (shared, apart):
        for layer in network.layers:
            layer.backend, layer.working_memory = "blocked", TINY
        x = torch.linspace(-1.2, 1.2, 28, dtype=torch.float64).view(7, 4)
        network(x).square().sum().backward()
    learner = shared.layers[0].source.meta_learner
    copies = [layer.source.meta_learner for layer in apart.layers]
    got = {name: p.grad for name, p in learner.named_parameters()}
    assert_same(got, {name: sum(c.get_parameter(name).grad for c in copies) for name in got})
