"""One run of a solver on a shipped problem, as a row of a CSV file that runs are resumed from."""

import csv
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _pde_models import make_solver
from _report import describe
from scipy.io import loadmat

from sklearn_metakan.pde import problems

TEST_POINTS, TEST_SEED = 20_000, 1
RESIDUAL_POINTS = 2_000
PUBLISHED = Path("pde/Allen_Cahn.mat")


@dataclass(frozen=True)
class Setup:
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


@dataclass(frozen=True)
class Run:
    """What is run; two runs that agree in all of this are the same."""

    problem: str
    dim: int | None
    model: str
    source: str  # of a MetaKAN
    width: int
    depth: int  # hidden layers
    grid_size: int
    steps: int
    lbfgs: int
    lm: int
    seed: int
    derivatives: str
    n_directions: int
    n_interior: int
    n_boundary: int
    n_initial: int
    sampling: str
    resample_every: int
    learning_rate: float | str
    prompt_learning_rate: float | None  # of a MetaKAN; None: as its source has it
    schedule: str
    loss_weights: str | None
    causal: float | None
    precision: str
    device: str

    @property
    def settings(self) -> dict[str, Any]:
        """Parameters of the solver."""
        direct = (
            *("grid_size", "derivatives", "n_directions", "n_interior", "n_boundary", "n_initial"),
            *("sampling", "resample_every", "learning_rate", "loss_weights", "causal"),
            *("precision", "device"),
        )
        return {name: getattr(self, name) for name in direct} | {
            "hidden_layer_sizes": (self.width,) * self.depth,
            "max_iter": self.steps,
            "lbfgs_iter": self.lbfgs,
            "lm_iter": self.lm,
            "learning_rate_schedule": self.schedule,
            "random_state": self.seed,
        }

    def make_problem(self) -> problems.Problem:
        setup = PROBLEMS[self.problem]
        return setup.make() if self.dim is None else setup.make(self.dim)


def measure(run: Run, data_dir: Path, verbose: bool = False) -> dict[str, Any]:
    """The row of a run. A closure call of a last L-BFGS counts as a step."""
    problem = run.make_problem()
    settings = problem.settings | run.settings | {"verbose": int(verbose)}
    if not verbose:  # errors along the way would count into the seconds
        settings["solution"] = None
    solver = make_solver(run.model, run.source, settings)
    if run.prompt_learning_rate is not None:
        solver.set_params(prompt_learning_rate=run.prompt_learning_rate)
    device = torch.device(run.device)
    on_card = device.type == "cuda"
    before = 0
    if on_card:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    start = time.perf_counter()
    solver.fit()
    if on_card:
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start
    peak = (torch.cuda.max_memory_allocated(device) - before) / 1e6 if on_card else None
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
        "seconds": seconds,
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


class Rows:
    """The rows of a CSV file; runs that are in it are not repeated."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, str]] = []
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                self.rows = list(csv.DictReader(file))
        missing = {field.name for field in fields(Run)} - {*(self.rows[0] if self.rows else ())}
        if self.rows and missing:
            raise SystemExit(f"{path} has no columns {sorted(missing)}; choose another --csv.")

    def find(self, run: Run) -> dict[str, str] | None:
        wanted = {name: _text(value) for name, value in asdict(run).items()}
        names = [field.name for field in fields(Run)]
        same = (row for row in self.rows if all(row[name] == wanted[name] for name in names))
        return next(same, None)

    def add(self, run: Run, found: dict[str, Any], command: str) -> dict[str, str]:
        about = describe(torch.device(run.device), command)
        about["device_name"] = about.pop("device")
        row = {name: _text(value) for name, value in (asdict(run) | found | about).items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self.rows
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row))
            if is_new:
                writer.writeheader()
            writer.writerow(row)
        self.rows.append(row)
        return row


def _text(value: Any) -> str:
    return "" if value is None else str(value)
