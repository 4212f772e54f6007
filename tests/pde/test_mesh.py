"""Meshes: laws of their points, normals, membership, distances, and files."""

import pickle
import sys
from itertools import permutations, product
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sklearn_metakan.pde import Mesh, Moved, SpaceTime


def generator():
    return torch.Generator().manual_seed(0)


def grid(d, n):
    axes = [np.linspace(0, 1, n + 1)] * d
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, d)


def cut(d, n, keep=lambda middle: True):
    """The unit cube in n^d cubes, each cut along its diagonal, of those that are kept."""
    place = (n + 1) ** np.arange(d)[::-1]
    cells = [
        [(np.array(cube) + step) @ place for step in np.cumsum([[0] * d, *np.eye(d)[[*order]]], 0)]
        for cube in product(range(n), repeat=d)
        for order in permutations(range(d))
        if keep((np.array(cube) + 0.5) / n)
    ]
    return Mesh(grid(d, n), np.array(cells).astype(int))


L = cut(2, 4, lambda middle: (middle < 0.5).any())  # without a quarter
CUBE = cut(3, 2)


@pytest.mark.parametrize(
    ("mesh", "volume", "area"), [(L, 0.75, 4.0), (CUBE, 1.0, 6.0)], ids=["L", "cube"]
)
def test_sizes(mesh, volume, area):
    assert mesh.volume == pytest.approx(volume) and mesh.boundary_area == pytest.approx(area)
    assert mesh.bounds.tolist() == [[0, 1]] * mesh.dim


@pytest.mark.parametrize("method", ["uniform", "sobol"])
@pytest.mark.parametrize("mesh", [L, CUBE], ids=["L", "cube"])
def test_points_inside_are_uniform(mesh, method):
    x = mesh.sample(4000, generator(), method=method, dtype=torch.float64)
    assert mesh.contains(x).all()
    if mesh is L:  # the three quarters alike
        shares = [((x < 0.5) == torch.tensor(each)).all(1).double().mean() for each in QUARTERS]
        np.testing.assert_allclose(shares, [1 / 3] * 3, atol=0.03)
    else:
        np.testing.assert_allclose(x.mean(0), [0.5] * 3, atol=0.02)
        np.testing.assert_allclose(x.var(0), [1 / 12] * 3, atol=0.005)


QUARTERS = ([True, True], [True, False], [False, True])


@pytest.mark.parametrize("mesh", [L, CUBE], ids=["L", "cube"])
def test_normals_point_out(mesh):
    x, normal = mesh.sample_boundary(2000, generator(), dtype=torch.float64)
    torch.testing.assert_close(normal.norm(dim=1), torch.ones(2000).double())
    assert mesh._contains(x - 1e-4 * normal, 0.0).float().mean() > 0.99
    assert mesh._contains(x + 1e-4 * normal, 0.0).float().mean() < 0.01
    np.testing.assert_allclose(normal.mean(0), [0] * mesh.dim, atol=0.06)
    on_first = (x[:, 0] == 0).double().mean()
    assert float(on_first) == pytest.approx(1 / mesh.boundary_area, abs=0.03)


@pytest.mark.parametrize("mesh", [L, CUBE], ids=["L", "cube"])
def test_membership_and_its_margin(mesh):
    x = 1.5 * torch.rand(500, mesh.dim, generator=generator(), dtype=torch.float64) - 0.25
    inside = ((x >= 0) & (x <= 1)).all(1)
    if mesh is L:
        inside &= (x < 0.5).any(1)
    assert torch.equal(mesh.contains(x), inside)
    beside = torch.full((1, mesh.dim), 0.3).double()
    beside[0, 0] = 1.01
    assert not mesh.contains(beside).any()
    assert mesh._contains(beside, 0.02).all() and not mesh._contains(beside - 0.02, -0.02).any()


def test_the_distance_in_the_plane():
    x, normal = L.sample_boundary(300, generator(), dtype=torch.float64)
    assert L.distance(x).abs().max() < 1e-6
    inner = x - 1e-4 * normal
    assert float((L.distance(inner) / 1e-4).median()) == pytest.approx(1, abs=0.05)
    with pytest.raises(ValueError, match="no distance"):
        CUBE.distance(torch.zeros(1, 3))


def test_meshes_are_values_and_parts_of_domains():
    again = pickle.loads(pickle.dumps(L))
    assert again == L and hash(again) == hash(L)
    moved = SpaceTime(Moved(L, shift=[5, 0]), 0, 2)
    x = moved.sample(100, generator())
    assert x[:, 0].min() >= 5 and moved.contains(x).all()
    assert (L - Moved(L, shift=[0.25, 0])).contains([[0.1, 0.1], [0.6, 0.1]]).tolist() == [1, 0]
    assert 0 < len(L.sample(50, method="grid")) <= 50


def test_reading_takes_the_cells_of_the_highest_dimension(monkeypatch):
    flat = np.column_stack([grid(2, 1), np.zeros(4)])
    cells = [
        SimpleNamespace(type="line", data=np.array([[0, 1]])),
        SimpleNamespace(type="triangle", data=np.array([[0, 1, 2]])),
        SimpleNamespace(type="triangle", data=np.array([[1, 2, 3]])),
    ]
    read = {"two.msh": (flat, cells), "lines.msh": (flat, cells[:1])}
    fake = SimpleNamespace(
        read=lambda path: SimpleNamespace(points=read[path][0], cells=read[path][1])
    )
    monkeypatch.setitem(sys.modules, "meshio", fake)
    assert Mesh.read("two.msh").volume == 1.0
    with pytest.raises(ValueError, match=r"lines\.msh has no cells of the kind 'triangle'"):
        Mesh.read("lines.msh")
    monkeypatch.setitem(sys.modules, "meshio", None)
    with pytest.raises(ImportError, match="pip install meshio"):
        Mesh.read("two.msh")


TRIANGLE = [[0, 0], [1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("vertices", "cells", "text"),
    [
        ([[0.0], [1.0]], [[0, 1]], "vertices must be"),
        (TRIANGLE, [[0, 1]], "vertices must be"),
        (TRIANGLE, [[0, 1, 3]], "cells must be rows"),
        (TRIANGLE, [[0.0, 1.0, 2.0]], "cells must be rows"),
        ([[0, 0], [1, 1], [2, 2]], [[0, 1, 2]], "cell 0 has none"),
        ([*TRIANGLE, [1, 1], [2, 3]], [[0, 1, 2], [1, 2, 3], [1, 2, 4]], "one other cell"),
    ],
)
def test_bad_meshes(vertices, cells, text):
    with pytest.raises(ValueError, match=text):
        Mesh(vertices, cells)
