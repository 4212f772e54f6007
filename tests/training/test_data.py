"""TensorData and its batches: every row once, shuffled anew, with its target and weight."""

import numpy as np
import pytest
import torch

from sklearn_metakan.training.data import TensorData, weighted_mean

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
