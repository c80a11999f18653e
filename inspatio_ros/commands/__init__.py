# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The commands of `inspatio`, one module each: a docstring for its help, `add_arguments` and `run`."""
