"""Solve a partial differential equation and draw solution, error and training.

    python -m sklearn_metakan.demo_pde [--steps N] [--out out/demo-pde.png]

The steady Allen-Cahn equation in the unit ball of ten dimensions, with a MetaKAN; its exact
solution is known. The picture is the slice through the first two.
"""

import argparse
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sklearn_metakan.demo import check_picture
from sklearn_metakan.pde import MetaKANPDESolver, SolutionDisplay, problems

PROBLEM = problems.AllenCahnBall(10)
SETTINGS: dict[str, Any] = {
    "hidden_layer_sizes": (16, 16),
    "n_interior": 100,
    "sampling": "radius",
    "random_state": 0,
}
STEPS = 500
TEST_POINTS = 10_000


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    print(
        f"laplace(u) + u - u^3 = f in the unit ball of {PROBLEM.dim} dimensions, u = 0 on its "
        f"surface; MetaKAN, {options.steps:,} steps on {SETTINGS['n_interior']} new points each",
        flush=True,
    )
    solver = MetaKANPDESolver(**PROBLEM.settings, **SETTINGS, max_iter=options.steps, verbose=1)
    start = time.perf_counter()
    solver.fit()
    seconds = time.perf_counter() - start
    print(
        f"relative error {relative_error(solver):.1e} on {TEST_POINTS:,} new points, "
        f"{solver.n_parameters_:,} trainable numbers, {seconds:.0f} seconds"
    )
    if find_spec("matplotlib") is None:
        print("No picture: it needs matplotlib (pip install matplotlib).")
        return
    draw(solver, options.out)
    print(f"Picture: {options.out}")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sklearn_metakan.demo_pde")
    parser.add_argument("--steps", type=int, default=STEPS, help="of training")
    parser.add_argument("--out", type=Path, default=Path("out/demo-pde.png"), help="the picture")
    options = parser.parse_args(arguments)
    if options.steps < 1:
        parser.error(f"--steps must be at least 1, got {options.steps}")
    try:
        check_picture(options.out)
    except (OSError, ValueError) as error:
        parser.error(f"--out: {options.out} cannot be written: {error}")
    return options


def relative_error(solver: Any) -> float:
    """|u - exact| / |exact| over points that were not trained on."""
    generator = torch.Generator().manual_seed(1)
    points = PROBLEM.domain.sample(
        TEST_POINTS, generator, method=SETTINGS["sampling"], dtype=torch.float64
    )
    exact = PROBLEM.solution(points).numpy()
    return float(np.linalg.norm(solver.predict(points.numpy()) - exact) / np.linalg.norm(exact))


def draw(solver: Any, path: Path) -> None:
    """Solution, exact solution and error; the residual and the course of training below."""
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=(11.5, 6.6), layout="constrained")
    parts: Any = figure.subfigures(2, 1)
    SolutionDisplay.from_estimator(solver, ax=parts[0].subplots(1, 3))
    below = parts[1].subplots(1, 2, width_ratios=[1, 2])
    SolutionDisplay.from_estimator(solver, kind="residual", ax=below[0])
    SolutionDisplay.from_estimator(solver, kind="loss", ax=below[1])
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    main()
