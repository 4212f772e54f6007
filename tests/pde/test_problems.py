"""The solutions of the shipped problems solve them, by nested autograd."""

import pickle

import pytest
import torch
from torch import nn

from sklearn_metakan.pde import SpaceTime, TrialFunction, problems

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
    problems.Kovasznay(),
    problems.Kovasznay(20.0),
]


@pytest.fixture(params=PROBLEMS, ids=repr)
def problem(request):
    return request.param


class Solution(nn.Module):
    def __init__(self, problem):
        super().__init__()
        self.problem = problem

    def forward(self, x):
        y = self.problem.solution(x)
        return y[:, None] if y.ndim == 1 else y


def draw(problem, n=30):
    generator = torch.Generator().manual_seed(0)
    return problem.domain.sample(n, generator, dtype=torch.float64)


def exact_field(problem, x):
    time = isinstance(problem.domain, SpaceTime)
    names = problem.variables
    return TrialFunction(Solution(problem), variables=names, time=time).field(x)


def test_solution_solves_the_equation(problem):
    x = draw(problem)
    found = problem.residual(x, exact_field(problem, x))
    for part in found.values() if isinstance(found, dict) else [found]:
        assert part.shape == (30,)
        assert part.abs().max() < 1e-8


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


def test_ansatz_fulfils_the_boundary_condition(problem):
    if problem.ansatz is None:
        pytest.skip("has no ansatz")
    x, _ = problem.domain.sample_boundary(20, dtype=torch.float64)
    for value in (problem.solution(x), problem.ansatz(x, torch.ones(20, dtype=torch.float64))):
        assert value.abs().max() < 1e-9


def test_problems_are_values(problem):
    twin = pickle.loads(pickle.dumps(problem))
    assert twin == problem and hash(twin) == hash(problem)
    assert pickle.loads(pickle.dumps(problem.residual)).__self__ == problem


def test_bad_dimensions():
    for name, dim in (("PoissonBall", 1), ("PoissonCube", 0), ("HeatCube", 2.5)):
        with pytest.raises(ValueError, match="dim must be an integer of at least"):
            getattr(problems, name)(dim)
