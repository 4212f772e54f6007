"""KANLinear is a bias plus a sum of edge functions."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from sklearn_metakan.basis import BSplineBasis
from sklearn_metakan.nn import (
    DirectCoefficients,
    KANLinear,
    MetaCoefficients,
    MetaLearner,
    build_network,
)

each_backend = pytest.mark.parametrize("backend", ["reference", "blocked"])
few_sources = pytest.mark.parametrize("source", ["direct", "sin_1", "linear_2"], indirect=True)


def build(options, n_in=4, n_out=3, **more):
    network = build_network([n_in, n_out], dtype=torch.float64, **options, **more)
    return network.layers[0]


def draw(n, n_in):
    generator = torch.Generator().manual_seed(0)
    return 2.6 * torch.rand(n, n_in, generator=generator, dtype=torch.float64) - 1.3


@torch.no_grad()
def test_is_the_sum_of_its_edges(source):
    layer = build(source, bias=True)
    layer.bias.copy_(torch.tensor([1.0, -2.0, 3.0]))
    x = draw(9, 4)
    edges = layer.edge_functions(x)
    assert edges.shape == (9, 4, 3)
    torch.testing.assert_close(layer(x), layer.bias + edges.sum(1))


def test_derivatives_of_edges_are_autograds(source):
    layer = build(source)
    x = draw(9, 4).requires_grad_()
    for o in range(3):
        edges = layer.edge_functions(x)[:, :, o]
        for m in (1, 2):
            (edges,) = torch.autograd.grad(edges.sum(), x, create_graph=True)
            torch.testing.assert_close(layer.edge_functions(x, derivative=m)[:, :, o], edges)


def test_gradients_of_every_order(source):
    layer = build(source, n_in=2, n_out=2, grid_size=2, bias=True)
    x = draw(3, 2).requires_grad_()
    names, parameters = zip(*layer.named_parameters(), strict=True)

    def call(x, *values):
        return functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert gradcheck(call, (x, *parameters))
    assert gradgradcheck(call, (x, *parameters), fast_mode=True)


@torch.no_grad()
def test_meta_equals_direct_when_the_coefficients_agree(source):
    layer = build(source)
    direct = DirectCoefficients(4, 3, layer.basis.n_functions, dtype=torch.float64)
    direct.weight.copy_(layer.source.block(0, 4))
    x = draw(9, 4)
    torch.testing.assert_close(KANLinear(4, 3, layer.basis, direct, init=None)(x), layer(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept(source, dtype):
    layer = build_network([4, 3], dtype=dtype, bias=True, **source).layers[0]
    floats = [t for t in layer.state_dict().values() if t.is_floating_point()]
    assert {t.dtype for t in floats} == {dtype}
    assert layer(torch.zeros(2, 4, dtype=dtype)).dtype == dtype


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's own, where a graph breaks
@each_backend
@few_sources
def test_compiled_by_torch(source, backend):
    layer = build(source, backend=backend)
    x = draw(9, 4).requires_grad_()
    found = []
    torch._dynamo.reset()
    for call in (torch.compile(layer, backend="aot_eager"), layer):
        y = call(x)
        found.append([y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])])
    for got, expected in zip(*found, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@each_backend
@few_sources
def test_exported_by_torch(source, backend):
    """Bases other than splines."""
    layer = build(source, backend=backend, basis="rbf")
    x = draw(9, 4)
    exported = torch.export.export(layer, (torch.zeros_like(x),)).module()
    torch.testing.assert_close(exported(x), layer(x))


def test_default_is_a_direct_spline_layer_without_bias():
    layer = KANLinear(4, 3)
    assert isinstance(layer.source, DirectCoefficients)
    assert isinstance(layer.basis, BSplineBasis)
    assert [name for name, _ in layer.named_parameters()] == ["source.weight"]


def test_init_none_starts_at_zero():
    layer = KANLinear(4, 3, init=None)
    assert not layer(torch.rand(5, 4)).any()
    layer.reset_parameters()
    assert layer(torch.rand(5, 4)).all()


@pytest.mark.parametrize(
    ("basis", "source"),
    [
        (BSplineBasis(5), DirectCoefficients(4, 3, 9)),
        (BSplineBasis(4), DirectCoefficients(5, 3, 9)),
        (BSplineBasis(4), DirectCoefficients(4, 2, 9)),
        (BSplineBasis(4), MetaCoefficients(4, 3, MetaLearner(1, 8, 10))),
        (BSplineBasis(4, grid_size=7), None),
    ],
)
def test_parts_that_do_not_fit_raise(basis, source):
    if source is None:
        source = DirectCoefficients(4, 3, 9)
    functions = basis.n_functions
    with pytest.raises(ValueError, match=rf"do not fit.*must be \(4, 4, 3, {functions}\), got"):
        KANLinear(4, 3, basis, source)


def test_wrong_input_width_raises():
    with pytest.raises(ValueError, match=r"in_features = 4.*\(2, 5\)"):
        KANLinear(4, 3)(torch.zeros(2, 5))
