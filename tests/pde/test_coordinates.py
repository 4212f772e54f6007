"""Coordinates far from zero, constant ones, and points far outside."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

from sklearn_metakan.pde import (
    Ball,
    Box,
    Condition,
    Dirichlet,
    Initial,
    Interval,
    KANPDESolver,
    MetaKANPDESolver,
    Neumann,
    Periodic,
    Points,
    SolutionDisplay,
    SpaceTime,
    TrialFunction,
)

START = 1.7e9  # a time in seconds
QUICK = {"hidden_layer_sizes": (6,), "n_interior": 100, "n_boundary": 20, "random_state": 0}
QUICK |= {"device": "cpu"}
LBFGS = {"max_iter": 0, "lbfgs_iter": 150}


def bump(x, u):
    """u'' = -1; with 0 at both ends 0.125 in the middle."""
    return u.d(0, 0) + 1


def middle(solver):
    return solver.predict([[START + 0.5]])[0]


TRAINING = {
    "lbfgs": LBFGS,
    "float32": LBFGS | {"precision": "float32"},
    "adamw": {"max_iter": 400, "learning_rate": 0.05},
    "levenberg_marquardt": {"max_iter": 0, "lm_iter": 30},
}


@pytest.mark.parametrize("training", TRAINING.values(), ids=TRAINING)
@pytest.mark.parametrize("solver", [KANPDESolver, MetaKANPDESolver])
def test_an_interval_far_from_zero(solver, training):
    far = Interval(START, START + 1)
    model = solver(bump, domain=far, conditions=[Dirichlet(0.0)], **QUICK | training).fit()
    assert middle(model) == pytest.approx(0.125, abs=2e-3)
    slopes = model.predict_derivative([[START], [START + 1]])
    np.testing.assert_allclose(slopes, [0.5, -0.5], atol=0.05)
    assert model.predict_residual([[START + 0.5]])[0] == pytest.approx(0, abs=0.2)
    assert model.score() > -0.2


def shifted_sine(x):
    return (torch.pi * (x[:, 0] - START)).sin()


FAR = np.linspace(START, START + 1, 41)[:, None]
ENDS = Points([[START], [START + 1]], normals=[[-1.0], [1.0]])
PROBLEMS = {
    "source of x": ({"residual": lambda x, u: u.d(0, 0) + torch.pi**2 * shifted_sine(x)}, None),
    "points": ({"domain": FAR, "boundary": ENDS}, None),
    "sampler": ({"domain": lambda n, g: START + torch.rand(n, 1, generator=g).double(),
                 "boundary": ENDS}, None),
    "neumann": ({"boundary": ENDS, "conditions": [
        Dirichlet(0.0, where=lambda x: x[:, 0] < START + 0.5),
        Neumann(-0.5, where=lambda x: x[:, 0] > START + 0.5)]}, None),
    "ansatz": ({"conditions": (),
                "ansatz": lambda x, net: (x[:, 0] - START) * (START + 1 - x[:, 0]) * net}, None),
    "normals": ({"conditions": [Dirichlet(0.0), Condition(
        lambda x, u, normal: u.normal_derivative() + 0.5 * normal[:, 0].square())]}, None),
    "observed": ({"conditions": ()}, (FAR, ((FAR - START) * (START + 1 - FAR) / 2)[:, 0])),
    "union": ({"domain": Interval(START, START + 0.6) | Interval(START + 0.4, START + 1)}, None),
    "by residual": ({"sampling": "rad"}, None),
    "by hand": ({"residual": lambda x, u: by_hand(x, u)}, None),
}  # fmt: skip


def by_hand(x, u):
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(u(x).sum(), x, create_graph=True)
    return torch.autograd.grad(slope.sum(), x, create_graph=True)[0][:, 0] + 1


@pytest.mark.parametrize(("settings", "observed"), PROBLEMS.values(), ids=PROBLEMS)
def test_every_way_to_give_points_far_from_zero(settings, observed):
    settings = {
        "residual": bump, "domain": Interval(START, START + 1), "conditions": [Dirichlet(0.0)],
        "precision": "float32",
    } | settings | LBFGS  # fmt: skip
    model = KANPDESolver(**QUICK | settings).fit(*(observed or ()))
    expected = 1.0 if "sine" in str(settings["residual"].__code__.co_names) else 0.125
    assert middle(model) == pytest.approx(expected, abs=0.02)


def test_times_far_from_zero():
    def residual(x, u):
        return u.dt() - u.laplacian() / torch.pi**2

    settings = LBFGS | {"precision": "float32", "lbfgs_iter": 200, "n_initial": 50}
    conditions = [Initial(lambda x: (torch.pi * x[:, 0]).sin()), Dirichlet(0.0)]
    domain = SpaceTime(Interval(0, 1), START, START + 1)
    model = KANPDESolver(
        residual, domain=domain, conditions=conditions, causal=0.1, **QUICK | settings
    ).fit()
    X = np.array([[0.5, START], [0.5, START + 1]])
    np.testing.assert_allclose(model.predict(X), [1, np.exp(-1)], atol=0.03)
    display = SolutionDisplay.from_estimator(model, n_points=3)
    assert display.values["solution"][0, 1] == pytest.approx(1, abs=0.03)


def shapes(start):
    return (
        (Interval(start, start + 1), [Periodic(0)]),
        (Ball([start, 0.0], 1.0), [Dirichlet(0.0)]),
        (Box([start, 0.0], [start + 1, 1.0]) - Ball([start, 0.0], 0.5), [Neumann(1.0)]),
    )


@pytest.mark.parametrize("number", range(3))
def test_shapes_far_from_zero_are_those_near_zero(number):
    def residual(x, u):
        return u.laplacian() + u.value - 1

    found = []
    for start in (0.0, START):
        domain, conditions = shapes(start)[number]
        model = KANPDESolver(
            residual, domain=domain, conditions=conditions, precision="float32",
            **QUICK | {"max_iter": 5},
        ).fit()  # fmt: skip
        generator = torch.Generator().manual_seed(0)
        X = domain.sample(20, generator, dtype=torch.float64).numpy()
        found.append([model.predict(X), model.predict_derivative(X), model.loss_])
    for near, far in zip(*found, strict=True):
        np.testing.assert_allclose(far, near, rtol=1e-3, atol=1e-4)


def test_points_far_from_zero_are_told_apart():
    points = Points(FAR)
    assert points.contains(FAR).all()
    assert not points.contains(FAR + 0.01).any()
    with pytest.raises(ValueError, match="anchors must lie in the domain"):
        Points(FAR, anchors=[[START + 0.01]])


def test_networks_see_coordinates_that_were_centred_before_they_were_rounded():
    seen = []

    class Sees(torch.nn.Linear):
        def forward(self, x):
            seen.append(x)
            return super().forward(x)

    trial = TrialFunction(Sees(1, 1), input_shift=START + 0.5, input_scale=0.5, nested=True)
    x = torch.tensor([[START], [START + 0.25]], dtype=torch.float64)
    trial(x)
    trial.field(x).d(0)
    for inputs in seen:
        assert inputs.dtype == torch.float32
        assert inputs.tolist() == [[-1.0], [-0.5]]


def test_near_zero_residuals_see_the_networks_precision():
    seen = set()

    def residual(x, u):
        seen.add((x.dtype, u.value.dtype))
        return bump(x, u)

    settings = {"domain": Interval(0, 1), "conditions": [Dirichlet(0.0)], "max_iter": 1}
    KANPDESolver(residual, **QUICK | settings).fit()
    assert seen == {(torch.float32, torch.float32)}


@pytest.mark.parametrize("solver", [KANPDESolver, MetaKANPDESolver])
@pytest.mark.parametrize("value", [0.0, 3.0, START])
@pytest.mark.parametrize("basis", ["bspline", "rbf", "chebyshev"])
def test_a_coordinate_that_never_changes_is_silent(solver, value, basis):
    points = np.stack([np.linspace(0, 1, 40), np.full(40, value)], 1)
    model = solver(
        bump, domain=points, boundary=Points([[0.0, value], [1.0, value]]), basis=basis,
        conditions=[Dirichlet(0.0)], **QUICK | {"max_iter": 5},
    ).fit()  # fmt: skip
    moved = points + np.array([0.0, 1.0])
    np.testing.assert_array_equal(model.predict(points), model.predict(moved))
    assert not model.predict_derivative(points, 1).any()
    assert not model.predict_derivative(points, (0, 1)).any()
    again = SolutionDisplay.from_estimator(model, n_points=3)
    assert np.isfinite(again.values["solution"]).all()


def test_a_time_that_never_changes_is_silent():
    points = np.stack([np.linspace(0, 1, 40), np.full(40, 2.0)], 1)
    model = KANPDESolver(
        lambda x, u: u.dt() - u.laplacian() - 1, domain=points, variables=("x", "t"), causal=1.0,
        ansatz=lambda x, net: x[:, 0] * (1 - x[:, 0]) * net, **QUICK | LBFGS,
    ).fit()  # fmt: skip
    np.testing.assert_allclose(model.predict([[0.5, 2.0], [0.5, 9.0]]), 0.125, atol=0.01)
    assert not model.predict_derivative(points, "t").any()


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("size", [1e30, float(np.finfo(np.float32).max), 1e300, 1.7e308])
@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_far_outside_is_finite_or_an_error(precision, size, kind):
    model = KANPDESolver(
        bump, domain=Interval(0, 1), conditions=[Dirichlet(0.0)], precision=precision,
        **QUICK | {"max_iter": 2},
    ).fit()  # fmt: skip
    with np.errstate(over="ignore"):
        X = np.r_[0.5, np.tile([size, -size], 16)].reshape(-1, 1).astype(kind)
    if not np.isfinite(X).all():
        return
    for ask in (model.predict, model.predict_derivative, model.predict_residual):
        try:
            assert np.isfinite(ask(X)).all()
        except ValueError as error:
            assert "X must lie in the domain or near it: at [" in str(error)


def test_an_ansatz_may_have_poles_inside():
    model = KANPDESolver(
        lambda x, u: u.value, domain=Interval(0, 1), ansatz=lambda x, net: net / x[:, 0],
        **QUICK | {"max_iter": 2},
    ).fit()  # fmt: skip
    assert not np.isfinite(model.predict([[0.0]])).any()
    with pytest.raises(ValueError, match="row 1, the result is no finite number of float32"):
        model.predict([[0.5], [-1e300]])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1e39, "pde_params must hold numbers that torch.float32 can hold, got 'k': 1e+39"),
        (10**400, "pde_params must be finite, got 'k': 1000"),
        (float("nan"), "pde_params must be finite, got 'k': nan"),
    ],
)
def test_constants_that_cannot_be_held(value, message):
    solver = KANPDESolver(
        lambda x, u, k: u.d(0) - k, domain=Interval(0, 1), conditions=[Dirichlet(0.0)],
        pde_params={"k": value}, **QUICK | {"max_iter": 1},
    )  # fmt: skip
    with pytest.raises(ValueError, match=re.escape(message)):
        solver.fit()


def test_bounds_that_span_no_number():
    solver = KANPDESolver(bump, domain=Interval(-1.7e308, 1.7e308), conditions=[Dirichlet(0.0)])
    with pytest.raises(ValueError, match="domain must have bounds below 4e307"):
        solver.fit()


def slope(x, u):
    return u.d("a") - 1


def named(**settings):
    settings = {"domain": Box([0, 0], [1, 1]), "max_iter": 2} | settings
    conditions = [Dirichlet(lambda x: x[:, 0])]
    return KANPDESolver(slope, variables=("a", "b"), conditions=conditions, **QUICK | settings)


def test_tables_without_names_are_taken_by_position():
    X = np.random.default_rng(0).random((30, 2))
    model = named().fit(pd.DataFrame(X))
    np.testing.assert_array_equal(model.predict(pd.DataFrame(X)), model.predict(X))
    np.testing.assert_array_equal(model.predict(X), named().fit(X).predict(X))


def test_tables_as_domain_are_taken_by_name():
    X = np.random.default_rng(0).random((30, 2)) * [1.0, 5.0]
    frame = pd.DataFrame({"b": X[:, 1], "a": X[:, 0]})
    expected = named(domain=X, boundary=X).fit()
    for domain, boundary in ((frame, X), (X, frame)):
        found = named(domain=domain, boundary=boundary).fit()
        np.testing.assert_array_equal(found.predict(X), expected.predict(X))
    with pytest.raises(ValueError, match=r"domain must have the columns \['a', 'b'\]"):
        named(domain=frame.rename(columns={"a": "x"}), boundary=X).fit()
