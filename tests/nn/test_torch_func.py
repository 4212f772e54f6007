"""torch.func goes through layers and networks as through any module."""

from copy import deepcopy

import pytest
import torch
from torch.func import functional_call, grad, jacrev, jvp, stack_module_state, vmap

from sklearn_metakan.nn import KANLinear, build_conv_network, build_network

F64 = torch.float64
SOURCES = {
    "direct": {},
    "scaled_sin": {"n_meta_learners": "auto", "meta_activation": "sin", "edge_scale": True},
    "linear": {"n_meta_learners": "auto", "meta_hidden_dim": 0, "prompt_dim": 2},
}


def layer(seed, source, basis):
    return build_network([3, 2], seed=seed, basis=basis, bias=True, dtype=F64, **source).layers[0]


def dense(seed, source, basis):
    return build_network([3, 4, 2], seed=seed, basis=basis, dtype=F64, **source)


def images(seed, source, basis):
    return build_conv_network((1, 4, 4), [3, 2], 2, seed=seed, basis=basis, dtype=F64, **source)


@pytest.fixture(params=[layer, dense, images])
def make(request):
    return request.param


@pytest.fixture(params=SOURCES)
def settings(request):
    return SOURCES[request.param]


@pytest.fixture(params=["bspline", "rbf", "gram"])
def basis(request):
    return request.param


def rows(module):
    generator = torch.Generator().manual_seed(0)
    shape = (3,) if hasattr(module, "in_features") or hasattr(module, "dropouts") else (1, 4, 4)
    return 2.4 * torch.rand(5, *shape, generator=generator, dtype=F64) - 1.2


def test_vmap_over_rows(make, settings, basis):
    module = make(0, settings, basis)
    x = rows(module)
    torch.testing.assert_close(vmap(lambda row: module(row[None])[0])(x), module(x))


def test_jacobians_by_the_input(make, settings, basis):
    module = make(0, settings, basis)
    x = rows(module)
    found = vmap(jacrev(lambda row: module(row[None])[0]))(x)
    expected = torch.autograd.functional.jacobian(lambda x: module(x).sum(0), x).movedim(1, 0)
    torch.testing.assert_close(found, expected)
    direction = torch.cos(torch.arange(x.numel())).view(x.shape).to(x)
    value, slope = jvp(module, (x,), (direction,))
    torch.testing.assert_close(value, module(x))
    torch.testing.assert_close(slope, (found * direction[:, None]).flatten(2).sum(2))


def test_gradients_of_every_row(make, settings, basis):
    module = make(0, settings, basis)
    x, parameters = rows(module), dict(module.named_parameters())

    def loss(parameters, row):
        return functional_call(module, parameters, (row[None],), tie_weights=False).square().sum()

    found = vmap(grad(loss), (None, 0))(parameters, x)
    for i, row in enumerate(x):
        of_row = torch.autograd.grad(module(row[None]).square().sum(), [*parameters.values()])
        for name, expected in zip(parameters, of_row, strict=True):
            torch.testing.assert_close(found[name][i], expected)


def test_several_modules_at_once(make, settings, basis):
    modules = [make(seed, settings, basis) for seed in range(3)]
    parameters, _ = stack_module_state(modules)
    base, x = deepcopy(modules[0]), rows(modules[0])

    def call(parameters):  # on the grids of the first, which are those of all
        return functional_call(base, parameters, (x,), tie_weights=False)

    found = vmap(call)(parameters)
    torch.testing.assert_close(found, torch.stack([module(x) for module in modules]))


def test_the_module_is_left_as_it_was():
    module = dense(0, SOURCES["scaled_sin"], "bspline")
    before = dict(module.named_parameters(remove_duplicate=False))
    values = {name: torch.zeros_like(p) for name, p in module.named_parameters()}
    assert not functional_call(module, values, (rows(module),), tie_weights=False).any()
    for name, parameter in module.named_parameters(remove_duplicate=False):
        assert parameter is before[name]


def test_layers_by_hand():
    """A layer that no network made."""
    module = KANLinear(3, 2, dtype=F64)
    x = rows(module)
    assert jacrev(module)(x).shape == (5, 2, 5, 3)
