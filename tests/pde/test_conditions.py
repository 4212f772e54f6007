"""Conditions vanish for functions that fulfil them, on the points where they hold."""

import pickle
import re

import pytest
import torch
from torch import nn

from sklearn_metakan.pde import (
    Ball,
    Box,
    Condition,
    Dirichlet,
    Initial,
    Interval,
    Neumann,
    Periodic,
    Points,
    Robin,
    SpaceTime,
    TrialFunction,
)
from sklearn_metakan.pde.solve.collocation import Collocation
from sklearn_metakan.pde.solve.problem import Problem


class Known(nn.Module):
    """A function of (n, d) with known values, as a network."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.factor = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x):
        y = self.factor * self.function(x)
        return y[:, None] if y.ndim == 1 else y


def collocation(domain, boundary=None, counts=(20, 40, 30), **options):
    problem = Problem(domain, domain, boundary or domain, domain.bounds, None, False)
    options = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64} | options
    counts = dict(zip(("interior", "boundary", "initial"), counts, strict=True))
    return Collocation(problem, {}, counts, **options)


def drawn(condition, domain, boundary=None):
    points = collocation(domain, boundary)
    points.conditions = {"it": condition}
    return points.draw()["it"]


def misfit(condition, function, domain, boundary=None):
    sets = drawn(condition, domain, boundary)
    trial = TrialFunction(Known(function), time=isinstance(domain, SpaceTime))
    fields = [trial.field(x, normal) for x, normal in sets]
    return condition.misfit([x for x, _ in sets], fields, sets[0][1])


def paraboloid(x):
    return x.square().sum(1)


def wave(x):
    return (2 * torch.pi * x[:, 0]).sin() * (1 + x[:, 1])


def swirl(x):
    return torch.stack([-x[:, 1], x[:, 0]], 1)


BALL, LINE = Ball([0.0, 0.0], 2.0), SpaceTime(Interval(0, 1), 0, 3)
FULFILLED = {
    "dirichlet": (Dirichlet(4.0), paraboloid, BALL),
    "dirichlet_function": (Dirichlet(wave), wave, LINE),
    "dirichlet_output": (Dirichlet(lambda x: x[:, 0], output=1), swirl, BALL),
    "dirichlet_system": (Dirichlet(swirl), swirl, BALL),
    "neumann": (Neumann(4.0), paraboloid, BALL),
    "neumann_system": (Neumann(lambda x: swirl(x) / 2), swirl, BALL),
    "robin": (Robin(1.0, lambda x: x[:, 0], lambda x: 4 + 4 * x[:, 0]), paraboloid, BALL),
    "initial": (Initial(lambda x: (2 * torch.pi * x[:, 0]).sin()), wave, LINE),
    "initial_slope": (Initial(lambda x: (2 * torch.pi * x[:, 0]).sin(), order=1), wave, LINE),
    "periodic": (Periodic(axis=0), wave, LINE),
    "own": (Condition(lambda x, u, normal: (u.value * normal).sum(1)), swirl, BALL),
    "inside": (Condition(lambda x, u, normal: u.laplacian() - 4, on="interior"), paraboloid, BALL),
}


@pytest.mark.parametrize(("condition", "function", "domain"), FULFILLED.values(), ids=FULFILLED)
def test_vanish_where_they_are_fulfilled_and_only_there(condition, function, domain):
    found = misfit(condition, function, domain)
    assert len(found) >= 20
    torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-9)

    def another(x):  # other values, slopes and curvatures
        y = function(x)
        return y + 0.1 + (x.sum(1).exp() if y.ndim == 1 else x.exp())

    assert misfit(condition, another, domain).abs().max() > 1e-3


def test_conditions_are_values():
    assert pickle.loads(pickle.dumps(Robin(1.0, 2.0))) == Robin(1.0, 2.0) != Robin(1.0, 3.0)


def test_a_predicate_restricts_the_points():
    box = Box([0, 0], [1, 1])
    (x, normal), *_ = drawn(Dirichlet(where=lambda x: x[:, 0] == 0), box)
    assert x.shape == (40, 2) and (x[:, 0] == 0).all()
    assert torch.equal(normal, torch.tensor([-1.0, 0.0]).double().expand(40, 2))
    (x, _), (y, _) = drawn(Periodic(axis=1, where=lambda x: x[:, 0] > 0.5), box)
    assert (x[:, 0] > 0.5).all() and torch.equal(x[:, 0], y[:, 0])
    assert (x[:, 1] == 0).all() and (y[:, 1] == 1).all()


def test_a_finite_set_gives_each_of_its_points_once():
    points = torch.linspace(0, 1, 11, dtype=torch.float64)[:, None]
    condition = Dirichlet(where=lambda x: x[:, 0] > 0.45)
    (x, normal), *_ = drawn(condition, Interval(0, 1), Points(points))
    assert torch.equal(x.sort(0).values, points[5:])
    assert normal is None  # the points have none


def test_every_condition_has_points_of_its_own_number():
    conditions = {
        "a": Dirichlet(),
        "b": Initial(),
        "c": Condition(lambda x, u, n: u.value, on="interior"),
    }
    points = collocation(LINE, counts=(5, 7, 9))
    points.conditions = conditions
    batch = points.draw()
    assert {name: len(sets[0][0]) for name, sets in batch.items()} == {
        "residual": 5, "a": 7, "b": 9, "c": 5,
    }  # fmt: skip
    assert (batch["b"][0][0][:, 1] == 0).all()


@pytest.mark.parametrize(
    ("message", "condition", "domain"),
    [
        ("where holds at none", Dirichlet(where=lambda x: x[:, 0] > 5), BALL),
        ("where must return 40 booleans", Dirichlet(where=lambda x: x[:, 0]), BALL),
        ("where must return 40 booleans", Dirichlet(where=lambda x: x > 0), BALL),
        ("an initial condition needs a SpaceTime", Initial(), BALL),
        ("axis must be below 1", Periodic(axis=1), LINE),
        ("does not reach from end to end along axis 0", Periodic(axis=0), BALL),
    ],
)
def test_points_that_cannot_be_drawn(message, condition, domain):
    with pytest.raises(ValueError, match=re.escape(message)):
        drawn(condition, domain)


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("order must be 0 (u) or 1", lambda: Initial(0.0, order=2)),
        ("axis must be an integer", lambda: Periodic(axis=0.5)),
        ("on must be one of", lambda: Condition(print, on="edge")),
        ("fn must be a function", lambda: Condition(3)),
    ],
)
def test_settings_that_mean_nothing(message, make):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        make()


def test_data_of_the_wrong_shape():
    with pytest.raises(ValueError, match=re.escape("must return the shape (40,)")):
        misfit(Dirichlet(lambda x: x), paraboloid, BALL)
