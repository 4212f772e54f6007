"""Set what must be in the environment before scikit-learn, matplotlib or triton is imported."""

import os
from collections import Counter
from pathlib import Path

import pytest
import torch
from replays import capture_on_cpu

os.environ.setdefault("SCIPY_ARRAY_API", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

TRIED = "tried: "


def pytest_addoption(parser):
    parser.addoption("--data-dir", type=Path, default=Path("../shared/data"), help="public data")


@pytest.fixture(scope="session")
def data_dir(request):
    """The folder of public data, as in benchmarks; what it lacks skips a test, by name."""
    return request.config.getoption("--data-dir")


@pytest.fixture
def tried(request):
    """Counts what a test tries, by name; the sums stand at the end of a run."""

    def add(name, count=1):
        known = dict(request.node.user_properties)
        known[f"{TRIED}{name}"] = known.get(f"{TRIED}{name}", 0) + count
        request.node.user_properties[:] = known.items()

    return add


def pytest_terminal_summary(terminalreporter):
    sums = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                sums.update({k: n for k, n in report.user_properties if k.startswith(TRIED)})
    for name, count in sorted(sums.items()):
        terminalreporter.write_line(f"{name} {count}")


@pytest.fixture
def pretend(monkeypatch):
    """A CPU on which every net may be captured; the function that records a part of a step."""
    return capture_on_cpu(monkeypatch)
