"""What is known of a table gives the sums and the gradients of its functions."""

import pytest
import torch

from sklearn_metakan.nn import build_network

SOURCES = {
    "direct": {},
    "linear": {"n_meta_learners": "auto", "prompt_dim": 3, "meta_hidden_dim": 0},
    "hidden": {"n_meta_learners": "auto", "edge_scale": True, "meta_activation": "sin"},
}


def make(kind, **settings):
    options = {"grid_size": 2, "degree": 2, "dtype": torch.float64} | SOURCES[kind] | settings
    return build_network([7, 5, 2], **options)


def draw(n=40):
    return 1.5 * torch.randn(n, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("settings", [{}, {"n_members": 3}, {"bias": True}, {"degree": 3}])
@pytest.mark.parametrize("extrapolation", ["linear", "constant"])
@pytest.mark.parametrize("kind", SOURCES)
def test_sums_and_gradients_are_those_of_functions(kind, extrapolation, settings):
    network, x = make(kind, extrapolation=extrapolation, **settings), draw()
    with torch.no_grad():
        features, (known, matrix) = network.features(x), network.known(x)
    assert matrix is not None and known.shape[1] == 7 * (len(matrix) - 1)
    found = []
    for y in (network.from_features(features), network(None, known, matrix), network(x)):
        numbers = y.square().sum()
        found.append([y, *torch.autograd.grad(numbers, [*network.parameters()])])
    for other in found[1:]:
        for one, expected in zip(other, found[0], strict=True):
            torch.testing.assert_close(one, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("settings", [{"grid_size": 5}, {"extrapolation": "base"}])
def test_else_the_functions_are_known(settings):
    network, x = make("direct", **settings), draw()
    known, matrix = network.known(x)
    assert matrix is None and torch.equal(known, network.features(x))
    assert torch.equal(network(None, known, matrix), network.from_features(known))


def test_gaps_are_beside_what_is_known():
    columns = {"fill": torch.zeros(7), "gaps": torch.ones(7), "levels": [[20, 20]]}
    network, x = make("linear", columns=columns), torch.cat([draw(), torch.ones(40, 1)], 1)
    x[::3, 2] = torch.nan
    with torch.no_grad():
        known, matrix = network.known(x)
    assert matrix is not None
    torch.testing.assert_close(network(None, known, matrix), network(x))


@pytest.mark.parametrize("kind", ["direct", "linear"])
def test_what_does_not_learn_gets_no_gradient(kind):
    network, x = make(kind), draw()
    first = network.layers[0].source
    frozen = next(iter(first.parameters())).requires_grad_(False)
    network(None, *network.known(x)).sum().backward()
    assert frozen.grad is None
    rest = [p for p in network.parameters() if p is not frozen]
    assert all(parameter.grad is not None for parameter in rest)
