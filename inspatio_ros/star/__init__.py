# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""STAR, the spatiotemporal autoregressive generator."""
