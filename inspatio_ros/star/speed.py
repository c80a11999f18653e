# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How fast a generator is made to run: precision, attention kernel, fused layers, compilation, CUDA graphs.

`plain` is every operation as written, and the yardstick. `exact` changes nothing but the order in which float sums are
taken, and starts at once. `compiled` is `exact` with the block step compiled, on a CPU too. `fast` computes in what the
hardware multiplies fastest: bfloat16 on a GPU, compiled and captured; on a CPU bfloat16 (AMX) or int8 (VNNI). `float8`
also rounds the large matrices on a GPU. docs/performance.md says what each is worth.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.spatial.splat_triton import runs_on
from inspatio_ros.star.attention import attention, time_attention
from inspatio_ros.star.float8 import to_float8

if TYPE_CHECKING:
    from inspatio_ros.star.pipeline import StarPipeline

log = logging.getLogger(__name__)

#: Where inductor keeps what it compiled, so that the second start is quick.
CACHE_VARIABLE = 'TORCHINDUCTOR_CACHE_DIR'


@dataclass(frozen=True)
class Speed:
    """One setting.

    `precision` 'native' (bfloat16 on a GPU, float32 on a CPU), 'low' (on a CPU bfloat16 or int8 if it multiplies it)
    or 'float8'; `attention` 'auto' (the fastest here, by measurement) or one of attention.BACKENDS; `fused` merges
    layers; `compiled` True, False or 'gpu' (there alone, and only if it can); `captured` replays CUDA graphs (nothing
    on a CPU).
    """

    name: str
    precision: str = 'native'
    attention: str = 'default'
    fused: bool = False
    compiled: bool | str = False
    captured: bool = False

    def dtype(self, device: torch.device) -> torch.dtype:
        """Give the type that the transformer computes in on a device."""
        if device.type == 'cpu':
            return torch.bfloat16 if self.precision == 'low' and cpu_multiplies_bfloat16() else torch.float32
        return torch.bfloat16


    def compiles(self, device: torch.device) -> bool:
        """Say whether the block step is to be compiled on a device."""
        return self.compiled is True or (self.compiled == 'gpu' and device.type == 'cuda')


SPEEDS = {speed.name: speed for speed in (
    Speed('plain'),
    Speed('exact', attention='auto', fused=True),
    Speed('compiled', attention='auto', fused=True, compiled=True),
    Speed('fast', precision='low', attention='auto', fused=True, compiled='gpu', captured=True),
    Speed('float8', precision='float8', attention='auto', fused=True, compiled='gpu', captured=True))}


def find_speed(speed: str | Speed) -> Speed:
    """Give a setting by name; raises ConfigurationError for one that is not known."""
    if isinstance(speed, Speed):
        return speed
    if speed not in SPEEDS:
        raise ConfigurationError(f'speed {speed!r} is unknown; choose one of {", ".join(SPEEDS)}')
    return SPEEDS[speed]


def cpu_multiplies_bfloat16() -> bool:
    """Say whether the CPU has matrix units for bfloat16 (AMX); without them bfloat16 is no faster than float32."""
    return bool(torch.cpu._is_amx_tile_supported())


def speed_up(pipeline: StarPipeline, speed: str | Speed) -> dict[str, Any]:
    """Apply a setting to a pipeline whose networks have its type already, and say what was done and how long it took.

    The report has `speed`, `precision`, `fused`, `attention` (`chosen`, `milliseconds` of every kernel that works,
    `ruled_out` with the reasons), `compiled`, `captured`, `why_not` (what was left out, in words), `seconds`.

    Raises:
        ConfigurationError: the setting asks for what this machine lacks.

    """
    speed, start = find_speed(speed), time.perf_counter()
    report: dict[str, Any] = {'speed': speed.name, 'fused': speed.fused, 'compiled': False, 'captured': False,
                              'why_not': []}
    net, device = pipeline.transformer, pipeline.device
    if device.type == 'cuda' and speed.fused:
        # Convolution kernels by measurement too; sizes never change.
        torch.backends.cudnn.benchmark = True
    if speed.fused:
        net.fuse()
        pipeline.autoencoder.fuse()
        if device.type == 'cpu' and not speed.compiles(device):
            net.use_cpu_kernels()
    if speed.precision == 'low' and device.type == 'cpu' and net.dtype == torch.float32:
        _round_to_int8(pipeline, report)
    if speed.precision == 'float8':
        report['float8_layers'] = to_float8(net)
    report['precision'] = speed.precision if speed.precision == 'float8' else str(net.dtype).removeprefix('torch.')
    report['attention'] = _choose_attention(pipeline, speed)
    if speed.compiles(device):
        _compile(pipeline, speed, report)
    if speed.captured and device.type == 'cuda':
        pipeline.blocks.capture = report['captured'] = True
    report['seconds'] = round(time.perf_counter() - start, 3)
    log.info('speed %s: %s', speed.name, describe(report))
    return report


def describe(report: dict[str, Any]) -> str:
    """Put a report of speed_up into one line."""
    parts = [report['precision'], f'attention {report["attention"]["chosen"]}',
             *(f'{report[kind + "_layers"]} layers in {kind}' for kind in ('int8', 'float8')
               if kind + '_layers' in report),
             *(part for part in ('fused', 'compiled', 'captured') if report[part]), *report['why_not']]
    return f'{", ".join(parts)} (set up in {report["seconds"]:.1f} s)'


def _round_to_int8(pipeline: StarPipeline, report: dict[str, Any]) -> None:
    from inspatio_ros.star import int8
    if int8.supported():
        report['int8_layers'] = int8.to_int8(pipeline.autoencoder, pipeline.transformer)
    else:
        report['why_not'].append('float32: this CPU has no products of bfloat16 (AMX) or int8 (AVX-512 VNNI)')


def _choose_attention(pipeline: StarPipeline, speed: Speed) -> dict[str, Any]:
    # On a CPU torch has one kernel worth having, and a seed must not depend on a stopwatch there.
    if speed.attention != 'auto' or pipeline.device.type == 'cpu':
        chosen = 'default' if speed.attention == 'auto' else speed.attention
        pipeline.transformer.attend_by(attention(chosen))
        return {'chosen': chosen}
    config, tokens = pipeline.config.transformer, pipeline.config.tokens_per_block
    timings = time_attention(tokens, 3 * tokens, config.num_heads, config.head_dim, pipeline.device,
                             pipeline.transformer.dtype)
    pipeline.transformer.attend_by(attention(timings[0].name))
    return {'chosen': timings[0].name,
            'milliseconds': {t.name: round(t.milliseconds, 3) for t in timings if t.milliseconds is not None},
            'ruled_out': {t.name: t.reason for t in timings if t.milliseconds is None}}


def _compile(pipeline: StarPipeline, speed: Speed, report: dict[str, Any]) -> None:
    lacking = compiler_lacking(pipeline.device)
    if lacking and speed.compiled is True:
        raise ConfigurationError(f"the block step cannot be compiled: {lacking}; choose speed 'exact'")
    if lacking:
        report['why_not'].append(f'not compiled: {lacking}')
        return
    report['cache_folder'] = use_cache_folder()
    pipeline.blocks.compile()
    report['compiled'] = True
    # The warm-up measures it; whoever waits should know for what.
    log.info('the first two blocks compile the block step: a minute or more the first time, then kept in %s',
             report['cache_folder'])


def compiler_lacking(device: torch.device) -> str:
    """Say what torch.compile lacks for a device; '' if nothing."""
    if device.type == 'cuda':
        return '' if runs_on(device) else 'Triton is missing, or finds no compiler or no GPU that it knows'
    compiler = os.environ.get('CXX', 'g++')
    return '' if shutil.which(compiler) else f'there is no C++ compiler ({compiler})'


def use_cache_folder() -> str:
    """Keep what inductor compiles under the user's cache folder unless another place is set; gives the place."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir
    base = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    folder = base / 'inspatio_ros' / 'inductor'
    # Inductor itself sets the variable, to a folder that is gone with the next start, as soon as it is imported.
    if os.environ.get(CACHE_VARIABLE) in (None, default_cache_dir()):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return ''
        os.environ[CACHE_VARIABLE] = str(folder)
    return os.environ[CACHE_VARIABLE]
