"""Conditions that hold exactly, features, and what is kept while points stay."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from sklearn_metakan.nn import KAN
from sklearn_metakan.pde import (
    Ball,
    Box,
    Dirichlet,
    Initial,
    Interval,
    KANPDESolver,
    Neumann,
    Periodic,
    SpaceTime,
    TrialFunction,
    problems,
)
from sklearn_metakan.pde.derivatives.of_points import is_affine, kept
from sklearn_metakan.pde.physics.hard import exactly

QUICK = {"hidden_layer_sizes": (5,), "n_interior": 200, "n_boundary": 40, "n_initial": 40}
QUICK |= {"max_iter": 0, "random_state": 0, "device": "cpu", "hard": True}


FIRST = """
import warnings
from sklearn_metakan.pde import Dirichlet, Interval, KANPDESolver
warnings.simplefilter("error")
KANPDESolver(
    lambda x, u: u.d(0, 0) + 1, domain=Interval(0, 1), conditions=[Dirichlet()], hard=True,
    hidden_layer_sizes=(4,), n_interior=100, max_iter=0, lm_iter=20, random_state=0,
).fit()
"""


def test_the_first_fit_of_a_process_is_silent():
    run = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def fitted(lm_iter=2, **settings):
    return KANPDESolver(**settings, **QUICK, lm_iter=lm_iter).fit()


def on(domain, n=100):
    x, _ = domain.sample_boundary(n, torch.Generator().manual_seed(0), dtype=torch.float64)
    return x.numpy()


def at_start(domain, n=100):
    generator = torch.Generator().manual_seed(0)
    return domain.sample_initial(n, generator, dtype=torch.float64).numpy()


RING = Ball([0.0, 0.0]) - Ball([0.0, 0.0], 0.4)


@pytest.mark.parametrize("domain", [Interval(2, 5), Box([0, 0], [1, 3]), RING])
def test_values_on_a_boundary_hold_before_anything_is_learnt(domain):
    def value(x):
        return 1 + x[:, 0].square()

    solver = fitted(
        residual=lambda x, u: u.laplacian() + 1, domain=domain, conditions=[Dirichlet(value)]
    )
    x = on(domain)
    np.testing.assert_allclose(solver.predict(x), value(torch.as_tensor(x)), rtol=1e-6)
    assert {*solver.loss_terms_} == {"step", "residual"}


def test_a_start_and_its_speed_hold():
    wave = problems.Wave()
    settings = {name: value for name, value in wave.settings.items() if name != "solution"}
    solver = fitted(**settings)
    start, edge = at_start(wave.domain), on(wave.domain)
    np.testing.assert_allclose(
        solver.predict(start), wave.solution(torch.as_tensor(start)), atol=1e-12
    )
    np.testing.assert_allclose(solver.predict_derivative(start, "t"), 0, atol=1e-9)
    np.testing.assert_allclose(solver.predict(edge), 0, atol=1e-12)


def test_periodic_ends_agree_in_every_derivative():
    domain = SpaceTime(Interval(-1, 3), 0, 1)
    solver = fitted(
        residual=lambda x, u: u.dt() + u.d("x", "x", "x"),
        domain=domain,
        variables=("x", "t"),
        conditions=[Periodic(0), Initial(lambda x: (torch.pi * x[:, 0] / 2).sin())],
    )
    times = np.linspace(0, 1, 7)
    low, high = (np.stack([np.full(7, end), times], 1) for end in (-1.0, 3.0))
    for order in (1, 2, 3):
        slopes = (solver.predict_derivative(x, ("x",) * order) for x in (low, high))
        np.testing.assert_allclose(*slopes, atol=1e-8)
    assert {*solver.loss_terms_} == {"step", "residual"}


def test_what_cannot_be_built_in_stays_a_loss():
    domain = SpaceTime(Interval(-1, 1), 0, 1)
    heat = {"residual": lambda x, u: u.dt() - u.laplacian(), "domain": domain}
    # A start that does not repeat cannot be part of a function that is periodic.
    solver = fitted(**heat, conditions=[Periodic(0), Initial(lambda x: x[:, 0])])
    assert {*solver.loss_terms_} == {"step", "residual", "initial"}
    left = Dirichlet(0.0, where=lambda x: x[:, 0] < 0, name="left")
    solver = fitted(**heat, conditions=[left, Neumann(0.0), Initial(0.0)])
    assert {*solver.loss_terms_} == {"step", "residual", "left", "neumann"}


def test_outputs_hold_their_own():
    def residual(x, u):
        return u[0].laplacian() + 1, u[1].laplacian() + u[0].value

    solver = fitted(
        residual=residual,
        domain=Interval(0, 1),
        n_outputs=2,
        conditions=[Dirichlet(2.0, output=0), Dirichlet(-1.0, output=1)],
    )
    np.testing.assert_allclose(solver.predict([[0.0], [1.0]]), [[2, -1]] * 2, atol=1e-12)


def test_contradictions_are_named():
    domain = SpaceTime(Interval(0, 1), 0, 1)
    heat = {"residual": lambda x, u: u.dt() - u.laplacian(), "domain": domain}
    with pytest.raises(ValueError, match=r"agree where they meet.*hard=False"):
        fitted(**heat, conditions=[Dirichlet(0.0), Initial(1.0)])
    with pytest.raises(ValueError, match="leave ansatz out"):
        fitted(**heat, conditions=[Initial(1.0)], ansatz=lambda x, net: net)


def test_a_solver_with_hard_conditions_is_solved_and_pickled():
    solver = fitted(
        lm_iter=15,
        residual=problems.PoissonCube(2).residual,
        domain=Box([0, 0], [1, 1]),
        conditions=problems.PoissonCube(2).conditions,
    )
    x = np.random.default_rng(0).random((50, 2))
    again = pickle.loads(pickle.dumps(solver.module_.ansatz))
    given = torch.as_tensor(x), torch.ones(50)
    np.testing.assert_array_equal(again(*given), solver.module_.ansatz(*given))
    exact = problems.PoissonCube(2).solution(torch.as_tensor(x)).numpy()
    assert np.linalg.norm(solver.predict(x) - exact) < 0.1 * np.linalg.norm(exact)


def trial(k=1, **more):
    generator = torch.Generator().manual_seed(0)
    network = KAN(
        [3, 4, k], degree=5, extrapolation="base", generator=generator, dtype=torch.float64
    )
    scale = {"input_shift": torch.tensor([0.3, 0.2, 0.1]), "input_scale": torch.tensor([2, 3, 1.5])}
    return TrialFunction(network, time=True, **scale, **more)


def bend(x, net):
    """g(x) + w(x) net for any number of outputs."""
    weight = x[:, 0] * x[:, 1].cos() * x[:, 2].exp()
    parts = x.sum(1).sin(), weight
    g, w = parts if net.ndim == 1 else (each[:, None] for each in parts)
    return g + w * net


def curved(x):
    return torch.stack([x[:, 0] * x[:, 1], x[:, 2].sin(), x[:, 0] ** 2], 1)


KEYS = [(0,), (0, 1), (2, 2), (0, 1, 2), (1, 1, 1), (0, 0, 1, 2)]


@pytest.mark.parametrize("features", [None, curved])
@pytest.mark.parametrize("k", [1, 2])
def test_affine_ansatz_and_features_have_nested_autograds_derivatives(k, features, points):
    x = points(9, 3)
    parts = {"ansatz": bend, "features": features}
    quick, usual, nested = (
        trial(k, **parts, **more).field(x) for more in ({"affine": True}, {}, {"nested": True})
    )
    for found in (quick, usual):
        torch.testing.assert_close(found.laplacian(), nested.laplacian())
        for key in KEYS:
            torch.testing.assert_close(found.d(*key), nested.d(*key))


def test_an_affine_ansatz_is_recognised(points):
    x = points(30, 3)
    assert is_affine(bend, x, 1) and is_affine(bend, x, 2)
    assert not is_affine(lambda x, net: net.tanh(), x, 1)
    assert not is_affine(lambda x, net: net + 1e-3 * net**2, x, 1)
    assert not is_affine(lambda x, net: net.flip(1), x, 2)


def test_what_is_kept_follows_the_points():
    calls = []

    def compute(x):
        return kept(x, "key", lambda: (calls.append(len(x)) or x + 1, x + 2))

    x = torch.arange(12.0).reshape(6, 2)
    for rows in (x, x[:3], x[3:], x[::2], x[:3]):
        assert torch.equal(compute(rows)[0], rows + 1)
    assert calls == [6, 3, 3, 3]
    assert kept(x, "itself", lambda: (x, x[:, 1:]))[0] is not x  # which would keep it for ever
    x += 1  # other points in the same place
    assert torch.equal(compute(x[:3])[0], x[:3] + 1)
    assert calls == [6, 3, 3, 3, 3]
    with torch.inference_mode():
        compute(torch.zeros(2, 2))
    assert calls[-1] == 2


def test_a_solution_that_is_built_in_is_no_failure(recwarn):
    """u = x fulfils u'' = 0 and both ends, before a network is asked for anything."""
    ends = Dirichlet(lambda x: 3 * x[:, 0])
    line = {"residual": lambda x, u: u.laplacian(), "domain": Interval(0, 1)}
    solver = fitted(lm_iter=20, **line, conditions=[ends])
    assert solver.predict([[0.4]]) == pytest.approx(1.2, abs=1e-2)
    assert not [each for each in recwarn if "Not solved" in str(each.message)]


SQUARE, STRIP = Box([0, 0], [1, 1]), SpaceTime(Interval(-1, 1), 0, 1)
SMOOTH = {
    "a slope": lambda x: x[:, 0] - 2 * x[:, 1],
    "a steep front": lambda x: (500 * (x[:, 0] - 0.31)).tanh(),
    "a number": lambda x: 3.0,
    "two outputs": lambda x: torch.stack([x[:, 0], x[:, 1].sin()], 1),
}
BROKEN = {
    "a lid": lambda x: (x[:, 1] == 1).double(),
    "a jump": lambda x: (x[:, 0] > 0.31).double(),
    "a kink": lambda x: (x[:, 0] - 0.31).relu(),
    "one output of two": lambda x: torch.stack([x[:, 0], (x[:, 0] - 0.31).abs()], 1),
}


@pytest.mark.parametrize("case", [*SMOOTH, *BROKEN])
def test_only_values_with_a_slope_everywhere_are_built_in(case):
    """Jumps and kinks would be continued into all of the domain, and through all times."""
    value, smooth = {**SMOOTH, **BROKEN}[case], case in SMOOTH
    k = 2 if "output" in case else 1
    for condition, domain in ((Dirichlet(value), SQUARE), (Initial(value), STRIP)):
        if case == "a lid" and domain is STRIP:
            continue
        ansatz, _, left = exactly({"it": condition}, domain, k, domain is STRIP, True, True)
        assert (ansatz is not None, [*left]) == ((True, []) if smooth else (False, ["it"]))


def test_a_jump_between_parts_of_a_domain_is_none():
    parts = Interval(0, 1) | Interval(2, 3)
    condition = Dirichlet(lambda x: (x[:, 0] > 1.5).double())
    assert exactly({"it": condition}, parts, 1, False, True, True)[2] == {}
