# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Import a recording from a rosbag: colour, depth that is registered to it, and where SLAM says the camera was.

BAG is a rosbag2 or the files of a ROS 1 bag. Besides the two topics of images it holds camera_info, and /tf and
/tf_static that lead from the map to the frame of the images: record it with localisation running, or play it once
more beside it and record that. Each image is written with the depth of its stamp, unless the robot hardly moved.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from inspatio_ros.commands import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inspatio import`."""
    parser.add_argument('bag', nargs='+', metavar='BAG', help='a rosbag2 folder or file, or ROS 1 .bag files')
    parser.add_argument('--image', required=True, metavar='TOPIC', help='rectified colour images, raw or compressed')
    parser.add_argument('--depth', required=True, metavar='TOPIC',
                        help='depth registered to them: 16UC1 (millimetres, compressedDepth too) or 32FC1 (metres)')
    parser.add_argument('--camera-info', metavar='TOPIC',
                        help="their intrinsics (default: camera_info beside the images' topic)")
    parser.add_argument('--map-frame', default='map', metavar='FRAME', help='frame of the poses, z up (default: map)')
    parser.add_argument('--tf', default='/tf', metavar='TOPIC',
                        help='transforms, with _static behind it those that stay (default: /tf)')
    parser.add_argument('--slop', type=_length, default=0.02, metavar='SECONDS',
                        help='how far apart the stamps of an image and its depth may be (default: 0.02)')
    parser.add_argument('--metres', type=_length, default=0.05, help='leave out what moved less than this (default: '
                        '0.05)...')
    parser.add_argument('--degrees', type=_length, default=3., help='...and turned less than this (default: 3)')
    parser.add_argument('--moving', action='store_true',
                        help='things move in it: keep every image, and render from that of the same time')
    parser.add_argument('--rectified', action='store_true',
                        help='the images are rectified, though camera_info has coefficients of distortion')
    parser.add_argument('--registered', action='store_true',
                        help='depth is registered to the images, though it is in another frame')
    parser.add_argument('--output', required=True, metavar='DIR', help='where to write the recording')
    parser.add_argument('--force', action='store_true', help='replace an earlier import in the output folder')


def _length(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0. <= value < math.inf:
        raise argparse.ArgumentTypeError(f'{text!r} is not a number from 0')
    return value


def run(args: argparse.Namespace) -> int:
    """Write the recording and open it; nothing is left behind where it cannot be."""
    from inspatio_ros.reference import open_reference
    from inspatio_ros.reference.bag import FILES, BagSource, import_bag
    source = BagSource(args.image, args.depth, args.camera_info, args.map_frame, args.tf, args.slop, args.metres,
                       args.degrees, args.moving, args.rectified, args.registered)
    with options.output_folder(args.output, FILES, args.force) as folder:
        report = import_bag(args.bag, source, folder, Path(args.output).resolve().name)
        open_reference(folder)
    print(f'{report}: {args.output}')
    print(f'whether they fit together says: inspatio render --hold-out 5 --generator render --reference {args.output}')
    return 0
