# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What STAR must show on each suite beside its baselines, and whether it does."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from inspatio_ros.evaluation.suites import ANOTHER_FRAME, BLOCK_BEFORE, TEXTURE, TRUTH

#: A gradient energy in holes within these shares of the truth's is neither blurred nor noisy.
SHARP = (0.7, 1.3)
#: Least share of pictures that must show where their camera is, of those whose truth does.
CAMERAS = 0.9


@dataclass(frozen=True)
class Target:
    """One figure: what it is, the bounds that it must lie between, and what it came out as (None: not measured)."""

    what: str
    value: float | None
    least: float = -math.inf
    most: float = math.inf

    @property
    def holds(self) -> bool | None:
        """Whether the figure lies within the bounds; None where it was not measured."""
        return None if self.value is None else self.least <= self.value <= self.most

    @property
    def bounds(self) -> str:
        """The bounds in words."""
        parts = [f'>= {self.least:g}' if math.isfinite(self.least) else '',
                 f'<= {self.most:g}' if math.isfinite(self.most) else '']
        return ' and '.join(part for part in parts if part)

    def as_json(self) -> dict[str, Any]:
        """Give the target as JSON takes it."""
        return {**{key: value for key, value in asdict(self).items() if value is None or not _endless(value)},
                'holds': self.holds}


def _endless(value: object) -> bool:
    return isinstance(value, float) and math.isinf(value)


def targets(figures: dict[str, Any]) -> list[Target]:
    """Give the targets of the suite that was run; none for the `render` generator, which is a baseline itself."""
    if figures['generator'] == 'render':
        return []
    return list({'scenes': _scenes, 'memory': _memory, 'roam': _roam, 'office': _office}[figures['suite']](figures))


def _scenes(figures: dict[str, Any]) -> Iterator[Target]:
    candidates = figures['candidates']
    ours, smooth = candidates[figures['generator']], candidates['smooth']
    for fill, least in (('nearest', 1.), ('smooth', 0.5), ('black', 9.)):
        yield Target(f'whole images, dB over {fill} fill', _over(candidates, figures, fill, 'all'), least)
    yield Target('known pixels, dB over the render', _over(candidates, figures, 'smooth', 'known'), -0.1)
    yield Target('holes, dB over nearest fill', _over(candidates, figures, 'nearest', 'holes'), 1.5)
    yield from _likeness('', ours, smooth)
    # Texture comes after generation; the same is asked of it, and it must not cost more than it is worth.
    textured = candidates.get(f'{figures["generator"]} {TEXTURE}')
    if textured:
        yield from _likeness(', with texture', textured, smooth)
        yield Target('holes, with texture, dB over those without', _difference(textured, ours, 'psnr', 'holes'), -0.5)
        yield Target('Frechet distance of latents, with texture, share of that without',
                     _ratio(textured, ours, 'frechet_distance'), most=1.)
    # The medians below are over pictures that show a camera at all.
    yield Target('pictures that show a camera, share of those of the truth that do',
                 _share_found(ours['camera'], candidates[TRUTH]['camera']), CAMERAS)
    yield Target('camera error, median rotation in degrees', ours['camera']['rotation_degrees'], most=0.5)
    yield Target('camera error, median translation in % of scene depth',
                 ours['camera']['translation_percent_of_depth'], most=2.)


def _likeness(with_it: str, ours: dict[str, Any], smooth: dict[str, Any]) -> Iterator[Target]:
    yield Target(f"gradient energy in holes, share of the truth's{with_it}", ours['gradient_energy_in_holes'], *SHARP)
    yield Target(f"Frechet distance of latents, share of smooth fill's{with_it}",
                 _ratio(ours, smooth, 'frechet_distance'), most=0.5)


def _share_found(ours: dict[str, Any], truth: dict[str, Any]) -> float | None:
    mine, theirs = (camera['measured'] - camera['failures'] for camera in (ours, truth))
    return round(mine / theirs, 4) if theirs else None


def _memory(figures: dict[str, Any]) -> Iterator[Target]:
    name, candidates = figures['generator'], figures['candidates']
    ours = candidates[name]
    for where, ablation in ((ANOTHER_FRAME, 'no_reference'), (BLOCK_BEFORE, 'no_history')):
        without = candidates.get(f'{name} {ablation}', {})
        yield Target(f'holes whose content is in {"another frame" if where == ANOTHER_FRAME else "the block before"}, '
                     f'dB over {ablation}',
                     _difference(ours, without, 'psnr_of_answers', where), 1.)
    yield Target('two visits to what was made up, dB of agreement over no_history',
                 _visits(ours, candidates.get(f'{name} no_history', {})), 0.)


def _roam(figures: dict[str, Any]) -> Iterator[Target]:
    ours = figures['drift'][figures['generator']]
    yield Target(f'last {figures["drift"]["compared"]} of {figures["drift"]["frames"]} frames, dB over the first',
                 ours['change'], -1.)


def _office(figures: dict[str, Any]) -> Iterator[Target]:
    ours, nearest = figures['candidates'][figures['generator']], figures['candidates']['nearest']
    yield Target('whole images after a gain fit, dB over nearest fill',
                 _difference(ours, nearest, 'psnr_after_gain_fit', 'all'), 0.3)


def _over(candidates: dict[str, Any], figures: dict[str, Any], other: str, region: str) -> float | None:
    return _difference(candidates[figures['generator']], candidates[other], 'psnr', region)


def _difference(ours: dict[str, Any], theirs: dict[str, Any], figure: str, part: str) -> float | None:
    a, b = (candidate.get(figure, {}).get(part) for candidate in (ours, theirs))
    return None if a is None or b is None else round(a - b, 3)


def _ratio(ours: dict[str, Any], theirs: dict[str, Any], figure: str) -> float | None:
    a, b = ours[figure], theirs[figure]
    return None if a is None or not b else round(a / b, 4)


def _visits(ours: dict[str, Any], without: dict[str, Any]) -> float | None:
    a, b = (candidate.get('revisit', {}).get('holes', {}).get('psnr') for candidate in (ours, without))
    return None if a is None or b is None else round(a - b, 3)
