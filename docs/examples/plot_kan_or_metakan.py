"""
How do I choose between KAN and MetaKAN?
========================================

Both are the same network. A KAN trains nine numbers for each edge, a MetaKAN a prompt of three,
from which a meta-learner makes the nine. Try both by cross-validation; that takes one line.
"""

from matplotlib import pyplot as plt
from sklearn.datasets import load_diabetes, make_friedman1
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_score

from sklearn_metakan import KANRegressor, MetaKANRegressor

tables = {
    "friedman1": make_friedman1(300, noise=1.0, random_state=0),
    "diabetes": load_diabetes(return_X_y=True),
}
settings = {"hidden_layer_sizes": (16,), "n_estimators": 1, "max_iter": 50, "random_state": 0}
models = {
    "linear": RidgeCV(),
    "KAN": KANRegressor(**settings),
    "MetaKAN": MetaKANRegressor(**settings),
}
_, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for ax, (table, (X, y)) in zip(axes, tables.items(), strict=True):
    scores = {name: cross_val_score(model, X, y, cv=4) for name, model in models.items()}
    ax.boxplot(scores.values(), tick_labels=[*scores], orientation="horizontal")
    ax.set(title=table, xlabel="R2 of four folds")
plt.show()

# %%
# On smooth curves with few rows they are close. The trainable numbers are not:

for name in ("KAN", "MetaKAN"):
    print(name, models[name].fit(X, y).n_parameters_)

# %%
# A linear model beside them, as in the picture, says whether curves are needed at all.
