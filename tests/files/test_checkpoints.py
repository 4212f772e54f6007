"""A fit that was killed goes on: the weights are those of one that was not, bit for bit."""

import contextlib
import errno
import os
import re
from functools import partial
from threading import Lock

import numpy as np
import pandas as pd
import pytest
import torch
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, LRScheduler, PrintLog
from small_models import X, Y
from torch.optim.lr_scheduler import OneCycleLR

from sklearn_metakan import (
    KANClassifier,
    KANImageClassifier,
    KANRegressor,
    MetaKANImageClassifier,
    MetaKANRegressor,
    load,
)
from sklearn_metakan.pde import Dirichlet, Interval, KANPDESolver
from sklearn_metakan.training import Checkpoints

SHORT = {"hidden_layer_sizes": (3,), "n_estimators": 2, "max_iter": 12, "batch_size": 8}
SHORT |= {"random_state": 0, "dropout": 0.2, "early_stopping": True}
IMAGES = np.random.default_rng(0).normal(size=(40, 6, 6))


class Killed(BaseException):
    """No ``except Exception`` holds it up, as no signal 9 is held up."""


@pytest.fixture
def killed(monkeypatch):
    """A function that has the process die, so to speak, once so many checkpoints are written."""
    write = Checkpoints._write

    def after(count):
        left = [count]

        def dying(self, net):
            write(self, net)
            left[0] -= 1
            if not left[0]:
                raise Killed

        monkeypatch.setattr(Checkpoints, "_write", dying)

    yield after


def weights(model):
    return model.module_.state_dict()


def assert_same(one, other):
    for name, value in weights(one).items():
        assert torch.equal(value, weights(other)[name]), name
    assert one.loss_curve_ == other.loss_curve_
    assert one.validation_scores_ == other.validation_scores_
    assert one.best_validation_score_ == other.best_validation_score_


MODELS = {
    "regressor": (KANRegressor, {}),
    "meta": (MetaKANRegressor, {"meta_hidden_dim": 4, "edge_scale": True}),
    "classifier": (KANClassifier, {"learning_rate_schedule": "cosine"}),
    "patience": (KANRegressor, {"n_iter_no_change": 3, "tol": 0.2, "max_iter": 30}),
    "constant": (MetaKANRegressor, {"learning_rate_schedule": "constant", "early_stopping": False}),
    "lbfgs": (KANRegressor, {"solver": "lbfgs", "dropout": 0.0, "early_stopping": False}),
    "float32": (KANRegressor, {"precision": "float32", "n_estimators": 1}),
    "terms": (KANRegressor, {"grid_size": 2, "degree": 2}),
    "terms, linear": (MetaKANRegressor, {"grid_size": 2, "degree": 2, "meta_hidden_dim": 0}),
    "terms, hidden": (MetaKANRegressor, {"grid_size": 2, "degree": 2, "meta_hidden_dim": 4}),
}


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_killed_and_resumed_is_unbroken(name, count, tmp_path, killed):
    kind, settings = MODELS[name]
    y = Y > 0 if kind is KANClassifier else Y
    settings = SHORT | settings
    unbroken = kind(**settings).fit(X, y, sample_weight=np.linspace(1, 2, len(X)))
    settings |= {"checkpoint_dir": tmp_path, "checkpoint_every": (1, 0)}
    for _ in range(2):
        killed(count)
        try:
            kind(**settings).fit(X, y, sample_weight=np.linspace(1, 2, len(X)), resume=True)
        except Killed:
            continue
    killed(-1)
    model = kind(**settings).fit(X, y, sample_weight=np.linspace(1, 2, len(X)), resume=True)
    assert_same(model, unbroken)
    assert len([*tmp_path.iterdir()]) == 2


def equation(x, u):
    return u.d(0, 0) + 1


SOLVERS = {
    "adamw": {"max_iter": 50, "loss_weights": "balanced"},
    "fixed points": {"max_iter": 50, "resample_every": 15, "sampling": "rad"},
    "random directions": {"max_iter": 30, "derivatives": "hutchinson"},
    "lbfgs": {"max_iter": 20, "lbfgs_iter": 30},
    "all": {"max_iter": 20, "lbfgs_iter": 20, "lm_iter": 30, "loss_weights": "balanced"},
    "lm": {"max_iter": 0, "lm_iter": 50, "resample_every": None},
}


@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), 5])
@pytest.mark.parametrize("name", SOLVERS)
def test_solvers_of_equations(name, count, tmp_path, killed, monkeypatch):
    monkeypatch.setattr("sklearn_metakan.pde.solve.stages.REPORT", 10)  # steps of an epoch
    settings = {"hidden_layer_sizes": (3,), "n_interior": 20, "n_boundary": 2, "random_state": 0}
    settings |= {"domain": Interval(0, 1), "conditions": [Dirichlet(0.0)]} | SOLVERS[name]
    if name == "random directions":
        settings |= {"pde_params": {"a": 1.0}, "residual": lambda x, u, a: u.laplacian() + a}
    else:
        settings |= {"residual": equation}
    unbroken = KANPDESolver(**settings).fit([[0.5]], [0.125])
    settings |= {"checkpoint_dir": tmp_path, "checkpoint_every": (1, 0)}
    killed(count)
    with contextlib.suppress(Killed):
        KANPDESolver(**settings).fit([[0.5]], [0.125])
    killed(-1)
    model = KANPDESolver(**settings).fit([[0.5]], [0.125], resume=True)
    for key, value in weights(unbroken).items():
        assert torch.equal(value, weights(model)[key]), key
    assert model.loss_curve_ == unbroken.loss_curve_
    assert model.n_iter_ == unbroken.n_iter_
    assert model.pde_params_ == unbroken.pde_params_
    with pytest.raises(ValueError, match="differs in y"):
        KANPDESolver(**settings).fit([[0.5]], [0.25], resume=True)
    with pytest.raises(ValueError, match="differs in degree"):
        KANPDESolver(**settings, degree=5).fit([[0.5]], [0.125], resume=True)


@pytest.mark.parametrize("kind", [KANImageClassifier, MetaKANImageClassifier])
def test_images_too(kind, tmp_path, killed):
    settings = {"norm": "batch", "augment": "flip_crop", "dropout": 0.3, "max_iter": 6}
    settings |= {"random_state": 0, "batch_size": 16, "early_stopping": True}
    unbroken = kind((3,), **settings).fit(IMAGES, Y > 0)
    settings |= {"checkpoint_dir": tmp_path, "checkpoint_every": (2, 0)}
    killed(2)
    with pytest.raises(Killed):
        kind((3,), **settings).fit(IMAGES, Y > 0)
    killed(-1)
    assert_same(kind((3,), **settings).fit(IMAGES, Y > 0, resume=True), unbroken)


def test_without_a_seed_the_first_one_counts(tmp_path, killed):
    settings = SHORT | {"random_state": None, "checkpoint_dir": tmp_path}
    settings |= {"checkpoint_every": (1, 0)}
    killed(3)
    with pytest.raises(Killed):
        KANRegressor(**settings).fit(X, Y)
    killed(-1)
    one, other = (KANRegressor(**settings).fit(X, Y, resume=True) for _ in range(2))
    assert_same(one, other)


def test_warm_starts_go_on_from_where_they_began(tmp_path, killed):
    settings = SHORT | {"warm_start": True, "checkpoint_every": (1, 0)}
    first = KANRegressor(**settings).fit(X, Y)
    first.save(tmp_path / "first")
    unbroken = load(tmp_path / "first").fit(X, Y)
    folder = tmp_path / "checkpoints"
    killed(5)
    with pytest.raises(Killed):
        load(tmp_path / "first").set_params(checkpoint_dir=folder).fit(X, Y)
    killed(-1)
    model = load(tmp_path / "first").set_params(checkpoint_dir=folder)
    assert_same(model.fit(X, Y, resume=True), unbroken)
    with pytest.raises(ValueError, match="differs in the weights at the start"):
        KANRegressor(**settings, checkpoint_dir=folder).fit(X, Y, resume=True)


@pytest.fixture
def broken_off(tmp_path, killed):
    """A model that was killed, with three checkpoints written."""
    settings = SHORT | {"checkpoint_dir": tmp_path, "checkpoint_every": (1, 0)}
    killed(3)
    with pytest.raises(Killed):
        KANRegressor(**settings).fit(X, Y, sample_weight=np.ones(len(X)))
    killed(-1)
    return KANRegressor(**settings)


ONES = np.ones(len(X))
TWO = np.r_[2.0, ONES[1:]]
ZERO = np.r_[0.0, ONES[1:]]


@pytest.mark.parametrize(
    ("setting", "data", "named"),
    [
        ({"max_iter": 13}, (X, Y, ONES), r"max_iter, which was 12 and is 13"),
        ({"tol": 0.5}, (X, Y, ONES), "tol"),
        ({"random_state": 1}, (X, Y, ONES), "random_state, which was 0 and is 1"),
        ({}, (pd.DataFrame(X), Y, ONES), None),
        ({}, (pd.DataFrame(X).add_prefix("x"), Y, ONES), "column names"),
        ({"loss": "huber"}, (X, Y, ONES), "loss"),
        ({}, (X + 1e-9, Y, ONES), r"differs in X\b"),
        ({}, (X.astype(np.float32), Y, ONES), r"differs in X\b"),
        ({}, (X[:30], Y[:30], ONES[:30]), r"differs in X\b"),
        ({}, (X, Y + 1e-9, ONES), r"differs in y\b"),
        ({}, (X, Y, TWO), "differs in sample_weight"),
        ({}, (X, Y, ZERO), r"differs in (y|rows of)"),
    ],
)
def test_other_parameters_or_data_are_refused_by_name(broken_off, setting, data, named):
    if named is None:
        broken_off.set_params(**setting).fit(*data, resume=True)
        return
    with pytest.raises(ValueError, match=named):
        broken_off.set_params(**setting).fit(*data, resume=True)
    assert not hasattr(broken_off, "net_")


def power(p):
    """Losses of one name that do not do the same."""
    return lambda outputs, target: (outputs - target).abs() ** p


def of(function, **settings):
    made = partial(function, **settings)
    return lambda outputs, target, f=made: f(outputs, target) ** 2


@pytest.mark.parametrize(
    ("first", "again", "other"),
    [
        (power(2), power(2), power(1.5)),
        (lambda o, t: (o - t) ** 2, lambda o, t: (o - t) ** 2, lambda o, t: (o - t).abs()),
        (of(torch.sub), of(torch.sub), of(torch.rsub, alpha=2)),
    ],
    ids=["variable", "code", "partial"],
)
def test_functions_are_compared_by_what_they_do(first, again, other, tmp_path, killed):
    settings = SHORT | {"checkpoint_dir": tmp_path, "checkpoint_every": (1, 0)}
    killed(3)
    with pytest.raises(Killed):
        KANRegressor(**settings, loss=first).fit(X, Y)
    killed(-1)
    with pytest.raises(ValueError, match="differs in loss"):
        KANRegressor(**settings, loss=other).fit(X, Y, resume=True)
    resumed = KANRegressor(**settings, loss=again).fit(X, Y, resume=True)
    assert_same(resumed, KANRegressor(**SHORT, loss=first).fit(X, Y))


def test_other_files_in_the_folder_are_left_alone(broken_off):
    best = broken_off.checkpoint_dir / "checkpoint-best.safetensors"
    best.write_text("of the user")
    (broken_off.checkpoint_dir / "checkpoint-000009.safetensors").symlink_to("nowhere")
    unbroken = KANRegressor(**SHORT).fit(X, Y, ONES)
    with pytest.warns(UserWarning, match=r"goes on from .*000003"):
        assert_same(broken_off.fit(X, Y, ONES, resume=True), unbroken)
    assert best.read_text() == "of the user"


def test_validation_rows_are_data_as_well(tmp_path, killed):
    settings = SHORT | {"checkpoint_dir": tmp_path, "checkpoint_every": (1, 0)}
    killed(3)
    with pytest.raises(Killed):
        KANRegressor(**settings).fit(X, Y, X_val=X, y_val=Y)
    killed(-1)
    model = KANRegressor(**settings)
    with pytest.raises(ValueError, match="differs in y_val"):
        model.fit(X, Y, X_val=X, y_val=-Y, resume=True)
    with pytest.raises(ValueError, match="differs in X_val"):
        model.fit(X, Y, resume=True)
    model.fit(X, Y, X_val=X, y_val=Y, resume=True)


def test_levels_and_labels_are_data_as_well(tmp_path, killed):
    settings = SHORT | {"checkpoint_dir": tmp_path, "checkpoint_every": (1, 0)}
    towns = np.where(X[:, 0] > 0, "Bonn", "Köln")
    table, y = pd.DataFrame({"a": X[:, 1], "town": towns}), np.where(Y > 0, "yes", "no")
    groups = [*np.where(X[:, 1] > 0, "north", "south")]
    groups[0] = "east"
    unbroken = KANClassifier(**SHORT).fit(table, y, groups=groups)
    killed(3)
    with pytest.raises(Killed):
        KANClassifier(**settings).fit(table, y, groups=groups)
    killed(-1)
    model, others = KANClassifier(**settings), table.replace("Köln", "Trier")
    with pytest.raises(ValueError, match="differs in categories_"):
        model.fit(others, y, groups=groups, resume=True)
    with pytest.raises(ValueError, match="differs in classes_"):
        model.fit(table, np.where(y == "yes", "yes", "never"), groups=groups, resume=True)
    with pytest.raises(ValueError, match="differs in groups"):
        model.fit(table, y, groups=[*groups[:-1], "west"], resume=True)
    assert_same(model.fit(table, y, groups=groups, resume=True), unbroken)


def test_another_class_is_refused(broken_off):
    other = MetaKANRegressor(**SHORT, checkpoint_dir=broken_off.checkpoint_dir)
    with pytest.raises(ValueError, match="differs in class"):
        other.fit(X, Y, resume=True)


def test_what_does_not_matter_may_change(broken_off):
    unbroken = KANRegressor(**SHORT).fit(X, Y, ONES)
    broken_off.set_params(checkpoint_every=(3, 0), verbose=1, working_memory=8.0)
    assert_same(broken_off.fit(X, Y, ONES, resume=True), unbroken)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(broken_off):
    unbroken = KANRegressor(**SHORT).fit(X, Y, ONES)
    last = sorted(broken_off.checkpoint_dir.iterdir())[-1]
    data = bytearray(last.read_bytes())
    data[-3] ^= 1
    last.write_bytes(data)
    with pytest.warns(UserWarning, match=r"altered.*goes on from .*000002"):
        assert_same(broken_off.fit(X, Y, ONES, resume=True), unbroken)


def test_if_all_are_damaged_it_says_so(broken_off):
    for path in broken_off.checkpoint_dir.iterdir():
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"No checkpoint in .* is whole.*resume=False"):
        broken_off.fit(X, Y, ONES, resume=True)
    broken_off.fit(X, Y, ONES)
    broken_off.fit(X, Y, ONES, resume=True)


def test_a_model_is_no_checkpoint(broken_off):
    KANRegressor().save(broken_off.checkpoint_dir / "checkpoint-000009.safetensors")
    unbroken = KANRegressor(**SHORT).fit(X, Y, ONES)
    with pytest.warns(UserWarning, match="is no checkpoint"):
        assert_same(broken_off.fit(X, Y, ONES, resume=True), unbroken)


def test_a_full_disk_loses_nothing(broken_off, monkeypatch):
    unbroken = KANRegressor(**SHORT).fit(X, Y, ONES)
    before = {path: path.read_bytes() for path in broken_off.checkpoint_dir.iterdir()}

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            broken_off.fit(X, Y, ONES, resume=True)
    assert {path: path.read_bytes() for path in broken_off.checkpoint_dir.iterdir()} == before
    assert not hasattr(broken_off, "net_")
    assert_same(broken_off.fit(X, Y, ONES, resume=True), unbroken)


def test_without_resume_a_fit_starts_again_and_loses_the_old_ones_late(broken_off, killed):
    numbers = sorted(
        int(re.findall(r"\d+", p.name)[0]) for p in broken_off.checkpoint_dir.iterdir()
    )
    assert numbers == [2, 3]
    broken_off.set_params(max_iter=2, checkpoint_every=(50, 0)).fit(X, Y, ONES)
    assert len([*broken_off.checkpoint_dir.iterdir()]) == 2
    broken_off.set_params(max_iter=3, checkpoint_every=(1, 0)).fit(X, Y, ONES)
    numbers = sorted(
        int(re.findall(r"\d+", p.name)[0]) for p in broken_off.checkpoint_dir.iterdir()
    )
    assert numbers == [5, 6]
    assert broken_off.n_iter_ == 3


def test_seconds_and_iterations(tmp_path):
    settings = SHORT | {"checkpoint_dir": tmp_path / "new" / "folder"}
    KANRegressor(**settings).fit(X, Y)
    assert [*(tmp_path / "new" / "folder").iterdir()] == []  # within a minute
    KANRegressor(**settings, checkpoint_every=(5, 0)).fit(X, Y)
    names = [path.name for path in sorted((tmp_path / "new" / "folder").iterdir())]
    assert names == ["checkpoint-000001.safetensors", "checkpoint-000002.safetensors"]


@pytest.mark.parametrize(
    "every", [(0, 1), ("a", 0), (1, None), (1, -1), (1,), "5s", 3, (1, float("nan"))]
)
def test_what_is_no_interval(every, tmp_path):
    with pytest.raises(ValueError, match="checkpoint_every"):
        KANRegressor(checkpoint_dir=tmp_path, checkpoint_every=every).fit(X, Y)


def test_contradictions(tmp_path):
    with pytest.raises(ValueError, match="resume=True needs checkpoint_dir"):
        KANRegressor().fit(X, Y, resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        KANRegressor(checkpoint_dir=tmp_path / "file").fit(X, Y)


def test_a_time_limit_counts_what_was_used_before(tmp_path, killed):
    settings = SHORT | {"time_limit": 1e6, "checkpoint_dir": tmp_path, "checkpoint_every": (1, 0)}
    killed(3)
    with pytest.raises(Killed):
        KANRegressor(**settings).fit(X, Y)
    killed(-1)
    assert KANRegressor(**settings).fit(X, Y, resume=True).n_iter_ == 12


def test_the_folder_is_a_parameter_like_others(tmp_path):
    model = KANRegressor(**SHORT, checkpoint_dir=tmp_path / "c").fit(X, Y)
    model.save(tmp_path / "model")
    assert load(tmp_path / "model").get_params() == model.get_params()


class Counter(Callback):
    """What users write: attributes of any name."""

    def initialize(self):
        self.seen, self.losses = 0, []
        return self

    def on_batch_end(self, net, training=False, **kwargs):
        self.seen += training

    def on_epoch_end(self, net, **kwargs):
        self.losses.append((len(net.history), net.history[-1, "train_loss"]))


class Shrinking(Callback):
    """Training depends on what it knows."""

    def on_train_begin(self, net, **kwargs):
        self.factor = np.float64(1.0)

    def on_epoch_end(self, net, **kwargs):
        self.factor *= 0.7
        for group in net.optimizer_.param_groups:
            group["lr"] = 0.05 * self.factor


CALLBACKS = {
    "scores": lambda: [EpochScoring("r2", lower_is_better=False), EpochScoring("r2", name="again")],
    "stops": lambda: [EarlyStopping(monitor="valid_loss", patience=3, load_best=True)],
    "torch's scheduler": lambda: [LRScheduler("CosineAnnealingLR", T_max=12, step_every="batch")],
    "one cycle": lambda: [("rate", LRScheduler(OneCycleLR, max_lr=0.1, total_steps=12))],
    "plateau": lambda: [LRScheduler("ReduceLROnPlateau", monitor="valid_loss", patience=1)],
    "own": lambda: [Counter, Shrinking(), PrintLog(sink=lambda *_: None)],
}


@pytest.mark.filterwarnings("ignore:Training stopped at max_iter")
@pytest.mark.parametrize("name", CALLBACKS)
@pytest.mark.parametrize("count", [1, 5])
def test_callbacks_go_on_where_they_were(name, count, tmp_path, killed):
    def model(**more):
        settings = SHORT | {"learning_rate_schedule": "constant", "dropout": 0.0}
        return KANRegressor(**settings, callbacks=CALLBACKS[name](), **more)

    unbroken = model().fit(X, Y)
    folder = {"checkpoint_dir": tmp_path, "checkpoint_every": (1, 0)}
    killed(count)
    with pytest.raises(Killed):
        model(**folder).fit(X, Y)
    killed(100)
    resumed = model(**folder).fit(X, Y, resume=True)
    assert_same(unbroken, resumed)
    for one, other in zip(unbroken.callbacks_, resumed.callbacks_, strict=True):
        for attribute in ("best_score_", "misses_", "best_epoch_", "seen", "losses", "factor"):
            assert getattr(one, attribute, None) == getattr(other, attribute, None)
        if isinstance(one, LRScheduler):
            assert one.lr_scheduler_.state_dict() == other.lr_scheduler_.state_dict()
    names = ("train_loss", "valid_loss", "r2", "again", "event_lr")
    for row, same in zip(unbroken.net_.history, resumed.net_.history, strict=True):
        assert [row.get(each) for each in names] == [same.get(each) for each in names]


def test_other_callbacks_are_another_fit(tmp_path):
    folder = {"checkpoint_dir": tmp_path, "checkpoint_every": (1, 0)}
    KANRegressor(**SHORT, **folder, callbacks=[EpochScoring("r2")]).fit(X, Y)
    for others in (None, [Counter()], [EpochScoring("r2", lower_is_better=False)]):
        with pytest.raises(ValueError, match="differs in callbacks"):
            KANRegressor(**SHORT, **folder, callbacks=others).fit(X, Y, resume=True)


class Odd(Callback):
    def __init__(self, what):
        self.what = what

    def on_train_begin(self, net, **kwargs):
        self.generator = self.what()

    def on_epoch_end(self, net, **kwargs):
        if isinstance(self.generator, np.random.Generator):
            self.generator.normal()


@pytest.mark.parametrize(
    ("what", "reason"), [(np.random.default_rng, "changes"), (Lock, "cannot be copied")]
)
def test_what_a_checkpoint_cannot_hold_is_refused_by_name(what, reason, tmp_path):
    folder = {"checkpoint_dir": tmp_path, "checkpoint_every": (1, 0)}
    with pytest.raises(ValueError, match=f"callback Odd: its attribute 'generator' {reason}"):
        KANRegressor(**SHORT, **folder, callbacks=[Odd(what)]).fit(X, Y)


def test_what_stays_as_it_was_needs_no_place_in_a_checkpoint(tmp_path):
    folder = {"checkpoint_dir": tmp_path, "checkpoint_every": (1, 0)}
    KANRegressor(**SHORT, **folder, callbacks=[Odd(lambda: {1, 2})]).fit(X, Y)
    assert list(tmp_path.iterdir())
