"""Bytes and trees: what goes in comes out; what is not whole is refused, and says why."""

import errno
import json
import os
import struct
from hashlib import sha256

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from sklearn_metakan.files import Codec, FileError, UnstorableError, container, read, write
from sklearn_metakan.pde import Ball, Box, Dirichlet, Interval, Points, SpaceTime

ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "b": np.zeros((0, 2), dtype=np.int64)}
ARRAYS["c"], ARRAYS["d"] = np.array(True), np.arange(4, dtype=np.float32)[::-1]
TYPES = (Ball, Box, Dirichlet, Interval, Points, SpaceTime)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.safetensors"


def by_file(value, path, types=TYPES):
    codec = Codec(types)
    write(path, {"tree": codec.encode(value, "it")}, codec.arrays)
    opened = read(path)
    found = Codec(types).decode(opened.header["tree"], opened.take)
    opened.close()
    return found


def forged(path, header, arrays=()):
    """A file with a right checksum of any header."""
    text = header if isinstance(header, str) else json.dumps(header)
    said = f"{sha256(text.encode()).hexdigest()} {text}"
    path.write_bytes(save(dict(arrays), {"sklearn_metakan": said}))


def test_arrays_come_back(path):
    write(path, {}, ARRAYS)
    opened = read(path)
    assert opened.header == {"format": container.FORMAT}
    for name, array in ARRAYS.items():
        assert opened.layout(name) == (str(array.dtype), array.shape)
        found = opened.take(name)
        np.testing.assert_array_equal(found, array)
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
    opened.close()


def test_the_same_tree_is_the_same_file(path):
    contents = []
    for _ in range(2):
        write(path, {"x": 1}, ARRAYS)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -(2**70),
        0.1,
        5e-324,
        -0.0,
        float("inf"),
        "tab\t, zero \0, lone \ud800, ä",
        [1, [2.0, "x"], ()],
        (1, (2,)),
        {"a": {"b": [None]}, "": 0},
        {0: "zero", (1, 2): "pair", None: 1, "x": {1.5: 2}},
        {"given": 1},
        torch.float32,
        torch.device("cuda:1"),
        np.dtype("uint8"),
        np.float32(0.1),
        np.int64(2**62),
        np.bool_(True),
        np.str_("label"),
        Interval(0, 1),
        SpaceTime(Ball([0.0, 1.0], 2.0), 0.0, 3.0),
        [Dirichlet(1.0, name="left"), Dirichlet(0.0)],
        Points([[0.0], [1.0]]),
    ],
    ids=repr,
)
def test_values_come_back_with_their_types(value, path):
    found = by_file(value, path)
    assert repr(found) == repr(value)
    assert type(found) is type(value)
    assert found == value


@pytest.mark.parametrize(
    "array",
    [
        np.array(["a", "bcd"]),
        np.array(["a"], dtype="<U9"),
        np.array([["a", "ä" * 300], ["", "\U0001f600"]], dtype="<U999"),
        np.array(["a"] * 999 + ["b" * 999]).astype(">U999"),
        np.array([], dtype=str),
        np.array([["x", None], [3, 2.5]], dtype=object),
        np.array(["2020-01-01", "NaT"], dtype="datetime64[ns]"),
        np.array([1, -5], dtype="timedelta64[s]"),
        np.array([1.0, np.nan, np.inf], dtype=">f8"),
        np.array(3, dtype=np.uint16),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_arrays_of_every_kind(array, path):
    found = by_file(array, path)
    assert found.dtype == array.dtype.newbyteorder("=")
    assert found.shape == array.shape
    np.testing.assert_array_equal(found, array)


def test_tensors_and_numbers_that_are_none(path):
    tensor = torch.tensor([[1.5, float("nan")]])
    torch.testing.assert_close(by_file(tensor, path), tensor, equal_nan=True)
    assert np.isnan(by_file(float("nan"), path))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (print, "it is the function 'print'"),
        ({"a": [0, {1}]}, r"it\.a\[1\] is of type set"),
        (np.random.default_rng(0), "of type Generator"),
        (np.zeros(2, dtype=complex), "dtype complex128"),
        (Dirichlet(lambda x: x), "it.value is the function '<lambda>'"),
        (Ball, "it is the function 'Ball'"),
    ],
)
def test_what_files_cannot_hold_is_named(value, reason):
    with pytest.raises(UnstorableError, match=reason):
        Codec(TYPES).encode(value, "it")


def test_a_tree_without_end_is_refused():
    endless = []
    endless.append(endless)
    with pytest.raises(UnstorableError, match="nested"):
        Codec().encode(endless)


def test_what_is_given_is_referred_to(path):
    first, second = Dirichlet(print), Dirichlet(len)
    codec = Codec(TYPES, {"f": print, "conditions": [first, second]})
    header = codec.encode([print, {"x": second}, first])
    again = Codec(TYPES, {"f": abs, "conditions": [1, 2]})
    assert again.decode(json.loads(json.dumps(header)), None) == [abs, {"x": 2}, 1]


TREES = {
    "unknown kind": {"code": "print()"},
    "two kinds": {"tuple": [], "dict": {}},
    "no array": {"array": "nothing"},
    "no name": {"array": [1]},
    "unknown class": {"object": ["Popen", {"dict": {}}]},
    "fields of another": {"object": ["Ball", {"dict": {"radius": 1.0}}]},
    "impossible": {
        "object": ["SpaceTime", {"dict": {"space": 1, "t0": 0, "t1": 1, "anchors": []}}]
    },
    "no dtype": {"torch": "torch.load"},
    "no device": {"device": "../etc"},
    "width": {"strings": [[1], 10**9, ["a"]]},
    "shape": {"strings": [[3], 1, ["a"]]},
    "long among short": {"strings": [[20_001], 1, ["a"] * 20_000 + ["b" * 10_000]]},
    "no characters": {"characters": [[1], "nothing"]},
    "huge": {"objects": [[10**12], []]},
    "no list": {"tuple": 3},
    "unhashable": {"pairs": [[[1], 2]]},
    "not given": {"given": ["residual", None]},
    "deep": json.loads('{"tuple":[' * 80 + "]}" * 80),
}


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_trees_that_no_encoder_makes(tree, path):
    write(path, {"tree": tree}, {})
    opened = read(path)
    with pytest.raises(FileError, match="damaged"):
        Codec(TYPES).decode(opened.header["tree"], opened.take)


@pytest.mark.parametrize("numbers", [[[0x110000]], [[97.0]], [97]])
def test_characters_that_are_none(numbers, path):
    kind = np.float64 if isinstance(numbers[0], list) and numbers == [[97.0]] else np.uint32
    write(path, {"tree": {"characters": [[1], "a"]}}, {"a": np.array(numbers, dtype=kind)})
    opened = read(path)
    with pytest.raises(FileError, match="damaged"):
        Codec().decode(opened.header["tree"], opened.take)


def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no file, but a device or a pipe"):
        write(tmp_path / "pipe", {}, {})
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        write(tmp_path, {}, {})
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        write(tmp_path / "none" / "file", {}, {})
    assert [each.name for each in tmp_path.iterdir()] == ["pipe"]


def test_paths_may_be_bytes(path):
    write(os.fsencode(path), {"x": 1}, {})
    assert read(os.fsencode(path)).header["x"] == 1


def test_an_array_is_taken_once(path):
    write(path, {}, ARRAYS)
    opened = read(path)
    opened.take("a")
    with pytest.raises(FileError, match="'a' is missing"):
        opened.take("a")
    with pytest.raises(FileError, match="too much"):
        opened.close()


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 100, -1])
def test_files_cut_off(path, length):
    write(path, {}, ARRAYS)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(FileError, match=r"cut off|damaged"):
        read(path)


def test_a_length_that_lies(path):
    write(path, {}, ARRAYS)
    data = path.read_bytes()
    for length in (0, 1, len(data), 2**40, 2**64 - 1):
        path.write_bytes(struct.pack("<Q", length) + data[8:])
        with pytest.raises(FileError):
            read(path)


def test_shapes_that_lie(path):
    write(path, {}, ARRAYS)
    data = path.read_bytes()
    for shape in (b"[3,2]", b"[6,1]", b"[9,9]"):
        path.write_bytes(data.replace(b'"shape":[2,3]', b'"shape":' + shape))
        with pytest.raises(FileError):
            read(path)


def test_numbers_that_were_altered(path):
    write(path, {}, ARRAYS)
    data = bytearray(path.read_bytes())
    data[data.index(ARRAYS["a"].tobytes()) + 9] ^= 1
    path.write_bytes(data)
    opened = read(path)
    opened.take("d")
    with pytest.raises(FileError, match="numbers of 'a' were altered"):
        opened.take("a")


def test_a_header_that_was_altered(path):
    write(path, {"class": "One"}, {})
    path.write_bytes(path.read_bytes().replace(b"One", b"Two"))
    with pytest.raises(FileError, match="header was altered"):
        read(path)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"format": 2, "arrays": {}}, "format 2.*newer version"),
        ({"format": 0, "arrays": {}}, "no format 0"),
        ({"format": True, "arrays": {}}, "does not say its format"),
        ({"arrays": {}}, "does not say its format"),
        ({"format": 1}, "no table of arrays"),
        ({"format": 1, "arrays": {"a": 3}}, "no table of arrays"),
        ({"format": 1, "arrays": {"a": ["float64", [9], ""]}}, "differ in 'a'"),
        ("[]", "does not say its format"),
        ('{"format":1,"format":1,"arrays":{}}', "a key twice"),
        ('{"format":1,"arrays":{},"x":NaN}', "holds NaN"),
        ('{"format":1,"arrays":{},"x":-Infinity}', "holds -Infinity"),
        ("{" * 3, "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ('{"format":' + "9" * 5000 + "}", "cannot be read"),
    ],
)
def test_headers_with_right_checksums(path, header, reason):
    forged(path, header)
    with pytest.raises(FileError, match=reason):
        read(path)


def test_a_dtype_that_lies(path):
    array = np.zeros(3)
    forged(path, {"format": 1, "arrays": {"a": ["float32", [3], ""]}}, {"a": array})
    with pytest.raises(FileError, match="by the header"):
        read(path)


def test_other_files(path, tmp_path):
    path.write_bytes(save({"a": np.zeros(3)}))
    with pytest.raises(FileError, match="none of this package"):
        read(path)
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(FileError, match="no file of this package"):
        read(path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nothing")
    with pytest.raises(OSError):
        read(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere\.$"):
        write(tmp_path / "nowhere" / "model.safetensors", {"x": 1}, ARRAYS)


def test_huge_headers_are_neither_written_nor_read(path, monkeypatch):
    monkeypatch.setattr(container, "_LARGEST_HEADER", 1000)
    with pytest.raises(ValueError, match="more than can be read"):
        write(path, {"x": "y" * 1001}, {})
    assert not path.exists()
    forged(path, {"format": 1, "arrays": {}, "x": "y" * 1001})
    with pytest.raises(FileError, match="more than is read"):
        read(path)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(path, monkeypatch, call):
    write(path, {"x": 1}, ARRAYS)
    before = path.read_bytes()

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, full)
        with pytest.raises(OSError, match="No space"):
            write(path, {"x": 2}, ARRAYS)
    assert path.read_bytes() == before
    assert [*path.parent.iterdir()] == [path]


def test_a_link_stays_one(path, tmp_path):
    link = tmp_path / "link"
    write(path, {"x": 1}, {})
    link.symlink_to(path)
    write(link, {"x": 2}, {})
    assert link.is_symlink()
    assert read(path).header["x"] == 2
