"""The PDE solvers: they solve, and behave as scikit-learn's estimators do."""

import itertools
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback

from sklearn_metakan.pde import (
    Ball,
    Box,
    Condition,
    Dirichlet,
    Initial,
    Interval,
    KANPDESolver,
    MetaKANPDESolver,
    Points,
    SpaceTime,
    problems,
)
from sklearn_metakan.pde.solve.stages import stages

both = pytest.mark.parametrize("solver", [KANPDESolver, MetaKANPDESolver])
QUICK = {"hidden_layer_sizes": (4,), "n_interior": 60, "n_boundary": 20, "random_state": 0}


def bump(x, u):
    """u'' = -1 on [0, 1]: x (1 - x) / 2."""
    return u.d(0, 0) + 1


def vanishing(x, net):
    return x[:, 0] * (1 - x[:, 0]) * net


def decay(x, u, rate):
    return u.d(0) + rate * u.value


def oscillator(x, u):
    """Two first-order equations: u' = v, v' = -u."""
    return u[0].d(0) - u[1].value, u[1].d(0) + u[0].value


def exact_bump(x):
    return x[:, 0] * (1 - x[:, 0]) / 2


def solved(solver=KANPDESolver, **settings):
    settings = {"ansatz": vanishing, "max_iter": 20} | QUICK | settings
    return solver(bump, domain=Interval(0, 1), **settings).fit()


@both
def test_solves_with_conditions_and_with_an_ansatz(solver):
    X = np.linspace(0, 1, 41)[:, None]
    solution = X[:, 0] * (1 - X[:, 0]) / 2
    for settings in ({"conditions": [Dirichlet(0.0)], "ansatz": None}, {}):
        model = solved(solver, **settings, n_interior=200, max_iter=0, lbfgs_iter=80)
        np.testing.assert_allclose(model.predict(X), solution, atol=2e-3)
        np.testing.assert_allclose(model.predict_derivative(X[1:-1], (0, 0)), -1, atol=0.2)
        assert model.score(X, solution) > 0.999
    assert model.predict([[0.0], [1.0]]).tolist() == [0.0, 0.0]


def test_adamw_then_lbfgs_lowers_the_loss_and_records_it():
    model = solved(max_iter=250, lbfgs_iter=30, solution=exact_bump)
    terms = model.loss_terms_
    assert terms["step"].tolist() == [100, 200, 250, 280] and model.n_iter_ == 280
    assert terms["residual"][-1] < 0.1 * terms["residual"][0]
    assert terms["error"][-1] < min(0.05, terms["error"][0])
    assert model.loss_curve_ == pytest.approx(terms["residual"])
    X = np.random.default_rng(0).uniform(size=(2000, 1))
    truth = exact_bump(X)
    found = np.linalg.norm(model.predict(X) - truth) / np.linalg.norm(truth)
    assert terms["error"][-1] == pytest.approx(found, rel=0.2)


def test_constants_of_the_equation_are_found_from_observations():
    X = np.linspace(0, 1, 15)[:, None]
    model = KANPDESolver(
        decay, domain=Interval(0, 1), pde_params={"rate": 0.5}, max_iter=0, lbfgs_iter=150, **QUICK
    )  # fmt: skip
    model.fit(X, np.exp(-2 * X[:, 0]))
    assert model.pde_params_["rate"] == pytest.approx(2, abs=0.05)
    model.set_params(warm_start=True, lbfgs_iter=1).fit(X, np.exp(-2 * X[:, 0]))
    assert model.pde_params_["rate"] == pytest.approx(2, abs=0.05)
    assert {"residual", "data"} < {*model.loss_terms_}


def test_systems_have_a_column_for_each_unknown():
    conditions = [Dirichlet(0.0, where=lambda x: x[:, 0] == 0, output=1, name="rest")]
    model = KANPDESolver(
        oscillator, domain=Interval(0, 2), conditions=conditions, n_outputs=2, max_iter=30, **QUICK
    ).fit()  # fmt: skip
    X = np.linspace(0, 2, 7)[:, None]
    assert model.predict(X).shape == model.predict_residual(X).shape == (7, 2)
    residual = model.predict_derivative(X, 0)[:, 0] - model.predict(X)[:, 1]
    np.testing.assert_allclose(model.predict_residual(X)[:, 0], residual, atol=1e-6)
    assert {"residual_0", "residual_1", "rest"} < {*model.loss_terms_}


def test_space_time_with_every_kind_of_training():
    wave = problems.Wave()
    model = MetaKANPDESolver(
        wave.residual, domain=wave.domain, variables=wave.variables, solution=wave.solution,
        conditions=[Dirichlet(0.0), Initial(wave.solution), Initial(order=1)],
        loss_weights="balanced", causal=1.0, sampling="rad", resample_every=5, n_initial=20,
        max_iter=30, **QUICK,
    ).fit()  # fmt: skip
    assert [*model.loss_terms_] == [
        "step", "residual", "dirichlet", "initial", "initial_2", "error",
    ]  # fmt: skip
    assert all(np.isfinite(values).all() for values in model.loss_terms_.values())
    assert model.predict_derivative([[0.3, 0.2]], ("t", "x")).shape == (1,)


def test_balanced_weights_give_every_gradient_the_same_norm():
    model = KANPDESolver(
        bump, domain=Interval(0, 1), conditions=[Dirichlet(100.0)], max_iter=1,
        loss_weights="balanced", **QUICK,
    ).fit()  # fmt: skip
    weights = model.net_.weights_
    physics = KANPDESolver(
        bump, domain=Interval(0, 1), conditions=[Dirichlet(100.0)], max_iter=1,
        loss_weights=dict(weights), **QUICK,
    ).fit()  # fmt: skip
    np.testing.assert_allclose(physics.predict([[0.4]]), model.predict([[0.4]]))
    shares = sum(1 / weight for weight in weights.values())
    assert shares == pytest.approx(1)  # |g_i| / sum |g| each


def test_the_score_knows_no_weights_and_every_condition():
    settings = {"conditions": [Dirichlet(0.0)], "ansatz": None, "max_iter": 30}
    weighted = solved(**settings, loss_weights={"dirichlet": 0.0})
    model = solved(**settings)
    X = np.random.default_rng(0).uniform(size=(50, 1))
    ends = model.predict([[0.0], [1.0]])
    expected = -np.sqrt(np.mean(model.predict_residual(X) ** 2) + np.mean(ends**2))
    assert model.score(X) == pytest.approx(expected, rel=1e-5)
    assert model.score() == model.score()
    assert weighted.loss_terms_["dirichlet"][-1] > model.loss_terms_["dirichlet"][-1]


@both
def test_clone_pickle_and_parameters(solver):
    model = solved(solver, solution=exact_bump)
    assert clone(model).get_params(deep=False).keys() == model.get_params(deep=False).keys()
    X = np.random.default_rng(0).uniform(size=(9, 1))
    restored = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(restored.predict(X), model.predict(X))
    np.testing.assert_allclose(restored.predict_residual(X), model.predict_residual(X))
    assert restored.score() == pytest.approx(model.score())
    assert restored.set_params(warm_start=True, max_iter=5).fit().n_iter_ == 5


@both
def test_seeds_repeat_and_global_generators_rest(solver):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    X = np.random.default_rng(0).uniform(size=(9, 1))
    a, b, c = (solved(solver, random_state=seed).predict(X) for seed in (3, 3, 4))
    assert np.array_equal(a, b) and not np.array_equal(a, c)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_grid_search_over_points():
    X = np.random.default_rng(0).uniform(size=(40, 1))
    model = MetaKANPDESolver(
        bump, domain=Interval(0, 1), conditions=[Dirichlet(0.0)], max_iter=20, **QUICK
    )  # fmt: skip
    search = GridSearchCV(model, {"grid_size": [2, 4]}, cv=2, n_jobs=2).fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.predict(X).shape == (40,)


def test_fit_takes_domains_samplers_and_arrays():
    def sampler(n, generator):
        return torch.rand(n, 1, generator=generator)

    for X in (Interval(0, 1), sampler, [[0.2], [0.5], [0.9]]):
        model = KANPDESolver(bump, ansatz=vanishing, max_iter=5, **QUICK).fit(X)
        assert np.isfinite(model.predict([[0.3]])).all()
        assert model.n_features_in_ == 1
    with pytest.raises(ValueError, match="points alone have no boundary"):
        KANPDESolver(bump, conditions=[Dirichlet()], **QUICK).fit([[0.2], [0.5]])


def test_warm_start_goes_on_from_the_weights():
    model = solved(warm_start=True, max_iter=200, learning_rate_schedule="cosine")
    first = model.score()
    model.set_params(max_iter=100, learning_rate=1e-6).fit()
    assert model.score() == pytest.approx(first, rel=0.05)
    with pytest.raises(ValueError, match="cannot change grid_size from 5 to 7"):
        model.set_params(grid_size=7).fit()


class _Interrupts(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_begin(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_interrupt_leaves_a_solver_that_is_fitted(epoch):
    with pytest.warns(ConvergenceWarning, match="Interrupted"):
        model = solved(max_iter=500, lbfgs_iter=10, callbacks=[_Interrupts(epoch)])
    assert model.n_iter_ == 100 * (epoch - 1)
    assert np.isfinite(model.predict([[0.4]])).all()


def test_an_interrupt_between_two_reports_counts_its_steps():
    steps = itertools.count()

    class After130(Callback):
        def on_batch_begin(self, net, **kwargs):
            if next(steps) == 130:
                raise KeyboardInterrupt

    with pytest.warns(ConvergenceWarning, match="Interrupted after 130 steps"):
        model = solved(max_iter=500, callbacks=[After130()])
    assert model.n_iter_ == 130 and model.loss_terms_["step"].tolist() == [100, 130]
    assert np.isfinite(model.loss_)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor, Points, pd.DataFrame])
def test_points_as_domain_leave_the_boundary_to_another_sampler(kind):
    inside = np.random.default_rng(0).uniform(0.05, 0.95, (60, 1))
    model = KANPDESolver(
        bump, domain=kind(inside), boundary=Interval(0, 1), conditions=[Dirichlet()],
        max_iter=0, lbfgs_iter=200, **QUICK,
    ).fit()  # fmt: skip
    X = np.linspace(0, 1, 21)[:, None]
    np.testing.assert_allclose(model.predict(X), exact_bump(X), atol=1e-2)
    assert model.module_.input_scale.item() == pytest.approx(0.5)  # the grid reaches the boundary
    model.fit([[0.5]], [0.125])  # observed where no point of the domain is
    assert "data" in model.loss_terms_


def test_columns_of_a_frame_are_taken_by_name():
    def slope(x, u):
        return u.d("a") - 1

    settings = {"variables": ("a", "b"), "max_iter": 5} | QUICK
    model = KANPDESolver(
        slope, domain=Box([0, 0], [1, 1]), conditions=[Dirichlet(lambda x: x[:, 0])], **settings
    ).fit()
    X = np.random.default_rng(0).random((5, 2))
    frame = pd.DataFrame({"b": X[:, 1], "a": X[:, 0]})
    np.testing.assert_array_equal(model.predict(frame), model.predict(X))
    assert model.score(frame, X[:, 0]) == model.score(X, X[:, 0])
    with pytest.raises(ValueError, match=r"must have the columns \['a', 'b'\]"):
        model.predict(frame.rename(columns={"a": "x"}))


@both
@pytest.mark.parametrize("precision", ["float64", "float32", "tf32", "bf16", "auto"])
@pytest.mark.parametrize("d", [1, 2, 4])
def test_every_precision_trains_with_derivatives(solver, precision, d):
    def residual(x, u):
        return u.laplacian() + 1

    def loss(**more):
        settings = QUICK | {"max_iter": 60} | more
        model = solver(residual, domain=Ball([0.0] * d), conditions=[Dirichlet()], **settings)
        return model.fit().loss_

    assert loss(precision=precision) == pytest.approx(loss(), rel=0.1)


def test_read_only_points_give_no_warning():
    X = np.linspace(0, 1, 5)[:, None]
    X.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = solved()
        assert np.isfinite(model.predict(X)).all()
        model.fit(X, X[:, 0])


def test_a_loss_that_is_not_finite_stops_with_a_warning():
    with pytest.warns(ConvergenceWarning, match="not finite"):
        model = solved(learning_rate=1e30, max_iter=110)
    assert np.isfinite(model.predict([[0.4]])).all()


def test_a_failed_fit_changes_nothing():
    model = solved()
    before = model.predict([[0.4]])
    with pytest.raises(ValueError, match="must return the shape"):
        model.set_params(residual=lambda x, u: u.d(0, 0)[:, None]).fit()
    np.testing.assert_array_equal(model.predict([[0.4]]), before)
    with pytest.raises(NotFittedError):
        KANPDESolver(bump).predict([[0.4]])


def test_predictions_in_chunks_are_the_same():
    ball = problems.PoissonBall(4)
    model = MetaKANPDESolver(
        ball.residual, domain=ball.domain, ansatz=ball.ansatz, max_iter=5, precision="float64",
        **QUICK,
    ).fit()  # fmt: skip
    X = ball.domain.sample(300, torch.Generator().manual_seed(0)).double().numpy()
    whole, residual = model.predict(X), model.predict_residual(X)
    model.set_params(working_memory=0.01)
    np.testing.assert_allclose(model.predict(X), whole, rtol=1e-10)
    np.testing.assert_allclose(model.predict_residual(X), residual, rtol=1e-9)


def test_derivatives_are_those_of_differences():
    model = solved(max_iter=50, precision="float64")
    X, h = np.linspace(0.1, 0.9, 9)[:, None], 1e-5
    slope = (model.predict(X + h) - model.predict(X - h)) / (2 * h)
    np.testing.assert_allclose(model.predict_derivative(X), slope, atol=1e-8)
    np.testing.assert_allclose(model.predict_residual(X), model.predict_derivative(X, (0, 0)) + 1)


def test_verbose_shows_every_loss_and_silence_is_silent(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solved()
    assert capsys.readouterr() == ("", "")
    solved(verbose=1, solution=exact_bump, conditions=[Dirichlet(name="ends")])
    shown = capsys.readouterr().err
    assert all(word in shown for word in ("residual=", "ends=", "error=", "20/20"))


@pytest.mark.parametrize("derivatives", ["sdgd", "hutchinson"])
def test_random_laplacians_train(derivatives):
    ball = problems.PoissonBall(5)
    model = MetaKANPDESolver(
        ball.residual, domain=ball.domain, ansatz=ball.ansatz, solution=ball.solution,
        derivatives=derivatives, n_directions=2, sampling="radius", max_iter=120, **QUICK,
    ).fit()  # fmt: skip
    errors = model.loss_terms_["error"]
    assert errors[-1] < errors[0] and np.isfinite(model.score())


def test_union_of_domains_with_a_hole():
    domain = Box([-1, -1], [1, 1]) - Ball([0.0, 0.0], 0.5)
    model = KANPDESolver(
        lambda x, u: u.laplacian(), domain=domain, max_iter=5,
        conditions=[
            Dirichlet(1.0, where=lambda x: x.square().sum(1) < 0.3, name="hole"),
            Condition(lambda x, u, normal: u.normal_derivative(), name="walls",
                      where=lambda x: x.square().sum(1) > 0.3),
        ], **QUICK,
    ).fit()  # fmt: skip
    assert {"hole", "walls"} < {*model.loss_terms_}


def test_time_may_be_named_without_a_space_time_domain():
    model = KANPDESolver(
        lambda x, u: u.dt() - u.laplacian(), domain=Box([0, 0], [1, 1]), variables=("x", "t"),
        conditions=[Dirichlet(0.0, where=lambda x: x[:, 1] == 0)], max_iter=3, **QUICK,
    ).fit()  # fmt: skip
    X = np.random.default_rng(0).uniform(size=(5, 2))
    expected = model.predict_derivative(X, "t") - model.predict_derivative(X, ("x", "x"))
    np.testing.assert_allclose(model.predict_residual(X), expected, atol=1e-5)
    assert SpaceTime(Interval(0, 1)).dim == model.n_features_in_


def test_prompts_of_a_linear_meta_learner_have_a_rate_of_their_own():
    def rates(**settings):
        settings |= {"max_iter": 1, "learning_rate_schedule": "constant"}
        groups = solved(MetaKANPDESolver, **settings).net_.optimizer_.param_groups
        return sorted({group["lr"] for group in groups if group["params"]})

    assert rates() == [0.01, 0.1]
    assert rates(learning_rate=0.003) == [0.003]
    assert rates(prompt_learning_rate=0.05) == [0.01, 0.05]
    assert rates(meta_hidden_dim=4) == [0.01]


def test_the_grid_covers_where_points_are():
    """In a ball of many dimensions coordinates are small; boxes and intervals are filled."""

    def reach(problem, **settings):
        settings = problem.settings | {"solution": None} | QUICK | settings
        return KANPDESolver(**settings, max_iter=1).fit().module_.input_scale.numpy()

    shell, filled = (reach(problems.PoissonBall(20), sampling=law) for law in ("uniform", "radius"))
    assert (shell > 0.45).all() and (shell < 0.62).all()  # 2.6 / sqrt(d + 2) of normal numbers
    assert (filled > 0.3).all() and (filled < 0.5).all()
    assert (reach(problems.PoissonBall(2)) == 1).all()
    np.testing.assert_array_equal(reach(problems.Kovasznay()), [0.75, 1.0])
    np.testing.assert_array_equal(reach(problems.Burgers()), [1.0, 0.5])


def by_hand(x, u):
    """The same equation as ``bump``, differentiated by the residual itself."""
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(u(x).sum(), x, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), x, create_graph=True)
    return bend[:, 0] + 1


def test_residuals_that_differentiate_themselves_train_and_are_scored():
    settings = {"conditions": [Dirichlet(0.0)], "ansatz": None, "sampling": "rad"} | QUICK
    settings |= {"max_iter": 30, "resample_every": 10}
    by, pushed = (
        KANPDESolver(residual, domain=Interval(0, 1), **settings).fit()
        for residual in (by_hand, bump)
    )
    X = np.linspace(0.05, 0.95, 7)[:, None]
    np.testing.assert_allclose(by.predict(X), pushed.predict(X), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(by.predict_residual(X), pushed.predict_residual(X), rtol=1e-2)
    np.testing.assert_allclose(by.score(), pushed.score(), rtol=1e-2)
    assert pickle.loads(pickle.dumps(by)).score() == by.score()


def test_laplacians_of_conditions_are_exact_and_scores_repeat():
    settings = {"derivatives": "hutchinson", "n_directions": 1, "max_iter": 3} | QUICK
    plate = Condition(lambda x, u, normal: u.laplacian() - 1)
    models = [
        KANPDESolver(
            lambda x, u: u.laplacian(), domain=Ball([0.0] * 3), conditions=[plate], **settings
        ).fit()
        for _ in range(2)
    ]
    assert models[0].loss_ == models[1].loss_
    assert models[0].score() == models[0].score() == models[1].score()


def test_anchors_stay_when_points_are_chosen_by_residual():
    seen = []

    def residual(x, u):
        seen.append(x.detach())
        return bump(x, u)

    domain = Interval(0, 1, anchors=[[0.125], [0.75]])
    settings = {"ansatz": vanishing, "sampling": "rad", "resample_every": 2, "max_iter": 20}
    KANPDESolver(residual, domain=domain, **QUICK | settings).fit()
    steps = [x for x in seen if len(x) == QUICK["n_interior"]]
    assert len(steps) > 10
    assert all({0.125, 0.75} <= {*x[:, 0].tolist()} for x in steps)
    assert len({x[-1].item() for x in steps}) > 5  # the others are drawn anew


def test_points_by_residual_stay_for_a_while_unless_told_otherwise():
    def plan(**settings):
        settings |= {"max_iter": 1, "lm_iter": 1, "domain": Interval(0, 1), "ansatz": vanishing}
        solver = KANPDESolver(bump, **QUICK | settings).fit()
        batch = solver._collocation({"interior": 9, "boundary": 1, "initial": 1}, 0).draw()
        return [stage.every for stage in stages(solver, solver._physics, batch)]

    assert plan() == [1, 1]
    assert plan(sampling="rad") == [50, 10]
    assert plan(sampling="rad", resample_every=2) == [2, 2]


def test_weights_of_the_network_decay_and_constants_do_not():
    solver = KANPDESolver(
        lambda x, u, nu: u.d(0, 0) + 1 + 0 * nu, domain=Interval(0, 1), ansatz=vanishing,
        pde_params={"nu": 5.0}, weight_decay=1.0, max_iter=50, **QUICK,
    ).fit()  # fmt: skip
    assert solver.pde_params_ == {"nu": 5.0}


def test_numbers_of_coordinates_may_be_numpys():
    solver = solved()
    X = [[0.25], [0.5]]
    expected = solver.predict_derivative(X, (0, 0))
    for wrt in ((np.int64(0), np.int32(0)), np.array([0, 0])):
        np.testing.assert_array_equal(solver.predict_derivative(X, wrt), expected)
    first = solver.predict_derivative(X, 0)
    np.testing.assert_array_equal(solver.predict_derivative(X, np.int64(0)), first)


def test_time_of_a_union_is_not_in_the_laplacian():
    both_times = SpaceTime(Interval(0, 1), 0.0, 0.5) | SpaceTime(Interval(0, 1), 0.5, 1.0)
    residuals = (lambda x, u: u.laplacian() - u.dt(), lambda x, u: u.d(0, 0) - u.d(1))
    settings = QUICK | {"max_iter": 5, "ansatz": lambda x, net: 1 + net}
    models = [KANPDESolver(r, domain=both_times, **settings).fit() for r in residuals]
    np.testing.assert_allclose(models[0].loss_curve_, models[1].loss_curve_, rtol=1e-4)


def test_misspelt_parameters_are_answered_with_those_that_are_meant():
    with pytest.raises(TypeError, match=r"no parameter 'n_interor'\. Did you mean 'n_interior'"):
        KANPDESolver(bump, n_interor=10)
    with pytest.raises(TypeError, match="KANPDESolver has no parameter 'prompt_dim'"):
        KANPDESolver(bump, prompt_dim=2)


def test_one_number_is_one_hidden_layer():
    models = [solved(hidden_layer_sizes=widths) for widths in (3, (3,))]
    assert models[0].loss_curve_ == models[1].loss_curve_
    assert models[0].get_params()["hidden_layer_sizes"] == 3


@both
def test_parameters_of_the_net_are_parameters_of_the_solver(solver):
    model = solved(solver, net_params={"optimizer__betas": (0.5, 0.9)})
    assert model.get_params()["net__optimizer__betas"] == (0.5, 0.9)
    assert clone(model).set_params(net__optimizer__eps=1e-6).net_params == {
        "optimizer__betas": (0.5, 0.9),
        "optimizer__eps": 1e-6,
    }
    assert model.net_.optimizer_.param_groups[0]["betas"] == (0.5, 0.9)
    with pytest.raises(ValueError, match=r"cannot change net_params\['module__bias'\] from False"):
        model.set_params(net__module__bias=True, warm_start=True).fit()
