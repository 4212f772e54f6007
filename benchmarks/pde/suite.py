"""Equations that others use as examples, with one common setting and with settings of their own.

    python -m benchmarks.pde.suite --device cuda --seconds 120 --seeds 0 1 2
    python -m benchmarks.pde.suite --cases beam kdv --settings tuned

A line a run: relative L2 on 10,000 points against references computed here, or for inverse
problems the largest relative error of a constant; seconds of fit; whether the solver itself said
that it failed. Rows are appended to --csv; runs that are there are not repeated.
"""

import argparse
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.exceptions import ConvergenceWarning

from benchmarks.common.ledger import Ledger
from benchmarks.common.measure import add_options, seconds
from benchmarks.common.report import Goal, goals, publish, table
from benchmarks.pde.cases import CASES, Case
from sklearn_metakan.pde import KANPDESolver, MetaKANPDESolver

POINTS, POINTS_SEED = 10_000, 1
COMMON: dict[str, Any] = {
    "hidden_layer_sizes": (12, 12),
    "basis": "chebyshev",
    "hard": True,
    "n_interior": 3000,
    "n_boundary": 400,
    "n_initial": 400,
    "sampling": "rad",
}
SETTINGS = ("common", "tuned")
RESULTS = ("error", "parameters", "iterations", "seconds_taken", "said_so")


class Trial(NamedTuple):
    """What is run; ``seconds`` is the solver's time_limit."""

    case: str
    setting: str
    seed: int
    device: str
    seconds: float


def measure(trial: Trial) -> dict[str, Any]:
    """The row of a trial."""
    case = CASES[trial.case]()
    given = {**COMMON, **(case.tuned if trial.setting == "tuned" else {})}
    given["hard"] &= "ansatz" not in case.settings
    kind = MetaKANPDESolver if "prompt_dim" in given else KANPDESolver
    solver = kind(
        **{**case.settings, **given},
        random_state=trial.seed,
        device=trial.device,
        time_limit=trial.seconds,
    )
    data = () if case.seen is None else case.seen()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        spent = seconds(lambda: solver.fit(*data), trial.device)
    said = any(issubclass(each.category, ConvergenceWarning) for each in caught)
    return {
        "error": error_of(solver, case),
        "parameters": solver.n_parameters_,
        "iterations": solver.n_iter_,
        "seconds_taken": spent,
        "said_so": said,
    }


def error_of(solver: Any, case: Case) -> float:
    """Relative L2, or the largest relative error of a constant."""
    if case.constants:
        found = solver.pde_params_
        return max(abs(found[name] / value - 1) for name, value in case.constants.items())
    generator = torch.Generator().manual_seed(POINTS_SEED)
    x = case.settings["domain"].sample(POINTS, generator, dtype=torch.float64).numpy()
    exact, found = case.reference(x), case.compared(solver.predict(x))
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


COLUMNS = {
    "problem": "{title}",
    "from": "{source}",
    "parameters": "{parameters:,.0f}",
    "error: median (seeds)": "{error:.1e} ({seeds})",
    "seconds": "{seconds_taken:.0f}",
    "must, aim": "{must:.0e}, {aim:.0e}",
    "says that it failed": "{said}",
}


def report(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table for each setting, and what was to be reached."""
    frame, blocks = pd.DataFrame(rows), []
    for setting in SETTINGS:
        lines, limits = [], []
        for name in CASES:
            its = frame[(frame["case"] == name) & (frame["setting"] == setting)]
            if its.empty:
                continue
            case = CASES[name]()
            medians = its[["error", "parameters", "seconds_taken"]].astype(float).median()
            said = its["said_so"].astype(str).eq("True")
            lines.append({
                **medians,
                "title": name,
                "source": case.source,
                "seeds": ", ".join(f"{error:.1e}" for error in its["error"].astype(float)),
                "must": case.must,
                "aim": case.aim,
                "said": f"{said.sum()} of {len(its)}" if said.any() else "no",
            })  # fmt: skip
            limits.append(Goal(name, medians["error"], case.must))
        if lines:
            blocks += [f"Setting: {setting}.", table(pd.DataFrame(lines), COLUMNS), goals(limits)]
    return blocks


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, "seeds", "device", "jobs", "minutes", out=Path("out/equations"))
    parser.add_argument("--cases", choices=CASES, nargs="+", default=[*CASES])
    parser.add_argument("--settings", choices=SETTINGS, nargs="+", default=[*SETTINGS])
    parser.add_argument("--seconds", type=float, default=120.0, help="time_limit of a fit")
    options = parser.parse_args(arguments)
    shown = "{case} {setting} seed {seed}: {error:.1e} in {seconds_taken:.0f} s"
    ledger = Ledger(options.out / "suite.csv", Trial, RESULTS, options, shown)
    trials = [
        Trial(case, setting, seed, options.device, options.seconds)
        for seed in options.seeds
        for case in options.cases
        for setting in options.settings
    ]
    ledger.finish(trials, measure)
    found = [row for row in map(ledger.find, trials) if row is not None]
    if found:
        publish(report(found), options.out / "suite.md")


if __name__ == "__main__":
    main()
