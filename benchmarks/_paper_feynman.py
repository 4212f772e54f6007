"""`paper.py feynman`: KAN and MetaKAN on functions of the Feynman table, by L-BFGS.

Two parts. "widths": the same widths for a KAN and for MetaKANs of every coefficient source, on
the paper's eighteen functions. "published": networks with no more parameters than the published
MetaKAN, on the five functions with published numbers.

A row is one contest: candidates are fitted to 80 % of the training rows for a few iterations,
and the one with the smallest error on the other 20 % is fitted to the end. It keeps the weights
of its best iteration by that error, and is tested once, on rows of its own. All rows are drawn
anew for each seed. Errors are mean squares in the function's own units.
"""

import argparse
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _ledger import Ledger
from _markdown import publish
from _paper_feynman_report import report
from _paper_networks import (
    PUBLISHED,
    PUBLISHED_GRID,
    Candidate,
    contestants,
    settings,
    small_networks,
)
from joblib import Parallel, delayed
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from tqdm import tqdm

from sklearn_metakan import KANRegressor
from sklearn_metakan.datasets import feynman_equation, feynman_names, make_feynman

VALIDATION = 0.2  # share of the training rows
HISTORY = 100  # of L-BFGS


@dataclass(frozen=True)
class Contest:
    """What a row is of.

    ``widths`` are those of hidden layers, "" in the part "published", where there are several
    candidates; ``tune_iter`` is 0 where there is one.
    """

    part: str
    function: str
    ranges: str
    n_samples: int
    grid_size: int
    widths: str
    model: str
    seed: int
    max_iter: int
    tune_iter: int


KEY = list(Contest.__dataclass_fields__)
RESULTS = ["network", "candidates", "parameters", "edge_numbers", "iterations"]
RESULTS += ["validation_mse", "test_mse", "target_variance", "seconds"]


def add_command(commands: Any) -> None:
    parser = commands.add_parser("feynman", help="functions of the Feynman table, L-BFGS")
    parser.add_argument("--part", nargs="+", choices=["widths", "published"], metavar="PART")
    parser.add_argument("--functions", nargs="+", metavar="NAME", help="default: the eighteen")
    parser.add_argument("--ranges", choices=["paper", "table"], default="paper")
    parser.add_argument("--samples", type=int, default=1000, help="training rows, and test rows")
    parser.add_argument("--widths", nargs="+", default=["16-16"], help="of hidden layers")
    parser.add_argument("--grid-size", type=int, nargs="+", default=[5, 20], help="G")
    parser.add_argument("--meta-hidden-dim", type=int, nargs="+", default=[32, 64], help="H")
    parser.add_argument("--models", nargs="+", metavar="KEY", help="default: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--max-iter", type=int, default=200)
    parser.add_argument("--tune-iter", type=int, default=40, help="of every candidate")
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread")
    parser.add_argument("--out", type=Path, default=Path("out/paper"))
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    ledger = Ledger(options.out / "feynman.csv", KEY + RESULTS, KEY)
    todo = [contest for contest in contests(options) if asdict(contest) not in ledger]
    work = Parallel(n_jobs=options.jobs, return_as="generator_unordered", batch_size=1)(
        delayed(hold)(contest) for contest in todo
    )
    with tqdm(work, total=len(todo), desc="feynman", unit="contest") as bar:
        for row in bar:
            ledger.append(row)
            bar.set_postfix_str(f"{row['function']} {row['model']} {row['validation_mse']:.1e}")
    publish(report(ledger.rows()), options.out / "feynman.md")


def contests(options: argparse.Namespace) -> Iterator[Contest]:
    """Seed by seed, so that a run that is stopped has something of everything."""
    parts = options.part or ["published", "widths"]
    names = options.functions or feynman_names("paper")
    models = options.models or contestants(options.meta_hidden_dim)
    for check, keys in ((feynman_equation, names), (settings, models)):
        for key in keys:
            check(key)  # a name that is wrong is an error now, not after hours
    common = (options.ranges, options.samples)
    for seed, grid_size in product(options.seeds, options.grid_size):
        end = (seed, options.max_iter)
        if "published" in parts and grid_size == PUBLISHED_GRID:
            for name in [name for name in names if name in PUBLISHED]:
                settled = (*common, grid_size, "", "metakan", *end, options.tune_iter)
                yield Contest("published", name, *settled)
        if "widths" in parts:
            for name, widths, model in product(names, options.widths, models):
                yield Contest("widths", name, *common, grid_size, widths, model, *end, 0)


def hold(contest: Contest) -> dict[str, Any]:
    """Choose a candidate, fit it, test it once."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    X, y = make_feynman(
        contest.function, 2 * contest.n_samples, random_state=contest.seed, ranges=contest.ranges
    )
    train, test = slice(contest.n_samples), slice(contest.n_samples, None)
    candidates = _candidates(contest)
    chosen = candidates[0]
    if len(candidates) > 1:
        errors = [fit(contest, c, X[train], y[train], contest.tune_iter)[1] for c in candidates]
        chosen = candidates[int(np.argmin(errors))]
    model, validation_mse = fit(contest, chosen, X[train], y[train], contest.max_iter)
    return asdict(contest) | {
        "network": chosen.label,
        "candidates": len(candidates),
        "parameters": model.n_parameters_,
        "edge_numbers": edge_numbers(model),
        "iterations": model.n_iter_,
        "validation_mse": validation_mse,
        "test_mse": float(np.mean((model.predict(X[test]) - y[test]) ** 2)),
        "target_variance": float(y[test].var()),
        "seconds": round(time.perf_counter() - start, 2),
    }


def _candidates(contest: Contest) -> list[Candidate]:
    n_inputs = len(feynman_equation(contest.function).variables)
    if contest.part == "published":
        most = PUBLISHED[contest.function].metakan_parameters
        return small_networks(n_inputs, contest.grid_size, most)
    hidden = tuple(map(int, contest.widths.split("-")))
    return [Candidate(contest.model, hidden)]


def fit(
    contest: Contest, candidate: Candidate, X: NDArray[Any], y: NDArray[Any], max_iter: int
) -> tuple[KANRegressor, float]:
    """The fitted model and its mean square error on the validation rows."""
    held = round(VALIDATION * len(y))
    model = candidate.estimator(
        solver="lbfgs",
        grid_size=contest.grid_size,
        max_iter=max_iter,
        tol=0.0,
        n_iter_no_change=max_iter,
        scale_inputs="minmax",
        precision="float64",
        random_state=contest.seed + 1000 * candidate.start,
        net_params={"optimizer__history_size": HISTORY},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X[held:], y[held:], X_val=X[:held], y_val=y[:held])
    return model, float(np.mean((model.predict(X[:held]) - y[:held]) ** 2))


def edge_numbers(model: KANRegressor) -> int:
    """Trainable numbers without the meta-learners', which do not grow with the edges."""
    named = model.module_.named_parameters()
    return sum(numbers.numel() for name, numbers in named if ".meta_learner." not in name)
