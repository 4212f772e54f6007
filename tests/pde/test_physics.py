"""Losses: named, unbiased for random Laplacians, weighted by time; points drawn as told."""

import numpy as np
import pytest
import torch

from sklearn_metakan.nn import KAN
from sklearn_metakan.pde import Box, Dirichlet, Interval, SpaceTime, TrialFunction
from sklearn_metakan.pde.physics.physics import CHUNKS, EQUATION, Physics
from sklearn_metakan.pde.solve.collocation import Collocation, Steps
from sklearn_metakan.pde.solve.problem import Problem


def problem(domain):
    return Problem(domain, domain, domain, domain.bounds, None, isinstance(domain, SpaceTime))


def physics(residual, dim=3, conditions=None, causal=None, seed=0, **trial):
    generator = torch.Generator().manual_seed(seed)
    network = KAN([dim, 5, 1], degree=5, generator=generator, dtype=torch.float64)
    return Physics(TrialFunction(network, **trial), residual, conditions or {}, {}, causal)


def collocation(domain, conditions=None, n=50, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    counts = {"interior": n, "boundary": 20, "initial": 20}
    return Collocation(
        problem(domain), conditions or {}, counts, generator=generator, dtype=torch.float64,
        **options,
    )  # fmt: skip


CUBE = Box([-1] * 3, [1] * 3)


def poisson(x, u):
    return u.laplacian() + u.value - x[:, 0]


@pytest.mark.parametrize(
    ("residual", "names"),
    [
        (poisson, ["residual"]),
        (lambda x, u: (u.value, u.d(0)), ["residual_0", "residual_1"]),
        (lambda x, u: {"mass": u.value, "flux": u.d(0)}, ["mass", "flux"]),
    ],
)
def test_losses_are_mean_squares_by_name(residual, names):
    conditions = {"edge": Dirichlet(1.0)}
    module = physics(residual, conditions=conditions)
    batch = collocation(CUBE, conditions).draw()
    losses = module(batch)
    assert [*losses] == [*names, "edge"]
    x = batch[EQUATION][0][0]
    for name, r in module.residuals(x).items():
        torch.testing.assert_close(losses[name], r.square().mean())
    edge = batch["edge"][0][0]
    torch.testing.assert_close(losses["edge"], (module.trial(edge) - 1).square().mean())


@pytest.mark.parametrize(
    "derivatives", ["sdgd", pytest.param("hutchinson", marks=pytest.mark.slow)]
)
def test_random_laplacians_leave_the_squared_loss_unbiased(derivatives):
    exact = physics(poisson)
    random = physics(poisson, derivatives=derivatives, n_directions=1)
    batch = collocation(CUBE, n=400).draw()
    request = frozenset({"laplacian", ()})
    exact.requests[EQUATION] = random.requests[EQUATION] = request
    with torch.no_grad():
        expected = float(exact(batch)[EQUATION])
        draws = np.array([float(random(batch, seed)[EQUATION]) for seed in range(200)])
    error = draws.std() / np.sqrt(len(draws))
    assert draws.std() > 1e-3 * expected
    assert abs(draws.mean() - expected) < 4 * error
    with random.exact(), torch.no_grad():
        assert float(random(batch)[EQUATION]) == pytest.approx(expected, rel=1e-12)


def test_the_same_seed_gives_the_same_directions():
    module = physics(poisson, derivatives="hutchinson", n_directions=2)
    module.requests[EQUATION] = frozenset({"laplacian", ()})
    batch = collocation(CUBE).draw()
    first, again, other = (module(batch, seed)[EQUATION].item() for seed in (1, 1, 2))
    assert first == again != other


def test_causal_weights_hold_later_times_back():
    domain = SpaceTime(Interval(-1, 1), 0, 1)

    def late(x, u):  # large at early times
        return u.value * 0 + torch.where(x[:, 1] < 0.1, 10.0, 1.0)

    x = collocation(domain, n=3200).draw()
    plain = physics(late, 2)(x)[EQUATION]
    strict = physics(late, 2, causal=(10.0, 0.0, 1.0))(x)[EQUATION]
    loose = physics(late, 2, causal=(1e-9, 0.0, 1.0))(x)[EQUATION]
    # All weight on the first chunk, whose loss is 100; without causality, the mean of chunks.
    torch.testing.assert_close(strict, torch.tensor(100.0 / CHUNKS).double(), rtol=1e-6, atol=0)
    assert plain > 5 and loose > 5


def test_points_change_every_so_many_steps():
    def points(every, counts=(4, 3)):
        steps = Steps(collocation(CUBE), None, counts, every)
        return [batch[EQUATION][0][0] for _ in counts for batch, _ in steps]

    changes = [not torch.equal(a, b) for a, b in zip(points(3), points(3)[1:], strict=False)]
    assert changes == [False, False, True, False, False, True]
    assert not any(not torch.equal(a, points(None)[0]) for a in points(None))
    assert all(torch.equal(a, b) for a, b in zip(points(1), points(1), strict=True))


def test_rad_with_as_many_anchors_as_points_draws_no_others():
    anchors = [[0.25], [0.5], [0.75]]
    points = collocation(Interval(0, 1, anchors=anchors), n=3, sampling="rad")
    batch = points.draw(lambda x: x[:, 0].abs())
    assert batch[EQUATION][0][0].tolist() == anchors


def test_rad_draws_where_the_residual_is_large():
    points = collocation(Interval(-1, 1), n=2000, sampling="rad")
    batch = points.draw(lambda x: (x[:, 0] > 0).double())
    share = (batch[EQUATION][0][0] > 0).double().mean().item()
    # Weights |r| / mean |r| + 1: three to one.
    assert share == pytest.approx(0.75, abs=0.04)
    even = (points.draw()[EQUATION][0][0] > 0).double().mean().item()
    assert even == pytest.approx(0.5, abs=0.04)
