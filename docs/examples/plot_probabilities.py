"""
Can I trust the probabilities?
==============================

If the model says 70 % to many rows, seven in ten of them should be of that class. Where rows
are held out, classifiers set their temperature by them, so that it is so.
"""

from matplotlib import pyplot as plt
from sklearn.calibration import CalibrationDisplay
from sklearn.datasets import make_classification
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB

from sklearn_metakan import KANClassifier

X, y = make_classification(
    8000, n_features=10, n_informative=4, n_redundant=4, flip_y=0.1, class_sep=0.6, random_state=0
)
X, X_test, y, y_test = train_test_split(X, y, test_size=6000, random_state=0)

ax = plt.figure(figsize=(5, 4.5), layout="constrained").gca()
models = {
    "naive Bayes": GaussianNB(),
    "KAN": KANClassifier(n_estimators=2, hidden_layer_sizes=(16,), max_iter=30, random_state=0),
}
for name, model in models.items():
    loss = log_loss(y_test, model.fit(X, y).predict_proba(X_test))
    CalibrationDisplay.from_estimator(
        model,
        X_test,
        y_test,
        n_bins=8,
        strategy="quantile",
        ax=ax,
        name=f"{name}, log loss {loss:.2f}",
    )
plt.show()
