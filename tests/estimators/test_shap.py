"""SHAP on fitted estimators: by predict it explains; DeepExplainer knows other activations."""

import numpy as np
import pytest
import torch

from sklearn_metakan import KANClassifier, KANRegressor
from sklearn_metakan.inspection import explain

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3)).astype(np.float32)
Y = X[:, 0] + X[:, 1] * X[:, 2]
BACKGROUND, ROWS = X[:30], X[40:44]  # explain compares with at most 32
SMALL = {"hidden_layer_sizes": (4,), "n_estimators": 2, "max_iter": 10, "random_state": 0}


@pytest.fixture(scope="module")
def shap():
    import shap

    return shap


@pytest.fixture(scope="module")
def model():
    return KANRegressor(**SMALL).fit(X, Y)


def test_by_predict_it_gives_what_explain_gives(shap, model):
    found = shap.explainers.Exact(model.predict, BACKGROUND)(ROWS).values
    own = explain(model, ROWS, background=BACKGROUND)
    np.testing.assert_allclose(found, own.values, atol=1e-4)


class Column(torch.nn.Module):
    """Predictions as SHAP wants them, (n, 1)."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x)[:, None]


@pytest.mark.parametrize("labels", [False, True])
def test_deep_explainer_says_that_its_rules_do_not_fit(shap, model, labels):
    module = Column(model.to_torch())
    if labels:
        module = KANClassifier(**SMALL).fit(X, np.digitize(Y, [-1, 1])).to_torch()
    deep = shap.DeepExplainer(module, torch.from_numpy(BACKGROUND))
    with pytest.raises(AssertionError, match="do not sum up"):
        deep.shap_values(torch.from_numpy(ROWS))


def test_gradients_go_through(shap, model):
    """Expected gradients, a sample of them, of an output that is a column."""
    gradients = shap.GradientExplainer(Column(model.to_torch()), torch.from_numpy(BACKGROUND))
    found = gradients.shap_values(torch.from_numpy(ROWS), nsamples=2000, rseed=0)[..., 0]
    with torch.no_grad():
        gap = model.predict(ROWS) - model.predict(BACKGROUND).mean()
    np.testing.assert_allclose(found.sum(1), gap, atol=0.2 * np.abs(gap).max())
