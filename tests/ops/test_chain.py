"""Layers as one operation give what they give one after the other, gradients of gradients too."""

import pytest
import torch

from sklearn_metakan.nn import build_network
from sklearn_metakan.ops import edge_sums

SOURCES = {
    "direct": {},
    "linear": {"n_meta_learners": "auto", "prompt_dim": 3, "meta_hidden_dim": 0},
    "hidden": {"n_meta_learners": "auto", "edge_scale": True, "meta_activation": "sin"},
    "members": {"n_members": 3},
}
FEW = {"grid_size": 2, "degree": 2}


def make(kind, **settings):
    return build_network([4, 5, 3, 2], dtype=torch.float64, **SOURCES[kind] | settings)


def draw(n=20):
    return torch.randn(n, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def one_by_one(network, x):
    for layer in network.layers:
        x = layer(x)
    return network.by_member(x)


def chained(network, x, matrix=None):
    return edge_sums(x, [each.alone() for each in network.layers], matrix)


def gradients(y, network):
    found = torch.autograd.grad(y.square().sum(), [*network.parameters()])
    return [y, *found]


def close(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("settings", [{}, FEW, {"basis": "chebyshev", "degree": 3}])
@pytest.mark.parametrize("kind", SOURCES)
def test_sums_and_gradients(kind, settings):
    network, x = make(kind, **settings), draw()
    expected = gradients(one_by_one(network, x), network)
    close(gradients(network(x), network), expected)
    close(gradients(network.by_member(chained(network, x)), network), expected)


@pytest.mark.parametrize("kind", SOURCES)
def test_from_what_is_known(kind):
    network, x = make(kind, **FEW), draw()
    matrix = network.layers[0].basis.matrix_of_terms()
    known = network.features(x, True)
    close(
        gradients(network.from_features(known, matrix), network),
        gradients(one_by_one(network, x), network),
    )


@pytest.mark.parametrize("kind", ["direct", "linear"])
def test_gradients_of_gradients(kind):
    network, x = make(kind, **FEW), draw(6)
    terms, matrix = network.features(x, True), network.layers[0].basis.matrix_of_terms()
    found = []
    for y in (one_by_one(network, x), chained(network, terms, matrix)):
        first = torch.autograd.grad(y.sum(), [*network.parameters()], create_graph=True)
        size = sum(each.square().sum() for each in first)
        found.append(torch.autograd.grad(size, [*network.parameters()]))
    close(*found)


@pytest.mark.parametrize("kind", ["direct", "linear"])
def test_a_graph_may_be_gone_through_twice(kind):
    network, x = make(kind, **FEW), draw()
    terms, matrix = network.features(x, True), network.layers[0].basis.matrix_of_terms()
    for y in (chained(network, x).square().sum(), chained(network, terms, matrix).square().sum()):
        wanted = [*network.parameters()]
        first = torch.autograd.grad(y, wanted, retain_graph=True)
        for one, other in zip(first, torch.autograd.grad(y, wanted), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["direct", "linear"])
def test_what_the_way_back_has_used_is_freed_with_the_graph_there(kind):
    network, x = make(kind), draw(1000)
    y = chained(network, x)
    chain = y.grad_fn.way
    loss = y.sum()

    def held():
        kept = [each for way in chain.ways for each in vars(way).values()]
        return sum(each.nbytes for each in [*kept, *chain.inputs] if torch.is_tensor(each))

    features = x.nbytes * network.layers[0].n_features // x.shape[1]
    assert held() > features
    loss.backward()
    assert loss.requires_grad and held() < features


def test_gradients_of_inputs():
    network, x = make("direct"), draw().requires_grad_()
    found = [torch.autograd.grad(f(network, x).sum(), x) for f in (one_by_one, chained)]
    close(*found)


def test_what_lies_between_layers_is_not_left_out():
    x = draw()
    network = build_network([4, 5, 2], dropout=0.9, dtype=torch.float64)
    assert not torch.equal(network(x), network(x))
    assert torch.equal(network.eval()(x), one_by_one(network, x))
    network.layers[1].register_forward_hook(lambda *_: torch.zeros(20, 2))
    assert not network(x).any()


def test_a_layer_that_does_not_learn_gets_no_gradient():
    network, x = make("direct"), draw()
    network.layers[1].source.weight.requires_grad_(False)
    network(x).sum().backward()
    assert network.layers[1].source.weight.grad is None
    expected = [each.grad.clone() for each in network.parameters() if each.requires_grad]
    network.zero_grad()
    one_by_one(network, x).sum().backward()
    close(expected, [each.grad for each in network.parameters() if each.requires_grad])
