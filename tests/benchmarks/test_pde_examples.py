"""Examples of DeepXDE run as they are, and are scored as ours; here with a package in its place."""

import sys
from argparse import Namespace
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.pde import examples, suite

SCRIPT = """
import deepxde as dde
from deepxde.backend import tf
import numpy as np
np.load("../dataset/there.npy")
assert __name__ == "__main__" and float(tf.sin(tf.concat([tf.exp(T0), T0], axis=0)).sum()) != 0
model = dde.Model({scale})
model.train()
""".replace("T0", "__import__('torch').zeros(1)")


class Model:
    """Predicts a share of ``sin(pi x)``, and reports an error as DeepXDE does."""

    def __init__(self, scale):
        self.scale, self.train_state = scale, SimpleNamespace(best_metrics=[0.9])

    def train(self):
        while self.scale < 0:  # until it is stopped
            pass

    def predict(self, x):
        return abs(self.scale) * np.sin(np.pi * x)


@pytest.fixture
def peers_dir(tmp_path, monkeypatch):
    deepxde = ModuleType("deepxde")
    deepxde.backend, deepxde.Model = ModuleType("deepxde.backend"), Model
    deepxde.config = SimpleNamespace(set_random_seed=torch.manual_seed)
    monkeypatch.setitem(sys.modules, "deepxde", deepxde)
    monkeypatch.setitem(sys.modules, "deepxde.backend", deepxde.backend)
    monkeypatch.setenv("DDE_BACKEND", "")
    folder = tmp_path / "examples"
    for part in ("dataset", "pinn_forward"):
        (folder / part).mkdir(parents=True)
    np.save(folder / "dataset" / "there.npy", np.zeros(1))
    for name, scale in (("Poisson_Dirichlet_1d", 0.75), ("Poisson_periodic_1d", -0.5)):
        text = SCRIPT.format(scale=scale)
        (folder / "pinn_forward" / f"{name}.py").write_text(text, encoding="utf-8")
    return tmp_path


def test_an_example_is_scored_at_our_points(peers_dir):
    row = examples.measure(examples.Example("Poisson_Dirichlet_1d", 0, 60.0), peers_dir)
    assert row["error"] == pytest.approx(0.25) and row["finished"]


def test_an_example_that_takes_too_long_is_scored_as_it_is(peers_dir):
    row = examples.measure(examples.Example("Poisson_periodic_1d", 0, 0.5), peers_dir)
    assert row["error"] == pytest.approx(0.5) and not row["finished"]


def test_only_examples_that_came_to_their_end_are_compared(peers_dir, tmp_path):
    options = Namespace(out=tmp_path / "out", jobs=1, minutes=None, peers_dir=peers_dir)
    names = ["Poisson_Dirichlet_1d", "Poisson_periodic_1d"]
    found = examples.finished(options, 1.0, names)
    assert found == {"DeepXDE: Poisson_Dirichlet_1d": pytest.approx(0.25)}
    trial = suite.Trial("poisson-sine", "common", 0, "cpu", 1.0)._asdict()
    row = {"error": 0.2, "parameters": 1, "iterations": 1, "seconds_taken": 1.0, "said_so": True}
    text = "\n".join(suite.report([trial | row], found))
    assert "as good or better in 1 of 1" in text and "| 2.5e-01 |" in text


def test_every_example_that_is_stated_has_a_name():
    assert len(examples.EXAMPLES) == len(set(examples.EXAMPLES)) == 46
