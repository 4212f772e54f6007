"""
How do I classify images?
=========================

``KANImageClassifier`` and ``MetaKANImageClassifier`` take images as arrays: (n, height, width),
or with channels.
"""

from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import train_test_split

from sklearn_metakan import MetaKANImageClassifier

digits = load_digits()
X, X_test, y, y_test = train_test_split(digits.images, digits.target, random_state=0)
model = MetaKANImageClassifier(max_iter=8, random_state=0).fit(X, y)
ConfusionMatrixDisplay.from_estimator(model, X_test, y_test, colorbar=False)
plt.title(f"accuracy {model.score(X_test, y_test):.2f}")
plt.show()

# %%
# Where is it least sure?

sure = model.predict_proba(X_test).max(1)
_, axes = plt.subplots(1, 6, figsize=(9, 2), layout="constrained")
for ax, i in zip(axes, sure.argsort(), strict=False):
    ax.imshow(X_test[i], cmap="gray_r")
    ax.set(
        title=f"{model.predict(X_test[[i]])[0]} ({sure[i]:.0%})\nis {y_test[i]}",
        xticks=[],
        yticks=[],
    )
plt.show()
