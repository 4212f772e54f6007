"""
Which columns matter?
=====================

A doctor has ten numbers of each patient and wants to know which of them tell how diabetes goes
on. The estimator says how much each column moves the prediction, and in which direction.
"""

from matplotlib import pyplot as plt
from sklearn.datasets import load_diabetes

from sklearn_metakan import MetaKANRegressor
from sklearn_metakan.inspection import EffectDisplay

X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
model = MetaKANRegressor(max_iter=40, random_state=0).fit(X, y)

# %%
# ``feature_importances_`` are shares of the prediction's spread, and sum to one. What two
# columns do together counts for both.

ranking = model.feature_importances_.argsort()
plt.figure(figsize=(5, 3.5), layout="constrained")
plt.barh(X.columns[ranking], model.feature_importances_[ranking])
plt.xlabel("share of the prediction's spread")
plt.show()

# %%
# The effects say how: the disease goes faster with a large body mass index (bmi), with the
# blood value s5 and with blood pressure (bp). Grey bars are the data, bands are how far the
# four members of the model disagree.

EffectDisplay.from_estimator(model, X, max_features=3)
plt.show()
