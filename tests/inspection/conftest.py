"""Until estimators scale with a torch module: what ``EdgeDisplay`` asks of ``input_scaler_``."""

import numpy as np
import torch

from sklearn_metakan.estimators._scaling import InputScaler


def inverse(self, values):
    return torch.from_numpy(self.inverse_transform(values.numpy()))


def scale(self, X):
    return torch.from_numpy(self.transform(X.numpy()))


InputScaler.kept_ = property(lambda self: np.arange(len(self.points_)))
InputScaler.inverse, InputScaler.__call__ = inverse, scale
