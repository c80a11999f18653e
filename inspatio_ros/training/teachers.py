# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Bidirectional networks over whole clips at every noise level: the teachers, and what scores the student.

The *motion teacher* is given reference, render and mask (video to video) and learns from the student's clips: synthetic
scenes for the most part, whose geometry is exact but where depth was spoilt as sensors spoil it. The *real teacher* is
the same network without them, its 20 geometry channels zero, and learns from real video. The fake scores start as
copies of the teachers. The backbone is the student's own (star/transformer.py); what differs is that a clip is denoised
at once, that every noise level is trained, and that reference latents are concatenated in time before the clip's
instead of being remembered.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inspatio_ros.config import GeneratorConfig
from inspatio_ros.errors import ConfigurationError
from inspatio_ros.star.checkpoint import find_file
from inspatio_ros.star.scheduler import FlowScheduler, clean, like, mix
from inspatio_ros.star.transformer import DiffusionTransformer, Rotary, TextConstants
from inspatio_ros.training.data import ClipSource, unit
from inspatio_ros.training.encoded import EncodedClips
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.noise import normal
from inspatio_ros.training.self_forcing import Conditions
from inspatio_ros.training.widen import TRANSFORMER_FILES, load_widened

#: Noise levels at which teachers are looked at on held-out clips, in timesteps of 0..1000.
HELD_OUT_TIMESTEPS = (250., 625., 875.)
#: Mean square of what clean latents differ from the render's by, in holes and where all is known (nano's clips; latents
#: have a mean square of about 1).
RESIDUAL_VARIANCE = (0.64, 0.03)
#: Every look at held-out clips draws its noise from this seed.
HELD_OUT_SEED = 0


@dataclass(frozen=True)
class NoiseLevels:
    """How noise levels are drawn: uniform, warped by the schedule's shift, clamped to [low, high] of 1000.

    Self-Forcing's published recipe clamps to [20, 980]: the ends tell the two scores apart badly.
    """

    low: float = 20.
    high: float = 980.

    def draw(self, batch: int, scheduler: FlowScheduler, generator: torch.Generator) -> Tensor:
        """Draw timesteps float32 [batch], one for all frames of a clip."""
        steps = torch.randint(1, scheduler.config.num_train_timesteps + 1, (batch,), generator=generator)
        return scheduler.warp(steps).clamp(self.low, self.high)


class Denoiser(nn.Module):
    """Gives the clean latents of a whole clip from noisy ones, at any noise level.

    Args:
        config: sizes; the transformer's input has room for mask and render.
        prediction: 'flow', the network gives the velocity, or 'residual', what the clean latents differ from the
            render's by (from nothing where there is no render), mixed with what the noisy latents say
            (`preconditioning`). It is the denoiser's own, whatever the student's is.

    """

    def __init__(self, config: GeneratorConfig, prediction: str = 'flow') -> None:
        super().__init__()
        if prediction not in ('flow', 'residual'):
            raise ConfigurationError(f"a teacher's prediction {prediction!r} is unknown; choose flow or residual")
        self.config, self.prediction = config, prediction
        self.transformer = DiffusionTransformer(config.transformer)

    def forward(self, x_t: Tensor, timestep: Tensor, conditions: Conditions | None, text: Tensor) -> Tensor:
        """Run the network on noisy latents [B, T, C, h, w] at timesteps [B]; gives its raw prediction."""
        net, frames = self.transformer, x_t.shape[1]
        parts = [x_t, torch.zeros_like(x_t[:, :, :1]).expand(-1, -1, self.config.transformer.condition_dim, -1, -1)]
        if conditions is not None:
            parts = [x_t, conditions.mask.to(x_t), conditions.render.to(x_t)]
        x = torch.cat(parts, dim=2)
        if conditions is not None and conditions.reference is not None:
            known = F.pad(conditions.reference.to(x), (0, 0, 0, 0, 0, self.config.transformer.condition_dim))
            x = torch.cat([known, x], dim=1)
        rotary = self._rotary(x, conditions)
        out = net(x.to(net.dtype), self._text(text, len(x)), net.modulation(timestep.to(x.device)), rotary)
        return out[:, -frames:].to(x_t.dtype)

    def clean(self, x_t: Tensor, timestep: Tensor, conditions: Conditions | None, text: Tensor,
              guidance: float = 1.) -> Tensor:
        """Give the clean latents [B, T, C, h, w]; `guidance` > 1 moves on from the estimate without a caption."""
        found = self.to_clean(self(x_t, timestep, conditions, text), x_t, timestep, conditions)
        if guidance == 1.:
            return found
        empty = self.to_clean(self(x_t, timestep, conditions, torch.zeros_like(text)), x_t, timestep, conditions)
        return empty + guidance * (found - empty)

    def to_clean(self, out: Tensor, x_t: Tensor, timestep: Tensor, conditions: Conditions | None) -> Tensor:
        """Turn a raw prediction into clean latents."""
        sigma = timestep / self.config.scheduler.num_train_timesteps
        if self.prediction == 'residual':
            start, scale = preconditioning(x_t, sigma, conditions)
            return (start + scale * out).to(out)
        return clean(x_t, out, sigma)

    def loss(self, x0: Tensor, timestep: Tensor, noise: Tensor, conditions: Conditions | None, text: Tensor,
             weights: Tensor | None = None) -> Tensor:
        """Give the squared error of what the network predicts, by clip [B]: velocity noise - x0, or the residual.

        `weights` [C] of the latents' channels, all the same if left out.
        """
        sigma = timestep / self.config.scheduler.num_train_timesteps
        x_t = mix(x0, noise, sigma)
        out = self(x_t, timestep, conditions, text)
        wanted = noise - x0
        if self.prediction == 'residual':
            start, scale = preconditioning(x_t, sigma, conditions)
            wanted = (x0 - start) / scale
        error = (out.float() - wanted.float()).square()
        if weights is not None:
            error = error * weights[:, None, None]
        return error.flatten(1).mean(dim=1)

    def _rotary(self, x: Tensor, conditions: Conditions | None) -> Rotary:
        """Give the tables of all tokens; those of a clip placed by geometry lie in its last block's camera."""
        net, frames = self.transformer, self.config.latent_frames_per_block
        if conditions is None or not conditions.positions:
            return net.rotary(x.shape[1], *x.shape[3:], 0)
        first, last = conditions.positions
        # In time all lies as the student has it: the reference of either block, the block before, the block.
        parts = [net.rotary_at(carried(first.reference, last.previous[:, frames // 2]), 0),
                 net.rotary_at(last.reference, 0), net.rotary_at(last.previous, frames),
                 net.rotary_at(last.block, 2 * frames)]
        return Rotary(*(torch.cat(tables, dim=1) for tables in zip(*parts, strict=True)))

    def _text(self, text: Tensor, batch: int) -> TextConstants:
        constants = self.transformer.text_constants(text.to(self.transformer.device))
        return TextConstants(*(tuple(x.expand(batch, -1, -1, -1) for x in part) for part in constants))

    def copy(self) -> Denoiser:
        """Give a whole copy to train on, also of a sharded one: a fake score starts as its teacher."""
        twin = Denoiser(self.config, self.prediction).to(self.transformer.device, self.transformer.dtype)
        twin.load_state_dict(whole_state(self))
        return twin


@torch.no_grad()
def sample(denoiser: Denoiser, noise: Tensor, conditions: Conditions | None, text: Tensor, passes: int) -> Tensor:
    """Take noise [B, T, C, h, w] to clean latents along the denoiser's velocities, in Euler steps."""
    scheduler = FlowScheduler(denoiser.config.scheduler)
    sigmas = torch.cat([scheduler.sigma_grid(passes), torch.zeros(1)])
    x_t = noise
    for sigma, after in itertools.pairwise(sigmas):
        timestep = torch.full((len(noise),), float(sigma) * scheduler.config.num_train_timesteps, device=noise.device)
        x0 = denoiser.clean(x_t, timestep, conditions, text)
        x_t = x0 + after / sigma * (x_t - x0)
    return x_t


def carried(places: Tensor, seen: Tensor) -> Tensor:
    """Carry places from the picture of one camera to that of another, as the tokens of the first camera move.

    Args:
        places: [B, F, rows, cols, 2], rows and columns in tokens, in the first camera.
        seen: [B, rows, cols, 2], where the second camera sees each token of the first.

    """
    rows, cols = seen.shape[1:3]
    grid = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing='ij'), dim=-1).to(seen)
    moved = (seen - grid).permute(0, 3, 1, 2)
    size = torch.tensor([rows, cols]).to(places)
    at = ((2 * places + 1) / size - 1).flip(-1).flatten(1, 2)
    found = F.grid_sample(moved, at, padding_mode='border', align_corners=False)
    return places + found.permute(0, 2, 3, 1).unflatten(1, places.shape[1:3])


def preconditioning(x_t: Tensor, sigma: Tensor, conditions: Conditions | None) -> tuple[Tensor, Tensor]:
    """Give `start` and `scale`, by which a residual network's output becomes clean latents: start + scale * output.

    They are the mean of clean latents, and what is then still open as a share of what was open without x_t, if clean
    latents differ from the render's by Gaussians of RESIDUAL_VARIANCE (from nothing by one of 1, where there is no
    render). Where all is noise, `start` is the render and `scale` is 1; where there is no noise, `start` is x_t.
    (Karras et al. 2022, arXiv 2206.00364, section 5, about the render instead of about nothing.) For
    x_t [B, T, C, h, w] and sigma [B] it gives [B, T, C, h, w] and [B, T, 1, h, w].
    """
    sigma = like(sigma, x_t)
    render, variance = torch.zeros_like(x_t), torch.ones_like(x_t[:, :, :1])
    if conditions is not None:
        known = (conditions.mask.to(x_t).mean(dim=2, keepdim=True) + 1) / 2
        hole_variance, known_variance = RESIDUAL_VARIANCE
        render, variance = conditions.render.to(x_t), hole_variance + (known_variance - hole_variance) * known
    total = variance * (1 - sigma) ** 2 + sigma ** 2
    gain = variance * (1 - sigma) / total
    return render + gain * (x_t - (1 - sigma) * render), sigma / total.sqrt()


def whole_state(net: nn.Module) -> dict[str, Tensor]:
    """Give the tensors of a network, gathered where it is sharded."""
    return {name: getattr(value, 'full_tensor', lambda value=value: value)()
            for name, value in net.state_dict().items()}


@dataclass(frozen=True)
class TeacherConfig:
    """How both teachers are trained."""

    prediction: str = 'flow'
    noise: NoiseLevels = NoiseLevels()
    #: Share of steps without the caption, which guidance needs. A generator with one fixed caption has no use for it.
    caption_dropout: float = 0.
    #: Whether both teachers start as what the student is after its initialisation, as all of the paper's networks start
    #: from one base model.
    from_student: bool = False
    #: Folder of the weights that both teachers start from (Wan2.1's), '' for none.
    weights: str = ''
    #: Whether latents' channels count by what they do to pixels, in the teachers' errors and in the fake scores'.
    weigh_channels: bool = False


class VideoSource(Protocol):
    """Real video to draw from (training/real_data.py)."""

    def draw(self, batch_size: int, generator: torch.Generator) -> Tensor:
        """Draw clips uint8 [B, T, 3, H, W]."""

    def held_out(self, batch_size: int) -> Tensor:
        """Give the same clips every time, of pieces that are never drawn; none where there is nothing to spare."""


class _TeacherStage:
    name: str

    def __init__(self, networks: Networks, config: TeacherConfig, weights: Tensor | None = None) -> None:
        self.networks, self.config, self.weights = networks, config, weights
        self.teacher = Denoiser(networks.config, config.prediction).to(networks.device)
        if config.from_student:
            self.teacher.transformer.load_state_dict(whole_state(networks.transformer))
        if config.weights:
            load_widened(self.teacher.transformer, find_file(Path(config.weights), TRANSFORMER_FILES, 'transformer'))
        self.modules: dict[str, nn.Module] = {'teacher': self.teacher}

    def _error(self, truth: Tensor, conditions: Conditions | None, generator: torch.Generator) -> Tensor:
        timestep = self.config.noise.draw(len(truth), self.networks.scheduler, generator).to(truth.device)
        noise = normal(truth.shape, generator, truth.device)
        text = self.networks.text
        if float(torch.rand(1, generator=generator)) < self.config.caption_dropout:
            text = torch.zeros_like(text)
        return self.teacher.loss(truth, timestep, noise, conditions, text, self.weights).mean()

    def _held_out(self, truth: Tensor, conditions: Conditions | None, generator: torch.Generator) -> dict[str, float]:
        noise = torch.randn(truth.shape, generator=generator).to(truth)
        errors = {}
        for level in HELD_OUT_TIMESTEPS:
            timestep = torch.full((len(truth),), level, device=truth.device)
            x_t = mix(truth, noise, timestep / self.networks.config.scheduler.num_train_timesteps)
            found = self.teacher.clean(x_t, timestep, conditions, self.networks.text)
            errors[f'clean_error_{level:.0f}'] = float((found - truth).square().mean())
        return errors


class MotionTeacherStage(_TeacherStage):
    """Train the motion teacher: whole synthetic clips from their reference, render and mask."""

    name = 'motion_teacher'

    def __init__(self, networks: Networks, encoded: EncodedClips, held_out: ClipSource, config: TeacherConfig,
                 weights: Tensor | None = None) -> None:
        super().__init__(networks, config, weights)
        self.held_out, self.encoded = held_out, encoded

    def loss(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Denoise true clips from any noise level."""
        truth, conditions = self.encoded.draw(batch_size, generator)
        return self._error(truth, conditions, generator), {}

    def validate(self) -> dict[str, float]:
        """Give the error of clean latents at fixed noise levels, on held-out clips."""
        generator = torch.Generator().manual_seed(HELD_OUT_SEED)
        found = [(len(clips), self._held_out(*self.networks.encode(clips), generator))
                 for clips in self.held_out.batches(4)]
        return _mean(found)


class RealTeacherStage(_TeacherStage):
    """Train the real teacher: real video without conditions, the 20 geometry channels zero."""

    name = 'real_teacher'

    def __init__(self, networks: Networks, video: VideoSource, config: TeacherConfig,
                 weights: Tensor | None = None) -> None:
        super().__init__(networks, config, weights)
        self.video = video

    def loss(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Denoise real clips from any noise level."""
        return self._error(encode_video(self.networks, self.video.draw(batch_size, generator)), None, generator), {}

    def validate(self) -> dict[str, float]:
        """Give the error of clean latents at fixed noise levels, on pieces of video that are never drawn."""
        generator = torch.Generator().manual_seed(HELD_OUT_SEED)
        video = self.video.held_out(4)
        return self._held_out(encode_video(self.networks, video), None, generator) if len(video) else {}


@torch.no_grad()
def encode_video(networks: Networks, video: Tensor) -> Tensor:
    """Encode clips uint8 [B, T, 3, H, W] as latents [B, T', C, h, w]."""
    return networks.autoencoder.encode(unit(video.to(networks.device))).float()


def _mean(batches: list[tuple[int, dict[str, float]]]) -> dict[str, float]:
    """Give the mean over all clips of figures that are means over so many of them."""
    clips = sum(count for count, _ in batches)
    return {name: sum(count * row[name] for count, row in batches) / clips for name in batches[0][1]}
