"""
What if some targets are wrong?
===============================

A few wild values pull a mean far. ``loss="huber"`` counts them linearly, ``"absolute_error"``
looks for the median, which they hardly move.
"""

import numpy as np
from matplotlib import pyplot as plt

from sklearn_metakan import KANRegressor

rng = np.random.default_rng(0)
X = rng.uniform(0, 6, (300, 1))
y = np.sin(X[:, 0]) + rng.normal(0, 0.1, 300)
wild = rng.random(300) < 0.08
y[wild] += rng.uniform(4, 12, wild.sum())

line = np.linspace(0, 6, 200)[:, None]
plt.figure(figsize=(6, 3.5), layout="constrained")
plt.scatter(X, y, s=5, color="0.6")
for loss in ("squared_error", "huber", "absolute_error"):
    model = KANRegressor((8,), n_estimators=1, loss=loss, max_iter=80, random_state=0).fit(X, y)
    error = np.abs(model.predict(line) - np.sin(line[:, 0])).mean()
    plt.plot(line, model.predict(line), label=f"{loss}, off by {error:.2f}")
plt.plot(line, np.sin(line), "k:", label="truth")
plt.ylim(-2, 6)
plt.legend()
plt.show()
