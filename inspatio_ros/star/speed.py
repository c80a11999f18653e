# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How fast a generator is made to run: precision, attention kernel, fused projections, compilation, CUDA graphs.

`plain` is every operation as written, and the yardstick. `exact` changes nothing but the order in which float sums are
taken. `fast` computes in bfloat16 where the hardware multiplies it, and compiles. `float8` also rounds the large
matrices. docs/performance.md says what each is worth.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.star.attention import attention, median_seconds, time_attention
from inspatio_ros.star.float8 import to_float8

if TYPE_CHECKING:
    from inspatio_ros.star.pipeline import StarPipeline

log = logging.getLogger(__name__)

#: Where inductor keeps what it compiled, so that the second start is quick.
CACHE_VARIABLE = 'TORCHINDUCTOR_CACHE_DIR'
#: A compiled step must be faster by this much to be worth its start-up.
_WORTH_IT = 0.9
_REPEATS = 3


@dataclass(frozen=True)
class Speed:
    """One setting.

    `precision` 'native' (bfloat16 on a GPU, float32 on a CPU), 'low' (bfloat16 also on a CPU that multiplies it) or
    'float8'; `attention` 'auto' (the fastest here, by measurement) or one of attention.BACKENDS; `fused` merges
    projections; `compiled` True, False or 'auto' (if it can and is faster: on a CPU by measurement); `captured` replays
    CUDA graphs (nothing on a CPU).
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


SPEEDS = {speed.name: speed for speed in (
    Speed('plain'),
    Speed('exact', attention='auto', fused=True),
    Speed('fast', precision='low', attention='auto', fused=True, compiled='auto', captured=True),
    Speed('float8', precision='float8', attention='auto', fused=True, compiled='auto', captured=True))}


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
        pipeline.autoencoder.to(memory_format=torch.channels_last)
    if speed.precision == 'float8':
        report['float8_layers'] = to_float8(net)
    report['precision'] = speed.precision if speed.precision == 'float8' else str(net.dtype).removeprefix('torch.')
    report['attention'] = _choose_attention(pipeline, speed)
    if speed.compiled:
        _compile(pipeline, speed, report)
    if speed.captured and device.type == 'cuda':
        pipeline.blocks.capture = report['captured'] = True
    report['seconds'] = round(time.perf_counter() - start, 3)
    log.info('speed %s: %s', speed.name, describe(report))
    return report


def describe(report: dict[str, Any]) -> str:
    """Put a report of speed_up into one line."""
    parts = [report['precision'], f'attention {report["attention"]["chosen"]}',
             *(part for part in ('fused', 'compiled', 'captured') if report[part]), *report['why_not']]
    return f'{", ".join(parts)} (set up in {report["seconds"]:.1f} s)'


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
    if speed.compiled is True or pipeline.device.type == 'cuda':
        pipeline.blocks.compile()
        report['compiled'] = True
        return
    plain, compiled = _time_both(pipeline)
    report['block_seconds'] = {'interpreted': round(plain, 4), 'compiled': round(compiled, 4)}
    report['compiled'] = compiled < _WORTH_IT * plain
    if not report['compiled']:
        pipeline.blocks.interpret()
        report['why_not'].append(f'not compiled: {1e3 * compiled:.0f} ms a block against {1e3 * plain:.0f} ms without')


def _time_both(pipeline: StarPipeline) -> tuple[float, float]:
    """Time a later block, interpreted and compiled; leaves it compiled."""
    blocks = pipeline.blocks
    state = blocks.init(1, torch.Generator().manual_seed(0))
    frames, channels, height, width = blocks.latent_shape
    mask_channels = pipeline.config.transformer.condition_dim - channels
    given = [torch.zeros(1, frames, c, height, width, device=pipeline.device)
             for c in (channels, channels, mask_channels)]
    step = partial(blocks.step, state, *given)
    step(), step()
    plain = median_seconds(step, pipeline.device, _REPEATS)
    blocks.compile()
    blocks.restart(state, torch.Generator().manual_seed(0))
    step(), step()
    return plain, median_seconds(step, pipeline.device, _REPEATS)


def compiler_lacking(device: torch.device) -> str:
    """Say what torch.compile lacks for a device; '' if nothing."""
    if device.type == 'cuda':
        return '' if importlib.util.find_spec('triton') else 'the module triton is not installed'
    compiler = os.environ.get('CXX', 'g++')
    return '' if shutil.which(compiler) else f'there is no C++ compiler ({compiler})'


def use_cache_folder() -> str:
    """Keep what inductor compiles under the user's cache folder unless another place is set; gives the place."""
    base = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    folder = base / 'inspatio_ros' / 'inductor'
    if CACHE_VARIABLE not in os.environ:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return ''
        os.environ[CACHE_VARIABLE] = str(folder)
    return os.environ[CACHE_VARIABLE]
