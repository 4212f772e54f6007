"""
What does the meta-learner do?
==============================

It turns the prompt of an edge, here three numbers, into the curve of the edge. So all edges of
a layer are drawn from one family of curves, and the family is learned.
"""

from matplotlib import pyplot as plt
from sklearn.datasets import load_diabetes

from sklearn_metakan import MetaKANRegressor
from sklearn_metakan.inspection import PromptDisplay

X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
model = MetaKANRegressor((16,), n_estimators=1, max_iter=60, random_state=0).fit(X, y)

# %%
# Left: every edge of the first layer as a point in the space of prompts, large if it matters.
# Middle: how the curve changes along the direction in which prompts vary most. Right: groups of
# edges that do the same.

PromptDisplay.from_estimator(model, X)
plt.show()

# %%
# Prompts are the trainable numbers, the curves are made from them:

print(model.summary())
