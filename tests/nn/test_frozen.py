"""Networks with generated weights made once: the same function, and no ties to what changes."""

import copy

import pytest
import torch

from sklearn_metakan.nn import KAN, DirectCoefficients, MetaLearner, frozen, n_frozen

F64 = torch.float64
SIZES = [3, 5, 4, 2]


def network(kind, **settings):
    meta = {
        "direct": None,
        "perceptron": MetaLearner(2, 6, 9, "tanh", dtype=F64),
        "linear": MetaLearner(2, 0, 9, dtype=F64),
    }[kind]
    generator = torch.Generator().manual_seed(0)
    settings = {"edge_scale": kind == "perceptron"} | settings
    kan = KAN(SIZES, meta_learners=meta, generator=generator, dtype=F64, **settings)
    for parameter in kan.parameters():  # biases too
        parameter.data.add_(0.1)
    return kan.eval()


KINDS = ["direct", "perceptron", "linear"]
SETTINGS = [{}, {"bias": True}, {"dropout": 0.5}, {"working_memory": 1e-4}, {"backend": "blocked"}]
X = torch.linspace(-1.5, 1.5, 21, dtype=F64).view(7, 3)

every = pytest.mark.parametrize("kind", KINDS)


@every
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_same_outputs(kind, settings):
    kan = network(kind, **settings)
    still = frozen(kan)
    torch.testing.assert_close(still(X), kan(X))
    assert all(isinstance(layer.source, DirectCoefficients) for layer in still)
    assert {p.dtype for p in still.parameters()} == {F64}


@every
def test_layers_keep_how_they_compute(kind):
    for layer in frozen(network(kind, backend="blocked", working_memory=3.0)):
        assert (layer.backend, layer.working_memory) == ("blocked", 3.0)


@pytest.mark.parametrize("kind", ["perceptron", "linear"])
def test_later_changes_do_not_reach_the_weights(kind):
    kan = network(kind)
    still, expected = frozen(kan), kan(X)
    for parameter in kan.parameters():
        parameter.data.zero_()
    torch.testing.assert_close(still(X), expected)
    for parameter in frozen(network(kind)).parameters():
        assert parameter.is_leaf
        assert parameter.requires_grad


def test_linear_meta_learners_may_stay():
    kan = network("linear")
    pairs = zip(frozen(kan, linear=False), kan.layers, strict=True)
    assert all(mine is theirs for mine, theirs in pairs)
    assert n_frozen(kan, linear=False) == n_frozen(network("direct")) == 0


@pytest.mark.parametrize("kind", ["perceptron", "linear"])
def test_number_of_weights(kind):
    kan = network(kind)
    made = sum(p.numel() for p in frozen(kan).parameters())
    assert n_frozen(kan) == made == 9 * (3 * 5 + 5 * 4 + 4 * 2)


def test_weights_are_made_a_few_inputs_at_a_time(monkeypatch):
    kan = network("perceptron", working_memory=1e-3)
    source, sizes = type(kan.layers[0].source), []
    block = source.block

    def watched(self, start, stop):
        sizes.append((stop - start) * self.numbers_per_input * 8)
        return block(self, start, stop)

    monkeypatch.setattr(source, "block", watched)
    frozen(kan)
    assert len(sizes) > 3
    one_input = max(8 * layer.source.numbers_per_input for layer in kan.layers)
    assert max(sizes) <= max(1e-3 * 2**20, one_input)


def test_inside_inference_mode_and_autocast():
    kan = network("perceptron").float()
    x = X.float()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        torch.testing.assert_close(frozen(kan)(x), kan(x), rtol=0.02, atol=0.02)


def test_state_of_one_network_fits_into_another():
    one, other = frozen(network("perceptron")), frozen(network("linear"))
    other.load_state_dict(one.state_dict())
    torch.testing.assert_close(other(X), one(X))
    assert copy.deepcopy(one)(X).equal(one(X))
