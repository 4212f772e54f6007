"""Captured training steps: the same training as eagerly; when they are taken; what is left behind.

On a CPU a graph is played (``pretend``): all but the capture itself is then as on a card.
"""

import gc
import pickle
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from skorch.callbacks import Callback, EarlyStopping, EpochTimer, Freezer, GradientNormClipping

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANClassifier, MetaKANRegressor
from sklearn_metakan.nn import KAN
from sklearn_metakan.training.callbacks import LearningRateSchedule, Listeners
from sklearn_metakan.training.capture import (
    WARM_UP,
    WORTH_CAPTURING,
    CapturedStep,
    is_captured,
    obstacle,
    recording,
)
from sklearn_metakan.training.net import KANNet

ALL = [KANRegressor, KANClassifier, MetaKANRegressor, MetaKANClassifier]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(100, 3)).astype(np.float32)
Y = (X[:, 0] + 0.3 * RNG.normal(size=100) > 0).astype(float)
WEIGHT = RNG.uniform(0.2, 2, size=100)
SMALL = {  # 6 full batches and one of 4 rows in a pass
    "hidden_layer_sizes": (4,),
    "max_iter": 5,
    "batch_size": 16,
    "precision": "float32",
    "random_state": 0,
}
# What a training run may bring: arguments of the constructor, and of fit.
RUNS = {
    "ragged": ({}, {}),
    "even": ({"batch_size": 20}, {}),
    "last batch captured too": ({"max_iter": WARM_UP + WORTH_CAPTURING}, {}),
    "one batch": ({"batch_size": 1000, "max_iter": 30}, {}),
    "weights": ({}, {"sample_weight": WEIGHT}),
    "validation": ({}, {"X_val": X[:30], "y_val": Y[:30]}),
    "stops early": (
        {"max_iter": 40, "tol": 0.9, "n_iter_no_change": 8, "learning_rate": 0.1},
        {"X_val": X[:30], "y_val": Y[:30]},
    ),
    **{name: ({"learning_rate_schedule": name}, {}) for name in ("constant", "exponential")},
    "weight decay": ({"weight_decay": 0.3}, {}),
    "lbfgs": ({"solver": "lbfgs", "max_iter": 30, "precision": "float64"}, {}),
    "groups": (
        {"net_params": {"optimizer__param_groups": [("layers.0.*", {"lr": 0.003})]}},
        {},
    ),
}
METHODS = ("on_batch_begin", "on_batch_end", "on_grad_computed")

every = pytest.mark.parametrize("estimator", ALL)
every_run = pytest.mark.parametrize(("settings", "given"), RUNS.values(), ids=RUNS)
pytestmark = pytest.mark.filterwarnings("ignore:Training stopped at max_iter")


def with_graph(estimator, cuda_graph):
    params = estimator.get_params(deep=False)["net_params"] or {}
    return clone(estimator).set_params(net_params=params | {"cuda_graph": cuda_graph})


def outputs(model):
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)


def assert_same_training(captured, eager):
    """To rounding: of the learning rate, and of sums taken in another order."""
    assert captured.cuda_graph_ is True
    assert eager.cuda_graph_ is False
    assert captured.n_iter_ == eager.n_iter_
    np.testing.assert_allclose(captured.loss_curve_, eager.loss_curve_, rtol=1e-3)
    if eager.validation_scores_ is not None:
        np.testing.assert_allclose(
            captured.validation_scores_, eager.validation_scores_, atol=0.011
        )
    for mine, theirs in zip(captured.module_.parameters(), eager.module_.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(outputs(captured), outputs(eager), rtol=1e-2, atol=1e-3)


# --- the parameter --------------------------------------------------------------------


@every
@pytest.mark.parametrize("value", ["always", 1, None, 0])
def test_other_values_are_named(estimator, value):
    model = estimator(**SMALL, net_params={"cuda_graph": value})
    with pytest.raises(
        ValueError, match=f"cuda_graph must be 'auto', True or False, got {value!r}"
    ):
        model.fit(X, Y)
    assert not hasattr(model, "net_")


@every
@pytest.mark.parametrize("call", ["fit", "partial_fit"])
def test_true_on_a_cpu_raises_before_training(estimator, call):
    model = estimator(**SMALL, device="cpu").set_params(net__cuda_graph=True)
    with pytest.raises(ValueError, match=r"cuda_graph=True.*device='cpu'.*device='cuda'.*'auto'"):
        getattr(model, call)(X, Y)
    assert not hasattr(model, "net_")


@every
@pytest.mark.parametrize("value", ["auto", False])
def test_on_a_cpu_nothing_is_captured_and_nothing_changes(estimator, value):
    plain = estimator(**SMALL, device="cpu").fit(X, Y)
    model = estimator(**SMALL, device="cpu", net_params={"cuda_graph": value}).fit(X, Y)
    assert plain.cuda_graph_ is model.cuda_graph_ is False
    np.testing.assert_array_equal(outputs(model), outputs(plain))
    model.partial_fit(X, Y)
    assert model.cuda_graph_ is False


def net_of(device="cuda", optimizer=torch.optim.AdamW, callbacks=(), **settings):
    """What the rules look at."""
    module = torch.nn.Linear(2, 1)
    options = {"fused": True} if optimizer is torch.optim.AdamW else {}
    return SimpleNamespace(
        device=device,
        module_=module,
        optimizer_=optimizer(module.parameters(), lr=0.1, **options | settings),
        listeners_=Listeners([(type(c).__name__, c) for c in callbacks], holds_out=True),
        cuda_graph="auto",
        max_epochs=10,
        ranks_=None,
        training_=None,
        criterion_=None,
    )


class ForEpochs(Callback):
    def on_epoch_end(self, net, **kwargs):
        pass


def callback_with(method):
    return type("ForBatches", (Callback,), {method: lambda self, net, **kwargs: None})()


def test_what_may_be_captured():
    schedule = LearningRateSchedule("onecycle", 10)
    harmless = [schedule, EpochTimer(), EarlyStopping(), ForEpochs()]
    assert obstacle(net_of(callbacks=harmless)) is None
    assert obstacle(net_of(device=torch.device("cuda", 1))) is None


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (net_of(device="cpu"), "device='cpu'"),
        (net_of(optimizer=torch.optim.SGD), "solver='adamw'"),
        (net_of(fused=False), "solver='adamw'"),
        (net_of(callbacks=[GradientNormClipping(1.0)]), "'GradientNormClipping'"),
        *((net_of(callbacks=[callback_with(name)]), "'ForBatches'") for name in METHODS),
    ],
)
def test_what_may_not(net, reason):
    assert reason in obstacle(net)
    assert is_captured(net, 1000) is False
    net.cuda_graph = True
    with pytest.raises(ValueError, match="cuda_graph=True is impossible") as error:
        is_captured(net, 1000)
    assert reason in str(error.value)


def test_of_a_stored_table_that_processes_share_none_is_captured():
    net = net_of()
    net.training_ = SimpleNamespace(ranks=2)
    assert "StoredTable" in obstacle(net)


@pytest.mark.parametrize("reasons", [[None, None], [None, "rows are few. Add some"]])
def test_what_one_process_may_not_capture_none_does(reasons):
    net = net_of()
    net.ranks_ = SimpleNamespace(gathered=lambda own: [own, *reasons])
    assert is_captured(net, 1000) is (reasons[-1] is None)


def test_extrapolation_that_looks_at_the_numbers_may_not():
    net = net_of()
    net.module_ = KANRegressor(**SMALL, extrapolation="error").fit(X, Y).module_
    assert "extrapolation" in obstacle(net)
    net.module_ = KANRegressor(**SMALL).fit(X, Y).module_
    assert obstacle(net) is None


def test_auto_waits_for_enough_batches_and_true_does_not():
    net = net_of()
    net.max_epochs = 1
    enough = WARM_UP + WORTH_CAPTURING
    assert [is_captured(net, n) for n in (1, enough - 1, enough)] == [False, False, True]
    net.max_epochs = enough
    assert is_captured(net, 1)
    net.max_epochs, net.cuda_graph = 1, True
    assert is_captured(net, 1)
    net.cuda_graph = False
    assert not is_captured(net, 10 * enough)


# --- the loop around the graph --------------------------------------------------------


@every_run
@pytest.mark.parametrize("estimator", [KANRegressor, MetaKANClassifier])
def test_replays_train_like_eager_steps(pretend, estimator, settings, given):
    model = estimator(**SMALL | settings)
    captured = with_graph(model, "auto").fit(X, Y, **given)
    assert_same_training(captured, with_graph(model, False).fit(X, Y, **given))


@pytest.mark.parametrize("own", [None, 0.02])
def test_rates_are_numbers_again_after_every_step(pretend, own):
    rates, groups = [], {"learning_rate": 0.03, "prompt_learning_rate": own}

    class Looks(Callback):
        def on_epoch_end(self, net, **kwargs):
            rates.extend((g["lr"], g["capturable"]) for g in net.optimizer_.param_groups)

    model = MetaKANRegressor(**SMALL, **groups, callbacks=[Looks()]).fit(X, Y)
    assert model.cuda_graph_
    assert {(type(rate), capturable) for rate, capturable in rates} == {(float, False)}
    last = [group["lr"] for group in model.net_.optimizer_.param_groups]
    assert last == ([] if own is None else [own]) + [0.03]


def test_epoch_callback_may_change_the_rate(pretend):
    class Halves(Callback):
        def on_epoch_end(self, net, **kwargs):
            for group in net.optimizer_.param_groups:
                group["lr"] /= 2

    model = KANRegressor(**SMALL, learning_rate_schedule="constant", callbacks=[Halves()])
    assert_same_training(*(with_graph(model, value).fit(X, Y) for value in ("auto", False)))


class ChangesDecay(Callback):
    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 3:
            for group in net.optimizer_.param_groups:
                group["weight_decay"] = 2.0


@pytest.mark.parametrize(
    "callback", [ChangesDecay(), Freezer("layers.1.*", at=3)], ids=["decay", "freeze"]
)
def test_changed_settings_lead_to_another_capture(pretend, monkeypatch, callback):
    captures = []
    monkeypatch.setattr(
        CapturedStep, "_record", lambda *step: captures.append(step[0]) or pretend(*step)
    )
    model = KANRegressor(**SMALL, callbacks=[callback])
    assert_same_training(*(with_graph(model, value).fit(X, Y) for value in ("auto", False)))
    assert len(captures) == 2


@pytest.mark.parametrize(("passes", "lengths"), [(22, [16]), (23, [16, 4])])
def test_the_last_batch_of_a_pass_is_captured_if_it_comes_often(
    pretend, monkeypatch, passes, lengths
):
    captures = []
    monkeypatch.setattr(
        CapturedStep, "_record", lambda *step: captures.append(step[0]) or pretend(*step)
    )
    KANRegressor(**SMALL | {"max_iter": passes}).fit(X, Y)
    assert [len(step.batch[0]) for step in captures] == lengths
    captures.clear()  # nothing else holds them
    KANRegressor(**SMALL | {"max_iter": passes, "batch_size": 20}).fit(X, Y)
    assert [len(step.batch[0]) for step in captures] == [20]


def test_true_captures_a_short_run_and_a_shorter_one_stays_eager(pretend):
    model = KANRegressor(**SMALL | {"max_iter": 1}, net_params={"cuda_graph": True})
    assert model.fit(X, Y).cuda_graph_ is True
    assert model.set_params(batch_size=50).fit(X, Y).cuda_graph_ is False


def test_auto_leaves_a_short_run_alone(pretend):
    assert KANRegressor(**SMALL | {"max_iter": 3}).fit(X, Y).cuda_graph_ is False
    assert KANRegressor(**SMALL | {"max_iter": 4}).fit(X, Y).cuda_graph_ is True


def test_nothing_stays_behind(pretend):
    model = KANRegressor(**SMALL).fit(X, Y)
    assert model.cuda_graph_
    assert model.net_.captured_ is None
    assert all(p.grad is None for p in model.module_.parameters())
    gc.collect()
    assert not [found for found in gc.get_objects() if type(found) is CapturedStep]
    loaded = pickle.loads(pickle.dumps(model))
    assert loaded.cuda_graph_ is True
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


@pytest.mark.parametrize("first", ["fit", "partial_fit"])
def test_training_goes_on_after_a_captured_one(pretend, first):
    def train(cuda_graph):
        settings = SMALL | {"batch_size": 4, "precision": "float64"}  # hundreds of steps
        model = KANRegressor(**settings, warm_start=True)
        model = with_graph(model, cuda_graph)
        getattr(model, first)(X, Y)
        model.partial_fit(X, Y).partial_fit(X[:10], Y[:10])
        return model.partial_fit(X, Y).fit(X, Y)

    assert_same_training(train("auto"), train(False))


def test_callbacks_for_each_batch_are_served():
    class Counts(Callback):
        batches = 0

        def on_batch_end(self, net, training=False, **kwargs):
            Counts.batches += training

    model = KANRegressor(**SMALL, callbacks=[Counts()]).fit(X, Y)
    assert model.cuda_graph_ is False
    assert Counts.batches == 5 * 7


# --- failures -------------------------------------------------------------------------


def fails(part):
    part()  # what a capture records is not computed; here it is, so undo it
    raise RuntimeError("operation not permitted when stream is capturing")


@pytest.fixture
def failing(pretend, monkeypatch):
    """The capture fails after some of it was recorded."""

    def record(self, part):
        state = {k: v.clone() for k, v in self.net.module_.state_dict().items()}
        optimizer = pickle.loads(pickle.dumps(self.net.optimizer_.state_dict()))
        try:
            fails(part)
        finally:
            self.net.module_.load_state_dict(state)
            self.net.optimizer_.load_state_dict(optimizer)

    monkeypatch.setattr(CapturedStep, "_record", record)


def test_auto_goes_on_eagerly_after_one_warning(failing):
    model = KANRegressor(**SMALL, learning_rate=0.02)
    with pytest.warns(RuntimeWarning, match=r"operation not permitted.*cuda_graph") as caught:
        captured = model.fit(X, Y)
    assert len(caught) == 1
    assert captured.cuda_graph_ is False
    eager = with_graph(model, False).fit(X, Y)
    np.testing.assert_array_equal(captured.predict(X), eager.predict(X))
    assert captured.loss_curve_ == eager.loss_curve_
    rates = [(group["lr"], group["capturable"]) for group in captured.net_.optimizer_.param_groups]
    assert rates == [(0.02, False)]


def test_true_raises_and_leaves_the_earlier_fit(failing):
    model = with_graph(KANRegressor(**SMALL), False).fit(X, Y)
    before = model.predict(X)
    model.set_params(net__cuda_graph=True)
    with pytest.raises(RuntimeError, match=r"cuda_graph=True.*operation not permitted.*'auto'"):
        model.fit(X, -Y)
    np.testing.assert_array_equal(model.predict(X), before)


def test_error_in_an_epoch_frees_the_graph(pretend):
    seen = []

    class Fails(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 3:
                seen.append(net)
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        KANRegressor(**SMALL, callbacks=[Fails()]).fit(X, Y)
    assert seen[0].captured_ is None


@pytest.mark.parametrize("where", ["warm-up", "ragged batch", "validation"])
def test_without_memory_the_graph_is_freed_and_training_goes_on(pretend, monkeypatch, where):
    forward, freed = KAN.forward, []

    def limited(network, x, features=None, matrix=None):
        rows = len(x if features is None else features)
        if (
            not freed
            and {
                "warm-up": network.training,
                "ragged batch": network.training and rows == 4,
                "validation": not network.training,
            }[where]
        ):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return forward(network, x, features, matrix)

    close = CapturedStep.close
    monkeypatch.setattr(CapturedStep, "close", lambda self: freed.append(close(self)))
    monkeypatch.setattr(KAN, "forward", limited)
    given = {"X_val": X[:30], "y_val": Y[:30]}
    with pytest.warns(RuntimeWarning, match="working_memory was lowered") as caught:
        model = KANRegressor(**SMALL).fit(X, Y, **given)
    assert len(caught) == 1
    assert model.cuda_graph_ is (where != "warm-up")
    eager = with_graph(KANRegressor(**SMALL), False).fit(X, Y, **given)
    np.testing.assert_allclose(model.predict(X), eager.predict(X), rtol=1e-2, atol=1e-3)


# --- on a card ------------------------------------------------------------------------

on_card = pytest.mark.gpu
CARD = SMALL | {"device": "cuda"}


@on_card
@every_run
@every
def test_card_trains_the_same_captured_and_eagerly(estimator, settings, given):
    model = estimator(**CARD | settings)
    captured = with_graph(model, "auto").fit(X, Y, **given)
    assert_same_training(captured, with_graph(model, False).fit(X, Y, **given))


@on_card
@every
@pytest.mark.parametrize("precision", ["float64", "tf32", "bf16"])
def test_card_every_precision(estimator, precision):
    model = estimator(**CARD | {"precision": precision})
    captured, eager = (with_graph(model, value).fit(X, Y) for value in (True, False))
    assert (captured.cuda_graph_, eager.cuda_graph_) == (True, False)
    np.testing.assert_allclose(captured.loss_curve_, eager.loss_curve_, rtol=0.05)


@on_card
@pytest.mark.parametrize("backend", ["reference", "blocked"])
def test_card_every_way_to_compute_a_layer(backend):
    model = MetaKANRegressor(**CARD, net_params={"module__backend": backend})
    assert_same_training(*(with_graph(model, value).fit(X, Y) for value in (True, False)))


@on_card
def test_card_dropout_draws_the_same_numbers():
    model = KANRegressor(**CARD | {"hidden_layer_sizes": (6, 6), "dropout": 0.3})
    assert_same_training(*(with_graph(model, value).fit(X, Y) for value in (True, False)))


@on_card
def test_card_captured_training_repeats_exactly():
    one, other = (KANRegressor(**CARD).fit(X, Y) for _ in range(2))
    assert one.cuda_graph_
    np.testing.assert_array_equal(one.predict(X), other.predict(X))


@on_card
def test_card_true_raises_for_callbacks():
    with pytest.raises(ValueError, match="each batch"):
        KANRegressor(
            **CARD, callbacks=[callback_with("on_batch_end")], net_params={"cuda_graph": True}
        ).fit(X, Y)


@on_card
@pytest.mark.parametrize("method", METHODS)
def test_card_callbacks_for_each_batch_go_eagerly(method):
    model = KANRegressor(**CARD, callbacks=[callback_with(method)]).fit(X, Y)
    assert model.cuda_graph_ is False


@on_card
@pytest.mark.parametrize(
    "callback", [ChangesDecay(), Freezer("layers.1.*", at=3)], ids=["decay", "freeze"]
)
def test_card_changed_settings_lead_to_another_capture(callback):
    model = KANRegressor(**CARD, callbacks=[callback])
    assert_same_training(*(with_graph(model, value).fit(X, Y) for value in ("auto", False)))


@on_card
def test_card_memory_is_freed_and_does_not_grow():
    settings = CARD | {"hidden_layer_sizes": (256, 256), "batch_size": 50, "max_iter": 30}

    def left():
        model = KANRegressor(**settings).fit(X, Y)
        assert model.cuda_graph_
        del model
        gc.collect()
        torch.cuda.empty_cache()
        return torch.cuda.memory_allocated(), torch.cuda.memory_reserved()

    first = left()  # with the workspaces of cuBLAS
    for _ in range(3):
        again = left()
    assert again[0] <= first[0]
    assert again[1] <= first[1]


@on_card
def test_card_capture_that_fails_gives_its_memory_back():
    numbers, stream = torch.ones(2**24, device="cuda"), torch.cuda.Stream()

    def left():
        graph = torch.cuda.CUDAGraph()
        with pytest.raises(RuntimeError), torch.cuda.stream(stream), recording(graph, stream):
            (2 * numbers).sum().item()  # waits for the card: not in a capture
        del graph
        gc.collect()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        return torch.cuda.memory_reserved()

    first = left()
    assert all(left() <= first for _ in range(3))


@on_card
def test_card_capture_that_fails_leaves_generators_as_before():
    own = torch.Generator("cuda").manual_seed(3)
    torch.cuda.manual_seed(3)

    def draws():
        return [torch.rand(4, device="cuda"), torch.rand(4, device="cuda", generator=own)]

    def restart():
        torch.cuda.manual_seed(3)
        own.manual_seed(3)

    expected = draws()
    restart()
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    with (
        pytest.raises(RuntimeError),
        torch.cuda.stream(stream),
        recording(graph, stream, [own]),
    ):
        draws()[0].sum().item()  # waits for the card: not in a capture
    for found, before in zip(draws(), expected, strict=True):
        torch.testing.assert_close(found, before, rtol=0, atol=0)


@on_card
def test_card_pickle_clone_and_more_training():
    model = KANRegressor(**CARD | {"batch_size": 4}, warm_start=True).fit(X, Y)
    assert model.cuda_graph_
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    again = clone(model).fit(X, Y)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    for other in (model, loaded):
        before = other.score(X, Y)
        other.partial_fit(X, Y)
        assert other.cuda_graph_
        other.partial_fit(X[:10], Y[:10])
        assert not other.cuda_graph_
        assert other.fit(X, Y).score(X, Y) > before - 0.1


@on_card
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("failure", ["python", "synchronises"])
def test_card_failing_capture_falls_back(monkeypatch, failure, dropout):
    gradients = KANNet.gradients

    def failing(self, batch, *args, **kwargs):
        step = gradients(self, batch, *args, **kwargs)
        if torch.cuda.is_current_stream_capturing():
            if failure == "synchronises":
                step["loss"].item()
            raise RuntimeError("not while capturing")
        return step

    settings = CARD | {"hidden_layer_sizes": (6, 6), "dropout": dropout}
    expected = KANRegressor(**settings, net_params={"cuda_graph": False}).fit(X, Y)
    monkeypatch.setattr(KANNet, "gradients", failing)
    with pytest.warns(RuntimeWarning, match="could not be captured"):
        model = KANRegressor(**settings).fit(X, Y)
    assert model.cuda_graph_ is False
    np.testing.assert_allclose(model.predict(X), expected.predict(X), rtol=1e-3, atol=1e-4)
    monkeypatch.undo()
    if failure == "python":  # the stream and the allocator are in order
        assert KANRegressor(**settings).fit(X, Y).cuda_graph_


@on_card
def test_card_no_warning_comes_from_a_captured_fit():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        KANRegressor(**CARD).fit(X, Y).predict(X)


@on_card
def test_card_caller_without_gradients():
    expected = KANRegressor(**CARD).fit(X, Y).predict(X)
    with torch.no_grad():
        model = KANRegressor(**CARD).fit(X, Y)
    assert model.cuda_graph_
    np.testing.assert_array_equal(model.predict(X), expected)
