"""
How do I put a model into a file and into service?
==================================================

``save`` writes a file from which nothing is executed; ``load`` brings the estimator back.
``export_onnx`` writes a graph for programs that have no Python.
"""

from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import onnxruntime
from matplotlib import pyplot as plt
from sklearn.datasets import load_wine

from sklearn_metakan import MetaKANClassifier, load

X, y = load_wine(return_X_y=True, as_frame=True)
model = MetaKANClassifier(n_estimators=1, max_iter=40, random_state=0).fit(X, y)
folder = Path(mkdtemp())

# %%
# In Python:

model.save(folder / "wine.safetensors")
loaded = load(folder / "wine.safetensors")
print(np.array_equal(loaded.predict_proba(X), model.predict_proba(X)))

# %%
# Elsewhere: scaling and classes are inside the graph, it takes rows as they are.

model.export_onnx(folder / "wine.onnx")
session = onnxruntime.InferenceSession(folder / "wine.onnx")
label, probabilities = session.run(["label", "probabilities"], {"X": X.to_numpy()})

_, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
left.plot(model.predict_proba(X), probabilities, "o", ms=3)
left.set(title="probabilities", xlabel="estimator", ylabel="ONNX")
sizes = {path.name: path.stat().st_size / 1024 for path in sorted(folder.iterdir())}
right.bar([*sizes], [*sizes.values()])
right.set(title="size of the file", ylabel="KiB")
plt.show()

# %%
# :doc:`/guide/files` is about long fits, kills and files from others.
