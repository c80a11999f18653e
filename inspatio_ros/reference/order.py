# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The order of a sequence's files."""

from __future__ import annotations

import re
from decimal import Decimal

_NUMBER = re.compile(r'([0-9]+(?:\.[0-9]+)?)')


def in_sequence(name: str) -> tuple[list[str | Decimal], str]:
    """Give what sorts names as people count: frame_2 before frame_10, 0.25 before 0.5.

    Numbers, seconds with a fraction among them, go by their value, however many digits they are written with.
    """
    # Text and numbers take turns, so that like is compared with like.
    parts = [Decimal(part) if index % 2 else part for index, part in enumerate(_NUMBER.split(name))]
    return parts, name
