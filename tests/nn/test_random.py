"""Dropout and augmentation act in training alone and draw from generators of their own."""

import pickle
from copy import deepcopy

import numpy as np
import pytest
import torch

from sklearn_metakan.nn import Augment, Dropout

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


def windows(image, kind):
    """Every image that may come out of ``image`` (c, h, w)."""
    c, h, w = image.shape
    down, right = ((h + 4) // 8, (w + 4) // 8) if "crop" in kind else (0, 0)
    padded = np.zeros((c, h + 2 * down, w + 2 * right), dtype=image.dtype)
    padded[:, down : down + h, right : right + w] = image
    found = [
        padded[:, i : i + h, j : j + w] for i in range(2 * down + 1) for j in range(2 * right + 1)
    ]
    return found + [image[:, :, ::-1] for image in found if "flip" in kind]


@pytest.mark.parametrize("kind", ["flip", "crop", "flip_crop"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_augment_moves_pixels(kind, dtype):
    image = torch.arange(1, 2 * 8 * 5 + 1).view(2, 8, 5).to(dtype)
    x = image.expand(300, 2, 8, 5)
    y = Augment(kind, seed=0)(x)
    possible = {window.tobytes() for window in windows(image.numpy(), kind)}
    assert y.dtype == dtype
    assert {image.tobytes() for image in y.numpy()} == possible
    assert torch.equal(Augment(kind, seed=0)(x), y)  # from its own seed
    augment = Augment(kind, seed=0).eval()
    assert augment(x) is x


def test_both_sides_of_a_flip_come_as_often():
    x = torch.arange(3.0).expand(4000, 1, 1, 3)
    flipped = Augment("flip", seed=0)(x)[:, 0, 0, 0] == 2
    assert abs(flipped.double().mean() - 0.5) < 0.04  # five standard deviations


def test_augment_may_be_a_callable():
    augment = Augment(lambda x: x.flip(2), seed=0)
    x = torch.rand(4, 2, 6, 5)
    assert torch.equal(augment(x), x.flip(2))
    with pytest.raises(ValueError, match="shape"):
        Augment(lambda x: x[:1], seed=0)(x)
