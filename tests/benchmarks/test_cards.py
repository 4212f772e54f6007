"""The benchmark of several cards, on one process."""

import numpy as np
import pytest
import torch

from benchmarks.speed import ranks
from sklearn_metakan.training import TensorData


@pytest.fixture
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads")
def test_one_process_is_itself(capsys):
    ranks.main(["--rows", "512", "--batches", "64", "--widths", "4"])
    _, _, *rows = capsys.readouterr().out.strip().splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[0] for row in cells] == ["KANRegressor", "MetaKANRegressor"]
    for *_, one, several, ratio, apart, other, exactly in cells:
        assert float(one) > 0 < float(several)
        assert float(ratio) > 0
        assert apart == exactly == "0e+00"
        assert float(other) < 0.1


def test_reversed_batches_hold_the_same_rows():
    data = TensorData(torch.arange(12.0).reshape(6, 2), torch.arange(6.0)[:, None])

    def batches():
        return [*data.batches(3, torch.Generator().manual_seed(0))]

    plain = batches()
    with ranks.reversed_batches():
        turned = batches()
    for (X, (y, _)), (X_turned, (y_turned, _)) in zip(plain, turned, strict=True):
        np.testing.assert_array_equal(X.flip(0), X_turned)
        np.testing.assert_array_equal(y.flip(0), y_turned)
