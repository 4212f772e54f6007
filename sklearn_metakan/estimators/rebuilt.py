"""A fitted estimator over another network: smaller, or trained a little more."""

import warnings
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from sklearn.exceptions import ConvergenceWarning

from sklearn_metakan.estimators.estimator import KANEstimator
from sklearn_metakan.nn import KAN

AnyEstimator = TypeVar("AnyEstimator", bound=KANEstimator)


def with_network(
    estimator: AnyEstimator, network: KAN, edges: list[list[tuple[int, int]]]
) -> AnyEstimator:
    """The same estimator over a network of one member with these edges and with biases.

    Parameters
    ----------
    estimator : fitted estimator of tables
        Stays as it is.
    network : KAN
        As ``sklearn_metakan.nn.without_edges`` gives it.
    edges : list of list of (input, output)
        For each layer those that it has.
    """
    fitted = estimator._working_copy()
    sizes = [network.layers[0].in_features, *(layer.out_features for layer in network.layers)]
    widths = tuple(sizes[1:-1])
    fitted.hidden_layer_sizes, fitted.n_estimators = widths, 1
    # What held-out rows told was about another network.
    fitted.target_, fitted._errors = fitted.target_.follow(fitted), None
    shape = {"layer_sizes": sizes, "n_members": 1, "edges": edges, "bias": True}
    fitted._network = fitted._network | shape
    fitted._fixed = fitted._fixed | {"hidden_layer_sizes": widths, "n_estimators": 1}
    before = fitted.net_
    criterion, execution = fitted.target_.criterion(), before.execution_
    fitted.net_ = fitted._trainer().net(lambda: network, criterion, execution, fitted.target_)
    return fitted


def with_pairs(estimator: AnyEstimator, kept: Sequence[int]) -> AnyEstimator:
    """The same estimator with some of its ``interactions_`` alone; its numbers are shared."""
    fitted: Any = estimator._working_copy()
    net = object.__new__(type(fitted.net_))
    vars(net).update(vars(fitted.net_) | {"module_": fitted.module_.with_pairs(kept)})
    fitted.net_ = net
    return fitted


def trained_on(estimator: AnyEstimator, X: Any, y: Any, max_iter: int) -> AnyEstimator:
    """The same estimator after some iterations of L-BFGS from where it is, on these rows.

    Its parameters stay those that it was made with.
    """
    given = estimator.get_params(deep=False)
    options = {k: v for k, v in (given["net_params"] or {}).items() if k.startswith("module__")}
    now = {"solver": "lbfgs", "max_iter": max_iter, "warm_start": True, "early_stopping": False}
    now |= dict.fromkeys(("validation_split", "scoring", "checkpoint_dir", "time_limit"))
    now |= dict.fromkeys(("callbacks", "prompt_learning_rate", "meta_learning_rate"))
    now |= {"learning_rate": "auto", "weight_decay": "auto", "net_params": options or None}
    now |= {"sparsity": 0.0, "dropout": 0.0, "verbose": 0, "random_state": 0}
    now["precision"] = str(estimator.net_.execution_.dtype).removeprefix("torch.")
    trained = estimator._working_copy()
    trained.set_params(**{k: v for k, v in now.items() if k in given})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the end is meant
        trained.fit(X, y)
    return trained.set_params(**given)


@torch.no_grad()
def loss_on(estimator: KANEstimator, X: Any, y: Any) -> list[float]:
    """The mean loss on these rows of the members' mean outputs, then that of each member."""
    fitted: Any = estimator._working_copy()
    data, _ = fitted._data(fitted.net_, fitted._read(X, y, None, reset=False))
    outputs = fitted.module_(data.X)
    members = [outputs] if outputs.dim() == 2 else [outputs.mean(1), *outputs.unbind(1)]
    return [float(fitted.net_.criterion_(each, data.y).mean()) for each in members]
