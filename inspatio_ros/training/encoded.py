# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Clips as latents: what every stage that trains in latents draws from.

Encoding a clip costs more than a step on its latents. So a stage may keep each clip in a few variants (augmented, with
other holes), encoded once when the first batch is drawn; or, with none kept, encode every batch that it draws. What is
kept is also written to a file, under a name that follows from all that it depends on: a run that goes on, or another
one with the same autoencoder and clips, reads it.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from inspatio_ros.config import to_dict
from inspatio_ros.spatial.positions import BlockPositions
from inspatio_ros.training.checkpoint import CheckpointError, load_tensors, save_tensors
from inspatio_ros.training.data import ClipSource, integer
from inspatio_ros.training.distributed import rank
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.punch import punch
from inspatio_ros.training.self_forcing import Conditions

#: What there is of a clip's conditions, and of a block's positions.
_PARTS, _PLACES = ('reference', 'render', 'mask'), ('reference', 'previous', 'block')
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

    def __init__(self, networks: Networks, clips: ClipSource, config: EncodingConfig, seed: int = 0,
                 folder: Path | None = None) -> None:
        self.networks, self.clips, self.config, self._seed, self._folder = networks, clips, config, seed, folder
        self._kept: list[tuple[Tensor, Conditions]] = []

    def draw(self, size: int, generator: torch.Generator) -> tuple[Tensor, Conditions]:
        """Draw a batch: true latents [B, T', C, h, w], and what they are generated from."""
        if not self.config.variants:
            return self.networks.encode(punch(self.clips.draw(size, generator), self.config.punched, generator))
        if not self._kept:
            self._read_or_encode()
        drawn = [self._kept[integer(len(self._kept), generator)] for _ in range(size)]
        return torch.cat([truth for truth, _ in drawn]).float(), _joined([conditions for _, conditions in drawn])

    def _read_or_encode(self) -> None:
        path = None if self._folder is None else self._folder / f'{self._fingerprint()}.safetensors'
        if path is not None and path.exists():
            try:
                self._kept = _unpack(load_tensors(path)[0])
                return
            except CheckpointError as error:
                print(f'{path} is made anew: {error}')
        self._encode_all()
        if path is not None and rank() == 0:
            save_tensors(path, _pack(self._kept), {'clips': self.clips.description()})

    def _fingerprint(self) -> str:
        """Name everything that the kept latents depend on."""
        found = hashlib.sha256(repr((to_dict(self.config), self._seed, to_dict(self.networks.config.autoencoder),
                                     self.networks.config.positions, self.networks.hides_render,
                                     self.clips.names())).encode())
        for part in self.networks.autoencoder.encoding_parts():
            for value in part.state_dict().values():
                found.update(value.detach().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()[:16]

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


def _pack(kept: list[tuple[Tensor, Conditions]]) -> dict[str, Tensor]:
    """Lay what is kept out as tensors with one row a clip."""
    everything = _joined([conditions for _, conditions in kept], torch.float16)
    packed = {name: getattr(everything, name) for name in _PARTS}
    for index, block in enumerate(everything.positions):
        packed |= {f'positions.{index}.{name}': value for name, value in vars(block).items() if value is not None}
    return {'truth': torch.cat([truth for truth, _ in kept]), **packed}


def _unpack(packed: dict[str, Tensor]) -> list[tuple[Tensor, Conditions]]:
    blocks = sorted({name.split('.')[1] for name in packed if name.startswith('positions.')})
    kept = []
    for row in range(len(packed['truth'])):
        part = {name: value[row:row + 1] for name, value in packed.items()}
        positions = tuple(BlockPositions(*(part.get(f'positions.{index}.{name}') for name in _PLACES))
                          for index in blocks)
        kept.append((part['truth'], Conditions(*(part[name] for name in _PARTS), positions)))
    return kept


def _halved(conditions: Conditions) -> Conditions:
    return Conditions(conditions.reference.half(), conditions.render.half(), conditions.mask.half(),
                      conditions.positions)


def _joined(parts: list[Conditions], dtype: torch.dtype = torch.float32) -> Conditions:
    def join(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts]).to(dtype)

    positions = tuple(_joined_positions(block) for block in zip(*(part.positions for part in parts), strict=True))
    return Conditions(join('reference'), join('render'), join('mask'), positions)


def _joined_positions(blocks: tuple[BlockPositions, ...]) -> BlockPositions:
    previous = None if blocks[0].previous is None else torch.cat([block.previous for block in blocks])
    return BlockPositions(torch.cat([block.reference for block in blocks]), previous,
                          torch.cat([block.block for block in blocks]))
