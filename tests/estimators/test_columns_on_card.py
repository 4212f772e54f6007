"""Levels and gaps on a card: the same functions as on a CPU, trained captured and eagerly alike."""

import numpy as np
import pandas as pd
import pytest
import torch

from sklearn_metakan import KANClassifier, KANRegressor, MetaKANClassifier, MetaKANRegressor, load

pytestmark = pytest.mark.gpu

N = 2000
RNG = np.random.default_rng(0)
TOWNS = np.array([f"town {i}" for i in range(90)])  # more than have numbers of their own
TABLE = pd.DataFrame(
    {
        "size": RNG.normal(size=N),
        "age": np.where(RNG.random(N) < 0.2, np.nan, RNG.uniform(size=N)),
        "kind": RNG.choice(["a", "b", None], size=N),
        "town": RNG.choice(TOWNS, size=N),
    }
)
OF_TOWN = dict(zip(TOWNS, RNG.normal(size=90), strict=True))
Y = (
    np.sin(2 * TABLE["size"])
    + TABLE["age"].fillna(2.0)
    + TABLE["kind"].map({"a": 1.0, "b": -1.0}).fillna(0.0)
    + TABLE["town"].map(OF_TOWN)
).to_numpy()
NEW = TABLE[:200].assign(town=["elsewhere", *TABLE["town"][1:200]])  # a level nobody knows
CARD = {
    "hidden_layer_sizes": (16,),
    "n_estimators": 2,
    "max_iter": 60,
    "device": "cuda",
    "random_state": 0,
}
each = pytest.mark.parametrize(
    "estimator", [KANRegressor, MetaKANRegressor, KANClassifier, MetaKANClassifier]
)


def target_of(estimator):
    return Y if estimator in (KANRegressor, MetaKANRegressor) else np.digitize(Y, [0.0, 1.5])


def answers(model, table):
    return getattr(model, "predict_proba", model.predict)(table)


@each
def test_a_card_learns_levels_and_gaps(estimator):
    y = target_of(estimator)
    model = estimator(**CARD).fit(TABLE[:1600], y[:1600])
    assert model.cuda_graph_
    assert model.score(TABLE[1600:], y[1600:]) > 0.8
    importances = dict(zip(TABLE, model.feature_importances_, strict=True))
    assert min(importances, key=importances.get) != "town"


@each
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_card_and_a_cpu_say_the_same(estimator, precision, tmp_path):
    y = target_of(estimator)
    model = estimator(**CARD | {"precision": precision, "max_iter": 3}).fit(TABLE, y)
    model.save(tmp_path / "model.safetensors")
    on_cpu = load(tmp_path / "model.safetensors", device="cpu")
    scale = np.ptp(answers(model, NEW))
    near = 1e-10 if precision == "float64" else 1e-4
    np.testing.assert_allclose(answers(model, NEW), answers(on_cpu, NEW), atol=near * scale)


@each
def test_steps_are_the_same_captured_and_eagerly(estimator):
    y = target_of(estimator)
    settings = CARD | {"precision": "float64", "max_iter": 10}
    captured = estimator(**settings, net_params={"cuda_graph": True}).fit(TABLE, y)
    eager = estimator(**settings, net_params={"cuda_graph": False}).fit(TABLE, y)
    np.testing.assert_allclose(captured.loss_curve_, eager.loss_curve_, rtol=1e-4)
    scale = np.ptp(answers(eager, NEW))
    np.testing.assert_allclose(answers(captured, NEW), answers(eager, NEW), atol=1e-3 * scale)


def test_what_leaves_the_card_takes_levels_too():
    model = MetaKANRegressor(**CARD | {"precision": "float64", "max_iter": 3}).fit(TABLE, Y)
    module, levels = model.to_torch(), model.categories_
    codes = NEW.copy()
    for j, known in levels.items():
        place = {level: i for i, level in enumerate(known)}
        name = codes.columns[j]
        codes[name] = [np.nan if pd.isna(v) else float(place.get(v, -1)) for v in codes[name]]
    x = torch.from_numpy(codes.to_numpy(dtype=np.float64)).cuda()
    found = module(x).detach().cpu().numpy()
    np.testing.assert_allclose(found, model.predict(NEW), rtol=1e-9, atol=1e-9)
