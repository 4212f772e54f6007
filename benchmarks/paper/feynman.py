"""KAN and MetaKAN on functions of the Feynman table, by L-BFGS.

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
from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.common.ledger import Ledger
from benchmarks.common.measure import add_options
from benchmarks.common.report import Goal, goals, publish, table
from benchmarks.paper.networks import settings
from sklearn_metakan import KANRegressor, MetaKANRegressor
from sklearn_metakan.datasets import feynman_equation, feynman_names, make_feynman

DEGREE = 3
STARTS = 4  # of every small network
VALIDATION = 0.2  # share of the training rows
HISTORY = 100  # of L-BFGS
MOST = 0.4  # of the KAN's parameters, for a MetaKAN that is compared with it
PUBLISHED_GRID = 5
# Test error and number of parameters of KAN and MetaKAN.
PUBLISHED = {
    "I.6.20a": (5.94e-4, 58, 3.88e-4, 218),
    "I.8.4": (1.30e-2, 979, 3.76e-3, 461),
    "I.9.18": (2.39e-3, 781, 1.70e-3, 993),
    "I.12.5": (1.32e-3, 57, 1.16e-4, 30),
    "I.15.3x": (1.57e-2, 223, 5.38e-3, 80),
}


class Contest(NamedTuple):
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


class Candidate(NamedTuple):
    """A network and how it starts; ``model`` is a key, see ``settings``."""

    model: str
    hidden: tuple[int, ...]
    start: int = 0


RESULTS = ["network", "candidates", "parameters", "edge_numbers", "iterations"]
RESULTS += ["validation_mse", "test_mse", "target_variance", "seconds"]


def add_command(commands: Any) -> None:
    parser = commands.add_parser("feynman", help="functions of the Feynman table, L-BFGS")
    add_options(parser, "seeds", "jobs", out=Path("out/paper"))
    parser.add_argument("--part", nargs="+", choices=["widths", "published"], metavar="PART")
    parser.add_argument("--functions", nargs="+", metavar="NAME", help="default: the eighteen")
    parser.add_argument("--ranges", choices=["paper", "table"], default="paper")
    parser.add_argument("--samples", type=int, default=1000, help="training rows, and test rows")
    parser.add_argument("--widths", nargs="+", default=["16-16"], help="of hidden layers")
    parser.add_argument("--grid-size", type=int, nargs="+", default=[5, 20], help="G")
    parser.add_argument("--meta-hidden-dim", type=int, nargs="+", default=[32, 64], help="H")
    parser.add_argument("--models", nargs="+", metavar="KEY", help="default: all")
    parser.add_argument("--max-iter", type=int, default=200)
    parser.add_argument("--tune-iter", type=int, default=40, help="of every candidate")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    todo, shown = list(contests(options)), "{function} {model} {validation_mse:.1e}"
    ledger = Ledger(options.out / "feynman.csv", Contest, RESULTS, options, shown)
    ledger.finish(todo, hold)
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
                case = (*common, grid_size, "", "metakan", *end, options.tune_iter)
                yield Contest("published", name, *case)
        if "widths" in parts:
            for name, widths, model in product(names, options.widths, models):
                yield Contest("widths", name, *common, grid_size, widths, model, *end, 0)


def contestants(hidden_dims: list[int]) -> list[str]:
    """Keys of the models of the part "widths"."""
    linear = ["linear-3-layer", "linear-2-layer", "linear-3", "linear-2"]
    return ["kan", *linear, *(f"{s}-{H}" for H in hidden_dims for s in ("sin", "relu", "paper"))]


def small_networks(n_inputs: int, grid_size: int, most: int) -> list[Candidate]:
    """The largest linear MetaKANs of at most this many parameters, each with a few starts.

    With 1, 2 or 3 functions in the one dictionary, and one hidden layer or two, of which the
    second is as wide as the first, half as wide, or between.
    """

    def n_edges(hidden: tuple[int, ...]) -> int:
        return sum(n_in * n_out for n_in, n_out in pairwise((n_inputs, *hidden, 1)))

    found = []
    for p in (1, 2, 3):
        room = most // p - (1 + grid_size + DEGREE)  # for edges
        one = [(width,) for width in range(1, room) if n_edges((width,)) <= room]
        two = [(width, second) for (width,) in one for second in range(-(-width // 2), width + 1)]
        for shapes in (one, two):
            counted = [(n_edges(hidden), hidden[-1], hidden) for hidden in shapes]
            fitting = [each for each in counted if each[0] <= room]
            if fitting:  # the most edges, then the widest at the end
                found.append((f"linear-{p}", max(fitting)[-1]))
    return [Candidate(model, hidden, start) for model, hidden in found for start in range(STARTS)]


def hold(contest: Contest) -> dict[str, Any]:
    """Choose a candidate, fit it, test it once."""
    start = time.perf_counter()
    X, y = make_feynman(
        contest.function, 2 * contest.n_samples, random_state=contest.seed, ranges=contest.ranges
    )
    train, test = slice(contest.n_samples), slice(contest.n_samples, None)
    if contest.part == "published":
        n_inputs, most = X.shape[1], PUBLISHED[contest.function][-1]
        candidates = small_networks(n_inputs, contest.grid_size, most)
        errors = [fit(contest, c, X[train], y[train], contest.tune_iter)[1] for c in candidates]
        chosen = candidates[int(np.argmin(errors))]
    else:
        chosen = Candidate(contest.model, tuple(map(int, contest.widths.split("-"))))
        candidates = [chosen]
    model, validation_mse = fit(contest, chosen, X[train], y[train], contest.max_iter)
    named = model.module_.named_parameters()
    return {
        "network": f"{chosen.model} {'-'.join(map(str, chosen.hidden))}",
        "candidates": len(candidates),
        "parameters": model.n_parameters_,
        # Without the meta-learners', which do not grow with the edges.
        "edge_numbers": sum(p.numel() for name, p in named if ".meta_learner." not in name),
        "iterations": model.n_iter_,
        "validation_mse": validation_mse,
        "test_mse": float(np.mean((model.predict(X[test]) - y[test]) ** 2)),
        "target_variance": float(y[test].var()),
        "seconds": round(time.perf_counter() - start, 2),
    }


def fit(
    contest: Contest, candidate: Candidate, X: NDArray[Any], y: NDArray[Any], max_iter: int
) -> tuple[KANRegressor, float]:
    """The fitted model and its mean square error on the validation rows."""
    held = round(VALIDATION * len(y))
    options = settings(candidate.model)
    net_params = options.pop("net_params", {}) | {"optimizer__history_size": HISTORY}
    model = (MetaKANRegressor if options else KANRegressor)(
        candidate.hidden,
        n_estimators=1,
        degree=DEGREE,
        solver="lbfgs",
        grid_size=contest.grid_size,
        max_iter=max_iter,
        tol=0.0,
        n_iter_no_change=max_iter,
        scale_inputs="minmax",
        precision="float64",
        random_state=contest.seed + 1000 * candidate.start,
        net_params=net_params,
        **options,
    )
    model.fit(X[held:], y[held:], X_val=X[:held], y_val=y[:held])
    return model, float(np.mean((model.predict(X[:held]) - y[:held]) ** 2))


def report(rows: pd.DataFrame) -> Iterator[str]:
    """Blocks of Markdown."""
    data = ["part", "ranges", "n_samples", "grid_size", "widths", "max_iter"]
    for (part, ranges, n_samples, grid_size, widths, max_iter), group in rows.groupby(data):
        title = f"n-{widths}-1" if part == "widths" else "No more parameters than published"
        yield f"### {title}, G = {grid_size}"
        yield (
            f"{ranges} ranges, {n_samples} training and as many test rows, at most {max_iter} "
            f"iterations, seeds {', '.join(sorted(set(group['seed'])))}."
        )
        yield from _same_widths(group) if part == "widths" else _beside_published(group)


def _beside_published(rows: pd.DataFrame) -> Iterator[str]:
    names = ["kan_error", "kan_parameters", "metakan_error", "metakan_parameters"]
    known = pd.DataFrame.from_dict(PUBLISHED, orient="index", columns=names)
    by_function = rows.groupby("function")
    found = by_function["test_mse"].agg(["mean", "min", "max"]).join(known)
    found["parameters"] = by_function["parameters"].max()
    found["networks"] = by_function["network"].agg(lambda each: ", ".join(sorted(set(each))))
    columns = {
        "function": "{function}",
        "published KAN": "{kan_error:.2e} ({kan_parameters:.0f})",
        "published MetaKAN": "{metakan_error:.2e} ({metakan_parameters:.0f})",
        "ours": "{mean:.2e} ({parameters:.0f})",
        "seeds": "{min:.2e} to {max:.2e}",
        "networks": "{networks}",
    }
    yield table(found.reset_index(), columns)
    yield goals(Goal(name, *found.loc[name, ["mean", "metakan_error"]]) for name in found.index)


def _same_widths(rows: pd.DataFrame) -> Iterator[str]:
    if "kan" not in set(rows["model"]):
        yield "There is no row of the KAN to compare with."
        return
    summary = summarise(rows)
    yield (
        f"Geometric means over {rows['function'].nunique()} functions and seeds, of errors in "
        "units of the target's variance; ratios over the fits that KAN and model both have."
    )
    columns = {
        "model": "{model}",
        "fits": "{fits:.0f}",
        "parameters": "{parameters:.0f}",
        "of KAN's, at most": "{share:.0%}",
        "without the constant": "{edge_share:.0%}",
        "validation": "{validation:.2e}",
        "test": "{test:.2e}",
        "test / KAN's": "{test_ratio:.2f}",
        "better than KAN": "{better:.0f} of {fits:.0f}",
    }
    yield table(summary.reset_index(), columns)
    # Validation rows choose a MetaKAN among those small enough and fitted throughout.
    small = summary["edge_share"].le(MOST) & summary["fits"].eq(summary.loc["kan", "fits"])
    small = summary[small & (summary.index != "kan")]
    if small.empty:
        yield f"No MetaKAN with at most {MOST:.0%} of the KAN's parameters has every fit."
    else:
        best = small["validation_ratio"].idxmin()
        what = f"{best}, chosen on the validation rows: test error / KAN's"
        yield goals([Goal(what, small.loc[best, "test_ratio"], 1.0)])
    yield "Test error in the function's units, mean over seeds:"
    errors = rows.pivot_table("test_mse", "function", "model", "mean", sort=False)[summary.index]
    columns = {name: f"{{{name}:.1e}}" for name in errors}
    yield table(errors.reset_index(), {"function": "{function}"} | columns)


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """By model, the KAN first; ratios and shares are to the KAN of the same function and seed."""
    pair, variance = ["function", "seed"], rows["target_variance"]
    rows = rows.assign(
        validation=rows["validation_mse"] / variance, test=rows["test_mse"] / variance
    )
    kan = rows.loc[rows["model"] == "kan", [*pair, "parameters", "validation", "test"]]
    rows = rows.merge(kan, on=pair, suffixes=("", "_kan"))
    by_model = rows.assign(
        share=rows["parameters"] / rows["parameters_kan"],
        edge_share=rows["edge_numbers"] / rows["parameters_kan"],
        better=rows["test"] < rows["test_kan"],
        validation_ratio=rows["validation"] / rows["validation_kan"],
        test_ratio=rows["test"] / rows["test_kan"],
    ).groupby("model", sort=False)
    means = ["validation", "test", "validation_ratio", "test_ratio"]
    summary = by_model[means].agg(lambda errors: np.exp(np.log(errors).mean()))
    summary["fits"], summary["better"] = by_model.size(), by_model["better"].sum()
    summary["parameters"] = by_model["parameters"].mean()
    summary[["share", "edge_share"]] = by_model[["share", "edge_share"]].max()
    return summary.sort_index(key=lambda names: names != "kan", kind="stable")
