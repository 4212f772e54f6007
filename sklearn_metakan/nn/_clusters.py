"""Which layers share a meta-learner: k-means on the layers' output widths."""

from collections.abc import Sequence

import numpy as np


def cluster_widths(widths: Sequence[int], n_clusters: int) -> list[int]:
    """Labels of an exact one-dimensional k-means, clusters in order of width.

    The sum of squared distances to the cluster means is minimised over all ways to cut
    the sorted widths, by dynamic programming; equal widths stay together.

    Parameters
    ----------
    widths : sequence of int
        Output width of every layer.
    n_clusters : int
        At most the number of distinct widths.

    Returns
    -------
    list of int, one label for each layer

    Source: Zhao et al. (ICML 2025), Algorithm 2; Wang and Song, "Ckmeans.1d.dp" (2011).

    Examples
    --------
    >>> cluster_widths([16, 32, 64, 128, 256, 256, 512, 512], 3)
    [0, 0, 0, 0, 1, 1, 2, 2]
    """
    values, inverse, counts = np.unique(widths, return_inverse=True, return_counts=True)
    n = len(values)
    if not 1 <= n_clusters <= n:
        raise ValueError(
            f"n_meta_learners must be between 1 and the number of distinct output widths, {n} "
            f"(widths {list(widths)}), got {n_clusters}."
        )

    def cost(start: int, stop: int) -> float:
        value, count = values[start:stop], counts[start:stop]
        mean = np.average(value, weights=count)
        return float((count * (value - mean) ** 2).sum())

    best = {(0, 0): (0.0, 0)}  # (values used, clusters) -> (cost, start of the last cluster)
    for k in range(1, n_clusters + 1):
        for stop in range(k, n + 1):
            best[stop, k] = min(
                (best[start, k - 1][0] + cost(start, stop), start)
                for start in range(k - 1, stop)
                if (start, k - 1) in best
            )
    label = np.empty(n, dtype=int)
    stop = n
    for k in range(n_clusters, 0, -1):
        start = best[stop, k][1]
        label[start:stop] = k - 1
        stop = start
    return [int(i) for i in label[inverse]]
