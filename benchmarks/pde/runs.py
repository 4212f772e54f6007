"""One run of a solver on a shipped problem, as a row: of KAN or MetaKAN, or of an MLP."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.io import loadmat
from torch import nn

from benchmarks.common.measure import PeakMemory, seconds
from sklearn_metakan.pde import KANPDESolver, MetaKANPDESolver, problems
from sklearn_metakan.training import Defaults

MODELS = ("mlp", "kan", "metakan")
# Where a MetaKAN's coefficients come from; "paper" has the learning rates of the paper's code.
_RATES = {"prompt_learning_rate": 1e-2, "meta_learning_rate": 1e-3}
_META = {"prompt_dim": 1, "meta_hidden_dim": 64}
SOURCES: dict[str, dict[str, Any]] = {
    **{f"linear-{p}": {"prompt_dim": p, "meta_hidden_dim": 0} for p in (2, 3, 4, 6)},
    "edge-scale": _META | {"meta_activation": "sin", "edge_scale": True},
    "paper": _META | {"meta_activation": "relu", **_RATES},
}


class MLP(nn.Sequential):
    """Linear layers and tanh, with what solvers ask of a network beside its values."""

    def __init__(self, widths: Sequence[int], seed: int, dtype: torch.dtype | None = None) -> None:
        layers: list[nn.Module] = []
        generator = torch.Generator().manual_seed(seed)
        for n_in, n_out in pairwise(widths):
            linear = nn.utils.skip_init(nn.Linear, n_in, n_out, dtype=dtype)
            nn.init.xavier_normal_(linear.weight, generator=generator)
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.Tanh()]
        super().__init__(*layers[:-1])

    def kan_layers(self) -> Iterator[nn.Linear]:
        yield from (layer for layer in self if isinstance(layer, nn.Linear))

    @property
    def widest_features(self) -> int:
        return max(layer.in_features for layer in self.kan_layers())


def build_mlp(
    *, layer_sizes: Sequence[int], dtype: torch.dtype, seed: int = 0, **of_kans: Any
) -> nn.Module:
    """As the solvers' own function, for an MLP; settings of KANs are left unused."""
    return MLP(layer_sizes, seed, dtype)


class MLPSolver(KANPDESolver):
    """The solver with an MLP; its derivatives are pushed forward, too."""

    _make_network = staticmethod(build_mlp)
    _defaults = Defaults(learning_rate=1e-3, weight_decay=0.0)


def make_solver(model: str, source: str, settings: Mapping[str, Any]) -> KANPDESolver:
    kind = {"mlp": MLPSolver, "kan": KANPDESolver, "metakan": MetaKANPDESolver}[model]
    return kind(**settings, **(SOURCES[source] if model == "metakan" else {}))


TEST_POINTS, TEST_SEED = 20_000, 1
RESIDUAL_POINTS = 2_000
PUBLISHED = Path("pde/Allen_Cahn.mat")


class Setup(NamedTuple):
    """A shipped problem and the points that its runs take unless told otherwise.

    ``n_boundary`` counts the points of a condition on all of the boundary.
    """

    make: Callable[..., problems.Problem]
    dim: int | None = None  # by default; None: has no choice
    n_interior: int = 1000
    n_boundary: int = 200
    n_initial: int = 200
    sampling: str = "uniform"
    per_face: int = 0  # of a cube, on average; in place of n_boundary

    def points(self, dim: int | None) -> dict[str, Any]:
        names = ("n_interior", "n_boundary", "n_initial", "sampling")
        known = {name: getattr(self, name) for name in names}
        if not self.per_face or dim is None:
            return known
        inside = next((n for most, n in ((20, 2000), (50, 4000)) if dim <= most), 8000)
        faces = 2 * dim * self.per_face
        return known | {"n_interior": inside, "n_boundary": faces, "n_initial": inside}


PROBLEMS = {
    "allen-cahn-ball": Setup(problems.AllenCahnBall, 20, n_interior=100, sampling="radius"),
    "poisson-ball": Setup(problems.PoissonBall, 20, n_interior=100, sampling="radius"),
    "poisson-cube": Setup(problems.PoissonCube, 20, per_face=100),
    "heat-cube": Setup(problems.HeatCube, 20, per_face=100),
    "helmholtz": Setup(problems.Helmholtz),
    "kovasznay": Setup(problems.Kovasznay),
    "wave": Setup(problems.Wave),
    "burgers": Setup(problems.Burgers),
    "allen-cahn-1d": Setup(problems.AllenCahn1D, n_interior=2000),
}
WIDTHS = {"mlp": 128, "kan": 32, "metakan": 64}  # by model, unless given


# Parameters of solvers that options name otherwise.
RENAMED = {"steps": "max_iter", "lbfgs": "lbfgs_iter", "lm": "lm_iter", "seed": "random_state"}
RENAMED |= {"schedule": "learning_rate_schedule"}


class Run(NamedTuple):
    """What is run; two runs that agree in all of this are the same.

    ``source`` and ``prompt_learning_rate`` are a MetaKAN's; None is that of the source.
    """

    problem: str
    dim: int | None
    model: str
    seed: int
    device: str
    width: int
    n_interior: int
    n_boundary: int
    n_initial: int
    sampling: str
    source: str = "linear-3"
    depth: int = 3  # hidden layers
    grid_size: int = 5
    steps: int = 5000
    lbfgs: int = 0
    lm: int = 0
    derivatives: str = "exact"
    n_directions: int = 4
    resample_every: int = 1
    learning_rate: float | str = "auto"
    prompt_learning_rate: float | None = None
    schedule: str = "onecycle"
    loss_weights: str | None = None
    causal: float | None = None
    precision: str = "auto"

    def make_solver(self, problem: problems.Problem) -> KANPDESolver:
        own = {"problem", "dim", "model", "source", "width", "depth", "prompt_learning_rate"}
        settings = {RENAMED.get(k, k): v for k, v in self._asdict().items() if k not in own}
        settings["hidden_layer_sizes"] = (self.width,) * self.depth
        solver = make_solver(self.model, self.source, problem.settings | settings)
        if self.prompt_learning_rate is not None:
            solver.set_params(prompt_learning_rate=self.prompt_learning_rate)
        return solver


RESULTS = ("has_boundary", "relative_l2", "relative_l2_published", "residual", "parameters")
RESULTS += ("steps_done", "seconds", "peak_mb")


def make_run(problem: str, dim: int | None, model: str, *of_run: Any, **given: Any) -> Run:
    """What is given, else what the problem takes, else the defaults; then seed and device."""
    dim = PROBLEMS[problem].dim if dim is None else dim
    values = {"width": WIDTHS[model], **PROBLEMS[problem].points(dim), **given}
    if model != "metakan":
        values |= {"source": "", "prompt_learning_rate": None}
    return Run(problem, dim, model, *of_run, **values)


def measure(run: Run, data_dir: Path, verbose: bool = False) -> dict[str, Any]:
    """The row of a run. A closure call of a last L-BFGS counts as a step."""
    make = PROBLEMS[run.problem].make
    problem = make() if run.dim is None else make(run.dim)
    solver = run.make_solver(problem).set_params(verbose=int(verbose))
    if not verbose:  # errors along the way would count into the seconds
        solver.set_params(solution=None)
    memory = PeakMemory(run.device)
    spent, peak = seconds(solver.fit, run.device), memory.megabytes()
    steps = solver.n_iter_
    if run.lbfgs and not run.lm:
        steps = min(steps, run.steps) + solver.net_.optimizer_.n_evaluations
    return {
        "has_boundary": bool(problem.conditions),
        "relative_l2": relative_error(solver, problem, run.sampling),
        "relative_l2_published": published_error(solver, data_dir, run.problem),
        "residual": root_mean_residual(solver, problem, run.sampling),
        "parameters": solver.n_parameters_,
        "steps_done": steps,
        "seconds": spent,
        "peak_mb": peak,
    }


def test_points(problem: problems.Problem, sampling: str, n: int) -> np.ndarray:
    """Of the law of training where that is "radius", else uniform; never those of training."""
    generator = torch.Generator().manual_seed(TEST_SEED)
    method = "radius" if sampling == "radius" else "uniform"
    return problem.domain.sample(n, generator, method=method, dtype=torch.float64).numpy()


def relative_error(solver: Any, problem: problems.Problem, sampling: str) -> float:
    points = test_points(problem, sampling, TEST_POINTS)
    exact = problem.solution(torch.as_tensor(points)).numpy()
    return float(np.linalg.norm(solver.predict(points) - exact) / np.linalg.norm(exact))


def published_error(solver: Any, data_dir: Path, name: str) -> float | None:
    """Against the published data of allen-cahn-1d, if the file is there."""
    if name != "allen-cahn-1d" or not (data_dir / PUBLISHED).is_file():
        return None
    data = loadmat(data_dir / PUBLISHED)
    t, x = np.meshgrid(data["t"][0], data["x"][0], indexing="ij")
    found = solver.predict(np.stack([x.ravel(), t.ravel()], 1)).reshape(t.shape)
    return float(np.linalg.norm(found - data["u"]) / np.linalg.norm(data["u"]))


def root_mean_residual(solver: Any, problem: problems.Problem, sampling: str) -> float:
    found = solver.predict_residual(test_points(problem, sampling, RESIDUAL_POINTS))
    return float(np.sqrt(np.square(found).mean(0).sum()))
