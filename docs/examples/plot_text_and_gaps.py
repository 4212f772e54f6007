"""
How do I use text columns and gaps?
===================================

As they are. A column of text has levels, a missing value is a value of its own: no encoder, no
imputer.
"""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from sklearn_metakan import MetaKANRegressor
from sklearn_metakan.inspection import EffectDisplay

rng = np.random.default_rng(0)
n = 600
flats = pd.DataFrame(
    {
        "area": rng.uniform(20, 150, n),
        "built": np.where(rng.random(n) < 0.2, np.nan, rng.integers(1900, 2025, n)),
        "town": rng.choice(["Bern", "Oslo", "Rome", "Turku"], n),
        "lift": rng.random(n) < 0.4,
    }
)
town = flats["town"].map({"Bern": 300, "Oslo": 250, "Rome": 100, "Turku": 0})
age = np.where(flats["built"].isna(), 130, 2025 - flats["built"])  # unsaid: old
rent = 8 * flats["area"] + town + 80 * flats["lift"] - 2 * age + 400 + rng.normal(0, 40, n)
print(flats.head())

# %%
# Levels and the missing year are points in the picture, numbers are curves.

model = MetaKANRegressor(n_estimators=2, max_iter=60, random_state=0)
model.fit(flats[:450], rent[:450])
EffectDisplay.from_estimator(model, flats, features=["town", "built", "lift"])
plt.show()

# %%
# A town that training did not see counts as the mean of the towns; it is no error.

print(f"R2 on new rows {model.score(flats[450:], rent[450:]):.2f}")
print(model.predict(flats[:1].assign(town="Tokyo")).round())
