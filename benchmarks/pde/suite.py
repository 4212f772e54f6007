"""Equations that others use as examples, with one common setting and with settings of their own.

    python -m benchmarks.pde.suite --device cuda --seconds 120 --seeds 0 1 2
    python -m benchmarks.pde.suite --cases beam kdv --settings tuned

A line a run: relative L2 on 10,000 points against references computed here, or for inverse
problems the largest relative error of a constant; seconds of fit; whether the solver itself said
that it failed. Beside it the error of the example that it is from, where that is known.
Rows are appended to --csv; runs that are there are not repeated.
"""

import argparse
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from sklearn.exceptions import ConvergenceWarning

from benchmarks.common.ledger import Ledger
from benchmarks.common.measure import add_options, seconds
from benchmarks.common.report import Goal, goals, publish, table
from benchmarks.pde.cases import CASES, LEFT_OUT, error_of, statement_lines
from benchmarks.pde.cases.peers import PEERS
from sklearn_metakan.pde import KANPDESolver, MetaKANPDESolver

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
    said = any(str(each.message).startswith("Not solved") for each in caught)
    return {
        "error": error_of(solver, case),
        "parameters": solver.n_parameters_,
        "iterations": solver.n_iter_,
        "seconds_taken": spent,
        "said_so": said,
    }


COLUMNS = {
    "problem": "{title}",
    "from": "{source}",
    "lines": "{lines}",
    "parameters": "{parameters:,.0f}",
    "error: median (seeds)": "{error:.1e} ({seeds})",
    "theirs": "{theirs}",
    "seconds": "{seconds_taken:.0f}",
    "says that it failed": "{said}",
}
FAILED = 0.1  # a relative error above this


def report(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table for each setting, what was to be reached, and what is counted."""
    frame, blocks = pd.DataFrame(rows), []
    for setting in SETTINGS:
        lines, limits = [], []
        for name, make in CASES.items():
            its = frame[(frame["case"] == name) & (frame["setting"] == setting)]
            if its.empty:
                continue
            case = make()
            medians = its[["error", "parameters", "seconds_taken"]].astype(float).median()
            said, errors = its["said_so"].astype(str).eq("True"), its["error"].astype(float)
            theirs = {source: PEERS[source] for source in case.sources if source in PEERS}
            lines.append({
                **medians,
                "title": name,
                "source": "; ".join(case.sources),
                "lines": statement_lines(make) or "shipped",
                "seeds": ", ".join(f"{error:.1e}" for error in errors),
                "theirs": ", ".join(f"{error:.1e}" for error in theirs.values()) or "not known",
                "said": f"{said.sum()} of {len(its)}" if said.any() else "no",
                "wins": [source for source, error in theirs.items() if medians["error"] <= error],
                "known": [*theirs],
                "silent": bool((~said & (errors > FAILED)).any()),
            })  # fmt: skip
            if case.must is not None:
                limits.append(Goal(name, medians["error"], case.must))
        if lines:
            blocks += [f"Setting: {setting}.", table(pd.DataFrame(lines), COLUMNS)]
            blocks += [goals(limits), *counted(lines)]
    left_out = pd.DataFrame({"problem": LEFT_OUT.keys(), "why": LEFT_OUT.values()})
    return [*blocks, "Left out:", table(left_out, {"problem": "{problem}", "why": "{why}"})]


def counted(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is stated, how often the others are reached, and which fits failed in silence."""
    blocks = []
    for others in ("DeepXDE", "PINNacle"):
        of = f"{others}: "
        stated = sum(s.startswith(of) for make in CASES.values() for s in make().sources)
        missing = sum(s.startswith(of) for s in LEFT_OUT)
        wins, known = (
            sum(s.startswith(of) for line in lines for s in line[key]) for key in ("wins", "known")
        )
        blocks.append(
            f"{others}: {stated} of {stated + missing} stated here; as good or better in {wins} "
            f"of {known} that were run and whose error is known."
        )
    silent = [line["title"] for line in lines if line["silent"]]
    found = ", ".join(silent) or "none"
    return [*blocks, f"Errors above {FAILED:g} without a warning: {found}."]


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
