"""A training step, and an exact Laplacian, beside nested autograd."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import torch

from benchmarks.common.measure import PeakMemory, seconds, spread, timed
from benchmarks.common.report import table
from benchmarks.pde.runs import MLP, SOURCES, make_solver
from sklearn_metakan.nn import build_network
from sklearn_metakan.pde import TrialFunction, problems

LAYERS = (128, 128, 128, 1)  # after the inputs; the net of the paper's code
SAMPLED = 4  # dimensions of the MLP's Laplacian
BATCH = 100
REPEATS = 3
WAYS = ("nested autograd", "pushed forward")
COLUMNS = {"": "{what}", "ms (20-80 %)": "{median:.2f} ({p20:.2f}-{p80:.2f})"}
COLUMNS |= {"/ first": "{median_ratio:.3f}", "peak MB": "{peak_mb:,.0f}"}
COLUMNS |= {"peak / first": "{peak_mb_ratio:.3f}"}


def print_speed(
    device: torch.device, dim: int | None, points: int, steps: int | None, dim_laplacian: int = 100
) -> None:
    """Both comparisons; ratios are to the first line of each."""
    dim, steps = dim or 20, steps or 200
    print(f"a step of Allen-Cahn in the ball, d={dim}, {BATCH} points")
    rows = [mlp_step(dim, device, steps)]
    rows += [solver_step(source, dim, device, steps) for source in SOURCES]
    print(beside_first(rows), flush=True)
    print(f"Laplacian with its gradients, d={dim_laplacian}, {points} points")
    for source in (None, *SOURCES):
        rows = [laplacian(source, dim_laplacian, points, device, way) for way in WAYS]
        print(beside_first(rows), flush=True)


def beside_first(rows: list[dict[str, Any]]) -> str:
    found = pd.DataFrame(rows).astype({"median": float, "peak_mb": float})
    ratios = {f"{name}_ratio": found[name] / found[name][0] for name in ("median", "peak_mb")}
    return table(found.assign(**ratios), COLUMNS)


def mlp_step(dim: int, device: torch.device, steps: int) -> dict[str, Any]:
    """An MLP's step by nested autograd over 4 dimensions, written out as the paper's code does."""
    problem = problems.AllenCahnBall(dim)
    network = MLP((dim, *LAYERS), 0).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    generator = torch.Generator(device).manual_seed(0)

    def step() -> None:
        x = problem.domain.sample(BATCH, generator, method="radius", dtype=torch.float32)
        x.requires_grad_()
        u = problem.ansatz(x, network(x)[:, 0])
        slope = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
        chosen = torch.randperm(dim, generator=generator, device=device)[:SAMPLED].tolist()
        curves = [
            torch.autograd.grad(slope[:, i].sum(), x, create_graph=True)[0][:, i] for i in chosen
        ]
        laplacian = dim / SAMPLED * torch.stack(curves).sum(0)
        residual = laplacian + u - u**3 - problem.source(x.detach())
        optimizer.zero_grad()
        residual.square().mean().backward()
        optimizer.step()

    return _row(f"MLP, nested autograd over {SAMPLED} dimensions", step, steps, device)


def solver_step(source: str, dim: int, device: torch.device, steps: int) -> dict[str, Any]:
    """A step of the solver with the exact Laplacian: what more steps add to a fit."""
    problem = problems.AllenCahnBall(dim)
    settings = {"hidden_layer_sizes": LAYERS[:-1], "n_interior": BATCH, "sampling": "radius"}
    settings |= {"device": str(device), "random_state": 0, "solution": None}
    solver = make_solver("metakan", source, problem.settings | settings)

    def spent(count: int) -> float:
        return seconds(solver.set_params(max_iter=count).fit, device)

    few = max(1, steps // 4)
    spent(few)  # kernels are compiled
    found = [1000 * (spent(few + steps) - spent(few)) / steps for _ in range(REPEATS)]
    return {"what": f"MetaKAN {source}, exact Laplacian", "peak_mb": None, **spread(found)}


def laplacian(
    source: str | None, dim: int, points: int, device: torch.device, way: str
) -> dict[str, Any]:
    """Time and peak of ``mean(laplacian(u)^2)`` and its gradients."""
    label, given = "KAN", {}
    if source is not None:
        rates = ("prompt_learning_rate", "meta_learning_rate")
        given = {name: v for name, v in SOURCES[source].items() if name not in rates}
        label, given["n_meta_learners"] = f"MetaKAN {source}", "layer"
    network = build_network([dim, *LAYERS], extrapolation="base", **given).to(device)
    trial = TrialFunction(network, nested=way == WAYS[0])
    generator = torch.Generator(device).manual_seed(0)
    x = 2 * torch.rand(points, dim, generator=generator, device=device) - 1

    def run() -> None:
        trial.zero_grad()
        trial.field(x).laplacian().square().mean().backward()

    what = f"{label}, {way}"
    try:
        row, memory = _row(what, run, REPEATS, device), PeakMemory(device)
        run()
    except torch.OutOfMemoryError:
        return {"what": f"{what}: out of memory", "median": None, "peak_mb": None}
    return row | {"peak_mb": memory.megabytes()}


def _row(what: str, run: Callable[[], None], count: int, device: torch.device) -> dict[str, Any]:
    return {"what": what, "peak_mb": None, **spread(timed(run, max(2, count), device))}
