"""The coefficient sources, as options of ``build_network``."""

import pytest

SOURCES = {
    "direct": {},
    **{
        f"{activation}_{p}": {
            "n_meta_learners": "auto",
            "prompt_dim": p,
            "meta_hidden_dim": 8,
            "meta_activation": activation,
        }
        for activation in ("relu", "silu", "tanh", "sin")
        for p in (1, 2)
    },
    "scaled_relu": {"n_meta_learners": "auto", "meta_hidden_dim": 8, "edge_scale": True},
    "scaled_sin_a_layer": {
        "n_meta_learners": "layer",
        "prompt_dim": 2,
        "meta_hidden_dim": 8,
        "meta_activation": "sin",
        "edge_scale": True,
    },
    "relu_a_layer": {"n_meta_learners": "layer", "meta_hidden_dim": 8},
    **{
        f"linear_{p}": {"n_meta_learners": "auto", "prompt_dim": p, "meta_hidden_dim": 0}
        for p in (1, 2, 3)
    },
}


@pytest.fixture(params=SOURCES)
def source(request):
    """Options that choose a coefficient source; a test runs once for each."""
    return dict(SOURCES[request.param])
