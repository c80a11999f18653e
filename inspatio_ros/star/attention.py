# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Attention without a mask by any of the kernels that torch or FlashAttention-3 bring, and which one is fastest here.

Every kernel takes q [B, T, heads, head_dim] and k, v [B, S, heads, head_dim] and gives [B, T, heads * head_dim].
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from inspatio_ros.errors import ConfigurationError

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]

#: torch's plain formula.
PLAIN = 'math'
#: torch's kernels by the names that are used here; 'default' leaves the choice to torch.
_SDPA = {'cudnn': SDPBackend.CUDNN_ATTENTION, 'flash': SDPBackend.FLASH_ATTENTION,
         'efficient': SDPBackend.EFFICIENT_ATTENTION, PLAIN: SDPBackend.MATH}
FLASH3 = 'flash3'
#: Bytes of scores beyond which the plain formula is timed only where no other kernel works.
_MOST_SCORES = 2**30
BACKENDS = ('default', FLASH3, *_SDPA)

#: The module that FlashAttention-3 installs.
_FLASH3_MODULE = 'flash_attn_interface'
#: A kernel is taken only if it agrees with the plain formula in float32 as well as its type allows.
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8, torch.bfloat16: 2e-2, torch.float16: 4e-3}
_QUERIES_CHECKED = 64


@dataclass(frozen=True)
class Timing:
    """What a kernel takes, in milliseconds; or why it cannot be used here."""

    name: str
    milliseconds: float | None
    reason: str = ''


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend by the kernel that torch chooses."""
    out = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    return out.transpose(1, 2).flatten(2)


def _attend_by(q: Tensor, k: Tensor, v: Tensor, backend: SDPBackend) -> Tensor:
    with sdpa_kernel(backend):
        return attend(q, k, v)


@torch.library.custom_op('inspatio::flash3', mutates_args=())
def _flash3(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    # An operator of our own, because not every version of the library can be compiled into a graph.
    from flash_attn_interface import flash_attn_func
    out = flash_attn_func(q.contiguous(), k, v)
    return (out[0] if isinstance(out, tuple) else out).contiguous()


@_flash3.register_fake
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.empty_like(q, memory_format=torch.contiguous_format)


def _attend_flash3(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return _flash3(q, k, v).flatten(2)


def attention(name: str) -> Attend:
    """Give a kernel by name, one of BACKENDS.

    Raises:
        ConfigurationError: the name is unknown, or FlashAttention-3 is not installed.

    """
    if name == 'default':
        return attend
    if name in _SDPA:
        return partial(_attend_by, backend=_SDPA[name])
    if name != FLASH3:
        raise ConfigurationError(f'attention {name!r} is unknown; choose auto or one of {", ".join(BACKENDS)}')
    if importlib.util.find_spec(_FLASH3_MODULE) is None:
        raise ConfigurationError(f'attention {FLASH3!r} needs FlashAttention-3 (the module {_FLASH3_MODULE}), which is '
                                 "not installed; install it, or choose 'auto'")
    return _attend_flash3


@torch.inference_mode()
def time_attention(queries: int, keys: int, heads: int, head_dim: int, device: torch.device, dtype: torch.dtype,
                   repeats: int = 10) -> list[Timing]:
    """Time every kernel at the size given; the fastest first, then those that do not work here and why."""
    draw = partial(torch.randn, generator=torch.Generator().manual_seed(0))
    q, k, v = (draw(1, tokens, heads, head_dim).to(device, dtype) for tokens in (queries, keys, keys))
    timings = [_time_one(name, q, k, v, repeats) for name in BACKENDS if name != PLAIN]
    # The plain formula holds every score, twice, in float32: at the large model's size more memory than all else.
    scores = 2 * 4 * queries * keys * heads
    if scores > _MOST_SCORES and any(timing.milliseconds is not None for timing in timings):
        timings.append(Timing(PLAIN, None, f'its scores take {scores / 2**30:.1f} GiB'))
    else:
        timings.append(_time_one(PLAIN, q, k, v, repeats))
    if device.type == 'cuda':
        torch.cuda.empty_cache()
    return sorted(timings, key=lambda t: (t.milliseconds is None, t.milliseconds))


def _time_one(name: str, q: Tensor, k: Tensor, v: Tensor, repeats: int) -> Timing:
    try:
        kernel = attention(name)
        error = _error(kernel, q[:, :_QUERIES_CHECKED], k, v)
        if not error <= _TOLERANCE[q.dtype]:
            return Timing(name, None, f'differs from the plain formula by {error:.2g}')
        kernel(q, k, v)
        return Timing(name, 1e3 * median_seconds(partial(kernel, q, k, v), q.device, repeats))
    except torch.OutOfMemoryError:
        return Timing(name, None, 'needs more memory than there is')
    except (RuntimeError, ConfigurationError, ImportError) as error:
        # A kernel that the device, the type or the size rules out says so this way.
        return Timing(name, None, str(error).strip().splitlines()[0])


def _error(kernel: Attend, q: Tensor, k: Tensor, v: Tensor) -> float:
    """Give the largest difference from softmax(q k / sqrt(d)) v in float32, relative to the largest value."""
    q32, k32, v32 = (x.float().transpose(1, 2) for x in (q, k, v))
    weights = (q32 @ k32.transpose(-1, -2) * q.shape[-1]**-0.5).softmax(-1)
    expected = (weights @ v32).transpose(1, 2).flatten(2)
    return float((kernel(q, k, v).float() - expected).abs().max() / expected.abs().max())


def median_seconds(function: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Time a function that has run before: the median of `repeats` calls, the device's work included."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[len(seconds) // 2]
