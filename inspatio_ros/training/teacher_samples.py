# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What the motion teacher would have the student make: samples of held-out clips, beside student and smooth fill.

A student that is distilled can come as near to true latents as its teacher's samples are, and not nearer. So this says
beforehand what distillation can reach.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.evaluation.frechet import GaussianFit, frechet_distance, latent_features
from inspatio_ros.training.checkpoint import CheckpointFolder, tensors_under
from inspatio_ros.training.data import ClipFolder, unit
from inspatio_ros.training.decoding import gradient_energy
from inspatio_ros.training.entry import run
from inspatio_ros.training.export import load_networks
from inspatio_ros.training.measure import Figures
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.teachers import Denoiser, MotionTeacherStage, TeacherConfig, sample
from inspatio_ros.training.train import read_plan

#: Every measurement draws its noise from this seed.
SEED = 0
_BATCH = 4


class Row:
    """Figures of one kind of latents: PSNR, gradient energy in holes, Frechet distance of what is decoded."""

    def __init__(self) -> None:
        self.psnr, self.fit, self.energy = Figures(), GaussianFit(), 0.

    def add(self, networks: Networks, image: Tensor, truth: Tensor, mask: Tensor) -> None:
        """Add clips [B, T, 3, H, W] in [0, 1]; `mask` [B, T, 1, H, W] is 1 where known."""
        self.psnr.add(image, truth, mask)
        self.energy += gradient_energy(image, mask)
        self.fit.add(latent_features(networks.autoencoder.encode((image * 255).round() / 255).float()))


@torch.no_grad()
def measure_samples(networks: Networks, teacher: Denoiser, clips: ClipFolder, passes: Sequence[int],
                    count: int) -> dict[str, Row]:
    """Decode latents of the truth, student and teacher of `count` clips; the last row is the truth itself."""
    generator = torch.Generator().manual_seed(SEED)
    rows: dict[str, Row] = {}
    for batch in itertools.islice(clips.batches(_BATCH), -(-count // _BATCH)):
        truth, mask, guide = unit(batch.truth), batch.mask.float(), networks.guide(batch)
        latents, conditions = networks.encode(batch)
        made = {'latents of the truth': latents, 'student': networks.roll_out_whole(conditions, generator)}
        for number in passes:
            noise = torch.randn(latents.shape, generator=generator)
            made[f'teacher, passes: {number}'] = sample(teacher, noise, conditions, networks.text, number)
        images = {f'{networks.config.condition_fill} fill': guide[0]} | {
            name: networks.autoencoder.decode(part, guide).float() for name, part in made.items()} | {'truth': truth}
        for name, image in images.items():
            rows.setdefault(name, Row()).add(networks, image, truth, mask)
    return rows


def table(rows: dict[str, Row]) -> str:
    """Lay the rows out as a Markdown table, beside the last of them, the truth."""
    truth = list(rows.values())[-1]
    lines = ['| decoded | all | known | holes | sharp | Frechet |', '|---|---|---|---|---|---|']
    for name, row in list(rows.items())[:-1]:
        psnr = row.psnr.psnr()
        lines.append(f'| {name} | ' + ' | '.join(f'{psnr[key]:.2f}' for key in ('all', 'known', 'holes'))
                     + f' | {row.energy / truth.energy:.2f} | {frechet_distance(truth.fit, row.fit):.3f} |')
    return '\n'.join(lines)


def load_teacher(networks: Networks, folder: Path, config: TeacherConfig) -> Denoiser:
    """Load the motion teacher's average from its newest checkpoint."""
    folder = folder / MotionTeacherStage.name
    found = CheckpointFolder(folder / 'checkpoints').newest()
    if found is None:
        raise ConfigurationError(f'{folder} holds no checkpoint; train it with --stage {MotionTeacherStage.name}')
    teacher = Denoiser(networks.config, config.prediction)
    teacher.load_state_dict(tensors_under(found[1], 'ema.teacher.'))
    return teacher.eval()


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog='python -m inspatio_ros.training.teacher_samples', description=main.__doc__)
    parser.add_argument('--config', type=Path, required=True, help='the configuration that RUN was trained with')
    parser.add_argument('--clips', type=Path, required=True, help='folder of held-out clips')
    parser.add_argument('--run', type=Path, required=True, help='folder with weights/ and the motion teacher')
    parser.add_argument('--passes', type=int, nargs='+', default=[1, 4, 8], help='denoising passes of the teacher')
    parser.add_argument('--count', type=int, default=12, help='clips, rounded up to whole batches')
    options = parser.parse_args(arguments)

    def show() -> None:
        networks = load_networks(options.run / 'weights')
        teacher = load_teacher(networks, options.run, read_plan(options.config).teacher)
        print(table(measure_samples(networks, teacher, ClipFolder(options.clips), options.passes, options.count)))

    return run(show)


if __name__ == '__main__':
    sys.exit(main())
