# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Run a suite: every clip through the simulator for every candidate, and its figures beside those of the baselines."""

from __future__ import annotations

import gc
import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from inspatio_ros.evaluation.benchmark import machine
from inspatio_ros.evaluation.candidates import FILLS, INPAINTER, Observed, baselines
from inspatio_ros.evaluation.consistency import correspond
from inspatio_ros.evaluation.metrics import ErrorSum, for_json, psnr
from inspatio_ros.evaluation.scores import Judged, Score
from inspatio_ros.evaluation.suites import (
    ANOTHER_FRAME,
    BLOCK,
    BLOCK_BEFORE,
    FIRST_BLOCK,
    STILLS_OF_BLOCK,
    TRUTH,
    Clip,
    Loop,
    Suite,
    clips_of,
)
from inspatio_ros.simulator import Block, WorldSimulator

if TYPE_CHECKING:
    from inspatio_ros.evaluation.inpainter import Inpainter
    from inspatio_ros.star.autoencoder import TinyAutoencoder

#: Rows of pictures that a report shows.
PICTURES = 6
#: Frames at either end of the long loop that are compared.
DRIFT_FRAMES = 100


@dataclass(frozen=True)
class Setting:
    """What a run is made with, beside the suite and the candidates."""

    seed: int = 0
    device: str = 'cpu'
    inpainter: Inpainter | None = None
    autoencoder: TinyAutoencoder | None = None
    tell: Callable[[str], None] = print


@dataclass
class Result:
    """What a run gives: `figures` for metrics.json, and pictures: (label, name -> uint8 [H, W, 3]) a row."""

    figures: dict[str, Any]
    pictures: list[tuple[str, dict[str, np.ndarray]]] = field(default_factory=list)


@dataclass
class Film:
    """A clip as one candidate made it: images and condition uint8 [F, H, W, 3], known bool [F, H, W]."""

    images: np.ndarray
    condition: np.ndarray
    known: np.ndarray
    blocks: list[slice]
    baselines: dict[str, np.ndarray]


def evaluate(suite: Suite, candidates: dict[str, Observed], setting: Setting | None = None) -> Result:
    """Measure candidates (label -> generator, the main one first) and the baselines on a suite."""
    setting = setting or Setting()
    started = time.perf_counter()
    main = next(iter(candidates.values()))
    run = _Run(suite, candidates, setting)
    for index, clip in enumerate(clips_of(suite, main.width, main.height)):
        run.add(clip)
        # Recordings of scenes refer to themselves, and would wait with all their frames.
        del clip
        gc.collect()
        setting.tell(f'{suite.name} {index + 1}/{suite.count}: {run.brief()}')
    figures = {'suite': suite.name, 'about': suite.about, 'generator': main.name, 'seed': setting.seed,
               'width': main.width, 'height': main.height, 'device': setting.device, 'clips_meant': suite.meant,
               **run.figures()}
    pictures = run.pictures
    if suite.loop is not None:
        loop = suite.loop(main.width, main.height)
        figures['drift'], row = drift(loop, main, setting)
        pictures = [*pictures, row]
        setting.tell(f'{suite.name}: {figures["drift"]["frames"]} frames round and round')
    figures |= {'seconds': round(time.perf_counter() - started, 1), 'machine': machine(setting.device)}
    return Result(figures, pictures)


class _Run:
    """The scores of all candidates so far."""

    def __init__(self, suite: Suite, candidates: dict[str, Observed], setting: Setting) -> None:
        self._suite, self._candidates, self._setting = suite, candidates, setting
        names = [*FILLS, *([INPAINTER] if setting.inpainter else [])]
        self.scores = {**{label: Score() for label in candidates},
                       **{name: Score(find_camera=name not in ('black', 'nearest')) for name in names},
                       TRUTH: Score()}
        self.clips: list[dict[str, Any]] = []
        self.pictures: list[tuple[str, dict[str, np.ndarray]]] = []
        self._fingerprint = hashlib.sha256()

    def add(self, clip: Clip) -> None:
        """Make a clip with every candidate and add it to the scores."""
        films = {label: make_film(clip, candidate, self._setting, with_baselines=position == 0)
                 for position, (label, candidate) in enumerate(self._candidates.items())}
        main = next(iter(films.values()))
        judged = judge(clip, main, self._suite.gain_fit)
        neighbours = judged.neighbours()
        chosen = list(judged.frames)
        made = {label: film.images for label, film in films.items()} | main.baselines
        shown = {name: images[chosen] for name, images in made.items()} | {TRUTH: judged.images}
        for name, images in shown.items():
            score = self.scores[name]
            score.add(judged, images, neighbours)
            if self._setting.autoencoder is not None:
                from inspatio_ros.evaluation.latents import clip_features
                score.add_features(clip_features(self._setting.autoencoder, images))
            for before, after in clip.revisits:
                images = made.get(name, shown[name])
                score.add_revisit(images[before], images[after], ~(main.known[before] | main.known[after]))
        self._note(clip, judged, main, shown)

    def _note(self, clip: Clip, judged: Judged, main: Film, shown: dict[str, np.ndarray]) -> None:
        self._fingerprint.update(judged.images.tobytes())
        holes = float((~judged.known).mean())
        self.clips.append({'name': clip.name, 'frames': len(clip), 'judged': len(judged.frames),
                           'holes': for_json(holes, 4)})
        if len(self.pictures) < PICTURES:
            # The frame that is nearest to half hole, half known shows most of both.
            share = (~judged.known).mean(axis=(1, 2))
            at = int(np.argmax(share * (1 - share)))
            middle = clip.reference.frame(len(clip.reference) // 2).image
            # Copies: a view would keep its whole clip.
            row = {'recorded': middle, 'condition': main.condition[judged.frames[at]].copy(),
                   **{name: images[at].copy() for name, images in shown.items() if name not in ('black', 'nearest')}}
            self.pictures.append((f'{clip.name}, frame {judged.frames[at]}, {100 * share[at]:.0f} % hole', row))

    def brief(self) -> str:
        """Say how the clip that was added last came out."""
        label = next(iter(self._candidates))
        clip = self.clips[-1]
        return (f'{clip["name"]}, holes {100 * clip["holes"]:.0f} %, '
                f'{label} {self.scores[label].psnr.clips[-1]:.2f} dB, '
                f'smooth {self.scores["smooth"].psnr.clips[-1]:.2f} dB')

    def figures(self) -> dict[str, Any]:
        """Give all figures."""
        truth = self.scores[TRUTH]
        candidates = {name: score.figures(truth) for name, score in self.scores.items()}
        holes = np.average([clip['holes'] for clip in self.clips], weights=[clip['judged'] for clip in self.clips])
        return {'fingerprint': self._fingerprint.hexdigest()[:12], 'holes': for_json(holes, 4), 'clips': self.clips,
                'frechet_space': self._frechet_space(), 'candidates': candidates}

    def _frechet_space(self) -> str | None:
        if self._setting.autoencoder is None:
            return None
        from inspatio_ros.evaluation.latents import latent_space
        return latent_space(self._setting.autoencoder)


def simulate(simulator: WorldSimulator, T_world_camera: np.ndarray, times: np.ndarray) -> Iterator[tuple[Block, int]]:
    """Go along a path in blocks of 9, then 12 frames: blocks, and how many of their frames count.

    STAR makes whole blocks, so the last one holds its last pose as often as it takes.
    """
    counts: deque[int] = deque()

    def path() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        done = 0
        while done < len(T_world_camera):
            wanted = simulator.frames_in_next_block() if simulator.name != 'render' else BLOCK if done else FIRST_BLOCK
            count = min(wanted, len(T_world_camera) - done)
            index = done + np.minimum(np.arange(wanted), count - 1)
            counts.append(count)
            yield T_world_camera[index], times[index]
            done += count
    for block in simulator.blocks(path()):
        yield block, counts.popleft()


def make_film(clip: Clip, candidate: Observed, setting: Setting, with_baselines: bool) -> Film:
    """Make a clip with one candidate, and what the baselines make of the same render."""
    simulator = WorldSimulator(clip.reference, candidate, seed=setting.seed, device=setting.device,
                               max_views=clip.max_views)
    parts: list[tuple[Block, int]] = []
    filled: list[dict[str, np.ndarray]] = []
    for block, count in simulate(simulator, clip.T_world_camera, clip.times):
        parts.append((block, count))
        if with_baselines:
            filled.append({name: images[:count]
                           for name, images in baselines(candidate.condition, setting.inpainter).items()})
    ends = np.cumsum([count for _, count in parts])
    blocks = [slice(int(end) - count, int(end)) for end, (_, count) in zip(ends, parts, strict=True)]
    return Film(np.concatenate([block.image[:count] for block, count in parts]),
                np.concatenate([block.condition[:count] for block, count in parts]),
                np.concatenate([block.mask[:count] > 0 for block, count in parts]), blocks,
                {name: np.concatenate([part[name] for part in filled]) for name in (filled[0] if filled else ())})


def judge(clip: Clip, film: Film, gain_fit: bool = False) -> Judged:
    """Look at the truth of a clip."""
    camera = clip.reference.camera.fitted(film.images.shape[2], film.images.shape[1])
    chosen = list(clip.judged)
    judged = Judged(clip.name, [clip.look(camera, i) for i in chosen], film.known[chosen], camera,
                    clip.T_world_camera[chosen], clip.judged, gain_fit)
    if clip.answer == ANOTHER_FRAME:
        answer = seen_by_stills(clip, judged, film.blocks) & ~judged.known
    elif clip.answer == BLOCK_BEFORE:
        answer = shown_in_block_before(judged, film.blocks)
    else:
        return judged
    return Judged(**{**vars(judged), 'answer': answer, 'answer_in': clip.answer})


def seen_by_stills(clip: Clip, judged: Judged, blocks: list[slice]) -> np.ndarray:
    """Say which pixels, bool [N, H, W], any of the stills that a block is given shows."""
    from inspatio_ros.spatial.constraint import SpatialConstraint
    constraint = SpatialConstraint(clip.reference, judged.camera, max_views=STILLS_OF_BLOCK)
    masks = [constraint.render(clip.T_world_camera[block]).mask[:, 0] for block in blocks]
    return np.concatenate([mask.cpu().numpy() > 0 for mask in masks])


def shown_in_block_before(judged: Judged, blocks: list[slice]) -> np.ndarray:
    """Say which holes, bool [N, H, W], the block before shows: from its render, or from the block before it again."""
    shown = judged.known.copy()
    for before, block in zip(blocks, blocks[1:], strict=False):
        for i in range(block.start, block.stop):
            # The ends and the middle of the block before: what lies between shows what they show.
            for j in sorted({before.start, (before.start + before.stop) // 2, before.stop - 1}):
                there = correspond(judged.truth[i].z_depth, judged.truth[j].z_depth, judged.camera,
                                   judged.T_world_camera[i], judged.T_world_camera[j])
                shown[i] |= there.same & (there.fetch(shown[j].astype(np.uint8), nearest=True) > 0)
    return shown & ~judged.known


def drift(loop: Loop, candidate: Observed, setting: Setting) -> tuple[dict[str, Any], tuple[str, dict]]:
    """Go round and round, and compare every frame with the truth: the first frames with the last, from the same poses.

    Gives the figures, and a row of pictures: the same pose in the first, the middle and the last lap.
    """
    clip, frames = loop.clip, loop.laps * len(loop.clip)
    simulator = WorldSimulator(clip.reference, candidate, seed=setting.seed, device=setting.device)
    truth = [clip.look(simulator.camera, i).image for i in range(len(clip))]
    step = clip.times[1] - clip.times[0]
    path = np.tile(clip.T_world_camera, (loop.laps, 1, 1))
    made: dict[str, list[float]] = {candidate.name: [], 'smooth': []}
    ends = {name: (ErrorSum(), ErrorSum()) for name in made}
    compared, shown, number = min(DRIFT_FRAMES, len(clip)), {}, 0
    for block, count in simulate(simulator, path, clip.times[0] + step * np.arange(frames)):
        images = {candidate.name: block.image, **baselines(candidate.condition, methods=('smooth',))}
        for i in range(count):
            true = truth[number % len(clip)]
            for name in made:
                made[name].append(psnr(images[name][i], true))
                for end, inside in zip(ends[name], (number < compared, number >= frames - compared), strict=True):
                    if inside:
                        end.add(images[name][i], true)
            lap, place = divmod(number, len(clip))
            if place == len(clip) // 4 and lap in (0, loop.laps // 2, loop.laps - 1):
                shown[f'lap {lap + 1}'] = block.image[i]
            number += 1
    figures = {'frames': frames, 'laps': loop.laps, 'lap_frames': len(clip), 'compared': compared,
               'fingerprint': hashlib.sha256(b''.join(image.tobytes() for image in truth)).hexdigest()[:12],
               **{name: _drift_figures(made[name], ends[name], len(clip)) for name in dict.fromkeys(made)}}
    return figures, ('round and round, one pose', {**shown, TRUTH: truth[len(clip) // 4]})


def _drift_figures(values: list[float], ends: tuple[ErrorSum, ErrorSum], lap: int) -> dict[str, Any]:
    laps = [for_json(float(np.mean(values[start:start + lap]))) for start in range(0, len(values), lap)]
    first, last = (end.psnr for end in ends)
    return {'first': for_json(first), 'last': for_json(last), 'change': for_json(last - first), 'laps': laps,
            'psnr_by_frame': [for_json(value, 2) for value in values]}
