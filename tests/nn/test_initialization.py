"""Starting values keep the variance of activations, and come from one generator."""

from typing import get_args

import pytest
import torch

from sklearn_metakan.basis import BasisName
from sklearn_metakan.nn import KAN, MetaCoefficients, MetaLearner, build_network


def inputs(n, n_in, seed=0, dtype=torch.float32):
    """Uniform on the grid of the first layer."""
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.rand(n, n_in, generator=generator, dtype=torch.float64) - 1).to(dtype)


def parameters_equal(one, other):
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return [torch.equal(a, b) for a, b in pairs]


@pytest.mark.parametrize("seed", range(4))
@torch.no_grad()
def test_eight_layers_keep_the_spread(source, seed):
    """Over rows: the outputs' standard deviation stays near one, their means near zero."""
    network = build_network([64] * 9, seed=seed, **source)
    x = inputs(256, 64, seed)
    for layer in network.layers:
        x = layer(x)
        spread = x.var(0).mean().sqrt()
        assert 0.5 < spread < 2
        assert x.mean(0).square().mean().sqrt() < 0.5 * spread


@pytest.mark.parametrize("basis", get_args(BasisName))
@pytest.mark.parametrize("scaled", [False, True])
@torch.no_grad()
def test_four_layers_of_every_basis_keep_the_spread(basis, scaled):
    options = {"n_meta_learners": "auto", "edge_scale": True} if scaled else {}
    for seed, degree in ((0, 3), (1, 6)):
        network = build_network([64] * 5, basis=basis, degree=degree, seed=seed, **options)
        x = inputs(256, 64, seed)
        for layer in network.layers:
            x = layer(x)
            spread = x.var(0).mean().sqrt()
            assert 0.5 < spread < 2
            assert x.mean(0).square().mean().sqrt() < 0.5 * spread


@pytest.mark.parametrize("widths", [[3, 100, 5, 1], [200, 10, 80, 2]])
@torch.no_grad()
def test_uneven_widths_keep_the_spread(source, widths):
    """On average over networks: a single one of few edges may by chance be weak or strong."""
    x = inputs(256, widths[0])
    variances = [build_network(widths, seed=seed, **source)(x).var(0).mean() for seed in range(20)]
    assert 0.5 < torch.stack(variances).mean().sqrt() < 2


@torch.no_grad()
def test_per_input_knots_keep_the_spread(source):
    ends = torch.linspace(1.0, 50.0, 64)
    network = build_network(
        [64, 64], knots=torch.stack([-ends, ends], 1).numpy(), extrapolation="error", **source
    )
    spread = network(inputs(256, 64) * ends).var(0).mean().sqrt()
    assert spread > 0.5


@torch.no_grad()
def test_direct_edges_are_draws_from_the_prior():
    """``L g / sqrt(in)`` with ``L L'`` proportional to ``P^-1``, layer after layer."""
    network = build_network([4, 3, 2], seed=7, dtype=torch.float64)
    levels = (torch.arange(256, dtype=torch.float64) + 0.5) / 256
    generator = torch.Generator().manual_seed(7)
    laws = (2 * levels - 1, 1.0), (torch.special.ndtri(levels), 3.0)  # and half the grid
    for layer, (x, half) in zip(network.layers, laws, strict=True):
        n_in = layer.in_features
        x = x[:, None].expand(-1, n_in)
        values = layer.basis.evaluate(x).flatten(0, 1)
        curvatures = layer.basis.evaluate(x, derivative=2).flatten(0, 1) * half**2
        moment, mean = values.T @ values / len(values), values.mean(0)
        penalty = 1e4 * mean.outer(mean) + 3 * curvatures.T @ curvatures / len(values)
        ridge = moment.trace() / len(moment) * torch.eye(len(moment), dtype=torch.float64)
        factor = torch.linalg.cholesky(moment + penalty + ridge).inverse().T
        factor /= (factor.T @ moment @ factor).trace().sqrt()
        weight = layer.source.weight
        numbers = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        expected = factor @ numbers / n_in**0.5
        torch.testing.assert_close(weight, expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_order_of_the_draws_of_generated_edges():
    """Prompts edge by edge, then scales, of every layer; then the meta-learner's."""
    options = {"n_meta_learners": "auto", "prompt_dim": 2, "edge_scale": True}
    network = build_network([4, 3, 2], seed=7, dtype=torch.float64, **options)
    generator = torch.Generator().manual_seed(7)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    for layer in network.layers:
        source, n_in, n_out = layer.source, layer.in_features, layer.out_features
        assert torch.equal(source.prompts, draw(n_in, n_out, 2).mT)
        assert torch.equal(source.edge_scale, draw(n_in, n_out))
        assert source.gain.item() == n_in**-0.5
    learner = source.meta_learner
    assert torch.equal(learner.hidden_weight, draw(32, 2) / 2**0.5)
    assert torch.equal(learner.hidden_bias, -(learner.hidden_weight * draw(32, 2)).sum(1)[:, None])


@torch.no_grad()
def test_layers_that_are_alike_start_as_alone():
    """What they share, the moments of a basis, does not depend on who else is there."""
    network = build_network([5, 6, 6, 6], seed=7, basis="morlet", dtype=torch.float64)
    generator = torch.Generator().manual_seed(7)
    for layer in network.layers:
        started = layer.source.weight.clone()
        layer.reset_parameters(generator)
        assert torch.equal(layer.source.weight, started)


def test_seed_decides_the_parameters(source):
    one, same, other = (build_network([4, 3, 2], seed=s, **source) for s in (1, 1, 2))
    assert all(parameters_equal(one, same))
    # with a dictionary of fewer functions than the basis has, only prompts are drawn
    drawn = [p for name, p in one.named_parameters() if "output_weight" not in name]
    others = [p for name, p in other.named_parameters() if "output_weight" not in name]
    assert not any(torch.equal(a, b) for a, b in zip(drawn, others, strict=True))


@pytest.mark.parametrize("init", ["variance", "paper"])
def test_global_generator_stays_untouched(source, init):
    before = torch.get_rng_state()
    build_network([4, 3, 2], dropout=0.1, init=init, **source)
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_generator_the_global_one_is_used():
    torch.manual_seed(3)
    one = KAN([4, 3], meta_learners=MetaLearner(1, 8, 9))
    torch.manual_seed(3)
    assert all(parameters_equal(one, KAN([4, 3], meta_learners=MetaLearner(1, 8, 9))))
    assert not all(parameters_equal(one, KAN([4, 3], meta_learners=MetaLearner(1, 8, 9))))


@torch.no_grad()
def test_float32_starts_where_float64_does(source):
    single, double = (
        build_network([6, 5, 4], dtype=dtype, **source) for dtype in (torch.float32, torch.float64)
    )
    x = inputs(50, 6, dtype=torch.float64)
    # the square root: the fit of the meta-learner's output solves an ill-conditioned system
    tolerance = torch.finfo(torch.float32).eps ** 0.5
    torch.testing.assert_close(single(x.float()).double(), double(x), rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layer_sizes", [[1, 1], [1, 1, 1], [1, 2, 1]])
@torch.no_grad()
def test_tiny_layers_are_finite_and_respond(source, dtype, layer_sizes):
    for seed in range(5):
        network = build_network(layer_sizes, dtype=dtype, seed=seed, **source)
        y = network(inputs(50, 1, dtype=dtype))
        assert torch.isfinite(y).all()
        assert y.std() > 0


@pytest.mark.parametrize("hidden_dim", [1, 2, 3])
@pytest.mark.parametrize("activation", ["relu", "silu", "tanh", "sin"])
@torch.no_grad()
def test_tiny_meta_learners_are_finite_and_respond(hidden_dim, activation):
    for seed in range(20):
        network = build_network(
            [6, 6],
            n_meta_learners="auto",
            meta_hidden_dim=hidden_dim,
            meta_activation=activation,
            seed=seed,
        )
        y = network(inputs(50, 6))
        assert torch.isfinite(y).all()
        assert y.std() > 0


@torch.no_grad()
def test_smallest_grid_and_degree(source):
    y = build_network([8, 8, 8], grid_size=1, degree=1, **source)(inputs(50, 8))
    assert torch.isfinite(y).all()
    assert y.std() > 0


@pytest.mark.parametrize("prompt_dim", [1, 2])
@pytest.mark.parametrize("hidden_dim", [0, 32])
def test_paper(prompt_dim, hidden_dim):
    """Xavier-normal prompts and weights, zero biases, no gain."""
    network = build_network(
        [50, 40, 30],
        n_meta_learners="auto",
        prompt_dim=prompt_dim,
        meta_hidden_dim=hidden_dim,
        edge_scale=hidden_dim > 0,
        grid_size=200,
        init="paper",
        bias=True,
    )
    xavier = {}
    for layer in network.layers:
        n_edges = layer.in_features * layer.out_features
        xavier[layer.source.prompts] = (2 / (n_edges + prompt_dim)) ** 0.5
        assert layer.source.gain == 1
        assert not layer.bias.any()
        assert layer.source.edge_scale is None or (layer.source.edge_scale == 1).all()
    learner = network.layers[0].source.meta_learner
    n_functions = learner.n_functions
    xavier[learner.output_weight] = (2 / (n_functions + (hidden_dim or prompt_dim))) ** 0.5
    if hidden_dim:
        xavier[learner.hidden_weight] = (2 / (hidden_dim + prompt_dim)) ** 0.5
        assert not learner.hidden_bias.any() and not learner.output_bias.any()
    for parameter, std in xavier.items():
        five_deviations = 5 * std / (2 * parameter.numel()) ** 0.5
        assert abs(parameter.square().mean().sqrt() - std) < five_deviations
        assert parameter.mean().abs() < 5 * std / parameter.numel() ** 0.5


def test_starting_again_forgets_the_earlier_recipe():
    """reset_parameters after init="paper" brings the gain back."""
    layer = build_network([4, 3], n_meta_learners="auto", init="paper", bias=True).layers[0]
    torch.nn.init.ones_(layer.bias)
    layer.reset_parameters(torch.Generator().manual_seed(0))
    fresh = build_network([4, 3], n_meta_learners="auto", seed=0, bias=True).layers[0]
    x = inputs(5, 4)
    torch.testing.assert_close(layer(x), fresh(x))


def test_unknown_recipe_raises():
    with pytest.raises(ValueError, match="init must be 'variance' or 'paper', got 'xavier'"):
        KAN([2, 1], init="xavier")


def test_init_none_is_all_zero(source):
    network = build_network([4, 3, 2], init=None, **source)
    for layer in network.layers:
        assert not layer.source.block(0, layer.in_features).any()
        if isinstance(layer.source, MetaCoefficients):
            assert not layer.source.prompts.any()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"basis": "rbf"},
        {"basis": "morlet"},
        {"basis": "gram"},
        {"degree": 4},
        {"degree": 5, "init_order": 3},
        {"extrapolation": "base"},
        {"grid_size": 7},
    ],
    ids=str,
)
@pytest.mark.parametrize("ends", [(-1.0, 1.0), (0.0, 1.0)])
def test_a_grid_for_all_inputs_and_for_each_start_alike(settings, ends):
    """What is kept of grids that all inputs share is not that of others."""

    def start(knots):
        generator = torch.Generator().manual_seed(0)
        network = KAN([2, 3, 1], knots=knots, generator=generator, dtype=torch.float64, **settings)
        return network.state_dict()["layers.0.source.weight"]

    start((-2.0, 2.0))
    for _ in range(2):
        torch.testing.assert_close(start(ends), start([ends, ends]))
