# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What two processes do for test_distributed.py: `python two_ranks.py FOLDER`, with torchrun's variables set."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import torch
from torch import nn
from torch.distributed.checkpoint import FileSystemWriter

from inspatio_ros.star.presets import TINY_GUIDED
from inspatio_ros.training import sharded
from inspatio_ros.training.checkpoint import CheckpointError
from inspatio_ros.training.distributed import ScaleConfig, ScaledTrainer, rank, start, stop, whole, world_size
from inspatio_ros.training.jdmd import Scores
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.self_forcing import Conditions, RollOut, draw_noise
from inspatio_ros.training.teachers import Denoiser
from inspatio_ros.training.trainer import TrainerConfig, TrainingError

CLIPS = 4
CONFIG = dataclasses.replace(TINY_GUIDED, width=48, height=32)
SETTINGS = TrainerConfig(steps=10, batch_size=CLIPS, precision='float32', clip=1e9, learning_rate=1e-3, warmup_steps=0)


def random_weights(net: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1, generator=generator)
    return net


class FixedStage:
    """Distillation on the same four clips every step, of which each rank takes its share."""

    name = 'jdmd'

    def __init__(self) -> None:
        self.networks = Networks(CONFIG)
        random_weights(self.networks.transformer, 0)
        teacher = random_weights(Denoiser(CONFIG), 1).requires_grad_(False)
        self.scores = Scores(teacher, random_weights(teacher.copy(), 2))
        self.modules = {'transformer': self.networks.transformer, 'fake': self.scores.fake}
        self.frozen = [teacher]
        self.rates = {'transformer': 1., 'fake': 0.5}
        generator = torch.Generator().manual_seed(3)
        size = (6, 16, CONFIG.latent_height, CONFIG.latent_width)
        self.draw = [torch.randn(CLIPS, *size, generator=generator) for _ in range(4)]
        self.noise = draw_noise(self.networks.blocks, 2, CLIPS, generator)
        self.spoil = False

    def backward(self, batch_size, generator, shared, step):
        each = CLIPS // world_size()
        part = slice(rank() * each, (rank() + 1) * each)
        reference, render, mask, noise = (x[part] for x in self.draw)
        conditions = Conditions(reference, render, mask[:, :, :4])
        text = self.networks.text
        roll_out = RollOut(self.networks.blocks, conditions, self.noise[:, :, part], 1, text)
        samples = roll_out.generate()
        timestep = torch.tensor([200., 400., 600., 800.])[part]
        roll_out.backpropagate(samples, self.scores.gradient(samples, timestep, noise, conditions, text))
        loss = self.scores.fake.loss(samples, timestep, noise, conditions, text).mean()
        if self.spoil and rank() == 0:
            loss = loss * float('nan')
        loss.backward()
        return loss.detach(), {}

    def validate(self):
        return {}


def make(folder: Path, optimizer: str = 'adamw', **scale: object) -> ScaledTrainer:
    settings = dataclasses.replace(SETTINGS, optimizer=optimizer)
    return ScaledTrainer(FixedStage(), settings, folder, 'cpu', scale=ScaleConfig(**scale))


def gradients(trainer: ScaledTrainer) -> dict[str, torch.Tensor]:
    trainer._accumulate(torch.Generator())
    trainer._finish_gradients()
    return {name: whole(value.grad).clone() for name, value in trainer.parameters.items() if value.grad is not None}


def everything(trainer: ScaledTrainer) -> dict[str, torch.Tensor]:
    found = {name: whole(value.detach()).clone() for name, value in trainer.parameters.items()}
    return found | {f'ema.{name}': whole(value).clone() for name, value in trainer.ema.items()}


def go_on(folder: Path, optimizer: str) -> ScaledTrainer:
    """Go on from shards with the very same steps."""
    first = make(folder, optimizer)
    first.take_step()
    first.save()
    first.take_step()
    wanted = everything(first)
    second = make(folder, optimizer)
    second.resume()
    assert second.step == 1
    second.take_step()
    for name, value in everything(second).items():
        assert torch.equal(value, wanted[name]), name
    return second


def moved(folder: Path) -> dict[str, torch.Tensor]:
    """Say where one step of Muon takes every parameter."""
    trainer = make(folder, 'muon')
    trainer.take_step()
    return {name: whole(value.detach()).clone() for name, value in trainer.parameters.items()}


def check_checkpoints(folder: Path) -> None:
    """Go on from shards; keep the old checkpoint when the disk is full; survive damage."""
    second = go_on(folder, 'adamw')
    second.save()

    second.take_step()
    # The disk may be full for rank 1's shards, or for what rank 0 writes after them.
    for place, name in ((FileSystemWriter, 'write_data'), (sharded, '_finish')):
        honest = getattr(place, name)
        if place is sharded or rank() == 1:
            setattr(place, name, full_disk)
        try:
            second.save()
            raise AssertionError('a full disk went unnoticed')
        except CheckpointError as error:
            assert 'No space left' in str(error) and 'untouched' in str(error), error
        setattr(place, name, honest)
    assert [path.name for path in second.checkpoints.paths()] == ['step_00000001', 'step_00000002']
    assert not list((folder / 'checkpoints').glob('.step*'))

    if rank() == 0:
        for part in (folder / 'checkpoints' / 'step_00000002').glob('*.distcp'):
            part.write_bytes(part.read_bytes()[:1000])
    torch.distributed.barrier()
    third = make(folder)
    third.resume()
    assert third.step == 1 and [path.name for path in third.checkpoints.paths()] == ['step_00000001']


def full_disk(*_):
    raise OSError('No space left on device')


def check_nan(folder: Path) -> None:
    """Stop both ranks where one alone has a bad loss, with nothing spoilt."""
    trainer = make(folder)
    before = everything(trainer)
    trainer.stage.spoil = True
    try:
        trainer.take_step()
        raise AssertionError('NaN went unnoticed')
    except TrainingError as error:
        assert 'stage jdmd is nan at step 0' in str(error), error
    trainer._finish_gradients()
    assert all(torch.equal(value, before[name]) for name, value in everything(trainer).items())


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    start('cpu')
    for name, scale in (('plain', {}), ('recomputed', {'checkpoint_activations': True})):
        found = gradients(make(folder / name, **scale))
        if rank() == 0:
            torch.save(found, folder / f'{name}.pt')
    found = moved(folder / 'muon')
    if rank() == 0:
        torch.save(found, folder / 'muon.pt')
    go_on(folder / 'checkpoints_of_muon', 'muon')
    check_checkpoints(folder / 'checkpoints_of_two')
    check_nan(folder / 'nan')
    stop()
    (folder / f'done_{sys.argv[2]}').touch()


if __name__ == '__main__':
    main(Path(sys.argv[1]))
