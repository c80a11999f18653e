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

from inspatio_ros.errors import InspatioError
from inspatio_ros.evaluation.inpainter import Inpainter, describe
from inspatio_ros.star.checkpoint import save_tensors
from inspatio_ros.training.data import ClipFolder, crop, unit
from inspatio_ros.training.memory import keep_freed_memory
from inspatio_ros.training.stages import LossConfig, relative_error
from inspatio_ros.training.trainer import Trainer, TrainerConfig

WEIGHTS_FILE = 'inpainter.safetensors'
#: As nano's autoencoder, initialisation and finish together (config/training/nano.yaml).
STEPS = 2600
#: Frames of each clip that a step looks at: it completes every frame by itself, and one looks much like the next.
FRAMES = 3


class InpainterStage:
    """Train the in-painter on windows of clips."""

    name = 'inpainter'

    def __init__(self, net: Inpainter, clips: ClipFolder, held_out: ClipFolder,
                 window: tuple[int, int] = (96, 96), frames: int = FRAMES) -> None:
        self.net, self.clips, self.held_out, self.window, self.frames = net, clips, held_out, window, frames
        self.modules: dict[str, nn.Module] = {'inpainter': net}

    def loss(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Complete a window of some frames of some clips."""
        clips = self.clips.draw(batch_size, generator)
        window, _, _ = crop(clips, *self.window, self.net.config.multiple, generator)
        chosen = torch.randperm(clips.truth.shape[1], generator=generator)[:self.frames]
        square = self._errors(window.filled[:, chosen], window.mask[:, chosen], window.truth[:, chosen])
        loss = relative_error(square, clips) + LossConfig.pooled * square.mean()
        return loss, {'psnr': float(-10 * torch.log10(square.detach()).mean())}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Complete held-out clips: PSNR over all pixels, the mean over clips."""
        square = torch.cat([self._errors(clips.filled, clips.mask, clips.truth, clamp=True)
                            for clips in self.held_out.batches(1)])
        return {'psnr': float(-10 * torch.log10(square).mean())}

    def _errors(self, filled: Tensor, mask: Tensor, truth: Tensor, clamp: bool = False) -> Tensor:
        """Give the mean squared error [B] of clips uint8 [B, T, C, H, W]."""
        device = next(self.net.parameters()).device
        made = self.net(unit(filled.flatten(0, 1).to(device)), mask.flatten(0, 1).to(device, torch.float32)).float()
        error = (made.clamp(0, 1) if clamp else made) - unit(truth.flatten(0, 1).to(device))
        return error.square().unflatten(0, truth.shape[:2]).mean(dim=(1, 2, 3, 4))


def train(data: Path, output: Path, config: TrainerConfig, net: Inpainter | None = None, device: str = 'cpu',
          stop_after: float = float('inf'), window: tuple[int, int] = (96, 96), frames: int = FRAMES) -> Path:
    """Train an in-painter on DATA/train, watched on DATA/held_out; gives the file of its EMA weights."""
    torch.manual_seed(config.seed)
    net = (net or Inpainter()).to(device, memory_format=torch.channels_last)
    stage = InpainterStage(net, ClipFolder(data / 'train'), ClipFolder(data / 'held_out'), window, frames)
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
    parser.add_argument('--batch-size', type=int, default=4, help='clips a step')
    parser.add_argument('--frames', type=int, default=FRAMES, help='frames of each clip that a step looks at')
    parser.add_argument('--learning-rate', type=float, default=1e-3)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--minutes', type=float, default=float('inf'), help='stop after so long; start again to go on')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--threads', type=int, help='CPU threads (all cores if left out)')
    options = parser.parse_args(arguments)
    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    config = TrainerConfig(options.steps, options.batch_size, options.learning_rate, seed=options.seed)
    try:
        print(train(options.data, options.output, config, device=options.device, stop_after=60 * options.minutes,
                    frames=options.frames))
    except InspatioError as error:
        print(f'error: {error}', file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == '__main__':
    sys.exit(main())
