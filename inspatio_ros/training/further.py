# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The stages of distillation as the command line makes them: which data each wants, and who teaches whom."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from inspatio_ros.config import as_trained, from_dict
from inspatio_ros.errors import ConfigurationError
from inspatio_ros.evaluation.pictures import write_bytes
from inspatio_ros.training.checkpoint import CheckpointError, CheckpointFolder, first_difference, tensors_under
from inspatio_ros.training.data import ClipSource
from inspatio_ros.training.distributed import check_kind
from inspatio_ros.training.encoded import EncodedClips
from inspatio_ros.training.jdmd import JdmdConfig, JdmdStage
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.stages import pixel_effects
from inspatio_ros.training.teachers import Denoiser, MotionTeacherStage, NoiseLevels, RealTeacherStage, TeacherConfig

#: The stages of distillation.
FURTHER_STAGES = ('motion_teacher', 'real_teacher', 'jdmd')
NO_VIDEO = 'real_teacher needs real video; name RGB-D folders, videos or folders of images with --real'
#: Other names of stages: the paper's beside ours.
ALIASES = {'causal_init': 'initialisation'}
#: The teacher of each task.
TEACHER_OF = {'ctrl': 'motion_teacher', 'vis': 'real_teacher'}
#: Beside the real teacher's checkpoints: the names of the recordings that it was trained on.
SOURCES_FILE = 'sources.json'


def read_settings(cls: type, plain: dict[str, Any]) -> Any:
    """Build settings from plain types, noise levels among them; an unknown key is an error that names it."""
    if 'noise' in plain:
        plain = {**plain, 'noise': from_dict(NoiseLevels, plain['noise'])}
    return from_dict(cls, plain)


def sources_in(folder: Path) -> list[str]:
    """Name the recordings that the real teacher in a folder was trained on; none if there is no such teacher."""
    path = folder / SOURCES_FILE
    return json.loads(path.read_text()) if path.is_file() else []


class FurtherStages:
    """Makes the stages of distillation and keeps the teachers for the last one."""

    def __init__(self, networks: Networks, encoded: EncodedClips, held_out: ClipSource, teacher: TeacherConfig,
                 jdmd: JdmdConfig, real: Sequence[Path] = (), weights: Path | None = None) -> None:
        self.networks, self.encoded, self.held_out, self.jdmd = networks, encoded, held_out, jdmd
        self.teacher = dataclasses.replace(teacher, weights=str(weights)) if weights else teacher
        self.real = list(real)
        self._teachers: dict[str, Denoiser] = {}
        self._trained: dict[str, int] = {}
        self._weights: Tensor | None = None

    def make(self, name: str, will_train: bool) -> Any:
        """Make a stage; `will_train` False where its checkpoint is only read."""
        if name == 'jdmd':
            teachers = self._ready_teachers()
            stand_ins = [task for task in teachers if not self._trained.get(TEACHER_OF[task])]
            if stand_ins and self.jdmd.guidance != 1:
                print(f'jdmd: the weights that stand in for {TEACHER_OF[stand_ins[0]]} are not guided '
                      f'(guidance {self.jdmd.guidance:g}): they know no empty caption', file=sys.stderr)
            return JdmdStage(self.networks, self.encoded, self.held_out, self.jdmd, teachers, self._channel_weights(),
                             stand_ins)
        if name == 'motion_teacher':
            stage = MotionTeacherStage(self.networks, self.encoded, self.held_out, self.teacher,
                                       self._channel_weights())
        else:
            stage = RealTeacherStage(self.networks, self._video() if will_train else None, self.teacher,
                                     self._channel_weights())
        self._teachers[name] = stage.teacher
        return stage

    def done(self, name: str, step: int) -> None:
        """Take note of how far a stage has been trained."""
        self._trained[name] = step

    def take_student(self, output: Path) -> dict[str, int]:
        """Give the student what a finished distillation made of it; gives the stages' steps, as far as they are known.

        The teachers are not needed for it.
        """
        check_kind(output / JdmdStage.name / 'checkpoints', sharded=False)
        found = CheckpointFolder(output / JdmdStage.name / 'checkpoints').newest()
        if found is None:
            raise ConfigurationError(f'{output / JdmdStage.name} holds no whole checkpoint; train that stage first')
        path, tensors, about = found
        difference = first_difference(as_trained(self.networks.config), about['description']['generator'])
        if difference:
            raise CheckpointError(f'{path} is of another configuration ({difference}); choose another --output')
        student = self.networks.transformer
        student.load_state_dict({**student.state_dict(), **tensors_under(tensors, 'ema.transformer.')})
        return {JdmdStage.name: about['step']}

    def note_sources(self, folder: Path) -> None:
        """Write down what the real teacher was trained on, beside what an earlier command named."""
        names = {*sources_in(folder), *(Path(path).name for path in self.real)}
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / SOURCES_FILE, (json.dumps(sorted(names)) + '\n').encode())

    def _ready_teachers(self) -> dict[str, Denoiser]:
        for task in self.jdmd.tasks:
            name = TEACHER_OF[task]
            # What the real teacher learns, the base that both start from knows already; reference, render and mask it
            # has never seen.
            serves = task == 'vis' and bool(self.teacher.weights)
            if name not in self._teachers or not (self._trained.get(name) or serves):
                remedy = ', or start from --weights' if task == 'vis' else ''
                raise ConfigurationError(f'jdmd needs the teacher of stage {name}, which has no checkpoint here; '
                                         f'train it first with --stage {name}{remedy}')
        return {task: self._teachers[TEACHER_OF[task]] for task in self.jdmd.tasks}

    def _channel_weights(self) -> Tensor | None:
        """Weigh channels [C] by what they do to pixels of the first held-out clips, the same on every rank."""
        if self.teacher.weigh_channels and self._weights is None:
            self._weights = pixel_effects(self.networks, self.held_out)
        return self._weights

    def _video(self) -> Any:
        from inspatio_ros.training.real_data import RealVideo
        if not self.real:
            raise ConfigurationError(NO_VIDEO)
        config = self.networks.config
        return RealVideo(self.real, config.width, config.height, config.frames_in_first_block + config.frames_per_block,
                         config.frame_rate)
