"""The rows of `paper.py conv-images` as Markdown, beside what was published."""

from collections.abc import Iterator, Mapping

import pandas as pd
from _markdown import table
from _paper_conv_networks import META_FACTOR, PROMPT_FACTOR

# Per cent after 150 epochs, four layers; of the KAN and of the MetaKAN.
PUBLISHED = {
    ("mnist", "bspline"): (98.43, 96.03),
    ("mnist", "rbf"): (99.36, 98.54),
    ("mnist", "gram"): (99.15, 99.21),
    ("cifar10", "bspline"): (41.92, 45.97),
    ("cifar10", "rbf"): (68.12, 66.69),
}
_GROUP = ["part", "data", "limit", "layers", "epochs", "batch_size", "precision"]


def report(rows: pd.DataFrame) -> Iterator[str]:
    """Lines of Markdown."""
    for values, group in rows.groupby(_GROUP, sort=False):
        part, data, limit, layers, epochs, batch_size, precision = values
        yield f"### {data}, {layers} layers, {epochs} epochs ({part})"
        yield ""
        yield _conditions(group, limit, batch_size, precision)
        yield ""
        header = ["network", "source", "parameters", "validation %, by epoch", "test %", "seeds"]
        header += ["published, 150 epochs", "minutes a fit"]
        by_model = group.groupby(["network", "source"], sort=False)
        known = PUBLISHED if str(layers) == "4" else {}
        lines = [_cells(known, data, *name, fits) for name, fits in by_model]
        yield from table(header, lines)
        yield ""


def _conditions(group: pd.DataFrame, limit: str, batch_size: str, precision: str) -> str:
    rates = group[["learning_rate", "weight_decay"]].drop_duplicates()
    parts = [f"{'/'.join(map(str, group['fitted'].unique()))} rows fitted"]
    parts += [f"{limit} training rows in all"] if limit != "0" else []
    parts += [f"batches of {batch_size}", f"precision {precision}"]
    parts += [
        f"learning rate {rate}, times {PROMPT_FACTOR:g} for prompts and {META_FACTOR:g} for "
        f"meta-learners, weight decay {decay}"
        for rate, decay in rates.itertuples(index=False)
    ]
    parts += [", ".join(map(str, group["device"].unique()))]
    parts += [note for note in group["note"].unique() if note]
    return "; ".join(parts) + "."


def _cells(
    published: Mapping[tuple[str, str], tuple[float, float]],
    data: str,
    network: str,
    source: str,
    fits: pd.DataFrame,
) -> list[str]:
    accuracies = 100 * fits["accuracy"].astype(float)
    spread = f" ± {accuracies.std(ddof=0):.2f}" if len(fits) > 1 else ""
    known = published.get((data, network))
    return [
        network,
        source,
        f"{int(fits['parameters'].iloc[0]):,}",
        curve(fits["curve"].iloc[0]),
        f"{accuracies.mean():.2f}{spread}",
        str(len(fits)),
        "" if known is None else f"{known[source != 'kan']:.2f}",
        f"{fits['seconds'].astype(float).mean() / 60:.2f}",
    ]


def curve(text: str, most: int = 8) -> str:
    """Accuracies in per cent; of many epochs, some evenly spaced ones and the last."""
    scores = [f"{100 * float(score):.1f}" for score in str(text).split()]
    step = -(-len(scores) // most)
    return " ".join(scores[::-1][::step][::-1])
