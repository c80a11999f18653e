# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How much memory a process holds."""

from __future__ import annotations

import os
from pathlib import Path

MIB = 2**20


def resident_mebibytes(pid: int | None = None) -> float:
    """Give the resident memory of a process; of this one by default."""
    pages = int(Path(f'/proc/{pid or "self"}/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / MIB
