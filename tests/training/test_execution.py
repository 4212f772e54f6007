"""Device and precision; the global switches stay where they are."""

import pickle
import subprocess
import sys
import threading
import warnings

import joblib
import numpy as np
import pytest
import torch

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANClassifier, MetaKANRegressor
from sklearn_metakan.training.execution import (
    Execution,
    choose_device,
    choose_execution,
)

ALL = [KANRegressor, KANClassifier, MetaKANRegressor, MetaKANClassifier]
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(float)
SMALL = {"hidden_layer_sizes": (4, 4), "max_iter": 5, "random_state": 0}

every = pytest.mark.parametrize("estimator", ALL)


# --- device ---------------------------------------------------------------------------


def test_device_by_name_or_object():
    assert choose_device("cpu") == choose_device(torch.device("cpu")) == CPU


@pytest.mark.parametrize("device", ["cuda:99", "nowhere", "", "cpu:x"])
def test_device_that_is_not_there_is_named_with_the_remedy(device):
    with pytest.raises(ValueError) as error:
        choose_device(device)
    assert f"device={device!r}" in str(error.value)
    assert "device='cpu'" in str(error.value)


@pytest.mark.parametrize("available", [True, False])
def test_auto_is_the_card_where_there_is_one(monkeypatch, available):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert choose_device("auto") == (CUDA if available else CPU)
    assert choose_device("cpu") == CPU


def auto_device_with_a_card():
    """What "auto" chooses in a process that believes that it has a card."""
    there, torch.cuda.is_available = torch.cuda.is_available, lambda: True
    try:
        return str(choose_device("auto"))
    finally:
        torch.cuda.is_available = there


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_auto_is_the_cpu_inside_a_joblib_worker(backend):
    parallel = joblib.Parallel(n_jobs=2, backend=backend)
    assert parallel(joblib.delayed(auto_device_with_a_card)() for _ in range(2)) == ["cpu"] * 2
    assert auto_device_with_a_card() == "cuda"


def test_one_job_is_no_worker():
    parallel = joblib.Parallel(n_jobs=1)
    assert parallel([joblib.delayed(auto_device_with_a_card)()]) == ["cuda"]


# --- precision ------------------------------------------------------------------------

F64, F32 = torch.float64, torch.float32


@pytest.mark.parametrize(
    ("device", "precision", "data", "solver", "dtype", "products"),
    [
        ("cpu", "auto", np.float64, "adamw", F64, "full"),
        ("cpu", "auto", np.float32, "adamw", F32, "full"),
        ("cpu", "auto", np.float32, "lbfgs", F64, "full"),
        ("cuda", "auto", np.float64, "adamw", F32, "tf32"),
        ("cuda", "auto", np.float32, "adamw", F32, "tf32"),
        ("cuda", "auto", np.float32, "lbfgs", F64, "full"),
        ("cpu", "float64", np.float32, "adamw", F64, "full"),
        ("cuda", "float64", np.float32, "adamw", F64, "full"),
        ("cpu", "float32", np.float64, "lbfgs", F32, "full"),
        ("cuda", "float32", np.float64, "adamw", F32, "full"),
        ("cuda", "tf32", np.float64, "lbfgs", F32, "tf32"),
        ("cpu", "bf16", np.float64, "adamw", F32, "bf16"),
    ],
)
def test_what_precision_means(monkeypatch, device, precision, data, solver, dtype, products):
    monkeypatch.setattr(
        "sklearn_metakan.training.execution.choose_device", lambda name: torch.device(name)
    )
    execution = choose_execution(device, precision, np.dtype(data), solver)
    assert execution == Execution(torch.device(device), dtype, products)


@every
@pytest.mark.parametrize(
    "precision",
    [
        "auto",
        "bf16",
        *(pytest.param(p, marks=pytest.mark.slow) for p in ("float64", "float32", "tf32")),
    ],
)
@pytest.mark.parametrize("data", [np.float64, np.float32])
def test_every_precision_fits_and_predicts_in_the_dtype_of_the_data(estimator, precision, data):
    table = X.astype(data)
    model = estimator(**SMALL | {"max_iter": 40}, precision=precision).fit(table, Y)
    dtype = {"auto": data, "float64": np.float64}.get(precision, np.float32)
    assert {p.dtype.itemsize for p in model.module_.parameters()} == {np.dtype(dtype).itemsize}
    outputs = model.predict_proba(table) if hasattr(model, "classes_") else model.predict(table)
    assert outputs.dtype == data
    reference = estimator(**SMALL | {"max_iter": 40}, precision="float64").fit(X, Y)
    expected = reference.predict_proba(X) if hasattr(model, "classes_") else reference.predict(X)
    # Training amplifies rounding; these are bounds on what a user would notice.
    assert np.abs(outputs - expected).max() < (0.3 if precision == "bf16" else 0.02)
    assert model.score(table, Y) > reference.score(X, Y) - 0.1


@pytest.mark.parametrize("precision", ["auto", "float32", "tf32", "bf16"])
def test_derivatives_in_every_precision(precision):
    from sklearn_metakan.pde import Dirichlet, Interval, KANPDESolver

    def solve(precision):
        return KANPDESolver(
            lambda x, u: u.d(0, 0) + 1,
            domain=Interval(0, 1),
            conditions=[Dirichlet(0.0)],
            hidden_layer_sizes=(5,),
            max_iter=5,
            n_interior=100,
            random_state=0,
            device="cpu",
            precision=precision,
        ).fit()

    expected, got = solve("float64"), solve(precision)
    np.testing.assert_allclose(got.loss_curve_, expected.loss_curve_, rtol=0.05)


def test_bf16_rounds_and_full_precision_does_not():
    table = X.astype(np.float32)
    model = KANRegressor(**SMALL, n_estimators=1, precision="float32").fit(table, Y)
    full = model.predict(table)
    with Execution(CPU, F32, "bf16").active(), torch.no_grad():
        rounded = model.module_(torch.from_numpy(model.input_scaler_.transform(table)).float())
    gap = np.abs(model.target_scaler_.inverse_transform(rounded.float().numpy())[:, 0] - full).max()
    assert 1e-5 < gap < 0.1


# --- switches -------------------------------------------------------------------------


@pytest.fixture
def tf32_switch():
    before = torch.backends.cuda.matmul.allow_tf32
    yield
    torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("products", ["full", "tf32", "bf16"])
def test_tf32_is_set_inside_and_put_back_also_after_an_error(
    monkeypatch, tf32_switch, before, products
):
    if not torch.cuda.is_available():  # the switch can be set without a card; autocast would warn
        monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: torch.no_grad())
    torch.backends.cuda.matmul.allow_tf32 = before
    execution = Execution(CUDA, F32, products)
    with execution.active():
        assert torch.backends.cuda.matmul.allow_tf32 == (products == "tf32")
        assert torch.backends.cudnn.deterministic
    assert torch.backends.cuda.matmul.allow_tf32 == before
    assert not torch.backends.cudnn.deterministic
    with pytest.raises(ZeroDivisionError), execution.active():
        raise ZeroDivisionError
    assert torch.backends.cuda.matmul.allow_tf32 == before


@pytest.fixture
def without_autocast(monkeypatch):
    if not torch.cuda.is_available():  # it would warn
        monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: torch.no_grad())


class Runs:
    """A run in a thread of its own, which ends when it is told to."""

    def __init__(self, products):
        self.begun, self.may_end, self.seen = threading.Event(), threading.Event(), None
        self.execution = Execution(CUDA, F32, products)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        with self.execution.active():
            self.begun.set()
            self.may_end.wait(60)
            self.seen = torch.backends.cuda.matmul.allow_tf32

    def end(self):
        self.may_end.set()
        self.thread.join(60)
        return self.seen


@pytest.mark.parametrize("before", [True, False])
def test_runs_that_overlap_in_threads_share_the_switch_and_put_it_back(
    tf32_switch, without_autocast, before
):
    torch.backends.cuda.matmul.allow_tf32 = before
    for products in ("tf32", "full"):
        first, second = Runs(products), Runs(products)
        assert first.begun.wait(60) and second.begun.wait(60)
        assert first.end() is (products == "tf32")
        assert second.end() is (products == "tf32")
        assert torch.backends.cuda.matmul.allow_tf32 == before


@pytest.mark.parametrize("before", [True, False])
def test_runs_of_other_products_wait_for_one_another(tf32_switch, without_autocast, before):
    torch.backends.cuda.matmul.allow_tf32 = before
    first = Runs("tf32")
    assert first.begun.wait(60)
    second = Runs("full")
    assert not second.begun.wait(0.1)
    assert first.end() is True
    assert second.begun.wait(60)
    assert second.end() is False
    assert torch.backends.cuda.matmul.allow_tf32 == before


def test_a_run_within_a_run_switches_for_itself(tf32_switch, without_autocast):
    torch.backends.cuda.matmul.allow_tf32 = False
    with Execution(CUDA, F32, "tf32").active():
        with Execution(CUDA, F32, "full").active():
            assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(
    ("there", "found"),
    [({"cuda", "cuda:1", "cpu"}, "cuda:1"), ({"cuda", "cpu"}, "cuda"), ({"cpu"}, "cpu")],
)
def test_a_pickle_from_a_card_that_is_not_there(monkeypatch, there, found):
    def choose(name):
        if name not in there:
            raise ValueError(name)
        return torch.device(name)

    monkeypatch.setattr("sklearn_metakan.training.execution.choose_device", choose)
    packed = Execution(torch.device("cuda:1"), F32, "tf32").packed()
    assert Execution.unpacked(packed) == Execution(torch.device(found), F32, "tf32")


FORK = """
import os, signal, sys
import numpy as np, torch
from sklearn_metakan import KANRegressor
torch.set_num_threads(2)
X = np.random.default_rng(0).normal(size=(20_000, 60))
model = KANRegressor(hidden_layer_sizes=(64,), n_estimators=1, max_iter=1, batch_size=4000)
expected = model.fit(X[:4000], X[:4000, 0]).predict(X)
torch.randn(1500, 1500) @ torch.randn(1500, 1500)  # by several threads
child = os.fork()
if not child:
    signal.alarm(60)
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-9)
    model.fit(X[:4000], X[:4000, 1]).partial_fit(X, X[:, 1])
    os._exit(0 if torch.get_num_threads() == 1 else 1)
status = os.waitpid(child, 0)[1]
assert torch.get_num_threads() == 2
sys.exit(status)
"""


def test_a_forked_process_does_not_wait_for_threads_that_are_gone():
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], check=False)
    assert run.returncode == 0


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_fit_and_predict_leave_the_global_settings_alone(precision, tf32_switch):
    def settings():
        return (
            torch.backends.cuda.matmul.allow_tf32,
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.are_deterministic_algorithms_enabled(),
        )

    before = settings()
    KANRegressor(**SMALL, precision=precision).fit(X, Y).predict(X)
    assert settings() == before


def test_settings_of_a_user_in_torch_s_newer_way_do_not_disturb_a_cpu(monkeypatch):
    class Mixed:
        @property
        def allow_tf32(self):
            raise RuntimeError("mix of the legacy and new APIs to set the TF32 status")

    monkeypatch.setattr(torch.backends.cuda, "matmul", Mixed())
    KANRegressor(**SMALL, device="cpu").fit(X, Y).predict(X)


def test_grad_mode_of_the_caller_does_not_matter():
    expected = KANRegressor(**SMALL).fit(X, Y).predict(X)
    with torch.no_grad():
        inside = KANRegressor(**SMALL).fit(X, Y).predict(X)
    np.testing.assert_array_equal(inside, expected)


def test_default_dtype_of_the_caller_does_not_matter():
    expected = KANRegressor(**SMALL).fit(X, Y).predict(X)
    before = torch.get_default_dtype()
    for dtype in (torch.float64, torch.float32):
        torch.set_default_dtype(dtype)
        try:
            np.testing.assert_array_equal(KANRegressor(**SMALL).fit(X, Y).predict(X), expected)
        finally:
            torch.set_default_dtype(before)


@every
@pytest.mark.parametrize("setting", [{"solver": "adamw"}, {"solver": "lbfgs"}], ids=str)
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_modes_without_gradients_do_not_matter(estimator, setting, mode):
    settings = SMALL | setting | {"max_iter": 2, "warm_start": True}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Training stopped at max_iter")
        expected = estimator(**settings).fit(X, Y)
        with mode():
            model = estimator(**settings).fit(X, Y)
            np.testing.assert_array_equal(model.predict(X), expected.predict(X))
            assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
            assert not torch.is_grad_enabled()
            loaded = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(model.predict(X), expected.predict(X))
        expected.fit(X, Y)
        for goes_on in (model, loaded):  # outside; inside is the same again
            np.testing.assert_array_equal(goes_on.fit(X, Y).predict(X), expected.predict(X))
        with mode():
            model.fit(X, Y)
            if setting["solver"] == "adamw":
                for goes_on in (model, loaded):
                    goes_on.partial_fit(X, Y).partial_fit(X, Y)
        np.testing.assert_array_equal(model.predict(X).shape, Y.shape)


# --- on a card ------------------------------------------------------------------------


@pytest.mark.gpu
@every
@pytest.mark.parametrize("setting", [{}, {"solver": "lbfgs"}, {"dropout": 0.2}], ids=str)
def test_card_learns_what_the_cpu_learns(estimator, setting):
    settings = SMALL | {"max_iter": 40} | setting
    on_card = estimator(**settings, device="cuda").fit(X, Y)
    assert next(on_card.module_.parameters()).is_cuda
    again = estimator(**settings, device="cuda").fit(X, Y)
    np.testing.assert_array_equal(on_card.predict(X), again.predict(X))
    assert on_card.score(X, Y) > estimator(**settings, device="cpu").fit(X, Y).score(X, Y) - 0.1
    assert on_card.feature_importances_.sum() == pytest.approx(1)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float64", "float32", "tf32", "bf16"])
def test_every_precision_on_a_card(precision):
    model = KANRegressor(**SMALL | {"max_iter": 40}, precision=precision, device="cuda").fit(X, Y)
    assert model.predict(X).dtype == np.float64
    assert model.score(X, Y) > 0.5


@pytest.mark.gpu
def test_pickle_from_a_card_predicts_the_same():
    model = KANRegressor(**SMALL, device="cuda").fit(X, Y)
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    loaded.partial_fit(X, Y)
