# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Train the control, a plain convolutional in-painter: python -m inspatio_ros.training.inpainter.

Same clips, augmentation, windows and loss on pixels as nano's last stage; only the network is another.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from inspatio_ros.evaluation.inpainter import Inpainter, describe
from inspatio_ros.simulator import resolve_device
from inspatio_ros.star.checkpoint import save_tensors
from inspatio_ros.training.data import ClipFolder, place, unit
from inspatio_ros.training.entry import run
from inspatio_ros.training.stages import LEAST_SQUARE, LossConfig
from inspatio_ros.training.trainer import Trainer, TrainerConfig

WEIGHTS_FILE = 'inpainter.safetensors'
#: As nano's autoencoder, initialisation and finish together (config/training/nano.yaml).
STEPS = 2600


class InpainterStage:
    """Train the in-painter on windows of clips."""

    name = 'inpainter'

    def __init__(self, net: Inpainter, clips: ClipFolder, held_out: ClipFolder,
                 window: tuple[int, int] = (96, 96)) -> None:
        self.net, self.clips, self.held_out, self.window = net, clips, held_out, window
        self.modules: dict[str, nn.Module] = {'inpainter': net}

    def loss(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Complete a window of frames of some clips: of each clip one, as it sees no other beside it."""
        truth, filled, mask = self.clips.draw_frames(batch_size, generator)
        rows, columns = (place(whole, part, self.net.config.multiple, generator)
                         for whole, part in zip(truth.shape[-2:], self.window, strict=True))
        square = self._errors(*(image[..., rows, columns] for image in (filled, mask, truth)))
        # As stages.relative_error, whose clip is here a frame.
        before = (filled - truth).square().mean(dim=(1, 2, 3)).to(square)
        loss = (square / (before + LEAST_SQUARE)).mean() + LossConfig.pooled * square.mean()
        return loss, {'psnr': float(-10 * torch.log10(square.detach().mean()))}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Complete held-out clips: PSNR over all pixels, the mean over clips."""
        square = torch.stack([self._errors(unit(clip.filled[0]), clip.mask[0].float(), unit(clip.truth[0]),
                                           clamp=True).mean() for clip in self.held_out.batches(1)])
        return {'psnr': float(-10 * torch.log10(square).mean())}

    def _errors(self, filled: Tensor, mask: Tensor, truth: Tensor, clamp: bool = False) -> Tensor:
        """Give the mean squared error [B] of frames [B, C, H, W] in [0, 1]."""
        device = next(self.net.parameters()).device
        made = self.net(filled.to(device), mask.to(device)).float()
        return ((made.clamp(0, 1) if clamp else made) - truth.to(device)).square().mean(dim=(1, 2, 3))


def train(data: Path, output: Path, config: TrainerConfig, net: Inpainter | None = None, device: str = 'cpu',
          stop_after: float = float('inf'), window: tuple[int, int] = (96, 96)) -> Path:
    """Train an in-painter on DATA/train, watched on DATA/held_out; gives the file of its EMA weights."""
    torch.manual_seed(config.seed)
    net = (net or Inpainter()).to(device, memory_format=torch.channels_last)
    stage = InpainterStage(net, ClipFolder(data / 'train'), ClipFolder(data / 'held_out'), window)
    description = describe(net.config)
    trainer = Trainer(stage, config, output, device, description)
    trainer.run(stop_after)
    with trainer.ema_weights():
        save_tensors(output / WEIGHTS_FILE, net.state_dict(), description)
    return output / WEIGHTS_FILE


def main(arguments: list[str] | None = None) -> int:
    """Train from the command line."""
    parser = argparse.ArgumentParser(prog='python -m inspatio_ros.training.inpainter', description=__doc__)
    parser.add_argument('--data', type=Path, required=True, help='folder with train/ and held_out/')
    parser.add_argument('--output', type=Path, required=True, help='folder for checkpoints, curves and weights')
    parser.add_argument('--steps', type=int, default=STEPS)
    parser.add_argument('--batch-size', type=int, default=8, help='frames a step, of a clip each')
    parser.add_argument('--learning-rate', type=float, default=4e-4)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--minutes', type=float, default=float('inf'), help='stop after so long; start again to go on')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--threads', type=int, help='CPU threads (all cores if left out)')
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    config = TrainerConfig(options.steps, options.batch_size, options.learning_rate, seed=options.seed)
    return run(lambda: print(train(options.data, options.output, config, device=resolve_device(options.device),
                                   stop_after=60 * options.minutes)))


if __name__ == '__main__':
    sys.exit(main())
