"""Solve shipped equations with an MLP, a KAN or a MetaKAN in the same harness.

    python benchmarks/pde.py allen-cahn-ball --dim 20 --model metakan --seeds 0 1 2 --device cuda
    python benchmarks/pde.py table --device cuda     # the rows of docs/pde.md
    python benchmarks/pde.py speed --device cuda     # a step, and an exact Laplacian

Prints a line a run: relative L2 on 20,000 points that were not trained on, root mean squared
residual, parameters, steps (a closure call of L-BFGS is one), seconds of fit and on CUDA its peak
of allocated memory. Rows are appended to --csv; runs that are there are not repeated.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from _pde_models import MODELS, SOURCES
from _pde_runs import PROBLEMS, Rows, Run, measure
from _pde_speed import print_speed
from _pde_table import LINES, SEEDS, markdown

# By model, unless given.
WIDTHS = {"mlp": 128, "kan": 32, "metakan": 64}
DEPTH = 3
DEFAULTS: dict[str, Any] = {
    "source": "linear-3",
    "depth": DEPTH,
    "grid_size": 5,
    "steps": 5000,
    "lbfgs": 0,
    "lm": 0,
    "derivatives": "exact",
    "n_directions": 4,
    "resample_every": 1,
    "learning_rate": "auto",
    "prompt_learning_rate": None,
    "schedule": "onecycle",
    "loss_weights": None,
    "causal": None,
    "precision": "auto",
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    if options.name == "speed":
        print_speed(torch.device(options.device), options.dim, options.points, options.steps)
        return
    rows, command = Rows(options.csv), " ".join(["pde.py", *(arguments or sys.argv[1:])])
    runs = list(table_runs(options) if options.name == "table" else named_runs(options))
    done = []
    for run in runs:
        row = rows.find(run)
        if row is None:
            row = rows.add(run, measure(run, options.data_dir, options.verbose), command)
        print(line_of(row), flush=True)
        done.append(row)
    if options.name == "table":
        print("\n" + markdown(LINES, done))


def named_runs(options: argparse.Namespace) -> Iterator[Run]:
    for model in options.model or ["metakan"]:
        for seed in options.seeds:
            yield make_run(options, options.name, options.dim, model, seed)


def table_runs(options: argparse.Namespace) -> Iterator[Run]:
    """Every line with a MetaKAN and beside it an MLP, their networks as given."""
    for line in LINES:
        if options.problems and line.problem not in options.problems:
            continue
        for model in options.model or ["metakan", "mlp"]:
            for seed in options.seeds:
                network = line.networks.get(model, {})
                settings = {**line.training, **network}
                yield make_run(options, line.problem, line.dim, model, seed, **settings)


def make_run(
    options: argparse.Namespace,
    problem: str,
    dim: int | None,
    model: str,
    seed: int,
    **defaults: Any,
) -> Run:
    """What is given, else what the line says, else the defaults."""
    setup = PROBLEMS[problem]
    dim = setup.dim if dim is None else dim
    known = DEFAULTS | {"width": WIDTHS[model]} | setup.points(dim) | defaults
    values = {
        name: value if getattr(options, name) is None else getattr(options, name)
        for name, value in known.items()
    }
    if model != "metakan":
        values |= {"source": "", "prompt_learning_rate": None}
        if options.name == "table":  # what is given is for the MetaKAN
            values |= {"width": known["width"], "depth": known["depth"]}
    return Run(problem=problem, dim=dim, model=model, seed=seed, device=options.device, **values)


def line_of(row: dict[str, str]) -> str:
    name = row["problem"] + (f" d={row['dim']}" if row["dim"] else "")
    peak = f"  peak {float(row['peak_mb']):.0f} MB" if row["peak_mb"] else ""
    published = row["relative_l2_published"]
    beside = f" (published data {float(published):.2e})" if published else ""
    return (
        f"{name:22}{row['model']:8}{row['source']:11}seed {row['seed']}  "
        f"L2 {float(row['relative_l2']):.2e}{beside}  residual {float(row['residual']):.1e}  "
        f"parameters {int(row['parameters']):,}  steps {row['steps_done']}  "
        f"{float(row['seconds']):.0f} s{peak}"
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=[*PROBLEMS, "table", "speed"])
    parser.add_argument("--dim", type=int, help="of space, where the problem has a choice")
    parser.add_argument(
        "--model", choices=MODELS, nargs="+", help="default metakan; for table metakan mlp"
    )
    parser.add_argument("--source", choices=SOURCES, help="of a MetaKAN; default linear-3")
    parser.add_argument("--problems", choices=PROBLEMS, nargs="+", help="of table; default all")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name in (
        "width",
        "depth",
        "grid-size",
        "steps",
        "lbfgs",
        "lm",
        "n-directions",
        "n-interior",
    ):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--n-boundary", type=int, help="on all of the boundary")
    parser.add_argument("--n-initial", type=int)
    parser.add_argument("--resample-every", type=int)
    parser.add_argument("--derivatives", choices=("exact", "sdgd", "hutchinson"))
    parser.add_argument("--sampling")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--prompt-learning-rate", type=float, help="of a MetaKAN")
    parser.add_argument("--schedule", help="learning_rate_schedule of the solver")
    parser.add_argument("--loss-weights", choices=("balanced",))
    parser.add_argument("--causal", type=float, help="epsilon of causal weights")
    parser.add_argument("--precision")
    parser.add_argument("--points", type=int, default=2000, help="of speed's Laplacian")
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    parser.add_argument("--csv", type=Path, default=Path("out/pde.csv"))
    parser.add_argument("--verbose", action="store_true", help="progress bars")
    options = parser.parse_args(arguments)
    if options.dim is not None and options.name in PROBLEMS and PROBLEMS[options.name].dim is None:
        parser.error(f"--dim: {options.name} has no choice of dimension")
    return options


if __name__ == "__main__":
    main()
