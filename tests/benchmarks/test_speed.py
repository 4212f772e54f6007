"""Speed: the harness and its commands, on tiny shapes."""

import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.speed import harness, loop, memory_speed, models, precision

MODELS = {"mlp", "mlp-2x", "kan", "paper", "linear-2"}
SMOKE = memory_speed.SHAPES["smoke"]
SETTING = harness.Setting(torch.device("cpu"), "fp32", 0.01)


def measure(shape, its_models, wanted=None):
    rows = harness.measure(memory_speed.cases_of(shape, its_models, wanted), SETTING)
    return rows.set_index("model", drop=False)


@pytest.fixture(scope="module")
def rows_by_backend():
    backends = ("reference", "blocked")
    return {each: measure(SMOKE, models.own_models(each), MODELS) for each in backends}


def test_every_model_is_measured(rows_by_backend):
    for rows in rows_by_backend.values():
        assert set(rows.index) == MODELS
        for name in ("parameters", "saved_mb", "rows_per_second", "floor_ms", "eager_ms_p20"):
            assert (rows[name] > 0).all()
        assert (rows["eager_ms_p20"] <= rows["eager_ms_median"]).all()
        assert (rows["eager_ms_median"] <= rows["eager_ms_p80"]).all()
        assert not rows["note"].str.contains("Error").any()
        assert rows["peak_mb"].isna().all() and "captured_ms_median" not in rows  # of a card alone


def test_other_bases_have_names_and_floors_of_their_own():
    its = models.own_models("blocked", "gram")
    rows = measure(SMOKE, its, {"kan-gram", "linear-2-gram"})
    assert rows.loc["kan-gram", "label"] == "KAN, gram"
    edges = 16 * 8 + 8 * 4
    assert rows["parameters"].tolist() == [5 * edges, 2 * edges + 2 * 2 * 5]
    assert [m.features(5) for m in its if m.key in rows.index] == [5, 2]


@pytest.mark.parametrize("model", ["kan", "paper", "linear-2"])
def test_blocked_saves_no_more_than_reference(rows_by_backend, model):
    blocked, reference = (rows_by_backend[b].loc[model] for b in ("blocked", "reference"))
    assert blocked["parameters"] == reference["parameters"]
    assert blocked["saved_mb"] <= reference["saved_mb"]


def test_blocked_saves_the_inputs_of_layers_and_the_targets(rows_by_backend):
    # The loss keeps outputs and targets.
    numbers = SMOKE.batch * (sum(SMOKE.widths) + SMOKE.widths[-1])
    saved = rows_by_backend["blocked"].loc["paper", "saved_mb"]
    assert saved == pytest.approx(4 * numbers / 1e6)


def test_ratios_are_those_of_the_rows(rows_by_backend):
    rows = rows_by_backend["blocked"]
    for ratio, name in (("saved", "saved_mb"), ("eager", "eager_ms_median")):
        np.testing.assert_allclose(rows[f"{ratio}_to_mlp"] * rows.loc["mlp", name], rows[name])
    eager = rows["eager_to_floor"] * rows["floor_ms"]
    np.testing.assert_allclose(eager, rows["eager_ms_median"])


@pytest.mark.parametrize("widths", [(16, 8, 4), (784, 64, 10), (3072, 2048, 2048, 100)])
def test_wide_mlp_has_as_many_parameters(widths):
    _, wide, note = models.wide_mlp(widths)
    assert (wide[0], wide[-1]) == (widths[0], widths[-1])
    target = 2 * sum(a * b for a, b in pairwise(widths))
    count = models.n_parameters(wide)
    assert note == f"{count:,} parameters for {target:,}"
    next_wide = (wide[0], *(width + 1 for width in wide[1:-1]), wide[-1])
    assert abs(count - target) <= models.n_parameters(next_wide) - count


def test_equal_parameters():
    for model in models.own_models():
        widths = models.equal_widths(model, (20, 227, 1), 5)
        network = model.build(widths, 5, torch.device("cpu"))
        count = sum(p.numel() for p in network.parameters())
        assert abs(count - models.n_parameters((20, 227, 1))) <= 21 * 9


def test_products_are_those_of_a_step():
    products = harness.products_of(harness.Shape("", (16, 8, 4), 32), 9)
    # Forward and weights for both layers, inputs for the second alone.
    assert [(p.way, p.n_in, p.n_out) for p in products] == [
        *((way, 144, 8) for way in ("forward", "to weight")),
        *((way, 72, 4) for way in ("forward", "to weight", "to input")),
    ]
    shapes = {"forward": (32, 4), "to weight": (72, 4), "to input": (32, 72)}
    for product in products[2:]:
        assert product.start(torch.zeros)().shape == shapes[product.way]


def test_convolutions_of_a_step():
    shape = harness.Shape("", (3, 32, 64, 128, 256, 10), 16, size=32)
    products = harness.products_of(shape, 9)
    assert len(products) == 3 * 4 - 1  # the image needs no gradient
    assert [p.n_in for p in products if p.way == "forward"] == [32, 9 * 32, 9 * 64, 9 * 128]
    assert [p.size for p in products if p.way == "to input"] == [32, 16, 8]
    for product in harness.products_of(harness.Shape("", (1, 2, 3, 4, 5, 10), 2, size=32), 2):
        after = -(-product.size // product.stride)
        shapes = {
            "forward": (2, product.n_out, after, after),
            "to input": (2, product.n_in, product.size, product.size),
            "to weight": (product.n_out, product.n_in, 3, 3),
        }
        assert product.start(torch.zeros)().shape == shapes[product.way]


def test_convolutional_networks_are_rows():
    shape = harness.Shape("tiny", (3, 4, 5, 6, 7, 10), 2, size=32)
    rows = measure(shape, models.conv_models("blocked"))
    assert {"mlp", "kan", "kan-kept", "paper", "paper-kept", "linear-2"} <= set(rows.index)
    assert not rows["note"].any()
    saved = rows["saved_mb"]
    assert saved["kan"] < saved["mlp"] < saved["kan-kept"]


def test_a_model_that_fails_is_a_note_in_its_row():
    def fail(widths, grid_size, device):
        raise RuntimeError("no such network")

    rows = measure(SMOKE, [models.own_models()[0], models.Model("broken", "broken", fail)])
    assert "no such network" in rows.loc["broken", "note"]
    assert rows["eager_ms_median"].isna().to_dict() == {
        "mlp": False,
        "mlp-2x": False,
        "broken": True,
    }


def test_what_is_out_of_memory_runs_once_more_alone():
    built = []

    def build(widths, grid_size, device):
        built.append(widths)
        if len(built) == 1:
            raise MemoryError
        return models.make_mlp(widths)

    rows = measure(SMOKE, [models.own_models()[0], models.Model("large", "large", build)])
    assert rows.loc["large", "note"] == "measured alone" and len(built) == 2
    assert rows.loc["large", "eager_ms_median"] > 0


def test_peers_are_there_or_named(tmp_path):
    path = tmp_path / "efficient-kan" / "src" / "efficient_kan"
    path.mkdir(parents=True)
    (path / "kan.py").write_text(
        "from torch import nn\n"
        "def KAN(widths, grid_size): return nn.Linear(widths[0], widths[-1] * grid_size)\n"
    )
    found, missing = models.find_peers(tmp_path)
    labels = [peer.label for peer in models.PEERS]
    assert sorted([*(model.label for model in found), *missing]) == sorted(labels)
    assert "official KAN" in missing
    (peer,) = [model for model in found if model.key == "efficient-kan"]
    assert peer.build((2, 4, 3), 5, torch.device("cpu")).out_features == 15


@pytest.mark.parametrize(("saved", "verdict"), [(1.2, "reached"), (2.6, "SHORT by a factor 2")])
def test_what_is_to_be_reached(saved, verdict):
    rows = [{"shape": "cpu", "model": "mlp", "precision": "fp32", "saved_mb": 1.0}]
    rows += [{"shape": "cpu", "model": "paper", "precision": "fp32", "saved_mb": saved}]
    goals = memory_speed.to_reach(harness.with_ratios(pd.DataFrame(rows)), "CPU")
    verdicts = {goal.line: goal.verdict for goal in goals}
    assert verdicts["p=1: saved for backward / MLP's"] == verdict
    assert verdicts["p=1: step / efficient-kan's"] == "not measured"


def test_what_is_to_be_reached_on_cards():
    peaks = {("deep4", "mlp"): 1, ("deep16", "mlp"): 3, ("deep4", "paper"): 1.5}
    peaks[("deep16", "paper")] = 3.6
    rows = pd.DataFrame(
        {"shape": shape, "model": model, "precision": "tf32", "peak_mb": peak}
        for (shape, model), peak in peaks.items()
    )
    here = {goal.line: goal for goal in memory_speed.to_reach(rows, "NVIDIA H200")}
    assert here["p=1: growth from 4 to 16 layers / MLP's"].measured == pytest.approx(1.05)
    elsewhere = {goal.line for goal in memory_speed.to_reach(rows, "another card")}
    assert {*here} - elsewhere == {"p=1 on 4096, tf32: step, ms"}


def test_memory_speed_writes_its_files(tmp_path, monkeypatch, capsys):
    options = ["--device", "cpu", "--shapes", "smoke", "--seconds-per-row", "0.01"]
    options += ["--models", "mlp,paper,metakan", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["memory_speed.py", *options])
    memory_speed.main()
    files = {"memory_speed.csv", "memory_speed.md", "peak.png", "step.png"}
    assert {path.name for path in tmp_path.iterdir()} == files
    rows = pd.read_csv(tmp_path / "memory_speed.csv")
    assert rows["model"].tolist() == ["mlp", "paper"]
    assert rows["command"].str.endswith("--out DIR").all() and rows["torch"].notna().all()
    text = (tmp_path / "memory_speed.md").read_text()
    assert "## smoke, batch 32, fp32" in text and "| MetaKAN paper (relu, p=1, H=32) |" in text
    assert "## smoke, batch 32, fp32" in capsys.readouterr().out


def test_a_large_table_is_fitted_beside_a_loop():
    rows = loop.tabular_rows(SETTING, {"mlp", "kan"}, rows=3000)
    assert rows["model"].tolist() == ["mlp", "kan"] and not rows["note"].any()
    assert (rows["epoch_seconds"] > 0).all() and (rows["rows_per_second"] > 0).all()
    assert rows["parameters"].tolist() == [65 * 64 + 65, 9 * (64 * 64 + 64)]


def test_the_loop_trains_the_same_network(monkeypatch, capsys):
    monkeypatch.setattr(loop, "SHAPES", [(300, 3, 100, 2)])
    monkeypatch.setattr(sys, "argv", ["loop.py", "--repeats", "1"])
    with pytest.raises(SystemExit):
        loop.main()
    printed = capsys.readouterr().out
    assert "| MetaKANRegressor | 300 | 3 | 100 | 2 |" in printed
    assert "| largest ratio |" in printed


def test_precisions_are_compared(data_dir, monkeypatch, capsys):
    path = data_dir / "fashion_mnist" / "train-images-idx3-ubyte.gz"
    if not path.is_file():
        # Public data, never copied into the project: a clone by itself has none of it.
        pytest.skip(f"public data, no part of the project: {path}; name its folder with --data-dir")
    monkeypatch.setattr(precision, "NETWORK", precision.NETWORK | {"hidden_layer_sizes": (2,)})
    options = ["--device", "cpu", "--epochs", "1", "--seeds", "0", "1", "--limit", "100"]
    monkeypatch.setattr(sys, "argv", ["precision.py", *options, "--data-dir", str(data_dir)])
    precision.main()
    *_, exact, tf32, bf16 = capsys.readouterr().out.strip().splitlines()
    assert exact.startswith("| float32 |") and "| 0.00 |" in exact
    assert exact.split("|")[2:] == tf32.split("|")[2:] and bf16.startswith("| bf16 |")
