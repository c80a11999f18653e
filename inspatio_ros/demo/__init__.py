# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The main job, shown: the node in one process, a driver in a second, a recorder in a third."""
