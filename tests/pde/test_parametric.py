"""Parameters of an equation as inputs: a family in one fit; and fields that are not known."""

import pickle

import numpy as np
import pytest
import torch

from sklearn_metakan.pde import (
    Ball,
    Dirichlet,
    Initial,
    Interval,
    KANPDESolver,
    ParametricDomain,
    Periodic,
    SpaceTime,
    TrialFunction,
)

QUICK = {"hidden_layer_sizes": (6,), "n_interior": 200, "n_boundary": 60, "max_iter": 0}
QUICK |= {"sampling": "sobol", "random_state": 0, "device": "cpu", "hard": True}
LOADS = ParametricDomain(Interval(0, 1), {"load": (1.0, 3.0)})
DISCS = ParametricDomain(Ball([0, 0], 2.0), {"a": (-1, 1), "b": (5, 6)})


def generator():
    return torch.Generator().manual_seed(0)


def test_points_of_a_family():
    x = DISCS.sample(4000, generator(), dtype=torch.float64)
    assert x.shape == (4000, 4) and DISCS.contains(x).all()
    correlations = np.corrcoef(x.numpy().T)
    np.testing.assert_allclose(correlations, np.eye(4), atol=0.08)
    np.testing.assert_allclose(x.mean(0), [0, 0, 0, 5.5], atol=0.08)
    assert DISCS.volume == pytest.approx(4 * np.pi * 2)
    assert DISCS.boundary_area == pytest.approx(4 * np.pi * 2)
    assert not DISCS.contains([[0, 0, 0, 4.9], [0, 2.1, 0, 5.5]]).any()


def test_its_boundary_is_that_of_the_domain():
    x, normal = DISCS.sample_boundary(500, generator(), dtype=torch.float64)
    torch.testing.assert_close(x[:, :2].norm(dim=1), torch.full((500,), 2.0).double())
    torch.testing.assert_close(normal, torch.cat([x[:, :2] / 2, 0 * x[:, 2:]], 1))
    assert x[:, 3].min() < 5.1 and x[:, 3].max() > 5.9
    assert DISCS.distance(x).abs().max() < 1e-9


def test_it_is_a_value():
    again = ParametricDomain(Ball([0, 0], 2.0), {"a": (-1.0, 1.0), "b": (5.0, 6.0)})
    assert again == DISCS == pickle.loads(pickle.dumps(DISCS)) and hash(again) == hash(DISCS)
    assert len(DISCS.sample(50, method="grid")) <= 50


def test_operators_are_in_space_alone():
    class Squares(torch.nn.Module):
        def forward(self, x):
            return x.square().sum(1, keepdim=True)

    x = torch.rand(5, 4, generator=generator(), dtype=torch.float64)
    u = TrialFunction(Squares(), nested=True, n_parameters=1, time=True).field(x)
    torch.testing.assert_close(u.laplacian(), torch.full((5,), 4.0).double())
    torch.testing.assert_close(u.grad(), 2 * x[:, :2])
    torch.testing.assert_close(u.dt(), 2 * x[:, 3])
    torch.testing.assert_close(u.d(2), 2 * x[:, 2])
    for mode in ("sdgd", "hutchinson"):
        random = TrialFunction(
            Squares(), nested=True, n_parameters=1, time=True, derivatives=mode, n_directions=1
        )
        torch.testing.assert_close(random.field(x).laplacian(), u.laplacian())


def test_a_family_in_one_fit():
    """u'' = -load: load x (1 - x) / 2, for each load, and its slope by the load."""
    solver = KANPDESolver(
        lambda x, u: u.laplacian() + x[:, 1], domain=LOADS, conditions=[Dirichlet(0.0)],
        lm_iter=25, **QUICK,
    ).fit()  # fmt: skip
    assert solver._problem.variables == ("x0", "load")
    X = np.array([[0.5, 1.0], [0.5, 3.0], [0.25, 2.0]])
    np.testing.assert_allclose(solver.predict(X), [1 / 8, 3 / 8, 3 / 16], rtol=0.01)
    slopes = solver.predict_derivative(X, "load")
    np.testing.assert_allclose(slopes, [1 / 8, 1 / 8, 3 / 32], rtol=0.05)


def test_a_family_of_ordinary_equations():
    """u' = -rate u from 1."""
    solver = KANPDESolver(
        lambda x, u: u.dt() + x[:, 0] * u.value,
        domain=SpaceTime(ParametricDomain(None, {"rate": (0.5, 2.0)}), 0, 1),
        conditions=[Initial(1.0)], lm_iter=15, **QUICK,
    ).fit()  # fmt: skip
    assert solver._problem.variables == ("rate", "t")
    assert solver.predict([[1.5, 1.0]])[0] == pytest.approx(np.exp(-1.5), rel=5e-3)


def test_waves_of_every_speed_hold_exactly():
    """u_t + c u_x = 0, periodic in x: sin(x - c t)."""
    solver = KANPDESolver(
        lambda x, u: u.dt() + x[:, 1] * u.d("x0"),
        domain=SpaceTime(ParametricDomain(Interval(0, 2 * np.pi), {"c": (0.5, 1.0)}), 0, 1),
        conditions=[Periodic(0), Initial(lambda x: x[:, 0].sin())], lm_iter=2, **QUICK,
    ).fit()  # fmt: skip
    assert [*solver.loss_terms_] == ["step", "residual"]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ParametricDomain(Interval(0, 1), {}), "must map names"),
        (lambda: ParametricDomain(Interval(0, 1), {"k": (2.0, 1.0)}), "low must be below high"),
        (lambda: ParametricDomain(SpaceTime(Interval(0, 1)), {"k": (1, 2)}), "is a space"),
        (lambda: ParametricDomain(None, {"k": (1, 2)}).sample_boundary(2), "has no boundary"),
        (lambda: ParametricDomain(None, {"k": (1, 2)}).distance(torch.zeros(1, 1)), "no distance"),
    ],
)
def test_bad_families(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_a_positive_field_that_is_not_known():
    """-(k u')' = f with k = 1 + x^2 from u = sin(pi x): nothing is said of k, but its sign."""

    def residual(x, u):
        s, k = np.pi * x[:, 0], u[1]
        source = np.pi**2 * (1 + x[:, 0] ** 2) * s.sin() - 2 * np.pi * x[:, 0] * s.cos()
        return k.value * u[0].d(0, 0) + k.d(0) * u[0].d(0) + source

    X = np.linspace(0, 1, 40)[:, None]
    y = np.stack([np.sin(np.pi * X[:, 0]), np.full(40, np.nan)], 1)
    solver = KANPDESolver(
        residual, domain=Interval(0, 1), n_outputs=2, lm_iter=30,
        ansatz=lambda x, net: torch.stack([net[:, 0], net[:, 1].exp()], 1),
        **QUICK | {"hard": False},
    ).fit(X, y)  # fmt: skip
    k = solver.predict(X)[:, 1]
    assert k.min() > 0
    np.testing.assert_allclose(k, 1 + X[:, 0] ** 2, rtol=0.05)
