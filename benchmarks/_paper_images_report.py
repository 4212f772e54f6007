"""The rows of `paper.py fc-images` as Markdown, beside what was published and what is asked."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from _markdown import table

BUDGET_EPOCHS = 10
# Per cent, 784-32-10 after ten epochs: the KAN's, the MetaKAN's.
PUBLISHED = {
    "fashion_mnist": ("87.06", "86.65 (H=16), 85.99 (H=32)"),
    "kmnist": ("79.57", "82.02"),
}
PUBLISHED_WIDTHS = "32"
SMALL = 0.12  # of the KAN's parameters: one prompt number in place of nine coefficients
FMNIST_BUDGET, GAP, FMNIST_BEST = 86.7, 0.3, 88.5
MNIST_BEST, MNIST_PARAMETERS = 98.0, 105_000

_LINE = ["part", "data", "limit", "widths", "epochs", "precision"]
_SETTINGS = ["learning_rate", "weight_decay", "batch_size", "grid_size", "scale_inputs", "dropout"]
_SETTINGS += ["meta_factor", "copies"]


def report(rows: pd.DataFrame) -> Iterator[str]:
    """Lines of Markdown."""
    for values, group in rows.groupby(_LINE, sort=False):
        part, data, limit, widths, epochs, precision = values
        summary = summarise(group)
        yield f"### {data}, n-{widths}-k, {epochs} epochs ({part})"
        yield ""
        yield from _conditions(group, limit, precision)
        yield ""
        if (part, widths) == ("budget", PUBLISHED_WIDTHS) and data in PUBLISHED:
            kan, metakan = PUBLISHED[data]
            yield f"Published, per cent: KAN {kan}, MetaKAN {metakan}."
            yield ""
        lines = [_cells(name, row) for name, row in summary.iterrows()]
        header = ["model", "parameters", "of KAN's", "tried", "validation %", "test %", "seeds"]
        yield from table([*header, "settings", "s a fit"], lines)
        yield ""
        for verdict in _verdicts(part, data, widths, summary):
            yield f"- {verdict}"
        yield ""


def _conditions(group: pd.DataFrame, limit: str, precision: str) -> Iterator[str]:
    fitted, scored = (
        group.loc[group["rows"] == rows, count].unique()
        for rows, count in (("validation", "fitted"), ("test", "scored"))
    )
    parts = [f"{'/'.join(map(str, fitted))} rows fitted to choose settings"]
    if len(scored):
        parts.append(f"{'/'.join(map(str, scored))} test rows")
    if limit != "0":
        parts.append(f"{limit} training rows in all")
    parts += [f"precision {precision}", ", ".join(map(str, group["device"].unique()))]
    parts += [note for note in group["note"].unique() if note]
    yield "; ".join(parts) + "."


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """By model: the settings that are best on the validation rows, and their tests."""
    lines = {}
    for model, group in rows.groupby("model", sort=False):
        tried = group[group["rows"] == "validation"]
        if tried.empty:
            continue
        best = tried.loc[tried["accuracy"].astype(float).idxmax()]
        same = (group[_SETTINGS] == best[_SETTINGS]).all(axis=1)
        tests = group[same & (group["rows"] == "test")]
        accuracies = 100 * tests["accuracy"].astype(float)
        lines[model] = {
            "parameters": int(best["parameters"]),
            "tried": len(tried),
            "validation": 100 * float(best["accuracy"]),
            "test": accuracies.mean(),
            "spread": accuracies.std(ddof=0),
            "seeds": len(tests),
            "settings": ", ".join(f"{name} {best[name]}" for name in _SETTINGS),
            "seconds": float(best["seconds"]),
        }
    summary = pd.DataFrame.from_dict(lines, orient="index")
    of_kan = lines["kan"]["parameters"] if "kan" in lines else np.nan
    summary["share"] = summary["parameters"] / of_kan
    return summary


def _cells(name: object, row: pd.Series) -> list[str]:
    return [
        str(name),
        f"{row['parameters']:,}",
        "" if np.isnan(row["share"]) else f"{row['share']:.1%}",
        str(row["tried"]),
        f"{row['validation']:.2f}",
        f"{row['test']:.2f} ± {row['spread']:.2f}" if row["seeds"] else "to come",
        str(row["seeds"]),
        str(row["settings"]),
        f"{row['seconds']:.1f}",
    ]


def _verdicts(part: str, data: str, widths: str, summary: pd.DataFrame) -> Iterator[str]:
    """What was asked for, of the MetaKAN that the validation rows choose."""
    tested = summary[summary["seeds"] > 0]
    meta = tested[tested.index != "kan"]
    if part == "best":
        if data == "fashion_mnist" and len(tested):
            yield _reached(tested, FMNIST_BEST)
        small = tested[tested["parameters"] <= MNIST_PARAMETERS]
        if (data, widths) == ("mnist", "64") and len(small):
            yield f"At most {MNIST_PARAMETERS:,} parameters: " + _reached(small, MNIST_BEST)
        return
    if data == "fashion_mnist" and widths == PUBLISHED_WIDTHS and len(meta):
        yield _reached(meta, FMNIST_BUDGET)
    small = meta[meta["share"] <= SMALL]
    if "kan" in tested.index and len(small):
        best = small["validation"].idxmax()
        ahead = small.loc[best, "test"] - tested.loc["kan", "test"]
        verdict = "reached" if ahead >= -GAP else f"SHORT by {-GAP - ahead:.2f}"
        yield (
            f"{best}, with {small.loc[best, 'share']:.1%} of the KAN's parameters: {ahead:+.2f} "
            f"points of the KAN's accuracy; to reach {-GAP:+.1f}: {verdict}."
        )


def _reached(summary: pd.DataFrame, goal: float) -> str:
    best = summary["validation"].idxmax()
    test = summary.loc[best, "test"]
    verdict = "reached" if test >= goal else f"SHORT by {goal - test:.2f}"
    return f"{best}: {test:.2f} on the test rows; to reach {goal}: {verdict}."
