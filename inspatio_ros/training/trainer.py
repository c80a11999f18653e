# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""One training loop for every stage: resumable, with EMA, logged curves, and a stop at the first bad loss.

Everything random in a step is drawn from the seed and the step's number, so that a run that was cut off and goes on
takes the very steps it would have taken.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from inspatio_ros.errors import ConfigurationError, InspatioError
from inspatio_ros.star.speed import cpu_multiplies_bfloat16
from inspatio_ros.training.checkpoint import (
    CheckpointError,
    CheckpointFolder,
    of_another_configuration,
    tensors_of,
    tensors_under,
)
from inspatio_ros.training.optimizers import Optimizers, moments_under


class TrainingError(InspatioError):
    """Training cannot go on; the message says at which step and what is kept."""


#: What matrix products may run in.
PRECISIONS = ('auto', 'bfloat16', 'float32')


@dataclass(frozen=True)
class TrainerConfig:
    """How one stage is trained."""

    steps: int
    batch_size: int = 8
    learning_rate: float = 1e-3
    warmup_steps: int = 50
    #: The cosine ends at this share of the learning rate.
    final_rate: float = 0.02
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    #: One of optimizers.OPTIMIZERS.
    optimizer: str = 'adamw'
    clip: float = 1.
    ema: float = 0.99
    seed: int = 0
    #: What matrix products run in: 'bfloat16' (autocast), 'float32', or 'auto': bfloat16 where the device has units for
    #: it; elsewhere it would be several times as slow.
    precision: str = 'auto'
    save_every: int = 200
    log_every: int = 10

    def __post_init__(self) -> None:
        for name in ('steps', 'batch_size', 'save_every', 'log_every'):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ConfigurationError(f'{name} {value!r} is not a number of at least 1')
        for name in ('learning_rate', 'final_rate', 'weight_decay', 'clip', 'ema'):
            value = getattr(self, name)
            if not isinstance(value, int | float):
                # YAML takes 2e-5 for a word.
                raise ConfigurationError(f'{name} {value!r} is not a number; write 2.0e-5, not 2e-5')
        if self.precision not in PRECISIONS:
            raise ConfigurationError(f'precision {self.precision!r} is unknown; choose one of {", ".join(PRECISIONS)}')


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Run matrix products in a TrainerConfig.precision."""
    if precision == 'auto':
        precision = 'bfloat16' if device.type == 'cuda' or cpu_multiplies_bfloat16() else 'float32'
    if precision == 'float32':
        return contextlib.nullcontext()
    # Uncached: a weight that a pass without gradient has cast would have none in the passes after it.
    return torch.autocast(device.type, getattr(torch, precision), cache_enabled=False)


class Stage(Protocol):
    """One stage: which modules it trains, and the loss of one step."""

    name: str
    modules: dict[str, nn.Module]

    def loss(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Draw a batch from the generator; give its loss and figures to log."""

    def validate(self) -> dict[str, float]:
        """Give figures on held-out data, with the EMA weights in place; empty if there are none."""


class Trainer:
    """Trains one stage into a folder: `checkpoints/`, TensorBoard events, and the weights of its EMA."""

    def __init__(self, stage: Stage, config: TrainerConfig, output: Path, device: str = 'cpu',
                 description: dict[str, Any] | None = None) -> None:
        self.stage, self.config, self.device = stage, config, torch.device(device)
        self.output = output
        #: Whether progress is left to others to tell.
        self.quiet = False
        self.description = description or {}
        self.checkpoints = CheckpointFolder(output / 'checkpoints')
        self.parameters = {f'{module}.{name}': value for module, net in stage.modules.items()
                           for name, value in net.named_parameters() if value.requires_grad}
        #: Shares of the learning rate, by module, where a stage has them; and the parameters, by what shares a rate.
        self.rates: dict[str, float] | None = getattr(stage, 'rates', None)
        self.groups = {'': self.parameters} if self.rates is None else {
            module: {name: value for name, value in self.parameters.items() if name.split('.')[0] == module}
            for module in stage.modules}
        self.optimizers = Optimizers(config, self.groups, self.rates)
        self.ema = {name: value.detach().clone() for name, value in self.parameters.items()}
        self.step = 0

    # The loop

    def run(self, stop_after: float = math.inf) -> None:
        """Train up to the last step, or for `stop_after` seconds; goes on from the newest checkpoint."""
        from tqdm import tqdm
        self.resume()
        started, saved = time.monotonic(), self.step
        with self._writer() as writer, tqdm(total=self.config.steps, initial=self.step, desc=self.stage.name,
                                            mininterval=5, disable=self.quiet) as bar:
            while self.step < self.config.steps and self._goes_on(started, stop_after):
                loss, figures = self.take_step()
                bar.update()
                if self.step % self.config.log_every == 0:
                    bar.set_postfix(loss=f'{loss:.4f}')
                    self._log(writer, {'loss': loss, 'learning_rate': self.learning_rate(), **figures})
                if self.step % self.config.save_every == 0:
                    self.save()
                    saved = self.step
                    self._log(writer, self.validate())
        if saved != self.step:
            self.save()

    def take_step(self) -> tuple[float, dict[str, float]]:
        """Take one optimiser step; a loss or gradient that is not finite stops before it spoils anything."""
        self.optimizers.set_rate(self.learning_rate())
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.step)
        for net in self.stage.modules.values():
            net.train()
        self.optimizers.zero_grad()
        with self._autocast():
            loss, figures = self.stage.loss(self.config.batch_size, generator)
        self._check_finite('loss', loss)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.config.clip)
        self._check_finite('gradient', norm)
        self.optimizers.step()
        self.step += 1
        # Early on the average follows quickly, so that it does not drag the random start along.
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.parameters.items():
            self.ema[name].lerp_(value.detach(), 1 - decay)
        return float(loss.detach()), {**figures, 'gradient_norm': float(norm)}

    def learning_rate(self) -> float:
        """Give the rate of the coming step: linear warm-up, then a cosine."""
        config = self.config
        warm = min(1., (self.step + 1) / max(1, config.warmup_steps))
        progress = min(1., self.step / max(1, config.steps))
        cosine = config.final_rate + (1 - config.final_rate) * 0.5 * (1 + math.cos(math.pi * progress))
        return config.learning_rate * warm * cosine

    def validate(self) -> dict[str, float]:
        """Give the stage's figures on held-out data with the EMA weights."""
        with self.ema_weights(), torch.no_grad(), self._autocast():
            for net in self.stage.modules.values():
                net.eval()
            return {f'held_out/{name}': value for name, value in self.stage.validate().items()}

    @contextlib.contextmanager
    def ema_weights(self) -> Iterator[None]:
        """Swap the EMA weights in for a while."""
        kept = {name: value.detach().clone() for name, value in self.parameters.items()}
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(self.ema[name])
            try:
                yield
            finally:
                for name, value in self.parameters.items():
                    value.copy_(kept[name])

    # Checkpoints

    def save(self) -> Path:
        """Write a checkpoint: weights, EMA and the optimiser's moments."""
        tensors = {}
        for name, net in self.stage.modules.items():
            tensors |= tensors_of(net, f'weights.{name}.')
        tensors |= {f'ema.{name}': value for name, value in self.ema.items()}
        for name, value in self.parameters.items():
            for moment, content in self.optimizers.moments(value).items():
                tensors[f'optimizer.{moment}.{name}'] = content
        return self.checkpoints.save(self.step, tensors, self._identity())

    def resume(self) -> None:
        """Go on from the newest whole checkpoint, if there is one; one of another configuration is an error."""
        found = self.checkpoints.newest()
        if found is None:
            return
        path, tensors, metadata = found
        self._check_same(path, metadata)
        for name, net in self.stage.modules.items():
            net.load_state_dict(tensors_under(tensors, f'weights.{name}.'), strict=True)
        self.ema = {name: tensors[f'ema.{name}'].to(value.device) for name, value in self.parameters.items()}
        for name, value in self.parameters.items():
            self.optimizers.take_moments(value, {moment: tensors[key] for moment, key
                                                 in moments_under(tensors, name).items()})
        self.step = metadata['step']

    def _check_same(self, path: Path, metadata: dict[str, Any]) -> None:
        difference = of_another_configuration(self._identity()['description'], metadata['description'])
        if difference:
            raise CheckpointError(f'{path} is of another configuration ({difference}); '
                                  f'choose another --output or remove {self.output}')

    def _identity(self) -> dict[str, Any]:
        # What must agree for a run to go on; how long it runs and how often it saves may change.
        trainer = asdict(self.config)
        for free in ('steps', 'save_every', 'log_every', 'learning_rate', 'final_rate', 'batch_size', 'ema'):
            trainer.pop(free)
        trainer['betas'] = list(trainer['betas'])
        if trainer['optimizer'] == TrainerConfig.optimizer:
            # Checkpoints of before there was a choice say nothing of it.
            trainer.pop('optimizer')
        return {'stage': self.stage.name, 'description': {**self.description, 'trainer': trainer}}

    # Inside

    def _goes_on(self, started: float, stop_after: float) -> bool:
        return time.monotonic() - started < stop_after

    def _check_finite(self, what: str, value: Tensor) -> None:
        if bool(torch.isfinite(value)):
            return
        paths = self.checkpoints.paths()
        kept = f'the last good checkpoint is {paths[-1]}' if paths else 'no checkpoint was saved yet'
        raise TrainingError(f'the {what} of stage {self.stage.name} is {float(value.detach())} '
                            f'at step {self.step}; {kept}')

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        return autocast(self.config.precision, self.device)

    @contextlib.contextmanager
    def _writer(self) -> Iterator[Any]:
        from torch.utils.tensorboard import SummaryWriter
        with self._curves():
            writer = SummaryWriter(str(self.output), purge_step=self.step)
        try:
            yield writer
        except BaseException:
            # What ended training is what is told.
            with contextlib.suppress(OSError):
                writer.close()
            raise
        with self._curves():
            writer.close()

    @contextlib.contextmanager
    def _curves(self) -> Iterator[None]:
        """Turn what goes wrong while curves are written into one sentence: a full disk shows itself there first."""
        try:
            yield
        except OSError as error:
            raise TrainingError(f'the curves of stage {self.stage.name} cannot be written to {self.output} ({error}); '
                                'make room there, and the same command goes on from the last checkpoint') from error

    def _log(self, writer: Any, figures: dict[str, float]) -> None:
        with self._curves():
            for name, value in figures.items():
                writer.add_scalar(f'{self.stage.name}/{name}', value, self.step)
        held_out = [f'{name[9:]} {value:.3f}' for name, value in figures.items() if name.startswith('held_out/')]
        if held_out:
            from tqdm import tqdm
            tqdm.write(f'{self.stage.name} step {self.step}: held out ' + ', '.join(held_out))
