"""Captured steps of PDE solvers train as eager ones do."""

import pickle

import numpy as np
import pytest

from sklearn_metakan.pde import (
    Dirichlet,
    Interval,
    KANPDESolver,
    MetaKANPDESolver,
    Periodic,
    problems,
)

QUICK = {"hidden_layer_sizes": (6, 4), "n_interior": 40, "n_boundary": 10, "n_initial": 10}
QUICK |= {"max_iter": 130, "random_state": 0}
BALL = {"sampling": "radius"}
PROBLEMS = {  # each with settings of its own
    "ball": (problems.AllenCahnBall(3), BALL),
    "points stay": (problems.AllenCahnBall(3), BALL | {"resample_every": None}),
    "points change at times": (problems.PoissonBall(4), BALL | {"resample_every": 7}),
    "by residual": (problems.Helmholtz(), {"sampling": "rad", "resample_every": 10}),
    "system": (problems.Kovasznay(), {}),
    "balanced": (problems.Wave(), {"loss_weights": "balanced"}),
    "by point": (problems.Wave(), {"loss_weights": "vrba", "resample_every": 60}),
    "fixed weights": (problems.HeatCube(2), {"loss_weights": {"initial": 7.0}}),
    "causal": (problems.Burgers(), {"causal": 1.0}),
    "lbfgs": (problems.Wave(), {"lbfgs_iter": 40, "loss_weights": "balanced"}),
    "published": (problems.AllenCahn1D(), {"sampling": "sobol"}),
}
SOON = {
    "ball",
    "by residual",
    "balanced",
    "by point",
    "causal",
}  # the others wait for the whole suite
every_problem = pytest.mark.parametrize(
    ("problem", "settings"),
    [
        pytest.param(*case, id=name, marks=() if name in SOON else pytest.mark.slow)
        for name, case in PROBLEMS.items()
    ],
)


def trained(problem, captured, solver=MetaKANPDESolver, **settings):
    options = problem.settings | {"solution": None} | QUICK | settings
    return solver(**options, net_params={"cuda_graph": captured}).fit()


def assert_same(captured, eager, rtol=1e-3):
    assert captured.cuda_graph_ and not eager.cuda_graph_
    assert captured.loss_terms_.keys() == eager.loss_terms_.keys()
    for name, course in eager.loss_terms_.items():
        np.testing.assert_allclose(captured.loss_terms_[name], course, rtol=rtol)


@every_problem
def test_replays_train_like_eager_steps(pretend, problem, settings):
    solvers = [trained(problem, graph, precision="float64", **settings) for graph in (True, False)]
    assert_same(*solvers)


def test_new_points_of_another_number_go_eagerly(pretend):
    """A condition that holds at few points of a fixed set now and then has fewer."""

    counts = iter([2, 2, 2, 2, 1] * 100)

    def some(x):
        left = next(counts) == 1
        return (x[:, 0] == 0) if left else (x[:, 0] >= 0)

    model = KANPDESolver(
        bump, domain=Interval(0, 1), conditions=[Dirichlet(0.0, where=some)],
        **QUICK | {"n_boundary": 2, "max_iter": 40}, net_params={"cuda_graph": True},
    ).fit()  # fmt: skip
    assert model.cuda_graph_ and np.isfinite(model.loss_curve_).all()


def bump(x, u):
    return u.d(0, 0) + 1


def test_a_net_can_be_pickled_after_captured_steps(pretend):
    model = KANPDESolver(
        bump, domain=Interval(0, 1), conditions=[Periodic(0)], **QUICK | {"max_iter": 30}
    ).fit()
    X = [[0.2], [0.4]]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), model.predict(X))


@pytest.mark.gpu
@every_problem
def test_card_captured_steps_train_like_eager_ones(problem, settings):
    settings = {"device": "cuda", "precision": "float64"} | settings
    assert_same(*(trained(problem, graph, **settings) for graph in (True, False)))


@pytest.mark.gpu
@pytest.mark.parametrize("derivatives", ["sdgd", "hutchinson"])
def test_card_random_directions_differ_from_step_to_step(derivatives):
    problem = problems.PoissonBall(5)
    settings = {"derivatives": derivatives, "n_directions": 2, "resample_every": None}
    settings |= BALL | {"device": "cuda", "max_iter": 300}
    captured, eager = (trained(problem, graph, **settings) for graph in (True, False))
    assert captured.cuda_graph_ and not eager.cuda_graph_
    assert captured.score() > 2 * eager.score()  # both are below zero
    again = trained(problem, True, **settings)
    np.testing.assert_array_equal(again.loss_curve_, captured.loss_curve_)


@pytest.mark.gpu
def test_card_a_residual_that_waits_for_the_card_goes_eagerly_with_a_warning():
    def residual(x, u):
        return u.d(0, 0) + float(x.new_ones(()).item())

    with pytest.warns(RuntimeWarning, match="could not be captured"):
        model = KANPDESolver(
            residual, domain=Interval(0, 1), ansatz=vanishing, device="cuda", **QUICK
        ).fit()
    assert not model.cuda_graph_
    assert abs(model.predict([[0.5]])[0] - 1 / 8) < 0.02


def vanishing(x, net):
    return x[:, 0] * (1 - x[:, 0]) * net
