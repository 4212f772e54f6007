"""Bad input: the error names parameter or column, rule and value; what was fitted stays."""

import pickle
import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_class_weight
from skorch.callbacks import Callback

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANClassifier, MetaKANRegressor
from sklearn_metakan.pde import KANPDESolver

SMALL = {"hidden_layer_sizes": (3,), "max_iter": 2, "random_state": 0}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3))
Y = X[:, 0] + np.sin(X[:, 1])
LABELS = np.where(Y > 0, "high", "low")
FRAME = pd.DataFrame(X, columns=["age", "height", "weight"])

ALL = [KANRegressor, KANClassifier, MetaKANRegressor, MetaKANClassifier]
META = [MetaKANRegressor, MetaKANClassifier]


def target_of(estimator):
    return LABELS if isinstance(estimator, KANClassifier | MetaKANClassifier) else Y


def with_cell(value, table=X):
    """A copy of a table with one value changed, in row 3 of column 1."""
    table = table.copy()
    table[3, 1] = value
    return table


def assert_message(error, *parts):
    message = str(error.value)
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize("estimator", ALL)
@pytest.mark.parametrize(
    "single",
    [FRAME["age"], FRAME.iloc[0], pl.Series("age", X[:, 0]), pa.chunked_array([X[:, 0]])],
    ids=["column", "row", "polars", "pyarrow"],
)
def test_one_column_or_row_is_no_table(estimator, single):
    model = estimator(**SMALL)
    remedy = re.escape(f"but {estimator.__name__} takes a table, (n_samples, n_features). Take")
    with pytest.raises(ValueError, match=remedy):
        model.fit(single, target_of(model)[: len(single)])
    model.fit(FRAME, target_of(model))
    with pytest.raises(ValueError, match=remedy):
        model.predict(single)
    assert model.predict(FRAME.iloc[[0]]).shape == (1,)


def test_objects_of_a_pipeline_step_have_a_remedy_that_works():
    town = np.where(Y > 0, "Rome", "Oslo")
    columns = make_column_transformer((StandardScaler(), ["age"]), remainder="passthrough")
    pipeline = make_pipeline(columns, KANRegressor(**SMALL))
    with pytest.raises(ValueError, match=re.escape("set_output(transform='pandas')")):
        pipeline.fit(FRAME.assign(town=town), Y)
    columns.set_output(transform="pandas")
    assert pipeline.fit(FRAME.assign(town=town), Y)[-1].categories_.keys() == {3}


def test_text_in_y_is_shown_as_text():
    with pytest.raises(ValueError, match=f"it holds the text '{LABELS[0]}'"):
        KANRegressor(**SMALL).fit(X, LABELS)


@pytest.mark.parametrize("table", [X, FRAME])
def test_categories_are_named_by_what_the_table_has(table):
    with pytest.raises(ValueError, match=r"X by (.*)number, below 3; got 'town'") as error:
        KANRegressor(**SMALL, categorical_features=["town"]).fit(table, Y)
    assert ("'age'" in str(error.value)) == (table is FRAME)


@pytest.mark.parametrize("widths", ["32", None, {3}, {3: 4}])
def test_widths_that_are_no_list(widths):
    with pytest.raises(ValueError, match="hidden_layer_sizes must be a list of whole numbers"):
        KANRegressor(**(SMALL | {"hidden_layer_sizes": widths})).fit(X, Y)


@pytest.mark.parametrize("estimator", ALL)
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinity_names_column_and_number_of_rows(estimator, value):
    model = estimator(**SMALL)
    with pytest.raises(ValueError) as error:
        model.fit(with_cell(value), target_of(model))
    assert_message(error, "infinity", "column 1", "1 rows", estimator.__name__)
    frame = pd.DataFrame(with_cell(value), columns=FRAME.columns)
    frame.loc[7, "age"] = np.nan
    with pytest.raises(ValueError) as error:
        model.fit(frame, target_of(model))
    assert_message(error, "infinity", "column 'height'")
    assert "'age'" not in str(error.value)


def test_infinity_in_predict_names_column():
    model = KANRegressor(**SMALL).fit(FRAME, Y)
    frame = pd.DataFrame(with_cell(np.inf), columns=FRAME.columns)
    with pytest.raises(ValueError) as error:
        model.predict(frame)
    assert_message(error, "infinity", "column 'height'")


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.coo_matrix, sp.csr_array])
def test_sparse_is_refused_with_the_remedy(kind):
    with pytest.raises(TypeError, match=r"[Ss]parse.*dense.*toarray.*sparse_output=False"):
        KANRegressor(**SMALL).fit(kind(X), Y)


@pytest.mark.parametrize("estimator", ALL)
def test_complex_is_refused_in_a_message_without_the_data(estimator):
    model = estimator(**SMALL)
    for table in (X + 1j, FRAME + 1j):
        with pytest.raises(ValueError) as error:
            model.fit(table, target_of(model))
        assert_message(error, "complex128", "X")
        assert len(str(error.value)) < 600
    with pytest.raises(ValueError, match=r"Complex.*y.*complex128"):
        model.fit(X, Y + 1j)


def test_object_array_of_numbers_fits_as_the_numbers():
    numbers = KANRegressor(**SMALL).fit(X, Y).predict(X)
    objects = KANRegressor(**SMALL).fit(X.astype(object), Y.astype(object))
    np.testing.assert_array_equal(objects.predict(X.astype(object)), numbers)


@pytest.mark.parametrize("value", ["red", "1.5", {}, [1, 2], 1j, object()])
def test_object_array_with_anything_else_names_column_and_value(value):
    table = X.astype(object)
    table[3, 1] = value
    with pytest.raises((TypeError, ValueError)) as error:
        KANRegressor(**SMALL).fit(table, Y)
    assert_message(error, "column 1", repr(value), "numbers")


def test_list_with_text_names_column_and_value():
    table = [[1.0, "red"], [2.0, "blue"]] * 20
    with pytest.raises(ValueError) as error:
        KANRegressor(**SMALL).fit(table, Y)
    assert_message(error, "column 1", "'red'")


def test_array_of_text_says_how_to_convert_it():
    with pytest.raises(ValueError, match=r"astype\(float\)"):
        KANRegressor(**SMALL).fit(X.astype(str), Y)


@pytest.mark.parametrize("values", [["1.5", "2"], [1, "2"], ["1e3", None], ["7", pd.NA]])
@pytest.mark.parametrize("dtype", [object, "string"])
def test_numbers_written_as_text_are_no_categories(values, dtype):
    frame = FRAME.assign(dose=pd.Series(values * 20, dtype=object).astype(dtype))
    with pytest.raises(ValueError) as error:
        KANRegressor(**SMALL).fit(frame, Y)
    assert_message(error, "'dose'", "numbers written as text")
    (shown,) = [line.strip() for line in str(error.value).splitlines() if "to_numeric" in line]
    names = {"X": frame, "pd": pd}
    exec(shown, names)
    KANRegressor(**SMALL).fit(names["X"], Y)


def test_text_that_is_named_no_category_is_refused_with_the_remedy():
    frame = FRAME.assign(city=["Rome", "Oslo"] * 20, size=pd.Categorical(["S", "M"] * 20))
    for wanted in (None, ["size"]):
        with pytest.raises(ValueError) as error:
            KANRegressor(**SMALL, categorical_features=wanted).fit(frame, Y)
        assert_message(error, "'city'", "name such columns in categorical_features")
        assert ("'size'" in str(error.value)) == (wanted is None)


@pytest.mark.parametrize(
    ("wanted", "rule"),
    [
        (["town"], r"'age', 'height', 'weight', or by number, below 3; got 'town'"),
        ([3], r"below 3; got 3"),
        ([-1], r"got -1"),
        ([0.5], r"got 0\.5"),
        ([True, False], r"mask must have the shape \(3,\).*got \(2,\)"),
        ("age", "categorical_features"),
        (5, "categorical_features"),
    ],
)
def test_categorical_features_that_are_no_columns(wanted, rule):
    with pytest.raises(ValueError, match=rule):
        KANRegressor(**SMALL, categorical_features=wanted).fit(FRAME, Y)


def test_object_array_with_a_number_as_text_says_how_to_convert_it():
    with pytest.raises(ValueError, match=r"(?s)column 1 .*'1\.5'.*astype\(float\)"):
        KANRegressor(**SMALL).fit(with_cell("1.5", X.astype(object)), Y)


def test_text_column_in_predict_is_named():
    model = KANRegressor(**SMALL).fit(FRAME, Y)
    with pytest.raises(ValueError, match=r"'age'"):
        model.predict(FRAME.assign(age="old"))


def test_dates_are_named_with_their_type():
    with pytest.raises(ValueError, match=r"'born'.*datetime64"):
        KANRegressor(**SMALL).fit(FRAME.assign(born=pd.Timestamp("2020-01-01")), Y)


def test_dates_are_refused_in_arrays_and_targets_too():
    dates = np.datetime64("2020-01-01") + np.arange(40)
    model = KANRegressor(**SMALL)
    for table in (dates[:, None], dates[:, None] - dates[0]):
        with pytest.raises(ValueError) as error:
            model.fit(table, Y)
        assert_message(error, "X", str(table.dtype), "numbers")
    with pytest.raises(ValueError) as error:
        model.fit(X, dates)
    assert_message(error, "y", str(dates.dtype), "numbers")


def test_each_kind_of_column_gets_its_own_advice():
    frame = FRAME.assign(born=pd.Timestamp("2020-01-01"), wave=1j, city="Rome")
    with pytest.raises(ValueError) as error:
        KANRegressor(**SMALL, categorical_features=None).fit(frame, Y)
    assert_message(error, "'born'", "days", "'wave'", "imaginary", "'city'", "categorical_features")


def test_columns_of_the_same_name_are_named():
    twice = pd.DataFrame(X, columns=["age", "age", "weight"])
    for table in (twice, twice.astype(str)):
        with pytest.raises(ValueError, match=r"unique names, but 'age' occurs 2 times"):
            KANRegressor(**SMALL).fit(table, Y)
    model = KANRegressor(**SMALL).fit(FRAME, Y)
    with pytest.raises(ValueError, match=r"unique names, but 'age'"):
        model.predict(twice)


@pytest.mark.parametrize("estimator", ALL)
def test_wrong_width_names_both_numbers(estimator):
    model = estimator(**SMALL)
    model.fit(X, target_of(model))
    for method in ("predict", "decision_function", "predict_proba"):
        if hasattr(model, method):
            with pytest.raises(ValueError, match=r"2 features.*3 features"):
                getattr(model, method)(X[:, :2])


def test_other_column_names_are_listed():
    model = KANRegressor(**SMALL).fit(FRAME, Y)
    with pytest.raises(ValueError, match=r"(?s)mass.*weight"):
        model.predict(FRAME.rename(columns={"weight": "mass"}))
    with pytest.raises(ValueError, match="same order"):
        model.predict(FRAME[["weight", "age", "height"]])


@pytest.mark.parametrize(
    ("table", "rule"),
    [
        (X[:0], "0 sample"),
        (X[:, :0], "0 feature"),
        (X[:, 0], "2D array"),
        (X[:, :, None], "dim 3"),
    ],
)
def test_empty_and_wrongly_shaped_tables(table, rule):
    with pytest.raises(ValueError, match=rule):
        KANRegressor(**SMALL).fit(table, Y[: len(table)])


@pytest.mark.parametrize("estimator", ALL)
def test_predicting_before_fitting(estimator):
    for method in ("predict", "decision_function", "predict_proba", "predict_log_proba"):
        if hasattr(estimator, method):
            with pytest.raises(NotFittedError, match=estimator.__name__):
                getattr(estimator(), method)(X)
    for name in ("feature_importances_", "module_", "n_parameters_"):
        assert not hasattr(estimator(), name)
        with pytest.raises(NotFittedError, match=estimator.__name__):
            getattr(estimator(), name)


@pytest.mark.parametrize("scale_inputs", ["auto", "minmax", "standard", "quantile", None])
@pytest.mark.parametrize("knots", ["uniform", "quantile"])
def test_constant_and_few_valued_columns_are_fine(scale_inputs, knots):
    odd = np.c_[X, np.zeros(40), np.full(40, 7), np.arange(40) % 3, np.arange(40) % 2]
    if scale_inputs is not None:
        odd = np.c_[odd, np.full(40, 7e5), np.full(40, 1.7e18)]  # a time in nanoseconds
    model = KANRegressor(**SMALL, scale_inputs=scale_inputs, knots=knots)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prediction = model.fit(odd, Y).predict(odd)
    assert np.isfinite(prediction).all()


@pytest.mark.parametrize("scale_inputs", ["auto", "minmax", "standard", "quantile"])
def test_finite_numbers_may_be_huge(scale_inputs):
    # Their sum overflows; they are finite all the same.
    huge = X * 1e307
    model = KANRegressor(**SMALL, scale_inputs=scale_inputs).fit(huge, Y * 1e300)
    assert np.isfinite(model.predict(huge)).all()


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("shape", [(40,), (40, 1), (40, 2)])
def test_targets_too_large_for_predictions_are_told_of_without_a_warning(shape):
    largest = np.resize([1.7e308, -1.7e308], shape)  # whose sums are inf and -inf
    with pytest.raises(ValueError, match=r"1\.70e\+308.*at most 1e\+307"):
        KANRegressor(**SMALL).fit(X, largest)


def test_numbers_too_large_to_go_unscaled_are_named():
    with pytest.raises(ValueError) as error:
        KANRegressor(**SMALL, scale_inputs=None).fit(X * 1e200, Y)
    assert_message(error, f"{np.abs(X).max() * 1e200:.1e}", "scale_inputs=None", "'auto'")


@pytest.mark.parametrize("rows", [1, 2])
def test_one_and_two_rows_fit(rows):
    prediction = KANRegressor(**SMALL).fit(X[:rows], Y[:rows]).predict(X)
    assert np.isfinite(prediction).all()


@pytest.mark.parametrize("estimator", ALL)
def test_y_of_another_length_names_both(estimator):
    model = estimator(**SMALL)
    with pytest.raises(ValueError, match="40 in X and 39 in y"):
        model.fit(X, target_of(model)[:-1])


@pytest.mark.parametrize("estimator", ALL)
def test_y_missing_or_not_finite(estimator):
    with pytest.raises(ValueError, match="requires y"):
        estimator(**SMALL).fit(X, None)
    for value, name in ((np.nan, "NaN"), (np.inf, "infinity")):
        bad = Y > 1
        with pytest.raises(ValueError, match=f"y contains {name}") as error:
            estimator(**SMALL).fit(X, np.where(bad, value, 0.0))
        assert_message(error, f"{bad.sum()} rows", f"row {bad.argmax()}", "Drop")


@pytest.mark.parametrize("gap", [None, np.nan, pd.NA])
def test_gaps_among_labels_are_named(gap):
    labels = np.array(LABELS, dtype=object)
    labels[[7, 9]] = gap
    with pytest.raises(ValueError) as error:
        KANClassifier(**SMALL).fit(X, labels)
    assert_message(error, "2 rows", "row 7")


def test_labels_of_two_kinds_are_named():
    labels = np.array([1, "one"] * 20, dtype=object)
    with pytest.raises(ValueError) as error:
        KANClassifier(**SMALL).fit(X, labels)
    assert_message(error, "'one'", " 1.", "astype(str)")


@pytest.mark.parametrize(
    ("classes", "what"),
    [
        ([0, 1, np.nan], "nan"),
        (np.array([0, 1, np.nan]), "nan"),
        ([None, 0, 1], "None"),
        ([pd.NA, 0, 1], "<NA>"),
        (["high", "low", np.nan], "nan"),
        ([0, 1, np.inf], "inf"),
        ([0, 1, "two"], "'two'"),
    ],
    ids=str,
)
def test_classes_are_checked_as_y_is(classes, what):
    model = KANClassifier(**SMALL)
    with pytest.raises(ValueError, match=r"^classes must") as error:
        model.partial_fit(X, (Y > 0).astype(int), classes=classes)
    assert_message(error, what)
    assert not hasattr(model, "classes_")


def test_regressor_refuses_text_in_y_and_points_to_classifiers():
    with pytest.raises(ValueError, match=r"y.*'(high|low)'.*classifier"):
        KANRegressor(**SMALL).fit(X, LABELS)


@pytest.mark.parametrize("y", [Y - 10, np.c_[Y - 10, Y + 10]])
def test_negative_counts_name_loss_rule_and_smallest(y):
    with pytest.raises(ValueError) as error:
        KANRegressor(**SMALL, loss="poisson").fit(X, y)
    assert_message(error, "loss='poisson'", "y >= 0", f"{y.min():g}")


def test_one_class_is_named():
    for estimator in (KANClassifier, MetaKANClassifier):
        with pytest.raises(ValueError, match=r"at least 2 classes.*'only'"):
            estimator(**SMALL).fit(X, ["only"] * 40)
    with pytest.raises(ValueError, match=r"at least 2 classes.*3\b"):
        KANClassifier(**SMALL).partial_fit(X, [3] * 40)


def test_classifier_refuses_continuous_targets():
    with pytest.raises(ValueError, match="continuous"):
        KANClassifier(**SMALL).fit(X, Y)
    with pytest.raises(ValueError, match=r"\(40, 2\) must hold 0 and 1"):
        KANClassifier(**SMALL).fit(X, np.c_[Y, Y])


def test_unknown_class_is_named_beside_the_known_ones():
    model = KANClassifier(**SMALL).partial_fit(X, LABELS)
    with pytest.raises(ValueError) as error:
        model.partial_fit(X, ["middle"] * 40)
    assert_message(error, "'middle'", "['high', 'low']", "classes=")
    with pytest.raises(ValueError) as error:
        model.partial_fit(X, LABELS, classes=["high", "low", "middle"])
    assert_message(error, "['high', 'low', 'middle']", "['high', 'low']")


@pytest.mark.parametrize(
    ("weight", "rule"),
    [
        (np.zeros(40), "zero"),
        (-np.ones(40), "[Nn]egative"),
        (np.ones(39), r"\(39,\).*\(40,\)"),
        (np.full(40, np.nan), "NaN"),
    ],
)
def test_sample_weight_is_checked(weight, rule):
    with pytest.raises(ValueError, match=rule) as error:
        KANRegressor(**SMALL).fit(X, Y, weight)
    assert "weight" in str(error.value).lower()


@pytest.mark.parametrize("factor", [-1, np.nan, np.inf, "two"])
def test_class_weight_names_class_and_value(factor):
    with pytest.raises(ValueError) as error:
        KANClassifier(**SMALL, class_weight={"high": 1, "low": factor}).fit(X, LABELS)
    assert_message(error, "class_weight", "'low'", repr(factor))


def test_class_weight_that_leaves_no_row():
    with pytest.raises(ValueError, match=r"class_weight.*zero"):
        KANClassifier(**SMALL, class_weight={"high": 0, "low": 0}).fit(X, LABELS)


@pytest.mark.parametrize("fitted", [False, True])
def test_balanced_contradicts_partial_fit_which_names_the_remedy(fitted):
    model = KANClassifier(**SMALL, class_weight="balanced")
    if fitted:
        model.fit(X, LABELS)
    with pytest.raises(ValueError) as error:
        model.partial_fit(X, LABELS)
    assert_message(error, "class_weight='balanced'", "partial_fit")
    remedy = re.search(r"dict\(.*\)\)", str(error.value))[0]
    names = {"classes": np.unique(LABELS), "y": LABELS}
    weights = eval(remedy, names | {"compute_class_weight": compute_class_weight})
    assert weights.keys() == {"high", "low"}
    model.set_params(class_weight=weights).partial_fit(X, LABELS)


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"X_val": X}, "y_val.*missing"),
        ({"y_val": Y}, "X_val.*missing"),
        ({"sample_weight_val": np.ones(40)}, "X_val.*missing"),
        ({"X_val": X[:, :2], "y_val": Y}, "X_val.*2 features"),
        ({"X_val": with_cell(np.inf), "y_val": Y}, "X_val.*infinity.*column 1"),
        ({"X_val": X, "y_val": Y[:5]}, "X_val.*40.*5"),
        ({"X_val": X, "y_val": np.c_[Y, Y]}, "y_val.*2 outputs"),
        ({"X_val": X, "y_val": Y, "sample_weight_val": np.zeros(40)}, "_val.*zero"),
    ],
)
def test_validation_rows_are_checked_under_their_own_name(given, rule):
    with pytest.raises(ValueError, match=rule):
        KANRegressor(**SMALL).fit(X, Y, **given)


def test_validation_class_that_training_lacks():
    with pytest.raises(ValueError, match=r"_val.*'middle'"):
        KANClassifier(**SMALL).fit(X, LABELS, X_val=X, y_val=["middle"] * 40)


def test_validation_rows_without_early_stopping_contradict():
    with pytest.raises(ValueError, match=r"X_val.*early_stopping=False"):
        KANRegressor(**SMALL, early_stopping=False).fit(X, Y, X_val=X, y_val=Y)


def test_early_stopping_needs_a_row_to_hold_out():
    with pytest.raises(ValueError, match=r"early_stopping=True.*2 rows.*1"):
        KANRegressor(**SMALL, early_stopping=True).fit(X[:1], Y[:1])


BAD_PARAMETERS = {
    "hidden_layer_sizes": [2.5, 0, None, "3", (0,), (4, -1), (2.5,), ("a",), (True,), ((2, 3),)],
    "grid_size": [0, 2.5, "5", None],
    "learning_rate": ["cosine", 0, -1.0, np.nan, np.inf, None],
    "max_iter": [0, 1.5, None],
    "weight_decay": [-1e-3, np.nan, None],
    "basis": ["splines", None],
    "degree": [0, 2.5],
    "knots": ["adaptive", None],
    "extrapolation": ["flat", None],
    "dropout": [1.0, -0.1, None],
    "scale_inputs": ["robust", True],
    "solver": ["sgd", None],
    "learning_rate_schedule": ["step", None],
    "batch_size": [0, 2.5, "all"],
    "tol": [-1.0, None],
    "early_stopping": ["yes", None],
    "validation_fraction": [0.0, 1.0, -1],
    "n_iter_no_change": [0, 2.5],
    "warm_start": ["yes", None],
    "device": ["nowhere", "cuda:99", 3],
    "precision": ["half", None],
    "working_memory": [0, -1, "64"],
    "random_state": ["seed", -1, 0.5],
    "verbose": [-1, "yes"],
    "callbacks": [3, [3], [("name", 3)], ["callback"], Callback()],
    "net_params": [3, [("lr", 1)]],
}
BAD_META = {
    "prompt_dim": [0, 1.5, None],
    "meta_hidden_dim": [-1, 1.5, None],
    "meta_activation": ["gelu", None],
    "edge_scale": ["yes", None],
    "n_meta_learners": ["one", 0, 1.5, 99],
    "prompt_learning_rate": [0, "auto"],
    "meta_learning_rate": [0, "auto"],
}
BAD_REGRESSOR = {"loss": ["mse", None], "quantile": [0.0, 1.0, None], "scale_target": ["yes"]}
BAD_CLASSIFIER = {"class_weight": ["auto", 3]}


def cases(values):
    return [
        pytest.param(name, value, id=f"{name}={value!r}"[:50])
        for name, some in values.items()
        for value in some
    ]


def assert_refused(estimator, name, value):
    model = estimator(**SMALL | {name: value})  # the constructor takes anything
    assert model.get_params()[name] is value
    with pytest.raises((ValueError, TypeError)) as error:
        model.fit(X, target_of(model))
    message = str(error.value)
    assert name in message, message
    assert not hasattr(model, "net_")
    return message


@pytest.mark.parametrize(("name", "value"), cases(BAD_PARAMETERS))
def test_parameters(name, value):
    message = assert_refused(KANRegressor, name, value)
    if not isinstance(value, list | tuple | Callback):
        assert str(value) in message, message


@pytest.mark.parametrize("value", [(0,), (4, -1), (2.5,), ("a",)])
def test_hidden_layer_sizes_names_the_width(value):
    with pytest.raises(ValueError) as error:
        KANRegressor(hidden_layer_sizes=value).fit(X, Y)
    assert_message(error, repr(value), repr(value[-1]), "at least 1")


@pytest.mark.parametrize("value", [8, np.int64(8), np.array(8)])
def test_one_number_is_one_hidden_layer(value):
    """As in scikit-learn's MLPRegressor."""
    model = KANRegressor(**SMALL | {"hidden_layer_sizes": value}).fit(X, Y)
    listed = KANRegressor(**SMALL | {"hidden_layer_sizes": (8,)}).fit(X, Y)
    np.testing.assert_array_equal(model.predict(X), listed.predict(X))


@pytest.mark.parametrize("estimator", META)
@pytest.mark.parametrize(("name", "value"), cases(BAD_META))
def test_meta_learner_parameters(estimator, name, value):
    message = assert_refused(estimator, name, value)
    assert str(value) in message, message


@pytest.mark.parametrize("estimator", [KANRegressor, MetaKANRegressor])
@pytest.mark.parametrize(("name", "value"), cases(BAD_REGRESSOR))
def test_regressor_parameters(estimator, name, value):
    assert str(value) in assert_refused(estimator, name, value)


@pytest.mark.parametrize("estimator", [KANClassifier, MetaKANClassifier])
@pytest.mark.parametrize(("name", "value"), cases(BAD_CLASSIFIER))
def test_classifier_parameters(estimator, name, value):
    assert str(value) in assert_refused(estimator, name, value)


def test_unknown_parameters():
    for estimator in ALL:
        with pytest.raises(TypeError, match=f"{estimator.__name__} has no parameter 'depth'"):
            estimator(depth=3)
    with pytest.raises(ValueError, match=r"(?s)'depth'.*'grid_size'"):
        KANRegressor().set_params(depth=3)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("hidden_layers", "hidden_layer_sizes"),
        ("epochs", "max_iter"),
        ("lr", "learning_rate"),
        ("seed", "random_state"),
        ("grid_sise", "grid_size"),
    ],
)
def test_misspelt_parameters_get_the_name_that_was_meant(name, meant):
    for estimator in (KANRegressor, MetaKANClassifier, KANPDESolver):
        with pytest.raises(TypeError, match=f"'{name}'. Did you mean '{meant}'"):
            estimator(**{name: 3})
    with pytest.raises(ValueError, match=f"'{name}'.*Did you mean '{meant}'"):
        KANRegressor().set_params(**{name: 3})


def test_constructors_of_subclasses_may_take_what_they_like():
    class Own(KANRegressor):
        def __init__(self, depth=1, **others):
            super().__init__(hidden_layer_sizes=(2,) * depth, **others)

    assert Own(depth=3, grid_size=4).hidden_layer_sizes == (2, 2, 2)
    with pytest.raises(TypeError, match="epochs"):
        Own(epochs=3)


def test_schedule_given_as_learning_rate_gets_the_hint():
    with pytest.raises(ValueError) as error:
        KANRegressor(learning_rate="cosine").fit(X, Y)
    assert_message(error, "learning_rate", "'cosine'", "'auto'", "learning_rate_schedule")


@pytest.mark.parametrize("estimator", META)
def test_edge_scale_contradicts_a_linear_meta_learner(estimator):
    model = estimator(**SMALL, edge_scale=True, meta_hidden_dim=0)
    with pytest.raises(ValueError, match=r"edge_scale=True.*meta_hidden_dim=0"):
        model.fit(X, target_of(model))


@pytest.mark.parametrize("value", BAD_PARAMETERS["working_memory"])
@pytest.mark.parametrize("estimator", ALL)
def test_working_memory_set_after_the_fit_is_checked(estimator, value):
    model = estimator(**SMALL)
    model.fit(X, target_of(model)).set_params(working_memory=value)
    with pytest.raises(ValueError) as error:
        model.predict(X)
    assert_message(error, "working_memory", repr(value), "None")


def test_dropout_contradicts_lbfgs():
    with pytest.raises(ValueError, match=r"dropout=0\.5.*solver='lbfgs'"):
        KANRegressor(**SMALL, dropout=0.5, solver="lbfgs").fit(X, Y)


def test_partial_fit_contradicts_lbfgs():
    model = KANRegressor(solver="lbfgs")
    assert not hasattr(model, "partial_fit")
    with pytest.raises(AttributeError) as error:
        model.partial_fit(X, Y)
    assert_message(error, "partial_fit")
    assert "solver='adamw'" in str(error.value.__cause__)


@pytest.mark.parametrize("device", ["cuda", "cuda:99", "nowhere", "xpu", "xla", "meta"])
def test_device_that_is_not_there(device):
    import torch

    if device == "cuda" and torch.cuda.is_available():
        device = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(ValueError) as error:
        KANRegressor(device=device).fit(X, Y)
    assert_message(error, f"device={device!r}", "device='cpu'")
    assert len(str(error.value)) < 400  # torch lists all its kernels


def test_points_outside_the_grid_with_extrapolation_error():
    model = KANRegressor(**SMALL, extrapolation="error").fit(X, Y)
    with pytest.raises(ValueError, match="extrapolation"):
        model.predict(2 * X)


def fitted_attributes(model):
    """Every attribute by identity, and the weights by value."""
    weights = {k: v.clone() for k, v in model.module_.state_dict().items()}
    return dict(vars(model)), weights, pickle.dumps(model)


def assert_unchanged(model, before):
    attributes, weights, pickled = before
    now = vars(model)
    assert now.keys() == attributes.keys()
    assert all(now[name] is attributes[name] for name in attributes)
    state = model.module_.state_dict()
    assert state.keys() == weights.keys()
    assert all(bool((state[name] == weights[name]).all()) for name in weights)
    assert pickle.dumps(model) == pickled


def renamed_with_infinity():
    frame = FRAME.rename(columns={"age": "years"})
    frame.loc[3, "height"] = np.inf
    return frame


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize("estimator", ALL)
def test_failed_fit_with_renamed_columns_and_infinity_changes_nothing(estimator, warm_start):
    model = estimator(**SMALL, warm_start=warm_start)
    y = target_of(model)
    model.fit(FRAME, y)
    before, predicted = fitted_attributes(model), model.predict(FRAME)
    with pytest.raises(ValueError):
        model.fit(renamed_with_infinity(), y)
    assert_unchanged(model, before)
    assert list(model.feature_names_in_) == ["age", "height", "weight"]
    np.testing.assert_array_equal(model.predict(FRAME), predicted)


class FailsAtSecondEpoch(Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            raise RuntimeError("callback failed")


@pytest.mark.parametrize(
    "failure",
    ["width", "other classes", "one class", "parameter", "training", "late validation rows"],
)
def test_failed_fit_at_any_stage_changes_nothing(failure):
    model = KANClassifier(**SMALL).fit(FRAME, LABELS)
    given, y = {"X": X[:, :2]}, np.where(Y > 0, "new", "newer")
    match failure:
        case "width":
            y = y[:-1]
        case "other classes":
            model.set_params(class_weight={"new": 1, "newer": -1})
        case "one class":
            y = ["new"] * 40
        case "parameter":
            model.set_params(grid_size=0)
        case "training":
            model.set_params(callbacks=[FailsAtSecondEpoch()])
        case "late validation rows":
            given |= {"X_val": X[:, :1], "y_val": y}
    before = fitted_attributes(model)
    with pytest.raises((ValueError, RuntimeError)):
        model.fit(y=y, **given)
    assert_unchanged(model, before)
    assert list(model.classes_) == ["high", "low"]


def test_failed_partial_fit_changes_nothing():
    model = KANClassifier(**SMALL).partial_fit(FRAME, LABELS)
    before = fitted_attributes(model)
    for X_bad, y_bad in ((renamed_with_infinity(), LABELS), (FRAME, ["middle"] * 40)):
        with pytest.raises(ValueError):
            model.partial_fit(X_bad, y_bad)
        assert_unchanged(model, before)


class FailsIn(Callback):
    def __init__(self, hook):
        self.hook = hook

    def initialize(self):
        setattr(self, self.hook, self.fail)
        return self

    def fail(self, net, **kwargs):
        raise RuntimeError("callback failed")


@pytest.mark.parametrize("hook", ["on_train_begin", "on_batch_end", "on_epoch_end", "on_train_end"])
@pytest.mark.parametrize("estimator", ALL)
def test_partial_fit_that_fails_in_training_changes_nothing(estimator, hook):
    model = estimator(**SMALL | {"batch_size": 16})
    y = target_of(model)
    model.fit(X, y).partial_fit(X, y)
    unharmed = clone(model).fit(X, y).partial_fit(X, y)
    model.set_params(callbacks=[FailsIn(hook)])
    before = fitted_attributes(model)
    with pytest.raises(RuntimeError, match="callback failed"):
        model.partial_fit(X[:20], y[:20])
    assert_unchanged(model, before)
    # The optimiser's state is as it was as well: training goes on as if nothing had been.
    model.set_params(callbacks=None).partial_fit(X, y)
    np.testing.assert_array_equal(outputs(model), outputs(unharmed.partial_fit(X, y)))


def test_first_fit_that_fails_leaves_no_attributes():
    for call in ("fit", "partial_fit"):
        model = KANClassifier(**SMALL)
        before = dict(vars(model))
        with pytest.raises(ValueError):
            getattr(model, call)(renamed_with_infinity(), LABELS)
        assert vars(model) == before
        with pytest.raises(NotFittedError):
            model.predict(X)


def outputs(model):
    return model.decision_function(X) if hasattr(model, "classes_") else model.predict(X)


@pytest.mark.parametrize(
    "setting",
    [
        {"batch_size": 40},
        {"batch_size": 8},
        {"early_stopping": True},
        {"solver": "lbfgs", "early_stopping": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("estimator", ALL)
def test_loss_that_is_not_finite_stops_and_says_what_to_lower(estimator, setting):
    model = estimator(**SMALL | {"max_iter": 30, "learning_rate": 1e250, "precision": "float64"})
    model.set_params(**setting)
    with pytest.warns(ConvergenceWarning) as caught:
        model.fit(X, target_of(model))
    messages = [str(warning.message) for warning in caught]
    assert any(re.search(r"not finite.*Lower learning_rate", message) for message in messages)
    assert model.n_iter_ < 30
    assert np.isfinite(outputs(model)).all()


def test_weights_from_before_the_loss_blew_up_are_put_back():
    class PoisonsAtEpoch3(Callback):
        def on_epoch_begin(self, net, **kwargs):
            if len(net.history) == 4:
                for parameter in net.module_.parameters():
                    parameter.data.fill_(float("nan"))

    settings = SMALL | {"max_iter": 30, "learning_rate_schedule": "constant"}
    settings |= {"learning_rate": 1e-3, "batch_size": 40}
    model = KANRegressor(**settings, callbacks=[PoisonsAtEpoch3()])
    with pytest.warns(ConvergenceWarning, match="iteration 4"):
        model.fit(X, Y)
    assert model.n_iter_ == 4
    assert np.isfinite(model.best_loss_)
    # Full batches: the loss of an iteration is that of the weights it started from.
    unspoilt = KANRegressor(**settings | {"max_iter": 2}).fit(X, Y)
    np.testing.assert_array_equal(model.predict(X), unspoilt.predict(X))


# The weights break in the last step: every loss recorded is that of an earlier one.
LAST_STEP = SMALL | {"max_iter": 1, "batch_size": 40, "learning_rate": 1e250}


@pytest.mark.parametrize("estimator", ALL)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_weights_that_the_last_step_broke_are_put_back(estimator, dtype):
    model = estimator(**LAST_STEP, early_stopping=False)
    with pytest.warns(ConvergenceWarning, match=r"not finite.*Lower learning_rate") as caught:
        model.fit(X.astype(dtype), target_of(model))
    assert len(caught) == 1
    assert np.isfinite(model.loss_curve_).all()
    start = clone(model).set_params(learning_rate=1e-300).fit(X.astype(dtype), target_of(model))
    np.testing.assert_allclose(outputs(model), outputs(start), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("estimator", ALL)
def test_partial_fit_goes_on_after_a_step_that_broke_the_weights(estimator):
    class Spoils(Callback):
        def on_grad_computed(self, net, named_parameters, **kwargs):
            for _, parameter in named_parameters:
                parameter.grad.fill_(float("nan"))

    model = estimator(**SMALL, learning_rate=1e-3)
    y = target_of(model)
    before = outputs(model.partial_fit(X, y))
    model.set_params(callbacks=[Spoils()])
    with pytest.warns(ConvergenceWarning, match="not finite"):
        model.partial_fit(X, y)
    np.testing.assert_array_equal(outputs(model), before)
    model.set_params(callbacks=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.partial_fit(X, y)
    assert 0 < np.abs(outputs(model) - before).max() < 0.1


@pytest.mark.parametrize(
    "setting",
    [
        {"early_stopping": False},
        {"early_stopping": True, "n_iter_no_change": 3},
        {"early_stopping": False, "learning_rate_schedule": "constant"},
    ],
    ids=str,
)
@pytest.mark.parametrize("estimator", ALL)
def test_loss_that_rises_without_end_is_reported_once(estimator, setting):
    settings = {"max_iter": 5, "learning_rate": 1e6, "precision": "float64", "batch_size": 40}
    model = estimator(**SMALL | settings | setting)
    with pytest.warns(ConvergenceWarning, match=r"diverged.*Lower learning_rate") as caught:
        model.fit(X, target_of(model))
    assert len(caught) == 1
    assert np.isfinite(model.loss_curve_).all()


HARMLESS = {
    "one iteration": {"max_iter": 1},
    "two iterations": {"max_iter": 2},
    "noise learnt by heart": {"max_iter": 150, "hidden_layer_sizes": (20,), "weight_decay": 0},
    "high rate": {"max_iter": 60, "learning_rate": 0.3},
    "L-BFGS": {"solver": "lbfgs", "max_iter": 60, "learning_rate": "auto"},
}


@pytest.mark.slow
@pytest.mark.parametrize("setting", HARMLESS.values(), ids=HARMLESS)
@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize("estimator", [MetaKANRegressor, KANClassifier])
def test_harmless_training_is_not_called_divergence(estimator, early_stopping, setting):
    noise = np.random.default_rng(1).permutation(target_of(estimator()))
    model = estimator(**SMALL | setting, early_stopping=early_stopping, warm_start=True)
    for y in (noise, noise, target_of(model)):  # goes on at a high rate from good weights
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "Training stopped at max_iter")
            model.fit(X, y)


def test_large_numbers_left_unscaled_are_named_as_a_cause():
    with pytest.warns(ConvergenceWarning, match="diverged.*scale inputs and target"):
        KANRegressor(**SMALL, scale_inputs=None).fit(np.c_[X, 7e5 + 1e3 * X[:, 0]], Y)


@pytest.mark.parametrize("estimator", [KANRegressor, MetaKANRegressor])
@pytest.mark.parametrize("scale_target", [True, False])
def test_targets_of_any_size_are_not_called_divergence(estimator, scale_target):
    model = estimator(**SMALL | {"max_iter": 20}, scale_target=scale_target)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for y in (1e-9 * Y, Y, 1e9 * Y, 0 * Y, np.exp(20 * Y)):
            model.fit(X, y)
            for table, shift in ((X, 0), (X + 30, 1000), (X, 0)):  # far off what it has seen
                model.partial_fit(table, y + shift)


@pytest.mark.parametrize(
    "X", [pd.DataFrame(index=range(10)), pd.DataFrame()], ids=["rows", "empty"]
)
def test_a_frame_without_columns(X):
    with pytest.raises(ValueError, match=r"0 feature\(s\) .* needs at least one column"):
        KANRegressor().fit(X, np.arange(len(X)))


def test_one_number_is_no_target():
    with pytest.raises(ValueError, match="y must have one value for each row of X, got 5"):
        KANRegressor().fit([[1.0], [2.0]], 5)
