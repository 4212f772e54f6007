"""
Can I see the network?
======================

Every edge is a curve, so the network is a picture. ``to_html`` writes a page in which inputs
can be moved.
"""

from matplotlib import pyplot as plt
from sklearn.datasets import load_iris

from sklearn_metakan import KANClassifier
from sklearn_metakan.inspection import NetworkDisplay

iris = load_iris(as_frame=True)
model = KANClassifier((3,), n_estimators=1, max_iter=100, random_state=0)
model.fit(iris.data, iris.target_names[iris.target])
display = NetworkDisplay.from_estimator(model, iris.data)
plt.show()

# %%
# ``display.to_html("network.html")`` is one file without network access, so it can be sent
# around.
