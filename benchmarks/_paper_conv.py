"""`paper.py conv-images`: convolutional KAN and MetaKAN of four or eight layers.

Two parts. "main": B-splines, Gaussians and polynomials, each with its own coefficients and with
generated ones. "ablation": B-splines with other grids, norms, starting values and prompts, to
find what the published figures of B-splines suffer from.

A row is one fit to the training rows but for the last 5,000 of the shuffled ones. After each
epoch accuracy is measured on these, and the weights of the epoch with their smallest loss are
tested, once. Networks are fixed beforehand. Of several learning rates, and factors on those of
prompts, that with the highest accuracy on the 5,000 rows in a few epochs is chosen.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields, replace
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
    parser.add_argument("--learning-rate", type=float, nargs="+", default=[0.01])
    parser.add_argument("--prompt-factor", type=float, nargs="+", default=[10.0])
    parser.add_argument("--search-epochs", type=int, default=3, help="where several are given")
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--limit", type=int, default=0, help="rows at most; 0: all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--jobs", type=int, default=1, help="fits at a time")
    parser.add_argument("--minutes", type=float, help="after which no further fit is started")
    parser.add_argument("--out", type=Path, default=Path("out/paper"))
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    clock, cases = Clock(options.minutes), list(candidates(options))
    ledger = Ledger(options.out / "conv_images.csv", KEY + RESULTS, KEY)
    work = partial(hold, data_dir=options.data_dir, device=options.device)

    def finish(trials: Sequence[Trial]) -> None:
        todo = [trial for trial in trials if trial.__dict__ not in ledger]
        for _ in carry_out(todo, work, ledger, clock, options.jobs):
            pass

    tries = partial(_tries, epochs=options.search_epochs)
    finish([trial for case in cases for trial in tries(case)])
    finish([best for case in cases if (best := _best(case, tries(case), ledger))])
    publish(report(ledger.rows()), options.out / "conv_images.md")


def candidates(options: argparse.Namespace) -> Iterator[list[Trial]]:
    """For each line of the table its trials, of which one is tested."""
    for data, seed in product(available(options.data, options.data_dir), options.seeds):
        known = [*NETWORKS] if options.part == "main" else ablation("meta")
        for name in options.networks or ():
            if name not in known:
                raise ValueError(f"There is no network {name!r}; known: {', '.join(known)}.")
        for network, source in product(options.networks or known, sources(options.sources)):
            if options.part == "ablation" and network not in ablation(source):
                continue
            factors = [1.0] if source == "kan" else options.prompt_factor
            yield [
                Trial(
                    options.part,
                    data,
                    options.limit,
                    options.layers,
                    network,
                    source,
                    options.epochs,
                    options.batch_size,
                    rate,
                    factor,
                    options.weight_decay,
                    options.precision,
                    seed,
                )
                for rate, factor in product(options.learning_rate, factors)
            ]


def _tries(case: Sequence[Trial], epochs: int) -> list[Trial]:
    """The fits that choose among several; in the order of the trials."""
    if len(case) == 1:
        return []
    return [replace(trial, epochs=epochs, purpose="choice") for trial in case]


def _best(case: Sequence[Trial], tries: Sequence[Trial], ledger: Ledger) -> Trial | None:
    """The one to test; none where a fit that chooses is still missing."""
    if not tries:
        return case[0]
    rows = ledger.rows()
    found = dict(zip(rows[KEY].itertuples(index=False, name=None), rows["accuracy"], strict=True))
    accuracies = [found.get(tuple(map(str, astuple(trial)))) for trial in tries]
    if None in accuracies:
        return None
    return case[accuracies.index(max(accuracies))]


def hold(trial: Trial, data_dir: Path, device: str) -> dict[str, Any]:
    """Fit, and test unless it is for a choice."""
    data = load(trial.data, data_dir)
    fitted, held = data.fitted_and_held(trial.limit, VALIDATION_ROWS)
    model = estimator(
        trial.network,
        trial.source,
        n_layers=trial.layers,
        augment="flip_crop" if trial.data in _IN_COLOUR else None,
        learning_rate=trial.learning_rate,
        prompt_factor=trial.prompt_factor,
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
    curve = model.validation_scores_
    scored, accuracy = held, model.best_validation_score_
    if trial.purpose == "test":
        scored = data.tested(trial.limit)
        accuracy = float(model.score(scored.X, scored.y))
    row = {
        "fitted": len(fitted.y),
        "scored": len(scored.y),
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
