"""Polygons, ellipsoids, products, moved domains, level sets: laws, areas, distances."""

import numpy as np
import pytest
import torch

from sklearn_metakan.pde import (
    Ball,
    Box,
    Ellipsoid,
    Interval,
    LevelSet,
    Moved,
    ParametricDomain,
    Points,
    Polygon,
    Product,
    SpaceTime,
)

COMB = Polygon([[0, 0], [4, 0], [4, 2], [3, 2], [3, 1], [1, 1], [1, 2], [0, 2]])


def ball_of_two(x):
    return 4 - x.square().sum(1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


EQUAL = {  # pairs of the same set
    "square": (Polygon([[0, 0], [0, 1], [1, 1], [1, 0]]), Box([0, 0], [1, 1])),
    "turned": (Moved(Box([-1, -2], [1, 2]), rotation=np.pi / 2), Box([-2, -1], [2, 1])),
    "shifted": (Moved(Ball([0.0, 0.0]), [2.0, 1.0]), Ball([2.0, 1.0])),
    "round": (Ellipsoid([1.0, 0.0, 0.0], [2.0, 2.0, 2.0]), Ball([1.0, 0.0, 0.0], 2.0)),
    "prism": (Product(Box([0, 0], [1, 2]), Interval(0, 3)), Box([0, 0, 0], [1, 2, 3])),
    "level": (LevelSet(ball_of_two, [-3, -3], [3, 3]), Ball([0.0, 0.0], 2.0)),
    "level_3": (LevelSet(ball_of_two, [-2.5] * 3, [2.5] * 3), Ball([0.0] * 3, 2.0)),
}


@pytest.mark.parametrize("name", EQUAL)
def test_two_ways_to_the_same_set(name):
    made, known = EQUAL[name]
    low, high = known.bounds.T
    x = np.random.default_rng(0).uniform(low - 0.3, high + 0.3, (2000, len(low)))
    assert (made.contains(x) == known.contains(x)).all()
    assert made.volume == pytest.approx(known.volume, rel=5e-3)
    assert made.boundary_area == pytest.approx(known.boundary_area, rel=2e-2)
    for draw in ("sample", "sample_boundary"):
        own, other = (
            getattr(each, draw)(20_000, seeded(), dtype=torch.float64) for each in EQUAL[name]
        )
        pairs = zip(own, other, strict=True) if draw == "sample_boundary" else [(own, other)]
        for a, b in pairs:  # points, and normals
            scale = b.std(0).max()
            assert (a.mean(0) - b.mean(0)).abs().max() < 0.06 * scale
            assert (a.T.cov() - b.T.cov()).abs().max() < 0.06 * scale**2


def test_points_of_a_comb_are_even():
    x = COMB.sample(6000, seeded(), dtype=torch.float64)
    assert COMB.volume == 6 and COMB.boundary_area == 14
    for box, share in [(Box([0, 1], [1, 2]), 1 / 6), (Box([1, 0], [3, 1]), 2 / 6)]:
        assert float(box.contains(x).double().mean()) == pytest.approx(share, abs=0.02)
    edge, normals = COMB.sample_boundary(6000, seeded(), dtype=torch.float64)
    between = (edge[:, 1] == 1) & (edge[:, 0] > 1) & (edge[:, 0] < 3)
    assert float(between.double().mean()) == pytest.approx(2 / 14, abs=0.02)
    assert (normals[between] == torch.tensor([0.0, 1.0])).all()


def test_points_around_an_ellipse_are_by_length():
    flat = Ellipsoid([0.0, 0.0], [4.0, 0.5])
    x, _ = flat.sample_boundary(8000, seeded(), dtype=torch.float64)
    angle = np.linspace(0, 2 * np.pi, 200_001)
    line = np.stack([4 * np.cos(angle), 0.5 * np.sin(angle)], 1)
    length = np.linalg.norm(np.diff(line, axis=0), axis=1)
    assert flat.boundary_area == pytest.approx(length.sum(), rel=1e-4)
    share = length[np.abs(line[1:, 0]) > 3].sum() / length.sum()
    assert float((x[:, 0].abs() > 3).double().mean()) == pytest.approx(share, abs=0.015)


DISTANCES = {
    "interval": Interval(1, 4),
    "ball": Ball([1.0, 0.0, 2.0], 2.0),
    "ring": Ball([0.0, 0.0]) - Ball([0.0, 0.0], 0.4),
    "comb": COMB,
    "l": Box([-1, -1], [1, 1]) - Box([0, 0], [1, 1]),
    "union": Ball([0.0, 0.0]) | Ball([1.0, 0.0]),
    "lens": Ball([0.0, 0.0]) & Ball([1.0, 0.0]),
    "ellipse": Ellipsoid([0.0, 1.0], [3.0, 0.5]),
    "moved": Moved(Ellipsoid([0.0, 1.0], [3.0, 0.5]), [1.0, 2.0], 1.0),
    "cylinder": Product(Ball([0.0, 1.0]), Interval(0, 3)),
    "cube": Box([0] * 5, [1] * 5),
}


@pytest.mark.parametrize("name", DISTANCES)
def test_distances_vanish_on_the_boundary_alone_with_slope_one(name):
    domain = DISTANCES[name]
    x, normals = domain.sample_boundary(400, seeded(), dtype=torch.float64)
    torch.testing.assert_close(domain.distance(x), torch.zeros(400).double(), rtol=0, atol=1e-9)
    step = 1e-4
    slope = domain.distance(x - step * normals) / step
    # Corners apart: there, two sides are near.
    assert float(((slope - 1).abs() < 0.05).double().mean()) > 0.9
    assert (domain.distance(domain.sample(400, seeded(1), dtype=torch.float64)) > 0).all()
    outside = torch.as_tensor(
        np.random.default_rng(0).uniform(*(domain.bounds.T), (400, domain.dim))
    )
    outside = outside[~torch.as_tensor(domain.contains(outside))]
    assert (domain._level(outside) < 0).all()


def test_boxes_of_few_dimensions_are_smooth_at_corners():
    x = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    box = Box([0, 0], [2, 4])
    (slope,) = torch.autograd.grad(box.distance(x).sum(), x)
    assert (slope == 0).all()
    assert float(box.distance(torch.tensor([[1.0, 2.0]]))) == pytest.approx(0.5)


def test_time_has_no_distance():
    at = torch.tensor([[0.25, 0.0], [0.25, 1.0]])
    distance = SpaceTime(Interval(0, 1), 0, 1).distance(at)
    torch.testing.assert_close(distance, torch.full((2,), 0.1875))
    with pytest.raises(ValueError, match="no distance to its boundary"):
        Points([[0.0], [1.0]]).distance(at[:, :1])


def test_bad_shapes():
    for corners, text in [
        ([[0, 0], [1, 0]], "at least three"),
        ([[0, 0], [1, 1], [1, 0], [0, 1]], "does not cross itself"),
        ([[0, 0], [1, 0], [1, 0], [0, 1]], "differ from their neighbours"),
        ([[0, 0], [1, 0], [2, 0]], "does not cross itself"),
    ]:
        with pytest.raises(ValueError, match=text):
            Polygon(corners)
    with pytest.raises(ValueError, match="semi_axes must be positive"):
        Ellipsoid([0, 0], [1, 0])
    with pytest.raises(ValueError, match="orthogonal"):
        Moved(Ball([0.0, 0.0]), rotation=[[1, 1], [0, 1]])
    with pytest.raises(TypeError, match="fn must be a function"):
        LevelSet(1.0, [0], [1])


UNIT = Box([0, 0], [1, 1])
CLASSES = {
    "joined": lambda: UNIT | Ball,
    "cut": lambda: UNIT & Ball,
    "without": lambda: UNIT - Ball,
    "moved": lambda: Moved(Ball, [1.0, 0.0]),
    "left": lambda: Product(Ball, UNIT),
    "right": lambda: Product(UNIT, Ball),
    "with parameters": lambda: ParametricDomain(Ball, {"load": (0.0, 1.0)}),
    "in time": lambda: SpaceTime(Ball, 0.0, 1.0),
}


@pytest.mark.parametrize("make", CLASSES.values(), ids=CLASSES)
def test_a_class_in_place_of_a_domain_is_told_of(make):
    with pytest.raises(TypeError, match=r"must be a domain.*write Ball\(\.\.\.\)"):
        make()
