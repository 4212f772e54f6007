"""How errors fall as the grid of cubic splines becomes finer: u'' = f on an interval.

    python -m benchmarks.pde.order
    python -m benchmarks.pde.order --grid-sizes 4 8 16 32 64 --hidden 6

Splines are in the first layer alone unless --hidden says otherwise: u is then one spline, the
problem linear, and Gauss and Newton's step (Levenberg-Marquardt, damped less and less) its least
squares. Of cubic splines one expects errors of u, u' and u'' that fall as h^4, h^3 and h^2.
Prints a Markdown table: unknowns, relative errors (L2) and the orders between two lines.
"""

import argparse
from collections.abc import Sequence
from math import log, pi
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from benchmarks.common.report import table
from sklearn_metakan.pde import Dirichlet, Interval, KANPDESolver

TEST_POINTS = 2000
POINTS_A_CELL = 20
DERIVATIVES = {"u": (), "u'": (0,), "u''": (0, 0)}
COLUMNS = {"cells": "{cells}", "unknowns": "{unknowns}"}
for name in DERIVATIVES:
    COLUMNS |= {
        f"error of {name}": f"{{{name}:.1e}}",
        f"order of {name}": f"{{order of {name}:.1f}}",
    }


def residual(x: Tensor, u: Any) -> Tensor:
    angle = 2 * pi * x[:, 0]
    source = (1 - 4 * pi**2) * angle.sin() + 4 * pi * angle.cos()
    return u.d(0, 0) - x[:, 0].exp() * source


def derivatives(x: np.ndarray) -> dict[str, np.ndarray]:
    """Of the solution, ``exp(x) sin(2 pi x)``."""
    angle, rate, grown = 2 * pi * x[:, 0], 2 * pi, np.exp(x[:, 0])
    return {
        "u": grown * np.sin(angle),
        "u'": grown * (np.sin(angle) + rate * np.cos(angle)),
        "u''": grown * ((1 - rate**2) * np.sin(angle) + 2 * rate * np.cos(angle)),
    }


def measure(cells: int, hidden: Sequence[int], seed: int, iterations: int) -> dict[str, Any]:
    """The row of one grid."""
    solver = KANPDESolver(
        residual,
        domain=Interval(0.0, 1.0),
        conditions=[Dirichlet(0.0)],
        hard=True,
        hidden_layer_sizes=tuple(hidden),
        grid_size=cells,
        n_interior=POINTS_A_CELL * cells,
        sampling="grid",
        resample_every=None,
        max_iter=0,
        lm_iter=iterations,
        random_state=seed,
        device="cpu",
    ).fit()
    x = np.linspace(0, 1, TEST_POINTS)[:, None]
    row = {"cells": cells, "unknowns": solver.n_parameters_}
    for name, exact in derivatives(x).items():
        by = DERIVATIVES[name]
        found = solver.predict_derivative(x, by) if by else solver.predict(x)
        row[name] = float(np.linalg.norm(found - exact) / np.linalg.norm(exact))
    return row


def with_orders(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Rows with ``log(e_before / e) / log(cells / cells_before)``, of each error."""
    found = []
    for number, row in enumerate(rows):
        orders = {}
        if number:
            before = rows[number - 1]
            finer = log(row["cells"] / before["cells"])
            orders = {f"order of {n}": log(before[n] / row[n]) / finer for n in DERIVATIVES}
        found.append({**row, **orders})
    return pd.DataFrame(found)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--grid-sizes", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--hidden", type=int, nargs="*", default=[], help="widths of hidden layers")
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    rows = [
        measure(cells, options.hidden, options.seed, options.iterations)
        for cells in options.grid_sizes
    ]
    print(table(with_orders(rows), COLUMNS))


if __name__ == "__main__":
    main()
