"""The way from ``MetaKANRegressor().fit(X, y)``, and from ``predict``, to the first ``edge_sum``.

    python -m benchmarks.walk [-v]

Counts the package's own calls in Python, as ``sys.setprofile`` sees them: comprehensions and
steps of generators count, what libraries do does not. A switch is a call in another file than the
call before. 300 rows of 4 columns; a short fit comes first, so that nothing is imported or cached
on the way. Prints the counts, and the files with the most calls; ``-v`` lists the calls.
"""

import argparse
import sys
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning

import sklearn_metakan
from benchmarks.common.report import table
from sklearn_metakan import MetaKANRegressor

ROOT = f"{Path(sklearn_metakan.__file__).parent}/"
ENDS = ("edge_sum", "edge_sums")  # of one layer, and of several one after the other
SHOWN = 8  # files
Calls = list[tuple[str, str]]  # file, function


class _Arrived(BaseException):
    """No ``except Exception`` on the way stops it."""


def walk(run: Callable[[], object], ends: tuple[str, ...] = ENDS) -> Calls:
    """The package's calls in a run, up to the first of the functions ``ends``, with it."""
    calls = []

    def see(frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(ROOT):
            calls.append((code.co_filename.removeprefix(ROOT), code.co_qualname))
            if code.co_name in ends:
                raise _Arrived

    sys.setprofile(see)
    try:
        run()
    except _Arrived:
        return calls
    finally:
        sys.setprofile(None)
    raise LookupError(f"none of {ends} was called.")


def walks() -> dict[str, Calls]:
    """The calls of a fit, and of a prediction, to the first sum over edges."""
    X = np.random.default_rng(0).uniform(size=(300, 4))
    y = X[:, 0] + X[:, 1] ** 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = MetaKANRegressor(max_iter=2).fit(X, y)
    fitted.predict(X)
    fresh = MetaKANRegressor()
    ways = {"fit": lambda: fresh.fit(X, y), "predict": lambda: fitted.predict(X)}
    return {name: walk(run) for name, run in ways.items()}


def count(calls: Calls) -> dict[str, int]:
    """Calls, distinct functions and files, and switches of file."""
    files = [file for file, _ in calls]
    switches = sum(first != second for first, second in pairwise(files))
    sizes = (len(calls), len(set(calls)), len(set(files)), switches)
    return dict(zip(("calls", "functions", "files", "switches"), sizes, strict=True))


def by_file(calls: Calls) -> pd.DataFrame:
    """Calls and functions of each file, and how often it is entered; most calls first."""
    rows = pd.DataFrame(calls, columns=["file", "function"])
    rows["entered"] = rows["file"] != rows["file"].shift()
    by = rows.groupby("file", sort=False)
    found = pd.DataFrame({"calls": by.size(), "functions": by["function"].nunique()})
    return found.assign(entered=by["entered"].sum()).sort_values("calls", ascending=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-v", "--verbose", action="store_true", help="list the calls")
    verbose, found = parser.parse_args().verbose, walks()
    counts = pd.DataFrame({way: count(calls) for way, calls in found.items()}).T
    files = [by_file(calls).head(SHOWN) for calls in found.values()]
    for rows in (counts.rename_axis("way"), *files):
        rows = rows.reset_index()
        print(table(rows, {name: f"{{{name}}}" for name in rows}) + "\n")
    for way, calls in found.items() if verbose else ():
        print(way, *(f"  {file:36}{function}" for file, function in calls), sep="\n")


if __name__ == "__main__":
    main()
