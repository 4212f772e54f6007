"""Several networks in one: the same numbers as each by itself."""

import pytest
import torch

from sklearn_metakan.nn import KAN, MetaLearner, feature_importances, frozen, refine

BACKENDS = ["reference", "kept", "blocked"]


def learner(kind):
    sizes = {"linear": (3, 0), "hidden": (2, 8)}
    return None if kind == "direct" else MetaLearner(*sizes[kind], 9, "sin", dtype=torch.float64)


def network(kind, members=3, **settings):
    generator = torch.Generator().manual_seed(0)
    scale = kind == "hidden"
    how = {"meta_learners": learner(kind), "edge_scale": scale, "dtype": torch.float64}
    return KAN([4, 6, 5, 2], n_members=members, bias=True, generator=generator, **how, **settings)


def table():
    return torch.randn(30, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", ["direct", "linear", "hidden"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_members_give_what_each_gives_alone(kind, backend):
    together, x = network(kind, backend=backend), table()
    y = together(x)
    assert y.shape == (30, 3, 2)
    for member in range(3):
        alone = together.member(member)
        assert alone.layers[1].source.in_features == 6
        torch.testing.assert_close(alone(x), y[:, member])


@pytest.mark.parametrize("kind", ["direct", "linear", "hidden"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_members_are_those_of_each_alone(kind, backend):
    together, x = network(kind, backend=backend), table()
    together(x).square().sum().backward()
    for member in range(3):
        alone = together.member(member)
        alone(x).square().sum().backward()
        named = dict(alone.named_parameters())
        own = together._own(member)
        assert own
        for name, part in own.items():
            whole = together.get_parameter(name).grad
            torch.testing.assert_close(whole[part], named[name].grad)


@pytest.mark.parametrize("kind", ["direct", "linear", "hidden"])
def test_members_go_through_functions_of_networks(kind):
    together, x = network(kind), table()
    torch.testing.assert_close(frozen(together)(x), together(x))
    torch.testing.assert_close(refine(together, 10)(x), together(x))
    torch.testing.assert_close(together.from_features(together.features(x)), together(x))
    shares = feature_importances(together, x, x.flip(0))
    assert shares.shape == (4,)

    def mean(inputs):
        return together(inputs).mean(1)

    class Mean(torch.nn.Module):
        def forward(self, inputs):
            return mean(inputs)

    torch.testing.assert_close(shares, feature_importances(Mean(), x, x.flip(0)))


def test_which_parts_are_a_members_own():
    together = network("direct")
    seen = {name: torch.zeros_like(value) for name, value in together.named_parameters()}
    for member in range(3):
        for name, part in together.member_slices(member).items():
            seen[name][part] += 1
    assert all((count == 1).all() for count in seen.values())
    assert network("linear").member_slices(0) is None


def test_one_member_is_the_network_itself():
    one, x = network("direct", members=1), table()
    assert one(x).shape == (30, 2)
    torch.testing.assert_close(one.member(0)(x), one(x))


def test_members_must_be_at_least_one():
    with pytest.raises(ValueError, match="n_members must be at least 1, got 0"):
        KAN([2, 1], n_members=0)
