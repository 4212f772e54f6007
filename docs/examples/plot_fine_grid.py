"""
How fine should the grid be?
============================

An edge is a curve with ``grid_size`` cells. Few cells cannot follow fine detail, many follow
the noise.
"""

import numpy as np
from matplotlib import pyplot as plt
from sklearn.model_selection import cross_val_score

from sklearn_metakan import KANRegressor

rng = np.random.default_rng(0)
X = rng.uniform(0, 1, (200, 1))
truth = lambda x: np.sin(30 * x[:, 0] ** 2)  # noqa: E731
y = truth(X) + rng.normal(0, 0.3, 200)
line = np.linspace(0, 1, 400)[:, None]

_, axes = plt.subplots(1, 3, figsize=(10, 3), sharey=True, layout="constrained")
for ax, size in zip(axes, [4, 16, 100], strict=True):
    model = KANRegressor(
        (), n_estimators=1, grid_size=size, solver="lbfgs", weight_decay=1e-4, random_state=0
    )
    score = cross_val_score(model, X, y, cv=4).mean()
    ax.scatter(X, y, s=5, color="0.7")
    ax.plot(line, truth(line), "k:")
    ax.plot(line, model.fit(X, y).predict(line))
    ax.set(title=f"{size} cells, R2 of four folds {score:.2f}", ylim=(-2, 2))
plt.show()
