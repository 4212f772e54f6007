"""``sparsity``: fewer edges that do the work, in every kind of table estimator."""

import numpy as np
import pytest
from sklearn.base import clone

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANClassifier, MetaKANRegressor
from sklearn_metakan.nn import Sparsity
from sklearn_metakan.symbolic import prune

RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (400, 3))
Y = np.exp(np.sin(np.pi * X[:, 0]) + X[:, 1] ** 2)
REGRESSORS, CLASSIFIERS = (KANRegressor, MetaKANRegressor), (KANClassifier, MetaKANClassifier)


def large(estimator):
    """Edges of each layer that are at least a twentieth of the largest."""
    sizes = [each.detach().numpy() for each in Sparsity(estimator.module_).sizes()]
    return [int((each > each.max() / 20).sum()) for each in sizes]


@pytest.mark.parametrize("regressor", REGRESSORS)
def test_few_edges_are_left_where_few_are_needed(regressor):
    options = {"n_estimators": 1, "max_iter": 80, "batch_size": 64, "random_state": 0}
    dense = regressor((6, 6), **options).fit(X, Y)
    sparse = regressor((6, 6), sparsity=0.01, **options).fit(X, Y)
    assert sum(large(sparse)) < sum(large(dense)) / 3
    assert sparse.score(X, Y) > 0.95
    held_out = min(sparse.net_.history[:, "valid_loss"])
    assert held_out > 0.01 * Sparsity(sparse.module_)().item()  # which it counts


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_of_members_and_classes(classifier):
    labels = np.digitize(Y, np.quantile(Y, [0.3, 0.6]))
    options = {"n_estimators": 2, "max_iter": 40, "batch_size": 64, "random_state": 0}
    dense = classifier((5,), **options).fit(X, labels)
    sparse = classifier((5,), sparsity=0.05, **options).fit(X, labels)
    norms = [sum(s.sum().item() for s in Sparsity(e.module_).sizes()) for e in (dense, sparse)]
    assert norms[1] < norms[0] / 2
    assert sparse.score(X, labels) > 0.8


def test_with_lbfgs_the_penalty_is_part_of_what_is_minimised():
    options = {"solver": "lbfgs", "n_estimators": 1, "max_iter": 60, "random_state": 0}
    sparse = KANRegressor((4,), sparsity=0.02, **options).fit(X, Y)
    assert sum(large(sparse)) < sum(large(KANRegressor((4,), **options).fit(X, Y)))


def test_it_is_a_parameter_like_others():
    model = KANRegressor(sparsity=0.5)
    assert clone(model).get_params()["sparsity"] == 0.5
    for wrong in (-1, np.nan, "auto"):
        with pytest.raises(ValueError, match="'sparsity' parameter"):
            KANRegressor(sparsity=wrong).fit(X, Y)
    with pytest.raises(ValueError, match="parameter 'sparsity' sets it"):
        KANRegressor(net_params={"sparsity": 1.0}).fit(X, Y)
    with pytest.raises(TypeError, match="'sparsity'"):
        KANRegressor(lamb=0.1)


def test_warm_started_fits_and_pruned_networks_go_on_with_it():
    model = MetaKANRegressor((4,), n_estimators=1, max_iter=40, warm_start=True, random_state=0)
    before = large(model.fit(X, Y))
    model.set_params(sparsity=0.05).fit(X, Y)
    assert sum(large(model)) < sum(before)
    pruned = prune(model, n_edges=6, X=X, y=Y)
    assert Sparsity(pruned.module_)().isfinite().all()
    pruned.fit(X, Y)
    assert np.isfinite(pruned.predict(X)).all()
