"""Layers share meta-learners by an exact k-means on their output widths."""

from itertools import product

import numpy as np
import pytest

from sklearn_metakan.nn._clusters import cluster_widths

WIDTHS = [16, 32, 64, 128, 256, 256, 512, 512]
LABELS = ["00000000", "00000011", "00001122", "00012233", "00123344", "01234455"]


def cost(widths, labels):
    widths, labels = np.asarray(widths, float), np.asarray(labels)
    return sum(((w := widths[labels == label]) - w.mean()) @ (w - w.mean()) for label in {*labels})


@pytest.mark.parametrize("n_clusters", [1, 2, 3, 4, 5, 6])
def test_labels_of_the_paper(n_clusters):
    expected = [int(label) for label in LABELS[n_clusters - 1]]
    assert cluster_widths(WIDTHS, n_clusters) == expected


@pytest.mark.parametrize("seed", range(8))
def test_no_assignment_is_better(seed):
    rng = np.random.default_rng(seed)
    widths = rng.choice([1, 2, 3, 10, 16, 17, 32, 64, 100], size=6).tolist()
    for n_clusters in range(1, min(4, len({*widths})) + 1):
        labels = cluster_widths(widths, n_clusters)
        assignments = product(range(n_clusters), repeat=len(widths))
        best = min(cost(widths, a) for a in assignments if len({*a}) == n_clusters)
        assert {*labels} == {*range(n_clusters)}
        assert cost(widths, labels) == pytest.approx(best)


@pytest.mark.parametrize("n_clusters", [1, 2, 3])
def test_labels_follow_the_width_and_not_the_order(n_clusters):
    widths = [512, 16, 64, 16, 256]
    labels = cluster_widths(widths, n_clusters)
    assert sorted(labels) == [label for _, label in sorted(zip(widths, labels, strict=True))]
    reverse = cluster_widths(widths[::-1], n_clusters)
    assert reverse[::-1] == labels


@pytest.mark.parametrize("n_clusters", [-1, 0, 3, 8])
def test_more_clusters_than_distinct_widths_raise(n_clusters):
    with pytest.raises(ValueError, match=rf"n_meta_learners.*between 1 and.*2.*got {n_clusters}"):
        cluster_widths([8, 8, 4], n_clusters)
