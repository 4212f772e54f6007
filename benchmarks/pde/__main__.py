"""Solve shipped equations with an MLP, a KAN or a MetaKAN in the same harness.

    python -m benchmarks.pde allen-cahn-ball --dim 20 --model metakan --seeds 0 1 2 --device cuda
    python -m benchmarks.pde table --device cuda     # what must be reached
    python -m benchmarks.pde speed --device cuda     # a step, and an exact Laplacian

Prints a line a run: relative L2 on 20,000 points that were not trained on, root mean squared
residual, parameters, steps (a closure call of L-BFGS is one), seconds of fit and on CUDA its peak
of allocated memory. Rows are appended to --csv; runs that are there are not repeated.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pandas as pd
import torch

from benchmarks.common.ledger import Ledger
from benchmarks.common.measure import add_options
from benchmarks.common.report import Goal, goals, table
from benchmarks.pde.runs import MODELS, PROBLEMS, RESULTS, SOURCES, Run, make_run, measure
from benchmarks.pde.speed import print_speed


class Line(NamedTuple):
    """Runs of one problem: those of MetaKAN must reach this relative L2, if there is a limit.

    How they differ from the defaults: ``training`` of all models, ``networks`` by model, those of
    the MetaKAN chosen with seeds 10 and 11.
    """

    problem: str
    dim: int | None = None
    must_reach: float | None = None
    parameters: int | None = None  # at most, of the MetaKAN
    training: Mapping[str, Any] = {}
    networks: Mapping[str, Mapping[str, Any]] = {}


BALL_20 = {"source": "linear-6", "width": 192, "depth": 1, "prompt_learning_rate": 0.2}
BALL_50 = {"source": "linear-3", "width": 160, "depth": 1, "prompt_learning_rate": 0.2}
BALL_100 = {"source": "linear-3", "width": 128, "depth": 1, "prompt_learning_rate": 0.3}
FRONTS = {
    "metakan": {"source": "linear-4", "width": 16, "depth": 3, "grid_size": 8},
    "kan": {"width": 16},
    "mlp": {"width": 32},
}
CUBE = {"width": 128, "depth": 1}
LEAST_SQUARES = {"steps": 0, "lm": 300, "n_interior": 4000, "sampling": "sobol"}
LINES = (
    Line("allen-cahn-ball", 20, 1.5e-3, 40_000, networks={"metakan": BALL_20}),
    Line("allen-cahn-ball", 100, 3e-3, 50_000, networks={"metakan": BALL_100}),
    Line("poisson-ball", 20, 1.5e-3, 40_000, networks={"metakan": BALL_20}),
    Line("poisson-ball", 50, 3e-3, 50_000, networks={"metakan": BALL_50}),
    Line("poisson-ball", 100, 3e-3, 50_000, networks={"metakan": BALL_100}),
    Line("allen-cahn-1d", None, 2e-3, training=LEAST_SQUARES, networks=FRONTS),
    *(
        Line("poisson-cube", d, training={"steps": 2000}, networks={"metakan": CUBE})
        for d in (20, 50, 100)
    ),
)

# Settings of a run that may be given.
GIVEN = [name for name in Run._fields if name not in ("problem", "dim", "model", "seed", "device")]
CHOICES = {"source": SOURCES, "derivatives": ("exact", "sdgd", "hutchinson")}
CHOICES |= {"loss_weights": ("balanced",)}
HELP = {"n_boundary": "on all of the boundary", "source": "of a MetaKAN; default linear-3"}
HELP |= {"prompt_learning_rate": "of a MetaKAN", "causal": "epsilon of causal weights"}
HELP |= {"schedule": "learning_rate_schedule of the solver"}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    if options.name == "speed":
        print_speed(torch.device(options.device), options.dim, options.points, options.steps)
        return
    ledger, done = Ledger(options.csv, Run, RESULTS, options), []
    for run in runs_of(options):
        row = ledger.find(run)
        if row is None:
            row = ledger.add(run, measure(run, options.data_dir, options.verbose))
        print(line_of(row), flush=True)
        done.append(row)
    if options.name == "table":
        print("\n" + report(done))


def runs_of(options: argparse.Namespace) -> Iterator[Run]:
    """Of one problem; of the table, every line with a MetaKAN and beside it an MLP."""
    lines, models = [Line(options.name, options.dim)], ["metakan"]
    if options.name == "table":
        lines = [line for line in LINES if line.problem in (options.problems or PROBLEMS)]
        models = ["metakan", "mlp"]
    for line, model, seed in product(lines, options.model or models, options.seeds):
        own = line.networks.get(model, {})
        given = {**line.training, **own, **options.given}
        if options.name == "table" and model != "metakan":  # a network given is the MetaKAN's
            given = {name: v for name, v in given.items() if name not in ("width", "depth")} | own
        yield make_run(line.problem, line.dim, model, seed, options.device, **given)


def line_of(row: Mapping[str, Any]) -> str:
    name = row["problem"] + (f" d={row['dim']}" if row["dim"] else "")
    text = f"{name:22}{row['model']:8}{row['source']:11}seed {row['seed']}  "
    text += f"L2 {row['relative_l2']:.2e}"
    if pd.notna(row["relative_l2_published"]):
        text += f" (published data {row['relative_l2_published']:.2e})"
    text += f"  residual {row['residual']:.1e}  parameters {row['parameters']:,}"
    text += f"  steps {row['steps_done']}  {row['seconds']:.0f} s"
    return text + (f"  peak {row['peak_mb']:.0f} MB" if pd.notna(row["peak_mb"]) else "")


COLUMNS = {
    "problem": "{title}",
    "model": "{label}",
    "parameters": "{parameters:,.0f}",
    "steps": "{steps_done:,.0f}",
    "points inside / boundary": "{points}",
    "relative L2: median (seeds)": "{relative_l2:.1e} ({seeds})",
    "residual": "{residual:.1e}",
    "minutes": "{minutes:.1f}",
    "peak MB": "{peak_mb:,.0f}",
}


def report(rows: Sequence[Mapping[str, Any]]) -> str:
    """A row a line and model, medians over the seeds that are there; what must be reached."""
    found, limits = [], []
    for line, model in product(LINES, MODELS[::-1]):
        key = (line.problem, "" if line.dim is None else str(line.dim), model)
        its = pd.DataFrame([r for r in rows if (r["problem"], r["dim"], r["model"]) == key])
        if its.empty:
            continue
        title = line.problem if line.dim is None else f"{line.problem}, d={line.dim}"
        found.append({"title": title, **_summary(its, its.iloc[0])})
        error, parameters = found[-1]["relative_l2"], found[-1]["parameters"]
        if model == "metakan" and line.must_reach:
            limits.append(Goal(f"{title}: relative L2", error, line.must_reach))
            if line.parameters:
                limits.append(Goal(f"{title}: parameters", parameters, line.parameters))
    return f"{table(pd.DataFrame(found), COLUMNS)}\n\n{goals(limits)}"


def _summary(its: pd.DataFrame, first: pd.Series) -> dict[str, Any]:
    names = ["parameters", "steps_done", "relative_l2", "residual", "seconds", "peak_mb"]
    medians = its[names].astype(float).median()
    boundary = f" / {first['n_boundary']}" if first["has_boundary"] else ""
    return medians.to_dict() | {
        "label": first["model"].upper() if not first["source"] else f"MetaKAN {first['source']}",
        "points": first["n_interior"] + boundary,
        "seeds": ", ".join(f"{error:.1e}" for error in its["relative_l2"]),
        "minutes": medians["seconds"] / 60,
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=[*PROBLEMS, "table", "speed"])
    add_options(parser, "seeds", "device", "data-dir")
    parser.add_argument("--dim", type=int, help="of space, where the problem has a choice")
    parser.add_argument(
        "--model", choices=MODELS, nargs="+", help="default metakan; for table metakan mlp"
    )
    parser.add_argument("--problems", choices=PROBLEMS, nargs="+", help="of table; default all")
    for name in GIVEN:
        kind = Run.__annotations__[name]
        more = {"choices": CHOICES.get(name), "help": HELP.get(name)}
        first = (get_args(kind) or (kind,))[0]
        parser.add_argument(f"--{name.replace('_', '-')}", type=first, **more)
    parser.add_argument("--points", type=int, default=2000, help="of speed's Laplacian")
    parser.add_argument("--csv", type=Path, default=Path("out/pde.csv"))
    parser.add_argument("--verbose", action="store_true", help="progress bars")
    options = parser.parse_args(arguments)
    if options.dim is not None and options.name in PROBLEMS and PROBLEMS[options.name].dim is None:
        parser.error(f"--dim: {options.name} has no choice of dimension")
    given = {name: getattr(options, name) for name in GIVEN}
    options.given = {name: value for name, value in given.items() if value is not None}
    return options


if __name__ == "__main__":
    main()
