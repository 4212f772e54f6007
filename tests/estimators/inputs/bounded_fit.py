"""A fit to a table four times as large as the memory: ``bounded_fit.py kind folder MiB``.

Writes the table, fits and predicts once with a small one, then sets a limit on the memory of
the process (RLIMIT_DATA) at what it has now and a quarter of the table, and fits and predicts.
Prints what it had and needed; ``kind`` "memory" reads the table as a whole, which is to fail.
"""

import json
import resource
import sys
from pathlib import Path

import numpy as np
import torch

from sklearn_metakan import MetaKANRegressor, StoredTable

COLUMNS, BLOCK = 256, 2048  # rows that are written at a time
MODEL = {"hidden_layer_sizes": (4,), "n_estimators": 2, "max_iter": 1, "batch_size": 256}
MODEL |= {"random_state": 0, "early_stopping": True, "working_memory": 4.0}


def pieces(n, rng):
    for _ in range(0, n, BLOCK):
        yield rng.normal(size=(BLOCK, COLUMNS)).astype(np.float32)


def written(kind, folder, n):
    """A table of n rows in a file, and its first column."""
    rng, first = np.random.default_rng(0), []
    path = Path(folder) / kind
    if kind == "parquet":
        import pyarrow as pa
        from pyarrow import dataset, parquet

        names = [f"c{j}" for j in range(COLUMNS)]
        schema = pa.schema([(name, pa.float32()) for name in names])
        with parquet.ParquetWriter(path, schema) as writer:
            for block in pieces(n, rng):
                writer.write_table(pa.Table.from_arrays([*block.T.copy()], schema=schema))
                first.append(block[:, 0])
        return dataset.dataset(path), np.concatenate(first)
    if kind == "hdf5":
        import h5py

        file = h5py.File(path, "w")
        room = file.create_dataset("X", (n, COLUMNS), "f4", chunks=(1024, COLUMNS))
    else:
        room = np.lib.format.open_memmap(path, "w+", np.float32, (n, COLUMNS))
    for number, block in enumerate(pieces(n, rng)):
        room[number * BLOCK : (number + 1) * BLOCK] = block
        first.append(block[:, 0])
    if kind != "hdf5":
        room.flush()
        room = np.load(path, mmap_mode="r")
    return room, np.concatenate(first)


def memory():
    """Bytes of private memory that the process may write to."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if "VmData" in line) * 1024


def main(kind, folder, size):
    torch.set_num_threads(1)
    n = int(float(size) * 2**20 / 4 / COLUMNS) // BLOCK * BLOCK
    source, y = written(kind, folder, n)
    few = StoredTable(source, memory=size / 32)[:BLOCK]
    MetaKANRegressor(**MODEL).fit(few, y[:BLOCK]).predict(few)
    room, before = n * COLUMNS, memory()  # a quarter of the table
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (before + room, hard))
    X = np.array(source) if kind == "memory" else StoredTable(source, memory=size / 32)
    model = MetaKANRegressor(**MODEL).fit(X, y)
    facts = {"rows": n, "MiB": n * COLUMNS / 2**18, "room": room / 2**20, "R2": model.score(X, y)}
    print(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:3], float(sys.argv[3]))
