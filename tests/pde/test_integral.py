"""Integrals: as conditions, with least squares too, and eigenvalues that they make unique."""

import numpy as np
import pytest
import torch

from sklearn_metakan.pde import (
    Ball,
    Box,
    Dirichlet,
    Integral,
    Interval,
    KANPDESolver,
    Neumann,
    Points,
    SpaceTime,
)

QUICK = {"hidden_layer_sizes": (6,), "n_interior": 300, "n_boundary": 2, "max_iter": 0}
QUICK |= {"lm_iter": 60, "sampling": "sobol", "random_state": 0, "device": "cpu"}


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


def mode(start, known=()):
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
        **QUICK,
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
    from sklearn_metakan.pde.solve.least_squares import LeastSquares

    solver = mode(8.0)
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
