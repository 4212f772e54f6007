"""Trial functions over every coefficient source, and their twins by nested autograd."""

import pytest
import torch

from sklearn_metakan.nn import build_network
from sklearn_metakan.pde import TrialFunction

SOURCES = {
    "direct": {},
    "relu": {"n_meta_learners": "auto", "meta_hidden_dim": 8},
    "sin_scaled": {
        "n_meta_learners": "layer",
        "prompt_dim": 2,
        "meta_hidden_dim": 8,
        "meta_activation": "sin",
        "edge_scale": True,
    },
    "linear": {"n_meta_learners": "auto", "prompt_dim": 2, "meta_hidden_dim": 0},
}


@pytest.fixture(params=SOURCES)
def source(request):
    return dict(SOURCES[request.param])


@pytest.fixture
def twins():
    """A function that builds a trial function and the same one by nested autograd."""

    def build(sizes, source, degree=3, **options):
        settings = {"extrapolation": "base", "backend": "reference", "dtype": torch.float64}
        network = build_network(sizes, degree=degree, **settings, **source)
        return TrialFunction(network, **options), TrialFunction(network, nested=True, **options)

    return build


@pytest.fixture
def points():
    """Points of a cube a little wider than the grid."""

    def draw(n, d, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return 2.4 * torch.rand(n, d, generator=generator, dtype=torch.float64) - 1.2

    return draw
