"""Functions of two inputs: pure over the rows, complete beside those of one."""

import numpy as np
import pytest
import torch

from sklearn_metakan.nn import KAN, MetaLearner, PairInputs, frozen, group_levels, pair_functions
from sklearn_metakan.nn.pairs import MOST_LEVELS, Margins

RNG = np.random.default_rng(0)
N, PAIRS = 400, [(0, 1), (0, 3), (2, 3), (3, 4)]
SIZES = (4, 3)  # of the two columns of levels


def make_rows():
    """Three numbers that go together, one of them with gaps, and two columns of levels."""
    x = RNG.uniform(-1, 1, size=(N, 3))
    x[:, 1] = 0.6 * x[:, 0] + 0.4 * x[:, 1]
    x[::9, 2] = np.nan
    first = (RNG.integers(SIZES[0], size=N) * (x[:, 0] > 0)).astype(float)
    second = np.where(RNG.random(N) < 0.5, first.clip(max=2), RNG.integers(SIZES[1], size=N))
    return torch.from_numpy(np.column_stack([x, first, second]))


ROWS, WEIGHT = make_rows(), RNG.uniform(0.5, 2, size=N)
COUNTS = [np.bincount(ROWS[:, 3 + k].numpy().astype(int), minlength=n) for k, n in enumerate(SIZES)]
INPUTS = PairInputs(
    np.array(PAIRS),
    np.tile(np.linspace(-1, 1, 11), (3, 1)),
    np.array([False, False, True]),
    [*map(group_levels, COUNTS)],
)
FUNCTIONS = pair_functions(INPUTS, [(ROWS[:250], WEIGHT[:250]), (ROWS[250:], WEIGHT[250:])])
SETTINGS = {
    "columns": {"fill": [0.0] * 3, "gaps": [0, 0, 40.0], "levels": COUNTS},
    "pairs": {"inputs": INPUTS._asdict(), "functions": FUNCTIONS},
    "dtype": torch.float64,
}
LEARNERS = {"direct": None, "linear": MetaLearner(2, 0, 9), "sine": MetaLearner(2, 8, 9, "sin")}


def make(kind="direct", n_members=1, outputs=2):
    """A network whose pairs are not zero any more."""
    learner = LEARNERS[kind]
    if learner is not None:
        sizes = learner.prompt_dim, learner.hidden_dim, 9, learner.activation
        learner = MetaLearner(*sizes, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    how = {"meta_learners": learner, "n_members": n_members, "generator": generator}
    network = KAN([3, outputs], **how, **SETTINGS)
    with torch.no_grad():
        for parameter in network.layers[0].pairs.parameters():
            parameter += torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return network


@pytest.mark.parametrize("kind", LEARNERS)
def test_a_pair_holds_nothing_of_what_one_of_its_columns_does(kind):
    pairs = make(kind).layers[0].pairs
    with torch.no_grad():
        values, margins = pairs.each(ROWS).numpy(), pairs.margins(ROWS).numpy()
    weight = WEIGHT / WEIGHT.sum()
    for k, pair in enumerate(pairs.inputs):
        spread = np.sqrt(weight @ values[:, k] ** 2)
        assert (spread > 0.01).all()
        for column in pair:
            place = [*pairs.margins.columns].index(column)
            shared = np.einsum("n,no,nc->oc", weight, values[:, k], margins[:, place])
            np.testing.assert_allclose(shared, 0, atol=1e-7)


def test_a_pair_of_levels_is_a_table_whose_weighted_means_are_zero_by_row_and_column():
    pairs = make().layers[0].pairs
    with torch.no_grad():
        values = pairs.each(ROWS)[:, 3, 0].numpy()
    for column in (3, 4):
        codes = ROWS[:, column].numpy().astype(int)
        means = np.bincount(codes, WEIGHT * values) / np.bincount(codes, WEIGHT)
        np.testing.assert_allclose(means, 0, atol=1e-9)


def test_with_functions_of_one_column_they_make_every_table():
    """A table of levels is the sum of a function of each, and one that is pure."""
    pairs = make().layers[0].pairs
    table = RNG.normal(size=SIZES)
    codes = ROWS[:, 3:].numpy().astype(int)
    target = table[codes[:, 0], codes[:, 1]]
    steps = pairs.margins(ROWS)[:, -2:].flatten(1).numpy()
    first, second = (pairs.margins(ROWS)[:, k].numpy() for k in (3, 4))
    products = (first[:, :, None] * second[:, None, :]).reshape(N, -1) @ FUNCTIONS[3]
    features = np.column_stack([steps, products])
    found = np.linalg.lstsq(features, target, rcond=None)[0]
    np.testing.assert_allclose(features @ found, target, atol=1e-8)


def test_a_product_of_two_numbers_is_among_them():
    inputs = INPUTS._replace(pairs=np.array([(0, 1)]))
    functions = pair_functions(inputs, [(ROWS, WEIGHT)])[0]
    first, second = Margins(inputs, torch.float64)(ROWS).numpy().swapaxes(0, 1)
    products = (first[:, :, None] * second[:, None, :]).reshape(N, -1) @ functions
    target = (ROWS[:, 0] * ROWS[:, 1]).numpy()
    features = np.column_stack([first, second, products])
    found = np.linalg.lstsq(features, target, rcond=None)[0]
    error = target - features @ found  # all functions of a pair would leave none
    assert np.sqrt(np.mean(error**2)) < 0.01 * target.std()


@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize("kind", LEARNERS)
def test_all_ways_to_the_outputs_agree(kind, n_members):
    network = make(kind, n_members)
    y = network(ROWS)
    torch.testing.assert_close(network.from_features(network.features(ROWS)), y)
    torch.testing.assert_close(frozen(network)(ROWS), y)
    for member in range(n_members):
        alone = y if n_members == 1 else y[:, member]
        torch.testing.assert_close(network.member(member)(ROWS), alone)
    with torch.no_grad():
        torch.testing.assert_close(network(ROWS), y.detach())
        layer = network.layers[0]
        parts = layer.edge_functions(ROWS).sum(1) + layer.pairs.each(ROWS).sum(1)
        torch.testing.assert_close(network.by_member(parts), y.detach())


def test_rows_are_multiplied_a_part_at_a_time(monkeypatch):
    pairs = make().layers[0].pairs
    with torch.no_grad():
        whole = pairs(ROWS)
        monkeypatch.setattr("sklearn_metakan.nn.pairs._NUMBERS", 7 * len(PAIRS) * 100)
        torch.testing.assert_close(pairs(ROWS), whole)


@pytest.mark.parametrize("kind", LEARNERS)
def test_they_start_at_zero_and_learn(kind):
    learner = LEARNERS[kind]
    like = None if learner is None else MetaLearner(2, learner.hidden_dim, 9, dtype=torch.float64)
    network = KAN([3, 1], meta_learners=like, **SETTINGS)
    pairs = network.layers[0].pairs
    assert not pairs(ROWS).any()
    network(ROWS).square().sum().backward()
    assert any(bool(p.grad.abs().max() > 0) for p in pairs.parameters() if p.grad is not None)


def test_some_of_them_alone():
    network = make("linear", 2)
    with torch.no_grad():
        without, first = network.with_pairs([])(ROWS), network.with_pairs([2])(ROWS)
        expected = network.layers[0].pairs.each(ROWS)[:, 2]
        torch.testing.assert_close(first - without, network.by_member(expected))
        assert network.layers[0].pairs is not None


def test_beyond_the_grid_they_are_constant_and_what_is_unknown_adds_nothing():
    pairs = make().layers[0].pairs
    with torch.no_grad():
        inside, outside = ROWS[:5].clone(), ROWS[:5].clone()
        inside[:, :3], outside[:, :3] = 1.0, 1e20
        torch.testing.assert_close(pairs(outside), pairs(inside))
        nothing = torch.full((1, 5), torch.nan, dtype=torch.float64)
        nothing[:, 2] = 0.3
        assert not pairs(nothing).any()


def test_rare_levels_share_a_function():
    groups = group_levels(np.arange(40, 0, -1))
    assert groups[: MOST_LEVELS - 1].tolist() == [*range(MOST_LEVELS - 1)]
    assert {*groups[MOST_LEVELS - 1 :]} == {MOST_LEVELS - 1}


def test_gradients():
    pairs = make("sine").layers[0].pairs
    x = ROWS[1:4].clone()
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: pairs(torch.cat([x[:, :3], ROWS[1:4, 3:]], 1)), x)


def test_hidden_layers_have_none():
    with pytest.raises(ValueError, match="without hidden layers"):
        KAN([3, 4, 1], **SETTINGS)
