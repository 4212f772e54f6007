"""`paper.py fc-images`: fully connected KAN and MetaKAN on images, rows of pixels.

Two parts. "budget": the paper's ten epochs. "best": more epochs, with dropout
and shifted images.

In both, KAN and MetaKANs search the same settings, one axis after the other: each value of an
axis is tried with the best values so far, fitted to the training rows but for the last 10,000 of
the shuffled ones and compared on these. MetaKANs have one axis more, their meta-learner's rate,
which comes first. The best settings of all are then fitted to all training rows, once for each
seed, and every such fit is tested once. Weights are those after the last epoch: there is no early
stopping. Pixels are float32 in [0, 1].
"""

import argparse
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _images_data import Images, available, load
from _images_runs import Clock, carry_out, free
from _ledger import Ledger
from _markdown import publish
from _paper_images_report import report
from _paper_networks import settings
from _report import device_name
from numpy.typing import NDArray

from sklearn_metakan import KANClassifier, MetaKANClassifier

# The values that are tried; those of the first trial are Trial's defaults.
AXES: dict[str, dict[str, tuple[Any, ...]]] = {
    "budget": {
        "learning_rate": (0.003, 0.01, 0.03, 0.1),
        "weight_decay": (0.02, 0.1, 0.5),
        "scale_inputs": ("auto", "minmax", "none"),
        "grid_size": (3, 5, 10),
        "batch_size": (128, 256),
    },
    "best": {
        "learning_rate": (0.01, 0.03),
        "copies": (0, 3),
        "dropout": (0.0, 0.2, 0.4),
        "weight_decay": (0.1, 0.5),
    },
}
META_AXES: dict[str, tuple[Any, ...]] = {"meta_factor": (0.1, 0.3, 1.0)}  # of MetaKANs alone, first
MODELS = {
    "budget": [
        *("kan", "silu-32-layer", "relu-16-layer", "sin-32"),
        *("paper-16-layer", "linear-2", "relu-32-layer", "paper-32-layer"),
    ],
    "best": ["sin-32", "kan"],
}


@dataclass(frozen=True)
class Trial:
    """A fit: of which table, on which rows, with which settings.

    ``limit`` is how many training rows, and test rows, are used at most, 0 for all; ``rows``
    says on which the accuracy is measured, "validation" or "test". ``meta_factor`` is the
    meta-learner's learning rate in units of that of all else. ``copies`` is how many copies of
    every fitted image join it, shifted by a pixel; there are then as many steps, not passes.
    """

    part: str
    data: str
    limit: int
    widths: str
    model: str
    epochs: int
    precision: str
    rows: str = "validation"
    seed: int = 0
    learning_rate: float = 0.03
    weight_decay: float = 0.1
    batch_size: int = 256
    grid_size: int = 5
    scale_inputs: str = "auto"  # "none": as they are
    dropout: float = 0.0
    meta_factor: float = 1.0
    copies: int = 0


KEY = [field.name for field in fields(Trial)]
RESULTS = ["fitted", "scored", "parameters", "accuracy", "loss", "captured", "seconds", "device"]
RESULTS += ["note"]


def add_command(commands: Any) -> None:
    parser = commands.add_parser("fc-images", help="images, fully connected")
    parser.add_argument("--part", nargs="+", choices=[*AXES], default=["budget"], metavar="PART")
    parser.add_argument("--data", nargs="+", default=["fashion_mnist", "mnist", "kmnist"])
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    parser.add_argument("--widths", nargs="+", default=["32"], help="of hidden layers")
    parser.add_argument("--models", nargs="+", metavar="KEY", help="default: all of the part")
    parser.add_argument("--axes", nargs="+", metavar="NAME", help="default: all of the part")
    parser.add_argument("--epochs", type=int, help="default: 10, or 40 for the part best")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--limit", type=int, default=0, help="rows at most; 0: all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--jobs", type=int, default=1, help="fits at a time")
    parser.add_argument("--minutes", type=float, help="after which no further fit is started")
    parser.add_argument("--out", type=Path, default=Path("out/paper"))
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    clock, searches = Clock(options.minutes), list(_searches(options))
    ledger = Ledger(options.out / "fc_images.csv", KEY + RESULTS, KEY)
    work = partial(hold, data_dir=options.data_dir, device=options.device)
    while searches and not clock.is_up:
        accuracies = _accuracies(ledger)
        steps = [(search, search.next_trials(accuracies)) for search in searches]
        searches = [search for search, trials in steps if trials]
        if not searches:
            break
        todo = [trial for _, trials in steps for trial in trials]
        for failed in carry_out(todo, work, ledger, clock, options.jobs):
            searches = [each for each in searches if not each.is_of(failed)]
    publish(report(ledger.rows()), options.out / "fc_images.md")


@dataclass(frozen=True)
class Search:
    """One line of the table: its first trial, the axes to search, and the seeds to test."""

    start: Trial
    axes: Mapping[str, tuple[Any, ...]]
    seeds: tuple[int, ...]

    def next_trials(self, accuracies: Mapping[Trial, float]) -> list[Trial]:
        """Those that the search needs now; none where it is done."""
        best = self.start
        for axis, values in self.axes.items():
            trials = [replace(best, **{axis: value}) for value in values]
            lacking = [trial for trial in trials if trial not in accuracies]
            if lacking:
                return lacking
            best = max(trials, key=accuracies.__getitem__)
        tried = [t for t in accuracies if self.is_of(t) and t.rows == "validation"]
        if not tried:
            return [self.start]
        best = max(tried, key=accuracies.__getitem__)  # the first of equals, as in the report
        tests = [replace(best, rows="test", seed=seed) for seed in self.seeds]
        return [trial for trial in tests if trial not in accuracies]

    def is_of(self, trial: Trial) -> bool:
        names = ("part", "data", "limit", "widths", "model", "epochs", "precision")
        return all(getattr(trial, name) == getattr(self.start, name) for name in names)


def _searches(options: argparse.Namespace) -> Iterator[Search]:
    for model in options.models or ():
        settings(model)  # a name that is wrong is an error now, not after minutes
    known = sorted({axis for part in options.part for axis in AXES[part] | META_AXES})
    for axis in options.axes or ():
        if axis not in known:
            raise ValueError(f"There is no axis {axis!r}; known: {', '.join(known)}.")
    names = available(options.data, options.data_dir)
    for part in options.part:
        epochs = options.epochs or (10 if part == "budget" else 40)
        models = options.models or MODELS[part]
        for data, widths, model in product(names, options.widths, models):
            axes = AXES[part] if model == "kan" else META_AXES | AXES[part]
            if options.axes:
                axes = {axis: values for axis, values in axes.items() if axis in options.axes}
            start = Trial(part, data, options.limit, widths, model, epochs, options.precision)
            if part == "best":  # ranks of every column take longer than training, with copies
                start = replace(start, scale_inputs="minmax")
            yield Search(start, axes, tuple(options.seeds))


def _accuracies(ledger: Ledger) -> dict[Trial, float]:
    kinds = {field.name: field.type for field in fields(Trial)}
    return {
        Trial(**{name: kinds[name](row[name]) for name in KEY}): float(row["accuracy"])
        for row in ledger.rows().to_dict("records")
    }


def hold(trial: Trial, data_dir: Path, device: str) -> dict[str, Any]:
    """Fit, measure the accuracy."""
    data = load(trial.data, data_dir)
    if trial.rows == "test":
        fitted, scored = data.all_fitted(trial.limit), data.tested(trial.limit)
    else:
        fitted, scored = data.fitted_and_held(trial.limit)
    given = fitted.with_shifted(trial.copies, trial.seed) if trial.copies else fitted
    start = time.perf_counter()
    model = estimator(trial, device).fit(_pixels(given), given.y)
    accuracy = float(model.score(_pixels(scored), scored.y))
    seconds = time.perf_counter() - start
    free(device)
    return {
        "fitted": len(fitted.y),
        "scored": len(scored.y),
        "parameters": model.n_parameters_,
        "accuracy": accuracy,
        "loss": model.loss_,
        "captured": model.cuda_graph_,
        "seconds": round(seconds, 2),
        "device": device_name(torch.device(device)),
        "note": data.note,
    }


def _pixels(images: Images) -> NDArray[np.float32]:
    return images.X.reshape(len(images.X), -1) / np.float32(255)


def estimator(trial: Trial, device: str) -> KANClassifier | MetaKANClassifier:
    kind = KANClassifier if trial.model == "kan" else MetaKANClassifier
    options = settings(trial.model)
    if trial.model != "kan":
        options["meta_learning_rate"] = trial.meta_factor * trial.learning_rate
    init = {"module__init": "paper"} if trial.model.startswith("paper") else None
    return kind(
        tuple(map(int, trial.widths.split("-"))),
        learning_rate=trial.learning_rate,
        weight_decay=trial.weight_decay,
        batch_size=trial.batch_size,
        grid_size=trial.grid_size,
        scale_inputs=None if trial.scale_inputs == "none" else trial.scale_inputs,
        dropout=trial.dropout,
        max_iter=max(1, trial.epochs // (1 + trial.copies)),
        early_stopping=False,
        device=device,
        precision=trial.precision,
        random_state=trial.seed,
        net_params=init,
        **options,
    )
