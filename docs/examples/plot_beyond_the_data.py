"""
What happens beyond the data?
=============================

A new row may lie where no row of training did. ``extrapolation`` says what an edge does there;
none of the ways is right, but you can choose how it is wrong.
"""

import numpy as np
from matplotlib import pyplot as plt

from sklearn_metakan import KANRegressor

rng = np.random.default_rng(0)
X = rng.uniform(-2, 2, (150, 1))
y = X[:, 0] ** 2 + rng.normal(0, 0.1, 150)
line = np.linspace(-5, 5, 300)[:, None]

plt.figure(figsize=(6, 3.5), layout="constrained")
plt.scatter(X, y, s=5, color="0.6")
for kind in ("linear", "constant", "base"):
    model = KANRegressor(
        hidden_layer_sizes=(), n_estimators=1, extrapolation=kind, solver="lbfgs", random_state=0
    )
    plt.plot(line, model.fit(X, y).predict(line), label=kind)
plt.axvspan(-2, 2, color="0.95", zorder=0)
plt.legend(title="extrapolation")
plt.ylim(-2, 15)
plt.show()

# %%
# With ``"error"`` such a row raises.

strict = KANRegressor(
    hidden_layer_sizes=(), n_estimators=1, extrapolation="error", early_stopping=False, max_iter=5
).fit(X, y)
try:
    strict.predict([[3.0]])
except ValueError as error:
    print(error)
