# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The tree of frames that ROS' transforms tell of, as a whole bag knows it: where one frame was in another, when."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from inspatio_ros.errors import RecordingError
from inspatio_ros.geometry import interpolate, invert

#: Stamps are in these, a second has so many.
NANOSECONDS = 1_000_000_000
#: Between two transforms that are farther apart than this, metres and radians, nothing is known where they are more
#: than so many seconds apart, or where the way between them is faster, metres and radians a second, than robots go:
#: what published them was silent or jumped, and no pose between is one that anybody had.
_STILL, _MOST_GAP, _FASTEST = (0.01, 0.01), 1., (5., np.pi)


class Transforms:
    """Frames and their parents first (`link`), then the transforms of those that a question is about (`add`).

    Asked at a stamp, it interpolates, and never guesses.
    """

    def __init__(self) -> None:
        self._parents: dict[str, set[str]] = {}
        self._kinds: dict[str, set[bool]] = {}
        self._known: dict[str, list[tuple[int, np.ndarray]]] = {}
        self._sorted = True

    def link(self, parent: str, child: str, static: bool) -> None:
        """Note that a child's transform to its parent is told, by a topic of static ones or by the other."""
        self._parents.setdefault(child, set()).add(parent)
        self._kinds.setdefault(child, set()).add(static)

    def chain(self, target: str, source: str) -> tuple[str, ...]:
        """Give the frames from `source` up to below `target`; RecordingError where no one way leads there."""
        chain = [source]
        while chain[-1] != target and chain[-1] in self._parents and len(chain) <= len(self._parents):
            parents = self._parents[chain[-1]]
            if len(parents) > 1:
                raise RecordingError(f'frame {chain[-1]!r} has several parents in the bag, '
                                     f'{" and ".join(sorted(parents))}; leave out what publishes all but one of them')
            if len(self._kinds[chain[-1]]) > 1:
                raise RecordingError(f'frame {chain[-1]!r} is told by static transforms and by others; '
                                     'leave out what publishes one of them')
            chain.extend(parents)
        if chain[-1] != target:
            links = ', '.join(sorted(f'{parent} -> {child}' for child, parents in self._parents.items()
                                     for parent in parents)) or 'none'
            raise RecordingError(f'no transforms lead from {target!r} to {source!r}; the bag has {links}')
        return tuple(chain[:-1])

    def add(self, child: str, stamp: int, T_parent_child: np.ndarray) -> None:
        """Take a transform [4, 4] at `stamp` nanoseconds."""
        self._known.setdefault(child, []).append((stamp, T_parent_child))
        self._sorted = False

    def at(self, chain: Sequence[str], stamp: int) -> np.ndarray | None:
        """Give T_target_source [4, 4] along a chain at a stamp; None where a transform is not known there."""
        if not self._sorted:
            for known in self._known.values():
                known.sort(key=lambda pair: pair[0])
            self._sorted = True
        T = np.eye(4)
        for child in chain:
            known = self._known.get(child, [])
            step = (known[-1][1] if known else None) if True in self._kinds[child] else _between(known, stamp)
            if step is None:
                return None
            T = step @ T
        return T


def _between(known: list[tuple[int, np.ndarray]], stamp: int) -> np.ndarray | None:
    after = bisect_left(known, stamp, key=lambda pair: pair[0])
    if after < len(known) and known[after][0] == stamp:
        return known[after][1]
    if after in (0, len(known)):
        return None
    (stamp0, T0), (stamp1, T1) = known[after - 1], known[after]
    seconds, (way, turn) = (stamp1 - stamp0) / NANOSECONDS, apart(T0, T1)
    moved = way > _STILL[0] or turn > _STILL[1]
    if moved and (seconds > _MOST_GAP or way > _FASTEST[0] * seconds or turn > _FASTEST[1] * seconds):
        return None
    return interpolate(T0, T1, (stamp - stamp0) / (stamp1 - stamp0))


def apart(T0: np.ndarray, T1: np.ndarray) -> tuple[float, float]:
    """Give how far two poses [4, 4] are from each other: metres, and the angle in radians."""
    step = invert(T0) @ T1
    return float(np.linalg.norm(step[:3, 3])), float(np.arccos(np.clip((np.trace(step[:3, :3]) - 1.) / 2., -1., 1.)))
