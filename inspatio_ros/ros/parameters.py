# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node's parameters: each with its default, its description, what it may be, and when it may change.

`Settings` is the one table of them. Its fields are the values; their metadata declares them to ROS, checks what is set,
and prints the table of the documentation (`python -m inspatio_ros.ros.parameters`).
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.generators import FILLS, GENERATORS, LARGEST_SEED, SPEEDS
from inspatio_ros.spatial.clearance import ROBOT_RADIUS
from inspatio_ros.spatial.fusion import MAX_FRAMES, VOXEL_SIZE
from inspatio_ros.spatial.motion import CAMERA_HEIGHT, COMMAND_TIMEOUT, Limits, Mount
from inspatio_ros.spatial.odometry import MOST_POSES, OVERLOADS, OdometryLimits

if TYPE_CHECKING:
    from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
    from rclpy.lifecycle import LifecycleNode
    from rclpy.parameter import Parameter

#: When a parameter may change: at once while running; while the node is unconfigured; only when the node starts.
LIVE, CONFIGURE, START = 'live', 'configure', 'start'

#: Ways to be driven.
DRIVES = ('twist', 'odometry')

#: Where the camera sits on the robot: as the recording was held, or as `mount.xyz` and `mount.rpy` say.
MOUNTS = ('reference', 'given')

_HUGE = 1e6

#: What begins the names of parameters that rclpy declares with a topic.
_QOS_OVERRIDES = 'qos_overrides.'


@dataclass(frozen=True)
class Spec:
    """What a parameter is called and may be."""

    name: str
    description: str
    when: str
    bounds: tuple[float, float] | None = None
    step: int = 0
    choices: tuple[str, ...] | None = None
    #: How many numbers it is a list of; 0: it is no list.
    length: int = 0

    def problem(self, value: Any) -> str | None:
        """Say in one sentence why a value cannot be, None if it can."""
        if self.choices and value not in self.choices:
            return f'{self.name} {value!r} is unknown; choose one of {", ".join(self.choices)}'
        if self.length and len(value) != self.length:
            return f'{self.name} has {len(value)} numbers; it takes {self.length}'
        values = value if self.length else [value]
        for number in values:
            if isinstance(number, float) and not math.isfinite(number):
                return f'{self.name} {number} is not a finite number'
            if self.bounds and not self.bounds[0] <= number <= self.bounds[1]:
                return f'{self.name} {number} is out of range; it may be {self.range_text()}'
        if self.step and (value - int(self.bounds[0])) % self.step:
            below = value // self.step * self.step
            return f'{self.name} {value} is not a multiple of {self.step}; try {below} or {below + self.step}'
        return None

    def range_text(self) -> str:
        """Say what values are good."""
        if self.choices:
            return ', '.join(self.choices)
        if not self.bounds:
            return ''
        low, high = (bound if isinstance(bound, int) else f'{bound:g}' for bound in self.bounds)
        return f'{low} to {high}' + (f', multiples of {self.step}' if self.step else '')


def _parameter(default: Any, description: str, when: str = CONFIGURE, *, name: str = '',
               bounds: tuple[float, float] | None = None, step: int = 0,
               choices: tuple[str, ...] | None = None) -> Any:
    length = len(default) if isinstance(default, tuple) else 0
    spec = Spec(name, description, when, bounds, step, choices, length)
    return dataclasses.field(default=default, metadata={'spec': spec})


@dataclass(frozen=True)
class Settings:
    """The value of every parameter."""

    reference: str = _parameter('sample', "the recording: a folder, or 'sample' for the built-in room")
    generator: str = _parameter('render', 'what completes the render', choices=GENERATORS)
    weights: str = _parameter('', "folder of the generator's weights; empty: those in INSPATIO_WEIGHTS, "
                             "if it holds this generator's, else the packaged ones")
    device: str = _parameter('auto', "torch device: 'cpu', 'cuda', 'cuda:1'; 'auto' takes the GPU where there is one")
    width: int = _parameter(0, "image width in pixels; 0: the generator's own", bounds=(0, 4096), step=16)
    height: int = _parameter(0, "image height in pixels; 0: the generator's own", bounds=(0, 4096), step=16)
    frame_rate: float = _parameter(0., "frames per second; 0: the generator's own", bounds=(0., 120.))
    frames_per_block: int = _parameter(0, 'frames that the render generator makes at once; 0: its own choice',
                                       bounds=(0, 64))
    speed: str = _parameter('exact', 'how nano and 1.3b are made fast: exact (the numbers of plain but for rounding), '
                            'compiled (a minute at the first start), fast (8-bit on a CPU, compiled on a GPU), float8, '
                            'plain', choices=SPEEDS)
    texture: bool = _parameter(False, 'nano: texture in what is made up; it looks more like the scene, and is farther '
                               'from it pixel by pixel')
    seed: int = _parameter(0, 'same seed, recording and poses: same frames (but for rounding, on a GPU)',
                           bounds=(0, LARGEST_SEED))
    fill: str = _parameter('smooth', 'how the render generator fills what was not seen', choices=FILLS)
    max_views: int = _parameter(4, 'frames of a static recording that are fused into one render', bounds=(1, 16))

    drive: str = _parameter('twist', 'twist: moved by cmd_vel; odometry: follows odom exactly, stamps kept',
                            choices=DRIVES)
    overload: str = _parameter('slow_down', 'when generation is slower than real time: slow_down (scene time runs '
                               f'slower, and frames are left out only where more than {MOST_POSES} poses wait) or drop '
                               '(frames are left out)', choices=OVERLOADS)
    odometry_max_speed: float = _parameter(
        OdometryLimits.linear_speed, 'odometry: a pose further from the one before than it allows is a jump, m/s',
        name='odometry.max_speed', bounds=(1e-3, _HUGE))
    idle_unheard: bool = _parameter(True, 'make no images while nobody subscribes to a camera topic', LIVE)
    cmd_vel_timeout: float = _parameter(COMMAND_TIMEOUT, 'seconds after which a velocity command no longer counts; '
                                        'each counts for one block', LIVE, bounds=(0.01, 60.))
    limits_linear_speed: float = _parameter(Limits.linear_speed, 'fastest it moves, m/s', LIVE,
                                            name='limits.linear_speed', bounds=(1e-3, _HUGE))
    limits_angular_speed: float = _parameter(Limits.angular_speed, 'fastest it turns, rad/s', LIVE,
                                             name='limits.angular_speed', bounds=(1e-3, _HUGE))
    limits_linear_acceleration: float = _parameter(
        Limits.linear_acceleration, 'm/s^2', LIVE, name='limits.linear_acceleration', bounds=(1e-3, _HUGE))
    limits_angular_acceleration: float = _parameter(
        Limits.angular_acceleration, 'rad/s^2', LIVE, name='limits.angular_acceleration', bounds=(1e-3, _HUGE))
    clearance_enabled: bool = _parameter(True, 'twist: do not drive through known geometry', name='clearance.enabled')
    clearance_radius: float = _parameter(ROBOT_RADIUS, "the robot's radius, metres", name='clearance.radius',
                                         bounds=(0.01, 10.))

    mount_source: str = _parameter('reference', 'how the camera sits on base_link: reference (mount.height above it, '
                                   "pitch and roll as the recording's first frame) or given (mount.xyz, mount.rpy)",
                                   name='mount.source', choices=MOUNTS)
    mount_height: float = _parameter(CAMERA_HEIGHT, 'metres of the camera above base_link, for source reference',
                                     name='mount.height', bounds=(-100., 100.))
    mount_xyz: tuple[float, ...] = _parameter(Mount.xyz, 'metres of camera_link in base_link, for source given',
                                              name='mount.xyz', bounds=(-100., 100.))
    mount_rpy: tuple[float, ...] = _parameter(Mount.rpy, 'radians roll, pitch, yaw of camera_link in base_link, for '
                                              'source given', name='mount.rpy', bounds=(-2 * math.pi, 2 * math.pi))

    frame_prefix: str = _parameter('', "put before every frame id, for example 'robot1/'", START)
    frames_map: str = _parameter('map', 'z up, origin at the start', START, name='frames.map')
    frames_odom: str = _parameter('odom', "the odometry's frame, where its messages name none", START,
                                  name='frames.odom')
    frames_base: str = _parameter('base_link', "the robot's body", START, name='frames.base')
    frames_camera: str = _parameter('camera_link', 'the camera, x forward', START, name='frames.camera')
    frames_optical: str = _parameter('camera_optical_frame', 'the camera, z forward', START, name='frames.optical')

    publish_tf: bool = _parameter(True, 'map -> odom, and in twist mode odom -> base_link')
    publish_map_tf: bool = _parameter(True, 'with publish_tf: map -> odom; false where SLAM or localisation says it')
    publish_mount_tf: bool = _parameter(True, 'base_link -> camera_link -> camera_optical_frame, once; false where the '
                                        "robot's own description says it")
    publish_odom: bool = _parameter(True, 'twist: publish the integrated pose on odom')
    publish_clock: bool = _parameter(False, 'twist: publish /clock, which advances by one period with each frame')
    real_time_factor: float = _parameter(1., 'with publish_clock: simulated seconds per second at most; 0: as fast as '
                                         'frames are made', bounds=(0., 1000.))
    jpeg_quality: int = _parameter(80, 'of camera/image_raw/compressed', LIVE, bounds=(1, 100))
    points_stride: int = _parameter(1, 'camera/points takes every n-th row and column', LIVE,
                                    name='points.stride', bounds=(1, 64))
    path_length: int = _parameter(500, 'poses of the path that are kept', name='path.length', bounds=(2, 10000))
    path_rate: float = _parameter(2., 'path messages per second at most', name='path.rate', bounds=(0.1, 30.))
    map_voxel_size: float = _parameter(VOXEL_SIZE, 'edge of the voxels that map_points is thinned to, metres',
                                       name='map.voxel_size', bounds=(0.001, 10.))
    map_max_frames: int = _parameter(MAX_FRAMES, 'frames of the recording that map_points is fused from',
                                     name='map.max_frames', bounds=(1, 100000))
    map_file: str = _parameter('', "PLY file that ~/save_map writes; empty: inspatio_map.ply, or "
                               "inspatio_map_<namespace>.ply, in the folder of ROS' own files (~/.ros, or ROS_HOME)",
                               LIVE, name='map.file')
    autostart: bool = _parameter(True, 'the executable configures and activates itself at start', START)

    @property
    def limits(self) -> Limits:
        """What the robot can do."""
        return Limits(self.limits_linear_speed, self.limits_angular_speed, self.limits_linear_acceleration,
                      self.limits_angular_acceleration)

    @property
    def mount(self) -> Mount | None:
        """How the camera sits on the robot, None for as the recording was held."""
        return Mount(tuple(self.mount_xyz), tuple(self.mount_rpy)) if self.mount_source == 'given' else None

    def frame_id(self, name: str) -> str:
        """Give a frame's id, prefixed: 'map', 'odom', 'base', 'camera' or 'optical'."""
        return self.frame_prefix + getattr(self, f'frames_{name}')


def check_frames(settings: Settings) -> None:
    """Raise ConfigurationError for frame ids that tf2 would not take."""
    seen: dict[str, str] = {}
    for name in ('map', 'odom', 'base', 'camera', 'optical'):
        parameter, frame = f'frames.{name}', settings.frame_id(name)
        if not getattr(settings, f'frames_{name}'):
            raise ConfigurationError(f'parameter {parameter} is empty; every frame needs a name')
        if frame.startswith('/'):
            raise ConfigurationError(f'frame {frame!r} ({parameter}) begins with a slash, which tf2 refuses; leave it '
                                     f'out of {"frame_prefix" if settings.frame_prefix else parameter}')
        if frame in seen:
            raise ConfigurationError(f'parameters {seen[frame]} and {parameter} are both {frame!r}; frames must differ')
        seen[frame] = parameter


def specs() -> dict[str, Spec]:
    """Give what is known of each parameter, by its field in Settings."""
    return {item.name: dataclasses.replace(item.metadata['spec'], name=item.metadata['spec'].name or item.name)
            for item in dataclasses.fields(Settings)}


class Parameters:
    """Settings declared as parameters of a node, and kept up to date.

    Raises ConfigurationError at once if the node was started with a value that cannot be.
    """

    def __init__(self, node: LifecycleNode, is_configured: Callable[[], bool],
                 changed: Callable[[Settings], None]) -> None:
        """`is_configured` says whether what is read at configure is fixed now; `changed` gets new settings."""
        self._specs = specs()
        self._fields = {spec.name: name for name, spec in self._specs.items()}
        self._is_configured, self._changed = is_configured, changed
        self._declared = False
        # What the node was started with; rclpy keeps it to itself, and says nothing of what nobody declared.
        self._given: dict[str, Parameter] = getattr(node, '_parameter_overrides', {})
        node.add_on_set_parameters_callback(self._judge)
        values = {name: self._declare(node, name) for name in self._specs}
        self.settings = Settings(**values)
        check_frames(self.settings)
        self._declared = True
        node.add_post_set_parameters_callback(self._take)

    def _declare(self, node: LifecycleNode, field: str) -> Any:
        from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
        spec, default = self._specs[field], getattr(Settings, field)
        default = list(default) if isinstance(default, tuple) else default
        try:
            value = node.declare_parameter(spec.name, default, _descriptor(spec, default)).value
        except InvalidParameterTypeException as error:
            kind = type(default[0] if isinstance(default, list) else default).__name__
            hint = ' (write 1.0, not 1)' if kind == 'float' else ''
            raise ConfigurationError(f'parameter {spec.name} has the wrong type; it must be '
                                     f'{"a list of " if isinstance(default, list) else ""}{kind}{hint}') from error
        except InvalidParameterValueException as error:
            given = self._given.get(spec.name)
            problem = given is not None and spec.problem(given.value)
            raise ConfigurationError(f'parameter {problem or str(error).partition("Reason: ")[2]}') from error
        return tuple(value) if isinstance(default, list) else value

    def _judge(self, parameters: list[Parameter]) -> SetParametersResult:
        """Accept or refuse values before they are set."""
        from rcl_interfaces.msg import SetParametersResult
        for parameter in parameters:
            field = self._fields.get(parameter.name)
            if field is None:
                continue
            spec, value = self._specs[field], parameter.value
            reason = spec.problem(value)
            if reason is None and self._declared and spec.when == CONFIGURE and self._is_configured():
                reason = (f'{spec.name} is read when the node is configured; clean the node up, set it, and configure '
                          'the node again')
            if reason is not None:
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    def _take(self, parameters: list[Parameter]) -> None:
        new = {self._fields[p.name]: tuple(p.value) if self._specs[self._fields[p.name]].length else p.value
               for p in parameters if p.name in self._fields}
        if new:
            self.settings = dataclasses.replace(self.settings, **new)
            self._changed(self.settings)

    def idle_overrides(self, node: LifecycleNode) -> list[str]:
        """Name the overrides of quality of service that no topic has taken; ask when all of them exist."""
        return [f'parameter {name} changes nothing: no topic here of that name (with its namespace, after remapping) '
                'lets that be overridden' for name in sorted(self._given)
                if name.startswith(_QOS_OVERRIDES) and not node.has_parameter(name)]

    def unknown(self) -> list[str]:
        """Name the parameters that the node was started with and no one declared, each with what may be meant."""
        # Declared by rclpy itself, or when the publishers are made.
        ignored = (_QOS_OVERRIDES, 'use_sim_time', 'start_type_description_service')
        lines = []
        for name in sorted(self._given):
            if name not in self._fields and not name.startswith(ignored):
                near = difflib.get_close_matches(name, self._fields, 1)
                lines.append(f'parameter {name} is unknown and changes nothing'
                             + (f'; did you mean {near[0]}?' if near else ''))
        return lines


def _descriptor(spec: Spec, default: Any) -> ParameterDescriptor:
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
    message = ParameterDescriptor(description=spec.description, read_only=spec.when == START)
    if spec.choices:
        message.additional_constraints = f'one of {", ".join(spec.choices)}'
    elif spec.when == CONFIGURE:
        message.additional_constraints = 'changes while the node is unconfigured'
    # Lists may not carry a range; Spec.problem checks theirs.
    if spec.bounds and isinstance(default, int):
        low, high = (int(bound) for bound in spec.bounds)
        message.integer_range = [IntegerRange(from_value=low, to_value=high, step=spec.step)]
    elif spec.bounds and isinstance(default, float):
        message.floating_point_range = [FloatingPointRange(from_value=spec.bounds[0], to_value=spec.bounds[1])]
    return message


def table() -> str:
    """Give the documentation's tables, those that change at run time apart from those that do not."""
    titles = {LIVE: 'Changed at run time', CONFIGURE: 'Read when the node is configured',
              START: 'Read when the node starts (read-only)'}
    parts = []
    for when, title in titles.items():
        rows = [f'### {title}', '', '| parameter | default | may be | what |', '|---|---|---|---|']
        for field, spec in specs().items():
            if spec.when == when:
                default = getattr(Settings, field)
                shown = list(default) if isinstance(default, tuple) else default
                rows.append(f'| `{spec.name}` | `{shown!r}` | {spec.range_text()} | {spec.description} |')
        parts.append('\n'.join(rows))
    return '\n\n'.join(parts)


if __name__ == '__main__':
    print(table())
