"""
Which formula is in my data?
============================

A table of distances, charges and forces: is there a law in it? ``symbolic_formula`` looks for
an expression in your columns that does what the network has learnt.
"""

import pandas as pd
from matplotlib import pyplot as plt

from sklearn_metakan import MetaKANRegressor
from sklearn_metakan.datasets import feynman_equation, make_feynman
from sklearn_metakan.symbolic import symbolic_formula

X, force = make_feynman("I.12.2", n_samples=400, noise=0.0005, random_state=0)
table = pd.DataFrame(X, columns=[each.name for each in feynman_equation("I.12.2").variables])
print(table.assign(force=force).head(3).round(2))

# %%
# First a network is fitted, then the formula is read from it, with its constants fitted to the
# data.

model = MetaKANRegressor((8, 8), n_estimators=1, random_state=0).fit(table, force)
formula = symbolic_formula(model, table, force)
print(formula.expression)

# %%
# ``front`` has the best expression of each length. Look at it before you trust the last one.

_, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
left.plot(force, formula.predict(table), "o", ms=3)
left.set(xlabel="measured", ylabel="formula", title=f"force = ${formula.to_latex()}$")
right.semilogy(formula.front["complexity"], 1 - formula.front["r2"], "o-")
right.set(xlabel="length of the expression", ylabel="1 - R2", title="what length buys")
plt.show()
