"""Systems in time whose solutions are followed from their start by a classical method."""

import numpy as np
import pytest
import torch

from sklearn_metakan.pde import Initial, Interval, KANPDESolver, TrialFunction
from sklearn_metakan.pde.physics.physics import EQUATION, Physics
from sklearn_metakan.pde.solve.integrated import EXACT, can_integrate, distance


class Known(torch.nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn, self.one = fn, torch.nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x):
        found = self.one * self.fn(x)
        return found if found.ndim == 2 and found.shape[1] > 1 else found.reshape(-1, 1)


def physics(residual, solution, **constants):
    width = len(Known(solution)(torch.zeros(1, 1))[0])
    scale = torch.ones(width, dtype=torch.float64)
    trial = TrialFunction(
        Known(solution), variables=("t",), time=True, nested=True, input_shift=torch.zeros(1),
        output_scale=scale,
    )  # fmt: skip
    found = Physics(trial, residual, {}, constants)
    x = torch.linspace(0, 1, 7, dtype=torch.float64)[:, None]
    with torch.enable_grad():
        found.probe(EQUATION, [(x, None)])
    return found


def far(made, end, missed=0.0):
    assert can_integrate(made)
    return distance(made, np.array([0.0, end]), missed)


def oscillator(x, u):
    return u.d(0, 0) + u.value


def pair(x, u):
    return u[0].dt() - u[1].value, u[1].dt() + u[0].value


RIGHT = {
    "second order": (oscillator, lambda x: x.sin()),
    "fourth order": (lambda x, u: u.d(0, 0, 0, 0) - u.value, lambda x: x.sin() + (-x).exp()),
    "system": (pair, lambda x: torch.cat([x.sin(), x.cos()], 1)),
    "stiff": (lambda x, u: u.dt() + 1e4 * (u.value - x[:, 0].cos()), lambda x: x.cos()),
    "masses": (lambda x, u: (2 + x[:, 0]) * u.dt() - u.value, lambda x: 2 + x),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_is_near(name):
    residual, solution = RIGHT[name]
    assert far(physics(residual, solution), 9.0) < 1e-3


def test_the_distance_is_the_error():
    """sin t + a t^2 is away by a t^2 from what begins as it does."""
    t, a = np.linspace(0, 9, 2001), 0.004
    error = np.sqrt(np.mean((a * t**2) ** 2)) / (np.std(np.sin(t)) + 0.05)
    found = far(physics(oscillator, lambda x: x.sin() + a * x.square()), 9.0)
    assert found == pytest.approx(error, rel=0.05)


def logistic(x, u):
    return u.dt() - u.value * (1 - u.value)


def test_who_stays_where_all_is_steady_is_told_of():
    """u' = u (1 - u) from 1e-4 grows to 1; what stays has a residual of 1e-4 everywhere."""
    away = physics(logistic, lambda x: 1e-4 + 0 * x)
    x = torch.linspace(0, 30, 50, dtype=torch.float64)[:, None]
    assert away.residuals(x)[EQUATION].abs().max() < 2e-4
    assert far(away, 30.0) > 1
    assert far(physics(logistic, lambda x: 1 / (1 + 9999 * (-x).exp())), 30.0) < 1e-3


def test_a_start_that_is_not_exact_is_no_error():
    """u' = 5 (u - sin t) + cos t: what is missed at first grows by e^15, whatever is solved."""

    def residual(x, u):
        return u.dt() - 5 * (u.value - x[:, 0].sin()) - x[:, 0].cos()

    made = physics(residual, lambda x: x.sin() + 1e-6)
    assert far(made, 3.0) > 0.2
    assert far(made, 3.0, missed=1e-6) == 0


NOTHING_TO_TELL = {
    "not affine": (lambda x, u: u.dt() ** 2 - u.value, lambda x: x.square() / 4),
    "fewer equations": (lambda x, u: u[0].dt() - u[1].value, lambda x: torch.cat([x, x], 1)),
    "no derivative of one": (
        lambda x, u: (u[0].dt() - 1, u[1].value - 1), lambda x: torch.cat([x, 1 + 0 * x], 1),
    ),
    "other points": (lambda x, u: u.dt() - u.value.mean(), lambda x: x),
    "too many waves": (lambda x, u: u.d(0, 0) + 1e10 * u.value, lambda x: (1e5 * x).sin()),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTHING_TO_TELL)
def test_where_there_is_nothing_to_tell(name):
    assert far(physics(*NOTHING_TO_TELL[name]), 9.0) is None


def test_constants_are_those_that_were_found():
    made = physics(lambda x, u, rate: u.dt() + rate * u.value, lambda x: (-2 * x).exp(), rate=2.0)
    assert far(made, 2.0) < 1e-3
    with torch.no_grad():
        made.pde_params["rate"].fill_(1.0)
    assert far(made, 2.0) > 0.2


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_fit_in_either_precision_is_followed(precision, recwarn):
    """The equation is given points as in training: here a network of its own takes no others."""
    turn = torch.nn.Linear(1, 1, dtype=getattr(torch, precision)).requires_grad_(False)
    turn.weight.fill_(0.0)
    turn.bias.fill_(1.0)

    def turned(x, u):
        rate = turn(x)[:, 0]
        return u[0].dt() - rate * u[1].value, u[1].dt() + rate * u[0].value

    solver = KANPDESolver(
        turned,
        domain=Interval(0, 3),
        variables=("t",),
        n_outputs=2,
        conditions=[Initial(0.0, output=0, name="u"), Initial(1.0, output=1, name="v")],
        hidden_layer_sizes=(6,),
        n_interior=100,
        max_iter=0,
        lm_iter=25,
        precision=precision,
        random_state=0,
        device="cpu",
    ).fit()
    assert not [each for each in recwarn if "Not solved" in str(each.message)]
    dtype = solver._points_dtype
    found = distance(solver._physics, np.array([0.0, 3.0]), 0.0, dtype)
    t = np.linspace(0, 3, 400)
    exact = np.stack([np.sin(t), np.cos(t)], 1)
    error = np.sqrt(np.mean((solver.predict(t[:, None]) - exact) ** 2, 0)) / exact.std(0)
    assert found < 5 * error.max() + 10 * EXACT[getattr(torch, precision)]
