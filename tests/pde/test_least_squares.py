"""Normal equations of a step against gradients taken row by row, and what the steps reach."""

import numpy as np
import pytest
import torch

from sklearn_metakan.pde import (
    Box,
    Dirichlet,
    Interval,
    KANPDESolver,
    MetaKANPDESolver,
    Neumann,
    Periodic,
    problems,
)
from sklearn_metakan.pde.solve.least_squares import LeastSquares, LevenbergMarquardt

SMALL = {"hidden_layer_sizes": (3, 2), "max_iter": 1, "n_interior": 7, "n_boundary": 6}
SMALL |= {"n_initial": 5, "precision": "float64", "device": "cpu", "random_state": 0}
SOURCES = {
    "direct": {},
    "linear": {"prompt_dim": 2},
    "one for all": {"prompt_dim": 2, "n_meta_learners": 1},
    "edge scale": {"prompt_dim": 1, "meta_hidden_dim": 4, "edge_scale": True},
    "bias": {"net_params": {"module__bias": True}},
}


def two_equations(x, u, nu, c):
    return {"heat": u.d(0) - nu * u.d(1, 1), "wave": c * u.grad()[:, 0] - u.laplacian()}


def solver_of(source="linear", problem=None, **settings):
    Solver = KANPDESolver if source == "direct" else MetaKANPDESolver
    problem = problems.HeatCube(2) if problem is None else problem
    settings = SMALL | SOURCES[source] | settings
    return Solver(**(getattr(problem, "settings", problem) | settings)).fit()


def normal_equations_by_rows(solver, problem):
    physics, rows = solver._physics, []
    for term, sets in problem.batch.items():
        for name, r in physics.misfits(term, sets).items():
            weights = problem.factors[name] * problem.weights[name]
            for value, weight in zip(r.reshape(-1), weights.reshape(-1), strict=True):
                slopes = torch.autograd.grad(
                    value,
                    problem.trained,
                    retain_graph=True,
                    materialize_grads=True,
                    allow_unused=True,
                )
                flat = torch.cat([slope.reshape(-1) for slope in slopes])
                rows.append((weight, value.detach(), flat))
    weights, values, slopes = (torch.stack(column) for column in zip(*rows, strict=True))
    scaled = slopes * weights[:, None]
    return scaled.T @ slopes, scaled.T @ values


def least_squares(solver, memory=None, factor=lambda name: 1.0 + len(name)):
    counts = {"interior": 7, "boundary": 6, "initial": 5}
    collocation = solver._collocation(counts, 3)
    trained = [*solver._physics.parameters()]
    return LeastSquares(solver._physics, collocation.draw(), factor, trained, memory)


CASES = {
    **{source: (source, None, {}) for source in SOURCES},
    "system": ("linear", problems.Kovasznay(), {"degree": 4}),
    "initial": ("linear", problems.Wave(), {}),
    "causal": ("linear", problems.AllenCahn1D(), {"causal": 3.0}),
    "constants": (
        "linear",
        {"residual": two_equations, "domain": Box([0, 0], [1, 2]), "conditions": [Dirichlet(1.0)]},
        {"pde_params": {"nu": 0.3, "c": 2.0}},
    ),
    "pairs of points": (
        "direct",
        {
            "residual": lambda x, u: u.laplacian() - u.value,
            "domain": Box([0, 0], [1, 2]),
            "conditions": [Periodic(0), Neumann(1.0, where=lambda x: x[:, 1] > 1.9)],
        },
        {},
    ),
}


@pytest.mark.parametrize("memory", [None, 1e-3], ids=["at once", "in blocks"])
@pytest.mark.parametrize("case", CASES)
def test_normal_equations(case, memory):
    source, problem, settings = CASES[case]
    solver = solver_of(source, problem, **settings)
    found = least_squares(solver, memory)
    expected = normal_equations_by_rows(solver, found)
    for ours, theirs in zip(found.normal_equations(), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9 * float(theirs.abs().max()))


def test_loss_is_that_of_training():
    solver = solver_of(problem=problems.Wave())
    problem = least_squares(solver)
    losses = solver._physics(problem.batch)
    assert problem.first.keys() == losses.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(problem.first[name], loss.detach())
    total = sum((1.0 + len(name)) * loss.item() for name, loss in losses.items())
    assert problem.loss() == pytest.approx(total, rel=1e-12)


class Line:
    """``r = (a x - 3, b - 1)`` at x = 1, 2: what LeastSquares gives, without a network."""

    def __init__(self, a, b, broken=()):
        self.a, self.b, self.broken, self.asked = a, b, set(broken), 0

    @property
    def residuals(self):
        x = torch.tensor([1.0, 2.0], dtype=torch.float64)
        return torch.cat([self.a.detach() * x - 3, self.b.detach()[None] - 1])

    @property
    def total(self):
        return float(self.residuals.square().sum())

    def loss(self):
        self.asked += 1
        return float("nan") if self.asked in self.broken else self.total

    def normal_equations(self):
        jacobian = torch.tensor([[1.0, 0], [2, 0], [0, 1]], dtype=torch.float64)
        return jacobian.T @ jacobian, jacobian.T @ self.residuals


def two_numbers():
    values = (5.0, -2.0)
    return [torch.nn.Parameter(torch.tensor(v, dtype=torch.float64)) for v in values]


def test_steps_reach_the_least_squares_solution():
    a, b = two_numbers()
    optimizer = LevenbergMarquardt([a, b])
    for _ in range(8):
        optimizer.step(Line(a, b))
    assert float(a.detach()) == pytest.approx(9 / 5, abs=1e-9)
    assert float(b.detach()) == pytest.approx(1.0, abs=1e-9)
    assert optimizer.damping < 1e-3  # the model foresees everything


def test_steps_that_do_not_lower_the_loss_are_damped_and_then_given_up():
    a, b = two_numbers()
    optimizer, problem = LevenbergMarquardt([a, b]), Line(a, b, broken={1, 2})
    optimizer.step(problem)
    assert problem.asked == 3 and float(a.detach()) != 5.0
    assert optimizer.damping == pytest.approx(1e-3 * 16 / 4)
    start, damping = [p.detach().clone() for p in (a, b)], optimizer.damping
    optimizer.step(Line(a, b, broken=range(100)))
    assert [float(p.detach()) for p in (a, b)] == [float(p) for p in start]
    assert optimizer.damping == damping  # other points may do


def test_an_interrupt_leaves_no_trial_point():
    a, b = two_numbers()
    problem = Line(a, b)

    def interrupted():
        raise KeyboardInterrupt

    problem.loss = interrupted
    with pytest.raises(KeyboardInterrupt):
        LevenbergMarquardt([a, b]).step(problem)
    assert (float(a.detach()), float(b.detach())) == (5.0, -2.0)


def test_what_hardly_matters_is_not_divided_by_zero():
    a, b = two_numbers()
    unused = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    problem = Line(a, b)
    matrix, vector = problem.normal_equations()
    wider = torch.zeros(5, 5, dtype=torch.float64)
    wider[:2, :2] = matrix
    problem.normal_equations = lambda: (wider, torch.cat([vector, vector.new_zeros(3)]))
    LevenbergMarquardt([a, b, unused]).step(problem)
    assert torch.equal(unused.detach(), torch.ones(3, dtype=torch.float64))
    assert float(b.detach()) == pytest.approx(1.0, abs=0.01)


QUICK = {"hidden_layer_sizes": (6,), "n_interior": 150, "random_state": 0, "device": "cpu"}


def bump(x, u):
    return u.d(0, 0) + torch.pi**2 * (torch.pi * x[:, 0]).sin()


def test_the_solution_is_found_within_few_iterations():
    problem = {"residual": bump, "domain": Interval(0, 1), "conditions": [Dirichlet(0.0)]}
    x = np.linspace(0, 1, 101)[:, None]
    exact = np.sin(np.pi * x[:, 0])
    for Solver in (KANPDESolver, MetaKANPDESolver):
        solver = Solver(**problem, **QUICK, max_iter=0, lm_iter=25, n_boundary=2).fit()
        assert solver.n_iter_ == 25 and solver.loss_terms_["step"].tolist() == [10, 20, 25]
        assert solver.loss_curve_[-1] < 1e-3 * solver.loss_curve_[0]
        assert np.abs(solver.predict(x) - exact).max() < 1e-3
        assert solver.module_(torch.zeros(1, 1, dtype=torch.float64)).dtype == torch.float64


def test_constants_of_the_equation_are_found():
    def residual(x, u, nu):
        return nu * u.d(0, 0) + torch.pi**2 * (torch.pi * x[:, 0]).sin()

    x = np.linspace(0, 1, 40)[:, None]
    solver = KANPDESolver(
        residual, domain=Interval(0, 1), conditions=[Dirichlet(0.0)], pde_params={"nu": 1.0},
        max_iter=200, lm_iter=30, n_boundary=2, **QUICK,
    ).fit(x, 0.5 * np.sin(np.pi * x[:, 0]))  # fmt: skip
    assert solver.pde_params_["nu"] == pytest.approx(2.0, rel=1e-3)


def test_it_goes_on_from_the_other_solvers():
    settings = {"max_iter": 50, "lbfgs_iter": 20, "lm_iter": 10, "loss_weights": "balanced"}
    solver = KANPDESolver(**problems.HeatCube(2).settings, **QUICK, **settings).fit()
    assert solver.loss_terms_["step"].tolist() == [50, 70, 80]
    assert solver.loss_curve_[2] < solver.loss_curve_[0]
    again = KANPDESolver(**problems.HeatCube(2).settings, **QUICK, **settings).fit()
    assert again.loss_curve_ == solver.loss_curve_


def test_frozen_parameters_stay():
    solver = solver_of("linear")
    network = solver._physics.trial.network
    dictionary = network.layers[0].source.meta_learner.output_weight
    dictionary.requires_grad_(False)
    before = dictionary.clone()
    found = least_squares(solver)
    trained = [p for p in solver._physics.parameters() if p.requires_grad]
    problem = LeastSquares(solver._physics, found.batch, lambda name: 1.0, trained)
    optimizer = LevenbergMarquardt(solver._physics.parameters())
    optimizer.step(problem)
    assert torch.equal(dictionary, before) and problem.loss() < problem.total


def test_a_full_card_takes_fewer_points_at_a_time(monkeypatch):
    settings = {"max_iter": 0, "lm_iter": 3, "working_memory": 0.5, "n_interior": 40}
    expected = solver_of(**settings)
    rows_of, linearised = [], LeastSquares.linearised

    def on_a_small_card(self, term, rows):
        rows_of.append(rows.stop - rows.start)
        if rows_of[-1] > 10:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return linearised(self, term, rows)

    monkeypatch.setattr(LeastSquares, "linearised", on_a_small_card)
    with pytest.warns(RuntimeWarning, match=r"memory was full.*working_memory=0\.\d+ to") as caught:
        solver = solver_of(**settings)
    assert [each.category for each in caught].count(RuntimeWarning) == 1
    too_many = [rows for rows in rows_of if rows > 10]
    assert too_many == rows_of[: len(too_many)]  # in the first step alone
    x = np.random.default_rng(0).uniform(size=(20, 3))
    np.testing.assert_allclose(solver.predict(x), expected.predict(x), rtol=1e-6, atol=1e-9)


def test_a_card_too_small_for_one_point_says_so(monkeypatch):
    def on_no_card(self, term, rows):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(LeastSquares, "linearised", on_no_card)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        solver_of(max_iter=0, lm_iter=1)


@pytest.fixture
def solves(monkeypatch):
    """One entry for each damped system that is solved."""
    found, factorise = [], torch.linalg.cholesky_ex

    def counted(matrix):
        found.append(len(matrix))
        return factorise(matrix)

    monkeypatch.setattr(torch.linalg, "cholesky_ex", counted)
    return found


@pytest.mark.parametrize(
    "points",
    [
        {"resample_every": None},
        {"sampling": "grid"},  # drawn anew in every step, and always the same
        {"domain": np.linspace(0, 1, 50)[:, None], "boundary": [[0.0], [1.0]]},
    ],
    ids=["points stay", "grid", "finite set"],
)
def test_it_ends_where_no_damping_lowers_the_loss_at_the_same_points(solves, points):
    settings = {"domain": Interval(0, 1), "conditions": [Dirichlet(0.0)]} | QUICK | points
    settings |= {"hidden_layer_sizes": (), "max_iter": 0, "lm_iter": 200, "n_boundary": 2}
    solver = KANPDESolver(bump, **settings).fit()
    assert solver.n_iter_ < 60  # the last of them tried every damping once
    assert len(solves) < 2 * solver.n_iter_ + 12
    assert solver.loss_terms_["step"][-1] == solver.n_iter_
    assert solver.loss_ == pytest.approx(min(solver.loss_curve_), rel=1e-6)


def test_new_points_may_be_better_than_those_of_a_failed_step(solves):
    settings = {"domain": Interval(0, 1), "conditions": [Dirichlet(0.0)]} | QUICK
    settings |= {"hidden_layer_sizes": (), "max_iter": 0, "lm_iter": 60, "n_boundary": 2}
    solver = KANPDESolver(bump, **settings).fit()
    assert solver.n_iter_ == 60
