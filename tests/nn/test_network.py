"""KAN: layers one after the other, whose meta-learners may be one and the same, by cluster."""

import pickle
from copy import deepcopy
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from sklearn_metakan.basis import quantile_knots
from sklearn_metakan.nn import KAN, MetaLearner, build_network, refine
from sklearn_metakan.nn.sources import cluster_widths


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def build(layer_sizes, options, **more):
    return build_network(layer_sizes, dtype=torch.float64, **options, **more)


def draw(n, n_in):
    generator = torch.Generator().manual_seed(0)
    return 2.6 * torch.rand(n, n_in, generator=generator, dtype=torch.float64) - 1.3


def meta_learners(network):
    return [layer.source.meta_learner for layer in network.layers]


@torch.no_grad()
def test_is_its_layers_one_after_the_other(source):
    network = build([4, 3, 5, 2], source, bias=True)
    x = draw(9, 4)
    y = x
    for layer in network.layers:
        y = layer(y)
    torch.testing.assert_close(network(x), y)
    assert [(i.in_features, i.out_features) for i in network.layers] == [(4, 3), (3, 5), (5, 2)]


@torch.no_grad()
def test_meta_equals_direct_when_the_coefficients_agree(source):
    network = build([4, 3, 2], source)
    direct = build([4, 3, 2], {})
    for layer, its in zip(direct.layers, network.layers, strict=True):
        layer.source.weight.copy_(its.source.block(0, its.in_features))
    x = draw(9, 4)
    with torch.enable_grad():
        x.requires_grad_()
        (slope,) = torch.autograd.grad(network(x).sum(), x)
        (same,) = torch.autograd.grad(direct(x).sum(), x)
    torch.testing.assert_close(network(x), direct(x))
    torch.testing.assert_close(slope, same)


def test_gradients_of_every_order(source):
    network = build([2, 2, 1], source, grid_size=2, bias=True)
    x = draw(3, 2).requires_grad_()
    names, parameters = zip(*network.named_parameters(), strict=True)

    def call(x, *values):
        return functional_call(network, dict(zip(names, values, strict=True)), (x,))

    assert gradcheck(call, (x, *parameters))
    assert gradgradcheck(call, (x, *parameters), fast_mode=True)


MNIST = [784, 32, 10]
EDGES = 784 * 32 + 32 * 10


@pytest.mark.parametrize(("hidden_dim", "expected"), [(16, 25_778), (32, 26_130), (64, 26_834)])
def test_parameters_of_the_paper(hidden_dim, expected):
    learners = [MetaLearner(1, hidden_dim, 9) for _ in range(2)]
    assert count(KAN(MNIST, meta_learners=learners)) == expected
    built = build_network(MNIST, n_meta_learners="layer", meta_hidden_dim=hidden_dim)
    assert count(built) == expected


@pytest.mark.parametrize(("grid_size", "degree"), [(5, 3), (20, 2)])
def test_kan_has_c_parameters_an_edge(grid_size, degree):
    network = KAN(MNIST, grid_size=grid_size, degree=degree)
    assert count(network) == (1 + grid_size + degree) * EDGES
    assert count(KAN(MNIST, bias=True)) == 9 * EDGES + 32 + 10


@pytest.mark.parametrize("prompt_dim", [1, 2, 3])
@pytest.mark.parametrize(("n_meta_learners", "times"), [("auto", 1), (1, 1), (2, 2), ("layer", 2)])
def test_metakan_has_p_parameters_an_edge(prompt_dim, n_meta_learners, times):
    def n_parameters(hidden_dim, edge_scale=False):
        return count(
            build_network(
                MNIST,
                n_meta_learners=n_meta_learners,
                prompt_dim=prompt_dim,
                meta_hidden_dim=hidden_dim,
                edge_scale=edge_scale,
            )
        )

    p, hidden, functions = prompt_dim, 16, 9
    learner = (p + 1) * hidden + (hidden + 1) * functions
    assert n_parameters(hidden) == EDGES * p + times * learner
    assert n_parameters(hidden, edge_scale=True) == EDGES * (p + 1) + times * learner
    assert n_parameters(0) == EDGES * p + times * p * functions


@pytest.mark.parametrize(
    ("n_meta_learners", "labels"),
    [("auto", [0, 0, 0, 0]), (1, [0, 0, 0, 0]), (2, [1, 0, 1, 0]), (3, [2, 1, 2, 0])],
)
def test_layers_of_a_cluster_share_one_meta_learner(n_meta_learners, labels):
    network = build_network([7, 64, 16, 60, 2], n_meta_learners=n_meta_learners)
    learners = meta_learners(network)
    for a in range(4):
        for b in range(4):
            assert (learners[a] is learners[b]) == (labels[a] == labels[b])


def test_a_meta_learner_a_layer():
    assert len({*meta_learners(build_network([4, 4, 4, 4], n_meta_learners="layer"))}) == 3


def test_one_for_all_is_the_same_as_a_list_of_it():
    shared = MetaLearner(1, 8, 9)
    for given in (shared, [shared, shared], nn.ModuleList([shared, shared])):
        assert {*meta_learners(KAN([4, 3, 2], meta_learners=given))} == {shared}


def test_a_callable_makes_them_for_the_widths_and_functions():
    made = []

    def make(widths, n_functions):
        made.extend(MetaLearner(1, width, n_functions) for width in widths)
        return made

    network = KAN([4, 3, 2], meta_learners=make, grid_size=7)
    assert meta_learners(network) == made
    assert [(m.hidden_dim, m.n_functions) for m in made] == [(3, 11), (2, 11)]


@pytest.mark.parametrize("sizes", [[3, 8, 2], [9, 4, 20, 1], [5, 1]])
@pytest.mark.parametrize("basis", ["bspline", "morlet"])
def test_sizes_of_the_widest_layer(sizes, basis):
    network = build_network(sizes, basis=basis, grid_size=4)
    for each in (network, refine(network, 6)):
        layers = [*each.kan_layers()]
        features = [layer.in_features * layer.basis.n_functions for layer in layers]
        assert each.widest_features == max(features)
        assert each.widest_layer == max(m.in_features + m.out_features for m in layers)
        assert each.out_features == layers[-1].out_features


def test_a_shared_meta_learner_is_trained_by_all_its_layers_at_once():
    """Its gradient is the sum of those of copies, one a layer."""
    shared = build([4, 3, 2], {"n_meta_learners": "auto", "meta_activation": "silu"})
    apart = build([4, 3, 2], {"n_meta_learners": "layer", "meta_activation": "silu"})
    learner, *_ = meta_learners(shared)
    apart.load_state_dict(shared.state_dict())
    x = draw(9, 4)
    torch.testing.assert_close(apart(x), shared(x))
    shared(x).square().sum().backward()
    apart(x).square().sum().backward()
    for name, parameter in learner.named_parameters():
        gradients = [copy.get_parameter(name).grad for copy in meta_learners(apart)]
        assert all(gradient.any() for gradient in gradients)
        torch.testing.assert_close(parameter.grad, sum(gradients))
    names = [name for name, _ in shared.named_parameters() if "meta_learner" in name]
    assert all(name.startswith("layers.0.") for name in names)  # once, under the first layer


WIDTHS = [16, 32, 64, 128, 256, 256, 512, 512]
LABELS = ["00000000", "00000011", "00001122", "00012233", "00123344", "01234455"]


def spread(widths, labels):
    widths, labels = np.asarray(widths, float), np.asarray(labels)
    return sum(((w := widths[labels == label]) - w.mean()) @ (w - w.mean()) for label in {*labels})


@pytest.mark.parametrize("n_clusters", [1, 2, 3, 4, 5, 6])
def test_labels_of_the_paper(n_clusters):
    expected = [int(label) for label in LABELS[n_clusters - 1]]
    assert cluster_widths(WIDTHS, n_clusters) == expected


@pytest.mark.parametrize("seed", range(8))
def test_no_assignment_is_better(seed):
    rng = np.random.default_rng(seed)
    widths = rng.choice([1, 2, 3, 10, 16, 17, 32, 64, 100], size=6).tolist()
    for n_clusters in range(1, min(4, len({*widths})) + 1):
        labels = cluster_widths(widths, n_clusters)
        assignments = product(range(n_clusters), repeat=len(widths))
        best = min(spread(widths, a) for a in assignments if len({*a}) == n_clusters)
        assert {*labels} == {*range(n_clusters)}
        assert spread(widths, labels) == pytest.approx(best)


@pytest.mark.parametrize("n_clusters", [1, 2, 3])
def test_labels_follow_the_width_and_not_the_order(n_clusters):
    widths = [512, 16, 64, 16, 256]
    labels = cluster_widths(widths, n_clusters)
    assert sorted(labels) == [label for _, label in sorted(zip(widths, labels, strict=True))]
    reverse = cluster_widths(widths[::-1], n_clusters)
    assert reverse[::-1] == labels


@pytest.mark.parametrize("n_clusters", [-1, 0, 3, 8])
def test_more_clusters_than_distinct_widths_raise(n_clusters):
    with pytest.raises(ValueError, match=rf"n_meta_learners.*between 1 and.*2.*got {n_clusters}"):
        cluster_widths([8, 8, 4], n_clusters)


def through_state(network, layer_sizes, options):
    copy = build(layer_sizes, options, init=None)
    copy.load_state_dict(network.state_dict())
    return copy


@pytest.mark.parametrize("init", ["variance", "paper"])
@pytest.mark.parametrize("way", ["deepcopy", "pickle", "state_dict"])
def test_copies_are_equal_and_apart(source, way, init):
    network = build([4, 3, 2], source, init=init)
    copy = {
        "deepcopy": deepcopy,
        "pickle": lambda network: pickle.loads(pickle.dumps(network)),
        "state_dict": lambda network: through_state(network, [4, 3, 2], source),
    }[way](network)
    x = draw(9, 4)
    before = network(x)
    assert before.any()
    torch.testing.assert_close(copy(x), before, rtol=0, atol=0)
    assert count(copy) == count(network)  # what was shared still is
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.add_(1)
    torch.testing.assert_close(network(x), before, rtol=0, atol=0)


@torch.no_grad()
def test_casts_to_other_dtypes(source):
    network = build([4, 3, 2], source)
    x, expected = draw(9, 4), network(draw(9, 4))
    for cast, dtype in (("float", torch.float32), ("half", torch.float16)):
        copy = getattr(deepcopy(network), cast)()
        y = copy(x.to(dtype))
        assert y.dtype == dtype
        error = (y - expected).norm() / expected.norm()
        assert error < 100 * torch.finfo(dtype).eps
        back = copy.double()(x)
        assert back.dtype == torch.float64
        assert (back - expected).norm() / expected.norm() < 100 * torch.finfo(dtype).eps


def test_state_holds_the_knots():
    network = KAN([2, 3, 1], knots=[[-3.0, 1.0], [0.0, 7.0]])
    copy = KAN([2, 3, 1], knots=[[0.0, 1.0], [0.0, 1.0]], init=None)
    copy.load_state_dict(network.state_dict())
    x = torch.tensor([[-2.0, 6.0], [0.5, 0.5]])
    torch.testing.assert_close(copy(x), network(x), rtol=0, atol=0)


def test_every_input_has_its_own_knots():
    data = np.random.default_rng(0).normal(size=(100, 3)) * [1, 10, 100]
    knots = quantile_knots(data, 5)
    first, second = KAN([3, 2, 1], knots=knots, dtype=torch.float64).layers
    torch.testing.assert_close(first.basis.domain.numpy(), knots[:, [0, -1]])
    assert not first.basis.uniform
    assert second.basis.uniform
    torch.testing.assert_close(second.basis.domain[0], -second.basis.domain[0].flip(0))


def test_extrapolation_error_watches_the_inputs_alone():
    network = build([3, 4, 1], {}, extrapolation="error")
    with torch.no_grad():
        network.layers[0].source.weight.mul_(1e4)
    x = torch.tensor([[-1.0, 0.0, 1.0]], dtype=torch.float64)
    assert network.layers[0](x).abs().max() > 10 * network.layers[1].basis.domain.max()
    assert torch.isfinite(network(x)).all()
    with pytest.raises(ValueError, match='extrapolation="error"'):
        network(x + 0.01)


@pytest.mark.parametrize("extrapolation", ["linear", "base", "constant"])
def test_extrapolation_is_that_of_every_layer(extrapolation):
    network = KAN([3, 4, 1], extrapolation=extrapolation)
    assert [layer.basis.extrapolation for layer in network.layers] == [extrapolation] * 2


@pytest.mark.parametrize("extrapolation", ["linear", "base", "constant"])
def test_nan_in_a_row_stays_in_its_row(source, extrapolation):
    """Diverged training must end in a loss of NaN, not in an index error."""
    network = build([3, 4, 2], source, extrapolation=extrapolation)
    x = draw(5, 3)
    expected = network(x)
    x[1, 2] = torch.nan
    y = network(x)
    assert y[1].isnan().all()
    rest = [0, 2, 3, 4]
    torch.testing.assert_close(y[rest], expected[rest])


def with_dropout(source, seed=0):
    network = build([4, 30, 2], source, dropout=0.5, seed=seed)
    plain = build([4, 30, 2], source, init=None)
    plain.load_state_dict(network.state_dict())
    return network, plain


def test_dropout_acts_in_training_only(source):
    network, plain = with_dropout(source)
    x = draw(9, 4)
    torch.testing.assert_close(network.eval()(x), plain(x), rtol=0, atol=0)
    one, two = network.train()(x), network(x)
    assert not torch.allclose(one, plain(x))
    assert not torch.allclose(one, two)


def test_dropout_leaves_the_inputs_of_the_network_alone():
    network = build([4, 2], {}, dropout=0.9)
    x = draw(9, 4)
    torch.testing.assert_close(network.train()(x), network.eval()(x), rtol=0, atol=0)


def test_dropout_hits_the_inputs_of_hidden_layers_and_no_outputs():
    network = build([4, 30, 2], {}, dropout=0.5).train()
    seen = []
    network.layers[1].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    assert network(draw(50, 4)).all()
    zeros = (seen[0] == 0).double().mean()
    assert abs(zeros - 0.5) < 5 * 0.5 / seen[0].numel() ** 0.5


def test_dropout_is_private_and_repeats_with_the_seed():
    before = torch.get_rng_state()
    x = draw(9, 4)
    one, same, other = (with_dropout({}, seed)[0] for seed in (1, 1, 2))
    other.load_state_dict(one.state_dict())
    y = one.train()(x)
    assert torch.equal(same.train()(x), y)
    assert not torch.equal(other.train()(x), y)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("layer_sizes", [[], [3], [3, 0], [3, -2, 1]])
def test_bad_layer_sizes_raise(layer_sizes):
    with pytest.raises(ValueError, match="layer_sizes must name at least two positive widths"):
        KAN(layer_sizes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"meta_learners": [MetaLearner(1, 8, 9)] * 3}, "each of the 2 layers, got 3"),
        ({"meta_learners": []}, "each of the 2 layers, got 0"),
        ({"meta_learners": MetaLearner(1, 8, 10)}, r"\(4, 4, 3, 9\), got \(4, 4, 3, 10\)"),
        ({"meta_learners": MetaLearner(1, 8, 9), "grid_size": 6}, "10.*got.*9"),
        ({"meta_learners": MetaLearner(2, 0, 9), "edge_scale": True}, "edge_scale=True"),
        ({"edge_scale": True}, "edge_scale=True needs meta_learners"),
        ({"dropout": 1.0}, "dropout must be .* got 1.0"),
        ({"extrapolation": "zero"}, "extrapolation must be one of .*'zero'"),
        ({"knots": (1.0, 0.0)}, "knots must be .*increasing"),
        ({"knots": np.zeros((3, 2))}, r"knots must .*\(4, 6\).*got shape \(3, 2\)"),
        ({"degree": 0}, "degree must be at least 1, got .*0"),
        ({"init": "zeros"}, "init must be .*'zeros'"),
    ],
)
def test_contradictions_raise(options, message):
    with pytest.raises(ValueError, match=message):
        KAN([4, 3, 2], **options)


def test_more_meta_learners_than_widths_raise():
    with pytest.raises(ValueError, match=r"n_meta_learners must be between 1 and .*2.*got 3"):
        build_network([4, 3, 3, 2], n_meta_learners=3)


def test_unknown_backend_raises():
    with pytest.raises(ValueError, match=r"backend must be .*'numpy'"):
        KAN([2, 1], backend="numpy")(torch.zeros(1, 2))
