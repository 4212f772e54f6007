"""Errors of others on their own problems."""

# DeepXDE's examples.
_DEEPXDE: dict[str, float] = {
    "Poisson_Dirichlet_1d": 1.0e-4,
}
# The best of eleven methods in PINNacle's table of relative L2 errors (arXiv 2306.08827).
_PINNACLE: dict[str, float] = {
    "Burgers1d-C": 1.43e-2,
    "Poisson2d-C": 1.23e-2,
    "Poisson2d-CG": 1.43e-2,
    "Heat2d-MS": 4.40e-2,
    "NS2d-C": 3.60e-2,
    "Wave1d-C": 9.79e-2,
    "KS": 9.57e-1,
    "PNd": 4.67e-4,
    "HNd": 3.02e-1,
    "PInv": 1.96e-2,
    "HInv": 1.19e-2,
}
PEERS = {f"DeepXDE: {name}": error for name, error in _DEEPXDE.items()}
PEERS |= {f"PINNacle: {name}": error for name, error in _PINNACLE.items()}
