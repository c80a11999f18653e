# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How well held-out clips are generated, beside the baselines without a network.

`all` is the mean over clips of a clip's PSNR over all pixels; `known` and `holes` are pooled over all clips.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from inspatio_ros.training.data import ClipFolder, Clips, ClipSource, unit
from inspatio_ros.training.entry import run
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.refill import refilled

#: Every measurement draws its noise from this seed.
SEED = 0
BASELINES = ('black', 'nearest', 'smooth')


class Figures:
    """PSNR of clips [B, T, 3, H, W] in [0, 1]: over all pixels by clip, over known pixels and holes pooled."""

    def __init__(self) -> None:
        self.clips: list[float] = []
        self.square = {'known': 0., 'holes': 0.}
        self.values = {'known': 0., 'holes': 0.}

    def add(self, image: Tensor, truth: Tensor, mask: Tensor) -> None:
        """Add clips; `mask` [B, T, 1, H, W] is 1 where known."""
        # To bytes and back: what is judged is what is published.
        error = ((image * 255).round() / 255 - truth).square()
        self.clips += [_decibel(float(clip.mean())) for clip in error]
        for name, part in (('known', mask), ('holes', 1 - mask)):
            self.square[name] += float((error * part).sum())
            self.values[name] += float(part.sum()) * error.shape[2]

    def psnr(self) -> dict[str, float]:
        """Give all, known and holes in dB; NaN where there is no such pixel."""
        pooled = {name: _decibel(self.square[name] / self.values[name]) if self.values[name] else math.nan
                  for name in self.square}
        return {'all': sum(self.clips) / len(self.clips), **pooled}


def _decibel(square: float) -> float:
    return -10 * math.log10(square) if square > 0 else math.inf


def measure(networks: Networks, clips: ClipSource) -> dict[str, float]:
    """Generate all clips of a folder and give their PSNR."""
    generator = torch.Generator().manual_seed(SEED)
    return _measure(clips, lambda batch: networks.generate(batch, generator).cpu())


def measure_baseline(clips: ClipSource, method: str) -> dict[str, float]:
    """Give the PSNR of the render with its holes filled: 'black', 'nearest' or 'smooth'."""
    return _measure(clips, lambda batch: refilled(unit(batch.filled), batch.mask.float(), method))


def _measure(clips: ClipSource, generate: Callable[[Clips], Tensor]) -> dict[str, float]:
    figures = Figures()
    for batch in clips.batches(4):
        figures.add(generate(batch), unit(batch.truth), batch.mask.float())
    return figures.psnr()


def table(rows: dict[str, dict[str, float]]) -> str:
    """Lay figures out as a Markdown table."""
    lines = ['| | all | known | holes |', '|---|---|---|---|']
    lines += [f'| {name} | ' + ' | '.join(f'{figures[key]:.2f}' for key in ('all', 'known', 'holes')) + ' |'
              for name, figures in rows.items()]
    return '\n'.join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the table of baselines and of trained weights on held-out clips."""
    parser = argparse.ArgumentParser(prog='python -m inspatio_ros.training.measure', description=main.__doc__)
    parser.add_argument('--clips', type=Path, required=True, help='folder of held-out clips')
    parser.add_argument('--weights', type=Path, help='folder of weights (the shipped ones if left out)')
    options = parser.parse_args(arguments)
    from inspatio_ros.training.export import load_networks

    def show() -> None:
        clips = ClipFolder(options.clips)
        rows = {f'render, holes {method}': measure_baseline(clips, method) for method in BASELINES}
        rows['nano'] = measure(load_networks(options.weights), clips)
        print(f'{len(clips)} clips, PSNR in dB\n{table(rows)}')

    return run(show)


if __name__ == '__main__':
    sys.exit(main())
