"""One row through ``predict``, over scikit-learn's MLP: what a service pays for a request.

    python -m benchmarks.speed.row

Defaults, 10 columns, 300 rows of training, as an array of float64 and as a DataFrame. Processor
seconds of one thread, single calls in turns, least of all; the second column has medians.
"""

import argparse
import warnings
from time import process_time
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.neural_network import MLPClassifier, MLPRegressor
from threadpoolctl import threadpool_limits

from benchmarks.common.report import Goal, goals, table
from benchmarks.speed.loop import make_data
from sklearn_metakan import KANClassifier, KANRegressor, MetaKANClassifier, MetaKANRegressor

ROWS, COLUMNS, CALLS = 300, 10, 400
MOST = 4.0
KINDS = {
    MLPRegressor: (KANRegressor, MetaKANRegressor),
    MLPClassifier: (KANClassifier, MetaKANClassifier),
}


def one_row(calls: int = CALLS) -> list[dict[str, Any]]:
    """Rows of the table; the first tenth of the calls warms up."""
    X, y = make_data(ROWS, COLUMNS)
    frame = pd.DataFrame(X.astype(np.float64)).rename(columns="x{}".format)
    found = []
    for peer, ours in KINDS.items():
        target = y if peer is MLPRegressor else np.digitize(y, np.quantile(y, [1 / 3, 2 / 3]))
        for container, given in (("array", frame.to_numpy()), ("DataFrame", frame)):
            models = [kind(random_state=0, max_iter=2).fit(given, target) for kind in (peer, *ours)]
            one = given[:1]
            spent = np.empty((calls, len(models)))
            for times in spent:
                for number, model in enumerate(models):
                    begin = process_time()
                    model.predict(one)
                    times[number] = process_time() - begin
            least, middle = spent[calls // 10 :].min(0), np.median(spent[calls // 10 :], axis=0)
            for number, model in enumerate(models[1:], 1):
                row = {"model": type(model).__name__, "row": container}
                row |= {"MLP us": least[0] * 1e6, "least": least[number] / least[0]}
                found.append(row | {"median": middle[number] / middle[0]})
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=CALLS)
    calls = parser.parse_args(arguments).calls
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with threadpool_limits(1):
        rows = pd.DataFrame(one_row(calls))
    columns = {"model": "{model}", "row": "{row}", "MLP us": "{MLP us:.0f}"}
    columns |= {"one row / MLP's": "{least:.1f}", "medians": "{median:.1f}"}
    print(table(rows, columns) + "\n")
    print(goals([Goal("one row / scikit-learn's MLP", rows["least"].max(), MOST)]))


if __name__ == "__main__":
    main()
