# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Joint distribution matching distillation: two teachers, two fake scores, one student.

L = L_vis + lambda_ctrl * L_ctrl. L_ctrl pulls the student's roll-outs with reference, render and mask towards what the
motion teacher holds likely under the same conditions, L_vis pulls its roll-outs without geometry towards what the real
teacher holds likely. Each is a distribution matching gradient (DMD): noise a sample to x_t, let the frozen teacher and
a fake score, trained on the student's own samples, both estimate the clean latents, and move the sample along their
difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.star.scheduler import mix
from inspatio_ros.training.data import ClipSource
from inspatio_ros.training.encoded import EncodedClips
from inspatio_ros.training.measure import measure
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.noise import normal
from inspatio_ros.training.self_forcing import Conditions, RollOut, draw_noise
from inspatio_ros.training.teachers import Denoiser, NoiseLevels

#: The two tasks, in the order in which they alternate.
TASKS = ('vis', 'ctrl')
#: Keeps the normalisation finite where a sample is already what the teacher wants.
_SMALLEST = 1e-6


@dataclass(frozen=True)
class JdmdConfig:
    """The distillation's settings; those that the paper does not publish are choices, explained in docs/training.md."""

    #: Weight of the controlled task. Both gradients are normalised to the same size, so 1 weighs them equally.
    lambda_ctrl: float = 1.
    #: Which tasks are trained; one alone is an ablation.
    tasks: tuple[str, ...] = TASKS
    #: The fake scores take a step every time, the student every so many times.
    student_every: int = 5
    #: The fake scores' learning rate, as a share of the student's.
    fake_rate: float = 0.2
    noise: NoiseLevels = NoiseLevels()
    #: Scale of classifier-free guidance on the teachers (1 is none; needs teachers trained with caption dropout).
    guidance: float = 1.
    #: What the student is given in the task without geometry: 'none' (text to video, as published), 'reference' (the
    #: cache still holds the reference), or 'all' (the controlled roll-out itself is judged by the real teacher).
    vis_conditions: str = 'none'
    #: Weight of the squared distance to the truth in the controlled task; not part of the published method.
    anchor: float = 0.
    #: Whether a block's gradient also flows through its own context pass.
    train_context: bool = True

    def __post_init__(self) -> None:
        if not self.tasks or set(self.tasks) - set(TASKS):
            raise ConfigurationError(f'jdmd tasks {self.tasks!r} must be among {", ".join(TASKS)}')
        if self.vis_conditions not in ('none', 'reference', 'all'):
            raise ConfigurationError(
                f'jdmd vis_conditions {self.vis_conditions!r} is unknown; choose none, reference or all')
        if self.student_every < 1:
            raise ConfigurationError(f'jdmd student_every is {self.student_every}; it must be at least 1')


def dmd_direction(x: Tensor, x_real: Tensor, x_fake: Tensor) -> Tensor:
    """Give g = (x_fake - x_real) / mean|x - x_real|, normalised by sample, for clean estimates [B, ...].

    0.5 * mse(x, stopgrad(x - g)) has the gradient g / numel, so that a step against it moves samples from what the
    student makes to what the teacher would make, at the same speed at every noise level.
    """
    size = (x - x_real).abs().flatten(1).mean(dim=1).clamp_min(_SMALLEST)
    return (x_fake - x_real) / size.view(-1, *[1] * (x.dim() - 1))


@dataclass(frozen=True)
class Scores:
    """The frozen teacher of one task and the fake score that follows the student."""

    teacher: Denoiser
    fake: Denoiser

    @torch.no_grad()
    def gradient(self, x: Tensor, timestep: Tensor, noise: Tensor, conditions: Conditions | None, text: Tensor,
                 guidance: float = 1.) -> Tensor:
        """Give the gradient of the distribution matching loss with respect to samples x [B, T, C, h, w]."""
        x_t = mix(x, noise, timestep / self.teacher.config.scheduler.num_train_timesteps)
        x_real = self.teacher.clean(x_t, timestep, conditions, text, guidance)
        x_fake = self.fake.clean(x_t, timestep, conditions, text)
        return dmd_direction(x.float(), x_real.float(), x_fake.float()) / x.numel()


class JdmdStage:
    """Train the student on its own roll-outs by two teachers, alternating between their tasks.

    A round is `student_every` steps of one task: the task's fake score takes every step, the student the last one.
    `teachers` has one frozen denoiser a task; the fake scores start as their copies, and learn as they did: `weights`
    [C] of channels are theirs.
    """

    name = 'jdmd'

    def __init__(self, networks: Networks, encoded: EncodedClips, held_out: ClipSource, config: JdmdConfig,
                 teachers: dict[str, Denoiser], weights: Tensor | None = None, stand_ins: Sequence[str] = ()) -> None:
        self.networks, self.encoded, self.held_out, self.config = networks, encoded, held_out, config
        #: Teachers that were never trained without a caption have no estimate to be guided away from.
        self._guidance = {task: 1. if task in stand_ins else config.guidance for task in config.tasks}
        missing = [task for task in config.tasks if task not in teachers]
        if missing:
            raise ConfigurationError(f'jdmd needs the teacher of task {missing[0]!r}; train it first')
        self.scores = {task: Scores(teachers[task].requires_grad_(False).eval(), teachers[task].copy())
                       for task in config.tasks}
        self._weights = weights
        self.modules: dict[str, nn.Module] = {'transformer': networks.transformer, **{
            f'fake_{task}': scores.fake for task, scores in self.scores.items()}}
        #: Networks that are read and never trained.
        self.frozen: list[nn.Module] = [scores.teacher for scores in self.scores.values()]
        #: Share of the learning rate, by module; each module's gradient is clipped by itself.
        self.rates = {name: 1. if name == 'transformer' else config.fake_rate for name in self.modules}

    def task(self, step: int) -> tuple[str, bool]:
        """Say which task a step is of, and whether the student takes it."""
        rounds, within = divmod(step, self.config.student_every)
        return self.config.tasks[rounds % len(self.config.tasks)], within == self.config.student_every - 1

    def loss(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Refuse: there is no one loss to differentiate (use `backward`)."""
        raise NotImplementedError('distillation back-propagates block by block; train it with training/distributed.py')

    def backward(self, batch_size: int, generator: torch.Generator, shared: torch.Generator,
                 step: int) -> tuple[Tensor, dict[str, float]]:
        """Add the gradients of one step to the parameters.

        Args:
            batch_size: clips.
            generator: for data and noise, other on every rank.
            shared: for what all ranks must draw alike, the exit pass.
            step: of the training.

        Returns:
            the fake score's loss (detached) and figures to log.

        """
        task, student_moves = self.task(step)
        scores, text = self.scores[task], self.networks.text
        truth, conditions = self.encoded.draw(batch_size, generator)
        given = self._given(task, conditions)
        judged = conditions if task == 'ctrl' else None
        passes = len(self.networks.config.scheduler.denoising_steps)
        roll_out = RollOut(self.networks.blocks, given,
                           draw_noise(self.networks.blocks, truth.shape[1] // self.networks.frames, len(truth),
                                      generator),
                           int(torch.randint(passes, (1,), generator=shared)), text, self.config.train_context)
        samples = roll_out.generate().float()
        figures = {}
        if student_moves:
            weight = self.config.lambda_ctrl if task == 'ctrl' else 1.
            timestep, noise = self._noise(samples, generator)
            gradient = weight * scores.gradient(samples, timestep, noise, judged, text, self._guidance[task])
            figures[f'distance_{task}'] = float(gradient.abs().mean()) * samples.numel() / max(weight, _SMALLEST)
            if task == 'ctrl' and self.config.anchor:
                gradient = gradient + 2 * self.config.anchor * (samples - truth) / samples.numel()
            roll_out.backpropagate(samples, gradient)
        timestep, noise = self._noise(samples, generator)
        loss = scores.fake.loss(samples, timestep, noise, judged, text, self._weights).mean()
        loss.backward()
        figures[f'fake_{task}'] = float(loss.detach())
        return loss.detach(), figures

    def validate(self) -> dict[str, float]:
        """Generate held-out clips."""
        return measure(self.networks, self.held_out)

    def _given(self, task: str, conditions: Conditions) -> Conditions:
        if task == 'ctrl' or self.config.vis_conditions == 'all':
            return conditions
        return conditions.without_geometry(self.config.vis_conditions == 'reference')

    def _noise(self, samples: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        timestep = self.config.noise.draw(len(samples), self.networks.scheduler, generator)
        return timestep.to(samples.device), normal(samples.shape, generator, samples.device)
