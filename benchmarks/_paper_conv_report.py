"""The rows of `paper.py conv-images` as Markdown, beside what was published."""

from collections.abc import Iterator

import pandas as pd
from _markdown import table
from _paper_conv_networks import META_FACTOR

# Per cent after 150 epochs, four layers; of the KAN and of the MetaKAN.
PUBLISHED = {
    ("mnist", "bspline"): (98.43, 96.03),
    ("mnist", "rbf"): (99.36, 98.54),
    ("mnist", "gram"): (99.15, 99.21),
    ("cifar10", "bspline"): (41.92, 45.97),
    ("cifar10", "rbf"): (68.12, 66.69),
}
_TABLE = ["part", "data", "limit", "layers", "batch_size", "precision"]
_GROUP = [*_TABLE, "epochs"]
_CHOICE = [*_TABLE, "weight_decay", "network", "source", "seed"]


def report(rows: pd.DataFrame) -> Iterator[str]:
    """Lines of Markdown; fits that choose are only counted."""
    is_test = rows["purpose"] == "test"
    tries = rows[~is_test].groupby(_CHOICE).size().to_dict()
    for values, group in rows[is_test].groupby(_GROUP, sort=False):
        part, data, limit, layers, batch_size, precision, epochs = values
        yield f"### {data}, {layers} layers, {epochs} epochs ({part})"
        yield ""
        yield _conditions(group, limit, batch_size, precision)
        yield ""
        header = ["network", "source", "parameters", "tried", "rate", "of prompts"]
        header += ["validation %, by epoch", "test %", "seeds"]
        header += ["published, 150 epochs", "minutes a fit"]
        known = PUBLISHED if str(layers) == "4" else {}
        lines = []
        for (network, source), fits in group.groupby(["network", "source"], sort=False):
            seeds = fits[_CHOICE].itertuples(index=False, name=None)
            tried = max(tries.get(choice, 0) for choice in seeds)
            lines.append(_cells(known.get((data, network)), network, source, tried, fits))
        yield from table(header, lines)
        yield ""


def _conditions(group: pd.DataFrame, limit: str, batch_size: str, precision: str) -> str:
    parts = [f"{'/'.join(map(str, group['fitted'].unique()))} rows fitted"]
    parts += [f"{limit} training rows in all"] if limit != "0" else []
    parts += [f"batches of {batch_size}", f"precision {precision}"]
    parts += [f"meta-learners at {META_FACTOR:g} of the rate"]
    parts += [f"weight decay {decay}" for decay in group["weight_decay"].unique()]
    parts += [", ".join(map(str, group["device"].unique()))]
    parts += [note for note in group["note"].unique() if note]
    return "; ".join(parts) + "."


def _cells(
    published: tuple[float, float] | None,
    network: str,
    source: str,
    tried: int,
    fits: pd.DataFrame,
) -> list[str]:
    accuracies = 100 * fits["accuracy"].astype(float)
    spread = f" ± {accuracies.std(ddof=0):.2f}" if len(fits) > 1 else ""
    rates, factors = ("/".join(fits[k].unique()) for k in ("learning_rate", "prompt_factor"))
    return [
        network,
        source,
        f"{int(fits['parameters'].iloc[0]):,}",
        str(tried),
        rates,
        "" if source == "kan" else factors,
        curve(fits["curve"].iloc[0]),
        f"{accuracies.mean():.2f}{spread}",
        str(len(fits)),
        "" if published is None else f"{published[source != 'kan']:.2f}",
        f"{fits['seconds'].astype(float).mean() / 60:.2f}",
    ]


def curve(text: str, most: int = 8) -> str:
    """Accuracies in per cent; of many epochs, some evenly spaced ones and the last."""
    scores = [f"{100 * float(score):.1f}" for score in str(text).split()]
    step = -(-len(scores) // most)
    return " ".join(scores[::-1][::step][::-1])
