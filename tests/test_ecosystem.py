"""A user's neighbourhood: the estimators inside scikit-learn's other tools, with real calls."""

import pickle
import re
import warnings

import joblib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.stats import loguniform
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import (
    ColumnTransformer,
    TransformedTargetRegressor,
    make_column_selector,
    make_column_transformer,
)
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_selection import RFE, SelectFromModel, SequentialFeatureSelector
from sklearn.impute import SimpleImputer
from sklearn.inspection import (
    DecisionBoundaryDisplay,
    PartialDependenceDisplay,
    partial_dependence,
    permutation_importance,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import get_scorer, make_scorer, mean_squared_error
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    LearningCurveDisplay,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    validation_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import (
    ClassifierChain,
    MultiOutputClassifier,
    MultiOutputRegressor,
    RegressorChain,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANClassifier, MetaKANRegressor

REGRESSORS = [KANRegressor, MetaKANRegressor]
CLASSIFIERS = [KANClassifier, MetaKANClassifier]

RNG = np.random.default_rng(0)
N = 120
FRAME = pd.DataFrame(
    {
        "size": RNG.uniform(20, 200, size=N),
        "age": RNG.uniform(0, 100, size=N),
        "rooms": RNG.integers(1, 6, size=N).astype(float),
    }
)
X = FRAME.to_numpy()
PRICE = 1e3 * FRAME["size"] * (1.5 - FRAME["age"] / 100) + 5e3 * FRAME["rooms"]
CLASS = np.array(["cheap", "fair", "dear"])[np.digitize(PRICE, PRICE.quantile([0.33, 0.67]))]
IS_DEAR = np.where(PRICE.median() < PRICE, "dear", "cheap")
MIXED = FRAME.assign(city=np.array(["Rome", "Oslo", "Bern"])[np.arange(N) % 3])
MIXED.loc[5, "age"] = np.nan

QUICK = {
    "hidden_layer_sizes": (4,),
    "max_iter": 30,
    "learning_rate": 0.03,
    "batch_size": 32,
    "random_state": 0,
}


def each(name, estimators):
    """A test of all; where time is short, of MetaKANs alone."""
    cases = [
        case if "Meta" in case.__name__ else pytest.param(case, marks=pytest.mark.slow)
        for case in estimators
    ]
    return pytest.mark.parametrize(name, cases)


regressors = each("regressor", REGRESSORS)
classifiers = each("classifier", CLASSIFIERS)
every = each("estimator", REGRESSORS + CLASSIFIERS)


def target_of(estimator):
    return CLASS if estimator in CLASSIFIERS else PRICE


# --- tables and pipelines -------------------------------------------------------------


def columns():
    return make_column_transformer(
        (OneHotEncoder(sparse_output=False), make_column_selector(dtype_exclude="number")),
        (SimpleImputer(), make_column_selector(dtype_include="number")),
        verbose_feature_names_out=False,
    )


@every
def test_pipeline_with_columns_of_every_kind(estimator):
    y = target_of(estimator)
    model = make_pipeline(columns(), estimator(**QUICK)).fit(MIXED, y)
    assert model.score(MIXED, y) > 0.7
    assert not hasattr(model[-1], "feature_names_in_")
    named = make_pipeline(columns().set_output(transform="pandas"), estimator(**QUICK))
    named.fit(MIXED, y)
    assert list(named[-1].feature_names_in_) == [
        *("city_Bern", "city_Oslo", "city_Rome"),
        *("size", "age", "rooms"),
    ]
    np.testing.assert_allclose(
        named.predict(MIXED) == model.predict(MIXED)
        if estimator in CLASSIFIERS
        else named.predict(MIXED) / model.predict(MIXED),
        1,
    )
    with config_context(transform_output="pandas"):
        whole = make_pipeline(columns(), StandardScaler(), estimator(**QUICK)).fit(MIXED, y)
    assert hasattr(whole[-1], "feature_names_in_")


@every
def test_frame_in_names_kept_and_asked_for(estimator):
    model = estimator(**QUICK).fit(FRAME, target_of(estimator))
    assert list(model.feature_names_in_) == ["size", "age", "rooms"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.predict(FRAME)
    with pytest.warns(UserWarning, match="feature names"):
        model.predict(X)


@every
def test_steps_of_a_pipeline_take_nested_parameters(estimator):
    model = Pipeline([("scale", StandardScaler()), ("kan", estimator(**QUICK))])
    model.set_params(kan__grid_size=3, kan__net__optimizer__betas=(0.8, 0.9))
    model.fit(X, target_of(estimator))
    assert model["kan"].module_.layers[0].basis.grid_size == 3
    assert model["kan"].net_.optimizer_.param_groups[0]["betas"] == (0.8, 0.9)


@regressors
def test_partial_fit_in_chunks_of_a_frame(regressor):
    model = regressor(**QUICK)
    for _ in range(15):
        for start in range(0, N, 40):
            model.partial_fit(FRAME[start : start + 40], PRICE[start : start + 40])
    assert model.score(FRAME, PRICE) > 0.7


# --- searches -------------------------------------------------------------------------

GRID = {
    "grid_size": [3, 5],
    "hidden_layer_sizes": [(), (4,)],
    "weight_decay": [1e-4, 1e-1],
    "net__optimizer__betas": [(0.9, 0.999), (0.8, 0.9)],
}


@every
def test_grid_search_in_two_processes(estimator):
    settings = QUICK | {"max_iter": 3}
    search = GridSearchCV(estimator(**settings), GRID, n_jobs=2, cv=2, error_score="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search.fit(FRAME, target_of(estimator))
    assert len(search.cv_results_["params"]) == 16
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    for name, value in search.best_params_.items():
        assert search.best_estimator_.get_params()[name] == value
    betas = search.best_params_["net__optimizer__betas"]
    assert search.best_estimator_.net_.optimizer_.param_groups[0]["betas"] == betas
    # Every setting acts: the scores differ.
    assert len(np.unique(search.cv_results_["mean_test_score"])) >= 4
    in_one = GridSearchCV(clone(search.best_estimator_), {"grid_size": [3, 5]}, cv=2)
    in_two = GridSearchCV(clone(search.best_estimator_), {"grid_size": [3, 5]}, cv=2, n_jobs=2)
    scores = [
        one.fit(FRAME, target_of(estimator)).cv_results_["mean_test_score"]
        for one in (in_one, in_two)
    ]
    np.testing.assert_allclose(*scores, rtol=1e-9)


@every
def test_halving_search_over_rows_and_over_iterations(estimator):
    y = target_of(estimator)
    grid = {"grid_size": [3, 5], "hidden_layer_sizes": [(), (4,)]}
    settings = QUICK | {"max_iter": 4}
    by_rows = HalvingGridSearchCV(
        estimator(**settings), grid, n_jobs=2, cv=2, factor=2, min_resources=40, random_state=0
    ).fit(X, y)
    assert by_rows.n_resources_[-1] > by_rows.n_resources_[0]
    by_iterations = HalvingGridSearchCV(
        estimator(**QUICK), grid, n_jobs=2, cv=2, resource="max_iter", max_resources=12, factor=2
    ).fit(X, y)
    assert by_iterations.best_estimator_.n_iter_ == by_iterations.n_resources_[-1]


@regressors
def test_random_search_through_a_pipeline(regressor):
    model = make_pipeline(columns(), regressor(**QUICK))
    step = regressor.__name__.lower()
    space = {
        f"{step}__learning_rate": loguniform(1e-3, 1e-1),
        f"{step}__hidden_layer_sizes": [(2,), (4,), (4, 4)],
    }
    search = RandomizedSearchCV(model, space, n_iter=3, cv=2, random_state=0).fit(MIXED, PRICE)
    assert search.best_estimator_[-1].learning_rate == search.best_params_[f"{step}__learning_rate"]


@every
def test_cross_validation(estimator):
    y = target_of(estimator)
    result = cross_validate(
        estimator(**QUICK), FRAME, y, cv=3, return_train_score=True, return_estimator=True
    )
    assert (result["test_score"] > 0.6).all()
    assert [model.n_features_in_ for model in result["estimator"]] == [3] * 3
    predicted = cross_val_predict(estimator(**QUICK), FRAME, y, cv=3)
    assert predicted.shape == (N,)
    groups = np.arange(N) % 4
    scores = cross_val_score(
        estimator(**QUICK), FRAME, y, groups=groups, cv=GroupKFold(2), n_jobs=2
    )
    assert (scores > 0.6).all()
    if estimator in CLASSIFIERS:
        proba = cross_val_predict(estimator(**QUICK), FRAME, y, cv=3, method="predict_proba")
        assert proba.shape == (N, 3)
        for name in ("neg_log_loss", "roc_auc_ovr", "f1_macro"):
            scorer = get_scorer(name)
            assert np.isfinite(scorer(result["estimator"][0], FRAME, y))


@every
def test_learning_and_validation_curves(estimator):
    y = target_of(estimator)
    sizes, _, scores = learning_curve(
        estimator(**QUICK), X, y, cv=2, train_sizes=[0.3, 1.0], shuffle=True, random_state=0
    )
    assert scores[-1].mean() > 0.6
    assert sizes[0] < sizes[1]
    _, scores = validation_curve(
        estimator(**QUICK), X, y, param_name="max_iter", param_range=[1, 30], cv=2
    )
    assert scores[1].mean() > scores[0].mean()
    display = LearningCurveDisplay.from_estimator(
        estimator(**QUICK | {"max_iter": 2}), X, y, cv=2, train_sizes=[0.5, 1.0]
    )
    plt.close(display.figure_)


@every
def test_incremental_learning_curve(estimator):
    classes = {"exploit_incremental_learning": True}
    _, _, scores = learning_curve(
        estimator(**QUICK), X, target_of(estimator), cv=2, train_sizes=[0.5, 1.0], **classes
    )
    assert np.isfinite(scores).all()


# --- wrappers -------------------------------------------------------------------------


@regressors
def test_transformed_target(regressor):
    model = TransformedTargetRegressor(regressor(**QUICK), func=np.log, inverse_func=np.exp)
    assert model.fit(FRAME, PRICE).score(FRAME, PRICE) > 0.7
    assert (model.predict(FRAME) > 0).all()


@regressors
def test_many_targets(regressor):
    targets = pd.DataFrame({"price": PRICE, "per room": PRICE / FRAME["rooms"]})
    direct = regressor(**QUICK).fit(FRAME, targets)
    assert direct.predict(FRAME).shape == (N, 2)
    for wrapper in (MultiOutputRegressor, RegressorChain):
        model = wrapper(regressor(**QUICK)).fit(FRAME, targets)
        assert model.score(FRAME, targets) > 0.6
        assert model.predict(FRAME).shape == (N, 2)
    model = MultiOutputRegressor(regressor(**QUICK))
    model.partial_fit(FRAME, targets)
    assert model.predict(FRAME).shape == (N, 2)


@classifiers
def test_many_labels(classifier):
    labels = np.c_[CLASS == "dear", FRAME["rooms"] > 3].astype(int)
    for model in (
        MultiOutputClassifier(classifier(**QUICK), n_jobs=2),
        ClassifierChain(classifier(**QUICK)),
        OneVsRestClassifier(classifier(**QUICK)),
    ):
        assert (model.fit(X, labels).predict(X) == labels).mean() > 0.8
    one = OneVsRestClassifier(classifier(**QUICK)).fit(X, CLASS)
    assert one.score(X, CLASS) > 0.7


@regressors
def test_ensembles_of_regressors(regressor):
    kan, line = regressor(**QUICK), LinearRegression()
    for model in (
        BaggingRegressor(kan, n_estimators=3, n_jobs=2, random_state=0),
        VotingRegressor([("kan", kan), ("line", line)]),
        StackingRegressor([("kan", kan), ("line", line)], cv=2),
        StackingRegressor([("line", line)], final_estimator=kan, passthrough=True, cv=2),
        AdaBoostRegressor(kan, n_estimators=3, random_state=0),
    ):
        assert model.fit(FRAME, PRICE).score(FRAME, PRICE) > 0.7, model


@classifiers
def test_ensembles_of_classifiers(classifier):
    kan, line = classifier(**QUICK), make_pipeline(StandardScaler(), LogisticRegression())
    for model in (
        BaggingClassifier(kan, n_estimators=3, n_jobs=2, random_state=0),
        VotingClassifier([("kan", kan), ("line", line)], voting="soft"),
        VotingClassifier([("kan", kan), ("line", line)], voting="hard"),
        StackingClassifier([("kan", kan), ("line", line)], cv=2),
        AdaBoostClassifier(kan, n_estimators=3, random_state=0),
    ):
        model.fit(FRAME, CLASS)
        assert model.score(FRAME, CLASS) > 0.7, model
        assert list(model.classes_) == ["cheap", "dear", "fair"]


@regressors
def test_bagging_members_differ(regressor):
    # Each member gets a seed of its own, through set_params(random_state=...).
    settings = {"bootstrap": False, "n_estimators": 2, "random_state": 0}
    model = BaggingRegressor(regressor(**QUICK), **settings).fit(FRAME, PRICE)
    first, second = (member.predict(X) for member in model.estimators_)
    assert np.abs(first - second).max() > 1e-6 * PRICE.std()


@classifiers
@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
@pytest.mark.parametrize("labels", [IS_DEAR, CLASS], ids=["two", "three"])
def test_calibration_with_text_labels(classifier, method, labels):
    model = CalibratedClassifierCV(classifier(**QUICK), method=method, cv=2).fit(X, labels)
    assert list(model.classes_) == sorted(set(labels))
    assert model.score(X, labels) > 0.7
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)


@classifiers
def test_thresholds(classifier):
    fixed = FixedThresholdClassifier(classifier(**QUICK), threshold=0.9, pos_label="dear")
    tuned = TunedThresholdClassifierCV(classifier(**QUICK), cv=2)
    sure = classifier(**QUICK).fit(X, IS_DEAR).predict_proba(X)[:, 1] >= 0.9
    np.testing.assert_array_equal(fixed.fit(X, IS_DEAR).predict(X) == "dear", sure)
    assert tuned.fit(X, IS_DEAR).score(X, IS_DEAR) > 0.7


# --- looking inside -------------------------------------------------------------------


@every
def test_permutation_importance(estimator):
    noisy = FRAME.assign(noise=np.random.default_rng(1).normal(size=N))
    y = target_of(estimator)
    model = estimator(**QUICK).fit(noisy, y)
    result = permutation_importance(model, noisy, y, n_repeats=3, random_state=0, n_jobs=2)
    assert result.importances_mean[0] > 5 * abs(result.importances_mean[3])


@every
def test_partial_dependence(estimator):
    y = IS_DEAR if estimator in CLASSIFIERS else PRICE
    model = estimator(**QUICK).fit(FRAME, y)
    grid = partial_dependence(model, FRAME, ["size"], grid_resolution=5)
    course = grid["average"][0]
    assert course[-1] > course[0]
    display = PartialDependenceDisplay.from_estimator(
        model, FRAME, ["size", ("size", "age")], kind="average", grid_resolution=5
    )
    plt.close(display.figure_)
    if estimator in CLASSIFIERS:
        several = clone(model).fit(FRAME, CLASS)
        display = PartialDependenceDisplay.from_estimator(
            several, FRAME, [0], target="dear", grid_resolution=5, kind="both", subsample=10
        )
        plt.close(display.figure_)


@classifiers
def test_decision_boundary(classifier):
    model = classifier(**QUICK).fit(FRAME[["size", "age"]], CLASS)
    display = DecisionBoundaryDisplay.from_estimator(
        model, FRAME[["size", "age"]], grid_resolution=10
    )
    plt.close(display.figure_)


@every
def test_feature_selection(estimator):
    noisy = FRAME.drop(columns="rooms").assign(
        a=np.random.default_rng(1).normal(size=N), b=np.random.default_rng(2).normal(size=N)
    )
    y = target_of(estimator)
    for selector in (
        SelectFromModel(estimator(**QUICK), max_features=2, threshold=-np.inf),
        RFE(estimator(**QUICK), n_features_to_select=2),
        SequentialFeatureSelector(estimator(**QUICK), n_features_to_select=1, cv=2),
    ):
        selector.fit(noisy, y)
        kept = list(noisy.columns[selector.get_support()])
        assert kept[0] == "size", selector
        assert kept[1:] in ([], ["age"]), selector


# --- metadata routing -----------------------------------------------------------------


@every
def test_sample_weight_is_routed_to_fit_and_score(estimator):
    y, weight = target_of(estimator), np.where(np.arange(N) < 60, 1.0, 1e-3)
    metric = "accuracy" if estimator in CLASSIFIERS else "r2"
    with config_context(enable_metadata_routing=True):
        asking = estimator(**QUICK).set_fit_request(sample_weight=True)
        asking.set_score_request(sample_weight=True)
        scorer = get_scorer(metric).set_score_request(sample_weight=True)
        routed = cross_validate(
            asking,
            X,
            y,
            params={"sample_weight": weight},
            cv=2,
            scoring=scorer,
            return_estimator=True,
        )
        direct = clone(asking).fit(X[60:], y[60:], sample_weight=weight[60:])
        first = routed["estimator"][0]
        if estimator in REGRESSORS:  # two halves, in order
            np.testing.assert_allclose(first.predict(X), direct.predict(X), rtol=1e-6)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, asking).fit(X, y, sample_weight=weight)
        alone = clone(asking).fit(StandardScaler().fit_transform(X), y, sample_weight=weight)
        np.testing.assert_array_equal(
            pipeline.predict(X), alone.predict(StandardScaler().fit_transform(X))
        )
        search = GridSearchCV(asking, {"grid_size": [3]}, cv=2, scoring=scorer)
        search.fit(X, y, sample_weight=weight)
        np.testing.assert_array_equal(
            search.predict(X), clone(asking).set_params(grid_size=3).fit(X, y, weight).predict(X)
        )
        silent = estimator(**QUICK)
        with pytest.raises(ValueError, match="sample_weight"):
            make_pipeline(scaler, silent).fit(X, y, sample_weight=weight)


@every
def test_validation_rows_are_routed_too(estimator):
    y = target_of(estimator)
    with config_context(enable_metadata_routing=True):
        asking = estimator(**QUICK).set_fit_request(X_val=True, y_val=True)
        model = make_pipeline(PolynomialFeatures(1), asking)
        model.set_params(**{f"{model.steps[-1][0]}__n_iter_no_change": 3})
        held_out = PolynomialFeatures(1).fit_transform(X[80:])
        model.fit(X[:80], y[:80], X_val=held_out, y_val=y[80:])
    assert len(model[-1].validation_scores_) == model[-1].n_iter_


# --- showing, copying, storing --------------------------------------------------------


@every
def test_text_and_html_representations(estimator):
    model = estimator(hidden_layer_sizes=(7,), random_state=0)
    assert repr(model) == f"{estimator.__name__}(hidden_layer_sizes=(7,), random_state=0)"
    html = model._repr_html_()
    assert estimator.__name__ in html
    assert "hidden_layer_sizes" in html
    model = make_pipeline(StandardScaler(), estimator(**QUICK)).fit(X, target_of(estimator))
    html = model._repr_html_()
    assert html.count(estimator.__name__) >= 1
    assert "Fitted" in html


@every
def test_representation_does_not_link_to_pages_that_are_not_ours(estimator):
    links = re.findall(
        r'href="([^"]*)"', make_pipeline(StandardScaler(), estimator())._repr_html_()
    )
    assert any("StandardScaler" in link for link in links)
    assert not [link for link in links if "scikit-learn.org" in link and "KAN" in link]


@every
def test_clone_pickle_and_joblib_in_a_pipeline(estimator, tmp_path):
    y = target_of(estimator)
    model = make_pipeline(columns(), estimator(**QUICK)).fit(MIXED, y)
    expected = model.predict(MIXED)
    np.testing.assert_array_equal(clone(model).fit(MIXED, y).predict(MIXED), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(MIXED), expected)
    joblib.dump(model, tmp_path / "model.joblib")
    np.testing.assert_array_equal(joblib.load(tmp_path / "model.joblib").predict(MIXED), expected)
    together = joblib.Parallel(n_jobs=2)(joblib.delayed(model.predict)(MIXED) for _ in range(2))
    for one in together:
        if estimator in CLASSIFIERS:
            np.testing.assert_array_equal(one, expected)
        else:
            np.testing.assert_allclose(one, expected, rtol=1e-10)


@regressors
def test_memory_of_a_pipeline(regressor, tmp_path):
    model = Pipeline(
        [("scale", StandardScaler()), ("kan", regressor(**QUICK))], memory=str(tmp_path)
    )
    assert model.fit(X, PRICE).score(X, PRICE) > 0.7


@regressors
def test_own_scorer(regressor):
    scorer = make_scorer(mean_squared_error, greater_is_better=False)
    scores = cross_val_score(regressor(**QUICK), X, PRICE, cv=2, scoring=scorer)
    assert (scores < 0).all()


@every
def test_column_transformer_passes_what_is_left(estimator):
    model = make_pipeline(
        ColumnTransformer([("scale", StandardScaler(), ["size"])], remainder="passthrough"),
        estimator(**QUICK),
    )
    assert model.fit(FRAME, target_of(estimator)).score(FRAME, target_of(estimator)) > 0.7
