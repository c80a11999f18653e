# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Train a generator from one configuration file: python -m inspatio_ros.training.train --config FILE --stage all."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from inspatio_ros.config import GeneratorConfig, as_trained, from_dict, to_dict
from inspatio_ros.errors import ConfigurationError
from inspatio_ros.simulator import resolve_device
from inspatio_ros.training.checkpoint import STARTED_FROM
from inspatio_ros.training.config_file import BASE, read_yaml
from inspatio_ros.training.data import ClipFolder, ClipSource
from inspatio_ros.training.decoding import FinishStage
from inspatio_ros.training.distributed import (
    ScaleConfig,
    ScaledTrainer,
    leave,
    rank,
    start,
    stop,
    unsharded,
    world_size,
)
from inspatio_ros.training.encoded import EncodedClips, EncodingConfig
from inspatio_ros.training.entry import run
from inspatio_ros.training.export import check_exportable, export
from inspatio_ros.training.further import (
    ALIASES,
    FURTHER_STAGES,
    NO_VIDEO,
    TEACHER_OF,
    FurtherStages,
    read_settings,
    sources_in,
)
from inspatio_ros.training.jdmd import JdmdConfig, JdmdStage
from inspatio_ros.training.measure import measure
from inspatio_ros.training.mend import MendStage
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.scenes import ENDLESS, EndlessConfig, open_endless
from inspatio_ros.training.sharded import from_first
from inspatio_ros.training.stages import (
    AutoencoderStage,
    InitialisationStage,
    JointStage,
    LossConfig,
    SpreadStage,
)
from inspatio_ros.training.teachers import TeacherConfig
from inspatio_ros.training.texture import TextureStage
from inspatio_ros.training.trainer import Trainer, TrainerConfig
from inspatio_ros.training.widen import digest, origin, start_from


@dataclass(frozen=True)
class Plan:
    """A configuration file, read; `stages` in the order in which they are trained."""

    generator: GeneratorConfig
    loss: LossConfig
    stages: dict[str, TrainerConfig]
    seed: int
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    jdmd: JdmdConfig = field(default_factory=JdmdConfig)
    scale: ScaleConfig = field(default_factory=ScaleConfig)
    #: What the generator is trained without (evaluation/ablation.py), '' for nothing.
    ablation: str = ''
    #: Where `--data endless` takes its clips from.
    endless: EndlessConfig = field(default_factory=EndlessConfig)
    #: How the stages that train in latents get theirs.
    encoding: EncodingConfig = field(default_factory=EncodingConfig)


#: The stages of a generator's own networks.
STAGES = {stage.name: stage for stage in (AutoencoderStage, MendStage, InitialisationStage, SpreadStage, JointStage,
                                          FinishStage, TextureStage)}
#: All stages in the order in which they build on each other; those that the configuration lists are trained. What ends
#: the decoder's training comes last, since it learns from what the student makes.
ORDER = (*(name for name in STAGES if name not in (FinishStage.name, TextureStage.name)), *FURTHER_STAGES,
         FinishStage.name, TextureStage.name)
#: Stages that train the transformer in latents.
LATENT_STAGES = (InitialisationStage.name, SpreadStage.name)
#: Stages that are trained on encoded clips: these, and those of distillation that look at clips.
ENCODED_STAGES = (*LATENT_STAGES, TEACHER_OF['ctrl'], JdmdStage.name)
#: Stages that train the autoencoder alone, which ablations of the transformer share.
PIXEL_STAGES = (AutoencoderStage.name, MendStage.name, FinishStage.name, TextureStage.name)
#: What a configuration file may hold.
KEYS = ('generator', 'loss', 'stages', 'teacher', 'jdmd', 'scale', 'seed', 'ablation', 'endless', 'encoding')


def read_plan(path: Path) -> Plan:
    """Read a configuration file (training/config_file.py); an unknown key is an error that names it."""
    plain = read_yaml(path)
    unknown = sorted(set(plain) - set(KEYS))
    if unknown:
        raise ConfigurationError(f'{path}: unknown key {unknown[0]!r}; it takes {", ".join((BASE, *KEYS))}')
    if 'generator' not in plain:
        raise ConfigurationError(f'{path} has no generator: name its sizes, or a {BASE} that does')
    # A heading whose lines are all comments is None.
    plain = {key: value for key, value in plain.items() if value is not None}
    for key in set(KEYS) - {'seed', 'ablation'}:
        if not isinstance(plain.get(key, {}), dict):
            raise ConfigurationError(f'{path}: {key} is {plain[key]!r}, and should be a group of settings')
    seed = plain.get('seed', 0)
    if not isinstance(seed, int):
        raise ConfigurationError(f'{path}: seed {seed!r} is not a whole number')
    plan = Plan(from_dict(GeneratorConfig, plain['generator']), from_dict(LossConfig, plain.get('loss', {})),
                _read_stages(path, plain.get('stages', {}), seed), seed,
                read_settings(TeacherConfig, plain.get('teacher', {})),
                read_settings(JdmdConfig, plain.get('jdmd', {})),
                read_settings(ScaleConfig, plain.get('scale', {})), str(plain.get('ablation', '')),
                read_settings(EndlessConfig, plain.get('endless', {})),
                read_settings(EncodingConfig, plain.get('encoding', {})))
    _check_windows(path, plan)
    return plan


def _check_windows(path: Path, plan: Plan) -> None:
    size = plan.generator.height, plan.generator.width
    cut = [name for name in plan.stages if name in STAGES and 'crop' in STAGES[name].goes_by]
    if cut and any(part > side for part, side in zip(plan.loss.crop, size, strict=True)):
        raise ConfigurationError(f'{path}: loss.crop is {plan.loss.crop[0]}x{plan.loss.crop[1]}, rows by columns, and '
                                 f'pictures have {size[0]}x{size[1]}; stage {cut[0]} needs smaller windows')


def _read_stages(path: Path, plain: dict[str, Any], seed: int) -> dict[str, TrainerConfig]:
    for name in plain:
        if name not in ORDER:
            raise ConfigurationError(f'{path}: stage {name!r} is unknown; choose among {", ".join(ORDER)}')
        if 'steps' not in (plain[name] or {}):
            raise ConfigurationError(f'{path}: stage {name} has no steps; say how many')
    return {name: _read_stage(path, name, {'seed': seed, **plain[name]}) for name in ORDER if name in plain}


def _read_stage(path: Path, name: str, plain: dict[str, Any]) -> TrainerConfig:
    try:
        return from_dict(TrainerConfig, plain)
    except ConfigurationError as error:
        raise ConfigurationError(f'{path}: stage {name}: {error}') from error


def train(plan: Plan, stage: str, data: Path, output: Path, device: str = 'cpu', stop_after: float = float('inf'),
          real: Sequence[Path] = (), weights: Path | None = None) -> Networks:
    """Train one stage or 'all' of them, each from the one before; gives the networks, with the EMA weights.

    Args:
        plan: the configuration.
        stage: which; the stages before it are read from their checkpoints.
        data: folder with train/ and held_out/ clips, or 'endless': made while training.
        output: folder for checkpoints, curves and weights.
        device: where to train.
        stop_after: seconds that each stage may take.
        real: RGB-D folders and videos for the real teacher.
        weights: folder of weights to start from, as the large model does; stages before `stage` that have no
            checkpoint in `output` are taken from them.

    """
    clips, held_out = _open_data(plan, data, device)
    try:
        return _train_on(plan, stage, clips, held_out, output, device, stop_after, real, weights)
    finally:
        clips.close()


def _train_on(plan: Plan, stage: str, clips: ClipSource, held_out: ClipSource, output: Path, device: str,
              stop_after: float, real: Sequence[Path], weights: Path | None) -> Networks:
    networks = Networks(plan.generator, device, plan.seed, plan.ablation)
    started_from = {}
    if not weights:
        check_exportable(networks)
    if weights:
        start_from(networks, weights)
        started_from = {STARTED_FROM: digest(weights)}
    elif AutoencoderStage.name not in plan.stages:
        # No stage would say so.
        if rank() == 0:
            print('autoencoder and caption are random: the configuration has no stage autoencoder, and --weights was '
                  'left out', file=sys.stderr)
        started_from = {STARTED_FROM: 'nothing, as --weights was left out'}
    encoded = EncodedClips(networks, clips, plan.encoding, plan.seed, output / 'latents')
    further = FurtherStages(networks, encoded, held_out, plan.teacher, plan.jdmd, real, weights)
    if stage not in ('all', *plan.stages):
        raise ConfigurationError(f'the configuration has no stage {stage!r}; it has {", ".join(plan.stages)}')
    wanted = list(plan.stages) if stage == 'all' else [stage]
    if TEACHER_OF['vis'] in wanted and not real:
        # Said at once, not hours later when its turn comes.
        raise ConfigurationError(NO_VIDEO)
    steps = {}
    for name in plan.stages:
        if name not in wanted and not _needed(plan, name, wanted[-1], output, bool(weights)):
            continue
        if name not in wanted and name == JdmdStage.name:
            steps |= further.take_student(output)
            if steps[name] < plan.stages[name].steps:
                _tell_unfinished(output / name / 'checkpoints', name, steps[name], plan.stages[name].steps, wanted[-1])
            continue
        source = encoded if name in LATENT_STAGES else clips
        made = STAGES[name](networks, source, held_out, plan.loss) if name in STAGES else further.make(
            name, name in wanted)
        description = {**_description(plan, name), **(started_from if name in wanted or not weights else {})}
        trainer = ScaledTrainer(made, plan.stages[name], output / name, device, description, plan.scale)
        if name in wanted:
            if name == TEACHER_OF['vis']:
                # Before it is trained, as who is cut off has trained on them too; but not if it will be refused.
                trainer.resume()
                if rank() == 0:
                    further.note_sources(output / name)
            trainer.run(stop_after)
        else:
            _take_up(trainer, wanted[-1])
        _take_average(trainer)
        further.done(name, trainer.step)
        steps[name] = trainer.step
        if name == wanted[-1]:
            break
    for net in networks.modules().values():
        net.eval()
    if wanted[-1] not in TEACHER_OF.values():
        about = {'data': clips.description(), 'seed': plan.seed, 'steps': steps, 'training': _settings(plan, steps),
                 'held_out_data': held_out.description(), 'held_out_psnr': measure(networks, held_out)}
        if plan.ablation:
            about['ablation'] = plan.ablation
        if weights:
            about['started_from'] = origin(weights)
        if JdmdStage.name in steps and 'vis' in plan.jdmd.tasks:
            about['real_data'] = sources_in(output / TEACHER_OF['vis'])
        _export(networks, output / 'weights', about, weights is None)
    return networks


def _open_data(plan: Plan, data: Path, device: str) -> tuple[ClipSource, ClipSource]:
    """Open the clips to train on and those that are held out."""
    size = plan.generator.width, plan.generator.height
    if str(data) == ENDLESS:
        return open_endless(plan.endless, *size, plan.generator.frame_rate, device)
    clips, held_out = (ClipFolder(data / name) for name in ('train', 'held_out'))
    for folder in (clips, held_out):
        folder.check_size(*size)
    return clips, held_out


def _needed(plan: Plan, name: str, wanted: str, output: Path, has_weights: bool) -> bool:
    """Say whether the result of a stage that was trained before matters to a later one, and is to be read."""
    if name in TEACHER_OF.values():
        # Teachers matter to the distillation by them alone.
        return wanted == JdmdStage.name and name in [TEACHER_OF[task] for task in plan.jdmd.tasks]
    trained = from_first((output / name / 'checkpoints').is_dir)
    # What a stage would have made is in the weights; and a student need not be distilled.
    return trained or not (has_weights or name == JdmdStage.name)


def _tell_unfinished(folder: Path, name: str, step: int, steps: int, wanted: str) -> None:
    if rank() == 0:
        print(f'{folder} has {step} of the {steps} steps of stage {name}: {wanted} goes on from there', file=sys.stderr)


def _take_up(trainer: ScaledTrainer, wanted: str) -> None:
    """Read what a stage that was trained before has made of its networks, for the one that is wanted.

    Raises:
        ConfigurationError: it has no whole checkpoint, and is no teacher that was never trained (further.py says
            whether that one can be done without).

    """
    trainer.resume()
    name, folder = trainer.stage.name, trainer.output / 'checkpoints'
    if 0 < trainer.step < trainer.config.steps:
        _tell_unfinished(folder, name, trainer.step, trainer.config.steps, wanted)
    if trainer.step or (name in TEACHER_OF.values() and not from_first(folder.is_dir)):
        return
    raise ConfigurationError(f'{folder} holds no whole checkpoint of stage {name}, from which {wanted} goes on; train '
                             f'it with --stage {name}, or name the --output where it was trained')


def changed(plan: Plan, stage: str, steps: int | None, learning_rate: float | None,
            batch_size: int | None = None) -> Plan:
    """Give a plan in which a stage takes so many steps at such a rate on so many clips; None leaves what the plan says.

    Raises:
        ConfigurationError: the plan has no such stage.

    """
    wanted = {'steps': steps, 'learning_rate': learning_rate, 'batch_size': batch_size}
    changes = {name: value for name, value in wanted.items() if value is not None}
    if not changes:
        return plan
    if stage not in plan.stages:
        raise ConfigurationError(f'--steps, --learning-rate and --batch-size belong to one stage; name it by --stage, '
                                 f'one of {", ".join(plan.stages)}')
    return replace(plan, stages={name: replace(config, **changes) if name == stage else config
                                 for name, config in plan.stages.items()})


def _description(plan: Plan, name: str) -> dict[str, Any]:
    """Give what must agree with a checkpoint for it to go on."""
    settings = {'jdmd': {'jdmd': to_dict(plan.jdmd)}, 'motion_teacher': {'teacher': to_dict(plan.teacher)},
                'real_teacher': {'teacher': to_dict(plan.teacher)}}
    ablation = {'ablation': plan.ablation} if plan.ablation and name not in PIXEL_STAGES else {}
    loss, encoding = {}, {}
    if name in STAGES:
        weights = to_dict(plan.loss)
        loss = {'loss': {setting: weights[setting] for setting in STAGES[name].goes_by}}
    if name in ENCODED_STAGES:
        encoding = {'encoding': to_dict(plan.encoding)}
    return {'generator': as_trained(plan.generator), **settings.get(name, {}), **ablation, **loss, **encoding}


def _settings(plan: Plan, trained: Iterable[str]) -> dict[str, Any]:
    """Give how the stages that were trained were, as the configuration says it."""
    teacher = {name: value for name, value in to_dict(plan.teacher).items() if name != 'weights'}
    return {'stages': {name: asdict(plan.stages[name]) for name in trained}, 'loss': to_dict(plan.loss),
            'teacher': teacher, 'jdmd': to_dict(plan.jdmd), 'encoding': to_dict(plan.encoding)}


def _export(networks: Networks, folder: Path, about: dict[str, Any], limited: bool) -> None:
    whole = unsharded(networks)
    if rank() == 0:
        export(whole, folder, about, limited)


def _take_average(trainer: Trainer) -> None:
    """Put the EMA weights in place: what the next stage starts from, and what is shipped."""
    with torch.no_grad():
        for name, value in trainer.parameters.items():
            value.copy_(trainer.ema[name])


def main(arguments: list[str] | None = None) -> int:
    """Train from the command line."""
    parser = argparse.ArgumentParser(prog='python -m inspatio_ros.training.train', description=__doc__)
    parser.add_argument('--config', type=Path, required=True, help='configuration, e.g. config/training/nano.yaml')
    parser.add_argument('--data', type=Path, required=True, help='folder with train/ and held_out/, or '
                        f'{ENDLESS!r}: scenes are made while training')
    parser.add_argument('--output', type=Path, required=True, help='folder for checkpoints, curves and weights')
    parser.add_argument('--stage', default='all', choices=[*ORDER, *ALIASES, 'all'])
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--threads', type=int, help='CPU threads (all cores if left out)')
    parser.add_argument('--minutes', type=float, default=float('inf'), help='stop each stage after so long')
    parser.add_argument('--real', type=Path, nargs='+', default=[], help='RGB-D folders, videos and folders of '
                        'images for the real teacher')
    parser.add_argument('--weights', type=Path, help='folder of weights to start from: transformer (Wan2.1, official '
                        'names), autoencoder, text; or of nano, to adapt it to a recording')
    parser.add_argument('--steps', type=int, help='of the stage, where not those of the configuration')
    parser.add_argument('--learning-rate', type=float, help='of the stage, where not that of the configuration')
    parser.add_argument('--batch-size', type=int, help='of the stage, on every rank, where not the one configured')
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)

    def go() -> None:
        stage = ALIASES.get(options.stage, options.stage)
        plan = changed(read_plan(options.config), stage, options.steps, options.learning_rate, options.batch_size)
        device = start(resolve_device(options.device))
        train(plan, stage, options.data, options.output, device, 60 * options.minutes, options.real, options.weights)

    try:
        code = run(go, 'stopped; the same command goes on from the last checkpoint')
    except Exception:
        if world_size() == 1:
            raise
        traceback.print_exc()
        code = 1
    if code and world_size() > 1:
        leave(code)
    stop()
    return code


if __name__ == '__main__':
    sys.exit(main())
