"""The one door to numba: a decorator with types for functions that are compiled to machine code.

A kernel is a plain function over arrays and numpy's fixed-width scalars. Compiled, it runs without the GIL, so that
threads scale, and LLVM turns its inner loops into vector instructions for the processor at hand (AVX2, AVX-512, NEON).
Machine code is cached in `__pycache__` beside the source, or in NUMBA_CACHE_DIR; where neither is writable, numba takes
a folder of the user's. The first call in a fresh installation compiles, later processes load.

Three rules keep kernels quick and right, because numba's integers are not Python's:

- Products of two `uint32` are `uint64` without a cast; storing into a `uint32` array keeps the low half.
- A `uint64` never meets a signed integer, or the result is a float: shifts and masks are `np.uint64` constants.
- An inner loop runs from 0 over slices, not over offsets: then LLVM sees that no index wraps, and vectorises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba

from network_extension.pir.he.kernel_cache import folder_for_kernels

if (_folder := folder_for_kernels()) is not None:
    _config: Any = numba.config  # its attributes are made at run time
    _config.CACHE_DIR = _folder

P = ParamSpec("P")
R = TypeVar("R")


def compiled(kernel: Callable[P, R]) -> Callable[P, R]:
    """`kernel`, compiled at its first call for the types of its arguments, cached on disk, run without the GIL."""
    return cast(Callable[P, R], numba.njit(nogil=True, cache=True, error_model="numpy")(kernel))


def inlined(kernel: Callable[P, R]) -> Callable[P, R]:
    """As `compiled`, for what stands in inner loops of other kernels: it becomes a part of them, never a call."""
    return cast(Callable[P, R], numba.njit(nogil=True, cache=True, error_model="numpy", forceinline=True)(kernel))
