"""
How do I solve a differential equation?
=======================================

State what must be zero, where, and what holds on the boundary. Here: heat in a rod that is hot
in the middle and kept cold at both ends.
"""

import torch
from matplotlib import pyplot as plt

from sklearn_metakan.pde import (
    Dirichlet,
    Initial,
    Interval,
    MetaKANPDESolver,
    SolutionDisplay,
    SpaceTime,
)


def residual(x, u):
    """``u_t = 0.1 u_xx``"""
    return u.dt() - 0.1 * u.d("x", "x")


def hot_in_the_middle(x):
    return torch.sin(torch.pi * x[:, 0])


solver = MetaKANPDESolver(
    residual,
    domain=SpaceTime(Interval(0, 1), 0, 2),
    variables=("x", "t"),
    conditions=[Initial(hot_in_the_middle), Dirichlet(0.0)],
    solution=lambda x: hot_in_the_middle(x) * torch.exp(-0.1 * torch.pi**2 * x[:, 1]),
    hidden_layer_sizes=(6,),
    n_interior=300,
    n_boundary=60,
    n_initial=60,
    max_iter=100,
    lm_iter=20,
    random_state=0,
).fit()

# %%
# The exact solution is known here, so that it can be drawn beside the network's.

SolutionDisplay.from_estimator(solver)
plt.show()

# %%
# The solution is a function: any point, and any derivative.

exact = torch.exp(torch.tensor(-0.1 * torch.pi**2))
print(f"u(0.5, 1)   {solver.predict([[0.5, 1.0]])[0]:.4f}, exactly {exact:.4f}")
print(f"u_t(0.5, 1) {solver.predict_derivative([[0.5, 1.0]], 't')[0]:.4f}")
