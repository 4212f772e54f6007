"""Kernels compile for a card, also where there is none: the interpreter takes more than it does."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from sklearn_metakan.ops import _triton_meta, _triton_smooth, _triton_splines

modules = {"meta": _triton_meta, "smooth": _triton_smooth, "splines": _triton_splines}
INTEGERS = ("row_of_", "input_of_", "function_of_", "output_of_")
module, name, constants = sys.argv[1], sys.argv[2], eval(sys.argv[3])
kernel = getattr(modules[module], name)
signature = {}
for argument in kernel.arg_names:
    if argument in constants:
        signature[argument] = "constexpr"
    elif argument in ("n", "b", "n_in", "n_out") or argument.startswith(INTEGERS):
        signature[argument] = "i32"
    else:
        signature[argument] = "*fp32"
places = {(kernel.arg_names.index(key),): value for key, value in constants.items()}
source = ASTSource(fn=kernel, signature=signature, constexprs=places)
made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 2})
assert made.asm["cubin"]
"""
MAKE = {"P": 0, "TAILS": 0, "VALUES": True, "WAY_BACK": True, "PAIRED": False}
MAKE |= {"ROWS": 8, "INPUTS": 64}
LEARN = {"P": 2, "TAILS": 0, "ROWS": 4, "INPUTS": 64}
SPLINES = {"K": 3, "G": 5, "UNIFORM": True}
GAUSSIANS = {"C": 9, "G": 7, "FAMILY": 0, "SILU": 1}
WAVELETS = {"C": 13, "G": 0, "FAMILY": 4, "SILU": 1}
CHEBYSHEV = {"C": 4, "G": 0, "FAMILY": 6, "SILU": 0}
META = {"P": 1, "H": 32, "C": 9, "HP": 32, "CP": 16, "ACTIVATION": 3, "PRECISION": "tf32"}
SUMS = {"OF_EDGES": True, "BY_COLUMN": True, "TILE": 32}
KERNELS = [
    ("splines", "_make", SPLINES | MAKE),
    ("splines", "_make", SPLINES | MAKE | {"P": 2, "PAIRED": True}),
    ("splines", "_learn", SPLINES | LEARN | {"FUNCTIONS": 9}),
    ("smooth", "_make", GAUSSIANS | MAKE),
    ("smooth", "_make", GAUSSIANS | MAKE | {"P": 2, "PAIRED": True}),
    ("smooth", "_make", CHEBYSHEV | MAKE | {"TAILS": 1}),
    ("smooth", "_make", WAVELETS | MAKE | {"P": 3, "TAILS": 2}),
    ("smooth", "_learn", GAUSSIANS | LEARN | {"FUNCTIONS": 9}),
    ("smooth", "_learn", CHEBYSHEV | LEARN | {"FUNCTIONS": 4}),
    ("smooth", "_learn", WAVELETS | LEARN | {"FUNCTIONS": 7}),
    ("meta", "_generate", META | {"SCALED": True, "INPUTS": 32, "OUTPUTS": 4}),
    ("meta", "_gradients", META | SUMS | {"SCALED": True}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("module", "name", "constants"), KERNELS)
def test_compiles(module, name, constants, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-W", "ignore", "-c", COMPILE, module, name, repr(constants)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
