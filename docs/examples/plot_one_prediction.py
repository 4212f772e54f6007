"""
Why this prediction?
====================

The model says 330 for one patient, and 166 on average. ``explain`` shares the difference out
among the columns, so that the parts sum to the prediction.
"""

from matplotlib import pyplot as plt
from sklearn.datasets import load_diabetes

from sklearn_metakan import MetaKANRegressor
from sklearn_metakan.inspection import explain

X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
model = MetaKANRegressor(n_estimators=1, max_iter=40, random_state=0).fit(X, y)
predicted = model.predict(X)
highest, lowest = predicted.argmax(), predicted.argmin()

# %%
# The bars are Shapley values: what a column adds, averaged over the orders in which columns
# become known. ``background`` are the rows with which the patient is compared.

explanation = explain(model, X.iloc[[highest, lowest]], background=X)
explanation.plot(0)
plt.show()

# %%
# The patient with the lowest prediction:

explanation.plot(1)
plt.show()

# %%
# The same numbers as a table:

print(explanation.to_frame().round(1).T)
