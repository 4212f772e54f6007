"""Finer grids keep the function, for every source; grids follow data, and nothing is NaN."""

import copy

import pytest
import torch

from sklearn_metakan.basis import BSplineBasis
from sklearn_metakan.nn import (
    ConvKAN,
    KANLinear,
    MetaCoefficients,
    MetaLearner,
    build_conv_network,
    build_network,
    refine,
    update_grids,
)

F64 = torch.float64
GENERATED = {"n_meta_learners": "auto", "meta_hidden_dim": 8}
EACH_LAYER = GENERATED | {"n_meta_learners": "layer"}
X = torch.linspace(-1.3, 1.2, 60, dtype=F64).view(20, 3)


def build(source=None, sizes=(3, 4, 2), **settings):
    network = build_network(list(sizes), dtype=F64, **{"grid_size": 3} | (source or {}) | settings)
    for parameter in network.parameters():  # biases too
        parameter.data.add_(0.05)
    return network


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def inputs_of_layers(network, x):
    for layer in network.kan_layers():
        yield layer, x
        x = layer(x)


def test_refined_networks_are_the_same_functions(source):
    network = build(source)
    before = copy.deepcopy(network.state_dict())
    for grid_size in (6, 12):
        finer = refine(network, grid_size)
        close(finer(X), network(X))
        assert {layer.basis.grid_size for layer in finer.kan_layers()} == {grid_size}
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("source", [{}, GENERATED], ids=["direct", "generated"])
@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("extrapolation", ["linear", "constant", "error", "base"])
def test_every_degree_and_extrapolation(source, degree, extrapolation):
    sizes = (3, 2) if extrapolation == "base" else (3, 4, 2)  # its tails become shorter
    settings = {"degree": degree, "extrapolation": extrapolation, "knots": (-2.0, 2.0)}
    network = build(source, sizes, **settings)
    close(refine(network, 6)(X), network(X))


@pytest.mark.parametrize("source", [{}, GENERATED], ids=["direct", "generated"])
def test_ends_of_each_input(source):
    network = build(source, knots=[[-1.0, 1.0], [-5.0, 1.0], [0.0, 0.3]])
    close(refine(network, 6)(X), network(X))


@pytest.mark.parametrize("source", [{}, GENERATED | {"edge_scale": True}])
def test_convolutions(source):
    shapes = (2, 6, 5), [3, 4], 2
    network = build_conv_network(*shapes, grid_size=3, norm="batch", dtype=F64, **source).eval()
    images = torch.rand(4, 2, 6, 5, dtype=F64)
    finer = refine(network, 6)
    assert isinstance(finer, ConvKAN)
    close(finer(images), network(images))


def test_convolutions_with_knots_of_each_channel():
    knots = [[0.0, 0.2, 0.3, 1.0], [-1.0, 0.2, 0.3, 1.0]]
    network = build_conv_network((2, 6, 5), [3], 2, grid_size=3, knots=knots, dtype=F64)
    images = torch.rand(4, 2, 6, 5, dtype=F64)
    close(refine(network, 7)(images), network(images))


def test_loading_a_refined_state_into_a_network_of_its_grid(source):
    finer = refine(build(source), 7)
    fresh = build_network([3, 4, 2], dtype=F64, grid_size=7, seed=9, **source)
    fresh.load_state_dict(finer.state_dict())
    assert torch.equal(fresh(X), finer(X))
    assert [n for n, _ in fresh.named_parameters()] == [n for n, _ in finer.named_parameters()]


def test_gradients_reach_the_new_parameters(source):
    finer = refine(build(source), 7)
    finer(X).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in finer.parameters())


def test_what_is_not_trained_stays_so():
    network = build()
    network.layers[0].source.weight.requires_grad_(False)
    assert not refine(network, 6).layers[0].source.weight.requires_grad


def test_shared_meta_learners_stay_shared():
    finer = refine(build(GENERATED), 6)
    first, second = (layer.source.meta_learner for layer in finer.layers)
    assert first is second


def test_float32_to_rounding():
    network = build_network([3, 4, 2], grid_size=3)
    x = X.float()
    torch.testing.assert_close(refine(network, 6)(x), network(x), rtol=1e-4, atol=1e-5)


def test_generated_coefficients_of_quantile_knots_raise():
    knots = [[0.0, 0.1, 0.2, 2.0], [-4.0, 3.0, 5.0, 6.0], [0.0, 1.0, 2.0, 3.0]]
    close(refine(build(knots=knots), 6)(X), build(knots=knots)(X))
    with pytest.raises(ValueError, match=r"grids would change differently.*uniform knots"):
        refine(build(GENERATED, knots=knots), 6)


def test_fewer_cells_raise():
    with pytest.raises(ValueError, match="from 3 to 2: a grid only becomes finer"):
        refine(build(), 2)


@pytest.mark.parametrize("source", [{}, EACH_LAYER], ids=["direct", "generated"])
def test_hidden_grids_cover_the_data_and_the_function_stays_near(source):
    network = build(source, sizes=(3, 4, 4, 2), grid_size=8)
    moved = update_grids(network, X, margin=0.1)
    assert torch.equal(moved.layers[0].basis.domain, network.layers[0].basis.domain)
    layers = list(inputs_of_layers(network, X))
    for layer, (_, received) in list(zip(moved.layers, layers, strict=True))[1:]:
        low, high = layer.basis.domain[0]
        spread = received.max() - received.min()
        torch.testing.assert_close(low, received.min() - 0.1 * spread)
        torch.testing.assert_close(high, received.max() + 0.1 * spread)
    spread = network(X).std()
    assert (moved(X) - network(X)).abs().max() < 0.1 * spread
    assert {n: v.shape for n, v in moved.state_dict().items()} == {
        n: v.shape for n, v in network.state_dict().items()
    }


def test_a_grid_far_wider_than_the_old_one_is_finite():
    network = build(sizes=(3, 4, 2))
    with torch.no_grad():
        network.layers[0].source.weight.mul_(1e4)
    moved = update_grids(network, X)
    assert moved.layers[1].basis.domain.abs().max() > 1e3
    assert moved(X).isfinite().all()


@pytest.mark.parametrize("name", ["rbf", "mexican_hat", "chebyshev", "gram"])
def test_other_families_stay_finite(name):
    network = build(basis=name)
    assert update_grids(network, X)(X).isfinite().all()
    assert update_grids(network, X[:1])(X).isfinite().all()


@pytest.mark.parametrize("x", [X[:1], X[:1].expand(9, 3)], ids=["one row", "equal rows"])
def test_constant_inputs_leave_a_grid_as_wide_as_it_was(x):
    network = build(sizes=(3, 1, 2))
    moved = update_grids(network, x)
    close(moved(X), network(X))  # nothing had to move
    with torch.no_grad():
        network.layers[0].source.weight.mul_(20.0)
    moved = update_grids(network, x)
    received = network.layers[0](x[:1])
    assert received.abs() > 3
    low, high = moved.layers[1].basis.domain[0]
    torch.testing.assert_close(high - low, torch.tensor(6.0, dtype=F64))
    torch.testing.assert_close((high + low) / 2, received[0, 0])
    close(moved(x), network(x))


def test_updating_leaves_the_network_and_its_mode_alone():
    network = build(dropout=0.5).train()
    network.layers[0].eval()
    before = copy.deepcopy(network.state_dict())
    moved = update_grids(network, X)
    assert [m.training for m in moved.modules()] == [m.training for m in network.modules()]
    assert not any(m._forward_pre_hooks for m in [*moved.modules(), *network.modules()])
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_convolutional_network():
    network = build_conv_network((2, 6, 5), [3, 4], 2, norm="batch", dtype=F64)
    images = torch.rand(8, 2, 6, 5, dtype=F64)
    moved = update_grids(network, images)
    assert torch.equal(moved.norms[0].running_mean, network.norms[0].running_mean)
    assert (moved.layers[1].basis.domain != network.layers[1].basis.domain).all()


def test_layers_under_one_meta_learner_that_would_change_differently_raise():
    network = build(GENERATED)
    with pytest.raises(ValueError, match="a meta-learner for each layer"):
        update_grids(network, X)
    single = update_grids(build(GENERATED, sizes=(3, 2)), X)  # no hidden layer, nothing moves
    close(single(X), build(GENERATED, sizes=(3, 2))(X))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_layers_that_receive_what_is_not_finite_raise(bad):
    x = X.clone()
    x[3, 1] = bad
    with pytest.raises(ValueError, match="not finite: layer 0"):
        update_grids(build(), x)
    network = build()
    with torch.no_grad():
        network.layers[0].source.weight[0, 0, 0] = bad
    with pytest.raises(ValueError, match="not finite: layer 1"):
        update_grids(network, X)


def test_no_rows_and_bad_margins_raise():
    with pytest.raises(ValueError, match="at least one row"):
        update_grids(build(), X[:0])
    for margin in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="margin must be finite and not negative"):
            update_grids(build(), X, margin=margin)


@pytest.mark.parametrize("edge_scale", [False, True])
def test_gain_and_scales_stay(edge_scale):
    learner = MetaLearner(2, 6, 7, dtype=F64)
    source = MetaCoefficients(3, 2, learner, edge_scale, dtype=F64)
    layer = KANLinear(3, 2, BSplineBasis(3, 3, dtype=F64), source, dtype=F64)
    matrix = torch.randn(5, 7, dtype=F64)
    expected, gain = matrix @ source.block(0, 3), source.gain.clone()
    learner.change_basis(matrix)
    close(layer.source.block(0, 3), expected)
    assert source.gain == gain
    assert source.n_functions == 5
