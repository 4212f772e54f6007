"""Plots show what the solver predicts, on the right axes."""

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression

from sklearn_metakan.pde import Interval, KANPDESolver, Points, SolutionDisplay, problems

QUICK = {
    "hidden_layer_sizes": (3,),
    "n_interior": 20,
    "n_boundary": 10,
    "n_initial": 10,
    "max_iter": 102,
    "random_state": 0,
    "precision": "float64",
}


def fitted(problem, **more):
    return KANPDESolver(**problem.settings | QUICK | more).fit()


@pytest.fixture(scope="module")
def burgers():
    return fitted(problems.Burgers())


@pytest.fixture(scope="module")
def flow():
    return fitted(problems.Kovasznay(), max_iter=1)


@pytest.fixture(scope="module")
def ball():
    return fitted(problems.PoissonBall(5), max_iter=1)


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def labels(axis):
    return axis.get_xlabel(), axis.get_ylabel(), axis.get_title()


def test_a_map_of_space_and_time(burgers):
    display = SolutionDisplay.from_estimator(burgers, n_points=7)
    t, x = display.coordinates
    assert (t[0], t[-1], x[0], x[-1]) == (0, 1, -1, 1)
    points = np.array([[x[4], t[2]]])
    assert display.values["solution"][2, 4] == pytest.approx(burgers.predict(points)[0])
    exact = problems.Burgers().solution(torch.as_tensor(points)).item()
    assert display.values["exact"][2, 4] == pytest.approx(exact)
    difference = display.values["solution"] - display.values["exact"]
    assert np.array_equal(display.values["error"], difference)
    assert [labels(axis)[:2] for axis in display.axes_] == [("t", "x")] * 3
    assert display.ax_ is display.axes_[0] and display.figure_ is display.ax_.figure
    assert display.ax_.get_aspect() == "auto"
    assert len(display.figure_.axes) == 6  # three have a colour bar


def test_maps_that_are_compared_share_their_colours(burgers):
    display = SolutionDisplay.from_estimator(burgers, n_points=7)
    solution, exact, error = (axis.collections[0] for axis in display.axes_)
    assert solution.get_clim() == exact.get_clim()
    assert sum(error.get_clim()) == 0
    shown = np.asarray(exact.get_array()).reshape(7, 7)  # rows go up
    assert np.array_equal(shown.T, display.values["exact"])


def test_curves(burgers):
    display = SolutionDisplay.from_estimator(burgers, coordinates="x", at={"t": 0.75}, n_points=9)
    (x,) = display.coordinates
    found = burgers.predict(np.stack([x, np.full(9, 0.75)], 1))
    assert display.values["solution"] == pytest.approx(found)
    first, second = display.axes_
    assert [line.get_label() for line in first.lines] == ["solution", "exact"]
    assert (labels(first)[:2], labels(second)[:2]) == (("x", "u"), ("x", "error"))
    assert np.array_equal(second.lines[0].get_ydata(), display.values["error"])
    assert "t = 0.75" in display.figure_.get_suptitle()


def test_residuals(burgers, flow):
    display = SolutionDisplay.from_estimator(burgers, kind="residual", n_points=5)
    t, x = display.coordinates
    found = burgers.predict_residual(np.array([[x[1], t[3]]]))
    assert display.values["residual"][3, 1] == pytest.approx(found[0])
    several = SolutionDisplay.from_estimator(flow, kind="residual", n_points=5)
    assert list(several.values) == ["momentum_x", "momentum_y", "mass"]
    assert [axis.get_title() for axis in several.axes_][2] == "residual mass"
    curves = SolutionDisplay.from_estimator(flow, kind="residual", coordinates=(1,), n_points=5)
    assert len(curves.ax_.lines) == 3 and curves.ax_.get_xlabel() == "y"


def test_losses(burgers):
    display = SolutionDisplay.from_estimator(burgers, kind="loss")
    assert list(display.values) == ["residual", "dirichlet", "initial", "error"]
    assert display.coordinates[0].tolist() == [100, 102]
    assert display.ax_.get_yscale() == "log"
    for line, name in zip(display.ax_.lines, display.values, strict=True):
        assert np.array_equal(line.get_ydata(), burgers.loss_terms_[name])


def test_systems(flow):
    display = SolutionDisplay.from_estimator(flow, output=2, n_points=5)
    x, y = display.coordinates
    assert display.values["solution"][1, 4] == pytest.approx(flow.predict([[x[1], y[4]]])[0, 2])
    exact = problems.Kovasznay().solution(torch.tensor([[x[1], y[4]]]))[0, 2].item()
    assert display.values["exact"][1, 4] == pytest.approx(exact)
    assert display.ax_.get_title() == "solution u[2]"
    assert display.ax_.get_aspect() == 1


def test_slices_of_many_dimensions(ball):
    display = SolutionDisplay.from_estimator(ball, coordinates=(1, 3), at={0: 0.5}, n_points=9)
    assert display.fixed == {"x0": 0.5, "x2": 0, "x4": 0}
    assert display.names == ("x1", "x3")
    a, b = np.meshgrid(*display.coordinates, indexing="ij")
    inside = a**2 + b**2 + 0.25 <= 1
    assert np.array_equal(np.isfinite(display.values["solution"]), inside)
    default = SolutionDisplay.from_estimator(ball, n_points=5)
    assert default.names == ("x0", "x1") and default.figure_.get_suptitle() == "at x2, x3, x4 = 0"


def test_time_is_held_in_the_middle():
    solver = fitted(problems.HeatCube(2), max_iter=1)
    display = SolutionDisplay.from_estimator(solver, compare=False, n_points=4)
    assert display.fixed == {"t": 0.5} and list(display.values) == ["solution"]


def test_one_dimension_without_a_known_solution():
    solver = KANPDESolver(residual, domain=Points([[0.0], [0.5], [1.0]]), boundary=Interval(0, 1))
    solver.set_params(**QUICK | {"max_iter": 1}, ansatz=ansatz).fit()
    display = SolutionDisplay.from_estimator(solver, n_points=5)
    assert np.isfinite(display.values["solution"]).all()
    assert [labels(axis) for axis in display.axes_] == [("x0", "u", "solution")]


def residual(x, u):
    return u.d(0, 0) + 1


def ansatz(x, net):
    return x[:, 0] * (1 - x[:, 0]) * net


def test_axes_of_the_caller(burgers):
    _, axes = plt.subplots(1, 3)
    display = SolutionDisplay.from_estimator(burgers, n_points=4, ax=axes)
    assert list(display.axes_) == list(axes)
    _, axis = plt.subplots()
    curve = SolutionDisplay.from_estimator(
        burgers, coordinates=("t",), compare=False, n_points=4, ax=axis, color="red"
    )
    assert curve.ax_ is axis and axis.lines[0].get_color() == "red"
    assert axis.get_title() == "solution, at x = 0"
    with pytest.raises(ValueError, match="one Axes for each of the 3 panels, got 1"):
        display.plot(ax=axis)


def test_bad_input(burgers, ball):
    show = SolutionDisplay.from_estimator
    with pytest.raises(TypeError, match="must be a fitted KANPDESolver"):
        show(LinearRegression())
    with pytest.raises(NotFittedError):
        show(KANPDESolver(residual))
    for wrong, message in (
        ({"kind": "error"}, "kind must be one of"),
        ({"output": 1}, "output must be at least 0 and below n_outputs=1"),
        ({"n_points": 1}, "n_points must be at least 2"),
        ({"coordinates": ("y",)}, "coordinates must name coordinates, of .'x', 't'."),
        ({"coordinates": (0, "x")}, "one or two different ones"),
        ({"coordinates": (2,)}, "by number below 2"),
        ({"at": {"t": 0.5}}, "at must not name a coordinate that is an axis, got 't'"),
    ):
        with pytest.raises(ValueError, match=message):
            show(burgers, **wrong)
    with pytest.raises(ValueError, match="at must cut the domain"):
        show(ball, at={2: 1.5})
