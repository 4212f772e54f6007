"""`paper.py conv-images`: convolutional KAN and MetaKAN of four or eight layers.

Two parts. "main": B-splines, Gaussians and polynomials, each with its own coefficients and with
generated ones. "ablation": B-splines with other grids, norms, starting values and prompts, to
find what the published figures of B-splines suffer from.

A row is one fit to the training rows but for the last 5,000 of the shuffled ones. After each
epoch accuracy is measured on these, and the weights of the epoch with their smallest loss are
tested, once. Networks and rates are fixed beforehand: nothing is searched.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from _images_data import available, load
from _images_runs import Clock, carry_out, free
from _ledger import Ledger
from _markdown import publish
from _paper_conv_networks import CHANNELS, NETWORKS, ablation, estimator, sources
from _paper_conv_report import report
from _report import device_name

VALIDATION_ROWS = 5000
_IN_COLOUR = ("svhn", "cifar10", "cifar100")


@dataclass(frozen=True)
class Trial:
    """A fit; ``limit`` is how many training rows, and test rows, are used at most, 0 for all."""

    part: str
    data: str
    limit: int
    layers: int
    network: str
    source: str
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    precision: str
    seed: int


KEY = [field.name for field in fields(Trial)]
RESULTS = ["fitted", "scored", "parameters", "accuracy", "best_validation", "curve", "captured"]
RESULTS += ["seconds", "device", "note"]


def add_command(commands: Any) -> None:
    parser = commands.add_parser("conv-images", help="images, convolutional")
    parser.add_argument("--part", choices=["main", "ablation"], default="main")
    parser.add_argument("--data", nargs="+", default=["mnist", "cifar10"])
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="default: all of the part")
    parser.add_argument("--sources", nargs="+", default=["kan", "meta-64"], metavar="KEY")
    parser.add_argument("--layers", type=int, choices=sorted(CHANNELS), default=4)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--limit", type=int, default=0, help="rows at most; 0: all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--minutes", type=float, help="after which no further fit is started")
    parser.add_argument("--out", type=Path, default=Path("out/paper"))
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    clock = Clock(options.minutes)
    ledger = Ledger(options.out / "conv_images.csv", KEY + RESULTS, KEY)
    todo = [trial for trial in trials(options) if trial.__dict__ not in ledger]
    work = partial(hold, data_dir=options.data_dir, device=options.device)
    for _ in carry_out(todo, work, ledger, clock):
        pass
    publish(report(ledger.rows()), options.out / "conv_images.md")


def trials(options: argparse.Namespace) -> Iterator[Trial]:
    """Seed by seed and data set by data set, so that each is loaded once a seed."""
    for data, seed in product(available(options.data, options.data_dir), options.seeds):
        known = [*NETWORKS] if options.part == "main" else ablation("meta")
        for name in options.networks or ():
            if name not in known:
                raise ValueError(f"There is no network {name!r}; known: {', '.join(known)}.")
        for network, source in product(options.networks or known, sources(options.sources)):
            if options.part == "ablation" and network not in ablation(source):
                continue
            yield Trial(
                options.part,
                data,
                options.limit,
                options.layers,
                network,
                source,
                options.epochs,
                options.batch_size,
                options.learning_rate,
                options.weight_decay,
                options.precision,
                seed,
            )


def hold(trial: Trial, data_dir: Path, device: str) -> dict[str, Any]:
    """Fit and test."""
    data = load(trial.data, data_dir)
    fitted, held = data.fitted_and_held(trial.limit, VALIDATION_ROWS)
    model = estimator(
        trial.network,
        trial.source,
        n_layers=trial.layers,
        augment="flip_crop" if trial.data in _IN_COLOUR else None,
        learning_rate=trial.learning_rate,
        weight_decay=trial.weight_decay,
        batch_size=trial.batch_size,
        max_iter=trial.epochs,
        device=device,
        precision=trial.precision,
        random_state=trial.seed,
    )
    start = time.perf_counter()
    model.fit(fitted.X, fitted.y, X_val=held.X, y_val=held.y)
    seconds = time.perf_counter() - start
    tested = data.tested(trial.limit)
    accuracy = float(model.score(tested.X, tested.y))
    curve = model.validation_scores_
    row = {
        "fitted": len(fitted.y),
        "scored": len(tested.y),
        "parameters": model.n_parameters_,
        "accuracy": accuracy,
        "best_validation": model.best_validation_score_,
        "curve": " ".join(f"{score:.4f}" for score in curve),
        "captured": model.cuda_graph_,
        "seconds": round(seconds, 2),
        "device": device_name(torch.device(device)),
        "note": data.note,
    }
    del model
    free(device)
    return row
