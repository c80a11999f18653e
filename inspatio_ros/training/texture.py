# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Teach texture (star/texture.py) beside a discriminator: pictures with holes that it filled against true ones.

Everything else stays as it is, so clips are generated once, into a pool, and a step is a few convolutions. Known pixels
of both kinds of picture are the same, so that the discriminator can go by holes alone. Squared error beside its
judgement keeps what was right already; how much neighbouring pixels differ, compared with the truth's, says how strong
texture shall be.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.training.data import Clips, ClipSource, integer, place, unit
from inspatio_ros.training.decoding import SMALLEST, gradient_energy
from inspatio_ros.training.discriminator import FRAMES_SEEN, Discriminator, in_holes
from inspatio_ros.training.likeness import PatchLikeness
from inspatio_ros.training.measure import SEED, Figures
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.stages import LEAST_SQUARE, LossConfig

#: Of the pool and of the discriminator's start, apart from the draws of a trainer's steps.
_SEED = 0x7E7
#: Windows that are drawn for one that is used, the one with the most hole pixels.
HUNT = 4
#: Pixels between those whose differences are compared.
GAPS = (1, 2)
#: Squared error (23 dB) below which a clip gains no more weight where differences are compared.
USUAL_SQUARE = 5e-3
#: The discriminator's learning rate, as a share of the texture's.
RATE = 2.
#: Likeness is judged on so many times fewer windows, which are longer.
FEWER = 4
#: Windows begin on this grid, that of what the network folds and halves.
_GRID = 8


@dataclass(frozen=True)
class _Made:
    """A clip as it was generated, without texture: images in half precision, masks and noise, [T, C, H, W] each.

    `square`: its mean squared error in holes.
    """

    image: Tensor
    truth: Tensor
    mask: Tensor
    grain: Tensor
    square: float


class TextureStage:
    """Train the autoencoder's texture by a discriminator and squared error; everything else is frozen."""

    name = 'texture'
    goes_by = ('crop', 'rolled_out', 'faithfulness', 'variation', 'roughness', 'texture_likeness')

    def __init__(self, networks: Networks, clips: ClipSource, held_out: ClipSource, config: LossConfig) -> None:
        if networks.autoencoder.texture is None:
            raise ConfigurationError('stage texture has nothing to train: autoencoder.texture_width is 0')
        self.networks, self.clips, self.held_out, self.config = networks, clips, held_out, config
        self.texture = networks.autoencoder.texture.requires_grad_(True)
        for part in networks.autoencoder.encoding_parts():
            part.requires_grad_(False)
        # The same start whatever was trained before in this process.
        with torch.random.fork_rng():
            torch.manual_seed(_SEED)
            self.discriminator = Discriminator(networks.config.autoencoder.image_channels).to(networks.device)
        self.modules: dict[str, nn.Module] = {'texture': self.texture, 'discriminator': self.discriminator}
        self.rates = {'texture': 1., 'discriminator': RATE}
        self._pool: list[_Made] = []
        self._held_out: list[_Made] = []
        self._likeness: PatchLikeness | None = None

    def loss(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Refuse: two networks have a loss each (use `backward`)."""
        raise NotImplementedError('the two networks have a loss each; train them with training/distributed.py')

    def backward(self, batch_size: int, generator: torch.Generator, shared: torch.Generator,
                 step: int) -> tuple[Tensor, dict[str, float]]:
        """Add the gradients of both networks; gives the squared error in holes and figures to log."""
        image, truth, mask, grain, before = self._windows(batch_size, FRAMES_SEEN, generator)
        made = self._textured(image, mask, grain)
        real = torch.where(mask > 0, image, truth)
        judged = (in_holes(F.relu(1 - self.discriminator(real, mask)), mask)
                  + in_holes(F.relu(1 + self.discriminator(made.detach(), mask)), mask))
        judged.backward()
        self.discriminator.requires_grad_(False)
        error = ((made - truth).square() * (1 - mask)).sum(dim=(1, 2, 3, 4)) / made.shape[2]
        square = (error / (before + LEAST_SQUARE)).sum() / (1 - mask).sum().clamp_min(1.)
        score = in_holes(self.discriminator(made, mask), mask)
        variation = _variation_apart(made, truth, mask, before, self.config.roughness)
        (self.config.faithfulness * square + self.config.variation * variation - score).backward()
        self.discriminator.requires_grad_(True)
        return square.detach(), {
            **(self._pull(batch_size, generator) if self.config.texture_likeness else {}),
            'variation': float(variation.detach()), 'score': float(score.detach()),
            'discriminator': float(judged.detach()),
            'sharp': gradient_energy(made, mask) / max(gradient_energy(truth, mask), SMALLEST)}

    def _textured(self, image: Tensor, mask: Tensor, grain: Tensor) -> Tensor:
        """Give windows [B, T, C, h, w] texture, frame by frame."""
        return self.texture(*(part.flatten(0, 1) for part in (image, mask, grain))).unflatten(0, image.shape[:2])

    def _pull(self, batch_size: int, generator: torch.Generator) -> dict[str, float]:
        """Add the gradient of how unlike true patches textured ones are, of windows that are as long as a block."""
        networks, batch_size = self.networks, max(1, batch_size // FEWER)

        def windows(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
            image, truth, mask, grain, _ = self._windows(batch_size, networks.config.frames_in_first_block, generator)
            return self._textured(image, mask, grain), truth, mask

        if self._likeness is None:
            self._likeness = PatchLikeness.started(networks.autoencoder, networks.config.size_multiple, _SEED, windows)
        unlike = self._likeness(*windows(generator), generator)
        (self.config.texture_likeness * unlike).backward()
        return {'unlike': float(unlike.detach())}

    def _windows(self, batch_size: int, frames: int, generator: torch.Generator) -> list[Tensor]:
        """Draw windows of successive frames: what `_Made` has, each of the first four [B, frames, C, h, w]."""
        if not self._pool:
            self._pool = self._fill_pool()
        drawn = [self._window(self._pool[integer(len(self._pool), generator)], frames, generator)
                 for _ in range(batch_size)]
        return [torch.stack(parts).to(self.networks.device, torch.float32) for parts in zip(*drawn, strict=True)]

    def _window(self, clip: _Made, length: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        sizes, best, fewest = (length, *self.config.crop), None, 0.
        for _ in range(HUNT):
            frames, rows, columns = (
                place(whole, part, grid, generator) for whole, part, grid in
                zip((len(clip.mask), *clip.mask.shape[-2:]), sizes, (1, _GRID, _GRID), strict=True))
            known = float(clip.mask[frames, :, rows, columns].float().mean())
            if best is None or known < fewest:
                best, fewest = (frames, slice(None), rows, columns), known
        return (clip.image[best], unit(clip.truth[best]), clip.mask[best], clip.grain[best],
                torch.tensor(clip.square))

    def _fill_pool(self) -> list[_Made]:
        from tqdm import tqdm
        generator = torch.Generator().manual_seed(_SEED)
        return [self._make(self.clips.draw(1, generator), generator)
                for _ in tqdm(range(self.config.rolled_out), mininterval=10, desc='generating clips')]

    def _make(self, clips: Clips, generator: torch.Generator) -> _Made:
        image = self.networks.generate(clips, generator)
        holes = 1 - clips.mask.float()
        square = float(((image.cpu() - unit(clips.truth)).square() * holes).sum() / holes.sum().clamp_min(1.) / 3)
        return _Made(image[0].half().cpu(), clips.truth[0], clips.mask[0], self.networks.grain(clips)[0].half().cpu(),
                     square)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Give held-out clips texture: PSNR, and gradient energy in holes relative to the truth."""
        if not self._held_out:
            self._held_out = [self._make(clips, torch.Generator().manual_seed(SEED + index))
                              for index, clips in enumerate(self.held_out.batches(1))]
        figures, energies = Figures(), [0., 0.]
        for clip in self._held_out:
            image, mask, grain = (part.to(self.networks.device, torch.float32)
                                  for part in (clip.image, clip.mask, clip.grain))
            truth = unit(clip.truth).to(image)
            made = self.texture(image, mask, grain).clamp(0, 1)
            figures.add(made[None].cpu(), truth[None].cpu(), mask[None].cpu())
            energies = [total + gradient_energy(part, mask)
                        for total, part in zip(energies, (made, truth), strict=True)]
        return {**figures.psnr(), 'sharp': energies[0] / max(energies[1], SMALLEST)}


def _variation_apart(made: Tensor, truth: Tensor, mask: Tensor, before: Tensor, roughness: float) -> Tensor:
    """Compare how much neighbouring hole pixels of clips [B, T, 3, H, W] differ: mean squares, by clip.

    `roughness`: the share of the truth's that is wanted.
    """
    total = made.new_zeros(())
    for gap in GAPS:
        for dim in (-1, -2):
            size = made.shape[dim] - gap
            both = (1 - mask).narrow(dim, 0, size) * (1 - mask).narrow(dim, gap, size)
            count = both.sum(dim=(1, 2, 3, 4)).clamp_min(1.) * made.shape[2]
            energies = [((image.narrow(dim, gap, size) - image.narrow(dim, 0, size)).square() * both)
                        .sum(dim=(1, 2, 3, 4)) / count for image in (made, truth)]
            total = total + ((energies[0] - roughness * energies[1]) / gap / (before + USUAL_SQUARE)).square().mean()
    return total / (2 * len(GAPS))
