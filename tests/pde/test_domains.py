"""Samplers stay inside and have the right law."""

import copy
import pickle
import re

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import BaseEstimator, clone

from sklearn_metakan.pde import (
    Ball,
    Box,
    Ellipsoid,
    Interval,
    LevelSet,
    Moved,
    Points,
    Polygon,
    Product,
    SpaceTime,
    Sphere,
)


def egg(x):
    return 1 - x[:, 0].square() - (x[:, 1] / (1.3 + 0.3 * x[:, 1])).square()


DOMAINS = {
    "interval": Interval(-1, 3),
    "box": Box([0, -1, 2], [1, 1, 5]),
    "ball": Ball([1.0, 2.0, 0.0], 2.0),
    "sphere": Sphere([1.0, 2.0], 2.0),
    "union": Box([0, 0], [1, 1]) | Ball([1.0, 1.0], 0.5),
    "intersection": Box([0, 0], [1, 1]) & Ball([1.0, 1.0], 0.9),
    "difference": Box([0, 0], [1, 1]) - Ball([0.5, 0.5], 0.25),
    "two_holes": Box([0, 0], [4, 1]) - Ball([1, 0.5], 0.2) - Ball([3, 0.5], 0.2),
    "spacetime": SpaceTime(Ball([0.0, 0.0]), 1, 2),
    "spacetime_of_a_ring": SpaceTime(Ball([0.0, 0.0]) - Ball([0.0, 0.0], 0.5), 0, 2),
    "polygon": Polygon([[0, 0], [2, 0], [2, 2], [1, 0.7], [0, 2]]),
    "ellipse": Ellipsoid([1.0, 0.0], [2.0, 0.5]),
    "ellipsoid": Ellipsoid([1.0, 0.0, 2.0], [2.0, 0.5, 1.0]),
    "cylinder": Product(Ball([0.0, 1.0]), Interval(0, 3)),
    "moved": Moved(Box([0, 0], [2, 1]), [3.0, -1.0], 0.4),
    "level_set": LevelSet(egg, [-1.5, -1.5], [1.5, 2.5]),
    "points": Points(np.arange(20.0).reshape(10, 2)),
}


@pytest.fixture(params=DOMAINS)
def domain(request):
    return DOMAINS[request.param]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("domain", "method"),
    [(domain, method) for domain in DOMAINS.values() for method in domain.methods],
    ids=[f"{name}-{method}" for name, domain in DOMAINS.items() for method in domain.methods],
)
def test_points_stay_inside(domain, method):
    points = domain.sample(300, seeded(), method=method)
    expected = len(domain.X) if isinstance(domain, Points) else 300
    assert points.dtype == torch.float32
    assert len(points) <= expected if method == "grid" else len(points) == expected
    assert len(points) >= expected / 3
    assert points.shape[1] == domain.dim == len(domain.bounds)
    assert domain.contains(points).all()
    low, high = domain.bounds.T
    assert (points.numpy() >= low - 1e-5).all() and (points.numpy() <= high + 1e-5).all()


@pytest.mark.parametrize("name", [name for name in DOMAINS if name != "points"])
def test_normals_point_outward(name):
    domain = DOMAINS[name]
    points, normals = domain.sample_boundary(200, seeded(), dtype=torch.float64)
    assert points.shape == normals.shape == (200, domain.dim)
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(200, dtype=torch.float64))
    assert not domain.contains(points + 1e-3 * normals).any()
    assert domain.contains(points).all()
    if not isinstance(domain, Sphere):
        assert domain.contains(points - 1e-3 * normals).all()


def test_draws_follow_the_generator(domain):
    for method in ("uniform", "sobol"):
        state = torch.get_rng_state()
        one, same, other = (domain.sample(9, seeded(s), method=method) for s in (0, 0, 1))
        assert torch.equal(one, same)
        assert not torch.equal(one, other)
        assert torch.equal(state, torch.get_rng_state())


def test_domains_are_values(domain):
    for twin in (copy.deepcopy(domain), pickle.loads(pickle.dumps(domain))):
        assert twin == domain and hash(twin) == hash(domain) and twin is not domain
        assert twin.bounds.tolist() == domain.bounds.tolist()
    assert domain != Box([7.0], [8.0])
    with pytest.raises(AttributeError):
        domain.anchors = ()


class Solver(BaseEstimator):
    def __init__(self, domain=None):
        self.domain = domain


def test_domains_sit_in_estimators(domain):
    solver = Solver(domain)
    twin = clone(solver)
    assert twin.domain == domain
    assert twin.set_params(domain=domain).get_params()["domain"] is domain
    assert repr(solver)


def uniform_on(values, low, high):
    """Kolmogorov-Smirnov; the seeds are fixed, so that nothing flickers."""
    return stats.kstest(values.numpy(), "uniform", (low, high - low)).pvalue > 1e-3


@pytest.mark.parametrize("method", ["uniform", "sobol", "latin_hypercube"])
def test_box_and_ball_are_uniform(method):
    box = Box([0, -2], [1, 4])
    points = box.sample(2000, seeded(), method=method)
    assert uniform_on(points[:, 0], 0, 1) and uniform_on(points[:, 1], -2, 4)
    ball = Ball([1.0, 0.0, 0.0], 2.0)
    points = ball.sample(2000, seeded(), method=method) - torch.tensor([1.0, 0.0, 0.0])
    radii = points.norm(dim=1) / 2
    assert uniform_on(radii**3, 0, 1)
    assert uniform_on(points[:, 2] / (2 * radii), -1, 1)  # Archimedes


def test_radius_law():
    points = Ball([0.0] * 50, 3.0).sample(2000, seeded(), method="radius")
    assert uniform_on(points.norm(dim=1), 0, 3)
    direction = points / points.norm(dim=1, keepdim=True)
    assert direction.mean(0).abs().max() < 5 / (2000 * 50) ** 0.5
    assert abs(direction.square().mean() * 50 - 1) < 1e-4


def test_combined_are_uniform():
    points = DOMAINS["union"].sample(4000, seeded(), dtype=torch.float64)
    in_box = Box([0, 0], [1, 1]).contains(points).double().mean()
    assert abs(in_box - 1 / (1 + 0.75 * np.pi * 0.25)) < 0.03
    x = (Interval(0, 1) - Interval(0.25, 0.75)).sample(2000, seeded())
    assert uniform_on(torch.where(x < 0.5, x, x - 0.5)[:, 0], 0, 0.5)


def test_boundaries_are_by_area():
    points, normals = Box([0, 0], [3, 1]).sample_boundary(4000, seeded())
    vertical = normals[:, 0] != 0
    assert abs(vertical.double().mean() - 0.25) < 0.03
    assert uniform_on(points[vertical][:, 1], 0, 1)
    assert uniform_on(points[~vertical][:, 0], 0, 3)
    points, normals = DOMAINS["difference"].sample_boundary(4000, seeded(), dtype=torch.float64)
    distance = (points - 0.5).norm(dim=1)
    hole = (distance - 0.25).abs() < 1e-9
    assert abs(hole.double().mean() - (np.pi / 2) / (np.pi / 2 + 4)) < 0.03
    assert ((points - 0.5) * normals).sum(1)[hole].max() < 0


def test_seams_are_no_boundary():
    wide = Box([0, 0], [1, 1]) | Box([1, 0], [2, 1])
    points, _ = wide.sample_boundary(500, seeded())
    assert not ((points[:, 0] - 1).abs() < 1e-6).any()
    half = Box([0, 0], [1, 1]) - Box([0.5, 0], [1, 1])
    points, _ = half.sample_boundary(500, seeded())
    assert points[:, 0].max() <= 0.5


@pytest.mark.parametrize("size", [1.5, 100, 1e4])
def test_boundaries_cut_by_large_parts(size):
    """Half a disc, and half a disc by subtraction: 2 of pi + 2 of its boundary is flat."""
    disc = Ball([0.0, 0.0])
    halves = [
        (disc & Box([0, -size], [size, size]), -1.0),
        (disc - Box([-size, -size], [0, size]), -1.0),
        (Box([0, -size], [size, size]) & disc, -1.0),
    ]
    for half, normal in halves:
        n = 2000 if size < 1e3 else 20
        points, normals = half.sample_boundary(n, seeded(), dtype=torch.float64)
        flat = points[:, 0].abs() < 1e-9
        assert abs(flat.double().mean() - 2 / (np.pi + 2)) < 1.5 / n**0.5
        assert (normals[flat][:, 0] == normal).all()
        torch.testing.assert_close(normals[~flat], points[~flat])


def test_boundaries_where_parts_touch():
    half = Ball([0.0, 0.0]) & Box([0, -1], [1, 1])
    points = half.sample_boundary(5000, seeded(), dtype=torch.float64)[0]
    assert half.contains(points).all()


def test_boundaries_of_long_and_of_small_parts():
    long = Box([0, 0], [1e6, 1]) | Box([0, 0], [1, 2])
    normals = long.sample_boundary(50, seeded())[1]
    assert (normals[:, 1].abs() == 1).any()
    points = (Interval(0, 1e6) - Interval(1, 2)).sample_boundary(400, seeded())[0]
    assert points.unique().tolist() == [0, 1, 2, 1e6]


def test_shared_edges_count_once():
    corner = Box([0, 0], [2, 1]) | Box([0, 0], [1, 2])
    for method in ("uniform", "sobol"):
        points = corner.sample_boundary(8000, seeded(), method=method, dtype=torch.float64)[0]
        x, y = points.T
        edges = [(x == 0) & (y < 1), (x == 0) & (y > 1), (x == 2), (y == 0) & (x < 1), (y == 2)]
        for edge in edges:
            assert abs(edge.sum() - 1000) < 120  # 4 standard deviations
    within = Box([0, 0], [1, 1]) & Box([0, 0], [2, 2])
    twice = Box([0, 0], [1, 1]) | Box([0, 0], [1, 1])
    for square in (within, twice):
        points = square.sample_boundary(8000, seeded(), dtype=torch.float64)[0]
        for column in points.T:
            assert abs((column == 0).sum() - 2000) < 160
            assert abs((column == 1).sum() - 2000) < 160


def test_shells_in_many_dimensions():
    ball, hole = Ball([0.0] * 20), Ball([0.0] * 20, 0.9)
    far = Box([-2.0] * 20, [2.0] * 20)
    within = [ball - hole, (ball - hole) & far, far & ball - hole]
    for shell in (*within, SpaceTime(ball, 0, 1) - SpaceTime(hole, 0, 1)):
        for method in ("uniform", "sobol", "latin_hypercube"):
            points = shell.sample(2000, seeded(), method=method, dtype=torch.float64)[:, :20]
            radii = points.norm(dim=1)
            assert uniform_on(radii**20, 0.9**20, 1)
            direction = points / radii[:, None]
            assert direction.mean(0).abs().max() < 5 / (2000 * 20) ** 0.5


def test_parts_of_balls_are_uniform():
    quarter = Ball([0.0, 0.0]) & Box([0, 0], [1, 1])
    lens = Ball([0.0, 0.0]) & Ball([0.1, 0.0], 2.0)
    for domain, share in ((quarter, 1), (lens, 4)):
        x, y = domain.sample(2000, seeded(), dtype=torch.float64).T
        assert uniform_on(x**2 + y**2, 0, 1)
        assert uniform_on(torch.atan2(y, x) % (2 * np.pi), 0, share * np.pi / 2)


def test_spacetime():
    domain = SpaceTime(Interval(-1, 1), 2, 5)
    points = domain.sample(1000, seeded(), method="sobol")
    assert uniform_on(points[:, 0], -1, 1) and uniform_on(points[:, 1], 2, 5)
    assert abs(np.corrcoef(points.T)[0, 1]) < 0.1
    points, normals = domain.sample_boundary(500, seeded())
    assert uniform_on(points[:, 1], 2, 5)
    assert {*points[:, 0].tolist()} == {-1.0, 1.0}
    assert torch.equal(normals, torch.stack([points[:, 0], 0 * points[:, 0]], 1))
    initial = domain.sample_initial(500, seeded())
    assert (initial[:, 1] == 2).all() and uniform_on(initial[:, 0], -1, 1)


def test_low_discrepancy_covers_evenly():
    for method in ("sobol", "latin_hypercube"):
        x = Box([0, 0], [1, 1]).sample(64, seeded(), method=method, dtype=torch.float64)
        for column in x.T:
            assert torch.equal((64 * column).long().sort().values, torch.arange(64))


def test_grids_are_regular():
    x = Box([0, 0], [2, 1]).sample(60, method="grid")
    assert 50 <= len(x) <= 60
    for column in x.T:
        assert column.unique().diff().std() < 1e-6
    edge, normals = Box([0, 0], [2, 1]).sample_boundary(60, method="grid")
    assert 55 <= len(edge) <= 60 and (normals.abs().sum(1) == 1).all()


@pytest.mark.parametrize(
    ("box", "n"),
    [
        (Box([0, 0], [100, 1]), 200),
        (Box([0, 0], [100, 1]), 4),
        (Box([0, 0, 0], [1, 50, 1000]), 13),
        (Box([0.0] * 10, [1.0] * 10), 20),
        (Box([0], [1]), 2),
    ],
)
def test_grids_reach_every_face(box, n):
    points, normals = box.sample_boundary(n, method="grid", dtype=torch.float64)
    assert len(points) == len(normals) <= n
    assert len(normals.unique(dim=0)) == 2 * box.dim
    assert box.contains(points).all() and not box.contains(points + 1e-2 * normals).any()
    fails(
        f"needs n of at least {2 * box.dim}",
        lambda: box.sample_boundary(2 * box.dim - 1, method="grid"),
    )
    assert len(box.sample_boundary(0, method="grid")[0]) == 0


def test_anchors_are_always_kept():
    anchors = [[0.5, 0.5], [0.9, 0.9]]
    box = Box([0, 0], [1, 1], anchors=anchors)
    for method in ("uniform", "grid"):
        assert box.sample(20, method=method)[:2].tolist() == pytest.approx(np.array(anchors))
    assert len(box.sample(20)) == 20
    ring = box - Ball([0.5, 0.5], 0.25)
    assert ring.anchors == ((0.9, 0.9),)
    assert box == Box([0, 0], [1, 1], anchors=np.array(anchors)) != Box([0, 0], [1, 1])
    fails("at least the number of anchors, 2; got 1", lambda: box.sample(1))
    fails("anchors must lie in the domain", lambda: Ball([0.0, 0.0], anchors=[[2, 2]]))
    fails("anchors must have the shape (n, 2)", lambda: Ball([0.0, 0.0], anchors=[[0.0]]))


def test_contains_keeps_the_kind():
    ball = Ball([0.0, 0.0])
    assert ball.contains(np.array([[0.0, 0.5], [2, 0]])).tolist() == [True, False]
    assert isinstance(ball.contains(torch.zeros(1, 2)), torch.Tensor)
    fails("shape (n, 2), got (1, 3)", lambda: ball.contains(np.zeros((1, 3))))


def fails(message, call, error=ValueError):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_bad_input():
    fails("radius must be positive, got -1", lambda: Ball([0.0], -1))
    fails("radius must be finite", lambda: Ball([0.0], float("nan")))
    fails("center must be finite", lambda: Sphere([float("nan")]))
    fails("low must be below high", lambda: Box([0, 1], [1, 1]))
    fails("low must be below high", lambda: Box([0], [1, 1]))
    fails("single numbers", lambda: Interval([0, 0], [1, 1]))
    fails("t0 must be below t1", lambda: SpaceTime(Interval(0, 1), 1, 1))
    fails("space must be a domain", lambda: SpaceTime([0, 1]), TypeError)
    fails("same number of dimensions", lambda: Interval(0, 1) | Ball([0.0, 0.0]))
    fails("must overlap", lambda: Interval(0, 1) & Interval(2, 3))
    fails("no points to draw", lambda: (Interval(0, 1) - Interval(-1, 2)).sample(3))
    fails("n must be an integer", lambda: Interval(0, 1).sample(2.5))
    fails("Box knows", lambda: Box([0], [1]).sample(3, method="radius"))
    fails("must be one of", lambda: Box([0], [1]).sample(3, method="random"))
    fails("X must be finite", lambda: Points([[0.0], [np.nan]]))
    fails("X must have the shape (n, d)", lambda: Points([0.0]))
    fails("normals must be unit vectors", lambda: Points([[0.0]], normals=[[2.0]]))
    with pytest.raises(TypeError):
        Interval(0, 1) | 3
