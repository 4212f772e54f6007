"""Convolutional KAN and MetaKAN of four or eight layers.

Two parts. "main": B-splines, Gaussians and polynomials, each with its own coefficients and with
generated ones. "ablation": B-splines with other grids, norms, starting values and prompts, to
find what the published figures of B-splines suffer from.

A row is one fit to the training rows but for the last 5,000 of the shuffled ones. After each
epoch accuracy is measured on these, and the weights of the epoch with their smallest loss are
tested, once. Networks are fixed beforehand. Of several learning rates, and factors on those of
prompts, that with the highest accuracy on the 5,000 rows in a few epochs is chosen.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from benchmarks.common.data import RESULTS, SHOWN, available, load_images, row_of_fit
from benchmarks.common.ledger import Ledger
from benchmarks.common.measure import add_options, free_memory, seconds
from benchmarks.common.report import constants, publish, table
from benchmarks.paper import networks

VALIDATION_ROWS = 5000
_ALL = [*(networks.NETWORKS | networks.ABLATION | networks.META_ABLATION)]
_IN_COLOUR = ("svhn", "cifar10", "cifar100")


class Trial(NamedTuple):
    """A fit; ``limit`` is how many training rows, and test rows, are used at most, 0 for all.

    ``purpose`` is "choice", of learning rates, or "test". Prompts learn at
    ``prompt_factor`` times the learning rate.
    """

    part: str
    data: str
    limit: int
    layers: int
    network: str
    source: str
    epochs: int
    batch_size: int
    learning_rate: float
    prompt_factor: float
    weight_decay: float
    precision: str
    seed: int
    purpose: str = "test"


def add_command(commands: Any) -> None:
    parser = commands.add_parser("conv-images", help="images, convolutional")
    add_options(parser, "data-dir", "limit", "precision", "jobs", "minutes")
    add_options(parser, seeds=[0], device="cpu", out=Path("out/paper"))
    parser.add_argument("--part", choices=["main", "ablation"], default="main")
    parser.add_argument("--data", nargs="+", default=["mnist", "cifar10"])
    parser.add_argument("--networks", nargs="+", choices=_ALL, help="default: all of the part")
    parser.add_argument("--sources", nargs="+", default=["kan", "meta-64"], metavar="KEY")
    parser.add_argument("--layers", type=int, choices=sorted(networks.CHANNELS), default=4)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, nargs="+", default=[0.01])
    parser.add_argument("--prompt-factor", type=float, nargs="+", default=[10.0])
    parser.add_argument("--search-epochs", type=int, default=3, help="where several are given")
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    cases = list(candidates(options))
    choice = {"epochs": options.search_epochs, "purpose": "choice"}
    tries = [[t._replace(**choice) for t in case] if len(case) > 1 else [] for case in cases]
    results = (*RESULTS, "best_validation", "curve")
    ledger = Ledger(options.out / "conv_images.csv", Trial, results, options, SHOWN)
    work = partial(hold, data_dir=options.data_dir, device=options.device)
    ledger.finish([*chain(*tries)], work)
    best = []
    for case, tried in zip(cases, tries, strict=True):
        rows = [ledger.find(trial) for trial in tried]
        if None not in rows:  # else a fit that chooses is still missing
            accuracies = [row["accuracy"] for row in rows] or [1.0]
            best.append(case[accuracies.index(max(accuracies))])
    ledger.finish(best, work)
    publish(report(ledger.rows()), options.out / "conv_images.md")


def candidates(options: argparse.Namespace) -> Iterator[list[Trial]]:
    """For each line of the table its trials, of which one is tested."""
    known = [*networks.NETWORKS] if options.part == "main" else networks.ablation("meta")
    for source in options.sources:
        networks.conv_settings(source, 1.0, 1.0)  # a name that is wrong is an error now
    every = product(available(options.data, options.data_dir), options.seeds)
    for (data, seed), network in product(every, options.networks or known):
        for source in options.sources:
            if options.part == "ablation" and network not in networks.ablation(source):
                continue
            common = (options.part, data, options.limit, options.layers, network, source)
            common += (options.epochs, options.batch_size)
            end = (options.weight_decay, options.precision, seed)
            factors = [1.0] if source == "kan" else options.prompt_factor
            rates = product(options.learning_rate, factors)
            yield [Trial(*common, rate, factor, *end) for rate, factor in rates]


def hold(trial: Trial, data_dir: Path, device: str) -> dict[str, Any]:
    """Fit, and test unless it is for a choice."""
    data = load_images(trial.data, data_dir)
    fitted, held = data.fitted_and_held(trial.limit, VALIDATION_ROWS)
    names = ("network", "source", "layers", "learning_rate", "prompt_factor", "weight_decay")
    model = networks.conv_estimator(
        **{name: getattr(trial, name) for name in (*names, "batch_size", "precision")},
        augment="flip_crop" if trial.data in _IN_COLOUR else None,
        max_iter=trial.epochs,
        device=device,
        random_state=trial.seed,
    )
    fit = partial(model.fit, fitted.X, fitted.y, X_val=held.X, y_val=held.y)
    spent, scored, accuracy = seconds(fit, device), held, model.best_validation_score_
    if trial.purpose == "test":
        scored = data.test.first(trial.limit)
        accuracy = model.score(scored.X, scored.y)
    row = row_of_fit(model, fitted, scored, accuracy, spent, data.note)
    row["best_validation"] = model.best_validation_score_
    row["curve"] = " ".join(f"{score:.4f}" for score in model.validation_scores_)
    del model, fit
    free_memory(device)
    return row


# Per cent after 150 epochs, four layers; of the KAN, and of the MetaKAN.
PUBLISHED = {
    ("mnist", "bspline"): {False: 98.43, True: 96.03},
    ("mnist", "rbf"): {False: 99.36, True: 98.54},
    ("mnist", "gram"): {False: 99.15, True: 99.21},
    ("cifar10", "bspline"): {False: 41.92, True: 45.97},
    ("cifar10", "rbf"): {False: 68.12, True: 66.69},
}
_TABLE = ["part", "data", "limit", "layers", "batch_size", "precision"]
_LINE = ["network", "source"]
_COLUMNS = {
    "network": "{network}",
    "source": "{source}",
    "parameters": "{parameters:,}",
    "tried": "{tried:.0f}",
    "rate": "{rates}",
    "of prompts": "{factors}",
    "validation %, by epoch": "{curve}",
    "test %": "{test:.2f} ± {spread:.2f}",
    "seeds": "{seeds}",
    "published, 150 epochs": "{published:.2f}",
    "minutes a fit": "{minutes:.2f}",
}


def report(rows: pd.DataFrame) -> Iterator[str]:
    """Blocks of Markdown; fits that choose are only counted."""
    is_test = rows["purpose"] == "test"
    choice = [*_TABLE, "weight_decay", *_LINE]
    tries = rows[~is_test].groupby([*choice, "seed"]).size().groupby(choice).max()
    for values, group in rows[is_test].groupby([*_TABLE, "epochs"], sort=False):
        part, data, _, layers, *_, epochs = values
        yield f"### {data}, {layers} layers, {epochs} epochs ({part})"
        given = ["limit", "batch_size", "precision", "weight_decay", "device_name"]
        given = constants(group, [*given, "fitted", "note"])
        yield f"{given}; meta-learners at {networks.META_FACTOR:g} of the rate."
        group = group.join(tries.rename("tried"), on=choice).fillna({"tried": 0})
        found = group.groupby(_LINE, sort=False).apply(summarise, include_groups=False)
        found = found.reset_index()
        if layers == "4":
            pairs = zip(found["network"], found["source"], strict=True)
            found["published"] = [
                PUBLISHED.get((data, n), (None,) * 2)[s != "kan"] for n, s in pairs
            ]
        yield table(found, _COLUMNS)


def summarise(fits: pd.DataFrame) -> pd.Series:
    """One network and source: means over its seeds."""
    accuracies, curve = 100 * fits["accuracy"], fits["curve"].iloc[0]
    rates, factors = ("/".join(fits[k].unique()) for k in ("learning_rate", "prompt_factor"))
    found = {"rates": rates, "factors": factors, "curve": shortened(curve), "seeds": len(fits)}
    found |= {"test": accuracies.mean(), "spread": accuracies.std(ddof=0)}
    found |= {"parameters": fits["parameters"].iloc[0], "tried": fits["tried"].max()}
    return pd.Series(found | {"minutes": fits["seconds"].mean() / 60})


def shortened(curve: str, most: int = 8) -> str:
    """Accuracies in per cent; of many epochs, some evenly spaced ones and the last."""
    scores = [f"{100 * float(score):.1f}" for score in str(curve).split()]
    step = -(-len(scores) // most)
    return " ".join(scores[::-1][::step][::-1])
