"""A module as an ONNX graph, with any number of rows, and names in place of classes' numbers."""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from math import nan
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from sklearn_metakan.files import file_to_write, write_bytes

_ROWS = 3  # of the example; any number but one
_INT64 = 7  # ONNX's number of it
_OUTPUTS = ["prediction", "label", "probabilities"]


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
    float32 for images of float64, and NaN for what is missing. If some column has categories that
    are text, each column is an input of its own, (n, 1), under its name ("x0", "x1", ... where it
    has none): text, in which "" is missing, or numbers as in the table. Other columns of categories
    hold positions in ``categories_``, as for ``to_torch``. Outputs: "prediction" of regressors,
    "label" and "probabilities" of classifiers: what the methods give. Inputs are not checked.

    Parameters
    ----------
    path : str or path-like

    Raises
    ------
    ImportError
        If one of these packages is missing.
    ValueError
        With ``extrapolation="error"``, which a graph cannot raise; where text would be ambiguous:
        a column with "" as a level and gaps too, or columns named alike or as an output.
    OSError
        If the file cannot be written.
    """
    check_is_fitted(self)
    file_to_write(path)
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
    levels = {} if inputs.of_images else inputs.reader.levels
    columns = None
    if any(map(_are_text, levels.values())):
        columns = [(f"x{n}" if isinstance(n, int) else str(n)) for n in inputs.reader.names]
        _check_columns(inputs, columns)
    write_bytes(path, onnx_model(module, rows, classes, columns, levels))


def _check_columns(inputs: Any, columns: Sequence[str]) -> None:
    """Raise a ValueError for columns that cannot be inputs of their own."""
    for name in columns:
        if columns.count(name) > 1 or name in _OUTPUTS:
            raise ValueError(
                f"The input {name!r} would not be alone in having this name: columns are inputs, "
                f"and outputs are called {', '.join(_OUTPUTS)}. Rename the column, and fit again."
            )
    seen = inputs.codes[inputs.first_code + inputs.n_levels].isfinite()
    for place in inputs.coded[seen].tolist():
        if "" in inputs.reader.levels[place]:
            raise ValueError(
                f'A graph takes "" for missing text, but {columns[place]!r} has "" and missing '
                "values as well. Write one of them in another way, and fit again."
            )


def onnx_model(
    predictor: nn.Module,
    x: Tensor,
    classes: NDArray[Any] | list[NDArray[Any]] | None,
    columns: Sequence[str] | None = None,
    levels: Mapping[int, Sequence[Any]] | None = None,
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
    columns : list of str, optional
        Names of the columns, where each is to be an input of its own.
    levels : mapping, optional
        Of columns of categories, by position.

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
    names = _OUTPUTS[1:] if is_classifier else _OUTPUTS[:1]
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
    if columns is not None:
        _take_columns(onnx, model, columns, levels or {})
    onnx.checker.check_model(model)
    return model.SerializeToString()


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


def _set_apart(graph: Any) -> None:
    """Have no number of the graph's, but outputs, be called as a column may be."""
    outputs = {"", *(each.name for each in graph.output)}

    def renamed(name: str) -> str:
        return name if name in outputs else f"graph/{name}"

    for node in graph.node:
        node.input[:], node.output[:] = map(renamed, node.input), map(renamed, node.output)
    for each in (*graph.input, *graph.initializer, *graph.value_info):
        each.name = renamed(each.name)


def _are_text(levels: Sequence[Any]) -> bool:
    return bool(levels) and all(isinstance(level, str) for level in levels)


def _take_columns(
    onnx: Any, model: Any, columns: Sequence[str], levels: Mapping[int, Sequence[Any]]
) -> None:
    """Have each column be an input; text becomes its position among the levels."""
    graph, make = model.graph, onnx.helper
    (table,) = graph.input
    _set_apart(graph)
    kind, size = table.type.tensor_type.elem_type, table.type.tensor_type.shape.dim[0].dim_param
    inputs, nodes, parts = [], [], []
    for j, name in enumerate(columns):
        known = levels.get(j, ())
        is_text = _are_text(known)
        of_column = onnx.TensorProto.STRING if is_text else kind
        inputs.append(make.make_tensor_value_info(name, of_column, [size, 1]))
        parts.append(name)
        if is_text:
            texts = {**dict(zip(known, map(float, range(len(known))), strict=True))}
            texts.setdefault("", nan)
            found, parts[-1] = f"graph/{name} found", f"graph/{name} at"
            nodes.append(
                make.make_node(
                    "LabelEncoder",
                    [name],
                    [found],
                    domain="ai.onnx.ml",
                    keys_strings=[*texts],
                    values_floats=[*texts.values()],
                    default_float=-1.0,
                )
            )
            nodes.append(make.make_node("Cast", [found], [parts[-1]], to=kind))
    nodes.append(make.make_node("Concat", parts, [table.name], axis=1))
    before = [*nodes, *graph.node]
    del graph.input[:], graph.node[:]
    graph.input.extend(inputs)
    graph.node.extend(before)
    model.opset_import.append(make.make_opsetid("ai.onnx.ml", 2))


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
