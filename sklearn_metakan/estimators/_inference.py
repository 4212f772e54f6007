"""What is read off a trained network: its outputs for a table, and the features' importances."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sklearn_metakan.estimators._rows import to_tensor
from sklearn_metakan.estimators._scaling import N_QUANTILES, InputScaler
from sklearn_metakan.nn import KANNetwork, feature_importances, frozen, n_frozen
from sklearn_metakan.training import Execution, by_chunks

DEFAULT_MEMORY = 64.0  # MiB
_IMPORTANCE_ROWS = 512


def network_outputs(
    network: KANNetwork,
    inputs: Callable[[NDArray[Any]], Tensor],
    X: NDArray[Any],
    execution: Execution,
    working_memory: float | None,
) -> NDArray[Any]:
    """Raw outputs (n, n_network_outputs), a chunk of rows at a time.

    In X's dtype, or float32 for whole numbers; ``inputs`` makes a chunk what the network takes.
    Of ``working_memory`` MiB, an eighth is for the rows of a chunk, an eighth for generated
    weights that are kept from one chunk to the next, if all fit in; the layers need at most
    three quarters of what they are given for a training step.
    """
    memory = (DEFAULT_MEMORY if working_memory is None else float(working_memory)) * 2**20
    dtype = X.dtype if X.dtype.kind == "f" else np.dtype(np.float32)
    outputs = np.empty((len(X), network.out_features), dtype=dtype)
    rows = rows_in(memory / 8, network)
    with torch.inference_mode(), execution.active():
        module: nn.Module = network
        # Kept within a call only: from call to call they would save one of 3 ms (one row, 10 or
        # 64 columns, a core), and have to be watched for changes. to_torch() is for serving.
        if rows < len(X) and n_frozen(network, linear=False) * 8 <= memory / 8:
            module = frozen(network, linear=False)

        def compute(chunk: slice) -> None:
            outputs[chunk] = module(inputs(X[chunk])).double().cpu().numpy()

        by_chunks(len(X), rows, compute)
    return outputs


def rows_in(memory: float, network: KANNetwork) -> int:
    """Rows that fit into so many bytes: in X's units, scaled, and on their way through a layer."""
    return max(1, int(memory / (8 * 2 * network.widest_layer)))


def importances(
    network: KANNetwork, scaler: InputScaler, execution: Execution
) -> NDArray[np.float64]:
    """Of the features, on rows drawn column by column from the training data's quantiles."""
    rng = np.random.default_rng(0)
    table = scaler.quantiles_

    def sample() -> Tensor:
        rows = rng.integers(N_QUANTILES, size=(_IMPORTANCE_ROWS, table.shape[1]))
        return to_tensor(np.take_along_axis(table, rows, axis=0), execution)

    return feature_importances(network, sample(), sample()).double().cpu().numpy()
