"""What the rows of a comparison say: errors, ranks, wins, seconds, memory, as Markdown."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmarks.common.report import constants, table
from benchmarks.tables.peers import peer_of
from benchmarks.tables.sets import GROUPS

TITLES = {
    "uci": "UCI regression, root of the mean square error",
    "regression": "Other regression, root of the mean square error",
    "classification": "Classification, log loss",
    "feynman": "Feynman functions, root of the mean square error",
    "all": "All sets",
}
SPENT = ["fit_seconds", "fit_cpu", "predict_seconds"]
BESIDE = "mlp"  # whose seconds others are compared with


class Comparison(NamedTuple):
    """Of one group of sets. Frames have a row a set and a column a model.

    ``rows`` are those of the splits that all models of a set have; ``complete`` names the sets
    that every model has.
    """

    rows: pd.DataFrame
    means: pd.DataFrame
    deviations: pd.DataFrame
    complete: list[str]

    def ranks(self) -> pd.DataFrame:
        """1 is the smallest error; equal ones share the mean of their ranks."""
        return self.means.loc[self.complete].rank(axis=1)

    def wins(self) -> pd.DataFrame:
        """In how many sets the model of the row has a smaller error than that of the column."""
        means = self.means.to_numpy()
        won = (means[:, :, None] < means[:, None, :]).sum(axis=0)
        return pd.DataFrame(won, index=self.means.columns, columns=self.means.columns)


def labelled(rows: pd.DataFrame) -> pd.DataFrame:
    """With ``label``: the model, and settings or device where a model has several of them."""
    rows = rows.assign(label=rows["model"])
    for name, shown in (("settings", " {}"), ("device", " on {}")):
        several = rows.groupby("model")[name].transform("nunique") > 1
        rows["label"] = rows["label"].where(~several, rows["label"] + rows[name].map(shown.format))
    return rows


def compare(rows: pd.DataFrame, value: str = "error") -> Comparison:
    """Means over splits and their standard errors; rows must be ``labelled``."""
    rows = rows[rows[value].notna()]
    models = rows.groupby("data")["label"].transform("nunique")
    rows = rows[rows.groupby(["data", "split"])["label"].transform("nunique") == models]
    found = rows.groupby(["data", "label"], sort=False)[value].agg(["mean", "sem"]).unstack()
    means, deviations = (found[name] if len(found) else pd.DataFrame() for name in ("mean", "sem"))
    return Comparison(rows, means, deviations, [*means.index[means.notna().all(axis=1)]])


def geometric_mean(values: pd.Series) -> float:
    return float(np.exp(np.log(values.clip(lower=1e-12)).mean()))


def summarise(compared: Comparison) -> pd.DataFrame:
    """A row a model, the best first, over the sets that every model has."""
    rows = compared.rows[compared.rows["data"].isin(compared.complete)]
    rows = rows.assign(share=rows["error"] / rows["constant"])
    rows["added"] = rows["memory"] - rows["memory_before"]
    by_model = rows.groupby("label")
    of_sets = rows.groupby(["label", "data"])[[*SPENT, "share"]].mean()
    found = of_sets.groupby("label").agg(geometric_mean)
    found["rank"] = compared.ranks().mean()
    beside = found.reindex([BESIDE])[SPENT].iloc[0]
    found[["to_mlp", "cpu_to_mlp"]] = (found[SPENT] / beside)[["fit_seconds", "fit_cpu"]]
    found[["fewest", "most"]] = by_model["parameters"].agg(["min", "max"])
    found[["memory", "added"]] = by_model[["memory", "added"]].max()
    return found.sort_values("rank")


def comparisons(rows: pd.DataFrame) -> dict[str, Comparison]:
    """Of groups with rows, sets in their order; and of "all", where there are several."""
    found = {}
    for group, names in GROUPS.items():
        here = rows[rows["data"].isin(names)]
        if len(here):
            order = here["data"].map(names.index).sort_values(kind="stable").index
            found[group] = compare(here.loc[order])
    return found | ({"all": compare(rows)} if len(found) > 1 else {})


def report(rows: pd.DataFrame) -> Iterator[str]:
    """Blocks of Markdown; rows must be ``labelled``."""
    for group, compared in comparisons(rows).items():
        yield f"## {TITLES[group]}"
        if group != "all":
            yield _errors(compared)
        if group == "classification":
            yield "Accuracy:"
            yield _errors(compare(compared.rows, "accuracy"), best="max")
        yield from _standing(compared)
    peers = rows["model"].map(peer_of) + " " + rows["version"].astype(str)
    about = constants(rows, ["processor", "device_name", "torch"])
    yield f"{about}; {', '.join(sorted({*peers}))}."


def _errors(compared: Comparison, best: str = "min") -> str:
    """Mean ± standard error, the best in bold."""
    splits = compared.rows.groupby("data")["split"].nunique()
    cells = {"splits": splits[compared.means.index].map(str)}
    bests = compared.means.agg(best, axis=1)
    for model, means in compared.means.items():
        texts = means.map("{:.4g}".format)
        texts = texts.where(means != bests, "**" + texts + "**")
        spread = compared.deviations[model].map(lambda s: "" if pd.isna(s) else f" ± {s:.1g}")
        cells[str(model)] = (texts + spread).where(means.notna())
    return _grid(pd.DataFrame(cells), "set")


def _standing(compared: Comparison) -> Iterator[str]:
    n, every = len(compared.complete), len(compared.means)
    if not n:
        yield "No set has a result of every model."
        return
    yield f"Over the {n} of {every} sets with results of every model; means of sets are geometric:"
    columns = {
        "model": "{label}",
        "mean rank": "{rank:.2f}",
        "error / a constant's": "{share:.3g}",
        "fit, s": "{fit_seconds:.3g}",
        f"/ {BESIDE}'s": "{to_mlp:.2g}",
        "fit, CPU s": "{fit_cpu:.3g}",
        f"/ {BESIDE}'s CPU": "{cpu_to_mlp:.2g}",
        "predict, s": "{predict_seconds:.2g}",
        "parameters": "{fewest:,.0f} to {most:,.0f}",
        "memory at most, MB": "{memory:.0f}",
        "of it by the fit": "{added:.0f}",
    }
    yield table(summarise(compared).reset_index(), columns)
    wins = compared.wins()
    order = compared.ranks().mean().sort_values().index
    texts = wins.loc[order, order].map(str)
    for model in order:
        texts.loc[model, model] = ""
    yield f"Of {every} sets, in how many the model of the row has the smaller error:"
    yield _grid(texts, "against")


def _grid(texts: pd.DataFrame, corner: str) -> str:
    """Names of columns may hold what format strings do not take."""
    keys = [f"c{i}" for i in range(texts.shape[1])]
    columns = {corner: "{row}"}
    columns |= {str(name): f"{{{key}}}" for name, key in zip(texts, keys, strict=True)}
    return table(texts.set_axis(keys, axis=1).assign(row=texts.index), columns)
