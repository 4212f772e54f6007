"""What the class docstrings of all estimators have in common, and how it gets into them."""

from collections.abc import Mapping
from inspect import signature
from typing import Any

META = """\
    prompt_dim : int, default=<prompt_dim>
        p, the numbers in an edge's prompt.
    meta_hidden_dim : int, default=<meta_hidden_dim>
        H, hidden units of the meta-learner. 0 is the linear meta-learner: all edges are
        combinations of p learned functions; ``edge_scale`` must then be False.
    meta_activation : {"relu", "silu", "tanh", "sin"}, default="<meta_activation>"
    edge_scale : bool, default=<edge_scale>
        Whether each edge also has a trainable factor.
    n_meta_learners : "auto", "layer" or int, default="auto"
        One meta-learner for each layer, or so many for clusters of layers of similar output
        width; "auto" is one for the network.
    prompt_learning_rate, meta_learning_rate : float, default=None
        Of prompts (and edge factors) and of meta-learners; None: learning_rate<prompt_rate>."""

META_DECAY = """ A prompt pulled to zero makes its
        edge the meta-learner's default function ``M(0)``."""

PAPER = """\
    Zhao, Shu, Meng, Xu, "Improving Memory Efficiency for Training KANs via Meta Learning",
    ICML 2025, arXiv 2506.07549."""

_TEXTS = {"META": META, "PAPER": PAPER}


def _prompt_rate(cls: type) -> str:
    rate = getattr(cls, "adamw_prompt_learning_rate", None)
    if rate is None:
        return ""
    return f',\n        but {rate} for prompts of a linear meta-learner where that is "auto"'


def fill_docstring(cls: type, texts: Mapping[str, str], **values: Any) -> None:
    """Put texts in place of {NAME} in a class's docstring, and values in place of <name> in them.

    Defaults of the constructor are such values, so that text and code agree.
    """
    defaults = {name: parameter.default for name, parameter in signature(cls).parameters.items()}
    is_meta = "prompt_dim" in defaults
    values = {
        **defaults,
        "adamw_learning_rate": getattr(cls, "adamw_learning_rate", None),
        "meta_decay": META_DECAY if is_meta else "",
        "prompt_rate": _prompt_rate(cls),
        **values,
    }
    filled = cls.__doc__ or ""
    for name, text in (_TEXTS | dict(texts)).items():
        if f"{{{name}}}" in filled:
            for key, value in values.items():
                text = text.replace(f"<{key}>", str(value))
            filled = filled.replace(f"    {{{name}}}", text)
    cls.__doc__ = filled
