# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The figures of one candidate over a suite: sums that grow clip by clip, so that no clip has to be kept."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from inspatio_ros.evaluation.camera_error import CameraError, camera_error
from inspatio_ros.evaluation.consistency import Correspondence, correspond, gradient_energy
from inspatio_ros.evaluation.frechet import GaussianFit, frechet_distance
from inspatio_ros.evaluation.metrics import PEAK, ErrorSum, fit_gain, for_json, psnr, ssim_map
from inspatio_ros.evaluation.worlds import Truth
from inspatio_ros.geometry import PinholeCamera

REGIONS = ('all', 'known', 'holes')
#: Fewer features than this make no covariance worth a figure (a feature has 64 numbers).
LEAST_FEATURES = 1000
#: Frames of a clip, evenly spread, whose camera is recovered.
CAMERA_FRAMES = 2


@dataclass(frozen=True)
class Judged:
    """The frames of a clip that have a truth, and what every candidate is compared with.

    `truth` per frame; `known` bool [N, H, W], the render's mask; `camera`; `T_world_camera` [N, 4, 4]; `frames`, their
    numbers in the clip; `answer` bool [N, H, W], holes whose content is in the cache (`answer_in` says where), or None.
    """

    name: str
    truth: list[Truth]
    known: np.ndarray
    camera: PinholeCamera
    T_world_camera: np.ndarray
    frames: tuple[int, ...]
    gain_fit: bool = False
    answer: np.ndarray | None = None
    answer_in: str = ''

    @property
    def images(self) -> np.ndarray:
        """The true images uint8 [N, H, W, 3]."""
        return np.stack([truth.image for truth in self.truth])

    def neighbours(self) -> list[tuple[int, Correspondence]]:
        """Give for each frame that is followed by the next one its place here and where its points are seen next."""
        return [(i, correspond(self.truth[i].z_depth, self.truth[i + 1].z_depth, self.camera, self.T_world_camera[i],
                               self.T_world_camera[i + 1]))
                for i in range(len(self.frames) - 1) if self.frames[i + 1] == self.frames[i] + 1]


@dataclass
class Mean:
    """A mean over values that arrive in pieces."""

    total: float = 0.
    count: int = 0

    def add(self, values: np.ndarray) -> None:
        """Add values."""
        self.total += float(np.sum(values))
        self.count += int(np.size(values))

    @property
    def value(self) -> float:
        """The mean, NaN of nothing."""
        return self.total / self.count if self.count else math.nan


def _errors() -> dict[str, ErrorSum]:
    return {region: ErrorSum() for region in REGIONS}


@dataclass
class Pixels:
    """PSNR in dB: `all` is the mean over clips of a clip's PSNR over all its pixels, `known` and `holes` are pooled."""

    clips: list[float] = field(default_factory=list)
    pooled: dict[str, ErrorSum] = field(default_factory=_errors)

    def add(self, images: np.ndarray, truth: np.ndarray, known: np.ndarray) -> None:
        """Add a clip [N, H, W, 3]."""
        self.clips.append(psnr(images, truth))
        self.pooled['known'].add(images, truth, known)
        self.pooled['holes'].add(images, truth, ~known)

    def figures(self) -> dict[str, float]:
        """Give the three figures."""
        return {'all': float(np.mean(self.clips)) if self.clips else math.nan,
                'known': self.pooled['known'].psnr, 'holes': self.pooled['holes'].psnr}


class Score:
    """All figures of one candidate. `find_camera` recovers the camera of some frames, which takes a while."""

    def __init__(self, find_camera: bool = True) -> None:
        self._find_camera = find_camera
        self.psnr = Pixels()
        #: PSNR of each clip whose colours were fitted first; over all pixels, as the fit is.
        self.gain_fit: list[float] = []
        self.ssim = {region: Mean() for region in REGIONS}
        self.by_frame: dict[int, ErrorSum] = {}
        self.gradient = 0.
        self.warp = {region: ErrorSum() for region in ('all', 'holes')}
        self.cameras: list[CameraError | None] = []
        self.latents = GaussianFit()
        self.features = 0
        self.answers: dict[str, ErrorSum] = {}
        self.revisits = {region: ErrorSum() for region in ('all', 'holes')}

    def add(self, judged: Judged, images: np.ndarray, neighbours: list[tuple[int, Correspondence]]) -> None:
        """Add the judged frames uint8 [N, H, W, 3] of a clip."""
        truth, known = judged.images, judged.known
        self.psnr.add(images, truth, known)
        if judged.gain_fit:
            gained = np.clip(images * fit_gain(images, truth), 0., PEAK)
            self.gain_fit.append(psnr(gained, truth))
        for frame, image, true, seen in zip(judged.frames, images, truth, known, strict=True):
            similarity = ssim_map(image, true)
            for region, where in (('all', np.ones_like(seen)), ('known', seen), ('holes', ~seen)):
                self.ssim[region].add(similarity[where])
            self.by_frame.setdefault(frame, ErrorSum()).add(image, true)
            self.gradient += gradient_energy(image, ~seen)
        if judged.answer is not None:
            self.answers.setdefault(judged.answer_in, ErrorSum()).add(images, truth, judged.answer)
        self._add_consistency(judged, images, neighbours)
        self._add_cameras(judged, images)

    def _add_consistency(self, judged: Judged, images: np.ndarray,
                         neighbours: list[tuple[int, Correspondence]]) -> None:
        for i, seen_next in neighbours:
            still = ~judged.truth[i].moving
            for region, where in (('all', still), ('holes', still & ~judged.known[i])):
                total, values = seen_next.error(images[i], images[i + 1], where)
                self.warp[region].total += total
                self.warp[region].values += values

    def _add_cameras(self, judged: Judged, images: np.ndarray) -> None:
        if not self._find_camera:
            return
        chosen = np.unique(np.linspace(0, len(images) - 1, CAMERA_FRAMES + 1).round().astype(int)[1:])
        for i in chosen:
            truth = judged.truth[i]
            self.cameras.append(camera_error(images[i], truth.image, truth.z_depth, judged.camera))

    def add_features(self, features: np.ndarray) -> None:
        """Add latent features [N, D] of a clip's images."""
        self.latents.add(features)
        self.features += len(features)

    def add_revisit(self, before: np.ndarray, after: np.ndarray, hole: np.ndarray) -> None:
        """Add two pictures uint8 [H, W, 3] from the same pose; `hole` bool [H, W], made up both times."""
        self.revisits['all'].add(after, before)
        self.revisits['holes'].add(after, before, hole)

    def figures(self, truth: Score) -> dict[str, Any]:
        """Give all figures as JSON takes them, next to those of the truth; None is what was not measured."""
        out: dict[str, Any] = {'psnr': _rounded(self.psnr.figures()),
                               'ssim': _rounded({region: mean.value for region, mean in self.ssim.items()}, 4)}
        if self.gain_fit:
            out['psnr_after_gain_fit'] = _rounded({'all': float(np.mean(self.gain_fit))})
        out['gradient_energy_in_holes'] = for_json(self.gradient / truth.gradient if truth.gradient else math.nan, 4)
        enough = min(self.features, truth.features) >= LEAST_FEATURES
        # Rounding may leave a distance of zero a little below it.
        distance = max(0., frechet_distance(self.latents, truth.latents)) if enough else math.nan
        out['frechet_distance'] = for_json(distance, 5)
        out['warp_error'] = _rounded({region: _root(error) for region, error in self.warp.items()})
        if self._find_camera:
            out['camera'] = _camera_figures(self.cameras)
        if self.answers:
            out['psnr_of_answers'] = _rounded({where: error.psnr for where, error in self.answers.items()})
        if self.revisits['all'].values:
            out['revisit'] = {region: _revisit(error) for region, error in self.revisits.items()}
        out['psnr_of_clips'] = [for_json(value) for value in self.psnr.clips]
        out['psnr_by_frame'] = {str(frame): for_json(error.psnr) for frame, error in sorted(self.by_frame.items())}
        return out


def _rounded(values: dict[str, float], digits: int = 3) -> dict[str, float | None]:
    return {name: for_json(value, digits) for name, value in values.items()}


def _root(error: ErrorSum) -> float:
    return math.sqrt(error.total / error.values) if error.values else math.nan


def _revisit(error: ErrorSum) -> dict[str, Any]:
    # Two equal pictures have no PSNR that JSON could hold; that they are equal must not look like 'not measured'.
    return {'psnr': for_json(error.psnr), 'identical': bool(error.values and error.total == 0)}


def _camera_figures(found: list[CameraError | None]) -> dict[str, Any]:
    good = [error for error in found if error is not None]

    def median(name: str, factor: float) -> float | None:
        return for_json(factor * float(np.median([getattr(e, name) for e in good])), 3) if good else None

    return {'rotation_degrees': median('rotation_degrees', 1.), 'translation_cm': median('translation_metres', 100.),
            'translation_percent_of_depth': median('translation_share', 100.), 'measured': len(found),
            'failures': len(found) - len(good)}
