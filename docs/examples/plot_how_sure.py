"""
How sure is the prediction?
===========================

``predict_interval`` gives a lower and an upper end for each row. Of new rows, nine in ten lie
between them (``alpha=0.1``), whatever the noise is like.
"""

import numpy as np
from matplotlib import pyplot as plt

from sklearn_metakan import KANRegressor

rng = np.random.default_rng(0)
X = rng.uniform(0, 10, (1500, 1))
y = np.sin(X[:, 0]) + rng.normal(size=1500) * (0.05 + 0.06 * X[:, 0])  # the noise grows
train, test = slice(0, 1000), slice(1000, None)

# %%
# A model of the mean has intervals of one width: too wide on the left, too narrow on the right.
# A model of quantiles knows where the noise is large. Both hold their share of the new rows.

settings = {"n_estimators": 2, "hidden_layer_sizes": (16,), "max_iter": 60, "random_state": 0}
models = {
    "of the mean": KANRegressor(**settings),
    "of quantiles": KANRegressor(loss="quantile", quantile=[0.05, 0.5, 0.95], **settings),
}
line = np.linspace(0, 10, 200)[:, None]
_, axes = plt.subplots(1, 2, figsize=(9, 3.5), sharey=True, layout="constrained")
for ax, (name, model) in zip(axes, models.items(), strict=True):
    model.fit(X[train], y[train])
    low, high = model.predict_interval(X[test], alpha=0.1)
    held = np.mean((low <= y[test]) & (y[test] <= high))
    ax.scatter(X[test], y[test], s=4, color="0.6")
    ax.fill_between(line[:, 0], *model.predict_interval(line, alpha=0.1), alpha=0.3)
    ax.set(title=f"{name}: {held:.0%} of new rows inside", xlabel="x")
plt.show()

# %%
# How far the members of a model disagree is another question: it is large where there are few
# rows, however little noise there is. ``predict(X, return_std=True)`` answers it.

wide = np.linspace(-4, 14, 300)
mean, deviation = models["of the mean"].predict(wide[:, None], return_std=True)
plt.figure(figsize=(5, 3), layout="constrained")
plt.plot(wide, mean)
plt.axvspan(0, 10, color="0.95", zorder=0)
plt.fill_between(wide, mean - 2 * deviation, mean + 2 * deviation, alpha=0.3)
plt.title("mean of the members, and how far they disagree")
plt.show()
