"""One fit, in a process of its own: errors, seconds, numbers, memory.

    python -m benchmarks.tables.fit '{"trial": {...}, "data_dir": ..., "peers_dir": ...}'

prints the results, JSON, as its last line.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from joblib import parallel_config
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.common.measure import seconds
from benchmarks.tables.peers import PEERS, make, n_parameters, peer_of
from benchmarks.tables.sets import Fold, load_fold

ROOT = Path(__file__).parents[2]
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
SMALLEST = 1e-7  # probability; float32 knows none between it and 0 in 1 - p


class Trial(NamedTuple):
    """What a row is of.

    ``model`` is a label, see ``peer_of``; ``settings`` are JSON, "" for the defaults; ``scored``
    "test" or "held out"; ``max_rows`` 0 for all training rows.
    """

    data: str
    split: int
    model: str
    settings: str
    scored: str
    max_rows: int
    device: str


RESULTS = ("error", "accuracy", "constant", "coverage", "fit_seconds", "fit_cpu")
RESULTS += ("predict_seconds", "parameters", "memory", "memory_before", "train_rows", "test_rows")
RESULTS += ("columns", "version", "processor")


def run(
    trial: Trial, data_dir: Path, peers_dir: Path | None = None, processes: int = 1
) -> dict[str, Any]:
    """``measure`` in a new process, one thread, an empty folder. RuntimeError if it fails."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    asked = {"trial": trial._asdict(), "data_dir": str(data_dir.resolve())}
    asked |= {"peers_dir": str(peers_dir.resolve()) if peers_dir else None, "processes": processes}
    command = [sys.executable, "-m", "benchmarks.tables.fit", json.dumps(asked)]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command,
            env=os.environ | ONE_THREAD | {"PYTHONPATH": os.pathsep.join(paths)},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"exit status {done.returncode}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(trial: Trial, data_dir: Path, peers_dir: str | None = None) -> dict[str, Any]:
    """Fit and predict once.

    ``error`` is the root of the mean square, or the log loss with probabilities of at least
    1e-7; ``constant`` that of the training rows' mean, or of their shares of classes;
    ``coverage`` the share of the rows in 90 % intervals, of regressors that give some. Seconds
    of the fit include what the model imports then; ``fit_cpu`` are those of the processor, of all
    processes, which say more where others run, and nothing of a card. Memory, in megabytes, is
    the most that the process ever had, and what it had before the fit.
    """
    held_out, most = trial.scored == "held out", trial.max_rows or None
    fold = load_fold(trial.data, trial.split, data_dir, most, held_out)
    name = peer_of(trial.model)
    categories = [*fold.X_train.select_dtypes("category").columns]
    settings = json.loads(trial.settings) if trial.settings else {}
    model = make(name, fold.task, trial.split, trial.device, settings, categories, peers_dir)
    torch.zeros(1, device=trial.device)  # starts a card
    before = memory("VmRSS")
    cpu = sum(os.times()[:4])  # of this process and of those that it starts
    spent = seconds(lambda: model.fit(fold.X_train, fold.y_train), trial.device)
    cpu = sum(os.times()[:4]) - cpu
    method = model.predict if fold.task == "regression" else model.predict_proba
    begin = time.perf_counter()
    predicted = np.asarray(method(fold.X_test), dtype=np.float64)
    predict_seconds = time.perf_counter() - begin
    return {
        **score(fold, predicted),
        "constant": constant_error(fold),
        "coverage": coverage(model, fold),
        "fit_seconds": round(spent, 4),
        "fit_cpu": round(cpu, 4),
        "predict_seconds": round(predict_seconds, 5),
        "parameters": n_parameters(model),
        "memory": memory("VmHWM"),
        "memory_before": before,
        "train_rows": len(fold.y_train),
        "test_rows": len(fold.y_test),
        "columns": fold.X_train.shape[1],
        "version": PEERS[name].version(),
        "processor": processor(),
    }


def score(fold: Fold, predicted: NDArray[Any]) -> dict[str, float | None]:
    """``predicted``: values, or probabilities of the classes of the training rows."""
    if fold.task == "regression":
        errors = predicted.reshape(fold.y_test.shape) - fold.y_test
        return {"error": float(np.sqrt(np.mean(errors**2))), "accuracy": None}
    right = np.unique(fold.y_train)[predicted.argmax(axis=1)] == fold.y_test
    return {"error": _log_loss(fold, predicted), "accuracy": float(right.mean())}


def constant_error(fold: Fold) -> float:
    if fold.task == "regression":
        return float(np.sqrt(np.mean((fold.y_train.mean() - fold.y_test) ** 2)))
    shares = np.unique(fold.y_train, return_counts=True)[1] / len(fold.y_train)
    return _log_loss(fold, np.tile(shares, (len(fold.y_test), 1)))


def coverage(model: Any, fold: Fold) -> float | None:
    """Share of the rows scored on that lie in the model's intervals of 90 %."""
    if not hasattr(model, "predict_interval"):
        return None
    low, high = model.predict_interval(fold.X_test, alpha=0.1)
    return float(((low <= fold.y_test) & (fold.y_test <= high)).mean())


def _log_loss(fold: Fold, probabilities: NDArray[Any]) -> float:
    of_true = probabilities / probabilities.sum(axis=1, keepdims=True)
    column = np.searchsorted(np.unique(fold.y_train), fold.y_test)
    return float(-np.log(of_true[np.arange(len(column)), column].clip(SMALLEST)).mean())


def memory(entry: str) -> float | None:
    """Of this process, in megabytes: "VmRSS" now, "VmHWM" at most; None where nobody says."""
    found = _entry(Path("/proc/self/status"), entry)
    return round(int(found.split()[0]) * 1024 / 1e6, 1) if found else None


def processor() -> str | None:
    return _entry(Path("/proc/cpuinfo"), "model name")


def _entry(path: Path, name: str) -> str | None:
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)


def _end_with(parent: int) -> None:
    """A fit whose results nobody would take does not go on."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main() -> None:
    asked = json.loads(sys.argv[1])
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with threadpool_limits(1), parallel_config("multiprocessing", n_jobs=asked["processes"]):
        found = measure(Trial(**asked["trial"]), Path(asked["data_dir"]), asked["peers_dir"])
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main()
