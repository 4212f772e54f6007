"""How large blocks may be, and what a layer may take for them."""

import sys
from ctypes import CDLL
from functools import cache

import torch
from torch import Tensor

from sklearn_metakan.ops.source import CoefficientSource

FEWEST_ROWS = 256  # of a block: below it, products and the calls around them are inefficient
FEWEST_PIXELS = 2048  # the same where a row is an image
MANY_ROWS = 4096  # the same on a card
ALIGNED = 16  # inputs on a card: products of other sizes take twice the time (H200, TF32)
CPU_MEMORY = 32.0  # MiB; measured: less makes blocks too small, more gains nothing
TILE_SHARE = 0.25  # of the working memory
CACHE = 2**21  # bytes; tiles of a few thousand edges: fewer cost more calls, more leave the caches
CARD_SHARE = 0.7  # of the layer's input, output, parameters, gradients and optimiser state
LIKE_AN_MLP = 1.1  # of the same, with one weight an edge as in an MLP, of the widest layer
IMAGE_SHARE = 2.2  # of the widest layer's images and the layer's parameters, gradients, state
CARD_LEAST = 4.0  # MiB


def default_memory(
    x: Tensor, numbers_of_y: int, source: CoefficientSource, widest: tuple[int, int] | None
) -> float:
    """MiB that a layer's blocks may take if nobody says: what keeps a network like an MLP."""
    if x.device.type == "cpu":
        return CPU_MEMORY
    by_input, shared = source.tensors()
    parameters = sum(t.numel() for t in (*by_input, *shared))
    rows, passing = max(1, len(x)), x.numel() + numbers_of_y
    own = (x.numel() // rows, numbers_of_y // rows)
    layers = [own] if widest is None else [own, widest]
    if x.dim() == 2:
        like_an_mlp = max(rows * (n_in + n_out) + 4 * n_in * n_out for n_in, n_out in layers)
        numbers = max(LIKE_AN_MLP * like_an_mlp, CARD_SHARE * (passing + 4 * parameters))
    else:
        numbers = IMAGE_SHARE * (rows * max(map(sum, layers)) + 4 * parameters)
    return max(CARD_LEAST, numbers * x.element_size() / 2**20)


def tile_memory(x: Tensor, working_memory: float) -> int:
    """Bytes of it for a tile of edges, whose hidden layers exist at a time."""
    share = TILE_SHARE * working_memory * 2**20
    return int(min(share, CACHE) if x.device.type == "cpu" else share)


def block_sizes(
    x: Tensor,
    numbers_per_value: int,
    numbers_per_input: int,
    working_memory: float,
    pixels: int = 1,
    numbers_per_row: int = 0,
) -> tuple[int, int]:
    """Inputs and rows of a block that fits into the memory, with so many numbers held for each.

    As many inputs as go with ``FEWEST_ROWS`` rows, then as many rows as still fit; where
    the memory is too small even for that, one input and ``FEWEST_ROWS`` rows. On a card it
    is ``MANY_ROWS`` at first. Where a row is an image, it is so many ``pixels`` that count, and
    numbers are held for each of them.
    """
    numbers = working_memory * 2**20 / x.element_size()
    n, in_features = x.shape[:2]
    on_cpu = x.device.type == "cpu"
    fewest = FEWEST_ROWS if pixels == 1 else -(-FEWEST_PIXELS // pixels)
    rows = max(1, min(n, fewest if on_cpu else -(-MANY_ROWS // pixels)))
    of_value, of_row = pixels * numbers_per_value, pixels * numbers_per_row
    room = numbers - rows * of_row
    inputs = _even(in_features, room / (numbers_per_input + rows * of_value))
    if not on_cpu:
        inputs = min(in_features, -(-inputs // ALIGNED) * ALIGNED)
    more = (numbers - inputs * numbers_per_input) / (inputs * of_value + of_row)
    return inputs, _even(max(1, n), max(min(rows, fewest), more))


def _even(total: int, most: float) -> int:
    """The size of the fewest equal blocks of at most so many."""
    blocks = -(-total // max(1, int(min(most, total))))
    return -(-total // blocks)


@cache
def keep_freed_memory() -> None:
    """Let glibc keep what one step frees for the next: its page faults took half the time.

    It hands back to the system what exceeds twice the largest block freed so far; once a
    process, such a block of 16 MiB is freed here, without ever being written.
    """
    torch.empty(16 * 2**20, dtype=torch.uint8)


def hand_back_freed_memory() -> None:
    """Have glibc hand back to the system what is free, wherever it lies; elsewhere nothing.

    It does so by itself only above the last block in use, which may be a small one.
    """
    if sys.platform == "linux":
        trim = getattr(CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
