# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Clips as latents: what every stage that trains in latents draws from.

Encoding a clip costs more than a step on its latents. So a stage may keep each clip in a few variants (augmented, with
other holes), encoded once when the first batch is drawn; or, with none kept, encode every batch that it draws.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from inspatio_ros.spatial.positions import BlockPositions
from inspatio_ros.training.data import ClipSource, integer
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.punch import punch
from inspatio_ros.training.self_forcing import Conditions

#: Keeps the draws of variants apart from those of a trainer's steps.
_SEED = 0x5EED


@dataclass(frozen=True)
class EncodingConfig:
    """How clips become latents."""

    #: Variants of each clip that are encoded once and kept (a quarter of a megabyte each at nano's size); 0: none is
    #: kept, every batch is encoded anew.
    variants: int = 0
    #: Share of clips whose render gets further holes, in which the cache mostly knows what the render lacks.
    punched: float = 0.


class EncodedClips:
    """The clips of a source as latents, under an autoencoder that does not change any more."""

    def __init__(self, networks: Networks, clips: ClipSource, config: EncodingConfig, seed: int = 0) -> None:
        self.networks, self.clips, self.config, self._seed = networks, clips, config, seed
        self._kept: list[tuple[Tensor, Conditions]] = []

    def draw(self, size: int, generator: torch.Generator) -> tuple[Tensor, Conditions]:
        """Draw a batch: true latents [B, T', C, h, w], and what they are generated from."""
        if not self.config.variants:
            return self.networks.encode(punch(self.clips.draw(size, generator), self.config.punched, generator))
        if not self._kept:
            self._encode_all()
        drawn = [self._kept[integer(len(self._kept), generator)] for _ in range(size)]
        return torch.cat([truth for truth, _ in drawn]).float(), _joined([conditions for _, conditions in drawn])

    @torch.no_grad()
    def _encode_all(self) -> None:
        from tqdm import tqdm
        encoder = copy.copy(self.networks)
        # A twin with faster layers, which cannot be trained.
        encoder.autoencoder = copy.deepcopy(self.networks.autoencoder).eval().fuse()
        for variant in range(self.config.variants):
            generator = torch.Generator().manual_seed(self._seed * 1_000_003 + _SEED + variant)
            for clip in tqdm(self.clips.augmented(generator), total=len(self.clips), mininterval=10,
                             desc=f'encoding, variant {variant + 1} of {self.config.variants}'):
                truth, conditions = encoder.encode(punch(clip, self.config.punched, generator))
                self._kept.append((truth.half(), _halved(conditions)))


def _halved(conditions: Conditions) -> Conditions:
    return Conditions(conditions.reference.half(), conditions.render.half(), conditions.mask.half(),
                      conditions.positions)


def _joined(parts: list[Conditions]) -> Conditions:
    def join(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts]).float()

    positions = tuple(_joined_positions(block) for block in zip(*(part.positions for part in parts), strict=True))
    return Conditions(join('reference'), join('render'), join('mask'), positions)


def _joined_positions(blocks: tuple[BlockPositions, ...]) -> BlockPositions:
    previous = None if blocks[0].previous is None else torch.cat([block.previous for block in blocks])
    return BlockPositions(torch.cat([block.reference for block in blocks]), previous,
                          torch.cat([block.block for block in blocks]))
