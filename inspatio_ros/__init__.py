# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Turn a recording into a world that a robot can drive through."""

__version__ = '0.1.0'
