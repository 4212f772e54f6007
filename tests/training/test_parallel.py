"""Processes that train together end in the weights of one, and in the same everywhere."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ranks_fit

SCRIPT = Path(__file__).parent / "ranks_fit.py"
SAME = ["regressor", "own loss", "meta", "terms", "classifier", "lbfgs", "images", "few rows"]
SAME += ["stored"]
CAPTURED = ["captured", "captured lbfgs", "captured by one"]
NEAR = (1e-3, 1e-4)  # of float32
COUNTED = ["counted", "counted members", "counted classes", "counted at once"]
RUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def together(folder, names, size=2, before=()):
    """By name, what each process found."""
    command = [*RUN, str(size), SCRIPT, folder, *before, *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return {name: [loaded(folder, name, rank) for rank in range(size)] for name in names}


def loaded(folder, name, rank=0):
    with np.load(folder / f"{name}-{rank}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files if key not in ("seen", "captured")}


def captured(folder, name, size=2):
    """Whether each process captured its steps."""
    return [bool(np.load(folder / f"{name}-{rank}.npz")["captured"]) for rank in range(size)]


def alone(folder, names):
    folder.mkdir()
    ranks_fit.main(folder, *names)
    return {name: loaded(folder, name) for name in names}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def assert_near(one, other, rtol=1e-5, atol=1e-6):
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_allclose(one[key], other[key], rtol=rtol, atol=atol, err_msg=key)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_two_processes_are_one(tmp_path):
    names = ["regressor", "own loss", *CAPTURED]
    single = alone(tmp_path / "alone", names)
    for name, found in together(tmp_path, names).items():
        assert_equal(*found)
        assert_near(found[0], single[name], *(NEAR if name == "captured by one" else ()))
    assert [captured(tmp_path, name) for name in names] == [
        [False, False],
        [False, False],
        [True, True],
        [True, True],
        [True, False],
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("size", [2, 3])
def test_several_processes_are_one(size, tmp_path):
    single = alone(tmp_path / "alone", SAME)
    for name, found in together(tmp_path, SAME, size).items():
        for each in found[1:]:
            assert_equal(found[0], each)
        assert_near(found[0], single[name])


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_two_cards_are_one(tmp_path):
    """Over NCCL, or where there is a single card, which two processes then share, over gloo."""
    names = ["regressor", "meta", "classifier", "images", "lbfgs", "counted", "on cards", *CAPTURED]
    single = alone(tmp_path / "alone", names)
    for name, found in together(tmp_path, names).items():
        for each in (*found, single[name]):
            each.pop("n_read", None)
        assert_equal(*found)
        in_float32 = name in ("on cards", "captured by one")
        assert_near(found[0], single[name], *(NEAR if in_float32 else ()))
    for name in ("regressor", "meta", "classifier", "on cards", "captured", "captured lbfgs"):
        assert captured(tmp_path, name) == [True, True]
    assert captured(tmp_path, "captured by one") == [True, False]
    assert captured(tmp_path, "counted") == [False, False]
    for found in together(tmp_path, ["pde", "counted"], before=["nccl"]).values():
        assert_equal(*(each | {"n_read": 0} for each in found))


@pytest.mark.parametrize(
    ("size", "names"), [(2, COUNTED[:2]), pytest.param(3, COUNTED, marks=pytest.mark.slow)]
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_of_a_stored_table_each_process_reads_its_part(size, names, tmp_path):
    single = alone(tmp_path / "alone", names)
    for name, found in together(tmp_path, names, size).items():
        read = [float(each.pop("n_read")) for each in found]
        alone_read = float(single[name].pop("n_read"))
        assert alone_read > 5  # the survey, and every pass
        assert max(read) < alone_read / size * 1.25
        for each in found[1:]:
            assert_equal(found[0], each)
        assert_near(found[0], single[name])


@pytest.mark.slow
def test_what_one_process_decides_all_do(tmp_path):
    for found in together(tmp_path, ["drawn", "dropout", "time"]).values():
        assert_equal(*found)
        assert found[0]["loss"][-1] < found[0]["loss"][0]


@pytest.mark.slow
def test_the_first_writes_checkpoints_and_all_go_on_from_them(tmp_path):
    first = together(tmp_path, ["checkpoints"])["checkpoints"]
    assert len([*(tmp_path / "run").iterdir()]) == 2
    again = together(tmp_path, ["checkpoints"])["checkpoints"]
    assert_equal(*first)
    assert_equal(*again)
    assert_near(first[0], again[0])


@pytest.mark.slow
def test_solvers_draw_points_of_their_own(tmp_path):
    found = together(tmp_path, ["pde", "captured pde"])
    assert_equal(*found["pde"])
    assert_equal(*found["captured pde"])
    assert_near(found["pde"][0], found["captured pde"][0], *NEAR)
    seen = [np.load(tmp_path / f"pde-{rank}.npz")["seen"] for rank in range(2)]
    assert seen[0].shape == seen[1].shape
    assert not np.isin(seen[0][:, 0], seen[1][:, 0]).all()


@pytest.mark.slow
def test_what_cannot_be_shared_is_refused(tmp_path):
    found = together(tmp_path, ["batch norm", "pde by squares"])
    for name, remedy in {"batch norm": "norm='instance'", "pde by squares": "lbfgs_iter"}.items():
        assert all(remedy in str(each["error"]) for each in found[name])


@pytest.mark.slow
def test_other_rows_in_one_process_are_noticed(tmp_path):
    command = [*RUN, "2", SCRIPT, tmp_path, "others"]
    subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert "whole table" in str(loaded(tmp_path, "others", 1)["error"])
