"""Kernels compile for a card, also where there is none: the interpreter takes more than it does."""

import os
import re
import subprocess
import sys

import pytest

pytest.importorskip("triton")

from sklearn_metakan.basis import make_basis
from sklearn_metakan.ops.triton import features, smooth

COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from sklearn_metakan.ops.triton import meta, smooth, splines

modules = {"meta": meta, "smooth": smooth, "splines": splines}
INTEGERS = ("row_of_", "input_of_", "function_of_", "output_of_")
module, name, constants, launch = sys.argv[1], sys.argv[2], *map(eval, sys.argv[3:5])
kernel = getattr(modules[module], name)
signature = {}
for argument in kernel.arg_names:
    if argument in constants:
        signature[argument] = "constexpr"
    elif argument in ("n", "b", "n_in", "n_out") or argument.startswith(INTEGERS):
        signature[argument] = "i32"
    else:
        signature[argument] = "*bf16" if argument in sys.argv[5:] else "*fp32"
places = {(kernel.arg_names.index(key),): value for key, value in constants.items()}
source = ASTSource(fn=kernel, signature=signature, constexprs=places)
made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=launch)
assert made.asm["cubin"]
print(made.asm["ttir"])
"""
# What grows with rows times inputs, or with edges: offsets within it do not fit into 32 bits.
LARGE = {"x", "out", "grad", "x_grad", "z", "scale", "z_grad", "scale_grad"}
MAKE = {"P": 0, "TAILS": 0, "VALUES": True, "WAY_BACK": True, "PAIRED": False}
MAKE |= features._tile(features._TILE, 64)
LEARN = {"P": 2, "TAILS": 0} | features._tile(features._TILE_OF_SUMS, 64)
SPLINES = {"K": 3, "G": 5, "UNIFORM": True}
META = {"P": 1, "H": 32, "C": 9, "HP": 32, "CP": 16, "ACTIVATION": 3, "PRECISION": "tf32"}
SUMS = {"OF_EDGES": True, "BY_COLUMN": True, "TILE": 32}
ROUNDED = ("out", "grad")  # under autocast


def family(name):
    """Of G = 5, or of degree 3."""
    basis = make_basis({"gaussian": "rbf"}.get(name, name), 2)
    of = smooth.SmoothFeatures.__new__(smooth.SmoothFeatures)
    of.basis = basis
    constants = of._constants()
    assert constants.pop("TAILS") == 0 and constants["FAMILY"] == smooth.FAMILIES[name]
    return constants


def cases():
    """Module, kernel, constants, launch, what is bfloat16."""
    make, sums = features._LAUNCH, features._LAUNCH_OF_SUMS
    for module, its in [("splines", SPLINES), *(("smooth", family(n)) for n in smooth.FAMILIES)]:
        yield module, "_make", its | MAKE, make, ()
        functions = its.get("C", 9)
        yield module, "_learn", its | LEARN | {"FUNCTIONS": functions}, sums, ()
    for module, its in [("splines", SPLINES), ("smooth", family("gaussian"))]:
        yield module, "_make", its | MAKE | {"P": 2, "PAIRED": True}, make, ROUNDED
        yield module, "_make", its | MAKE | {"P": 3, "TAILS": 2}, make, ()
        yield module, "_make", its | MAKE | {"TAILS": 1}, make, ROUNDED
    yield "smooth", "_learn", family("shannon") | LEARN | {"FUNCTIONS": 5}, sums, ("grad",)
    scaled = {"SCALED": True}
    yield "meta", "_generate", META | scaled | {"INPUTS": 32, "OUTPUTS": 4}, {"num_warps": 2}, ()
    yield "meta", "_gradients", META | scaled | SUMS, {"num_warps": 2}, ()


def offsets(code):
    """Pairs of a pointer to something large and the type of integers that are added to it."""
    named = {f"%{argument}": argument for argument in LARGE}
    steps = re.findall(r"(%[\w.]+) = ([\w.]+) (%[\w.]+)(.*)", code)
    for result, operation, operand, rest in steps:
        if operand in named:  # a splat, a broadcast, or an earlier offset
            named[result] = named[operand]
            if operation == "tt.addptr":
                yield named[operand], re.search(r", (?:tensor<[\dx]*)?(i\d+)", rest)[1]


first, *others = cases()


@pytest.mark.parametrize(
    ("module", "name", "constants", "launch", "rounded"),
    [first, *(pytest.param(*case, marks=pytest.mark.slow) for case in others)],
)
def test_compiles_with_offsets_of_64_bits(module, name, constants, launch, rounded, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path)}
    arguments = [module, name, repr(constants), repr(launch), *rounded]
    command = [sys.executable, "-W", "ignore", "-c", COMPILE, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [*offsets(done.stdout)]
    assert {kind for _, kind in found} == {"i64"}
    assert {pointer for pointer, _ in found} & {"x", "z"}
    products = re.findall(r"arith.muli ([^:]*): (?:tensor<[\dx]*)?i32", done.stdout)
    assert not [product for product in products if re.search(r"%\w+_of_", product)]
