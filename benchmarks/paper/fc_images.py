"""Fully connected KAN and MetaKAN on images, rows of pixels.

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
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from benchmarks.common.data import RESULTS, SHOWN, available, load_images, row_of_fit
from benchmarks.common.ledger import Ledger
from benchmarks.common.measure import add_options, free_memory, seconds
from benchmarks.common.report import Goal, constants, goals, publish, table
from benchmarks.paper.networks import settings
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
_ALL_AXES = [*(META_AXES | AXES["budget"] | AXES["best"])]
MODELS = {
    "budget": [
        *("kan", "silu-32-layer", "relu-16-layer", "sin-32"),
        *("paper-16-layer", "linear-2", "relu-32-layer", "paper-32-layer"),
    ],
    "best": ["sin-32", "kan"],
}
BETAS = {"optimizer__betas": (0.9, 0.999)}  # torch's


class Trial(NamedTuple):
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


def add_command(commands: Any) -> None:
    parser = commands.add_parser("fc-images", help="images, fully connected")
    add_options(parser, "data-dir", "seeds", "limit", "precision", "jobs", "minutes")
    add_options(parser, device="cpu", out=Path("out/paper"))
    parser.add_argument("--part", nargs="+", choices=[*AXES], default=["budget"], metavar="PART")
    parser.add_argument("--data", nargs="+", default=["fashion_mnist", "mnist", "kmnist"])
    parser.add_argument("--widths", nargs="+", default=["32"], help="of hidden layers")
    parser.add_argument("--models", nargs="+", metavar="KEY", help="default: all of the part")
    parser.add_argument("--axes", nargs="+", choices=_ALL_AXES, help="default: all of the part")
    parser.add_argument("--epochs", type=int, help="default: 10, or 40 for the part best")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """One axis after the other for all lines of the table at a time; then the tests."""
    axes_of = dict(lines(options))
    results = (*RESULTS, "loss")
    ledger = Ledger(options.out / "fc_images.csv", Trial, results, options, SHOWN)
    work = partial(hold, data_dir=options.data_dir, device=options.device)
    best = {start: start for start in axes_of}
    for step in range(max(map(len, axes_of.values()))):
        tries = {}
        for start in [start for start in best if step < len(axes_of[start])]:
            axis, values = axes_of[start][step]
            tries[start] = [best[start]._replace(**{axis: value}) for value in values]
        ledger.finish([trial for trials in tries.values() for trial in trials], work)
        for start, trials in tries.items():
            if all(trial in ledger for trial in trials):
                best[start] = max(trials, key=lambda trial: ledger.find(trial)["accuracy"])
            else:  # one failed, or time is up
                del best[start]
    chosen = [best_tried(ledger.rows(), start) for start in best]
    seeds = product(chosen, options.seeds)
    ledger.finish([trial._replace(rows="test", seed=seed) for trial, seed in seeds], work)
    publish(report(ledger.rows()), options.out / "fc_images.md")


def lines(options: argparse.Namespace) -> Iterator[tuple[Trial, list[tuple[str, tuple]]]]:
    """The first trial of each line of the table, and the axes to search, with their values."""
    for model in options.models or ():
        settings(model)  # a name that is wrong is an error now, not after minutes
    names = available(options.data, options.data_dir)
    for part in options.part:
        epochs = options.epochs or (10 if part == "budget" else 40)
        # Ranks of every column take longer than training, with copies.
        more = {"scale_inputs": "minmax"} if part == "best" else {}
        models = options.models or MODELS[part]
        for data, widths, model in product(names, options.widths, models):
            axes = AXES[part] if model == "kan" else META_AXES | AXES[part]
            chosen = [item for item in axes.items() if item[0] in (options.axes or axes)]
            start = (part, data, options.limit, widths, model, epochs, options.precision)
            yield Trial(*start, **more), chosen or [("rows", ("validation",))]


def best_tried(rows: pd.DataFrame, start: Trial) -> Trial:
    """The best on validation rows of all trials of a line, also of earlier calls.

    The first of equals, as in the report.
    """
    of_line = [*_LINE, "model"]
    same = (rows[of_line] == [str(getattr(start, name)) for name in of_line]).all(axis=1)
    best = rows.loc[rows["accuracy"].where(same & (rows["rows"] == "validation")).idxmax()]
    return Trial(**{name: kind(best[name]) for name, kind in Trial.__annotations__.items()})


def hold(trial: Trial, data_dir: Path, device: str) -> dict[str, Any]:
    """Fit, measure the accuracy."""
    data = load_images(trial.data, data_dir)
    if trial.rows == "test":
        fitted, scored = data.train.first(trial.limit), data.test.first(trial.limit)
    else:
        fitted, scored = data.fitted_and_held(trial.limit)
    given = fitted.with_shifted(trial.copies, trial.seed) if trial.copies else fitted
    options = settings(trial.model)
    kind = MetaKANClassifier if options else KANClassifier
    if options:
        options["meta_learning_rate"] = trial.meta_factor * trial.learning_rate
    direct = ("learning_rate", "weight_decay", "batch_size", "grid_size", "dropout", "precision")
    options |= {name: getattr(trial, name) for name in direct}
    options["net_params"] = options.get("net_params", {}) | BETAS
    model = kind(
        tuple(map(int, trial.widths.split("-"))),
        n_estimators=1,
        scale_inputs=None if trial.scale_inputs == "none" else trial.scale_inputs,
        max_iter=max(1, trial.epochs // (1 + trial.copies)),
        early_stopping=False,
        device=device,
        random_state=trial.seed,
        **options,
    )
    spent = seconds(partial(model.fit, given.rows_of_pixels(), given.y), device)
    accuracy = model.score(scored.rows_of_pixels(), scored.y)
    free_memory(device)
    row = row_of_fit(model, fitted, scored, accuracy, spent, data.note)
    return row | {"loss": model.loss_}


# 784-32-10 after ten epochs.
PUBLISHED = {
    "fashion_mnist": "KAN 87.06, MetaKAN 86.65 (H=16), 85.99 (H=32)",
    "kmnist": "KAN 79.57, MetaKAN 82.02",
}
PUBLISHED_WIDTHS = "32"
SMALL = 0.12  # of the KAN's parameters: one prompt number in place of nine coefficients
FMNIST_BUDGET, GAP, FMNIST_BEST = 86.7, 0.3, 88.5
MNIST_BEST, MNIST_PARAMETERS = 98.0, 105_000
_LINE = ["part", "data", "limit", "widths", "epochs", "precision"]
_SETTINGS = ["learning_rate", "weight_decay", "batch_size", "grid_size", "scale_inputs", "dropout"]
_SETTINGS += ["meta_factor", "copies"]
_COLUMNS = {
    "model": "{model}",
    "parameters": "{parameters:,}",
    "of KAN's": "{share:.1%}",
    "tried": "{tried}",
    "validation %": "{validation:.2f}",
    "test %": "{test:.2f} ± {spread:.2f}",
    "seeds": "{seeds}",
    "settings": ", ".join(f"{name} {{{name}}}" for name in _SETTINGS),
    "s a fit": "{seconds:.1f}",
}


def report(rows: pd.DataFrame) -> Iterator[str]:
    """Blocks of Markdown."""
    for (part, data, _, widths, epochs, _), group in rows.groupby(_LINE, sort=False):
        yield f"### {data}, n-{widths}-k, {epochs} epochs ({part})"
        chosen, tested = (group[group["rows"] == rows] for rows in ("validation", "test"))
        given = constants(group, ["limit", "precision", "device_name", "note"])
        fitted, scored = constants(chosen, ["fitted"]), constants(tested, ["scored"])
        yield f"{fitted} to choose settings; {scored} in tests; {given}."
        if (part, widths) == ("budget", PUBLISHED_WIDTHS) and data in PUBLISHED:
            yield f"Published, per cent: {PUBLISHED[data]}."
        summary = summarise(group)
        yield table(summary, _COLUMNS)
        found = list(_to_reach(part, data, widths, summary[summary["seeds"] > 0]))
        if found:
            yield goals(found)


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """By model: the settings that are best on the validation rows, and their tests."""
    lines = []
    for model, group in rows.groupby("model", sort=False):
        tried = group[group["rows"] == "validation"]
        if tried.empty:
            continue
        best = tried.loc[tried["accuracy"].idxmax()]
        same = (group[_SETTINGS] == best[_SETTINGS]).all(axis=1)
        tests = 100 * group.loc[same & (group["rows"] == "test"), "accuracy"]
        line = {"model": model, "tried": len(tried), "validation": 100 * best["accuracy"]}
        line |= {"test": tests.mean(), "spread": tests.std(ddof=0), "seeds": len(tests)}
        lines.append(line | {name: best[name] for name in ("parameters", "seconds", *_SETTINGS)})
    summary = pd.DataFrame(lines)
    of_kan = summary.loc[summary["model"] == "kan", "parameters"]
    return summary.assign(share=summary["parameters"] / of_kan.sum() if len(of_kan) else None)


def _to_reach(part: str, data: str, widths: str, tested: pd.DataFrame) -> Iterator[Goal]:
    """What was asked for, of the model that the validation rows choose."""

    def accuracy(rows: pd.DataFrame, limit: float) -> Goal:
        best = rows.loc[rows["validation"].idxmax()]
        what = f"{best['model']}, {best['parameters']:,} parameters: test %"
        return Goal(what, best["test"], limit, least=True)

    few = tested[tested["parameters"] <= MNIST_PARAMETERS]
    if part == "best":
        if data == "fashion_mnist" and len(tested):
            yield accuracy(tested, FMNIST_BEST)
        if (data, widths) == ("mnist", "64") and len(few):
            yield accuracy(few, MNIST_BEST)
        return
    kan, meta = tested[tested["model"] == "kan"], tested[tested["model"] != "kan"]
    if data == "fashion_mnist" and widths == PUBLISHED_WIDTHS and len(meta):
        yield accuracy(meta, FMNIST_BUDGET)
    small = meta[meta["share"].astype(float) <= SMALL]
    if len(kan) and len(small):
        best = small.loc[small["validation"].idxmax()]
        what = f"{best['model']}, {best['share']:.1%} of the KAN's parameters: points below the KAN"
        yield Goal(what, kan["test"].iloc[0] - best["test"], GAP)
