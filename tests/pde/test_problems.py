"""The solutions of the shipped problems solve them, by nested autograd."""

import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.io import loadmat
from sklearn.base import clone
from torch import nn

from sklearn_metakan.pde import KANPDESolver, SpaceTime, TrialFunction, problems
from sklearn_metakan.pde.physics.physics import Physics
from sklearn_metakan.pde.problems import evolution as numerics
from sklearn_metakan.pde.solve.collocation import Collocation
from sklearn_metakan.pde.solve.problem import read_problem

ALLEN_CAHN = Path(__file__).parents[3] / "shared" / "data" / "pde" / "Allen_Cahn.mat"

PROBLEMS = [
    problems.PoissonBall(2),
    problems.PoissonBall(7),
    problems.AllenCahnBall(6),
    problems.PoissonCube(4),
    problems.HeatCube(1),
    problems.HeatCube(3),
    problems.Helmholtz(),
    problems.Helmholtz(2.5, 3, 2),
    problems.Wave(),
    problems.Burgers(),
    problems.Burgers(0.05),
    problems.AllenCahn1D(),
    problems.Kovasznay(),
    problems.Kovasznay(20.0),
]


@pytest.fixture(params=PROBLEMS, ids=repr)
def problem(request):
    return request.param


def of(some):
    return pytest.mark.parametrize("problem", some, ids=repr)


class Solution(nn.Module):
    def __init__(self, problem):
        super().__init__()
        self.problem = problem
        self.one = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x):
        y = self.one * self.problem.solution(x)
        return y[:, None] if y.ndim == 1 else y


def draw(problem, n=30):
    generator = torch.Generator().manual_seed(0)
    return problem.domain.sample(n, generator, dtype=torch.float64)


def exact(problem):
    time = isinstance(problem.domain, SpaceTime)
    return TrialFunction(Solution(problem), variables=problem.variables, time=time)


# AllenCahn1D's solution is a spline without gradients: see its own tests.
in_torch = of([p for p in PROBLEMS if not isinstance(p, problems.AllenCahn1D)])


@in_torch
def test_solution_solves_the_equation(problem):
    x = draw(problem)
    found = problem.residual(x, exact(problem).field(x))
    for part in found.values() if isinstance(found, dict) else [found]:
        assert part.shape == (30,)
        assert part.abs().max() < 1e-8


@of([p for p in PROBLEMS if p.conditions])
def test_solution_fulfils_the_conditions(problem):
    named = {f"condition {i}": each for i, each in enumerate(problem.conditions)}
    given = SimpleNamespace(**problem.settings, boundary=None)
    collocation = Collocation(
        read_problem(given, None, None, None, named),
        named,
        dict.fromkeys(("interior", "boundary", "initial"), 40),
        generator=torch.Generator().manual_seed(0),
        dtype=torch.float64,
    )
    losses = Physics(exact(problem), problem.residual, named, {})(collocation.draw())
    assert {*named} < {*losses}
    assert torch.stack([*losses.values()]).max() < 1e-16


def test_every_problem_is_determined(problem):
    assert bool(problem.conditions) != (problem.ansatz is not None)


def test_a_solver_takes_the_settings(problem):
    solver = KANPDESolver(**problem.settings)
    twin = clone(solver)
    assert {*problem.settings} < {*solver.get_params()}
    assert twin.domain == problem.domain and twin.residual.__self__ == problem


@in_torch
def test_another_function_does_not(problem):
    x = draw(problem)
    shape = (30,) if problem.n_outputs == 1 else (30, problem.n_outputs)
    assert problem.solution(x).shape == shape
    trial = TrialFunction(
        Solution(problem),
        variables=problem.variables,
        time=isinstance(problem.domain, SpaceTime),
        ansatz=lambda x, net: net + (0.1 * x).exp().sum(1) if net.ndim == 1 else 1.1 * net,
    )
    found = problem.residual(x, trial.field(x))
    for name, part in found.items() if isinstance(found, dict) else [("", found)]:
        assert name == "mass" or part.abs().max() > 1e-3


@of([p for p in PROBLEMS if p.ansatz])
def test_ansatz_fulfils_the_conditions(problem):
    sets = [problem.domain.sample_boundary(20, dtype=torch.float64)[0]]
    if isinstance(problem.domain, SpaceTime):
        sets.append(problem.domain.sample_initial(20, dtype=torch.float64))
    for x in sets:
        found = problem.ansatz(x, torch.ones(20, dtype=torch.float64))
        assert (found - problem.solution(x)).abs().max() < 1e-8


def test_problems_are_values(problem):
    twin = pickle.loads(pickle.dumps(problem))
    assert twin == problem and hash(twin) == hash(problem)
    assert pickle.loads(pickle.dumps(problem.residual)).__self__ == problem


def test_bad_dimensions():
    for name, dim in (("PoissonBall", 1), ("PoissonCube", 0), ("HeatCube", 2.5)):
        with pytest.raises(ValueError, match="dim must be an integer of at least"):
            getattr(problems, name)(dim)


def test_burgers_starts_where_it_should_and_is_odd():
    problem, t = problems.Burgers(), torch.linspace(0, 1, 9, dtype=torch.float64)
    x = torch.linspace(-1, 1, 21, dtype=torch.float64)
    points = torch.cartesian_prod(x, t)
    u = problem.solution(points).reshape(21, 9)
    assert (u[:, 0] + torch.sin(torch.pi * x)).abs().max() < 1e-14
    assert (u + u.flip(0)).abs().max() < 1e-12
    assert (problem.solution(points.float()).double() - u.flatten()).abs().max() < 1e-5


@pytest.fixture(scope="module")
def allen_cahn():
    return numerics.reference(numerics.CELLS, numerics.STEPS, numerics.KEPT)


def test_allen_cahn_reference_solves_the_equation(allen_cahn):
    problem = problems.AllenCahn1D()
    x, t = draw(problem, 500).numpy().T
    t = np.maximum(t, 0.02)  # the ends do not fit the start: derivatives jump at t = 0
    found = {
        ("t",): allen_cahn.ev(x, t, dy=1),
        ("x", "x"): allen_cahn.ev(x, t, dx=2),
    }
    u = SimpleNamespace(value=allen_cahn.ev(x, t), dt=lambda: found["t",], d=lambda *by: found[by])
    assert np.abs(problem.residual(None, u)).max() < 1e-4
    assert np.abs(found["t",]).max() > 1


def test_allen_cahn_reference_stays_the_same_on_other_grids(allen_cahn):
    x, t = draw(problems.AllenCahn1D(), 500).numpy().T
    coarser = numerics.reference(numerics.CELLS // 2, numerics.STEPS // 2, 100)
    assert np.abs(coarser.ev(x, t) - allen_cahn.ev(x, t)).max() < 1e-6


@pytest.mark.slow
def test_allen_cahn_reference_is_refined_enough(allen_cahn):
    x, t = draw(problems.AllenCahn1D(), 500).numpy().T
    finer = numerics.reference(2 * numerics.CELLS, 4 * numerics.STEPS, 400)
    assert np.abs(finer.ev(x, t) - allen_cahn.ev(x, t)).max() < 1e-8


@pytest.mark.skipif(not ALLEN_CAHN.is_file(), reason="needs shared/data/pde/Allen_Cahn.mat")
def test_allen_cahn_agrees_with_published_data():
    data = loadmat(ALLEN_CAHN)
    x, t = (torch.as_tensor(data[name][0]) for name in ("x", "t"))
    u = problems.AllenCahn1D().solution(torch.cartesian_prod(t, x).flip(1)).numpy()
    difference = u.reshape(data["u"].shape) - data["u"]
    assert np.linalg.norm(difference) < 2e-4 * np.linalg.norm(data["u"])
