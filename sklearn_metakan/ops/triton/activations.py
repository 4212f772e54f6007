"""Activations of a meta-learner within kernels, each with its derivative."""

import triton
import triton.language as tl

ACTIVATION_NUMBERS = {"relu": 0, "silu": 1, "tanh": 2, "sin": 3}


@triton.jit
def sine(a):
    """sin and cos together, to 1e-7 for |a| < 1e4: the library's two take ten times as long.

    a less a multiple of pi / 2, which is split in three, then polynomials on [-pi/4, pi/4];
    Cody and Waite, "Software Manual for the Elementary Functions" (1980).
    """
    turns = tl.floor(a * 0.6366197723675814 + 0.5)
    r = ((a - turns * 1.5703125) - turns * 4.8375129699707031e-4) - turns * 7.5497899548918822e-8
    z = r * r
    sine = ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * r + r
    cosine = (2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2
    cosine = cosine * z * z - 0.5 * z + 1.0
    quarter = turns.to(tl.int32) & 3
    swapped = (quarter & 1) != 0
    first = tl.where(swapped, cosine, sine)
    second = tl.where(swapped, sine, cosine)
    first = tl.where((quarter & 2) != 0, -first, first)
    second = tl.where(((quarter + 1) & 2) != 0, -second, second)
    return first, second


@triton.jit
def activate(a, ACTIVATION: tl.constexpr):
    """The activation and its derivative."""
    if ACTIVATION == 0:
        return tl.where(a > 0.0, a, 0.0 * a), tl.where(a > 0.0, 1.0, 0.0)
    elif ACTIVATION == 1:
        sigmoid = tl.sigmoid(a)
        return a * sigmoid, sigmoid + a * sigmoid * tl.sigmoid(-a)
    elif ACTIVATION == 2:
        tanh = 2.0 * tl.sigmoid(2.0 * a) - 1.0
        return tanh, 1.0 - tanh * tanh
    else:
        return sine(a)
