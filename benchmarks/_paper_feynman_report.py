"""The rows of `paper.py feynman` as Markdown, beside what was published and what is asked."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from _markdown import table
from _paper_networks import PUBLISHED

MOST = 0.4  # of the KAN's parameters


def report(rows: pd.DataFrame) -> Iterator[str]:
    """Lines of Markdown."""
    data = ["part", "ranges", "n_samples", "grid_size", "widths", "max_iter"]
    for (part, *values), group in rows.groupby(data):
        names = dict(zip(data[1:], values, strict=True))
        widths = names.pop("widths")
        title = f"n-{widths}-1" if part == "widths" else "No more parameters than published"
        yield f"### {title}, G = {names['grid_size']}"
        yield ""
        yield (
            f"{names['ranges']} ranges, {names['n_samples']} training and as many test rows, at "
            f"most {names['max_iter']} iterations, seeds {', '.join(sorted(set(group['seed'])))}."
        )
        yield ""
        yield from _same_widths(group) if part == "widths" else _beside_published(group)
        yield ""


def _beside_published(rows: pd.DataFrame) -> Iterator[str]:
    lines = []
    for name, group in rows.groupby("function"):
        known, error = PUBLISHED[name], group["test_mse"].mean()
        reached = error < known.metakan_error
        lines.append(
            [
                name,
                f"{known.kan_error:.2e} ({known.kan_parameters})",
                f"{known.metakan_error:.2e} ({known.metakan_parameters})",
                f"{error:.2e} ({group['parameters'].max()})",
                f"{group['test_mse'].min():.2e} to {group['test_mse'].max():.2e}",
                ", ".join(sorted(set(group["network"]))),
                "reached" if reached else f"SHORT by a factor {error / known.metakan_error:.2g}",
            ]
        )
    header = ["function", "published KAN", "published MetaKAN", "ours", "seeds", "networks", ""]
    yield from table(header, lines)


def _same_widths(rows: pd.DataFrame) -> Iterator[str]:
    if "kan" not in set(rows["model"]):
        yield "There is no row of the KAN to compare with."
        return
    summary = summarise(rows)
    yield (
        f"Geometric means over {rows['function'].nunique()} functions and seeds, of errors in "
        "units of the target's variance; ratios over the fits that KAN and model both have."
    )
    yield ""
    lines = [
        [
            name,
            f"{row['fits']:.0f}",
            f"{row['parameters']:.0f}",
            f"{row['share']:.0%}",
            f"{row['edge_share']:.0%}",
            f"{row['validation']:.2e}",
            f"{row['test']:.2e}",
            f"{row['test_ratio']:.2f}",
            f"{row['better']:.0f} of {row['fits']:.0f}",
        ]
        for name, row in summary.iterrows()
    ]
    header = ["model", "fits", "parameters", "of KAN's, at most", "without the constant"]
    header += ["validation", "test", "test / KAN's", "better than KAN"]
    yield from table(header, lines)
    yield ""
    yield _verdict(summary)
    yield ""
    yield "Test error in the function's units, mean over seeds:"
    yield ""
    errors = rows.pivot_table("test_mse", "function", "model", "mean", sort=False)[summary.index]
    lines = [
        [name, *("" if np.isnan(error) else f"{error:.1e}" for error in row)]
        for name, row in errors.iterrows()
    ]
    yield from table(["function", *errors], lines)


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """By model, the KAN first; ratios and shares are to the KAN of the same function and seed."""
    pair = ["function", "seed"]
    rows = rows.assign(
        validation=rows["validation_mse"] / rows["target_variance"],
        test=rows["test_mse"] / rows["target_variance"],
    )
    numbers = ["parameters", "validation", "test"]
    kan = rows.loc[rows["model"] == "kan", [*pair, *numbers]]
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


def _verdict(summary: pd.DataFrame) -> str:
    """The MetaKAN that validation rows choose among those small enough and fitted throughout."""
    small = summary["edge_share"].le(MOST) & summary["fits"].eq(summary.loc["kan", "fits"])
    small = summary[small & (summary.index != "kan")]
    if small.empty:
        return f"No MetaKAN with at most {MOST:.0%} of the KAN's parameters has every fit."
    best = small["validation_ratio"].idxmin()
    ratio = small.loc[best, "test_ratio"]
    verdict = "reached" if ratio <= 1 else f"SHORT by {ratio - 1:.0%}"
    return (
        f"Chosen on the validation rows: {best}, with at most {small.loc[best, 'share']:.0%} of "
        f"the KAN's parameters; its test error is {ratio:.2f} of the KAN's: {verdict}."
    )
