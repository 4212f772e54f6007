"""
What should I tune?
===================

Little: widths, ``weight_decay`` and the grid, in this order. Search with one member, which is
three times as quick, and fit the best with four.
"""

from matplotlib import pyplot as plt
from sklearn.datasets import make_friedman1
from sklearn.model_selection import GridSearchCV

from sklearn_metakan import MetaKANRegressor

X, y = make_friedman1(200, noise=1.0, random_state=0)
decays = [0.01, 0.1, 1.0, 5.0]
search = GridSearchCV(
    MetaKANRegressor(n_estimators=1, max_iter=30, random_state=0),
    {"hidden_layer_sizes": [(), (16,), (16, 16)], "weight_decay": decays},
    cv=3,
).fit(X, y)

# %%
# Hidden layers matter here, since columns work together. ``weight_decay`` hardly does below 1;
# beyond, the pull to zero is stronger than the data.

scores = search.cv_results_["mean_test_score"].reshape(3, len(decays))
plt.figure(figsize=(6, 3.5), layout="constrained")
for widths, each in zip(search.param_grid["hidden_layer_sizes"], scores, strict=True):
    plt.semilogx(decays, each, "o-", label=str(widths))
plt.xlabel("weight_decay")
plt.ylabel("R2 of three folds")
plt.legend(title="hidden_layer_sizes")
plt.show()

best = MetaKANRegressor(max_iter=30, random_state=0).set_params(**search.best_params_).fit(X, y)
print(search.best_params_, len(best.loss_curve_))
