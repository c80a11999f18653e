# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Flow matching: sigmas, timesteps, and the way between noisy latents, clean latents and velocities.

x_t = (1 - sigma) * x0 + sigma * noise, velocity v = noise - x0, so x0 = x_t - sigma * v. Sigmas run from 1 to 0
(exclusive) and are warped by sigma' = shift * sigma / (1 + (shift - 1) * sigma); timestep = 1000 * sigma'.
"""

from __future__ import annotations

import torch
from torch import Tensor

from inspatio_ros.config import SchedulerConfig


class FlowScheduler:
    """The noise schedule.

    Attributes: `sigmas` and `timesteps` float32 [num_train_timesteps], falling; `denoising_timesteps` and
    `denoising_sigmas` float32 [steps], those of the block's denoising passes.

    `release_nearest_sigma`: the release looks a timestep up as the nearest entry of its grid, so that timesteps of 0
    and below the smallest entry get that entry's sigma (0.005), never 0. By default sigma is timestep / 1000, which
    is the same on the grid and right beside it.
    `release_whole_batch_step`: the release's Euler step takes the whole batch to sigma 0 as soon as one row sits on
    the last entry of the grid. By default each row takes its own step.
    """

    def __init__(self, config: SchedulerConfig | None = None, release_nearest_sigma: bool = False,
                 release_whole_batch_step: bool = False) -> None:
        self.config = config or SchedulerConfig()
        self.release_nearest_sigma = release_nearest_sigma
        self.release_whole_batch_step = release_whole_batch_step
        self.sigmas = self.sigma_grid(self.config.num_train_timesteps)
        self.timesteps = self.sigmas * self.config.num_train_timesteps
        self.denoising_timesteps = self.warp(torch.tensor(self.config.denoising_steps))
        self.denoising_sigmas = self.sigma(self.denoising_timesteps)

    def sigma_grid(self, count: int) -> Tensor:
        """Give `count` warped sigmas, falling from 1: float32 [count]."""
        sigma = torch.linspace(1., self.config.sigma_min, count + 1)[:-1]
        return self.config.shift * sigma / (1 + (self.config.shift - 1) * sigma)

    def warp(self, steps: Tensor) -> Tensor:
        """Give the timesteps of integer steps [N], counted down from num_train_timesteps; step 0 is timestep 0."""
        padded = torch.cat([self.timesteps, torch.zeros(1)])
        return padded[self.config.num_train_timesteps - steps]

    def nearest_index(self, timestep: Tensor) -> Tensor:
        """Give the first grid index of the smallest distance to each timestep [N]: int64 [N]."""
        timesteps = self.timesteps.to(timestep.device)
        return (timesteps[None] - timestep[:, None].to(timesteps.dtype)).abs().argmin(dim=1)

    def sigma(self, timestep: Tensor) -> Tensor:
        """Give the sigmas float32 [N] of timesteps [N]."""
        if self.release_nearest_sigma:
            return self.sigmas.to(timestep.device)[self.nearest_index(timestep)]
        return timestep.to(torch.float32) / self.config.num_train_timesteps

    def add_noise(self, x0: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """Noise clean latents [N, ...] to timesteps [N]; the result has the noise's type."""
        return mix(x0, noise, self.sigma(timestep))

    def flow_to_x0(self, flow: Tensor, x_t: Tensor, timestep: Tensor) -> Tensor:
        """Give the clean latents [N, ...] that a velocity points at: x_t - sigma * flow, computed in float64."""
        return clean(x_t, flow, self.sigma(timestep))

    def x0_to_flow(self, x0: Tensor, x_t: Tensor, timestep: Tensor) -> Tensor:
        """Give the velocity [N, ...] that points at clean latents: (x_t - x0) / sigma, in float64; undefined at 0."""
        sigma = like(self.sigma(timestep).to(torch.float64), x_t)
        return ((x_t.to(torch.float64) - x0.to(torch.float64)) / sigma).to(x0.dtype)

    def step(self, flow: Tensor, timestep: Tensor, x_t: Tensor, to_final: bool = False) -> Tensor:
        """Take one Euler step [N, ...] to the next sigma of the grid, or (`to_final`, or at its end) to sigma 0."""
        index = self.nearest_index(timestep)
        sigmas = self.sigmas.to(x_t.device)
        following = torch.cat([sigmas[1:], torch.zeros(1, device=x_t.device)])[index]
        at_end = index == len(sigmas) - 1
        if to_final or (self.release_whole_batch_step and bool(at_end.any())):
            following = torch.zeros_like(following)
        return x_t + flow * like(following - sigmas[index], x_t)

    def training_weights(self) -> Tensor:
        """Give the loss weights float32 [num_train_timesteps] of the grid: a bell about its middle, mean 1."""
        count = self.config.num_train_timesteps
        bell = torch.exp(-2 * ((self.timesteps - count / 2) / count)**2)
        bell = bell - bell.min()
        return bell * (count / bell.sum())


def mix(x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Noise clean latents [N, ...] with sigmas float32 [N] (or one, []): (1 - sigma) * x0 + sigma * noise."""
    sigma = like(sigma, x0)
    return ((1 - sigma) * x0 + sigma * noise).to(noise.dtype)


def clean(x_t: Tensor, flow: Tensor, sigma: Tensor) -> Tensor:
    """Take noisy latents [N, ...] along their velocity to sigma 0, in float64; the result has the flow's type."""
    sigma = like(sigma.to(torch.float64), x_t)
    return (x_t.to(torch.float64) - sigma * flow.to(torch.float64)).to(flow.dtype)


def like(sigma: Tensor, x: Tensor) -> Tensor:
    """Give sigmas [N] (or one, []) the shape in which they act on latents [N, ...]."""
    return sigma.to(x.device).reshape(-1, *[1] * (x.dim() - 1))
