# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What a configured node has: subscriptions that move the robot, and a timer that shows the frames made.

All of it runs in the executor's thread and never waits for the worker.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped, Twist, TwistStamped
from nav_msgs.msg import Odometry
from rclpy.clock import Clock, ClockType
from rclpy.qos import qos_profile_sensor_data
from rosgraph_msgs.msg import Clock as ClockMessage

from inspatio_ros.geometry import invert
from inspatio_ros.ros import tf
from inspatio_ros.ros.diagnostics import RateMeter
from inspatio_ros.ros.drive import OdometryDrive, TwistDrive
from inspatio_ros.ros.messages import from_pose, from_twist, to_nanoseconds, to_stamp
from inspatio_ros.ros.pacing import Pacer, SimulatedClock
from inspatio_ros.ros.publishers import CameraPublisher, MapPublisher, MotionPublisher, overridable
from inspatio_ros.ros.world_map import WorldMap
from inspatio_ros.spatial.odometry import NANOSECONDS, PushStatus, upright

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleNode

    from inspatio_ros.ros.parameters import Settings
    from inspatio_ros.ros.worker import Worker
    from inspatio_ros.ros.world import Frame, World

#: Seconds between two warnings about the same thing.
_THROTTLE = 5.

_ODOMETRY_WARNINGS = {
    PushStatus.JUMPED: 'odometry jumped, or is faster than odometry.max_speed; frames go on from where it is now',
    PushStatus.FULL: 'frames are so far behind odometry that it cannot all be kept; the oldest frames are left out',
    PushStatus.GAP: 'odometry paused; frames go on from where it is now',
    PushStatus.RESTARTED: "odometry's clock was set back; the robot is put at its start again",
    PushStatus.BACKWARDS: 'odometry went back in time; the message is ignored',
    PushStatus.REFUSED: 'odometry holds NaN, infinity or a quaternion that is no rotation; the message is ignored',
}


class VirtualCamera:
    """Moves the robot as messages say and shows what it sees."""

    def __init__(self, node: LifecycleNode, settings: Settings, worker: Worker, world: World,
                 simulated: SimulatedClock) -> None:
        """Create publishers, subscriptions and the timer; nothing moves before `activate`."""
        self._node, self._worker, self._world = node, worker, world
        self.settings = settings
        self._simulated = simulated if settings.publish_clock else None
        self.pacer = Pacer(world.frame_rate)
        self.meter = RateMeter()
        self.active = self.heard = False
        self._last_odometry = time.monotonic()
        #: T_map_base and T_odom_base [4, 4] of the last frame that was shown; None before there is one.
        self._shown: tuple[np.ndarray, np.ndarray] | None = None
        self._odom_frame = settings.frame_id('odom')
        self._warned: dict[str, float] = {}
        self._parts = []
        self._subscriptions = []
        try:
            self._create()
        except BaseException:
            self.destroy()
            raise

    def _create(self) -> None:
        node, settings = self._node, self.settings
        self.camera = self._keep(CameraPublisher(node, settings, self._world.simulator.camera))
        self._motion = self._keep(MotionPublisher(node, settings))
        self._map_publisher = self._keep(MapPublisher(node, settings))
        self._tf = self._keep(tf.TransformPublisher(node, settings, self._world.start)) if tf.TFMessage else None
        self._clock_publisher = node.create_publisher(ClockMessage, '/clock', 10) if self._simulated else None
        self.world_map = WorldMap(self._world.simulator.reference, invert(self._world.start.T_world_map),
                                  settings.map_voxel_size, settings.map_max_frames)
        self._map_future: Future | None = None
        self._map_done = False
        self._subscribe()
        self._timer = self._create_timer()

    def _keep(self, part: CameraPublisher | MotionPublisher | MapPublisher | tf.TransformPublisher) -> object:
        self._parts.append(part)
        return part

    def _subscribe(self) -> None:
        if isinstance(self._world.drive, TwistDrive):
            self._listen(Twist, 'cmd_vel', lambda message: self._on_twist('cmd_vel', message))
            self._listen(TwistStamped, 'cmd_vel_stamped',
                         lambda message: self._on_twist('cmd_vel_stamped', message.twist))
        else:
            self._listen(Odometry, 'odom', self._on_odom)
        self._listen(PoseWithCovarianceStamped, 'initialpose', self._on_initialpose)

    def _listen(self, kind: type, topic: str, callback: object) -> None:
        self._subscriptions.append(self._node.create_subscription(
            kind, topic, callback, qos_profile_sensor_data, qos_overriding_options=overridable()))

    def _create_timer(self) -> object:
        """Show frames by the node's clock; by a steady one where that clock is not what paces them."""
        period, clock = self.pacer.period / NANOSECONDS, None
        if self._simulated is not None:
            # Our own /clock stands still until a frame is shown.
            factor = self.settings.real_time_factor
            period, clock = period / (factor or 10.), Clock(clock_type=ClockType.STEADY_TIME)
        elif isinstance(self._world.drive, OdometryDrive) or not self._node.get_parameter('use_sim_time').value:
            # Odometry's frames have their stamps; a clock that stops with a recording must not keep back the last of
            # them. And a timer by the machine's clock stands still for as long as that clock was set back.
            clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._pace = Pacer(1. / period)
        return self._node.create_timer(period, self._tick, clock=clock, autostart=False)

    # --- lifecycle ----------------------------------------------------------------------------------------------------

    def activate(self) -> None:
        """Go on, and begin with the first frame made from now on."""
        if self._tf is not None:
            self._tf.publish_static(to_stamp(self.now()))
        self.pacer.restart()
        self._pace.restart()
        self.meter.restart()
        self._last_odometry = time.monotonic()
        self.active = True
        self._listen_in()
        self._worker.resume()
        self._worker.run(True)
        self._timer.reset()

    def deactivate(self) -> None:
        """Stand still and show nothing; the block in the works is kept."""
        self.active = False
        self._worker.run(False)
        self._timer.cancel()

    def destroy(self) -> None:
        """Take everything from the node."""
        self.active = False
        for name in ('_timer', '_clock_publisher'):
            part = getattr(self, name, None)
            if part is not None:
                (self._node.destroy_timer if name == '_timer' else self._node.destroy_publisher)(part)
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        for part in self._parts:
            part.destroy(self._node)
        if hasattr(self, 'world_map'):
            self.world_map.close()

    def apply(self, settings: Settings) -> None:
        """Take parameters that changed while running."""
        self.settings = self.camera.settings = settings
        if isinstance(self._world.drive, TwistDrive):
            self._world.drive.configure(settings.limits, settings.cmd_vel_timeout)

    def reset(self) -> None:
        """Go back to the start."""
        self._worker.reset()
        self._forget_shown()

    def _forget_shown(self) -> None:
        self._motion.forget()
        self._shown = None
        self._suspend_alignment()

    def _suspend_alignment(self) -> None:
        if self._tf is not None:
            self._tf.suspend()

    def recover(self) -> None:
        """Have the generator begin anew, where the robot was last seen; call it before `activate`."""
        self._worker.recover(self._shown)

    # --- time ---------------------------------------------------------------------------------------------------------

    def now(self) -> int:
        """Give the time, nanoseconds: simulated time if that is ours to give, else the node's clock."""
        return self._simulated.now if self._simulated is not None else self._node.get_clock().now().nanoseconds

    # --- moving the robot ---------------------------------------------------------------------------------------------

    def _on_twist(self, topic: str, message: Twist) -> None:
        if self.active and not self._world.drive.command(from_twist(message), self.now() / NANOSECONDS):
            self._warn('twist', f'{topic} with NaN or infinity is ignored; this is said once', math.inf)

    def _on_odom(self, message: Odometry) -> None:
        if not self.active:
            return
        header, pose = message.header, message.pose.pose
        status = self._world.drive.push(
            to_nanoseconds(header.stamp), (pose.position.x, pose.position.y, pose.position.z),
            (pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w))
        if status is not PushStatus.ACCEPTED:
            stamp = to_nanoseconds(header.stamp) / NANOSECONDS
            self._warn(status.name, f'{_ODOMETRY_WARNINGS[status]} (stamp {stamp:.3f} s)')
        if status is PushStatus.RESTARTED:
            # Whoever listens is in the new time already: frames of the old one would spoil it.
            self._worker.drop()
            self._forget_shown()
        if status.is_kept:
            self._odom_frame = header.frame_id or self.settings.frame_id('odom')
            self._last_odometry = time.monotonic()
            self._worker.notify()
        base, ours = self.settings.frame_id('base'), self.settings.frame_id('map')
        if header.frame_id == ours:
            self._warn('map', f"odometry is given in frame {ours!r}, which is the recording's own here: no transform "
                       'can lead from one to the other; set frames.map to another name')
        if message.child_frame_id not in ('', base):
            self._warn('base', f'odometry is of frame {message.child_frame_id!r}, the camera is mounted on {base!r}; '
                       'set frames.base or frame_prefix so that both are one')

    def _warn(self, about: str, text: str, every: float = _THROTTLE) -> None:
        """Warn, once in `every` seconds about the same thing."""
        now = time.monotonic()
        if now - self._warned.get(about, -math.inf) >= every:
            self._warned[about] = now
            self._node.get_logger().warning(text)

    def _on_initialpose(self, message: PoseWithCovarianceStamped) -> None:
        wanted = self.settings.frame_id('map')
        if message.header.frame_id not in ('', wanted):
            self._warn('initialpose', f'initialpose is given in frame {message.header.frame_id!r}, expected '
                       f'{wanted!r}; it is ignored (set the fixed frame of RViz)')
            return
        T = from_pose(message.pose.pose)
        if not np.isfinite(T).all():
            self._warn('initialpose', 'initialpose is not a finite pose; it is ignored')
            return
        # RViz's tool gives place and heading on the floor; height and tilt stay those of the start.
        T_map_base = upright(T)
        T_map_base[2, 3] = self._world.start.T_map_base[2, 3]
        self._worker.move_to(T_map_base, self._shown[1] if self._shown else None)
        self._suspend_alignment()

    def seconds_since_odometry(self) -> float:
        """Give how long ago the last usable odometry came, or since when it is waited for, by the machine's clock."""
        return time.monotonic() - self._last_odometry

    # --- showing frames -----------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if not self.active:
            return
        self._listen_in()
        # More than one is due where a tick came late; the bound keeps a backlog from starving other callbacks.
        for _ in range(4):
            frame = self._worker.peek()
            if frame is None:
                break
            stamp = self._due(frame)
            if stamp is None:
                self.camera.prepare(frame)
                break
            frame = self._worker.take()
            if frame is not None:
                self.show(frame, stamp)
        self._keep_up_alignment()

    def _keep_up_alignment(self) -> None:
        """Say map -> odom for the newest odometry, so that a lidar's points need not wait for the next image."""
        if self._tf is not None and isinstance(self._world.drive, OdometryDrive):
            self._tf.keep_up(self._world.drive.newest_stamp)

    def _listen_in(self) -> None:
        """Tell the worker whether images are worth making."""
        self.heard = self.camera.look()
        self._worker.listen(self.heard or not self.settings.idle_unheard)

    def _due(self, frame: Frame) -> int | None:
        """Give the stamp of a frame if it is to be shown now."""
        if frame.stamp is not None:
            behind = self._worker.queued > frame.count
            return frame.stamp if behind or self._on_pace() else None
        if self._simulated is None:
            slips, stamp = self.pacer.slips, self.pacer.next_stamp(self.now(), frame.periods)
            if self.pacer.slips > slips:
                self.meter.note_late()
            return stamp
        if self.settings.real_time_factor and not self._on_pace(frame.periods):
            return None
        stamp = self._simulated.advance(self.pacer.period * frame.periods)
        self._clock_publisher.publish(ClockMessage(clock=to_stamp(stamp)))
        return stamp

    def _on_pace(self, periods: int = 1) -> bool:
        return self._pace.next_stamp(self._timer.clock.now().nanoseconds, periods) is not None

    def show(self, frame: Frame, stamp: int) -> None:
        """Publish a frame on every topic, all with one stamp in nanoseconds; small messages after the large."""
        self._shown = frame.T_map_base, invert(frame.T_map_odom) @ frame.T_map_base
        self.camera.publish(frame, stamp)
        if self._tf is not None:
            self._tf.publish(frame, stamp, self._odom_frame)
        self._motion.publish(frame, stamp, self._world.start.T_base_camera)
        self.meter.count(frame.periods * self.pacer.period / NANOSECONDS, frame.age)

    # --- the map ------------------------------------------------------------------------------------------------------

    def serve_map(self) -> None:
        """Fuse the map when someone first listens, and publish it once it is there; called now and then."""
        if self._map_done:
            return
        if self._map_future is None and self._map_publisher.heard():
            self._map_future = self.world_map.build()
        if self._map_future is not None and self._map_future.done() and self.active:
            self._map_done = True
            error = self._map_future.exception()
            if error is not None:
                self._node.get_logger().error(str(error))
                return
            fused = self._map_future.result()
            self._map_publisher.publish(fused.xyz, fused.rgb, self.now())
