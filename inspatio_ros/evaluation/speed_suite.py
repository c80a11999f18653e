# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Everything that is to be known about the speed of the large generator on one device, in one run.

Weights are random: speed does not depend on their values. Every part is written as soon as it is measured, and what
does not fit into the time is named, so that a run that is cut short still tells what it found; a setting that fails is
named with its error, and the others are measured.
"""

from __future__ import annotations

import gc
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from inspatio_ros.config import GeneratorConfig
from inspatio_ros.evaluation.benchmark import Driven, machine, median_p95, memory
from inspatio_ros.simulator import WorldSimulator
from inspatio_ros.spatial import splat_triton
from inspatio_ros.spatial.constraint import SpatialConstraint
from inspatio_ros.spatial.host import HostCopies
from inspatio_ros.spatial.pixels import to_bytes
from inspatio_ros.spatial.render import splat
from inspatio_ros.star.attention import median_seconds
from inspatio_ros.star.float8 import unsupported
from inspatio_ros.star.pipeline import StarPipeline
from inspatio_ros.star.presets import RELEASED, TINY
from inspatio_ros.star.speed import SPEEDS

if TYPE_CHECKING:
    from inspatio_ros.reference.base import Reference

#: Edge of the matrices whose product gives the device's rate, by whether it is a GPU.
_MATRIX = {True: 8192, False: 512}
#: Seconds that a setting may take at least; with less left it is not started.
_LEAST = 45.
_WARM_BLOCKS = 3
#: What a GPU is asked for, the figures that matter first: compiling the released size takes minutes.
_GPU_SPEEDS = ('fast', 'float8', 'exact', 'plain')


@dataclass(frozen=True)
class Plan:
    """What to measure: at which size, on which device, which settings, how long, how many blocks."""

    config: GeneratorConfig
    device: torch.device
    speeds: tuple[str, ...]
    seconds: float
    blocks: int

    @classmethod
    def make(cls, device: str, tiny: bool, speeds: tuple[str, ...] | None, seconds: float) -> Plan:
        """Plan for the released size, or for one that a CPU can take."""
        return cls(TINY if tiny else RELEASED, torch.device(device),
                   speeds or (tuple(SPEEDS) if tiny else _GPU_SPEEDS), seconds,
                   5 if tiny else 20)


Keep = Callable[[str, Any], None]


def run_suite(plan: Plan, reference: Reference, path: Callable[[float], Iterator[np.ndarray]], keep: Keep,
              tell: Callable[[str], None]) -> bool:
    """Measure all of it; `keep(name, figures)` is called with every part, `path` gives poses at a frame rate.

    Gives False if a setting failed.
    """
    deadline = time.monotonic() + plan.seconds
    keep('machine', machine(str(plan.device)))
    keep('config', {'name': plan.config.name, 'width': plan.config.width, 'height': plan.config.height,
                    'layers': plan.config.transformer.num_layers, 'speeds': list(plan.speeds)})
    rates = matrix_rates(plan.device)
    keep('matrix_tflops', rates)
    tell(f'matrix products: {rates}')
    keep('splat_ms', splat_times(plan.config, plan.device))
    skipped, failed = {}, {}
    for speed in plan.speeds:
        lacking = unsupported(plan.device) if speed == 'float8' else ''
        if not lacking and deadline - time.monotonic() < (0 if plan.config is TINY else _LEAST):
            lacking = 'no time was left'
        if lacking:
            skipped[speed] = lacking
            tell(f'{speed}: not measured, {lacking}')
            continue
        try:
            figures = measure_speed(plan, speed, reference, path, rates)
        # Whatever it is: there may be no second run on this device, and the other settings count too.
        except Exception as error:
            failed[speed] = traceback.format_exc()
            keep('failed', failed)
            tell(f'{speed}: FAILED, {type(error).__name__}: {error}')
            continue
        keep(f'speeds.{speed}', figures)
        tell(f'{speed}: {figures["frames_per_second"]:.1f} frames per second, {figures["first_pixel_ms"]["median"]:.0f}'
             f' ms to the first pixel, {figures["share_of_matrix_rate"]:.0%} of the matrix rate')
    keep('skipped', skipped)
    if deadline > time.monotonic():
        keep('error', precision_errors(plan))
    keep('seconds', round(plan.seconds - (deadline - time.monotonic()), 1))
    return not failed


def matrix_rates(device: torch.device) -> dict[str, float]:
    """Measure TFLOP/s of a large matrix product, by type."""
    size = _MATRIX[device.type == 'cuda']
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        multiply = partial(torch.matmul, a, b)
        multiply()
        rates[str(dtype).removeprefix('torch.')] = _tflops(multiply, size, device)
    if not unsupported(device):
        a, b = (x.to(torch.float8_e4m3fn) for x in (a, b))
        one = torch.ones((), device=device)
        multiply = partial(torch._scaled_mm, a, b.T.contiguous().T, scale_a=one, scale_b=one,
                           out_dtype=torch.bfloat16, use_fast_accum=True)
        multiply()
        rates['float8'] = _tflops(multiply, size, device)
    return rates


def _tflops(multiply: Callable[[], object], size: int, device: torch.device) -> float:
    return _digits(2 * size**3 / median_seconds(multiply, device, 10) / 1e12)


def splat_times(config: GeneratorConfig, device: torch.device) -> dict[str, Any]:
    """Time the splat of a block's frames, one source view each, by every kernel that runs on the device."""
    frames, width, height = config.frames_per_block, config.width, config.height
    generator = torch.Generator().manual_seed(0)
    image = (torch.rand(frames, 3, height, width, generator=generator) * 2 - 1).to(device)
    z_depth = (1. + torch.rand(frames, height, width, generator=generator)).to(device)
    K = np.array([[width * 0.6, 0., width / 2], [0., width * 0.6, height / 2], [0., 0., 1.]])
    T = np.tile(np.eye(4), (frames, 1, 1))
    T[:, 0, 3] = 0.05
    kernels = {'torch': partial(splat, kernel='torch')}
    if device.type == 'cpu':
        kernels['numba'] = partial(splat, kernel='numba')
    elif splat_triton.AVAILABLE:
        kernels['triton'] = splat_triton.splat_triton
    times, results = {}, {}
    for name, kernel in kernels.items():
        call = partial(kernel, image, z_depth, K, T, K, (width, height))
        results[name] = call()
        times[name] = round(1e3 * median_seconds(call, device, 5), 3)
    differences = {f'{name}_from_torch': float((other.image - results['torch'].image).abs().mean())
                   for name, other in results.items() if name != 'torch'}
    return {'frames': frames, **times, **differences}


def measure_speed(plan: Plan, speed: str, reference: Reference, path: Callable[[float], Iterator[np.ndarray]],
                  rates: dict[str, float]) -> dict[str, Any]:
    """Measure one setting: stages, rate, latency, memory, the share of the device's matrix rate."""
    _clean(plan.device)
    pipeline = _pipeline(plan, speed)
    if plan.device.type == 'cuda':
        # Random weights are drawn in float32 first, which no real start does.
        torch.cuda.reset_peak_memory_stats(plan.device)
    drive = _Drive(pipeline, reference, path(plan.config.frame_rate))
    start = time.perf_counter()
    for _ in range(_WARM_BLOCKS):
        drive.whole()
    warm_up = time.perf_counter() - start
    walls, stages = [], {}
    for _ in range(plan.blocks):
        wall, timings = drive.whole()
        walls.append(wall)
        for stage, seconds in timings.items():
            stages.setdefault(stage, []).append(1e3 * seconds)
    drive.streamed()
    latencies = np.array([drive.streamed() for _ in range(plan.blocks)])
    flops = count_flops(pipeline)
    rate = rates.get(pipeline.speed_report['precision'], rates['bfloat16'])
    generate = float(np.median(stages['generate'])) / 1e3
    return {'report': pipeline.speed_report, 'warm_up_s': round(warm_up, 2), 'blocks': plan.blocks,
            'frames_per_second': round(plan.config.frames_per_block * len(walls) / sum(walls), 3),
            'block_ms': median_p95(1e3 * np.array(walls)),
            'stages_ms': {stage: median_p95(np.array(values)) for stage, values in stages.items()},
            'first_pixel_ms': median_p95(1e3 * latencies[:, 0]), 'streamed_block_ms': median_p95(1e3 * latencies[:, 1]),
            'block_tflop': _digits(flops / 1e12), 'generate_tflops': _digits(flops / generate / 1e12),
            'share_of_matrix_rate': _digits(flops / generate / 1e12 / rate),
            'waits_in_a_block': count_waits(drive),
            'overlap': measure_overlap(plan, pipeline, reference, path), 'memory_mib': memory(str(plan.device))}


def _digits(value: float) -> float:
    return float(f'{value:.5g}')


class _Drive:
    """A pipeline driven along a path, from poses on the host to RGB on the host."""

    def __init__(self, pipeline: StarPipeline, reference: Reference, path: Iterator[np.ndarray]) -> None:
        self.pipeline, self.path = pipeline, path
        camera = reference.camera.fitted(pipeline.width, pipeline.height)
        self.constraint = SpatialConstraint(reference, camera, pipeline.device)
        self.copies = HostCopies(pipeline.device)
        # Moving recordings are shown to and fro; a benchmark stays at one time, whose frame is at hand.
        self._time = float(reference.times[0])

    def _inputs(self) -> tuple:
        count = self.pipeline.frames_in_next_block()
        poses, times = np.stack([next(self.path) for _ in range(count)]), np.full(count, self._time)
        condition = self.constraint.render(poses, times)
        indices = self.constraint.reference_frames(poses, times, self.pipeline.reference_count)
        static = self.constraint.reference.is_static
        return condition, self.constraint.reference_images(indices), tuple(indices) if static else None

    def whole(self) -> tuple[float, dict[str, float]]:
        """Make a block; gives the seconds of all of it and of its stages."""
        start = time.perf_counter()
        inputs = self._inputs()
        _wait(self.pipeline.device)
        render = time.perf_counter() - start
        images, timings = self.pipeline.step(*inputs)
        begin = time.perf_counter()
        self.copies.start(to_bytes(images)).array()
        end = time.perf_counter()
        return end - start, {'render': render, **timings, 'to_host': end - begin}

    def streamed(self) -> tuple[float, float]:
        """Make a block latent by latent; gives the seconds to its first frame on the host, and to its last."""
        start, first, coming = time.perf_counter(), None, []
        for part in self.pipeline.stream(*self._inputs()):
            coming.append(self.copies.start(to_bytes(part)))
            if first is None and coming[0].is_here():
                first = time.perf_counter() - start
        for part in coming:
            part.array()
            first = first or time.perf_counter() - start
        return first, time.perf_counter() - start


def measure_overlap(plan: Plan, pipeline: StarPipeline, reference: Reference,
                    path: Callable[[float], Iterator[np.ndarray]]) -> dict[str, dict[str, Any]]:
    """Measure the simulator as the node uses it, each block rendered when it is due, `alone`, or one `ahead`."""
    for index in range(len(reference)):
        reference.frame(index)
    figures = {}
    for name, look_ahead in (('alone', False), ('ahead', True)):
        simulator = WorldSimulator(reference, pipeline, device=str(plan.device), look_ahead=look_ahead)
        driven = Driven(simulator, path(plan.config.frame_rate))
        for _ in range(_WARM_BLOCKS):
            driven.block()
        seconds = 1e3 * np.array([driven.block()[1:] for _ in range(plan.blocks)])
        figures[name] = {
            'frames_per_second': round(plan.config.frames_per_block * plan.blocks / seconds[:, 1].sum() * 1e3, 3),
            'first_frame_ms': median_p95(seconds[:, 0]), 'block_ms': median_p95(seconds[:, 1])}
    return figures


def count_flops(pipeline: StarPipeline) -> int:
    """Count the floating-point operations of a later block of this configuration, on the meta device."""
    from inspatio_ros.star.generator import BlockGenerator
    from inspatio_ros.star.scheduler import FlowScheduler
    from inspatio_ros.star.transformer import DiffusionTransformer
    config = pipeline.config
    with torch.device('meta'):
        net = DiffusionTransformer(config.transformer)
        text = torch.zeros(1, config.transformer.text_len, config.transformer.text_dim)
    blocks = BlockGenerator(config, net, FlowScheduler(config.scheduler), text)
    state = blocks.init(1, torch.Generator())
    frames, channels, *size = blocks.latent_shape
    given = [torch.zeros(1, frames, c, *size, device='meta')
             for c in (channels, channels, config.transformer.condition_dim - channels)]
    blocks.step(state, *given)
    with FlopCounterMode(display=False) as counter:
        blocks.step(state, *given)
    return counter.get_total_flops()


def count_waits(drive: _Drive) -> int | None:
    """Count how often the host waits for the GPU between the condition and the decoded block; None on a CPU."""
    if drive.pipeline.device.type != 'cuda':
        return None
    inputs = drive._inputs()
    torch.cuda.set_sync_debug_mode('warn')
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter('always')
            for _ in drive.pipeline.stream(*inputs):
                pass
    finally:
        torch.cuda.set_sync_debug_mode('default')
    return sum('synchroniz' in str(warning.message) for warning in seen)


def precision_errors(plan: Plan) -> dict[str, float]:
    """Compare two blocks of latents in bfloat16, and in float8, with float32: the error's RMS by the signal's RMS.

    All from the same weights, noise and conditions. Where the device has no float8 it is emulated.
    """
    # Every layer takes the same share, and a few of them are enough to see it; all of them in float32 take long.
    layers = min(plan.config.transformer.num_layers, 4)
    plan = replace(plan, config=replace(plan.config,
                                        transformer=replace(plan.config.transformer, num_layers=layers)))
    found = {name: _latents(plan, name) for name in ('float32', 'bfloat16', 'float8')}
    exact = found.pop('float32')
    return {'layers': layers, 'float8_emulated': bool(unsupported(plan.device)),
            **{name: float((latent - exact).square().mean().sqrt() / exact.square().mean().sqrt())
               for name, latent in found.items()}}


def _latents(plan: Plan, precision: str) -> torch.Tensor:
    from inspatio_ros.star.float8 import to_float8
    _clean(plan.device)
    dtype = torch.float32 if precision == 'float32' else torch.bfloat16
    pipeline = StarPipeline.random(plan.config, device=plan.device, dtype=dtype)
    if precision == 'float8':
        to_float8(pipeline.transformer, emulated=bool(unsupported(plan.device)))
    blocks, generator = pipeline.blocks, torch.Generator().manual_seed(1)
    state = blocks.init(1, torch.Generator().manual_seed(0))
    frames, channels, *size = blocks.latent_shape
    for _ in range(2):
        given = [torch.randn(1, frames, c, *size, generator=generator).to(plan.device)
                 for c in (channels, channels, plan.config.transformer.condition_dim - channels)]
        latent = blocks.step(state, *given)
    return latent.float()


def _pipeline(plan: Plan, speed: str) -> StarPipeline:
    return StarPipeline.random(plan.config, device=plan.device, dtype=SPEEDS[speed].dtype(plan.device), speed=speed)


def _clean(device: torch.device) -> None:
    gc.collect()
    torch._dynamo.reset()
    if device.type == 'cuda':
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _wait(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
