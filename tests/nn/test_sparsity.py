"""The penalty of edges' sizes."""

import numpy as np
import pytest
import torch

from sklearn_metakan.nn import KAN, Columns, MetaLearner, Sparsity


def test_sizes_are_deviations_over_the_grid():
    network = KAN([3, 4, 2], dtype=torch.float64)
    (first, last), layers = Sparsity(network).sizes(), [*network.kan_layers()]
    t = torch.linspace(-1, 1, 4001, dtype=torch.float64)[:, None].expand(-1, 3)
    torch.testing.assert_close(
        first[0], layers[0].edge_functions(t).std(0, correction=0), rtol=1e-3, atol=1e-4
    )
    ranks = (torch.arange(256, dtype=torch.float64)[:, None] + 0.5) / 256
    normal = torch.special.ndtri(ranks).expand(-1, 4)
    torch.testing.assert_close(last[0], layers[1].edge_functions(normal).std(0, correction=0))


def test_l1_and_entropy_by_hand():
    network = KAN([2, 1], dtype=torch.float64)
    sparsity = Sparsity(network)
    sizes = sparsity.sizes()[0].detach().numpy().ravel()
    shares = sizes / sizes.sum()
    expected = sizes.sum() - (shares * np.log(shares)).sum()
    assert sparsity().item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("generated", [False, True])
def test_members_count_as_if_alone(generated):
    learners = [MetaLearner(3, 0, 9, dtype=torch.float64) for _ in range(2)] if generated else None
    network = KAN([3, 4, 1], n_members=3, meta_learners=learners, dtype=torch.float64)
    alone = [Sparsity(network.member(m))().item() for m in range(3)]
    assert Sparsity(network)().tolist() == pytest.approx(alone, rel=1e-10)


def test_levels_and_generated_levels():
    counts = [np.array([5.0, 3.0, 2.0]), np.arange(1.0, 81.0)]
    columns = Columns(fill=[0.0], gaps=[2.0], levels=counts)
    network = KAN([1, 4], columns=columns, dtype=torch.float64)
    levels = next(iter(network.kan_layers())).levels
    sizes = Sparsity(network).sizes()[0][0]
    assert sizes.shape == (3, 4)
    for column, its in enumerate(counts, start=1):
        codes = torch.zeros(len(its), 3, dtype=torch.float64)
        codes[:, column] = torch.arange(len(its))
        values = levels.edge_functions(codes, column, column + 1)[:, 0].detach().numpy()
        mean = np.average(values, axis=0, weights=its)
        spread = np.average((values - mean) ** 2, axis=0, weights=its) ** 0.5
        np.testing.assert_allclose(sizes[column].detach().numpy(), spread, rtol=1e-9)


def test_gradients_are_finite_at_edges_that_do_nothing():
    network = KAN([2, 3, 1], init=None)
    Sparsity(network)().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_gradients_reach_prompts_and_meta_learners():
    network = KAN([2, 3, 1], meta_learners=MetaLearner(2, 8, 9), edge_scale=True)
    Sparsity(network)().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
