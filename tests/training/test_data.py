"""TensorData and its batches: every row once, shuffled anew, with its target and weight."""

import numpy as np
import pytest
import torch

from sklearn_metakan.training.data import MadeData, TensorData, weighted_mean

N = 23
ROWS = torch.arange(N, dtype=torch.float64)


def table(weighted=True):
    return TensorData(ROWS[:, None] * torch.ones(3), 2 * ROWS, 3 * ROWS if weighted else None)


@pytest.mark.parametrize("batch_size", [1, 5, 22, 23, 24, 1000])
@pytest.mark.parametrize("shuffled", [False, True])
def test_every_row_comes_once_with_its_target_and_weight(batch_size, shuffled):
    generator = torch.Generator().manual_seed(0) if shuffled else None
    seen = list(table().batches(batch_size, generator))
    assert len(seen) == -(-N // batch_size)
    assert [len(X) for X, _ in seen[:-1]] == [batch_size] * (len(seen) - 1)
    assert 1 <= len(seen[-1][0]) <= batch_size
    for X, (y, weight) in seen:
        assert torch.equal(y, 2 * X[:, 0])
        assert torch.equal(weight, 3 * X[:, 0])
    assert torch.equal(torch.cat([X[:, 0] for X, _ in seen]).sort().values, ROWS)


def order(*how):
    return torch.cat([X[:, 0] for X, _ in table().batches(5, *how)]).tolist()


def test_order_is_kept_or_drawn_anew_on_each_pass_and_repeats_with_the_seed():
    assert order() == order() == ROWS.tolist()
    first, second = (torch.Generator().manual_seed(3) for _ in range(2))
    passes = [order(first) for _ in range(3)]
    assert len({tuple(one) for one in passes}) == 3
    assert passes == [order(second) for _ in range(3)]


def test_one_batch_of_all_rows_is_no_copy():
    data = table()
    for batch_size in (N, 1000):
        ((X, (y, weight)),) = data.batches(batch_size, torch.Generator())
        assert X.data_ptr() == data.X.data_ptr()
        assert y.data_ptr() == data.y.data_ptr()
        assert weight.data_ptr() == data.weight.data_ptr()


def test_weights_may_be_missing():
    assert len(table(weighted=False)) == N
    assert all(weight is None for _, (_, weight) in table(weighted=False).batches(5))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("batch_size", [1, 5, 22])
def test_full_batches_lie_in_the_room_given(batch_size, weighted):
    data = table(weighted)
    room = data.room_for(batch_size)
    plain = data.batches(batch_size, torch.Generator().manual_seed(0))
    placed = data.batches(batch_size, torch.Generator().manual_seed(0), [room])
    for (X, (y, weight)), batch in zip(plain, placed, strict=True):
        assert torch.equal(batch[0], X)
        assert torch.equal(batch[1][0], y)
        assert batch[1][1] is None if weight is None else torch.equal(batch[1][1], weight)
        assert (batch is room) == (len(X) == batch_size)


def test_room_for_all_rows_is_the_table_itself():
    data = table()
    X, (y, weight) = data.room_for(N)
    assert (X.data_ptr(), y.data_ptr()) == (data.X.data_ptr(), data.y.data_ptr())
    assert weight.data_ptr() == data.weight.data_ptr()
    ((batch, _),) = data.batches(N, torch.Generator(), [(X, (y, weight))])
    assert batch.data_ptr() == X.data_ptr()


@pytest.mark.parametrize("shape", [(50,), (50, 2)])
def test_weighted_mean_counts_rows(shape):
    rng = np.random.default_rng(0)
    losses = torch.from_numpy(rng.uniform(size=shape))
    counts = rng.integers(1, 4, size=50)
    repeated = losses[torch.from_numpy(np.repeat(np.arange(50), counts))]
    weighted = weighted_mean(losses, torch.from_numpy(counts / counts.mean()))
    torch.testing.assert_close(weighted, weighted_mean(repeated, None))


@pytest.mark.parametrize("n", [5, 3_000])
@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("within", [False, True])
def test_inputs_that_are_made_later_are_those_of_a_table(n, shuffled, within, monkeypatch):
    monkeypatch.setattr("sklearn_metakan.training.data._MADE", 1000)  # 500 rows
    X, asked = torch.randn(n, 2, generator=torch.Generator().manual_seed(0)), []

    def make(rows):
        asked.append(len(X[rows]))
        return X[rows]

    y, weight = X.sum(1), X[:, 0].exp()
    counts = torch.rand(n, 3, generator=torch.Generator().manual_seed(1)) < 0.7
    pair = [TensorData(X, y, weight, counts), MadeData(make, y, weight, counts)]
    if within:
        places = torch.arange(0, n, 2)
        more = weight[places], counts[places]
        pair = [type(each)(each.source, each.y[places], *more, places) for each in pair]
    batches = []
    for data in pair:
        generator = torch.Generator().manual_seed(2) if shuffled else None
        batches.append([*data.batches(100, generator), data[3:5], data[1]])
    assert max(asked) <= 500 and sum(asked) >= len(data)
    assert torch.equal(data.X, pair[0].X)
    for (x, (target, own)), (other, (its, theirs)) in zip(*batches, strict=True):
        assert torch.equal(x, other) and torch.equal(target, its) and torch.equal(own, theirs)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("members", [2, 8, 9, 20])
def test_weights_of_members_are_those_of_the_rows_that_count(members, weighted):
    counts = torch.rand(N, members, generator=torch.Generator().manual_seed(1)) < 0.7
    weight = 1 + ROWS if weighted else torch.ones(N, dtype=torch.float64)
    expected = counts * weight[:, None] / (counts * weight[:, None]).mean(0)
    data = TensorData(ROWS[:, None], ROWS, weight if weighted else None, counts)
    assert torch.equal(data.counts, counts)
    torch.testing.assert_close(data.weight, expected)
    torch.testing.assert_close(data[5][1][1], expected[5])
    torch.testing.assert_close(data[torch.tensor([7, 2])][1][1], expected[[7, 2]])
    of_members = [*data.weights_of_members(members)]
    torch.testing.assert_close(torch.stack(of_members, 1), expected)
