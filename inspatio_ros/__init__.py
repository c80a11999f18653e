# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Turn a recording into a world that a robot can drive through."""

import os

__version__ = '0.1.0'

# torch's threads wait for each other by spinning, by default so long that two programs on the same cores bring each
# other to a halt (nano fell from 38 to 0.9 frames per second beside a second one; with this, to 14, and alone it is as
# fast as before). It is read when torch is loaded, so it must be set before; whoever has set either is left alone.
if 'OMP_WAIT_POLICY' not in os.environ:
    os.environ.setdefault('GOMP_SPINCOUNT', '5000')
