"""DeepXDE's examples as they are, scored at the points where the suite scores ours.

    python -m benchmarks.pde.examples --peers-dir DIR --seconds 600 --jobs 2

DIR is a clone of DeepXDE's repository; the package, scikit-optimize and matplotlib must be
importable. A script runs unchanged with PyTorch, its own iterations and one thread; after
``--seconds`` it is stopped, and its network is scored as it is then: "finished" says which.
"""

import argparse
import contextlib
import io
import os
import signal
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.common.ledger import Ledger
from benchmarks.common.measure import add_options
from benchmarks.pde.cases import CASES, Case, error_of

RESULTS = ("error", "finished", "seconds_taken")
# Constants whose names in the example are not ours, in the order of ours.
VARIABLES = {
    "Lorenz_inverse": ("C1", "C2", "C3"),
    "Lorenz_inverse_forced": ("C1", "C2", "C3"),
    "reaction_inverse": ("D", "kf"),
}
# What scripts take from DeepXDE's name for TensorFlow, of PyTorch, as its guide tells users to.
AS_TENSORFLOW = SimpleNamespace(
    sin=torch.sin,
    cos=torch.cos,
    exp=torch.exp,
    tanh=torch.tanh,
    math=torch,
    concat=lambda values, axis: torch.cat(tuple(values), dim=axis),
)


class Example(NamedTuple):
    """What is run; ``seconds`` is when it is stopped."""

    name: str
    seed: int
    seconds: float


class Stopped(BaseException):
    """Time is up; no script catches it."""


class Network:
    """What an example has trained, with a solver's names."""

    def __init__(self, model: Any, names: Sequence[str], scope: Mapping[str, Any]) -> None:
        self.model = model
        self.pde_params_ = {name: float(scope[name]) for name in names}

    def predict(self, x: np.ndarray) -> np.ndarray:
        found = self.model.predict(x)
        return found[:, 0] if found.shape[1] == 1 else found


def measure(example: Example, peers_dir: Path) -> dict[str, Any]:
    """The row of an example."""
    case = next(
        made for made in (make() for make in CASES.values())
        if f"DeepXDE: {example.name}" in made.sources
    )  # fmt: skip
    begin, scope, models = perf_counter(), {}, []
    finished = run(example, peers_dir, scope, models)
    spent = perf_counter() - begin
    if not models:
        raise RuntimeError(f"{example.name} made no model in {example.seconds:g} seconds.")
    ours = [*case.constants]
    theirs = VARIABLES.get(example.name, ours)
    network = Network(models[-1], theirs, scope)
    network.pde_params_ = dict(zip(ours, network.pde_params_.values(), strict=True))
    error = min(error_of(network, case), *kept(models[-1], case))
    return {"error": error, "finished": finished, "seconds_taken": spent}


def kept(model: Any, case: Case) -> list[float]:
    """The error that DeepXDE itself reports of the model with the least loss, if comparable."""
    metrics = getattr(model.train_state, "best_metrics", None) or []
    alone = not case.constants and case.settings.get("n_outputs", 1) == 1
    return [float(metrics[0])] if alone and len(metrics) == 1 else [np.inf]


def run(example: Example, peers_dir: Path, scope: dict[str, Any], models: list[Any]) -> bool:
    """Execute the script in ``scope``; ``models`` are those it made. Whether it came to its end."""
    os.environ["DDE_BACKEND"] = "pytorch"
    torch.set_num_threads(1)
    import deepxde
    import matplotlib.pyplot

    matplotlib.use("Agg")
    deepxde.backend.tf = AS_TENSORFLOW
    deepxde.config.set_random_seed(example.seed)
    examples = peers_dir.resolve() / "examples"
    (script,) = examples.glob(f"pinn_*/{example.name}.py")
    made = deepxde.Model.__init__

    def remembered(model: Any, *args: Any, **kwargs: Any) -> None:
        made(model, *args, **kwargs)
        models.append(model)

    deepxde.Model.__init__ = remembered
    scope["__name__"] = "__main__"
    try:
        with elsewhere(examples / "dataset"), limited(example.seconds), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(script.read_text(encoding="utf-8"), str(script), "exec"), scope)
        return True
    except Stopped:
        return False
    finally:
        deepxde.Model.__init__ = made
        matplotlib.pyplot.close("all")


@contextlib.contextmanager
def elsewhere(dataset: Path) -> Iterator[None]:
    """In a folder of its own, beside the data sets; what is printed is dropped."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        (Path(folder) / "dataset").symlink_to(dataset)
        (Path(folder) / "run").mkdir()
        with contextlib.chdir(Path(folder) / "run"):
            yield


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises Stopped in it after so many seconds."""

    def stop(*signal_and_frame: Any) -> None:
        raise Stopped

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


OF = "DeepXDE: "
EXAMPLES = [
    source.removeprefix(OF)
    for make in CASES.values()
    for source in make().sources
    if source.startswith(OF)
]


def finish(options: Any, names: Sequence[str] = EXAMPLES, seeds: Sequence[int] = (0,)) -> Ledger:
    """Run the examples that have no row yet; ``options`` are those of a command line."""
    shown = "{name}: {error:.1e} in {seconds_taken:.0f} s, finished: {finished}"
    ledger = Ledger(options.out / "examples.csv", Example, RESULTS, options, shown)
    runs = [Example(name, seed, options.seconds) for seed in seeds for name in names]
    ledger.finish(runs, partial(measure, peers_dir=options.peers_dir))
    return ledger


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, "jobs", "minutes", seeds=[0], out=Path("out/equations"))
    parser.add_argument("--peers-dir", type=Path, required=True, help="a clone of DeepXDE")
    parser.add_argument("--examples", choices=EXAMPLES, nargs="+", default=EXAMPLES)
    parser.add_argument("--seconds", type=float, default=600.0, help="of an example")
    options = parser.parse_args(arguments)
    finish(options, options.examples, options.seeds)


if __name__ == "__main__":
    main()
