"""Estimators with their defaults beside others with theirs, on the same splits of many tables.

    python -m benchmarks.tables [--quick] [--sets NAME ...] [--peers NAME ...] [--splits N]

A process and a thread a fit, a row of the CSV each; a run that was stopped goes on. Prints what the
CSV holds of the sets and models asked for: errors, ranks, wins, seconds, memory.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from functools import partial
from math import inf
from pathlib import Path

import pandas as pd
from joblib import parallel_config

from benchmarks.common.data import MissingData
from benchmarks.common.ledger import Ledger
from benchmarks.common.measure import add_options
from benchmarks.common.report import publish
from benchmarks.tables.fit import RESULTS, Trial, run
from benchmarks.tables.peers import ENCODED, PEERS, peer_of
from benchmarks.tables.picture import draw
from benchmarks.tables.report import comparisons, labelled, report
from benchmarks.tables.sets import GROUPS, SETS, load_fold, n_splits

QUICK_SETS = ("uci_yacht", "uci_energy", "uci_concrete", "credit_g", "phoneme")
QUICK_PEERS = ("linear", "mlp", "histgb", "kan", "metakan")
QUICK_SPLITS = 2
SPLITS_AT_MOST = 20
SHOWN = "{model} {data} {error:.4g} in {fit_seconds:.1f} s"


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    ledger = finished(options)
    rows = asked(ledger.rows(), options)
    if rows.empty:
        raise SystemExit(f"{ledger.path} has no rows of these sets and models.")
    publish(report(rows), options.out / "tables.md")
    draw(
        {name: each.ranks() for name, each in comparisons(rows).items()}, options.out / "ranks.png"
    )


def finished(options: argparse.Namespace) -> Ledger:
    """The rows that the options ask for, those that were missing fitted now."""
    ledger = Ledger(options.out / "tables.csv", Trial, RESULTS, options, SHOWN)
    if not options.report:
        todo = [*trials(options)]
        where = {"data_dir": options.data_dir, "peers_dir": options.peers_dir}
        fit = partial(run, **where, processes=options.processes)
        with parallel_config("threading"):  # that wait for a process each
            ledger.finish(todo, fit)
    return ledger


def asked(rows: pd.DataFrame, options: argparse.Namespace) -> pd.DataFrame:
    """Of the sets, models and splits that the command is about; without peers, of all models."""
    rows = rows.astype({"split": int, "max_rows": int})
    models = [*options.peers, *dict(options.settings)] if options.chosen else rows["model"]
    return labelled(
        rows[
            rows["data"].isin(options.sets)
            & rows["model"].isin(models)
            & (rows["split"] < (options.splits or inf))
            & (rows["max_rows"] == options.max_rows)
            & (rows["scored"] == scored(options))
        ]
    )


def scored(options: argparse.Namespace) -> str:
    return "held out" if options.held_out else "test"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.tables", description=__doc__.splitlines()[0])
    add_options(parser, "data-dir", "jobs", "minutes", device="cpu", out=Path("out/tables"))
    add = parser.add_argument
    add("--quick", action="store_true", help="five small sets, five models, two splits")
    add("--sets", nargs="+", choices=[*GROUPS, *SETS], metavar="NAME", help="or groups of them")
    add("--peers", nargs="*", choices=PEERS, metavar="NAME", help="default: all, ours as they come")
    add("--settings", nargs="+", type=named, default=[], metavar="NAME:JSON",
        help="variants, such as 'metakan-wide:{\"hidden_layer_sizes\": [256]}'")  # fmt: skip
    add("--peers-dir", type=Path, help="folder of a checkout of efficient-kan")
    add("--processes", type=int, default=1, help="of a fit of EBM; default: 1")
    add("--splits", type=int, help="the first so many of each set; default: all")
    add("--max-rows", type=int, default=0, help="training rows at most; default: all")
    add("--held-out", action="store_true",
        help="score on a fifth of the training rows, to choose by")  # fmt: skip
    add("--report", action="store_true", help="fit nothing")
    options = parser.parse_args(arguments)
    sets, peers, n = (
        (QUICK_SETS, QUICK_PEERS, QUICK_SPLITS)
        if options.quick
        else (SETS, [name for name in PEERS if name not in ENCODED], None)
    )
    options.sets = [name for each in options.sets or sets for name in GROUPS.get(each, [each])]
    options.chosen = options.quick or options.peers is not None
    options.peers = [*(peers if options.peers is None else options.peers)]
    options.splits = options.splits or n
    return options


def named(text: str) -> tuple[str, str]:
    """Of 'name:json'; JSON in one spelling, so that it is found again."""
    name, colon, settings = text.partition(":")
    try:
        if not colon or not isinstance(found := json.loads(settings), dict):
            raise ValueError("what follows the name and a colon must be a JSON object.")
        if name == peer_of(name):
            raise ValueError(f"the variant of {name!r} needs a name of its own, as {name}-wide.")
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error
    return name, json.dumps(found, sort_keys=True)


def present(names: Sequence[str], peers_dir: Path | None) -> list[str]:
    """Those that are installed; names the others."""
    missing = [name for name in names if not PEERS[name].is_there(peers_dir)]
    for name in missing:
        print(f"{name} is left out: {PEERS[name].package} is not installed.")
    return [name for name in names if name not in missing]


def trials(options: argparse.Namespace) -> Iterator[Trial]:
    """Split by split, so that a run that is stopped has something of everything."""
    models = dict.fromkeys(present(options.peers, options.peers_dir), "") | dict(options.settings)
    most = {}
    for name in options.sets:
        try:
            load_fold(name, 0, options.data_dir)
            most[name] = min(n_splits(name, options.data_dir), options.splits or SPLITS_AT_MOST)
        except MissingData as missing:
            print(f"{name} is left out. {missing}")
    for split in range(max(most.values(), default=0)):
        for name in [name for name in most if split < most[name]]:
            for model, settings in models.items():
                device = options.device if PEERS[peer_of(model)].on_card else "cpu"
                yield Trial(name, split, model, settings, scored(options), options.max_rows, device)


if __name__ == "__main__":
    main()
