# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Train a generator from one configuration file: python -m inspatio_ros.training.train --config FILE --stage all."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from inspatio_ros.config import GeneratorConfig, from_dict, to_dict
from inspatio_ros.errors import ConfigurationError, InspatioError
from inspatio_ros.training.data import ClipFolder
from inspatio_ros.training.export import export
from inspatio_ros.training.measure import measure
from inspatio_ros.training.memory import keep_freed_memory
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.stages import STAGES, LossConfig
from inspatio_ros.training.trainer import Trainer, TrainerConfig


@dataclass(frozen=True)
class Plan:
    """A configuration file, read."""

    generator: GeneratorConfig
    loss: LossConfig
    stages: dict[str, TrainerConfig]
    seed: int


def read_plan(path: Path) -> Plan:
    """Read a configuration file; an unknown key is an error that names it."""
    try:
        plain = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f'{path} cannot be read as YAML: {error}') from error
    unknown = sorted(set(plain) - {'generator', 'loss', 'stages', 'seed'})
    if unknown:
        raise ConfigurationError(f'{path}: unknown key {unknown[0]!r}; it takes generator, loss, stages, seed')
    seed = int(plain.get('seed', 0))
    stages = {}
    for name, settings in plain['stages'].items():
        if name not in STAGES:
            raise ConfigurationError(f'{path}: stage {name!r} is unknown; choose among {", ".join(STAGES)}')
        stages[name] = from_dict(TrainerConfig, {'seed': seed, **settings})
    return Plan(from_dict(GeneratorConfig, plain['generator']), from_dict(LossConfig, plain.get('loss', {})), stages,
                seed)


def train(plan: Plan, stage: str, data: Path, output: Path, device: str = 'cpu',
          stop_after: float = float('inf')) -> Networks:
    """Train one stage or 'all' of them, each from the one before; gives the networks, with the EMA weights."""
    clips, held_out = ClipFolder(data / 'train'), ClipFolder(data / 'held_out')
    networks = Networks(plan.generator, device, plan.seed)
    wanted = list(plan.stages) if stage == 'all' else [stage]
    steps = {}
    for name in plan.stages:
        trainer = Trainer(STAGES[name](networks, clips, held_out, plan.loss), plan.stages[name], output / name, device,
                          {'generator': to_dict(plan.generator)})
        if name in wanted:
            trainer.run(stop_after)
        else:
            trainer.resume()
        _take_average(trainer)
        steps[name] = trainer.step
        if name == wanted[-1]:
            break
    for net in networks.modules().values():
        net.eval()
    export(networks, output / 'weights', {'data': clips.description(), 'seed': plan.seed, 'steps': steps,
                                          'held_out_data': held_out.description(),
                                          'held_out_psnr': measure(networks, held_out)})
    return networks


def _take_average(trainer: Trainer) -> None:
    """Put the EMA weights in place: what the next stage starts from, and what is shipped."""
    with torch.no_grad():
        for name, value in trainer.parameters.items():
            value.copy_(trainer.ema[name])


def main(arguments: list[str] | None = None) -> int:
    """Train from the command line."""
    parser = argparse.ArgumentParser(prog='python -m inspatio_ros.training.train', description=__doc__)
    parser.add_argument('--config', type=Path, required=True, help='configuration, e.g. config/training/nano.yaml')
    parser.add_argument('--data', type=Path, required=True, help='folder with train/ and held_out/')
    parser.add_argument('--output', type=Path, required=True, help='folder for checkpoints, curves and weights')
    parser.add_argument('--stage', default='all', choices=[*STAGES, 'all'])
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--threads', type=int, help='CPU threads (all cores if left out)')
    parser.add_argument('--minutes', type=float, default=float('inf'), help='stop each stage after so long')
    options = parser.parse_args(arguments)
    keep_freed_memory()
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        plan = read_plan(options.config)
        train(plan, options.stage, options.data, options.output, options.device, 60 * options.minutes)
    except InspatioError as error:
        print(f'error: {error}', file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == '__main__':
    sys.exit(main())
