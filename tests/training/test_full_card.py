"""A full card: the same training in smaller pieces, one warning, and at last a clear error."""

import gc
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch

from sklearn_metakan import (
    KANClassifier,
    KANImageClassifier,
    KANRegressor,
    MetaKANClassifier,
    MetaKANRegressor,
)
from sklearn_metakan.nn import ConvKAN, KANLinear
from sklearn_metakan.training import by_chunks
from sklearn_metakan.training.memory import LEAST, USUAL
from sklearn_metakan.training.optimisers import AdamW

ALL = [KANRegressor, KANClassifier, MetaKANRegressor, MetaKANClassifier]
OutOfMemory = torch.cuda.OutOfMemoryError
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
Y = (X[:, 0] + 0.3 * RNG.normal(size=60) > 0).astype(float)
WEIGHT = RNG.uniform(0.2, 2, size=60)
SMALL = {"hidden_layer_sizes": (4,), "max_iter": 4, "batch_size": 25, "random_state": 0}

every = pytest.mark.parametrize("estimator", ALL)
pytestmark = pytest.mark.filterwarnings("ignore:Training stopped at max_iter")


def fails():
    raise OutOfMemory("CUDA out of memory. Tried to allocate 1 GiB")


@pytest.fixture
def fill(monkeypatch):
    """Call it, and every layer runs out of memory above so many rows or MiB."""
    forward = KANLinear.forward

    def limit(rows=10**9, memory=1e9, backward=False):
        def limited(layer, x):
            memory_of_layer = USUAL if layer.working_memory is None else layer.working_memory
            too_much = len(x) > rows or memory_of_layer > memory
            if too_much and not backward:
                fails()
            y = forward(layer, x)
            if too_much and y.requires_grad:
                y.register_hook(lambda grad: fails())
            return y

        monkeypatch.setattr(KANLinear, "forward", limited)
        monkeypatch.setattr(KANLinear, "alone", lambda layer: None)  # each runs out by itself

    yield limit


def outputs(model):
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)


def assert_same(frugal, plain):
    np.testing.assert_allclose(outputs(frugal), outputs(plain), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(frugal.loss_curve_, plain.loss_curve_, rtol=1e-9)
    if plain.validation_scores_ is not None:
        np.testing.assert_allclose(frugal.validation_scores_, plain.validation_scores_)


def memory_of(model):
    return {layer.working_memory for layer in model.module_.layers}


RUNS = {
    "plain": ({}, {}),
    "weights": ({}, {"sample_weight": WEIGHT}),
    "validation": ({}, {"X_val": X[:30], "y_val": Y[:30], "sample_weight_val": WEIGHT[:30]}),
    "lbfgs": ({"solver": "lbfgs", "max_iter": 6}, {}),
    "lbfgs, validation": (
        {"solver": "lbfgs", "max_iter": 6, "early_stopping": True},
        {"X_val": X[:30], "y_val": Y[:30], "sample_weight": WEIGHT},
    ),
}


@every
@pytest.mark.parametrize(("settings", "given"), RUNS.values(), ids=RUNS)
@pytest.mark.parametrize(
    "backward",
    [pytest.param(False, marks=pytest.mark.slow), True],
    ids=["forward", "backward"],
)
def test_few_rows_at_a_time_train_the_same(fill, estimator, settings, given, backward):
    plain = estimator(**SMALL | settings).fit(X, Y, **given)
    fill(rows=4, backward=backward)
    with pytest.warns(RuntimeWarning, match="memory was full") as caught:
        frugal = estimator(**SMALL | settings).fit(X, Y, **given)
    assert [warning.category for warning in caught].count(RuntimeWarning) == 1
    assert memory_of(frugal) == {LEAST}
    assert frugal.net_.frugal_.rows <= 4
    fill()
    assert_same(frugal, plain)


@every
def test_less_working_memory_is_tried_first(fill, estimator):
    plain = estimator(**SMALL).fit(X, Y)
    fill(memory=5)
    with pytest.warns(RuntimeWarning, match=r"working_memory was lowered to 4\..*=4 ") as caught:
        frugal = estimator(**SMALL).fit(X, Y)
    assert len(caught) == 1
    assert "rows" not in str(caught[0].message)
    assert memory_of(frugal) == {4}
    assert frugal.net_.frugal_.rows is None
    assert frugal.working_memory is None
    fill()
    assert_same(frugal, plain)


@pytest.mark.parametrize(("given", "lowered"), [(24, 3), (2.5, 2.5), (0.3, 0.3)])
def test_halving_starts_from_what_was_given_and_ends_at_the_least(fill, given, lowered):
    fill(memory=4, rows=1000 if given == 24 else 10)
    with pytest.warns(RuntimeWarning):
        model = KANRegressor(**SMALL, working_memory=given).fit(X, Y)
    expected = {24: 3, 2.5: LEAST, 0.3: 0.3}[given]
    assert memory_of(model) == {expected}


def test_what_was_lowered_stays_so_and_is_said_once(fill):
    fill(rows=4)
    with pytest.warns(RuntimeWarning):
        model = KANRegressor(**SMALL).partial_fit(X, Y)
    freed = []
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("error")
        patch.setattr(torch.cuda, "empty_cache", lambda: freed.append(True))  # after each failure
        model.partial_fit(X, Y).partial_fit(X, Y)
        assert not freed
        fill(rows=2)
        model.partial_fit(X, Y)
    assert len(freed) == 1
    assert model.net_.frugal_.rows == 2


def test_a_new_fit_starts_with_all_memory(fill):
    fill(rows=4)
    with pytest.warns(RuntimeWarning):
        model = KANRegressor(**SMALL).fit(X, Y)
    fill()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, Y)
    assert memory_of(model) == {None}
    np.testing.assert_array_equal(model.predict(X), KANRegressor(**SMALL).fit(X, Y).predict(X))


@every
def test_when_one_row_is_too_much_the_error_says_what_to_lower(fill, estimator):
    model = estimator(**SMALL).fit(X, Y)
    before = outputs(model)
    fill(rows=0)
    with pytest.raises(OutOfMemory) as error:
        model.fit(X, Y)
    for words in ("too small for training", "Lower hidden_layer_sizes", "Tried to allocate 1 GiB"):
        assert words in str(error.value)
    fill()
    np.testing.assert_array_equal(outputs(model), before)


def test_memory_that_the_optimiser_lacks_is_an_error_at_once(monkeypatch):
    def step(self, closure):
        closure()
        fails()

    monkeypatch.setattr(AdamW, "step", step)
    with pytest.raises(OutOfMemory, match=r"too small for training.*hidden_layer_sizes"):
        KANRegressor(**SMALL).fit(X, Y)


@pytest.mark.parametrize(
    ("norm", "words"),
    [
        ("batch", r"norm='batch' takes its statistics over \d rows .* changes the result"),
        ("instance", "The result is the same"),
        (None, "The result is the same"),
    ],
)
def test_what_is_said_of_batch_norm_is_true(monkeypatch, norm, words):
    images = RNG.normal(size=(12, 1, 4, 4))
    settings = {"hidden_channels": (2,), "max_iter": 2, "random_state": 0, "norm": norm}
    plain = KANImageClassifier(**settings).fit(images, Y[:12])
    forward = ConvKAN.forward
    limited = lambda network, x: fails() if len(x) > 4 else forward(network, x)  # noqa: E731
    monkeypatch.setattr(ConvKAN, "forward", limited)
    with pytest.warns(RuntimeWarning, match=words):
        model = KANImageClassifier(**settings).fit(images, Y[:12])
    same = np.allclose(model.loss_curve_, plain.loss_curve_, rtol=1e-5)
    assert same == (norm != "batch")


def test_dropout_and_steps_in_parts(fill):
    fill(rows=4)
    with pytest.warns(RuntimeWarning):
        model = KANRegressor(**SMALL | {"dropout": 0.2, "max_iter": 60}).fit(X, Y)
    fill()
    assert model.score(X, Y) > 0.3


# --- predictions ----------------------------------------------------------------------


@every
@pytest.mark.parametrize("rows", [1, 7, 59])
def test_predictions_in_smaller_chunks_are_the_same(fill, estimator, rows):
    model = estimator(**SMALL).fit(X, Y)
    expected = outputs(model)
    fill(rows=rows)
    with pytest.warns(RuntimeWarning, match=r"rows at a time\. Lower working_memory") as caught:
        found = outputs(model)
    assert len(caught) == 1
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert memory_of(model) == {None}


def test_prediction_of_one_row_that_does_not_fit(fill):
    model = KANRegressor(**SMALL).fit(X, Y)
    fill(rows=0)
    with pytest.raises(OutOfMemory, match=r"too small for predictions.*working_memory"):
        model.predict(X)


@pytest.mark.parametrize("rows", [1, 3, 10, 100])
@pytest.mark.parametrize("most", [1, 4, 100])
def test_chunks_cover_the_rows_once_and_in_order(rows, most):
    seen = []

    def compute(chunk):
        if chunk.stop - chunk.start > most:
            fails()
        seen.extend(range(10)[chunk])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if most < min(rows, 10) else "error")
        by_chunks(10, rows, compute)
    assert seen == list(range(10))


def test_other_errors_come_through():
    def compute(chunk):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        by_chunks(10, 5, compute)


# --- on a card ------------------------------------------------------------------------


def trained_on_full_card(estimator, cuda_graph, share=0.7):
    """Fit with all memory, then with this share of what that took; what came of both."""
    table = np.random.default_rng(0).normal(size=(4096, 64)).astype(np.float32)
    target = table[:, 0] ** 2 + table[:, 1]
    settings = {"hidden_layer_sizes": (512,), "batch_size": 4096, "max_iter": 30}
    settings |= {"device": "cuda", "precision": "float32", "random_state": 0}
    settings |= {"working_memory": 1024, "early_stopping": False}
    # fused kernels would do with what is left
    settings |= {"net_params": {"cuda_graph": cuda_graph, "module__backend": "blocked"}}
    plain = estimator(**settings).fit(table, target)
    expected, losses = plain.predict(table), plain.loss_curve_
    del plain
    gc.collect()
    torch.cuda.empty_cache()  # what is kept from before would do for a second fit
    kept, most = torch.cuda.memory_reserved(), torch.cuda.max_memory_reserved()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((kept + share * (most - kept)) / total)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = estimator(**settings).fit(table, target)
        messages = [str(warning.message) for warning in caught]
        gap = np.abs(model.predict(table) - expected).max() / target.std()
    return messages, max(memory_of(model)), losses, model.loss_curve_, gap


@pytest.mark.gpu
@pytest.mark.parametrize("cuda_graph", ["auto", False])
@pytest.mark.parametrize("estimator", [KANRegressor, MetaKANRegressor])
def test_card_that_is_full_trains_and_predicts_the_same(estimator, cuda_graph):
    # in a process of its own: what earlier tests keep on the card would do for this fit
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        found = fresh.submit(trained_on_full_card, estimator, cuda_graph).result()
    messages, memory, losses, of_little, gap = found
    assert any("memory was full" in message for message in messages)
    assert memory < 1024
    np.testing.assert_allclose(of_little, losses, rtol=1e-3)
    assert gap < 0.05
