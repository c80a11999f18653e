# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Functions compiled by numba, kept on disk between runs where that is possible.

A compiled function is kept until the date of its own file changes. So functions that call each other stay in one file;
after a change to one of the few helpers that other files use, delete `__pycache__`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numba

# Numba looks for threads in TBB first, and takes OpenMP where that is too old; users can do nothing with it.
warnings.filterwarnings('ignore', 'The TBB threading layer requires TBB', numba.NumbaWarning)

#: Reassociation is left out: it would change results with the compiler's version.
FAST = {'contract', 'arcp', 'nsz', 'afn'}


def compiled(**options: Any) -> Callable[[Callable], Callable]:
    """Compile a function without the interpreter's lock and with numpy's division; `options` are numba's.

    Where neither the package's folder nor the user's cache can be written (a read-only image without a home), numba
    refuses to keep what it compiles; the function is then compiled anew in every process.
    """
    options = {'nogil': True, 'error_model': 'numpy', 'fastmath': FAST, **options}

    def decorate(function: Callable) -> Callable:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:
            return numba.njit(**options)(function)

    return decorate
