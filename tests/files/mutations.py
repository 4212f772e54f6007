"""Mutated files, in a process of its own: ``mutations.py count seed`` prints what came of them.

Bytes: bits flipped, parts overwritten, cut out, doubled, moved, cut off: the file is to be
refused, or to predict as before. Forged: some value of the header is another one, with right
checksums: the file is to be refused with a ValueError, or read. In both cases, no memory beyond
that of the file.
"""

import json
import random
import resource
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from small_models import FIXTURES, NAMES, made, outputs

from sklearn_metakan import files, load

torch.set_num_threads(1)
warnings.simplefilter("ignore")
ODD = [
    None,
    True,
    0,
    -1,
    1,
    2,
    3,
    10**9,
    2**63,
    -(10**20),
    0.5,
    1e308,
    "",
    "x",
    "torch.load",
    [],
    {},
]
ODD += [{"float": "nan"}, {"float": "inf"}, {"array": "nothing"}, {"tuple": []}, {"dict": {}}, [[]]]
ODD += [{"strings": [[20_001], 1, ["a"] * 20_000 + ["b" * 10_000]]}, [1] * 8000]
ODD += ["cuda:0", "../../etc/passwd", {"given": ["residual", None]}, {"object": ["Points", {}]}]


def of_bytes(data, rng):
    """One to three changes of the bytes, more often in the header than chance would have it."""
    data = bytearray(data)
    header = int.from_bytes(data[:8], "little") + 8
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        end = rng.choice([8, header, len(data)]) if len(data) > header else len(data)
        at, size = rng.randrange(max(1, end)), rng.choice([1, 1, 2, 8, 64, 1000])
        kind = rng.randrange(7)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + size] = rng.randbytes(size)
        elif kind == 2:
            del data[at : at + size]
        elif kind == 3:
            data[at:at] = data[at : at + size]
        elif kind == 4:
            part, to = data[at : at + size], rng.randrange(max(1, len(data)))
            data[to : to + len(part)] = part
        elif kind == 5:
            del data[at:]
        else:
            data[at : at + size] = bytes(size)
    return bytes(data)


def places(tree, found):
    """Every container of a tree and a key in it."""
    for key in tree if isinstance(tree, dict) else range(len(tree)):
        found.append((tree, key))
        if isinstance(tree[key], dict | list):
            places(tree[key], found)
    return found


def forged(path, target, rng):
    """Another header with right checksums."""
    opened = files.read(path)
    arrays = {name: opened.take(name) for name in [*opened._left]}
    header = opened.header
    del header["format"]
    for _ in range(rng.choice([1, 1, 2])):
        found = places(header, [])
        tree, key = rng.choice(found)
        kind = rng.randrange(4)
        if kind == 0:
            del tree[key]
        elif kind == 1:
            other, of_other = rng.choice(found)
            tree[key] = json.loads(json.dumps(other[of_other])) if of_other in keys(other) else 0
        elif kind == 2 and isinstance(tree, dict):
            tree[rng.choice(["predict", "__class__", "net_", "x_", "_x"])] = tree.pop(key)
        else:
            tree[key] = rng.choice(ODD)
    if rng.random() < 0.2:
        arrays[rng.choice([*arrays])] = np.zeros(rng.choice([0, 1, 100]), rng.choice(["f4", "i8"]))
    files.write(target, header, arrays)


def keys(tree):
    return tree if isinstance(tree, dict) else range(len(tree))


def try_out(path, points, functions, expected):
    """What came of it, by name; raises what should not come."""
    try:
        loaded = load(path, **functions)
    except ValueError:
        return "refused"
    if expected is None:
        try:
            outputs(loaded, points)
        except Exception:  # of another shape, not fitted: as it says
            return "read, not to be used"
        return "read"
    assert np.array_equal(outputs(loaded, points), expected), path
    return "as before"


def main(count, seed):
    rng, found = random.Random(seed), Counter()
    (folder,) = FIXTURES.glob("format-1")
    models = {name: made(name)[1:] for name in NAMES}
    known = {}
    for name, (points, functions) in models.items():
        known[name] = outputs(load(folder / f"{name}.safetensors", **functions), points)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary) / "file"
        for number in range(count):
            name = rng.choice(NAMES)
            (points, functions), path = models[name], folder / f"{name}.safetensors"
            by_bytes = number % 2 == 0
            if by_bytes:
                target.write_bytes(of_bytes(path.read_bytes(), rng))
            else:
                forged(path, target, rng)
            expected = known[name] if by_bytes else None
            came = try_out(target, points, functions, expected)
            found[f"{'bytes' if by_bytes else 'forged'}: {came}"] += 1
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"count": count, "MiB": grown / 1024, **dict(sorted(found.items()))}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
