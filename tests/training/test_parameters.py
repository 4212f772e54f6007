"""Constructor parameters: limits, widths, and keys of net_params that mean nothing."""

import numpy as np
import pytest

from sklearn_metakan import KANImageClassifier, KANRegressor, MetaKANRegressor

RNG = np.random.default_rng(0)
X = RNG.normal(size=(20, 4))
Y = X[:, 0]
SMALL = {"hidden_layer_sizes": (3,), "max_iter": 1, "random_state": 0}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weight_decay", 1e30),
        ("weight_decay", 1e6),
        ("degree", 200),
        ("grid_size", 10**7),
        ("prompt_dim", 10**7),
        ("meta_hidden_dim", 10**7),
        ("hidden_layer_sizes", (10**9,)),
        ("hidden_layer_sizes", 10**9),
    ],
)
def test_numbers_beyond_all_use_are_refused(name, value):
    model = MetaKANRegressor(**SMALL | {name: value})
    with pytest.raises(ValueError, match=name):
        model.fit(X, Y)
    assert not hasattr(model, "net_")


@pytest.mark.parametrize("value", [{3, 4}, {3: 4}, frozenset({3}), "34", 2.5, True])
def test_widths_come_in_an_order(value):
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        KANRegressor(hidden_layer_sizes=value).fit(X, Y)
    if not isinstance(value, bool | float):
        with pytest.raises(ValueError, match="hidden_channels"):
            KANImageClassifier(hidden_channels=value).fit(X, Y > 0)


@pytest.mark.parametrize("value", [1e-300, 1e3])
def test_rates_and_decays_of_any_use_are_taken(value):
    model = KANRegressor(**SMALL | {"weight_decay": value}).fit(X, Y)
    assert np.isfinite(model.feature_importances_).all()


@pytest.mark.parametrize(
    "key", ["__class__", "__dict__", "module_", "net_", "target_", "history_", "_scoring", "fit"]
)
def test_attributes_of_the_net_are_no_parameters(key):
    model = KANRegressor(**SMALL, net_params={key: 3})
    with pytest.raises(ValueError, match=f"net_params cannot hold {key!r}"):
        model.fit(X, Y)


def test_misspelt_keys_of_net_params():
    model = KANRegressor(**SMALL, net_params={"cudagraph": True})
    with pytest.raises(ValueError, match=r"'cudagraph'.*Did you mean 'cuda_graph'"):
        model.fit(X, Y)
