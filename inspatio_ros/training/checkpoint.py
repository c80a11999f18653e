# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training checkpoints: one safetensors file a step, written beside and renamed, the last two kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from inspatio_ros.errors import InspatioError
from inspatio_ros.star.checkpoint import save_tensors as write_safetensors

#: Checkpoints that stay on disk: the newest, and the one before it should the newest be damaged.
KEPT = 2
#: What a description says of the weights that a stage started from, where it did not start from nothing.
STARTED_FROM = 'started_from'
#: Groups of a description that it did not always have.
LATER = ('loss', 'encoding', STARTED_FROM)


#: What the name of a damaged checkpoint ends in.
DAMAGED = '.damaged'


class CheckpointError(InspatioError):
    """A checkpoint cannot be used; the message says which, why, and which one still can."""


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and JSON metadata to a safetensors file; a failure leaves what was there before."""
    try:
        write_safetensors(path, tensors, {key: json.dumps(value) for key, value in metadata.items()})
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f'{path} could not be written ({error}); what was saved before is untouched') from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and JSON metadata of a safetensors file."""
    try:
        with safe_open(path, 'pt') as file:
            metadata = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f'{path} cannot be read ({error})') from error


class CheckpointFolder:
    """The checkpoints of one stage: `step_00000100.safetensors` and so on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def paths(self) -> list[Path]:
        """List the checkpoints, the oldest first."""
        return sorted(self.folder.glob('step_*.safetensors'))

    def newest_step(self) -> int:
        """Give the step of the newest checkpoint, whole or not, by its name; 0 if there is none."""
        paths = self.paths()
        return int(paths[-1].stem.removeprefix('step_')) if paths else 0

    def save(self, step: int, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> Path:
        """Write one checkpoint and remove those beyond the last two."""
        path = self.folder / f'step_{step:08d}.safetensors'
        save_tensors(path, tensors, {**metadata, 'step': step})
        for old in self.paths()[:-KEPT]:
            old.unlink()
        return path

    def newest(self) -> tuple[Path, dict[str, Tensor], dict[str, Any]] | None:
        """Read the newest checkpoint that is whole; None if there is none at all.

        Damaged ones after it are named and set aside; if no whole one is before them, they stay, and it is an error.
        """
        damaged: list[tuple[Path, CheckpointError]] = []
        for path in reversed(self.paths()):
            try:
                found = load_tensors(path)
            except CheckpointError as error:
                damaged.append((path, error))
                continue
            for bad, error in damaged:
                bad.replace(bad.with_suffix(DAMAGED))
                print(set_aside(bad, error, path))
            return path, *found
        if damaged:
            raise no_whole_one(self.folder, damaged[0][1])
        return None


def set_aside(path: Path, error: CheckpointError, whole: Path) -> str:
    """Say that a damaged checkpoint was set aside, and which one is taken in its place."""
    return f'{error}; {path.name} is set aside as {path.with_suffix(DAMAGED).name}, going on from {whole.name}'


def no_whole_one(folder: Path, error: CheckpointError) -> CheckpointError:
    """Say that nothing in a folder of checkpoints can be gone on from."""
    return CheckpointError(f'{folder} holds no checkpoint that can be read: {error}; if it lies on a disk that is back '
                           'soon, repeat the command then, else remove the folder to begin this stage anew')


def first_difference(wanted: dict[str, Any], found: dict[str, Any], prefix: str = '') -> str | None:
    """Name the first setting in which two nested configurations differ, as `name: wanted ..., found ...`."""
    for key in dict.fromkeys([*wanted, *found]):
        a, b = wanted.get(key), found.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            inner = first_difference(a, b, f'{prefix}{key}.')
            if inner:
                return inner
        elif a != b:
            return f'{prefix}{key}: wanted {a!r}, found {b!r}'
    return None


def of_another_configuration(wanted: dict[str, Any], found: dict[str, Any]) -> str | None:
    """Name the first setting in which a checkpoint's description is not the wanted one; see `first_difference`.

    Checkpoints of before say nothing of LATER groups, and are not asked for them. Who goes on need not say again what
    weights it all began with.
    """
    return first_difference({name: value for name, value in wanted.items() if name in found or name not in LATER},
                            {name: value for name, value in found.items() if name in wanted or name != STARTED_FROM})


def tensors_of(module: torch.nn.Module, prefix: str) -> dict[str, Tensor]:
    """Give a module's state with a prefix before each name."""
    return {f'{prefix}{name}': value for name, value in module.state_dict().items()}


def tensors_under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Give the tensors whose names start with a prefix, without it."""
    return {name[len(prefix):]: value for name, value in tensors.items() if name.startswith(prefix)}
