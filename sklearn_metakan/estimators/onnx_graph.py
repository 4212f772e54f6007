"""A module as an ONNX graph, with any number of rows, and names in place of classes' numbers."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sklearn_metakan.files import write_bytes

_ROWS = 3  # of the example; any number but one
_INT64 = 7  # ONNX's number of it


class _WithLabel(nn.Module):
    """Probabilities, and before them the number of the most probable class, or 0 and 1 by label."""

    def __init__(self, predictor: nn.Module, several: bool) -> None:
        super().__init__()
        self.predictor, self.several = predictor, several

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        probabilities = self.predictor(x)
        label = (probabilities > 0.5).long() if self.several else probabilities.argmax(1)
        return label, probabilities


def export_onnx(self: Any, path: str | os.PathLike[str]) -> None:
    """Write the fitted model as an ONNX file, which predicts without Python.

    Scaling is inside. Needs the packages onnx and onnxscript: ``pip install
    sklearn_metakan[onnx]``. Written at once, as by ``save``.

    The input "X", (n, n_features) or images as in ``fit``, any n, has the dtype of the fit, but
    float32 for images of float64; in columns of categories, positions in ``categories_`` as for
    ``to_torch``, and NaN for what is missing. Outputs: "prediction" of regressors; "label" and
    "probabilities" of classifiers: what the methods give. X is not checked.

    Parameters
    ----------
    path : str or path-like

    Raises
    ------
    ImportError
        If one of these packages is missing.
    ValueError
        With ``extrapolation="error"``, which a graph cannot raise.
    OSError
        If the file cannot be written.
    """
    check_is_fitted(self)
    module = self.to_torch()
    inputs, classes = module.inputs, getattr(module.target, "classes_", None)
    if inputs.strict:
        raise ValueError(
            'A graph cannot raise the error of extrapolation="error". Fit with another one.'
        )
    row = inputs.first_row()
    if inputs.of_images:
        row = row.reshape(1, *inputs.layout.shape)
    dtype = np.dtype(inputs.dtype)
    if inputs.of_images and dtype == np.float64:  # in which few know convolutions
        module, dtype = module.float(), np.dtype(np.float32)
    rows = torch.from_numpy(np.repeat(row, _ROWS, axis=0).astype(dtype))
    write_bytes(path, onnx_model(module, rows, classes))


def onnx_model(
    predictor: nn.Module, x: Tensor, classes: NDArray[Any] | list[NDArray[Any]] | None
) -> bytes:
    """The bytes of an ONNX file.

    Parameters
    ----------
    predictor : Module
        What ``to_torch`` returns.
    x : Tensor
        Some rows.
    classes : ndarray or list of them, optional
        Of a classifier; one for each of several labels.

    Raises
    ------
    ImportError
        If onnx or onnxscript is missing.
    """
    try:
        import onnx
        from onnxscript import opset18
    except ImportError as error:
        raise ImportError(
            f"export_onnx needs the packages onnx and onnxscript ({error}): pip install "
            "'sklearn_metakan[onnx]'."
        ) from error

    op: Any = opset18

    def searchsorted(points: Any, values: Any, right: bool = False, **_: Any) -> Any:
        """ONNX has none: as many points as are below."""
        points, values = op.Unsqueeze(points, [-2]), op.Unsqueeze(values, [-1])
        below = op.LessOrEqual(points, values) if right else op.Less(points, values)
        return op.ReduceSum(op.Cast(below, to=_INT64), [-1], keepdims=0)

    is_classifier = classes is not None
    names = ["label", "probabilities"] if is_classifier else ["prediction"]
    several = isinstance(classes, list)
    module = (_WithLabel(predictor, several) if is_classifier else predictor).eval().cpu()
    with torch.no_grad(), _silence():
        program: Any = torch.onnx.export(
            module.requires_grad_(False),
            (x,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("rows", min=1)},),
            input_names=["X"],
            output_names=names,
            custom_translation_table={torch.ops.aten.searchsorted.Tensor: searchsorted},
            verbose=False,
        )
    model = program.model_proto
    if isinstance(classes, np.ndarray):
        _name_labels(onnx, model.graph, classes)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _name_labels(onnx: Any, graph: Any, classes: NDArray[Any]) -> None:
    """Have the output "label" be one of the classes, in place of its number."""
    label = next(each for each in graph.output if each.name == "label")
    for node in graph.node:
        node.output[:] = ["label_number" if name == "label" else name for name in node.output]
        node.input[:] = ["label_number" if name == "label" else name for name in node.input]
    if classes.dtype.kind in "bif":
        table = onnx.numpy_helper.from_array(classes, "classes")
    else:
        texts = np.array([str(each) for each in classes.tolist()], dtype=object)
        table = onnx.numpy_helper.from_array(texts, "classes")
    graph.initializer.append(table)
    graph.node.append(onnx.helper.make_node("Gather", ["classes", "label_number"], ["label"]))
    label.type.tensor_type.elem_type = table.data_type


@contextmanager
def _silence() -> Iterator[None]:
    """Without what the exporter says of other packages and of its progress."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
