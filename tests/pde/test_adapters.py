"""Functions, arrays, objects and DeepXDE's geometries stand for domains."""

import pickle
import re

import numpy as np
import pytest
import torch

from sklearn_metakan.pde import (
    Ball,
    Box,
    DeepXDEGeometry,
    Interval,
    Points,
    Sampler,
    SpaceTime,
    as_domain,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Disk:
    """The unit disk with the interface of a DeepXDE geometry."""

    bbox = (np.array([-1.0, -1.0]), np.array([1.0, 1.0]))

    def random_points(self, n, random="pseudo"):
        r, a = np.sqrt(np.random.rand(n)), 2 * np.pi * np.random.rand(n)  # noqa: NPY002
        return np.stack([r * np.cos(a), r * np.sin(a)], 1).astype(np.float32)

    def random_boundary_points(self, n, random="pseudo"):
        a = 2 * np.pi * np.random.rand(n)  # noqa: NPY002
        return np.stack([np.cos(a), np.sin(a)], 1)

    def boundary_normal(self, x):
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    def inside(self, x):
        return np.linalg.norm(x, axis=1) <= 1 + 1e-6


def test_deepxde_geometries():
    domain = as_domain(Disk())
    assert isinstance(domain, DeepXDEGeometry)
    assert domain.bounds.tolist() == [[-1.0, 1.0], [-1.0, 1.0]]
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    x = domain.sample(50, seeded())
    assert domain.contains(x).all() and x.shape == (50, 2)
    assert torch.equal(x, domain.sample(50, seeded()))
    assert (before == np.random.get_state()[1]).all()  # noqa: NPY002
    points, normals = domain.sample_boundary(50, seeded())
    torch.testing.assert_close(points, normals)
    assert (domain - Box([0, 0], [2, 2])).sample(20).shape == (20, 2)
    assert SpaceTime(domain, 0, 1).sample(20).shape == (20, 3)


def upper(n, generator):
    return Ball([0.0, 1.0]).sample(n, generator).numpy()


def rim(n, generator):
    return Ball([0.0, 1.0]).sample_boundary(n, generator)


class Duck:
    bounds = ((0.0, 1.0),)

    def sample(self, n, generator):
        return np.full((n, 1), 0.5)

    def sample_boundary(self, n, generator):
        return np.zeros((n, 1)), -np.ones((n, 1))

    def contains(self, x):
        return ((x >= 0) & (x <= 1)).all(1)


def test_functions_and_ducks():
    domain = as_domain(upper)
    assert isinstance(domain, Sampler) and domain.dim == 2
    assert torch.equal(domain.sample(9, seeded()), domain.sample(9, seeded()))
    assert np.isinf(domain.bounds).all()
    points, normals = as_domain(rim, 2).sample_boundary(9, seeded())
    torch.testing.assert_close(points - torch.tensor([0.0, 1.0]), normals)
    assert as_domain(upper).sample_boundary(9)[1].isnan().all()
    duck = as_domain(Duck())
    assert duck.bounds.tolist() == [[0.0, 1.0]]
    assert duck.sample(4).flatten().tolist() == [0.5] * 4
    assert duck.sample_boundary(4)[1].flatten().tolist() == [-1.0] * 4
    assert duck.contains(np.array([[2.0]])).tolist() == [False]
    assert pickle.loads(pickle.dumps(domain)) == domain
    box = Box([0], [1])
    assert as_domain(box) is box


def test_arrays_are_points():
    X = np.arange(10.0).reshape(5, 2)
    domain = as_domain(X)
    assert isinstance(domain, Points)
    X[:] = 0  # a copy is kept
    assert domain.sample(5)[-1].tolist() == [8.0, 9.0]
    some = domain.sample(3, seeded())
    assert len(some) == len(some.unique(dim=0)) == 3
    assert domain.contains(some).all()
    assert not domain.contains(some + 0.5).any()
    assert domain.sample_boundary(5)[1].isnan().all()
    normals = Points([[0.0], [1.0]], normals=[[-1.0], [1.0]]).sample_boundary(2)[1]
    assert normals.flatten().tolist() == [-1.0, 1.0]


def fails(message, call, error=ValueError):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_bad_samplers():
    fails("must have the shape (n, 3), got (9, 2)", lambda: as_domain(upper, 3).sample(9))
    fails("must have 3 dimensions, got 1", lambda: as_domain(Interval(0, 1), 3))
    nan = as_domain(lambda n, generator: np.full((n, 1), np.nan), 1)
    fails("must be finite, got [nan] in row 0", lambda: nan.sample(2))

    class Outside(Duck):
        def sample(self, n, generator):
            return np.full((n, 1), 2.0)

    fails("must lie in its domain, got [2.0]", lambda: as_domain(Outside(), 1).sample(2))
    fails("must be numbers", lambda: as_domain("box"))
    fails("must be a function of (n, generator)", lambda: Sampler(3, 1), TypeError)
    fails("needs ['random_points'", lambda: DeepXDEGeometry(3), TypeError)
    none = as_domain(lambda n, generator: np.empty((0, 1)), 1)
    fails("at least one, got none", lambda: none.sample(2))
