"""The paper's images, on tiny files: loaders, search, report."""

import gzip
import io
import pickle
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.io import savemat

from benchmarks.common import data
from benchmarks.paper import conv_images, fc_images, networks
from benchmarks.paper.__main__ import main
from sklearn_metakan.nn import MetaCoefficients, MetaLearner


@pytest.fixture(autouse=True)
def _narrow(monkeypatch):
    channels = {4: (2, 3, 3, 2), 8: (2, 2, 3, 3, 4, 4, 3, 2)}
    monkeypatch.setattr(networks, "CHANNELS", channels)


def write_idx(path, array):
    path.parent.mkdir(exist_ok=True)
    sizes = np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(b"\0\0\x08" + bytes([array.ndim]) + sizes + array.tobytes()))


def draw(n, shape, seed=0):
    """Images whose class, of three, is how bright they are."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % 3).astype(np.uint8)
    noise = rng.integers(0, 60, size=(n, *shape))
    return (noise + 80 * labels.reshape(-1, *[1] * len(shape))).astype(np.uint8), labels


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data folder: MNIST in full, KMNIST's test part, CIFAR-10 as JPEG, SVHN, CIFAR-100."""
    folder = tmp_path_factory.mktemp("data")
    for name, part, n in (("mnist", "train", 72), ("mnist", "t10k", 24), ("kmnist", "t10k", 30)):
        images, labels = draw(n, (8, 8))
        write_idx(folder / name / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(folder / name / f"{part}-labels-idx1-ubyte.gz", labels)
    for part, n in (("train", 9), ("test", 6)):
        images, labels = draw(n, (32, 32, 3))
        (folder / "svhn").mkdir(exist_ok=True)
        table = {"X": images.transpose(1, 2, 3, 0), "y": np.where(labels, labels, 10)[:, None]}
        savemat(folder / "svhn" / f"{part}_32x32.mat", table)
        (folder / "cifar100").mkdir(exist_ok=True)
        table = {
            "data": images.transpose(0, 3, 1, 2).reshape(n, -1),
            "fine_labels": labels.tolist(),
        }
        (folder / "cifar100" / part).write_bytes(pickle.dumps(table))
    return folder


def find(images, labels):
    """Rows as a set, whatever their order."""
    return sorted(
        (image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)
    )


def test_idx_files_in_a_shuffled_order(folder):
    found = data.load_images("mnist", folder)
    images, labels = draw(72, (8, 8))
    assert found.train.X.shape == (72, 1, 8, 8) and found.test.X.shape == (24, 1, 8, 8)
    assert find(found.train.X, found.train.y) == find(images, labels)
    assert found.train.y.tolist() != labels.tolist() and not found.note


def test_validation_rows_are_the_last_of_those_that_are_used(folder):
    found = data.load_images("mnist", folder)
    for limit, n in ((0, 72), (30, 30)):
        fitted, held = found.fitted_and_held(limit)
        assert (len(fitted.y), len(held.y)) == (n - n // 6, n // 6)
        np.testing.assert_array_equal(np.r_[fitted.y, held.y], found.train.first(limit).y)
    assert len(found.fitted_and_held(0, 5)[1].y) == 5


def test_copies_are_shifted_by_a_pixel(folder):
    train = data.load_images("mnist", folder).train
    more = train.with_shifted(2, seed=0)
    assert more.X.shape == (216, 1, 8, 8) and more.X.dtype == np.uint8
    np.testing.assert_array_equal(more.X[:72], train.X)
    np.testing.assert_array_equal(more.y, np.tile(train.y, 3))
    padded = np.pad(train.X[:, 0], ((0, 0), (1, 1), (1, 1)))
    found = set()
    for image, around in zip(more.X[72:144, 0], padded, strict=True):
        places = [(d, r) for d in range(3) for r in range(3)]
        (place,) = [
            (d, r) for d, r in places if np.array_equal(image, around[d : d + 8, r : r + 8])
        ]
        found.add(place)
    assert len(found) == 9


def test_where_training_rows_are_missing_test_rows_are_split(folder):
    found = data.load_images("kmnist", folder)
    assert (len(found.train.y), len(found.test.y)) == (24, 6)
    both = [np.concatenate(pair) for pair in zip(found.train, found.test, strict=True)]
    assert find(*both) == find(*draw(30, (8, 8)))
    assert "own split" in found.note


@pytest.mark.parametrize("name", ["svhn", "cifar100"])
def test_images_in_colour(folder, name):
    found = data.load_images(name, folder)
    images, labels = draw(9, (32, 32, 3))
    assert find(found.train.X, found.train.y) == find(images.transpose(0, 3, 1, 2), labels)
    assert len(found.test.y) == 6 and found.train.X.dtype == np.uint8


def test_compressed_images(tmp_path):
    image = pytest.importorskip("PIL.Image")
    arrays, table = {}, {}
    for part, n in (("train", 6), ("test", 3)):
        images, labels = draw(n, (32, 32, 3))
        files = []
        for pixels in images:
            file = io.BytesIO()
            image.fromarray(pixels).save(file, "JPEG", quality=95)
            files.append(file.getvalue())
        arrays[f"jpeg_{part}"] = np.frombuffer(b"".join(files), np.uint8)
        arrays[f"offsets_{part}"] = np.cumsum([0, *map(len, files)])
        arrays[f"y_{part}"], table[part] = labels, images
    (tmp_path / "cifar10_jpeg").mkdir()
    np.savez(tmp_path / "cifar10_jpeg" / "cifar10_jpeg.npz", **arrays)
    found = data.load_images("cifar10", tmp_path)
    assert found.test.X.shape == (3, 3, 32, 32) and "JPEG" in found.note
    exact = table["test"].transpose(0, 3, 1, 2).mean((1, 2, 3))
    np.testing.assert_allclose(found.test.X.mean((1, 2, 3)), exact, atol=2)


def test_missing_data_is_named_and_left_out(tmp_path, capsys):
    with pytest.raises(SystemExit, match="no data set in"):
        data.available(["fashion_mnist", "cifar10"], tmp_path)
    said = capsys.readouterr().out
    assert "train-images-idx3-ubyte.gz is missing" in said and "cifar10_jpeg.npz" in said
    with pytest.raises(ValueError, match="no data set 'mnits'"):
        data.available(["mnits"], tmp_path)


FULL = ["--models", "kan", "relu-4-layer", "--axes", "learning_rate", "scale_inputs"]
FULL += ["--widths", "3", "--epochs", "2", "--seeds", "0", "1", "--data", "mnist"]


@pytest.fixture(scope="module")
def full_run(folder, tmp_path_factory):
    """The folder of a run, and the arguments that made it."""
    out = tmp_path_factory.mktemp("full")
    arguments = ["fc-images", *FULL, "--data-dir", str(folder), "--out", str(out)]
    main(arguments)
    return out, arguments


def test_search_tries_every_value_and_tests_the_best(full_run):
    rows = pd.read_csv(full_run[0] / "fc_images.csv")
    for _, group in rows.groupby("model"):
        tried, tests = (group[group["rows"] == kind] for kind in ("validation", "test"))
        assert len(tried) == 4 + 2  # rates, then two more scalings with the best of them
        assert set(tried["fitted"]) == {60} and set(tried["scored"]) == {12}
        best = tried.loc[tried["accuracy"].idxmax()]
        assert tests["seed"].tolist() == [0, 1] and set(tests["fitted"]) == {72}
        for name in ("learning_rate", "scale_inputs"):
            assert set(tests[name]) == {best[name]}


def test_run_goes_on_where_it_was_stopped(full_run, monkeypatch):
    out, arguments = full_run
    path, held, hold = out / "fc_images.csv", [], fc_images.hold

    def watch(trial, **options):
        held.append(trial)
        return hold(trial, **options)

    monkeypatch.setattr(fc_images, "hold", watch)
    finished = path.read_text()
    main(arguments)
    assert not held and path.read_text() == finished
    path.write_text(finished[: finished.rstrip("\n").rfind("\n") + 9])  # its last line torn
    main(arguments)
    assert len(held) == 1 and len(path.read_text().splitlines()) == len(finished.splitlines())
    main([*arguments, "--limit", "30", "--minutes", "0"])
    assert len(held) == 1


def test_of_equals_the_first_is_tested():
    trials = [{"learning_rate": rate} for rate in (0.1, 0.03, 0.01)]
    rows = [make_row("kan", "validation", 0.5, **trial) for trial in trials]
    rows += [make_row("kan", "test", 0.9), make_row("relu-16", "validation", 0.8)]
    start = fc_images.Trial("budget", "fashion_mnist", 0, "32", "kan", 10, "tf32")
    best = fc_images.best_tried(pd.DataFrame(rows), start)
    assert best == start._replace(learning_rate=0.1)


def test_a_fit_that_fails_leaves_no_row(folder, tmp_path, monkeypatch, capsys):
    hold = fc_images.hold

    def fail(trial, **options):
        if trial.model == "kan":
            raise RuntimeError("the card is full")
        return hold(trial, **options)

    monkeypatch.setattr(fc_images, "hold", fail)
    main(["fc-images", *FULL, "--data-dir", str(folder), "--out", str(tmp_path)])
    assert set(pd.read_csv(tmp_path / "fc_images.csv")["model"]) == {"relu-4-layer"}
    assert "the card is full" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "name"), [("--models", "relu-x"), ("--axes", "speed"), ("--data", "mnits")]
)
def test_wrong_names_are_found_before_anything_runs(folder, tmp_path, capsys, option, name):
    arguments = ["fc-images", *FULL, option, name, "--data-dir", str(folder)]
    with pytest.raises((ValueError, SystemExit)) as error:
        main([*arguments, "--out", str(tmp_path)])
    assert name in f"{error.value} {capsys.readouterr().err}"
    assert not list(tmp_path.iterdir())


def test_report_of_a_run(full_run):
    text = (full_run[0] / "fc_images.md").read_text()
    assert "### mnist, n-3-k, 2 epochs (budget)" in text
    assert "fitted 60 to choose settings; scored 24 in tests" in text
    assert "| kan | 1,809 | 100.0% | 6 |" in text


def make_row(model, rows, accuracy, seed=0, parameters=1000, **settings):
    trial = fc_images.Trial(
        "budget", "fashion_mnist", 0, "32", model, 10, "tf32", rows, seed, **settings
    )
    results = dict.fromkeys(fc_images.RESULTS, 1) | {"note": None, "device_name": "CPU"}
    named = {key: str(value) for key, value in trial._asdict().items()}
    return named | results | {"accuracy": accuracy, "parameters": parameters}


def test_validation_chooses_and_test_judges():
    rows = [
        make_row("kan", "validation", 0.88),
        make_row("kan", "test", 0.87),
        make_row("relu-16", "validation", 0.87, parameters=110),
        make_row("relu-16", "validation", 0.86, parameters=110, learning_rate=0.1),
        make_row("relu-16", "test", 0.868, parameters=110),
        make_row("relu-16", "test", 0.870, seed=1, parameters=110),
        make_row("relu-16", "test", 0.99, parameters=110, learning_rate=0.1),
        make_row("sin-32", "validation", 0.95, parameters=220),
        make_row("paper-16", "validation", 0.99, parameters=110),
    ]
    text = "\n".join(fc_images.report(pd.DataFrame(rows)))
    assert "KAN 87.06, MetaKAN 86.65 (H=16)" in text
    assert "| relu-16 | 110 | 11.0% | 2 | 87.00 | 86.90 ± 0.10 | 2 |" in text
    assert "| relu-16, 110 parameters: test % | 86.9 | at least 86.7 | reached |" in text
    assert "points below the KAN | 0.1 | at most 0.3 | reached |" in text
    assert "| sin-32 | 220 | 22.0% | 1 | 95.00 |  | 0 |" in text  # no test yet


def test_parameters_bound_what_may_win_in_the_part_best():
    rows = [
        make_row(model, kind, accuracy, parameters=parameters)
        | {"part": "best", "data": "mnist", "widths": "64"}
        for model, accuracy, parameters in (("kan", 0.985, 457_344), ("sin-32", 0.979, 101_993))
        for kind in ("validation", "test")
    ]
    text = "\n".join(fc_images.report(pd.DataFrame(rows)))
    assert "| sin-32, 101,993 parameters: test % | 97.9 | at least 98 | SHORT by 0.102% |" in text


CONV = ["--epochs", "2", "--limit", "36", "--batch-size", "10", "--data", "mnist"]


@pytest.mark.parametrize("part", ["main", "ablation"])
def test_every_network_fits(folder, tmp_path, part):
    arguments = ["conv-images", "--part", part, *CONV, "--sources", "kan", "meta-4"]
    arguments += ["--data-dir", str(folder), "--out", str(tmp_path)]
    main(arguments)
    rows = pd.read_csv(tmp_path / "conv_images.csv")
    counts = {
        "main": [len(networks.NETWORKS)] * 2,
        "ablation": [len(networks.ablation(source)) for source in ("kan", "meta-4")],
    }
    assert rows.groupby("source").size().tolist() == counts[part]
    assert rows["fitted"].eq(30).all() and rows["scored"].eq(24).all()
    assert rows["curve"].str.split().str.len().eq(2).all()
    if part == "main":
        text = (tmp_path / "conv_images.md").read_text()
        assert "### mnist, 4 layers, 2 epochs (main)" in text
        assert "| 98.43 |" in text and "| 96.03 |" in text
        before = (tmp_path / "conv_images.csv").read_text()
        main(arguments)
        assert (tmp_path / "conv_images.csv").read_text() == before


@pytest.mark.parametrize(
    ("source", "learners"), [("meta-4", 1), ("meta-4x3", 3), ("meta-4xlayer", 8)]
)
def test_eight_layers_share_meta_learners(folder, tmp_path, source, learners):
    arguments = ["conv-images", *CONV, "--networks", "bspline", "--layers", "8"]
    arguments += ["--sources", source, "--data-dir", str(folder), "--out", str(tmp_path)]
    main(arguments)
    row = pd.read_csv(tmp_path / "conv_images.csv").iloc[0]
    edges = 9 * sum(a * b for a, b in pairwise((1, 2, 2, 3, 3, 4, 4, 3, 2)))
    norms, slopes, head = 2 * (2 + 2 + 3 + 3 + 4 + 4 + 3 + 2), 8, (2 + 1) * 3
    assert row["parameters"] == edges + norms + slopes + head + learners * (2 * 4 + 5 * 9)
    text = (tmp_path / "conv_images.md").read_text()
    assert "### mnist, 8 layers, 2 epochs (main)" in text and "| 98.43 |" not in text


def test_rates_are_chosen_on_validation_rows(folder, tmp_path):
    arguments = ["conv-images", *CONV, "--networks", "rbf", "--sources", "kan", "meta-4"]
    arguments += ["--learning-rate", "1e-9", "0.03", "--prompt-factor", "1", "10"]
    arguments += ["--search-epochs", "1", "--epochs", "4", "--seeds", "0", "1"]
    arguments += ["--data-dir", str(folder), "--out", str(tmp_path)]
    main(arguments)
    rows = pd.read_csv(tmp_path / "conv_images.csv")
    tries, tests = (rows[rows["purpose"] == purpose] for purpose in ("choice", "test"))
    assert tries.groupby("source").size().tolist() == [2 * 2, 2 * 4]  # two seeds
    assert tests.groupby("source").size().tolist() == [2, 2]

    assert tries["scored"].eq(6).all() and tries["epochs"].eq(1).all()
    assert tests["curve"].str.split().str.len().eq(4).all() and tests["scored"].eq(24).all()
    for test in tests.itertuples():
        own = tries[(tries["source"] == test.source) & (tries["seed"] == test.seed)]
        best = own.loc[own["accuracy"].idxmax()]
        assert (best["learning_rate"], best["prompt_factor"]) == (
            test.learning_rate,
            test.prompt_factor,
        )
    # Choices at another batch size are those of another table.
    main([*arguments, "--batch-size", "9"])
    text = (tmp_path / "conv_images.md").read_text()
    lines = [line.split("|") for line in text.splitlines() if line.startswith("| rbf | meta-4 |")]
    assert [int(cells[4]) for cells in lines] == [4, 4]  # of each seed


def test_an_unknown_source_is_named(folder, tmp_path):
    with pytest.raises(ValueError, match=r"kan, meta-H, meta-HxM or meta-Hxlayer: 'meta-4x'"):
        main(["conv-images", *CONV, "--sources", "meta-4x", "--data-dir", str(folder)])


def test_images_in_colour_are_flipped_and_cropped(folder, tmp_path, monkeypatch):
    asked = []
    estimator = networks.conv_estimator

    def watch(**options):
        asked.append(options["augment"])
        return estimator(**options)

    monkeypatch.setattr(networks, "conv_estimator", watch)
    for name in ("svhn", "mnist"):
        arguments = [*CONV, "--networks", "rbf", "--sources", "kan", "--data", name]
        arguments += ["--data-dir", str(folder), "--out", str(tmp_path)]
        main(["conv-images", *arguments])
    assert asked == ["flip_crop", None]


def test_long_curves_are_shortened():
    assert conv_images.shortened("0.5 0.625") == "50.0 62.5"
    text = " ".join(f"{epoch / 100:.4f}" for epoch in range(1, 51))
    assert conv_images.shortened(text).split() == ["1.0", *map(str, np.arange(8.0, 51, 7))]


def test_mixed_prompts_move_numbers_between_edges():
    """As (out * in * 9, C) read as (out, in * C, 3, 3)."""
    n_in, n_out, C = 2, 3, 4
    weights = torch.arange(n_in * 9 * C * n_out).view(n_in * 9, C, n_out)
    moved = networks.mixed(weights, (n_in, 3, 3))
    generated = weights.permute(2, 0, 1).reshape(-1, C).numpy()
    read = generated.reshape(n_out, n_in * C, 3, 3)
    for o, i, c, k in ((0, 0, 0, 0), (2, 1, 3, 8), (1, 0, 2, 5)):
        assert moved[i, k // 3, k % 3, c, o] == read[o, i * C + c, k // 3, k % 3]
    assert sorted(moved.flatten().tolist()) == weights.flatten().tolist()


def test_networks_of_mixed_prompts_have_them(folder):
    images = data.load_images("mnist", folder).train
    settings = {"layers": 4, "learning_rate": 0.01, "prompt_factor": 1.0, "max_iter": 1}
    for network, kind in (
        ("mixed prompts", networks.MixedCoefficients),
        ("all as published", networks.MixedCoefficients),
        ("bspline", MetaCoefficients),
    ):
        model = networks.conv_estimator(network=network, source="meta-4", **settings)
        model.fit(images.X, images.y)
        assert all(type(layer.source) is kind for layer in model.module_.kan_layers())


def test_mixed_prompts_are_trained():
    meta = MetaCoefficients((2, 3, 3), 4, MetaLearner(1, 8, 9))
    source = networks.MixedCoefficients(meta)
    layer = networks.build_mixed((1, 4, 4), (3, 2), 2, n_meta_learners=1)
    layer(torch.rand(2, 1, 4, 4)).sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())
    (weights,), shared = source.tensors()
    assert weights.shape == (18, 9, 4) and not shared
