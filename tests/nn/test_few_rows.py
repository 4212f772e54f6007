"""FewRows: the network's numbers for a few rows, for as long as nothing in it changes."""

import pytest
import torch

from sklearn_metakan.nn import KAN, FewRows, MetaLearner, build_network

SOURCES = {
    "KAN": {},
    "linear": {"n_meta_learners": "layer", "prompt_dim": 3, "meta_hidden_dim": 0},
    "sine": {"n_meta_learners": "auto", "meta_activation": "sin", "edge_scale": True},
    "monotone": {"monotone": [1, 0, -1]},
    "bias": {"bias": True},
}


def made(members=3, dtype=torch.float64, **settings):
    network = build_network([3, 5, 4, 2], n_members=members, dtype=dtype, **settings).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.rand_like(parameter)
    return network


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("extrapolation", ["linear", "constant"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("grid_size", "degree"), [(5, 3), (2, 1), (7, 4)])
def test_same_numbers_inside_and_outside(source, members, extrapolation, dtype, grid_size, degree):
    settings = {"extrapolation": extrapolation, "grid_size": grid_size, "degree": degree}
    network = made(members, dtype, **settings, **SOURCES[source])
    assert FewRows.suits(network)
    few = FewRows(network)
    ends = torch.tensor([[-1.0, 1.0, 0.2]], dtype=dtype)  # of the grid, and a break
    for x in (torch.rand(1, 3, dtype=dtype), ends, 4 * torch.randn(4, 3, dtype=dtype)):
        with torch.no_grad():
            expected = network(x)
        found = few(x)
        assert (found.shape, found.dtype) == (expected.shape, dtype)
        size = expected.abs().max().item()
        torch.testing.assert_close(
            found, expected, rtol=0, atol=1e3 * torch.finfo(dtype).eps * size
        )


def test_each_input_may_have_a_grid_of_its_own():
    network = made(knots=[[-1.0, 1.0], [0.0, 5.0], [-2.0, 8.0]])
    x = 3 * torch.randn(4, 3, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(FewRows(network)(x), network(x))


@pytest.mark.parametrize(
    "settings",
    [
        {"basis": "rbf"},
        {"grid_size": 1},
        {"extrapolation": "base"},
        {"extrapolation": "error"},
        {"columns": {"fill": [0.0] * 3, "gaps": [1.0, 0.0, 0.0], "levels": []}},
        {"knots": [[-1.0, 0.0, 1.0]] * 3, "grid_size": 2},
    ],
)
def test_what_it_does_not_suit(settings):
    assert not FewRows.suits(made(**settings))
    assert not FewRows.suits(torch.nn.Sequential(made()))


def test_not_where_it_would_take_much_memory():
    assert not FewRows.suits(KAN([100, 1000, 1], init=None))


def add(network):
    with torch.no_grad():
        network.layers[1].source.meta_learner.output_weight[0, 0] += 1


def replace(network):
    source = network.layers[1].source
    source.prompts = torch.nn.Parameter(source.prompts.detach() + 1)


def replace_storage(network):
    prompts = network.layers[0].source.prompts
    prompts.data = prompts.data + 1


def replace_module(network):
    learner = MetaLearner(1, 32, 9, dtype=torch.float64)
    network.layers[0].source.meta_learner = learner


def load(network):
    state = {name: value + 1 for name, value in network.state_dict().items()}
    network.load_state_dict(state)


def move_knots(network):
    network.layers[0].basis.breaks.mul_(2)


def write_data(network):
    network.layers[1].source.prompts.data[0, 0, 0] += 1e-6


def write_array(network):
    network.layers[0].basis.breaks.numpy()[:] *= 2


def hook(network):
    network.layers[2].register_forward_hook(lambda *_: None)


def train(network):
    network.train()


@pytest.mark.parametrize(
    "change",
    [
        add,
        replace,
        replace_storage,
        replace_module,
        load,
        move_knots,
        write_data,
        write_array,
        hook,
        train,
    ],
)
def test_a_change_is_noticed(change):
    network = made(n_meta_learners="layer")
    few = FewRows(network)
    assert few.is_of(network)
    assert not few.is_of(made(n_meta_learners="layer"))
    change(network)
    assert not few.is_of(network)
