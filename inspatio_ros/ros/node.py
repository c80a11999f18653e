# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The node: a managed lifecycle around a virtual camera, its services and what it says about itself."""

from __future__ import annotations

import time
import traceback
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import Any

import numpy as np
import rclpy.task
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_srvs.srv import Trigger

from inspatio_ros.errors import ConfigurationError, InspatioError
from inspatio_ros.memory import resident_mebibytes
from inspatio_ros.ros import diagnostics, tf
from inspatio_ros.ros.drive import OdometryDrive
from inspatio_ros.ros.messages import to_stamp
from inspatio_ros.ros.pacing import SimulatedClock
from inspatio_ros.ros.parameters import Parameters, Settings
from inspatio_ros.ros.virtual_camera import VirtualCamera
from inspatio_ros.ros.worker import Worker
from inspatio_ros.ros.world import World, open_world
from inspatio_ros.ros.world_map import default_map_file
from inspatio_ros.spatial.odometry import NANOSECONDS

#: Seconds without odometry after which the node says that it waits for it.
_SILENCE = 2.
#: Seconds that frames may be behind odometry beyond the two blocks that are planned and shown, before it is said.
_BEHIND = 1.
#: Seconds that a block in the works is waited for at the end; and a generator that is still loaded, which looks at
#: nothing meanwhile. (`ros2 launch` waits five before it sends another signal.)
_LAST_BLOCK, _LAST_LOOK = 30., 2.
#: Seconds between two lines that say that it still loads.
_PATIENCE = 10.


class InspatioNode(LifecycleNode):
    """Publishes what a camera in a recorded world sees.

    configure: open the recording, load the generator, warm up. activate: publish. deactivate: pause, keep all. cleanup:
    free the device. A transition that cannot be made fails with one line that says what is missing.
    """

    def __init__(self, node_name: str = 'inspatio', **kwargs: Any) -> None:
        """Take what LifecycleNode takes. Raises ConfigurationError if a parameter has a value that cannot be."""
        super().__init__(node_name, **kwargs)
        self._camera: VirtualCamera | None = None
        self._worker: Worker | None = None
        self._world: World | None = None
        self._failure: BaseException | None = None
        #: Whether a thread that did not end in time may still be at work.
        self.left_behind = False
        self._simulated = SimulatedClock()
        self._table = Parameters(self, lambda: self._worker is not None, self._apply)
        for line in self._table.unknown():
            self.get_logger().warning(line)
        for name in ('reset', 'pause', 'resume'):
            self.create_service(Trigger, f'~/{name}', getattr(self, f'_on_{name}'))
        # It waits for the map: in the group of the others it would keep all of them, and the frames, waiting too.
        self.create_service(Trigger, '~/save_map', self._on_save_map, callback_group=ReentrantCallbackGroup())
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._failed = self.create_guard_condition(self._on_failed)
        # The machine's figures are by the machine's clock: they are said in a simulation that stands still, too.
        self.create_timer(1., self._on_second, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @property
    def settings(self) -> Settings:
        """The parameters' values."""
        return self._table.settings

    @property
    def camera(self) -> VirtualCamera | None:
        """What a configured node has, None before."""
        return self._camera

    @property
    def worker(self) -> Worker | None:
        """Who makes the frames of a configured node, None before."""
        return self._worker

    def bring_up(self) -> bool:
        """Configure and activate; False if that failed, which was then said."""
        return (self.trigger_configure() == TransitionCallbackReturn.SUCCESS
                and self.trigger_activate() == TransitionCallbackReturn.SUCCESS)

    def _LifecycleNodeMixin__change_state(self, transition_id: int) -> TransitionCallbackReturn:  # noqa: N802
        """Refuse a transition that the state does not have, where rclpy of Jazzy ends the node (ros2/rclpy 1209)."""
        machine = self._state_machine
        if machine.initialized and transition_id not in {known[0] for known in machine.available_transitions}:
            self.get_logger().warning(f'transition {transition_id} is refused: the node is {machine.current_state[1]}')
            return TransitionCallbackReturn.FAILURE
        return super()._LifecycleNodeMixin__change_state(transition_id)

    # --- transitions --------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open the recording, load the generator, warm up."""
        self._failure = None
        start = time.monotonic()
        try:
            self._configure()
        except ExternalShutdownException:
            self._free()
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # noqa: BLE001 - rclpy would swallow it without a word
            self.get_logger().error(f'cannot configure: {_one_line(error)}')
            self.get_logger().debug(traceback.format_exc())
            self._free()
            return TransitionCallbackReturn.FAILURE
        simulator = self._world.simulator
        self.get_logger().info(
            f'ready after {time.monotonic() - start:.1f} s: {simulator.reference.name}, generator {simulator.name}, '
            f'{simulator.width}x{simulator.height} at {self._world.frame_rate:g} frames per second on '
            f'{simulator.device}, driven by {self.settings.drive}')
        if simulator.reference.scale == 'relative':
            self.get_logger().warning('the recording is of relative scale: depth, points, transforms, speeds, the '
                                      "robot's radius and heights are in its own unit, not in metres")
        return super().on_configure(state)

    def _configure(self) -> None:
        settings = self.settings
        if settings.publish_clock and settings.drive == 'odometry':
            raise ConfigurationError('publish_clock needs drive: twist; with drive: odometry time comes with the '
                                     'odometry, which a stack on our clock would never send')
        self.get_logger().info(f'loading {settings.reference} and generator {settings.generator}')
        self._worker = Worker(self._note_failure)
        self._world = self._wait(self._worker.open(lambda: open_world(settings, self._now)))
        self._camera = VirtualCamera(self, settings, self._worker, self._world, self._simulated)
        for line in self._table.idle_overrides(self):
            self.get_logger().warning(line)
        if tf.TFMessage is None:
            self.get_logger().warning('tf2_msgs cannot be imported, so no transforms are published; install '
                                      'ros-<distro>-tf2-msgs, or build it with make setup')

    def _now(self) -> float:
        """Give the node's clock in seconds, from any thread."""
        nanoseconds = self._simulated.now if self.settings.publish_clock else self.get_clock().now().nanoseconds
        return nanoseconds / NANOSECONDS

    def _wait(self, future: Future) -> World:
        """Wait for the worker to open the world, as long as ROS runs."""
        start, said = time.monotonic(), 0.
        while True:
            try:
                return future.result(timeout=0.2)
            except FutureTimeoutError:
                if future.done():
                    raise
            if not self.context.ok():
                raise ExternalShutdownException
            waited = time.monotonic() - start
            if waited - said >= _PATIENCE:
                said = waited
                self.get_logger().info(f'still loading after {waited:.0f} s')

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Publish."""
        result = super().on_activate(state)
        self._go_on()
        return result

    def _go_on(self) -> None:
        if self._failure is not None:
            # The generator stopped in the middle of a block, which nothing can follow.
            self._camera.recover()
            self._failure = None
        self._camera.activate()

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Pause; keep recording and weights."""
        self._camera.deactivate()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the device and forget the recording."""
        self._free()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free all."""
        self._free()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free all, so that the node can be configured again."""
        self._free()
        return super().on_error(state)

    def _free(self) -> None:
        camera, worker, patience = self._camera, self._worker, _LAST_BLOCK if self._world else _LAST_LOOK
        self._camera = self._worker = self._world = None
        if camera is not None:
            camera.destroy()
        if worker is not None and not worker.close(timeout=patience):
            self.left_behind = True
            self.get_logger().warning(f'what was in the works did not end in {patience:.0f} s; its thread is left '
                                      'behind')
        # It holds the block that failed, and so the memory that it took.
        self._failure = None

    def destroy_node(self) -> None:
        """End the worker, then the node."""
        self._free()
        super().destroy_node()

    def _apply(self, settings: Settings) -> None:
        if self._camera is not None:
            self._camera.apply(settings)

    def _note_failure(self, error: BaseException) -> None:
        """Take word from the worker's thread that generation ended."""
        self._failure = error
        self._failed.trigger()

    def _on_failed(self) -> None:
        error = self._failure
        if error is None or self._camera is None:
            return
        self.get_logger().error(f'generation ended: {_one_line(error)}')
        self.get_logger().debug(''.join(traceback.format_exception(error)))
        if self._camera.active:
            self.trigger_deactivate()

    # --- services -----------------------------------------------------------------------------------------------------

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._refuse(response):
            return response
        self._camera.reset()
        return _answer(response, True, f'back at the start, seed {self.settings.seed}, with the next block')

    def _on_pause(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._refuse(response, active=True):
            return response
        self._camera.deactivate()
        return _answer(response, True, 'paused')

    def _on_resume(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._refuse(response):
            return response
        if self._state_machine.current_state[1] != 'active':
            return _answer(response, False, 'the node is not active; activate it')
        if self._camera.active:
            return _answer(response, True, 'it was not paused')
        self._go_on()
        return _answer(response, True, 'resumed')

    async def _on_save_map(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._refuse(response):
            return response
        try:
            path = Path(self.settings.map_file or default_map_file(self.get_namespace())).expanduser()
        except RuntimeError as error:
            return _answer(response, False, f'{self.settings.map_file}: {error}')
        done, executor = rclpy.task.Future(executor=self.executor), self.executor

        def wake(saved: Future) -> None:
            done.set_result(saved)
            # An executor that spins looks at what is awaited only when something else happens.
            executor.wake()
        self._camera.world_map.save(path).add_done_callback(wake)
        saved = await done
        if saved.cancelled():
            return _answer(response, False, 'the node was cleaned up meanwhile')
        error = saved.exception()
        if error is not None:
            self.get_logger().error(str(error))
            return _answer(response, False, _one_line(error))
        return _answer(response, True, f'{saved.result()} points written to {path}')

    def _refuse(self, response: Trigger.Response, active: bool = False) -> bool:
        """Say that the node is not ready for a service, if it is not."""
        if self._camera is None:
            _answer(response, False, 'the node is not configured')
        elif active and not self._camera.active:
            _answer(response, False, 'the node is not running')
        else:
            return False
        return True

    # --- what it says about itself ------------------------------------------------------------------------------------

    def _on_second(self) -> None:
        if self._camera is not None:
            self._camera.serve_map()
        if self._diagnostics.get_subscription_count():
            level, message = self._judge()
            self._diagnostics.publish(diagnostics.status(
                f'{self.get_fully_qualified_name().lstrip("/")}: generation', self.settings.reference, level, message,
                self._figures(), to_stamp(self.get_clock().now().nanoseconds)))

    def _judge(self) -> tuple[bytes, str]:
        """Give the level and the sentence that sum the node up."""
        camera = self._camera
        if self._failure is not None:
            return diagnostics.ERROR, f'generation ended: {_one_line(self._failure)}'
        if camera is None or not camera.active:
            state = self._state_machine.current_state[1]
            return diagnostics.OK, 'paused' if state == 'active' else state
        if isinstance(self._world.drive, OdometryDrive):
            if camera.seconds_since_odometry() > _SILENCE:
                return diagnostics.WARN, f'no odometry for {_SILENCE:.0f} s: nothing to show'
            if self._world.drive.lag > _BEHIND + 2 * self._world.block_seconds:
                return diagnostics.WARN, f'slower than real time: {self._world.drive.lag:.1f} s behind odometry'
        elif self.get_parameter('use_sim_time').value:
            # That clock may run at any rate, or stand still.
            if not self.get_clock().now().nanoseconds:
                return diagnostics.WARN, 'use_sim_time is set and nobody publishes /clock: nothing is shown'
            if camera.meter.late:
                return diagnostics.WARN, 'slower than /clock: frames come too late'
        elif not camera.meter.keeps_up() and not self.settings.publish_clock:
            return diagnostics.WARN, f'slower than real time: {camera.meter.rates()[1]:.2f}'
        if tf.TFMessage is None:
            return diagnostics.WARN, 'transforms are off: tf2_msgs cannot be imported'
        return diagnostics.OK, 'running' if camera.heard else 'running; nobody subscribes to a camera topic'

    def _figures(self) -> dict[str, object]:
        """Give the key-value pairs of the diagnostics; times in milliseconds, memory in MiB."""
        values: dict[str, object] = {'generator': self.settings.generator, 'tf': 'on' if tf.TFMessage else 'off',
                                     'overload': self.settings.overload,
                                     'memory MiB': resident_mebibytes()}
        if self._camera is None:
            return values
        camera, simulator, report = self._camera, self._world.simulator, self._worker.report()
        rate, factor = camera.meter.rates()
        first, latencies = (np.array(seconds or [np.nan]) * 1e3
                            for seconds in (report.first_latencies, report.latencies))
        values |= {
            'device': simulator.device, 'size': f'{simulator.width}x{simulator.height}',
            'frame rate Hz': rate, 'frame rate wanted Hz': float(self._world.frame_rate), 'real-time factor': factor,
            'first frame latency ms': float(np.median(first)), 'first frame latency max ms': float(first.max()),
            'block latency ms': float(np.median(latencies)), 'block latency max ms': float(latencies.max()),
            'pose age ms': camera.meter.age * 1e3, 'blocks': report.blocks, 'frames queued': report.queued,
            'frames dropped': report.left_out + getattr(self._world.drive, 'dropped', 0),
            'frames late': camera.pacer.slips}
        if isinstance(self._world.drive, OdometryDrive):
            values['behind odometry s'] = self._world.drive.lag
        values |= {f'stage {name} ms': float(seconds) * 1e3 for name, seconds in report.timings.items()}
        held = diagnostics.device_mebibytes(simulator.device)
        if held is not None:
            values['device memory MiB'] = held
        return values


def _answer(response: Trigger.Response, success: bool, message: str) -> Trigger.Response:
    response.success, response.message = success, message
    return response


def _one_line(error: BaseException) -> str:
    """Give what a user needs of an error: a sentence of ours as it is, any other with its kind."""
    text = ' '.join(str(error).split())
    return text if isinstance(error, InspatioError) else f'{type(error).__name__}: {text}'
