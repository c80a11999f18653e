# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Procedural scenes whose true image is known from any pose at any time."""
