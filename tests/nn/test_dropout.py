"""Dropout acts in training only and draws from a generator of its own."""

import pickle
from copy import deepcopy

import pytest
import torch

from sklearn_metakan.nn._dropout import Dropout

ONES = torch.ones(200, 50)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_zeroes_a_share_and_scales_the_rest(p):
    y = Dropout(p, seed=0)(ONES)
    kept = y != 0
    torch.testing.assert_close(y[kept], ONES[kept] / (1 - p))
    deviation = (p * (1 - p) / y.numel()) ** 0.5
    assert abs(1 - kept.double().mean() - p) < 5 * deviation


def test_is_the_identity_in_evaluation_and_for_p_zero():
    assert Dropout(0.5, seed=0).eval()(ONES) is ONES
    assert Dropout(0.0, seed=0)(ONES) is ONES


def test_gradient_flows_through_what_is_kept():
    x = ONES.clone().requires_grad_()
    y = Dropout(0.5, seed=0)(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach())


def test_seed_decides_the_sequence():
    one, same, other = Dropout(0.5, seed=1), Dropout(0.5, seed=1), Dropout(0.5, seed=2)
    first, second = one(ONES), one(ONES)
    assert torch.equal(same(ONES), first)
    assert torch.equal(same(ONES), second)
    assert not torch.equal(first, second)
    assert not torch.equal(other(ONES), first)


def test_global_generator_neither_moves_nor_matters():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = Dropout(0.5, seed=1)(ONES)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(Dropout(0.5, seed=1)(ONES), first)


@pytest.mark.parametrize("copy", [deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_start_the_sequence_again(copy):
    dropout = Dropout(0.5, seed=1)
    first = dropout(ONES)
    assert torch.equal(copy(dropout)(ONES), first)


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5])
def test_share_out_of_range_raises(p):
    with pytest.raises(ValueError, match=rf"dropout must be at least 0 and below 1, got {p}"):
        Dropout(p, seed=0)
