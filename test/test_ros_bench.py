# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the node adds to a frame is measured on its real publishers, with real subscribers in another process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip('rclpy')

CODE = """
import json
from inspatio_ros.ros.bench import measure_delivery, measure_overhead
print(json.dumps([measure_overhead(96, 64, 12), measure_delivery(96, 64, seconds=1.)]))
"""


#: Messages that may be lost where the machine is busy.
BUSY = 3


@pytest.mark.timeout(300)
def test_every_message_of_a_small_measurement_arrives():
    done = subprocess.run([sys.executable, '-c', CODE], capture_output=True, text=True, timeout=280, check=True)
    overhead, delivery = json.loads(done.stdout.splitlines()[-1])
    received = overhead['received']
    # The path comes twice a second, everything else with each frame.
    assert overhead['sent'] == 36 and 0 < received.pop('path') < 36
    assert {'camera/image_raw', 'camera/points', 'odom'} <= set(received) and min(received.values()) >= 36 - BUSY
    spent = overhead['overhead_ms']
    assert 0 < spent['median'] <= spent['p95'] and spent['cpu'] > 0
    assert delivery['sent'] == 24 and max(delivery['lost'].values()) <= BUSY and delivery['in_order']
    assert 0 < delivery['latency_ms']['median'] < 1000
