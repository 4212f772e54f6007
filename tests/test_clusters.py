"""Searches over the processes of a cluster: Dask's and Ray's, each started on this machine."""

import os
from pathlib import Path

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.datasets import make_friedman1
from sklearn.model_selection import GridSearchCV

from sklearn_metakan import MetaKANRegressor

pytestmark = pytest.mark.slow
X, Y = make_friedman1(200, random_state=0)


class Where:
    """A score, and the process that it was taken in."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, model, X, y):
        (self.folder / str(os.getpid())).touch()
        return model.score(X, y)


def search(folder):
    model = MetaKANRegressor((4,), n_estimators=2, max_iter=5, random_state=0)
    return GridSearchCV(model, {"grid_size": [3, 5, 8]}, cv=3, scoring=Where(folder), n_jobs=2)


@pytest.fixture
def expected(tmp_path):
    (tmp_path / "here").mkdir()
    found = search(tmp_path / "here").set_params(n_jobs=1).fit(X, Y)
    return found.cv_results_["mean_test_score"]


def assert_others_found(found, expected, folder):
    np.testing.assert_allclose(found.cv_results_["mean_test_score"], expected, rtol=1e-6)
    workers = {int(path.name) for path in folder.iterdir()}
    assert len(workers) >= 2
    assert os.getpid() not in workers
    assert found.best_estimator_.predict(X).shape == Y.shape


def test_dask(tmp_path, expected):
    from dask.distributed import Client, LocalCluster

    folder = tmp_path / "workers"
    folder.mkdir()
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    cluster = LocalCluster(**settings, processes=True)
    with cluster, Client(cluster), parallel_config(backend="dask"):
        found = search(folder).fit(X, Y)
    assert_others_found(found, expected, folder)


def test_ray(tmp_path, expected, monkeypatch):
    import ray
    from joblib.pool import PicklingPool
    from ray.util.joblib import register_ray

    own = PicklingPool.__bases__
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # which would write a token into the home
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))  # workers import Where
    folder = tmp_path / "workers"
    folder.mkdir()
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=10**8, log_to_driver=False)
    try:
        register_ray()
        with parallel_config(backend="ray"):
            found = search(folder).fit(X, Y)
    finally:
        ray.shutdown()
        PicklingPool.__bases__ = own  # Ray puts its pools into joblib's, for the whole process
    assert_others_found(found, expected, folder)
