"""Inputs have the total Sobol indices known for simple functions, and edges their parts."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from sklearn_metakan.nn import KAN, KANLinear, MetaLearner, edge_importances, feature_importances

N = 20_000
MONTE_CARLO = 5 / N**0.5  # five standard deviations of a mean of numbers of order one


class Function(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


def samples(n_features, n=N):
    """Two independent samples, uniform on [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.rand(2, n, n_features, generator=generator, dtype=torch.float64) - 1


@pytest.mark.parametrize(
    ("f", "shares"),
    [
        # Var(c t) = c^2 / 3 and Var(t^2) = 4 / 45
        (lambda x: x @ x.new_tensor([[3.0], [2.0], [1.0]]), [9 / 14, 4 / 14, 1 / 14]),
        (lambda x: x[:, :1] + x[:, 1:2] ** 2 + 7, [15 / 19, 4 / 19, 0]),
        # an interaction counts for both of its inputs
        (lambda x: x[:, :1] * x[:, 1:2], [1 / 2, 1 / 2, 0]),
        (lambda x: x[:, :1] * x[:, 1:2] + x[:, 2:], [1 / 5, 1 / 5, 3 / 5]),
        # outputs add up
        (lambda x: torch.stack([x[:, 0], 2 * x[:, 2], 0 * x[:, 1] + 5], 1), [1 / 5, 0, 4 / 5]),
    ],
    ids=["linear", "additive", "product", "mixed", "several_outputs"],
)
def test_known_shares(f, shares):
    got = feature_importances(Function(f), *samples(3))
    assert got.sum().item() == pytest.approx(1)
    for value, share in zip(got.tolist(), shares, strict=True):
        assert value == (pytest.approx(share, abs=MONTE_CARLO) if share else 0)


@pytest.mark.parametrize("degree", [1, 3])
def test_network_with_hand_set_edges(degree):
    """With the means of their inner knots as coefficients, splines sum to the identity."""
    network = KAN([3, 1], degree=degree, dtype=torch.float64)
    basis, weight = network.layers[0].basis, network.layers[0].source.weight
    identity = basis.breaks[0].unfold(0, degree, 1)[1:-1].mean(1)
    with torch.no_grad():
        weight.zero_()
        weight[0, 1:, 0], weight[2, 1:, 0] = 2 * identity, -identity
    x, other = samples(3)
    torch.testing.assert_close(network(x), 2 * x[:, :1] - x[:, 2:])
    got = feature_importances(network, x, other)
    assert got[1] == 0
    torch.testing.assert_close(got, got.new_tensor([0.8, 0, 0.2]), rtol=0, atol=MONTE_CARLO)


@pytest.mark.parametrize("basis", ["bspline", "rbf", "gram"])
@pytest.mark.parametrize("sizes", [[5, 1], [5, 4, 3, 2]])
@pytest.mark.parametrize("generated", [False, True])
def test_a_kan_has_those_of_its_function(sizes, basis, generated, monkeypatch):
    """Blocks of inputs through the later layers alone, against the whole network for each."""
    monkeypatch.setattr("sklearn_metakan.nn.importance._NUMBERS", 2000)
    functions = KAN([5, 1], basis=basis).layers[0].basis.n_functions
    learner = MetaLearner(1, 8, functions, dtype=torch.float64) if generated else None
    network = KAN(sizes, basis=basis, meta_learners=learner, dropout=0.5, dtype=torch.float64)
    x, other = (2 * part for part in samples(5, n=50))  # also beyond the grid
    calls = []
    network.layers[0].register_forward_hook(lambda *_: calls.append(1))
    got = feature_importances(network, x, other)
    assert len(calls) == 1  # however many inputs
    torch.testing.assert_close(got, feature_importances(Function(network.eval()), x, other))


def test_constant_network_has_none():
    constant = Function(lambda x: torch.ones(len(x), 2))
    assert feature_importances(constant, *samples(3, n=10)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("training", [True, False])
def test_reads_in_evaluation_mode_and_leaves_the_mode(training):
    seen = []
    network = Function(lambda x: x).train(training)
    network.f = lambda x: (seen.append(network.training), x)[1]
    importances = feature_importances(network, *samples(2, n=10).requires_grad_())
    assert not any(seen) and seen
    assert network.training is training
    assert not importances.requires_grad


def test_samples_stay_as_they_are():
    x, other = samples(2, n=10)
    before = x.clone(), other.clone()
    feature_importances(Function(lambda x: x), x, other)
    assert torch.equal(x, before[0]) and torch.equal(other, before[1])


# --- edges ------------------------------------------------------------------------------


@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize("sizes", [[5, 2], [5, 4, 3, 2]])
def test_edges_of_an_input_sum_to_its_importance(sizes, n_members):
    network = KAN(sizes, n_members=n_members, dropout=0.5, dtype=torch.float64)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x, other = samples(5, n=100)
    found = edge_importances(network, x, other)
    shapes = pairwise(sizes)
    assert [each.shape for each in found] == [(n_members, *shape) for shape in shapes]
    for each in found:
        assert (each >= 0).all() and each.sum().item() == pytest.approx(1)
    expected = feature_importances(network, x, other)
    torch.testing.assert_close(found[0].sum((0, 2)), expected)
    assert network.training and not any(each.requires_grad for each in found)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_edges_of_an_additive_network_have_the_variance_of_their_functions():
    layer = KANLinear(3, 2, dtype=torch.float64)
    x, other = samples(3, n=2000)
    (found,) = edge_importances(layer, x, other)
    phi = layer.edge_functions(torch.cat([x, other])).detach()
    variance = phi.var(0)
    expected = variance.sum(1) / variance.sum()
    torch.testing.assert_close(found[0].sum(1), expected, atol=0.05, rtol=0)
    torch.testing.assert_close(
        found[0] / found[0].sum(1, keepdim=True),
        variance / variance.sum(1, keepdim=True),
        atol=0.05,
        rtol=0,
    )


def exchanged_one_by_one(network, x, other):
    """The outputs' spread as each edge alone is exchanged, by the whole network for each."""
    found, outputs = [], network(x)
    for k, layer in enumerate(network.layers):
        change = layer.edge_functions(other) - layer.edge_functions(x)
        spread = torch.zeros(change.shape[1:], dtype=x.dtype)
        for i, o in torch.cartesian_prod(*map(torch.arange, spread.shape)).tolist():
            h = layer(x)
            h[:, o] += change[:, i, o]
            for later in network.layers[k + 1 :]:
                h = later(h)
            spread[i, o] = (outputs - h).pow(2).mean(0).sum() / 2
        found.append(spread)
        x, other = layer(x), layer(other)
    return found


def test_parts_of_an_input_are_as_what_each_edge_alone_passes_on():
    """To first order, against the exact exchange."""
    torch.manual_seed(0)
    network = KAN([3, 12, 8, 1], dtype=torch.float64)
    x, other = samples(3, n=300)
    with torch.no_grad():
        exact = exchanged_one_by_one(network, x, other)
    for found, spread in zip(edge_importances(network, x, other), exact, strict=True):
        for of_input, alone in zip(found[0], spread, strict=True):
            both = torch.stack([of_input, alone]).log()
            assert len(alone) == 1 or torch.corrcoef(both)[0, 1] > 0.95


def test_edges_that_cancel_one_another_are_not_important():
    """x_1 reaches the output by two units, whose sum it leaves alone: y = x_0 + (x_1 - x_1)."""
    network = KAN([2, 2, 1], degree=1, grid_size=8, dtype=torch.float64)
    with torch.no_grad():
        for layer in network.layers:
            layer.source.weight.zero_()
            identity = layer.basis.breaks[0][1:-1]
            layer.source.weight[:, 1:] = identity[:, None]
        network.layers[0].source.weight[1, :, 1] *= -1
        network.layers[0].source.weight[0, :, 1] = 0
    x, other = samples(2, n=500)
    torch.testing.assert_close(network(x), x[:, :1])
    first, last = edge_importances(network, x, other)
    torch.testing.assert_close(first[0], first.new_tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert last.shape == (1, 2, 1)
