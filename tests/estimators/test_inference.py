"""predict: chunks of rows, kept weights, and memory within bounds."""

import pickle
import tracemalloc

import numpy as np
import pytest
import torch

from benchmarks.speed.steps import Operations
from sklearn_metakan import KANClassifier, KANRegressor, MetaKANClassifier, MetaKANRegressor
from sklearn_metakan.nn import KANLinear, MetaCoefficients

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 8))
Y = X[:, 0] * X[:, 1]
SMALL = {"hidden_layer_sizes": (5,), "n_estimators": 1, "max_iter": 2, "random_state": 0}
GENERATED = {"prompt_dim": 1, "meta_hidden_dim": 32, "meta_activation": "sin"}
pytestmark = pytest.mark.filterwarnings("ignore:Training stopped at max_iter")


@pytest.fixture
def chunks(monkeypatch):
    """Rows of each chunk that went through the first layer, and whether its weights were made."""
    seen = []
    forward = KANLinear.forward

    def watched(layer, x):
        seen.append((len(x), isinstance(layer.source, MetaCoefficients)))
        return forward(layer, x)

    monkeypatch.setattr(KANLinear, "forward", watched)
    return seen


@pytest.mark.parametrize(
    ("hidden", "rows"), [((5,), 40), ((5,), 80), ((5,), 1), ((5, 5), 40), ((18,), 20)]
)
def test_rows_follow_the_memory_and_are_at_least_one(chunks, hidden, rows):
    model = KANRegressor(**SMALL | {"hidden_layer_sizes": hidden}).fit(X, Y)
    a_row = 8 * 2 * (8 + hidden[0])  # bytes: twice a layer's inputs and outputs
    memory = 8 * (rows * a_row if rows > 1 else 1) / 2**20  # an eighth is for rows
    chunks.clear()
    model.set_params(working_memory=memory).predict(X)
    assert chunks[0][0] == rows


@pytest.mark.parametrize("memory", [1e-6, 0.003, 0.02, 1.0, None])
def test_every_chunk_keeps_to_the_memory_and_the_result_is_the_same(chunks, memory):
    model = KANRegressor(**SMALL).fit(X, Y)
    expected = model.predict(X)
    model.set_params(working_memory=memory)
    chunks.clear()
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-12)
    rows = [n for n, _ in chunks[::2]]
    assert sum(rows) == len(X)
    limit = 64 if memory is None else memory
    assert max(rows) == 1 or max(rows) * 8 * 2 * (8 + 5) <= limit * 2**20 / 8


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        (GENERATED | {"edge_scale": True}, True),
        (GENERATED, True),
        ({"meta_hidden_dim": 0, "edge_scale": False, "prompt_dim": 2}, False),
    ],
    ids=str,
)
@pytest.mark.parametrize("estimator", [MetaKANRegressor, MetaKANClassifier])
def test_weights_are_made_once_for_several_chunks_if_they_fit(chunks, estimator, settings, kept):
    model = estimator(**SMALL, **settings).fit(X, Y > 0)
    expected = model.predict(X)
    assert {made for _, made in chunks} == {True}  # one chunk: nothing to keep
    needed = 8 * 9 * (8 * 5 + 5) * 8 / 2**20  # MiB: an eighth of it holds them
    for memory, keeps in ((1.01 * needed, kept), (0.99 * needed, False)):
        chunks.clear()
        found = model.set_params(working_memory=memory).predict(X)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
        assert len(chunks) > 2
        assert {made for _, made in chunks} == {not keeps}


def test_kept_weights_do_not_outlive_the_call(chunks):
    model = MetaKANRegressor(**SMALL, **GENERATED, working_memory=0.04).fit(X, Y)
    before = model.predict(X)
    assert not any(made for _, made in chunks[-8:])
    keys = set(vars(model))
    with torch.no_grad():
        for parameter in model.module_.parameters():
            parameter.mul_(1.5)
    after = model.predict(X)
    assert np.abs(after - before).max() > 1e-3
    assert set(vars(model)) == keys
    np.testing.assert_allclose(model.set_params(working_memory=None).predict(X), after, rtol=1e-9)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_kept_weights_in_other_precisions(precision):
    model = MetaKANRegressor(**SMALL, precision=precision).fit(X, Y)
    expected = model.predict(X)
    model.set_params(working_memory=0.04)
    gap = np.abs(model.predict(X) - expected).max()
    assert gap < (1e-5 if precision == "float32" else 0.05)


def peak(compute):
    """Most MiB that torch and NumPy held at a time while this ran."""
    with torch.profiler.profile(profile_memory=True) as profile:
        compute()
    held = most = 0
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    tracemalloc.start()
    compute()
    arrays = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return (most + arrays) / 2**20


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("memory", [8, pytest.param(32, marks=pytest.mark.slow), None])
@pytest.mark.parametrize(
    ("columns", "hidden"),
    [(20, (64,)), (60, ()), pytest.param(4, (100, 100), marks=pytest.mark.slow)],
    ids=str,
)
def test_prediction_takes_no_more_than_working_memory(columns, hidden, memory, dtype):
    table = RNG.normal(size=(20_000, columns)).astype(dtype)
    model = MetaKANRegressor(hidden, max_iter=1, working_memory=memory, random_state=0)
    model.fit(table[:150], table[:150, 0])
    outputs = table[:, :1].nbytes / 2**20
    assert 0.1 < peak(lambda: model.predict(table)) - outputs <= (64 if memory is None else memory)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("estimator", "target"),
    [
        (KANRegressor, Y),
        (MetaKANRegressor, np.c_[Y, -Y]),
        (KANClassifier, Y > 0),
        (MetaKANClassifier, np.digitize(Y, [-0.5, 0.5])),
    ],
)
def test_a_few_rows_are_as_in_the_table(estimator, target, dtype):
    table = X.astype(dtype)
    model = estimator(hidden_layer_sizes=(5, 5), max_iter=2, random_state=0).fit(table, target)
    predict = getattr(model, "predict_proba", model.predict)
    expected, tolerance = predict(table), 1e4 * np.finfo(dtype).eps
    for rows in (1, 4):
        np.testing.assert_allclose(predict(table[:rows]), expected[:rows], tolerance, tolerance)
    assert model.net_.for_few_rows() is not model.module_
    far = table[:2] * 50
    both = predict(np.r_[far, far, far])[:2]
    np.testing.assert_allclose(predict(far), both, tolerance, tolerance * np.abs(both).max())


def by_operation(prompts):
    with torch.no_grad():
        prompts.mul_(0.5)


def by_data(prompts):
    prompts.data.mul_(0.5)


def by_array(prompts):
    prompts.detach().numpy()[:] *= 0.5


@pytest.mark.parametrize("change", [by_operation, by_data, by_array])
def test_weights_that_are_changed_by_hand_count_for_one_row(change):
    model = MetaKANRegressor(**SMALL | {"n_estimators": 2}).fit(X, Y)
    before = model.predict(X[:1])
    change(model.module_.layers[0].source.prompts)
    assert model.predict(X[:1]) != before
    np.testing.assert_allclose(model.predict(X[:1]), model.predict(X)[:1], rtol=1e-10)
    model.partial_fit(X, Y)
    np.testing.assert_allclose(model.predict(X[:1]), model.predict(X)[:1], rtol=1e-10)


def test_a_gap_in_one_row_is_as_in_the_table():
    model = KANRegressor(**SMALL).fit(X, Y)
    rows = X[:6].copy()
    rows[0, 2] = np.nan
    expected = model.predict(rows)
    np.testing.assert_allclose(model.predict(rows[:1]), expected[:1], rtol=1e-10)


def test_what_is_kept_for_one_row_is_not_pickled():
    model = KANRegressor(**SMALL).fit(X, Y)
    before = len(pickle.dumps(model))
    one = model.predict(X[:1])
    assert len(pickle.dumps(model)) == before
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X[:1]), one)


@pytest.mark.parametrize("estimator", [KANRegressor, MetaKANRegressor])
def test_one_row_takes_few_operations(estimator):
    """Of PyTorch: those of scaling, silu of each layer, and units."""
    model = estimator(max_iter=1, random_state=0).fit(X, Y)
    model.predict(X[:1])
    with Operations() as counted:
        model.predict(X[:1])
    assert counted.count <= 65
