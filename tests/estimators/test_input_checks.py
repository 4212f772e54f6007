"""What is neither number nor category: the message names it, and its code makes numbers of it."""

import datetime as dt
import warnings
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from sklearn_metakan import KANClassifier, KANImageClassifier, KANRegressor
from sklearn_metakan.estimators.inputs import columns
from sklearn_metakan.estimators.inputs.checks import as_array
from sklearn_metakan.estimators.inputs.columns import ColumnReader

N = 20
SMALL = {"hidden_layer_sizes": (2,), "max_iter": 1, "random_state": 0}
X = np.random.default_rng(0).normal(size=(N, 2))
Y = X[:, 0]
LABELS = np.where(Y > 0, "high", "low")
NUMBERS = {"age": X[:, 0].tolist(), "height": X[:, 1].tolist()}
LIBRARIES = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}
each_library = pytest.mark.parametrize("library", LIBRARIES)

DAY = dt.datetime(2020, 1, 1, 12)
TIMES = {
    "date": [DAY.date() + dt.timedelta(days=i) for i in range(N)],
    "datetime": [DAY + dt.timedelta(hours=i) for i in range(N)],
    "with a zone": [DAY.replace(tzinfo=dt.UTC) + dt.timedelta(days=i) for i in range(N)],
    "duration": [dt.timedelta(minutes=i) for i in range(N)],
    "time of day": [dt.time(i) for i in range(N)],
}
PERIODS = pd.period_range("2020", periods=N, freq="M")


def refusal(table, y=Y, estimator=KANRegressor, error=ValueError, **weights):
    with pytest.raises(error) as caught:
        estimator(**SMALL).fit(table, y, **weights)
    return str(caught.value)


def after_the_code(message, table):
    """The table, and what else the indented lines of a message make."""
    table = table.copy() if isinstance(table, pd.DataFrame) else table
    scope = {"X": table, "pd": pd, "pl": pl}
    lines = [line.strip() for line in message.splitlines() if line.startswith("    ")]
    assert lines, message
    exec("\n".join(lines), scope)
    return scope


def assert_the_code_helps(message, table):
    table = after_the_code(message, table)["X"]
    assert np.isfinite(KANRegressor(**SMALL).fit(table, Y).predict(table)).all()


@each_library
@pytest.mark.parametrize("kind", TIMES)
@pytest.mark.parametrize("gap", [False, True])
def test_times_of_every_library_become_numbers_by_the_code(library, kind, gap):
    values = [None, *TIMES[kind][1:]] if gap else TIMES[kind]
    table = LIBRARIES[library](NUMBERS | {"when": values})
    message = refusal(table)
    assert "column 'when'" in message and "categor" not in message
    after = after_the_code(message, table)["X"]
    ColumnReader().read(after, "KANRegressor")
    numbers = np.asarray(after["when"], dtype=float)[1:]
    np.testing.assert_allclose(np.diff(numbers), np.diff(numbers)[0], rtol=1e-6)
    assert numbers[1] > numbers[0]
    assert_the_code_helps(message, table)


@pytest.mark.parametrize("dtype", [None, object])
def test_periods_become_numbers_by_the_code(dtype):
    table = pd.DataFrame(NUMBERS).assign(month=pd.Series(PERIODS, dtype=dtype))
    message = refusal(table)
    assert "column 'month'" in message and "PeriodIndex" in message
    assert_the_code_helps(message, table)


@pytest.mark.parametrize("kind", TIMES)
def test_times_among_objects_and_of_arrow_in_pandas(kind):
    arrow = pa.table(NUMBERS | {"when": TIMES[kind]}).to_pandas(types_mapper=pd.ArrowDtype)
    objects = pd.DataFrame(NUMBERS).assign(when=pd.Series(TIMES[kind], dtype=object))
    for table in (arrow, objects, objects.to_numpy(dtype=object), objects.values.tolist()):
        assert_the_code_helps(refusal(table), table)


@pytest.mark.parametrize("unit", ["D", "ns"])
def test_arrays_of_times(unit):
    moments = np.datetime64("2020-01-01", unit) + np.arange(N)
    for table in (moments[:, None], (moments - moments[0])[:, None]):
        message = refusal(table)
        assert str(table.dtype) in message
        assert_the_code_helps(message, table)


@each_library
def test_text_and_numbers_as_text(library):
    columns = NUMBERS | {"city": ["Rome", "Oslo"] * 10, "dose": ["1.5", "2"] * 10}
    table = LIBRARIES[library](columns)
    message = refusal(table)
    assert "column 'dose'" in message and "'age'" not in message and "'city'" not in message
    assert_the_code_helps(message, table)


@pytest.mark.parametrize("values", [[[1, 2]] * N, [{"a": 1}] * N], ids=["lists", "records"])
@each_library
def test_lists_and_records_are_no_categories(library, values):
    message = refusal(LIBRARIES[library](NUMBERS | {"parts": values}), error=TypeError)
    assert "column 'parts'" in message and "categor" not in message


@each_library
def test_numbers_of_every_kind_are_taken(library):
    table = LIBRARIES[library](
        {
            "flag": [True, False] * 10,
            "whole": list(range(N)),
            "decimal": [Decimal("1.5"), Decimal("2")] * 10,
            "float": X[:, 0].tolist(),
        }
    )
    model = KANRegressor(**SMALL).fit(table, Y)
    assert model.feature_names_in_.tolist() == ["flag", "whole", "decimal", "float"]


def test_text_beside_numbers_in_a_column_becomes_text():
    table = pd.DataFrame(NUMBERS).assign(level=pd.Series(["Rome", 1.5] * 10, dtype=object))
    message = refusal(table)
    assert "column 'level'" in message and "astype(str)" in message
    assert_the_code_helps(message, table)


@each_library
def test_many_columns_of_text_in_a_short_message(library):
    written = {f"text {i}": ["1", "2"] * 10 for i in range(1000)}
    table = LIBRARIES[library](NUMBERS | written)
    message = refusal(table)
    assert "'text 4'" in message and "'text 5'" not in message and "and 995 more" in message
    assert len(message) < 1000
    assert_the_code_helps(message, table)


def test_many_columns_with_infinity_in_a_short_message():
    table = pd.DataFrame({f"c {i}": [1.0, np.inf] * 10 for i in range(1000)})
    message = refusal(table)
    assert "column 'c 0' (10 rows)" in message and "and 995 more" in message
    assert "'c 5'" not in message and len(message) < 500


def test_many_mixed_columns_and_endless_names_in_a_short_message():
    mixed = {f"c{i}": ["a", "b"] * 10 if i % 2 else ["1", "2"] * 10 for i in range(1000)}
    endless = {"n" * 20_000 + str(i): ["x" * 20_000, 1] * 10 for i in range(3)}
    for table in (mixed, endless, mixed | endless):
        assert len(refusal(pd.DataFrame(table))) < 2000


def test_sparse_columns_become_dense_where_they_fit(monkeypatch):
    sparse = pd.DataFrame({f"s{i}": pd.arrays.SparseArray(X[:, 0]) for i in range(8)})
    for table in (sparse, sparse[["s0"]], sparse[["s0"]].assign(age=Y)):
        found = KANRegressor(**SMALL).fit(table, Y).predict(table)
        dense = table.astype(float)
        np.testing.assert_array_equal(found, KANRegressor(**SMALL).fit(dense, Y).predict(dense))
        with monkeypatch.context() as patched:
            patched.setattr(columns, "MOST_DENSE", 8 * N - 1)
            message = refusal(table, error=TypeError)
        assert "Sparse[float64" in message and "dense" in message
        assert_the_code_helps(message, table)


@pytest.mark.parametrize("value", ["2020", dt.date(2020, 1, 1)])
def test_arrays_of_objects_name_column_and_value(value):
    table = X.astype(object)
    table[3, 1] = value
    assert "column 1 (dtype object, such as " + repr(value) in refusal(table)


def test_column_names_that_occur_twice_in_pyarrow():
    table = pa.table([X[:, 0], X[:, 1]], names=["age", "age"])
    assert "unique names, but 'age' occurs 2 times" in refusal(table)


@pytest.mark.parametrize(
    ("table", "what"),
    [
        (NUMBERS, r"of type dict.*pd\.DataFrame\(X\)"),
        (pl.DataFrame(NUMBERS).lazy(), r"of type LazyFrame.*X\.collect\(\)"),
        ({1, 2}, "of type set"),
        ("table.csv", "of type str"),
        (None, "of type NoneType"),
        (iter(X), "of type"),
    ],
    ids=["dict", "lazy frame", "set", "text", "None", "iterator"],
)
def test_what_is_no_table_is_called_what_it_is(table, what):
    with pytest.raises(TypeError, match=rf"X is {what}"):
        KANRegressor(**SMALL).fit(table, Y)


def test_a_table_of_three_axes_is_called_so():
    message = refusal(X[:, :, None])
    assert "(20, 2, 1)" in message and "reshape(len(X), -1)" in message


@pytest.mark.parametrize("as_objects", [False, True])
@pytest.mark.parametrize("other", [(5, 6), (6, 4), (6,)])
def test_images_of_different_sizes(as_objects, other):
    images = [np.ones((6, 5))] * 10 + [np.ones(other)] * 10
    if as_objects:
        images, given = np.empty(N, dtype=object), images
        images[:] = given
    model = KANImageClassifier(hidden_channels=(2,), max_iter=1)
    with pytest.raises(ValueError, match=r"images of one size, but number 10 .*\(6, 5\)"):
        model.fit(images, LABELS)


def test_rows_of_different_lengths():
    assert "rows of one length, but number 3 has the shape (1,)" in refusal([*X[:3], [1.0]])
    assert "y must hold rows of one length" in refusal(X, [[1.0], [1.0, 2.0]] * 10)


@pytest.mark.parametrize(
    "huge", [10**400, 10**5000, Fraction(10**400, 3)], ids=["400", "5000", "/ 3"]
)
def test_numbers_beyond_float64(huge):
    for table in (
        [[huge, 1]] + [[1, 2]] * 19,
        pd.DataFrame({"a": [1] * 19 + [huge]}, dtype=object),
    ):
        message = refusal(table)
        assert "too large for float64 in column" in message and "(1 rows)" in message
    assert "y contains infinity or a value too large" in refusal(X, [huge, *[1] * 19])
    message = refusal(X, sample_weight=[huge, *[1] * 19])
    assert "sample_weight" in message and "row 0" in message


@pytest.mark.parametrize(
    "y",
    [
        np.array([np.inf, *Y[1:]], dtype=object),
        [Decimal("inf"), *map(Decimal, Y[1:])],
        np.array([np.longdouble("1e4000"), *Y[1:]]),
        [float("-inf"), *Y[1:]],
        pd.Series([np.inf, *Y[1:]], dtype="Float64"),
    ],
    ids=["object", "Decimal", "longdouble", "list", "nullable"],
)
def test_infinite_targets_of_every_type(y):
    assert "1 rows, first in row 0" in refusal(X, y)


@pytest.mark.parametrize(
    ("y", "what"),
    [
        ([b"a", b"b"] * 10, "b'a'"),
        (np.array([b"a", b"b"] * 10, dtype=object), "b'a'"),
        ([{}] * N, "{}"),
        (TIMES["date"], "DatetimeIndex(y)"),
        (pd.Series(TIMES["with a zone"]), "DatetimeIndex(y)"),
        (pl.Series(TIMES["duration"]), "TimedeltaIndex(y)"),
        (pd.Series(PERIODS), "PeriodIndex(y)"),
        ({"a": 1}, "{'a': 1}"),
        ({1, 2}, "{1, 2}"),
        (np.array(3.0), "array(3.)"),
    ],
    ids=str,
)
def test_targets_that_are_no_numbers(y, what):
    message = refusal(X, y)
    assert what in message and " y" in f" {message}"


@pytest.mark.parametrize("dtype", [bytes, object])
def test_labels_of_bytes_are_named_and_decoded(dtype):
    y = np.array([b"high", b"low"] * 10, dtype=dtype)
    message = refusal(X, y, KANClassifier)
    assert "y holds bytes, such as b'high'" in message
    decoded = eval(message.partition("y = ")[2], {"np": np, "y": y})
    KANClassifier(**SMALL).fit(X, decoded)
    with pytest.raises(ValueError, match="classes holds bytes"):
        KANClassifier(**SMALL).partial_fit(X, LABELS, classes=[b"high", b"low"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_tensors_that_need_gradients_are_detached(dtype):
    table, y = torch.tensor(X, dtype=dtype), torch.tensor(Y, dtype=dtype)
    weight = torch.ones(N, requires_grad=True)
    model = KANRegressor(**SMALL).fit(table, y, weight)
    expected = model.predict(table)
    for given in (table.clone().requires_grad_(), [*table.clone().requires_grad_()]):
        again = KANRegressor(**SMALL).fit(given, y.clone().requires_grad_(), weight)
        np.testing.assert_array_equal(again.predict(given), expected)


def test_lists_of_numbers_become_arrays_and_others_stay():
    assert as_array([[1, 2], [3, 4]]).dtype.kind == "i"
    assert as_array([np.zeros((2, 3))] * 4).shape == (4, 2, 3)
    for values in (["a", "b"], [["a", 1.0]], [[None, 1.0]], pd.DataFrame(NUMBERS)):
        assert as_array(values) is values


def test_checks_of_extreme_numbers_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refusal(X.astype(np.longdouble) * np.longdouble("1e4000"))
        refusal(X, np.full(N, np.longdouble("1e4000")))
        refusal(np.full((N, 2), [np.inf, -np.inf]))
        refusal(X, sample_weight=np.full(N, np.longdouble("1e4000")))
        ColumnReader().read(np.full((N, 2), 1e308, dtype=object), "KANRegressor")


@pytest.mark.parametrize(
    ("weight", "rule"),
    [
        (np.zeros(N), "sample_weight is zero for every row"),
        (np.full(N, 1e-320), r"sample_weight must be 0 or lie between 2\.2e-308 and 1\.8e\+308"),
        (np.r_[np.ones(N - 1), np.inf], "got inf, first in row 19"),
        (["heavy"] * N, "sample_weight must hold numbers: .*'heavy'"),
        (np.ones((N, 2)), r"sample_weight.shape == \(20, 2\), expected \(20,\)"),
        ([[1.0], [1.0, 2.0]] * 10, "sample_weight must hold .*rows of one length"),
        ([None, *[1.0] * 19], "sample_weight holds NaN, first in row 0"),
    ],
    ids=str,
)
def test_weights_name_the_rule(weight, rule):
    for estimator, y in ((KANRegressor, Y), (KANClassifier, LABELS)):
        with pytest.raises(ValueError, match=rule):
            estimator(**SMALL).fit(X, y, weight)


@pytest.mark.parametrize("class_weight", [None, "balanced", {"high": 1e100, "low": 1e-100}])
@pytest.mark.parametrize("size", [1e-200, 1e-100, 1.0, 1e100, 1e200])
def test_weights_of_every_allowed_size_fit(class_weight, size):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=RuntimeWarning)
        model = KANClassifier(**SMALL, class_weight=class_weight).fit(X, LABELS, np.full(N, size))
    assert np.isfinite(model.predict_proba(X)).all()
    model = KANRegressor(**SMALL).fit(X, Y, size)
    np.testing.assert_array_equal(model.predict(X), KANRegressor(**SMALL).fit(X, Y, 1).predict(X))


def test_a_class_weight_without_a_class_shows_labels_as_they_are():
    with pytest.raises(ValueError) as error:
        KANClassifier(**SMALL, class_weight={"low": 1, "hgih": 2}).fit(X, LABELS)
    assert "'hgih', which is no class, but not 'high'" in str(error.value)
    assert "'high', 'low'" in str(error.value) and "np.str_" not in str(error.value)


def test_weights_of_the_largest_numbers_fit():
    for estimator, y in ((KANRegressor, Y), (KANClassifier, LABELS)):
        plain = estimator(**SMALL).fit(X, y).predict(X)
        for size in (1e308, 3e-308):
            np.testing.assert_array_equal(
                estimator(**SMALL).fit(X, y, np.full(N, size)).predict(X), plain
            )
    balanced = KANClassifier(**SMALL, class_weight="balanced")
    expected = balanced.fit(X, LABELS).predict_proba(X)
    found = balanced.fit(X, LABELS, np.full(N, 1e308)).predict_proba(X)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_weights_that_those_of_the_first_call_leave_no_room_for():
    model = KANRegressor(**SMALL).partial_fit(X, Y, np.full(N, 1e-300))
    with pytest.raises(ValueError, match="too large beside the weights of the first call"):
        model.partial_fit(X, Y, np.full(N, 1e300))


def test_products_of_weights_that_float64_cannot_hold():
    for factor in (1e200, 1e-200):
        with pytest.raises(ValueError, match="sample_weight times class_weight is too"):
            model = KANClassifier(**SMALL, class_weight={"low": factor, "high": factor})
            model.fit(X, LABELS, np.full(N, factor))


@pytest.mark.parametrize("factor", [1e-320, 10**400])
def test_class_weights_too_small_or_large(factor):
    with pytest.raises(ValueError, match=r"class_weight must hold .* for class 'low'"):
        KANClassifier(**SMALL, class_weight={"low": factor}).fit(X, LABELS)


@pytest.mark.parametrize("estimator", [KANRegressor, KANClassifier, KANImageClassifier])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_without_y_the_public_class_is_named(estimator, method):
    with pytest.raises(ValueError, match=f"{estimator.__name__} requires y"):
        getattr(estimator(), method)(X)
