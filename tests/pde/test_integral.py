"""Integrals: as conditions, with least squares too, and eigenvalues that they make unique."""

import numpy as np
import pytest
import torch

from sklearn_metakan.pde import (
    Ball,
    Box,
    Dirichlet,
    Initial,
    Integral,
    Interval,
    KANPDESolver,
    MetaKANPDESolver,
    Neumann,
    Points,
    SpaceTime,
    TrialFunction,
)
from sklearn_metakan.pde.solve.least_squares import LeastSquares

QUICK = {"hidden_layer_sizes": (6,), "n_interior": 150, "n_boundary": 2, "max_iter": 0}
QUICK |= {"lm_iter": 40, "sampling": "sobol", "random_state": 0, "device": "cpu"}


@pytest.mark.parametrize(
    ("domain", "volume"),
    [
        (Interval(-1, 3), 4),
        (Box([0, 0, 0], [1, 2, 3]), 6),
        (Ball([1.0, 0.0], 2.0), 4 * np.pi),
        (SpaceTime(Ball([0.0, 0.0, 0.0]), 0, 3), 4 * np.pi),
        (Box([0, 0], [2, 2]) - Ball([1, 1], 0.5), 4 - np.pi / 4),
        (Ball([0.0, 0.0]) | Ball([5.0, 0.0]), 2 * np.pi),
    ],
)
def test_volumes(domain, volume):
    assert domain.volume == pytest.approx(volume, rel=3e-3)


def test_points_have_no_volume():
    with pytest.raises(ValueError, match="the volume of Points"):
        _ = Points([[0.0], [1.0]]).volume


def test_an_integral_chooses_among_solutions():
    """u'' = 0 with u' = 1 at both ends: u = x + c, and c = 2 as its integral over [0, 1] is 2.5."""
    line = KANPDESolver(
        lambda x, u: u.d(0, 0),
        domain=Interval(0, 1),
        conditions=[
            Neumann(lambda x: 2 * x[:, 0] - 1),
            Integral(lambda x, u: u.value, 2.5, name="mass"),
        ],
        **QUICK | {"lm_iter": 25},
    ).fit()
    np.testing.assert_allclose(line.predict([[0.0], [1.0]]), [2.0, 3.0], atol=0.02)
    assert line.loss_terms_["mass"][-1] < 1e-4


def mode(start, known=(), **more):
    """-u'' = k u, u = 0 at 0 and 1, of length one and orthogonal to known modes."""
    apart = [
        Integral(lambda x, u, v=v: u.value * v.module_(x), 0.0, name=f"apart_{j}")
        for j, v in enumerate(known)
    ]
    return KANPDESolver(
        lambda x, u, k: u.d(0, 0) + k * u.value,
        domain=Interval(0, 1),
        conditions=[Dirichlet(0.0), Integral(lambda x, u: u.value**2, 1.0, name="norm"), *apart],
        pde_params={"k": start},
        hard=True,
        **QUICK | more,
    ).fit()


def test_eigenvalues_one_after_the_other():
    first = mode(8.0)
    assert first.pde_params_["k"] == pytest.approx(np.pi**2, rel=1e-3)
    second = mode(30.0, [first])
    assert second.pde_params_["k"] == pytest.approx(4 * np.pi**2, rel=1e-3)
    x = np.linspace(0, 1, 9)[:, None]
    wave = np.abs(second.predict(x))
    np.testing.assert_allclose(wave, np.sqrt(2) * np.abs(np.sin(2 * np.pi * x[:, 0])), atol=0.03)


def test_least_squares_take_the_gradient_of_a_mean():
    solver = mode(8.0, lm_iter=3)
    physics = solver._physics
    batch = solver._collocation({"interior": 50, "boundary": 2, "initial": 1}, 3).draw()
    trained = [p for p in physics.parameters() if p.requires_grad]
    weights = {"norm": 3.0, "residual": 2.0}
    problem = LeastSquares(physics, batch, weights.get, trained, memory=1e-3)
    matrix, vector = problem.normal_equations()
    loss = sum(weights[name] * value for name, value in physics(batch).items())
    assert problem.total == pytest.approx(float(loss.detach()), rel=1e-9)
    slopes = torch.autograd.grad(loss, trained)
    torch.testing.assert_close(2 * vector, torch.cat([s.reshape(-1) for s in slopes]))
    assert (matrix - matrix.T).abs().max() < 1e-9 * matrix.abs().max()


def test_what_is_integrated_must_be_a_function():
    with pytest.raises(TypeError, match="fn must be a function"):
        Integral(1.0)


def volterra(x, u):
    """u' + u = integral of exp(s - x) u(s) from 0 to x; with u(0) = 1: exp(-x) cosh x."""
    memory = u.integral("t", 0.0, kernel=lambda x, s: (s - x[:, 0]).exp())
    return u.dt() + u.value - memory


@pytest.mark.parametrize("method", ["lm_iter", "ssbroyden_iter"])
def test_an_equation_with_memory(method):
    more = {"lm_iter": 0, "ssbroyden_iter": 120, "n_interior": 60}
    more = more if method == "ssbroyden_iter" else {}
    solver = KANPDESolver(
        volterra,
        domain=Interval(0, 5),
        variables=("t",),
        conditions=[Initial(1.0)],
        hard=True,
        **QUICK | {"lm_iter": 20, "n_interior": 150} | more,
    ).fit()
    t = np.linspace(0, 5, 11)
    np.testing.assert_allclose(solver.predict(t[:, None]), np.exp(-t) * np.cosh(t), atol=5e-3)


def both_ways(x, u):
    """u at two places for each point, one after the other, and an integral."""
    places = torch.stack([x[:, 0] / 2, 1 - x[:, 0]], 1).reshape(-1, 1)
    return u.d(0) + u(places).reshape(-1, 2).prod(1) + u.integral(0, 0.0)


@pytest.mark.parametrize("kind", [KANPDESolver, MetaKANPDESolver])
def test_least_squares_take_gradients_of_u_elsewhere(kind):
    solver = kind(
        both_ways, domain=Interval(0, 1), conditions=[Dirichlet(1.0)], **QUICK | {"lm_iter": 1}
    ).fit()
    physics = solver._physics
    batch = solver._collocation({"interior": 50, "boundary": 2, "initial": 1}, 3).draw()
    trained = [p for p in physics.parameters() if p.requires_grad]
    problem = LeastSquares(physics, batch, lambda _: 1.0, trained, memory=0.5)
    _, vector = problem.normal_equations()
    slopes = torch.autograd.grad(sum(physics(batch).values()), trained)
    torch.testing.assert_close(2 * vector, torch.cat([s.reshape(-1) for s in slopes]))


def test_integrals_and_weights_of_single_points():
    settings = QUICK | {"lm_iter": 3, "loss_weights": "rba"}
    solver = KANPDESolver(both_ways, domain=Interval(0, 1), conditions=[Dirichlet(1.0)], **settings)
    assert np.isfinite(solver.fit().loss_)


def autograd(x, u):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(u(x).sum(), x, create_graph=True)[0][:, 0] - 1


@pytest.mark.parametrize(
    "residual",
    [
        lambda x, u: u.d(0) - u(x.repeat(2, 1)).reshape(2, -1).sum(0),
        lambda x, u: u.d(0) - u(torch.linspace(0, 1, 6)[:, None].to(x)).mean(),
        lambda x, u: u.d(0) - u(torch.linspace(0, 1, 50)[:, None].to(x)).mean(),
        autograd,
    ],
)
def test_least_squares_refuse_rows_of_no_point(residual):
    solver = KANPDESolver(residual, domain=Interval(0, 1), conditions=[Dirichlet(0.0)], **QUICK)
    with pytest.raises(ValueError, match="ssbroyden_iter"):
        solver.fit()


def test_integrals_of_a_field():
    """Of polynomials, over a fixed range and up to the point, with several outputs."""

    class Cubes(torch.nn.Module):
        def forward(self, x):
            return torch.stack([x[:, 0] ** 3, x[:, 1] + 0 * x[:, 0]], 1)

    x = torch.rand(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u = TrialFunction(Cubes(), nested=True).field(x)
    torch.testing.assert_close(u.integral(0, 0.0)[:, 0], x[:, 0] ** 4 / 4)
    whole = u.integral("x0", -1.0, 2.0, kernel=lambda x, s: s)
    torch.testing.assert_close(whole[:, 0], torch.full((5,), 33 / 5).double())
    torch.testing.assert_close(whole[:, 1], 1.5 * x[:, 1])
    torch.testing.assert_close(u[0].integral(0, 0.0), x[:, 0] ** 4 / 4)


SEEN = np.linspace(0.05, 0.95, 30)[:, None]


def test_a_field_that_is_not_known():
    """(k u')' = (2 + x) exp x with k = 1 + x and u = exp x, of which u alone is seen."""

    def residual(x, u):
        k, s = u[1], x[:, 0]
        return k.value * u[0].d(0, 0) + k.d(0) * u[0].d(0) - (2 + s) * s.exp()

    y = np.stack([np.exp(SEEN[:, 0]), np.full(30, np.nan)], 1)
    y[0, 1] = 1.05  # at one place k is known
    solver = KANPDESolver(
        residual,
        domain=Interval(0, 1),
        n_outputs=2,
        conditions=[Dirichlet(lambda x: x[:, 0].exp(), output=0)],
        **QUICK,
    ).fit(SEEN, y)
    np.testing.assert_allclose(solver.predict(SEEN)[:, 1], 1 + SEEN[:, 0], atol=0.06)


def test_weights_of_observations():
    """Two claims about a constant: their weighted mean is found."""
    X, y = np.array([[0.3], [0.6]]), np.array([1.0, 2.0])
    flat = {"domain": Interval(0, 1), "hidden_layer_sizes": (4,), "n_interior": 50, "max_iter": 0}
    solver = KANPDESolver(
        lambda x, u: 10 * u.d(0), **flat, lm_iter=30, random_state=0, device="cpu"
    )
    even = solver.fit(X, y).predict([[0.5]])[0]
    first = solver.fit(X, y, sample_weight=[3.0, 1.0]).predict([[0.5]])[0]
    only = solver.fit(X, y, sample_weight=[1.0, 0.0]).predict([[0.5]])[0]
    assert [even, first, only] == pytest.approx([1.5, 1.25, 1.0], abs=0.03)


def test_bad_observations():
    solver = KANPDESolver(lambda x, u: u.d(0), domain=Interval(0, 1), n_outputs=1, **QUICK)
    for given, text in [
        ({"y": [np.nan, 1.0]}, "y must be finite"),
        ({"y": [1.0, 1.0], "sample_weight": [1.0]}, "sample_weight must be 2"),
        ({"y": [1.0, 1.0], "sample_weight": [-1.0, 1.0]}, "sample_weight must be 2"),
        ({"y": [1.0, 1.0], "sample_weight": [0.0, 0.0]}, "must not be 0 for all"),
        ({"y": None, "sample_weight": [1.0, 1.0]}, "pass y too"),
    ]:
        with pytest.raises(ValueError, match=text):
            solver.fit([[0.2], [0.4]], **given)
