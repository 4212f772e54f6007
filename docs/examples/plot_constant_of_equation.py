"""
Which constant of the equation fits my measurements?
====================================================

A pendulum with friction was watched, with some noise. How large is the friction? A keyword of
the residual is a constant to be found, ``fit(X, y)`` takes the measurements.
"""

import numpy as np
from matplotlib import pyplot as plt

from sklearn_metakan.pde import Interval, KANPDESolver, Positive

rng = np.random.default_rng(0)
t = np.sort(rng.uniform(0, 6, 40))[:, None]
true = 0.4
swing = np.sqrt(4 - true**2 / 4)
y = np.exp(-true / 2 * t[:, 0]) * np.cos(swing * t[:, 0]) + rng.normal(0, 0.05, 40)


def residual(x, u, friction):
    """``u'' + friction u' + 4 u = 0``"""
    return u.d("t", "t") + friction * u.d("t") + 4 * u.value


solver = KANPDESolver(
    residual,
    domain=Interval(0, 6),
    variables=("t",),
    pde_params={"friction": Positive(1.0)},
    hidden_layer_sizes=(8,),
    n_interior=200,
    max_iter=200,
    lm_iter=40,
    random_state=0,
).fit(t, y)

line = np.linspace(0, 6, 200)[:, None]
plt.figure(figsize=(6, 3.2), layout="constrained")
plt.plot(t, y, "o", ms=4, label="measured")
plt.plot(line, solver.predict(line), label="solution")
plt.title(f"friction {solver.pde_params_['friction']:.2f}, it was {true}")
plt.xlabel("t")
plt.legend()
plt.show()
