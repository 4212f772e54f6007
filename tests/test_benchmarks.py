"""The harness of benchmarks/memory_speed.py, on a tiny shape."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks"
MODELS = {"mlp", "mlp-2x", "kan", "paper", "linear-2"}


@pytest.fixture(scope="module")
def bench():
    """The modules of the benchmark; its folder is on the path as when it is called."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        import _convolutions
        import _models
        import _peers
        import _reached
        import _report
        import _rows
        import _timing
        import memory_speed

        yield SimpleNamespace(
            convolutions=_convolutions,
            models=_models,
            peers=_peers,
            reached=_reached,
            report=_report,
            rows=_rows,
            timing=_timing,
            main=memory_speed,
        )


@pytest.fixture(scope="module")
def setting(bench):
    return bench.timing.Setting(torch.device("cpu"), "fp32", 0.01)


@pytest.fixture(scope="module")
def smoke(bench):
    return next(shape for shape in bench.main.SHAPES if shape.name == "smoke")


@pytest.fixture(scope="module")
def rows_by_backend(bench, setting, smoke):
    def measure(backend):
        rows = bench.main.measure_shape(smoke, bench.models.own_models(backend), setting, MODELS)
        return {row.model: row for row in rows}

    return {backend: measure(backend) for backend in ("reference", "blocked")}


def test_every_model_is_measured(rows_by_backend):
    for rows in rows_by_backend.values():
        assert set(rows) == MODELS
        for row in rows.values():
            assert row.parameters > 0
            assert row.saved_mb > 0
            assert row.rows_per_second > 0
            assert row.floor_ms > 0
            assert 0 < row.eager.p20 <= row.eager.median <= row.eager.p80
            assert "Error" not in row.note
            assert (row.peak_mb, row.captured) == (None, None)  # of a card alone


def test_other_bases_have_names_and_floors_of_their_own(bench, setting, smoke):
    models = bench.models.own_models("blocked", "gram")
    rows = bench.main.measure_shape(smoke, models, setting, {"kan-gram", "linear-2-gram"})
    kan, linear = (next(r for r in rows if r.model == f"{key}-gram") for key in ("kan", "linear-2"))
    assert kan.label == "KAN, gram"
    edges = 16 * 8 + 8 * 4
    assert (kan.parameters, linear.parameters) == (5 * edges, 2 * edges + 2 * 2 * 5)
    numbers = [next(m for m in models if m.key == r.model).features(5) for r in (kan, linear)]
    assert numbers == [5, 2]


@pytest.mark.parametrize("model", ["kan", "paper", "linear-2"])
def test_blocked_saves_no_more_than_reference(rows_by_backend, model):
    blocked, reference = (rows_by_backend[b][model] for b in ("blocked", "reference"))
    assert blocked.parameters == reference.parameters
    assert blocked.saved_mb <= reference.saved_mb


def test_blocked_saves_the_inputs_of_layers_and_the_targets(rows_by_backend, smoke):
    # The loss keeps outputs and targets.
    numbers = smoke.batch * (sum(smoke.widths) + smoke.widths[-1])
    assert rows_by_backend["blocked"]["paper"].saved_mb == pytest.approx(4 * numbers / 1e6)


def test_ratios_are_those_of_the_rows(rows_by_backend):
    rows = rows_by_backend["blocked"]
    mlp = rows["mlp"]
    assert mlp.ratios["saved_to_mlp"] == mlp.ratios["eager_to_mlp"] == 1.0
    for row in rows.values():
        assert row.ratios["saved_to_mlp"] * mlp.saved_mb == pytest.approx(row.saved_mb)
        assert row.ratios["eager_to_mlp"] * mlp.eager.median == pytest.approx(row.eager.median)
        assert row.ratios["eager_to_floor"] * row.floor_ms == pytest.approx(row.eager.median)


def test_wide_mlp_has_as_many_parameters(bench):
    for widths in [(16, 8, 4), (784, 64, 10), (3072, 2048, 2048, 100)]:
        _, wide = bench.models.wide_mlp(widths)
        assert (wide[0], wide[-1]) == (widths[0], widths[-1])
        count, target = bench.models.n_parameters(wide), bench.models.two_an_edge(widths)
        next_wide = (wide[0], *(width + 1 for width in wide[1:-1]), wide[-1])
        assert abs(count - target) <= bench.models.n_parameters(next_wide) - count


def test_equal_parameters(bench):
    for model in bench.models.own_models():
        hidden = bench.models.equal_width(model, (20, 100, 1), 5, 5000)
        network = model.build((20, hidden, 1), 5, torch.device("cpu"))
        count = sum(p.numel() for p in network.parameters())
        assert abs(count - 5000) <= 21 * 9


def test_products_are_those_of_a_step(bench):
    products = bench.timing.products_of((16, 8, 4), 32, 9)
    # Forward and weights for both layers, inputs for the second alone.
    assert sorted(sorted(p) for p in products) == sorted(
        [sorted(p) for p in 2 * [(32, 8, 144)] + 3 * [(32, 4, 72)]]
    )


def test_convolutions_of_a_step(bench):
    products = bench.convolutions.map_products((3, 32, 64, 128, 256), 16, 9)
    assert len(products) == 3 * 4 - 1  # the image needs no gradient
    assert [p.n_in for p in products if p.way == "forward"] == [32, 9 * 32, 9 * 64, 9 * 128]
    assert [p.size for p in products if p.way == "to input"] == [32, 16, 8]
    for product in bench.convolutions.map_products((1, 2, 3, 4, 5), 2, 2):
        result = product.start(torch.zeros)()
        after = -(-product.size // product.stride)
        shapes = {
            "forward": (2, product.n_out, after, after),
            "to input": (2, product.n_in, product.size, product.size),
            "to weight": (product.n_out, product.n_in, 3, 3),
        }
        assert result.shape == shapes[product.way]


def test_convolutional_networks_are_rows(bench, setting):
    shape = bench.main.Shape("tiny", (3, 4, 5, 6, 7, 10), 2, size=32)
    models = bench.convolutions.conv_models("blocked")
    rows = {row.model: row for row in bench.main.measure_shape(shape, models, setting)}
    assert {"mlp", "kan", "kan-kept", "paper", "linear-2"} <= set(rows)
    assert not any(row.note for row in rows.values())
    assert rows["kan"].saved_mb < rows["mlp"].saved_mb < rows["kan-kept"].saved_mb


def test_a_model_that_fails_is_a_note_in_its_row(bench, setting, smoke):
    def fail(widths, grid_size, device):
        raise RuntimeError("no such network")

    models = [
        bench.models.own_models()[0],
        bench.models.Model("broken", "broken", fail, lambda grid_size: 1),
    ]
    by_model = {row.model: row for row in bench.main.measure_shape(smoke, models, setting)}
    assert "no such network" in by_model["broken"].note
    assert by_model["broken"].eager is None
    assert by_model["mlp"].eager is not None


def test_peers_are_there_or_named(bench, tmp_path):
    found, missing = bench.peers.find_peers(tmp_path)
    labels = [peer.label for peer in bench.peers.PEERS]
    assert sorted([*(model.label for model in found), *missing]) == sorted(labels)
    assert "official KAN" in missing


@pytest.mark.parametrize(("saved", "verdict"), [(1.2, "reached"), (2.6, "SHORT by 100%")])
def test_reached_says_whether_and_by_how_much(bench, saved, verdict):
    def row(model, saved_mb):
        return bench.rows.Row("cpu", model, model, "", 256, 5, "fp32", saved_mb=saved_mb)

    lines = bench.reached.reached([row("mlp", 1.0), row("paper", saved)], "cpu")
    (line,) = [line for line in lines if line.startswith("CPU, p=1: saved")]
    assert line.endswith(verdict)
    assert any("not measured" in line for line in lines)


def test_report_is_written(bench, rows_by_backend, tmp_path):
    rows = list(rows_by_backend["blocked"].values())
    run = bench.report.describe(torch.device("cpu"), "python benchmarks/memory_speed.py")
    bench.report.write(rows, run, ["a goal"], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "memory_speed.csv",
        "memory_speed.md",
        "peak.png",
        "step.png",
    }
    assert len((tmp_path / "memory_speed.csv").read_text().splitlines()) == 1 + len(rows)
    assert "- a goal" in (tmp_path / "memory_speed.md").read_text()
