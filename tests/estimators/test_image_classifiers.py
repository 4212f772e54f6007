"""Classifiers of images: shapes and dtypes of X, training, and what users do around them."""

import pickle
import warnings
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback

from sklearn_metakan import KANImageClassifier, MetaKANImageClassifier
from sklearn_metakan.estimators.inputs.images import ImageInputs, Layout, find_layout
from sklearn_metakan.estimators.inputs.rows import Rows
from sklearn_metakan.nn import Augment, build_conv_network
from sklearn_metakan.training.callbacks import Listeners
from sklearn_metakan.training.capture import obstacle

TINY = {"hidden_channels": (3,), "max_iter": 2, "learning_rate": 0.03, "random_state": 0}
TINY |= {"early_stopping": False}
BOTH = [KANImageClassifier, MetaKANImageClassifier]
each = pytest.mark.parametrize("estimator", BOTH)
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (24, 6, 5), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (24, 3, 6, 5), dtype=np.uint8)
LABELS = np.arange(24) % 3


def scaling_of(images, weight, kind):
    """ImageInputs fitted to images (n, channels, height, width)."""
    inputs = ImageInputs(kind, images.shape[1:], False)
    table = inputs.as_table(images, "", reset=True)
    inputs.dtype = table.dtype
    return inputs.fit(Rows(table, None, np.zeros(len(images)), weight))


def fit(estimator=MetaKANImageClassifier, X=GREY, y=LABELS, **options):
    return estimator(**TINY | options).fit(X, y)


# --- shapes ---------------------------------------------------------------------------


@each
@pytest.mark.parametrize(
    ("X", "options", "shape"),
    [
        (GREY, {}, (1, 6, 5)),
        (GREY[:, None], {}, (1, 6, 5)),
        (COLOUR, {}, (3, 6, 5)),
        (COLOUR.transpose(0, 2, 3, 1), {"channels_last": True}, (3, 6, 5)),
        (GREY[..., None], {"channels_last": True}, (1, 6, 5)),
        (GREY, {"channels_last": True}, (1, 6, 5)),
        (GREY.reshape(24, 30), {"image_shape": (6, 5)}, (1, 6, 5)),
        (COLOUR.reshape(24, 90), {"image_shape": (3, 6, 5)}, (3, 6, 5)),
        (GREY[:, :5].reshape(24, 25), {}, (1, 5, 5)),
        (GREY[:, :2].reshape(24, 10), {"image_shape": [1, 2, 5]}, (1, 2, 5)),
    ],
)
def test_shapes(estimator, X, options, shape):
    model = fit(estimator, X, **options)
    assert model.image_shape_ == shape
    assert model.n_features_in_ == np.prod(shape)
    assert model.predict_proba(X).shape == (24, 3)
    assert model.decision_function(X[:1]).shape == (1, 3)
    assert model.module_.image_shape == shape


def test_all_ways_to_pass_an_image_are_the_same():
    last = COLOUR.transpose(0, 2, 3, 1)
    flat, flat_last = COLOUR.reshape(24, -1), last.reshape(24, -1)
    expected = fit(X=COLOUR).predict_proba(COLOUR)
    model = fit(X=last, channels_last=True)
    for X in (last, flat_last, np.ascontiguousarray(last), torch.tensor(last.copy())):
        np.testing.assert_allclose(model.predict_proba(X), expected, rtol=1e-5)
    for X in (COLOUR, flat, torch.tensor(COLOUR)):
        model = fit(X=X, image_shape=(3, 6, 5))
        np.testing.assert_allclose(model.predict_proba(COLOUR), expected, rtol=1e-5)
        np.testing.assert_allclose(model.predict_proba(flat), expected, rtol=1e-5)
    model = fit(X=flat_last, channels_last=True, image_shape=(6, 5, 3))
    np.testing.assert_allclose(model.predict_proba(last), expected, rtol=1e-5)
    lists = fit(X=GREY.tolist()).predict_proba(GREY.astype(float))
    np.testing.assert_allclose(lists, fit(X=GREY.astype(float)).predict_proba(GREY.tolist()))


def test_columns_that_are_no_square_become_one_row_with_a_warning():
    X = GREY[:, :3, :4].reshape(24, 12).astype(float)
    with pytest.warns(UserWarning, match=r"image_shape=\(channels, height, width\)"):
        model = fit(X=X)
    assert model.image_shape_ == (1, 1, 12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(X)


def test_columns_are_never_guessed_as_colours():
    with pytest.warns(UserWarning, match="3072 columns"):
        assert find_layout((10, 3072), None, False).image_shape == (1, 1, 3072)
    assert find_layout((10, 784), None, False).image_shape == (1, 28, 28)


@pytest.mark.parametrize(
    ("X", "options", "words"),
    [
        (COLOUR.transpose(0, 2, 3, 1), {}, r"X\.transpose\(0, 3, 1, 2\)"),
        (GREY[..., None], {}, r"X\.transpose\(0, 3, 1, 2\)"),
        (COLOUR, {"channels_last": True}, r"X\.transpose\(0, 2, 3, 1\)"),
        (COLOUR, {"image_shape": (6, 5)}, "image_shape"),
        (GREY.reshape(24, 30), {"image_shape": (6, 6)}, "30 columns"),
        (GREY.reshape(24, 30), {"image_shape": (30,)}, "image_shape"),
        (GREY, {"image_shape": (6, -5)}, "image_shape"),
        (COLOUR[None], {}, "height, width"),
        (GREY[:0], {}, "0 sample"),
        (GREY, {"hidden_channels": ()}, "hidden_channels"),
        (GREY, {"hidden_channels": (3, 0)}, "hidden_channels"),
        (GREY, {"strides": (1, 2)}, "strides"),
        (GREY, {"strides": (1.5,)}, "strides"),
        (GREY, {"norm": "group"}, "norm"),
        (GREY, {"augment": "rotate"}, "augment"),
        (GREY, {"augment": "flip", "solver": "lbfgs"}, "augment"),
        (GREY, {"net_params": {"module__hidden_channels": (4,)}}, "hidden_channels"),
        (GREY, {"net_params": {"module__norm": "batch"}}, "norm"),
    ],
)
def test_errors_name_the_remedy(X, options, words):
    model = MetaKANImageClassifier(**TINY | options)
    with pytest.raises(ValueError, match=words):
        model.fit(X, LABELS[: len(X)])
    assert not model.__sklearn_is_fitted__()


def test_an_unusual_image_is_taken_as_declared():
    X = RNG.normal(size=(24, 6, 5, 3))  # six channels of 5 x 3
    model = fit(X=X, image_shape=(6, 5, 3))
    assert model.image_shape_ == (6, 5, 3)
    assert len(model.predict(X)) == 24


def test_predict_checks_the_shape():
    model = fit(X=GREY)
    with pytest.raises(ValueError, match=r"\(1, 5, 6\).*fitted with \(1, 6, 5\)"):
        model.predict(GREY.transpose(0, 2, 1))
    with pytest.raises(ValueError, match="expecting 30 features"):
        model.predict(GREY.reshape(24, 30)[:, :20])
    with pytest.raises(ValueError, match=r"\(3, 6, 5\)"):
        model.predict(COLOUR)
    with pytest.raises(ValueError, match=r"In X_val.*\(1, 5, 6\)"):
        fit(early_stopping=True).fit(GREY, LABELS, X_val=GREY.swapaxes(1, 2), y_val=LABELS)


@pytest.mark.parametrize(
    ("X", "options", "one"),
    [
        (GREY, {}, GREY[0]),
        (COLOUR, {}, COLOUR[0]),
        (COLOUR.transpose(0, 2, 3, 1), {"channels_last": True}, COLOUR[0].transpose(1, 2, 0)),
    ],
)
def test_one_image_by_itself(X, options, one):
    model = fit(X=X, **options)
    with pytest.raises(ValueError, match=r"X is one image, of shape .*X\[None\]"):
        model.predict(one)
    assert len(model.predict(one[None])) == 1


def test_gaps_in_images_are_counted_by_image():
    X = GREY.astype(float)
    X[[3, 7], 2, 1] = np.nan
    X[3, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"NaN in 2 of 24 images.*drop those images"):
        fit(X=X)
    model = fit(X=GREY.astype(float))
    with pytest.raises(ValueError, match="NaN in 2 of 24 images"):
        model.predict(X)


def test_a_kernel_that_reaches_beyond_every_pixel():
    fit(kernel_size=11)
    with pytest.raises(ValueError, match=r"kernel_size must be from 1 to 11 .*got 12"):
        fit(kernel_size=12)


@pytest.mark.parametrize("widths", [8, np.int64(8)])
def test_channels_that_are_no_list(widths):
    with pytest.raises(ValueError, match=r"hidden_channels must be a list .*\(64,\)\.$"):
        fit(hidden_channels=widths)


# --- dtypes and scaling ---------------------------------------------------------------


def test_bytes_are_divided_by_255():
    expected = fit(X=GREY / np.float32(255), scale_inputs=None)
    model = fit(X=GREY, scale_inputs=None)
    got = model.predict_proba(GREY)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected.predict_proba(GREY / np.float32(255)), rtol=1e-3)
    assert (model.input_scaler_.scale == 1 / 255).all()


@pytest.mark.parametrize("scale_inputs", ["auto", None])
def test_bytes_that_are_no_pixels_from_0_to_255(scale_inputs):
    with pytest.warns(UserWarning, match="uint8.*nothing above 15.*Convert it to float"):
        fit(X=GREY // 16 % 16, scale_inputs=scale_inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(X=GREY, scale_inputs=scale_inputs)
        fit(X=GREY // 16, scale_inputs="minmax")
        fit(X=(GREY // 16).astype(float), scale_inputs=scale_inputs)


def test_fitting_one_dtype_and_predicting_the_other():
    floats = GREY.astype(np.float32)
    for X, other in ((GREY, floats), (floats, GREY), (floats.astype(float), GREY)):
        model = fit(X=X)
        with pytest.raises(ValueError, match=r"uint8 is divided by 255"):
            model.predict(other)
    assert len(fit(X=floats).predict(GREY.astype(np.int64))) == 24
    with pytest.raises(ValueError, match=r"In X_val.*divided by 255"):
        fit(early_stopping=True).fit(GREY, LABELS, X_val=floats, y_val=LABELS)


@pytest.mark.parametrize("shape", [(24, 1, 6, 5), (24, 6, 5), (24, 30)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_tensors_keep_their_dtype(shape, dtype):
    X = GREY.reshape(shape).astype(dtype)
    expected = fit(X=X, image_shape=(6, 5)).predict_proba(X)
    model = fit(X=torch.tensor(X), image_shape=(6, 5))
    assert model.input_scaler_.dtype == dtype
    for other in (torch.tensor(X), X):
        np.testing.assert_array_equal(model.predict_proba(other), expected)


@pytest.mark.parametrize("kind", ["auto", "minmax", "standard", None])
def test_every_channel_is_scaled_by_itself(kind):
    images = RNG.normal(size=(50, 2, 4, 3)) * [[[3.0]], [[0.1]]] + [[[7.0]], [[-2.0]]]
    weight = RNG.uniform(size=50)
    scaling = scaling_of(images, weight, kind)
    scaled = (images - scaling.centre[:, None, None]) * scaling.scale[:, None, None]
    channels = scaled.transpose(1, 0, 2, 3).reshape(2, -1)
    ends = np.stack([channels.min(1), channels.max(1)], axis=1)
    np.testing.assert_allclose(scaling.ends, ends, atol=1e-12)
    if kind in ("auto", "minmax"):
        np.testing.assert_allclose(ends, [[-1, 1]] * 2)
    elif kind == "standard":
        by_pixel = np.repeat(weight, 12)
        mean = np.average(channels, axis=1, weights=by_pixel)
        np.testing.assert_allclose(mean, 0, atol=1e-12)
        np.testing.assert_allclose(np.average(channels**2, axis=1, weights=by_pixel), 1)
    else:
        np.testing.assert_array_equal(scaled, images)


def test_auto_takes_bytes_as_bytes():
    dark = GREY[:, None] // 4
    assert scaling_of(dark, None, "auto").centre == 127.5
    assert scaling_of(dark, None, "minmax").centre < 40
    constant = scaling_of(np.full((4, 1, 2, 2), 3.0), None, "standard")
    assert constant.centre == 3 and constant.scale == 0


@pytest.mark.parametrize("kind", ["uniform", "quantile"])
def test_the_grid_covers_the_pixels(kind):
    X = RNG.exponential(size=(24, 2, 6, 5))
    for scale_inputs in ("auto", "standard", None):
        model = fit(X=X, knots=kind, scale_inputs=scale_inputs)
        domain = next(model.module_.kan_layers()).basis.domain.double().numpy()
        np.testing.assert_allclose(domain, model.input_scaler_.ends, atol=1e-6)


# --- training -------------------------------------------------------------------------


@each
def test_learns_digits(estimator):
    X, y = load_digits(return_X_y=True)
    X = X[:800].reshape(-1, 8, 8).astype(np.float32)
    model = estimator((8, 16), max_iter=15, random_state=0).fit(X[:600], y[:600])
    assert model.score(X[600:], y[600:800]) > 0.7
    assert model.validation_scores_ is not None and model.best_validation_score_ > 0.7


def test_augment_names_and_callables():
    seen = []

    def watched(x):
        seen.append((tuple(x.shape), x.dtype))
        return x.flip(3)

    flipped = fit(augment=watched)
    assert seen and set(seen) == {((24, 1, 6, 5), torch.uint8)}
    np.testing.assert_array_equal(
        flipped.decision_function(GREY), fit(X=GREY[:, :, ::-1]).decision_function(GREY)
    )
    plain = fit().decision_function(GREY)
    for augment in ("flip", "crop", "flip_crop"):
        model = fit(augment=augment)
        assert isinstance(model.module_.augment, Augment)
        assert not np.array_equal(model.decision_function(GREY), plain)
        again = fit(augment=augment).decision_function(GREY)
        np.testing.assert_array_equal(model.decision_function(GREY), again)


def test_a_callable_is_no_part_of_a_cuda_graph():
    """Its random numbers would be those of the capture, again and again."""
    for augment, forbidden in ((None, False), ("flip_crop", False), (lambda x: x, True)):
        network = build_conv_network((1, 6, 5), [3], 2, augment=augment)
        optimizer = torch.optim.AdamW(network.parameters(), fused=True)
        net = SimpleNamespace(
            device="cuda",
            optimizer_=optimizer,
            listeners_=Listeners([]),
            module_=network,
            criterion_=None,
            training_=None,
        )
        reason = obstacle(net)
        assert ("augment" in reason) if forbidden else reason is None


def test_seeds_and_global_generators():
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    options = {"augment": "flip_crop", "dropout": 0.3, "early_stopping": True}
    first, again = fit(**options), fit(**options)
    other = fit(**options | {"random_state": 1})
    np.testing.assert_array_equal(first.decision_function(GREY), again.decision_function(GREY))
    assert not np.array_equal(first.decision_function(GREY), other.decision_function(GREY))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


@pytest.mark.parametrize("norm", ["batch", "instance", "layer", None])
def test_norms_by_name(norm):
    model = fit(norm=norm, hidden_channels=(3, 4))
    one_by_one = np.concatenate([model.predict_proba(image[None]) for image in GREY])
    np.testing.assert_allclose(one_by_one, model.predict_proba(GREY), rtol=1e-3, atol=1e-5)


def test_a_last_batch_of_one_image_under_batch_norm():
    options = {"norm": "batch", "strides": 6}
    fit(batch_size=24, **options)
    with pytest.raises(ValueError, match=r"norm='batch'.*one image.*batch_size.*norm='layer'"):
        fit(batch_size=23, **options)


@pytest.mark.filterwarnings("ignore:Interrupted after 0")
def test_the_papers_network_through_the_parameters():
    model = fit(
        X=RNG.integers(0, 256, (24, 28, 28), dtype=np.uint8),
        y=np.arange(24) % 10,
        hidden_channels=(32, 64, 128, 256),
        strides=(1, 2, 2, 1),
        norm="batch",
        dropout=0.5,
        meta_hidden_dim=64,
        edge_scale=False,
        max_iter=1,
        batch_size=2,
        net_params={"module__activation": "prelu"},
        callbacks=[StopAtOnce()],
    )
    assert model.n_parameters_ == 391_607


class StopAtOnce(Callback):
    """Ends training before its first step."""

    def on_epoch_begin(self, net, **kwargs):
        raise KeyboardInterrupt


def test_weights_count_as_repeated_images():
    X, y = GREY.astype(float), LABELS
    weight = np.arange(24) // 3 % 3
    repeated = np.repeat(np.arange(24), weight)
    options = TINY | {"batch_size": 100, "scale_inputs": "standard"}
    weighted = MetaKANImageClassifier(**options).fit(X, y, weight)
    expected = MetaKANImageClassifier(**options).fit(X[repeated], y[repeated])
    np.testing.assert_allclose(
        weighted.decision_function(X), expected.decision_function(X), rtol=1e-6, atol=1e-9
    )


def test_training_goes_on():
    model = fit(warm_start=True)
    first = model.loss_curve_[0]
    model.set_params(augment="flip", dropout=0.1).fit(GREY, LABELS)
    assert model.loss_curve_[-1] < first
    with pytest.raises(ValueError, match="hidden_channels"):
        model.set_params(hidden_channels=(5,)).fit(GREY, LABELS)
    with pytest.raises(ValueError, match="norm"):
        model.set_params(hidden_channels=(3,), norm="layer").fit(GREY, LABELS)
    with pytest.raises(ValueError, match=r"\(1, 5, 6\)"):
        model.set_params(norm=None).fit(GREY.swapaxes(1, 2), LABELS)
    with pytest.raises(ValueError, match="cannot change scale_inputs from 'auto' to 'standard'"):
        model.set_params(scale_inputs="standard").fit(GREY, LABELS)
    with pytest.raises(ValueError, match=r"\['module__hidden_range'\] from 3.0 to 2.0"):
        model.set_params(scale_inputs="auto", net__module__hidden_range=2.0).fit(GREY, LABELS)
    assert model.image_shape_ == (1, 6, 5)


@pytest.mark.parametrize("classifier", [KANImageClassifier, MetaKANImageClassifier])
def test_a_finer_grid_goes_on_from_the_same_function(classifier):
    options = TINY | {"grid_size": 3, "precision": "float64", "warm_start": True}
    model = classifier(**options).fit(GREY, LABELS)
    before = model.decision_function(GREY)
    model.set_params(grid_size=6, learning_rate=1e-13).fit(GREY, LABELS)
    np.testing.assert_allclose(model.decision_function(GREY), before, atol=1e-8)
    assert {layer.basis.grid_size for layer in model.module_.kan_layers()} == {6}


def test_partial_fit():
    model = MetaKANImageClassifier(**TINY)
    for part in (slice(0, 12), slice(12, 24)):
        model.partial_fit(GREY[part], LABELS[part], classes=[0, 1, 2])
    assert model.predict(GREY).shape == (24,)


@pytest.mark.parametrize("precision", ["bf16", "float64", "float32"])
def test_precisions(precision):
    expected = fit(precision="float64").predict_proba(GREY)
    got = fit(precision=precision).predict_proba(GREY)
    np.testing.assert_allclose(got, expected, atol=0.03)


def test_lbfgs():
    model = fit(solver="lbfgs", learning_rate="auto", max_iter=4)
    assert model.loss_curve_[-1] < model.loss_curve_[0]


def test_progress_bar(capsys):
    fit(verbose=1)
    assert "2/2" in capsys.readouterr().err


# --- neighbourhood --------------------------------------------------------------------


@each
def test_to_torch(estimator):
    model = fit(estimator, COLOUR, norm="batch", augment="flip")
    module = model.to_torch()
    expected = model.predict_proba(COLOUR)
    for X in (COLOUR, COLOUR.reshape(24, -1)):
        got = module(torch.tensor(X)).detach().numpy()
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    last = COLOUR.transpose(0, 2, 3, 1) / 255
    model = fit(estimator, last, channels_last=True)
    got = model.to_torch()(torch.tensor(last)).detach().numpy()
    np.testing.assert_allclose(got, model.predict_proba(last), rtol=1e-6)


@pytest.mark.parametrize("through", [pickle, joblib])
def test_stored_equals_loaded(through, tmp_path):
    model = fit(norm="batch", augment="flip_crop", dropout=0.2)
    if through is joblib:
        joblib.dump(model, tmp_path / "model")
        loaded = joblib.load(tmp_path / "model")
    else:
        loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.predict_proba(GREY), model.predict_proba(GREY))
    assert clone(model).get_params() == model.get_params()


def test_memory_mapped_images(tmp_path):
    np.save(tmp_path / "images.npy", COLOUR)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    expected = fit(X=COLOUR).predict_proba(COLOUR)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = fit(X=mapped).predict_proba(mapped)
    np.testing.assert_array_equal(got, expected)


def test_predictions_do_not_hold_a_copy_of_all_images(tmp_path, monkeypatch):
    """A mapped file is read chunk by chunk, also with channels last."""
    model = fit(X=COLOUR.transpose(0, 2, 3, 1), channels_last=True, working_memory=1e-3)
    chunks, images = [], Layout.images

    def watched(self, X):
        chunks.append(len(X))
        return images(self, X)

    monkeypatch.setattr(Layout, "images", watched)
    model.predict(COLOUR.transpose(0, 2, 3, 1))
    assert len(chunks) > 3 and sum(chunks) == 24


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_grid_search(n_jobs):
    model = MetaKANImageClassifier(**TINY)
    grid = {"hidden_channels": [(2,), (3, 3)], "norm": [None, "layer"]}
    search = GridSearchCV(model, grid, cv=2, n_jobs=n_jobs).fit(GREY, LABELS)
    assert search.best_estimator_.image_shape_ == (1, 6, 5)
    assert len(search.predict(GREY)) == 24


def test_pipeline():
    inverted = FunctionTransformer(lambda X: 255 - X)
    pipeline = make_pipeline(inverted, KANImageClassifier(**TINY)).fit(GREY, LABELS)
    assert len(pipeline.predict(GREY)) == 24
    assert "KANImageClassifier" in repr(pipeline)
