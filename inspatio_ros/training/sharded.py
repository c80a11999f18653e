# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Sharded checkpoints: a folder a step, each rank writing its part, written beside and renamed, the last two kept."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from inspatio_ros.training.checkpoint import DAMAGED, KEPT, CheckpointError, set_aside

#: Step and configuration of a checkpoint; written last, so a folder that has it was finished.
ABOUT_FILE = 'about.json'
#: Seconds after which what one host makes on a shared file system is seen by all.
_SEEN_AFTER = 30.
#: What torch's checkpoints raise on all ranks when one has failed is no Exception.
_FAILURES = (Exception, CheckpointException)

T = TypeVar('T')


class ShardedFolder:
    """The sharded checkpoints of one stage: `step_00000100/` and so on. Every rank calls every method."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def paths(self) -> list[Path]:
        """List the checkpoints that rank 0 sees, the oldest first."""
        return from_first(lambda: sharded_paths(self.folder))

    def save(self, step: int, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> Path:
        """Write one checkpoint and remove those beyond the last two; a failure leaves them as they were."""
        import torch.distributed.checkpoint as dcp
        path = self.folder / f'step_{step:08d}'
        beside = self.folder / f'.{path.name}'
        try:
            _all_do(lambda: _first_does(lambda: _make_empty(beside)))
            _all_do(lambda: _check_seen(beside))
            _all_do(lambda: dcp.save(dict(tensors), checkpoint_id=str(beside)))
            _all_do(lambda: _first_does(lambda: _finish(beside, path, {**metadata, 'step': step})))
        except CheckpointError as error:
            _first_does(lambda: shutil.rmtree(beside, ignore_errors=True))
            dist.barrier()
            raise CheckpointError(f'{path} could not be written ({error}); '
                                  'what was saved before is untouched') from error
        for old in self.paths()[:-KEPT]:
            _first_does(lambda old=old: shutil.rmtree(old, ignore_errors=True))
        dist.barrier()
        return path

    def metadata(self, path: Path) -> dict[str, Any]:
        """Read step and configuration; CheckpointError, on all ranks, where they cannot be read."""
        return from_first(lambda: json.loads((path / ABOUT_FILE).read_text()))

    def names(self, path: Path) -> set[str]:
        """List the tensors of a checkpoint; CheckpointError where its index cannot be read."""
        from torch.distributed.checkpoint import FileSystemReader
        return from_first(lambda: set(FileSystemReader(str(path)).read_metadata().state_dict_metadata))

    def load(self, path: Path, tensors: dict[str, Tensor]) -> None:
        """Read a checkpoint into tensors, in place; CheckpointError, on all ranks, where one cannot."""
        import torch.distributed.checkpoint as dcp
        _all_do(lambda: dcp.load(tensors, checkpoint_id=str(path)))

    def set_aside(self, path: Path, error: CheckpointError, whole: Path) -> None:
        """Rename a damaged checkpoint, for which a whole one is taken; where that fails, it fails on all."""
        aside = path.with_suffix(DAMAGED)

        def rename() -> None:
            shutil.rmtree(aside, ignore_errors=True)
            path.replace(aside)
            print(set_aside(path, CheckpointError(f'{path} cannot be read ({error})'), whole))

        _all_do(lambda: _first_does(rename))


def sharded_paths(folder: Path) -> list[Path]:
    """List the sharded checkpoints of a folder as this process sees it, the oldest first."""
    return sorted(path for path in folder.glob('step_*') if path.is_dir() and path.suffix == '')


def from_first(make: Callable[[], T]) -> T:
    """Give every rank what rank 0 makes; if it fails there, all raise the same CheckpointError. Alone, just make it."""
    if not dist.is_initialized():
        return make()
    found: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            found[0] = make()
        except _FAILURES as error:
            found[1] = _reason(error)
    dist.broadcast_object_list(found)
    if found[1]:
        raise CheckpointError(found[1])
    return found[0]


def _first_does(action: Callable[[], object]) -> None:
    if dist.get_rank() == 0:
        action()


def _all_do(action: Callable[[], object]) -> None:
    """Run something on every rank; if it fails on one, all raise the same CheckpointError."""
    reason = None
    try:
        action()
    except _FAILURES as error:
        reason = _reason(error)
    reasons: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(reasons, reason)
    found = [reason for reason in reasons if reason]
    if found:
        raise CheckpointError(found[0])


def _make_empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _check_seen(folder: Path) -> None:
    """Raise where this rank does not see what rank 0 has made: its part would be written where nobody reads it."""
    until = time.monotonic() + _SEEN_AFTER
    while not folder.is_dir():
        if time.monotonic() > until:
            raise FileNotFoundError(f'rank {dist.get_rank()} does not see {folder}, which rank 0 made; --output must '
                                    'be one folder that all hosts see, named from the root')
        time.sleep(0.2)


def _finish(beside: Path, path: Path, about: dict[str, Any]) -> None:
    (beside / ABOUT_FILE).write_text(json.dumps(about))
    shutil.rmtree(path, ignore_errors=True)
    beside.replace(path)


def _reason(error: BaseException) -> str:
    inner = getattr(error, 'failures', None)
    found = next(iter(inner.values()))[0] if inner else error
    return (str(found).strip() or type(found).__name__).splitlines()[0][:200]
