"""Gaps, levels and atoms of a first layer: every way through the network gives the same sums."""

import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from sklearn_metakan.nn import (
    KAN,
    Columns,
    KANLinear,
    Levels,
    MetaLearner,
    feature_importances,
    frozen,
    refine,
    update_grids,
)

N, FEW, MANY = 300, 3, 70  # rows; levels with numbers of their own, and generated ones
ATOMS = [0.25, -0.5]  # of the first number
DOUBLE = {"dtype": torch.float64}


def inputs(seed=0):
    """Two numbers, the first with atoms, the second with gaps, and two columns of codes."""
    rng = np.random.default_rng(seed)
    x = np.c_[rng.uniform(-1, 1, (N, 2)), rng.integers(FEW, size=N), rng.integers(MANY, size=N)]
    x[rng.random(N) < 0.2, 1] = np.nan
    x[::5, 0], x[1::10, 0] = ATOMS
    return torch.from_numpy(x)


X = inputs()
COLUMNS = Columns(
    fill=[0.1, -0.2],
    gaps=[0.0, float(X[:, 1].isnan().sum())],
    levels=[torch.bincount(X[:, j].long()).double() for j in (2, 3)],
    atoms=[[0, value, N / each, 1 / each] for value, each in zip(ATOMS, (5, 10), strict=True)],
)


def linear(widths, n_functions):
    return [MetaLearner(2, 0, n_functions, **DOUBLE) for _ in widths]


def network(n_members=1, meta_learners=None, seed=0, columns=COLUMNS):
    generator = torch.Generator().manual_seed(seed)
    settings = {"n_members": n_members, "meta_learners": meta_learners, "columns": columns}
    net = KAN([2, 6, 2], **settings, generator=generator, **DOUBLE)
    with torch.no_grad():  # gaps and atoms start at zero
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, **DOUBLE)
    return net


each_network = pytest.mark.parametrize(
    ("n_members", "meta_learners"), [(1, None), (3, None), (1, linear), (3, linear)]
)


def by_hand(layer, x):
    """What levels add, from the definition."""
    levels, added = layer.levels, torch.zeros(len(x), layer.out_features, **DOUBLE)
    rows = torch.as_tensor([COLUMNS.gaps[1], N / 5, N / 10], **DOUBLE)
    counts = torch.cat([rows, *COLUMNS.levels])
    half = torch.ones(len(counts), **DOUBLE)  # rows at which a number counts half
    half[1:3] = 20
    trust = counts / (counts + half) * levels.gain
    at = [x[:, 1].isnan(), *(x[:, 0] == value for value in ATOMS)]
    for row, there in enumerate(at):
        added += there[:, None] * trust[row] * levels.table[row]
    own = trust[3 : 3 + FEW, None] * levels.table[3:]
    added += one_hot(x[:, 2].long(), FEW).double() @ own
    made = trust[3 + FEW :, None] * (levels.prompts @ levels.edges[0])
    return added + one_hot(x[:, 3].long(), MANY).double() @ made


@each_network
def test_a_first_layer_is_curves_and_what_gaps_and_levels_add(n_members, meta_learners):
    layer = network(n_members, meta_learners).layers[0]
    fill = torch.tensor(COLUMNS.fill, **DOUBLE)
    plain = KANLinear(2, layer.out_features, layer.basis, layer.source, init=None)
    numbers = torch.where(X[:, :2].isnan(), fill, X[:, :2])
    torch.testing.assert_close(layer(X), plain(numbers) + by_hand(layer, X))


@each_network
def test_kept_features_edge_functions_and_frozen_weights_agree(n_members, meta_learners):
    net = network(n_members, meta_learners)
    first = net.layers[0]
    features = net.features(X)
    assert features.shape == (N, first.n_features)
    torch.testing.assert_close(net.from_features(features), net(X))
    edges = first.edge_functions(X)
    torch.testing.assert_close(edges.sum(1), first(X))
    for start, stop in ((0, 1), (1, 3), (2, 4), (3, 4)):
        some = first.edge_functions(X, 0, start, stop)
        torch.testing.assert_close(some, edges[:, start:stop])
    torch.testing.assert_close(frozen(net)(X), net(X))
    torch.testing.assert_close(refine(net, 10)(X), net(X))
    assert update_grids(net, X)(X).isfinite().all()


@each_network
def test_members_are_networks_of_their_own(n_members, meta_learners):
    net = network(n_members, meta_learners).settled(X)
    unknown = X.clone()
    unknown[::3, 0], unknown[1::3, 2], unknown[2::3, 3] = torch.nan, torch.nan, torch.nan
    together = net(unknown).view(N, n_members, 2)
    for member in range(n_members):
        torch.testing.assert_close(net.member(member)(unknown), together[:, member])


@each_network
def test_what_training_did_not_see_is_the_mean_of_its_column(n_members, meta_learners):
    net = network(n_members, meta_learners)
    settled = net.settled(X)
    torch.testing.assert_close(settled(X), net(X))  # all of which it saw
    edges, first = net.layers[0].edge_functions(X), settled.layers[0]
    for column in (0, 2, 3):
        unknown = X.clone()
        unknown[:, column] = torch.nan
        known = [j for j in range(4) if j != column]
        expected = edges[:, known].sum(1) + edges[:, column].mean(0)
        torch.testing.assert_close(first(unknown), expected)
        torch.testing.assert_close(first.edge_functions(unknown).sum(1), expected)
    assert net.layers[0].levels.unseen is None


def test_a_network_without_levels_takes_gaps_once_it_is_settled():
    net = network(columns=None)
    x = torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (N, 2)))
    settled, gaps = net.settled(x), x.clone()
    torch.testing.assert_close(settled(x), net(x))
    gaps[:, 1] = torch.nan
    edges = net.layers[0].edge_functions(x)
    torch.testing.assert_close(settled.layers[0](gaps), edges[:, 0] + edges[:, 1].mean(0))
    assert net.layers[0].levels is None


@pytest.mark.parametrize("meta_learners", [None, linear])
def test_starting_values_keep_the_variance(meta_learners):
    variances = []
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        options = {"meta_learners": meta_learners, "columns": COLUMNS, **DOUBLE}
        net = KAN([2, 64, 1], **options, generator=generator)
        variances.append(net.layers[0](X).var(0).mean().item())
    assert 0.6 < np.mean(variances) < 1.4


def test_numbers_of_few_and_many_levels():
    rows = 1 + len(ATOMS) + FEW
    levels = Levels(COLUMNS, 8)
    assert levels.table.shape == (rows, 8)
    assert levels.prompts.shape == (MANY, 4) and levels.edges.shape == (1, 4, 8)
    assert Levels(COLUMNS, 8, direct=MANY).prompts is None
    nothing = Levels(Columns([0.0], [0.0]), 8)
    assert [*nothing.parameters()] == []


def test_seldom_levels_are_shrunken():
    counts = torch.tensor([1.0, 9.0, 999.0])
    layer = Levels(Columns([0.0], [0.0], [counts]), 1, **DOUBLE)
    with torch.no_grad():
        layer.table.fill_(1.0)
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 2.0]], **DOUBLE)
    expected = torch.tensor([[0.5], [0.9], [0.999]], **DOUBLE)
    torch.testing.assert_close(layer(x), expected)


def test_atoms_start_as_the_curve_is():
    with_atoms = KAN([1, 4, 1], columns=Columns([0.0], [0.0], atoms=[[0, 0.25, 30, 0.1]]), **DOUBLE)
    layer, x = with_atoms.layers[0], torch.tensor([[0.2], [0.25], [0.25 + 1e-9]], **DOUBLE)
    plain = KANLinear(1, 4, layer.basis, layer.source, init=None)
    torch.testing.assert_close(layer(x), plain(x))
    with torch.no_grad():
        layer.levels.table.fill_(1.0)
    added = 3 * torch.tensor([0, 0.6, 0.6], **DOUBLE)[:, None].expand(3, 4)
    torch.testing.assert_close(layer(x) - plain(x), added)


@each_network
def test_gradients_reach_every_number(n_members, meta_learners):
    net = network(n_members, meta_learners)
    net(X).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.any(), name
    kept = copy.deepcopy(net)
    kept.zero_grad()
    kept.from_features(kept.features(X)).square().sum().backward()
    for one, other in zip(net.parameters(), kept.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@each_network
def test_importances_of_columns_that_do_nothing(n_members, meta_learners):
    net, order = network(n_members, meta_learners), torch.randperm(N)
    with torch.no_grad():
        net.layers[0].levels.edges.zero_()
    found = feature_importances(net, X, X[order])
    assert found[3] < 1e-30 and (found[:3] > 0).all()
    torch.testing.assert_close(found.sum(), torch.ones((), **DOUBLE))
    if n_members == 1:  # the slow way, for any network
        slow = feature_importances(torch.nn.Sequential(net), X, X[order])
        torch.testing.assert_close(found, slow, atol=1e-9, rtol=1e-6)


def test_levels_that_do_not_fit():
    with pytest.raises(ValueError, match="levels do not fit the layer"):
        KANLinear(3, 6, levels=Levels(COLUMNS, 6))
    with pytest.raises(ValueError, match=r"2 numbers and 2 codes.*\(300, 3\)"):
        network()(X[:, :3])
