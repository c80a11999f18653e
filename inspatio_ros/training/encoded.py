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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from inspatio_ros.config import as_trained, to_dict
from inspatio_ros.spatial.positions import BlockPositions
from inspatio_ros.training.checkpoint import CheckpointError, load_tensors, save_tensors
from inspatio_ros.training.data import Clips, ClipSource, integer, stack
from inspatio_ros.training.distributed import rank
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.punch import punch
from inspatio_ros.training.self_forcing import Conditions

#: What there is of a clip's conditions, and of a block's positions.
_PARTS, _PLACES = ('reference', 'render', 'mask'), ('reference', 'previous', 'block')
#: Keeps the draws of variants apart from those of a trainer's steps.
_SEED = 0x5EED
#: Clips that are encoded at once, by whether that is on a GPU: there many small ones cost as much as one.
_TOGETHER = {False: 1, True: 16}


@dataclass(frozen=True)
class EncodingConfig:
    """How clips become latents."""

    #: Variants of each clip that are encoded once and kept on the networks' device (a quarter of a megabyte each at
    #: nano's size); 0: none is kept, every batch is encoded anew.
    variants: int = 0
    #: Share of clips whose render gets further holes, in which the cache mostly knows what the render lacks.
    punched: float = 0.


class EncodedClips:
    """The clips of a source as latents, under an autoencoder that does not change any more."""

    def __init__(self, networks: Networks, clips: ClipSource, config: EncodingConfig, seed: int = 0,
                 folder: Path | None = None) -> None:
        if config.variants and clips.renewed:
            config = replace(config, variants=0)
            if rank() == 0:
                print('clips that come and go are not kept as latents: each batch is encoded as it is drawn, whatever '
                      'encoding.variants says')
        self.networks, self.clips, self.config, self._seed, self._folder = networks, clips, config, seed, folder
        #: Tensors with one row a kept clip, on the networks' device; names as in the file.
        self._kept: dict[str, Tensor] = {}

    def draw(self, size: int, generator: torch.Generator) -> tuple[Tensor, Conditions]:
        """Draw a batch: true latents [B, T', C, h, w], and what they are generated from."""
        if not self.config.variants:
            return self.networks.encode(punch(self.clips.draw(size, generator), self.config.punched, generator))
        if not self._kept:
            self._read_or_encode()
        count = len(self._kept['truth'])
        rows = torch.tensor([integer(count, generator) for _ in range(size)], device=self.networks.device)
        return _unpack({name: value[rows] for name, value in self._kept.items()})

    def _read_or_encode(self) -> None:
        path = None if self._folder is None else self._folder / f'{self._fingerprint()}.safetensors'
        if path is not None and path.exists():
            try:
                self._kept = {name: value.to(self.networks.device) for name, value in load_tensors(path)[0].items()}
                return
            except CheckpointError as error:
                print(f'{path} is made anew: {error}')
        self._kept = self._encode_all()
        if path is not None and rank() == 0:
            save_tensors(path, self._kept, {'clips': self.clips.description()})

    def _fingerprint(self) -> str:
        """Name everything that the kept latents depend on."""
        found = hashlib.sha256(repr((to_dict(self.config), self._seed, as_trained(self.networks.config.autoencoder),
                                     self.networks.config.positions, self.networks.config.condition_fill,
                                     self.networks.hides_render, self.clips.identities())).encode())
        for part in self.networks.autoencoder.encoding_parts():
            for value in part.state_dict().values():
                found.update(value.detach().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()[:16]

    @torch.no_grad()
    def _encode_all(self) -> dict[str, Tensor]:
        from tqdm import tqdm
        encoder = copy.copy(self.networks)
        # A twin with faster layers, which cannot be trained.
        encoder.autoencoder = copy.deepcopy(self.networks.autoencoder).eval().fuse()
        rows: dict[int, dict[str, Tensor]] = {}
        for variant in range(self.config.variants):
            generator = torch.Generator().manual_seed(self._seed * 1_000_003 + _SEED + variant)
            clips = self.clips.augmented(generator, self.networks.device)
            cut = (punch(clip, self.config.punched, generator) for clip in clips)
            bar = tqdm(total=len(self.clips), mininterval=10,
                       desc=f'encoding, variant {variant + 1} of {self.config.variants}')
            with bar:
                for numbers, batch in _batches(cut, _TOGETHER[self.networks.device.type == 'cuda']):
                    packed = _pack(*encoder.encode(batch))
                    for row, number in enumerate(numbers):
                        rows[variant * len(self.clips) + number] = {
                            name: value[row:row + 1] for name, value in packed.items()}
                    bar.update(len(numbers))
        return {name: torch.cat([rows[number][name] for number in sorted(rows)]) for name in rows[0]}


def _batches(clips: Iterable[Clips], size: int) -> Iterator[tuple[list[int], Clips]]:
    """Group clips of one kind: (which they are in order, the batch)."""
    waiting: dict[bool, list[tuple[int, Clips]]] = {False: [], True: []}
    for number, clip in enumerate(clips):
        kind = waiting[clip.stills]
        kind.append((number, clip))
        if len(kind) == size:
            yield [which for which, _ in kind], stack([each for _, each in kind])
            kind.clear()
    for kind in waiting.values():
        if kind:
            yield [which for which, _ in kind], stack([each for _, each in kind])


def _pack(truth: Tensor, conditions: Conditions) -> dict[str, Tensor]:
    """Lay clips out as tensors with one row a clip, latents in half precision."""
    packed = {name: getattr(conditions, name).half() for name in _PARTS}
    for index, block in enumerate(conditions.positions):
        packed |= {f'positions.{index}.{name}': value for name, value in vars(block).items() if value is not None}
    return {'truth': truth.half(), **packed}


def _unpack(packed: dict[str, Tensor]) -> tuple[Tensor, Conditions]:
    blocks = sorted({name.split('.')[1] for name in packed if name.startswith('positions.')})
    positions = tuple(BlockPositions(*(packed.get(f'positions.{index}.{name}') for name in _PLACES))
                      for index in blocks)
    return packed['truth'].float(), Conditions(*(packed[name].float() for name in _PARTS), positions)
