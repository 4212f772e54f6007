"""Private randomness: seeds drawn from ``random_state`` without moving global generators."""

import numpy as np
from sklearn.utils import check_random_state

RandomState = int | np.random.RandomState | None


def draw_seeds(random_state: RandomState, count: int) -> list[int]:
    """``count`` seeds: the same for an int, the next of a RandomState, fresh for None."""
    source = np.random.RandomState() if random_state is None else check_random_state(random_state)
    return [int(seed) for seed in source.randint(2**31 - 1, size=count)]
