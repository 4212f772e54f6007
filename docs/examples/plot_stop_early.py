"""
How do I stop early?
====================

You need not: above 200 rows each member holds out a tenth of them, and the weights that were
best there are kept. These are the ways to see it, and to spend less time.
"""

from matplotlib import pyplot as plt
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

from sklearn_metakan import KANRegressor

X, X_test, y, y_test = train_test_split(*load_diabetes(return_X_y=True), random_state=0)
settings = {"n_estimators": 1, "hidden_layer_sizes": (16,), "random_state": 0}

# %%
# The loss of training falls on, the score on held-out rows does not. A fit without early
# stopping ends in the last weights, one with it in the best.

model = KANRegressor(max_iter=120, **settings).fit(X, y)
last = KANRegressor(max_iter=120, early_stopping=False, **settings).fit(X, y)
_, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.plot(model.loss_curve_)
left.set(title="loss of training", xlabel="iteration")
right.plot(model.validation_scores_)
right.set(title="R2 on held-out rows", xlabel="iteration", ylim=(-0.5, 0.7))
right.axhline(model.best_validation_score_, color="0.6", ls=":")
plt.show()
print(f"R2 on new rows: best weights {model.score(X_test, y_test):.2f}")
print(f"                last weights {last.score(X_test, y_test):.2f}")

# %%
# To end the fit when nothing gets better, say how long to wait for it. The learning rate is
# then constant, since its course cannot be fitted to an end that is not known.

patient = KANRegressor(
    max_iter=120, n_iter_no_change=15, learning_rate_schedule="constant", **settings
)
patient.fit(X, y)
print(f"{patient.n_iter_} iterations, R2 on new rows {patient.score(X_test, y_test):.2f}")

# %%
# To bound the time instead, give the seconds: the learning rate falls in time for them.

quick = KANRegressor(time_limit=1, **settings).fit(X, y)
print(f"after one second: R2 on new rows {quick.score(X_test, y_test):.2f}")
