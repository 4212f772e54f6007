"""Times that issue 5 names: a training step, and an exact Laplacian, beside nested autograd."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import torch
from _pde_models import MLP, SOURCES, make_solver
from _rows import Times
from _timing import timed
from _training_step import free_memory

from sklearn_metakan.nn import build_network
from sklearn_metakan.pde import TrialFunction, problems

LAYERS = (128, 128, 128, 1)  # after the inputs; the net of the paper's code
SAMPLED = 4  # dimensions of the MLP's Laplacian
BATCH = 100
REPEATS = 3


@dataclass(frozen=True)
class Measured:
    what: str
    times: Times
    peak_mb: float | None = None

    def print(self, base: "Measured | None" = None) -> None:
        low, high = self.times.p20, self.times.p80
        text = f"{self.what:52}{self.times.median:10.2f} ms ({low:.2f}-{high:.2f})"
        if base is not None:
            text += f"  / {self.times.median / base.times.median:.3f}"
        if self.peak_mb is not None:
            text += f"  peak {self.peak_mb:,.0f} MB"
            if base is not None and base.peak_mb:
                text += f"  / {self.peak_mb / base.peak_mb:.3f}"
        print(text, flush=True)


def print_speed(
    device: torch.device, dim: int | None, points: int, steps: int | None, dim_laplacian: int = 100
) -> None:
    """Both comparisons; ratios are to the first line of each."""
    dim, steps = dim or 20, steps or 200
    print(f"a step of Allen-Cahn in the ball, d={dim}, {BATCH} points")
    base = mlp_step(dim, device, steps)
    base.print()
    for source in SOURCES:
        solver_step(source, dim, device, steps).print(base)
    print(f"Laplacian with its gradients, d={dim_laplacian}, {points} points")
    for source in (None, *SOURCES):
        base = None
        try:
            base = laplacian(source, dim_laplacian, points, device, nested=True)
            base.print()
        except torch.OutOfMemoryError:
            print(f"{source or 'KAN'}, nested autograd: out of memory", flush=True)
        laplacian(source, dim_laplacian, points, device, nested=False).print(base)


def mlp_step(dim: int, device: torch.device, steps: int) -> Measured:
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

    return Measured(f"MLP, nested autograd over {SAMPLED} dimensions", _times(step, steps, device))


def solver_step(source: str, dim: int, device: torch.device, steps: int) -> Measured:
    """A step of the solver with the exact Laplacian: what more steps add to a fit."""
    problem = problems.AllenCahnBall(dim)
    settings = {
        "hidden_layer_sizes": LAYERS[:-1],
        "n_interior": BATCH,
        "sampling": "radius",
        "device": str(device),
        "random_state": 0,
        "solution": None,
    }
    solver = make_solver("metakan", source, problem.settings | settings)

    def seconds(count: int) -> float:
        solver.set_params(max_iter=count)
        start = perf_counter()
        solver.fit()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return perf_counter() - start

    few = max(1, steps // 4)
    seconds(few)  # kernels are compiled
    found = [1000 * (seconds(few + steps) - seconds(few)) / steps for _ in range(REPEATS)]
    return Measured(f"MetaKAN {source}, exact Laplacian", Times.of(found))


def laplacian(
    source: str | None, dim: int, points: int, device: torch.device, nested: bool
) -> Measured:
    """Time and peak of ``mean(laplacian(u)^2)`` and its gradients."""
    given = {} if source is None else {"n_meta_learners": "layer", **_of_network(source)}
    network = build_network([dim, *LAYERS], extrapolation="base", **given).to(device)
    trial = TrialFunction(network, nested=nested)
    generator = torch.Generator(device).manual_seed(0)
    x = 2 * torch.rand(points, dim, generator=generator, device=device) - 1

    def run() -> None:
        trial.zero_grad()
        trial.field(x).laplacian().square().mean().backward()

    label = "KAN" if source is None else f"MetaKAN {source}"
    what = f"{label}, {'nested autograd' if nested else 'pushed forward'}"
    return Measured(what, _times(run, REPEATS, device), _peak(run, device))


def _of_network(source: str) -> dict[str, object]:
    return {name: v for name, v in SOURCES[source].items() if not name.endswith("learning_rate")}


def _times(run: Callable[[], None], count: int, device: torch.device) -> Times:
    return Times.of(timed(run, max(2, count), device))


def _peak(run: Callable[[], None], device: torch.device) -> float | None:
    if device.type != "cuda":
        return None
    free_memory(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before) / 1e6
