# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The ray caster of scenes/ again, in torch: all views of a batch at once, on any device."""
