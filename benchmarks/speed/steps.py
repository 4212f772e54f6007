"""What small steps cost on a CPU, where calls cost more than numbers.

    python -m benchmarks.speed.steps

Steps of networks over those of an MLP of the same widths, batches of 256 rows, fused AdamW, a
hand-written loop; "known": what the first layer makes of x was made before, as in ``fit``. Eight
members over one, of the smaller shape. A fit of 2,000 rows with defaults over MLPRegressor(100)
with its own, once. Processor seconds of one thread, in turns, least of all.
Operations are those that PyTorch dispatches in a step within ``fit``, the same everywhere.
"""

import argparse
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from time import process_time
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.neural_network import MLPRegressor
from threadpoolctl import threadpool_limits
from torch.nn.functional import mse_loss
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.common.report import Goal, goals, table
from benchmarks.speed.loop import make_data
from benchmarks.speed.models import make_mlp
from sklearn_metakan import KANRegressor, MetaKANRegressor
from sklearn_metakan.nn import build_network

BATCH, ROUNDS, STEPS = 256, 5, 8
LINEAR = {"prompt_dim": 3, "meta_hidden_dim": 0, "edge_scale": False}
SINE = {"prompt_dim": 1, "meta_hidden_dim": 32, "edge_scale": True, "meta_activation": "sin"}
ONE_LEARNER = {"n_meta_learners": "auto"}
SOURCES: dict[str, dict[str, Any]] = {
    "KAN": {},
    "linear p=3": LINEAR | ONE_LEARNER,
    "sine, edge scale": SINE | ONE_LEARNER,
}
# Of each source, steps over the MLP's at most.
WIDTHS = {(10, 64, 1): (2.5, 2.5, 3.5), (10, 128, 128, 1): (4.0, 2.5, 6.0)}
MEMBERS, MOST_BY_MEMBERS = 8, 2.5
MOST_OF_A_FIT = 6.0
ROWS, COLUMNS = 2_000, 10


class Operations(TorchDispatchMode):
    """Counts what PyTorch dispatches."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        self.count += 1
        return function(*args, **(kwargs or {}))


def operations(estimator: Callable[..., Any], **settings: Any) -> float:
    """Of a step within fit, from ten passes less two."""
    X, y = make_data(10 * BATCH, COLUMNS)
    found = []
    for passes in (2, 10):
        options = {"hidden_layer_sizes": (64,), "early_stopping": False, "batch_size": BATCH}
        model = estimator(**options, max_iter=passes, random_state=0, **settings)
        with Operations() as counted:
            model.fit(X, y)
        found.append(counted.count)
    return (found[1] - found[0]) / 80


def least(runs: Mapping[str, Callable[[], object]], count: int, rounds: int) -> dict[str, float]:
    """Processor seconds of the quickest run of each, in rounds; of several, one more warms up."""
    found = dict.fromkeys(runs, np.inf)
    for number in range(0 if rounds > 1 else 1, rounds + 1):
        for name, run in runs.items():
            for _ in range(count):
                begin = process_time()
                run()
                spent = process_time() - begin
                found[name] = min(found[name], spent) if number else np.inf
    return found


def step_of(network: torch.nn.Module, known: bool = False) -> Callable[[], object]:
    """A step of training on one batch."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(BATCH, 10, generator=generator) * 2 - 1
    forward, y = network, torch.sin(x[:, :1])
    if known:
        with torch.no_grad():
            forward, x = network.from_features, network.features(x)
    if getattr(network, "n_members", 1) > 1:
        y = y[:, None].expand(-1, network.n_members, -1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        mse_loss(forward(x), y).backward()
        optimizer.step()

    return step


def steps(widths: tuple[int, ...], rounds: int) -> list[dict[str, Any]]:
    """Rows of one shape."""
    runs = {"MLP": step_of(make_mlp(widths))}
    for name, source in SOURCES.items():
        make = partial(build_network, [*widths], dtype=torch.float32, **source)
        runs |= {name: step_of(make()), f"{name}, known": step_of(make(), True)}
        if len(widths) == 3:
            runs[f"{name}, members"] = step_of(make(n_members=MEMBERS), True)
    found = least(runs, STEPS, rounds)
    return [
        {
            "widths": "-".join(map(str, widths)),
            "model": name,
            "MLP ms": 1000 * found["MLP"],
            "step": found[name] / found["MLP"],
            "known": found[f"{name}, known"] / found["MLP"],
            "members": found.get(f"{name}, members", np.nan) / found[f"{name}, known"],
            "most": most,
        }
        for (name, _), most in zip(SOURCES.items(), WIDTHS[widths], strict=True)
    ]


def fits() -> list[dict[str, Any]]:
    """Whole fits with defaults, over the MLP's, after one pass of each."""
    X, y = make_data(ROWS, COLUMNS)
    kinds = {"MLP": MLPRegressor, "KAN": KANRegressor, "MetaKAN": MetaKANRegressor}
    for kind in kinds.values():
        kind(random_state=0, max_iter=1).fit(X, y)
    whole = least({k: partial(kind(random_state=0).fit, X, y) for k, kind in kinds.items()}, 1, 1)
    return [{"model": k, "fit": whole[k] / whole["MLP"]} for k in ("KAN", "MetaKAN")]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args(arguments).rounds
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with threadpool_limits(1):
        rows = pd.DataFrame([row for widths in WIDTHS for row in steps(widths, rounds)])
        of_fits = pd.DataFrame(fits())
    kinds = (KANRegressor, MetaKANRegressor, MetaKANRegressor)
    counted = zip(SOURCES, kinds, ({}, LINEAR, SINE), strict=True)
    counts = {name: operations(kind, n_estimators=1, **more) for name, kind, more in counted}
    rows["operations"] = rows["model"].map(counts).where(rows["widths"] == "10-64-1")
    columns = {"widths": "{widths}", "model": "{model}", "MLP ms": "{MLP ms:.2f}"}
    columns |= {"step / MLP's": "{step:.2f}", "known": "{known:.2f}"}
    columns |= {f"{MEMBERS} members / one": "{members:.2f}", "operations": "{operations:.0f}"}
    print(table(rows, columns) + "\n")
    columns = {"model": "{model}", "default fit / MLP's": "{fit:.1f}"}
    print(table(of_fits, columns) + "\n")
    reached = [
        Goal(f"{row['model']}, {row['widths']}: step / MLP's", row["known"], row["most"])
        for row in rows.to_dict("records")
    ]
    small = rows.loc[rows["widths"] == "10-64-1", "members"].max()
    reached.append(Goal(f"{MEMBERS} members / one, 10-64-1", small, MOST_BY_MEMBERS))
    reached.append(Goal("default fit / MLP(100)", of_fits["fit"].max(), MOST_OF_A_FIT))
    print(goals(reached))


if __name__ == "__main__":
    main()
