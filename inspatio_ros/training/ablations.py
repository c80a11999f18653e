# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Train the generator once more without each of its parts, measure all of them, and lay the figures side by side.

`python -m inspatio_ros.training.ablations --config FILE --data DATA --run RUN --output DIR` takes what RUN holds (the
stages of `--stage all`, and for the rows of distillation the two teachers) and trains what a row changes, for as many
steps as the whole has. With `--steps N --start WEIGHTS` the student of every row, the whole one too, takes N steps from
those weights instead: without a part by the last stage of its own training, or by distillation. With `--steps N` alone
it is initialised for N steps from nothing, and distilled from the whole one's. All rows share RUN's autoencoder, with
the decoder that the configuration's `stages` give it. A row that is done is not trained again, and measured again only
where other suites, clips or recordings are asked for. DIR gets a folder a row, `ablations.md` and `ablations.png`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.training.checkpoint import CheckpointFolder, first_difference
from inspatio_ros.training.distributed import check_kind
from inspatio_ros.training.export import commit
from inspatio_ros.training.further import FURTHER_STAGES, TEACHER_OF
from inspatio_ros.training.jdmd import JdmdStage
from inspatio_ros.training.stages import InitialisationStage, SpreadStage
from inspatio_ros.training.train import LATENT_STAGES, PIXEL_STAGES, Plan, changed, read_plan, train
from inspatio_ros.training.trainer import TrainerConfig

if TYPE_CHECKING:
    from inspatio_ros.reference.base import Reference

SUITES = ('scenes', 'memory', 'roam', 'office')
#: What the table shows above its rows: the render with its holes filled.
_FILLS = {'nearest': 'render, holes filled by the nearest colour', 'smooth': 'render, holes filled smoothly'}
#: Frames of a suite that the sheet of pictures shows.
PICTURES = 4


@dataclass(frozen=True)
class Row:
    """One line of the table: what it says, what the generator is trained without, and how it is distilled."""

    about: str
    ablation: str = ''
    #: Tasks of the distillation; none for the initialisation alone.
    tasks: tuple[str, ...] = ()


ROWS = {
    'initialisation': Row('initialisation only'),
    'no_reference': Row('initialisation, no reference in the cache', 'no_reference'),
    'no_history': Row('initialisation, no history', 'no_history'),
    'no_render': Row('initialisation, no render', 'no_render'),
    'ctrl': Row('L_ctrl only', tasks=('ctrl',)),
    'vis': Row('L_vis only', tasks=('vis',)),
    'jdmd': Row('L_vis and L_ctrl (JDMD)', tasks=('vis', 'ctrl')),
}

#: Columns of the table: heading, suite, where the figure lies (under the generator's own), digits.
_COLUMNS = (
    ('all', 'scenes', ('psnr', 'all'), 2), ('known', 'scenes', ('psnr', 'known'), 2),
    ('holes', 'scenes', ('psnr', 'holes'), 2), ('sharp', 'scenes', ('gradient_energy_in_holes',), 2),
    ('Frechet', 'scenes', ('frechet_distance',), 3), ('rot °', 'scenes', ('camera', 'rotation_degrees'), 3),
    ('other frame', 'memory', ('psnr_of_answers', 'another frame'), 2),
    ('block before', 'memory', ('psnr_of_answers', 'block before'), 2),
    ('revisit', 'memory', ('revisit', 'holes', 'psnr'), 2), ('turns', 'roam', ('psnr', 'all'), 2),
    ('office', 'office', ('psnr_after_gain_fit', 'all'), 2),
)


@dataclass(frozen=True)
class Budget:
    """What every row is trained for: `steps` of the student (None: as RUN was), from the weights in `start`.

    `learning_rate`: of the rows that are not distilled; `batch_size`: clips of a step, of all rows (`spread` takes each
    of them twice). None: the plan's.
    """

    steps: int | None = None
    start: Path | None = None
    learning_rate: float | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if self.steps is None and any(value is not None for value in (self.start, self.learning_rate, self.batch_size)):
            raise ConfigurationError('a start, a learning rate and a batch size belong to a number of steps; give '
                                     '--steps too')

    def applied(self, plan: Plan) -> Plan:
        """Give a plan whose rows keep to the budget."""
        if self.steps is None:
            return plan
        stage = self._stage(plan)
        plan = replace(plan, stages=_without(plan, [name for name in LATENT_STAGES if name != stage]))
        samples = 2 if stage == SpreadStage.name else 1
        plan = changed(plan, stage, self.steps, self.learning_rate, self.batch_size and samples * self.batch_size)
        if JdmdStage.name in plan.stages:
            steps = self.steps * plan.jdmd.student_every if self.start else None
            plan = changed(plan, JdmdStage.name, steps, None, self.batch_size)
        return plan

    def _stage(self, plan: Plan) -> str:
        """Name the stage that rows without distillation are trained by."""
        own = [name for name in LATENT_STAGES if name in plan.stages]
        if InitialisationStage.name not in own:
            raise ConfigurationError(f'the configuration has no stage {InitialisationStage.name}, which --steps is of')
        # Who goes on from trained weights goes on as they were trained last.
        return own[-1] if self.start else InitialisationStage.name

    def as_json(self, plan: Plan) -> dict[str, Any]:
        """Give what must agree for a row not to be trained again."""
        start = str(self.start and self.start.resolve())
        found = {'steps': self.steps, 'learning_rate': self.learning_rate, 'start': start}
        if self.batch_size is not None:
            found['batch_size'] = self.batch_size
        return found if self.steps is None else {**found, 'stage': self._stage(plan)}


def train_row(plan: Plan, row: Row, data: Path, run: Path, folder: Path, device: str = 'cpu',
              whole: Path | None = None, start: Path | None = None) -> Path:
    """Train what a row changes, from what RUN holds; gives the folder of its weights.

    `whole` is the folder of the whole row where it was trained anew, too; None where it is RUN itself. `start` is a
    folder of weights that every row goes on from, however it is trained.
    """
    distilled = JdmdStage.name in plan.stages
    if not (row.tasks or row.ablation or whole or distilled):
        return _weights(run / 'weights')
    folder.mkdir(parents=True, exist_ok=True)
    for stage in plan.stages:
        if stage in PIXEL_STAGES:
            _share(run / stage, folder / stage, plan)
        elif stage not in FURTHER_STAGES and not start and (row.tasks or not (row.ablation or whole)):
            # What is distilled, or was in RUN: its student before that.
            _share((whole or run) / stage, folder / stage, plan)
    # Encoded clips are the same for every row but the one without a render, which finds no file of its name there.
    if (run / 'latents').is_dir():
        _link(run / 'latents', folder / 'latents')
    if row.tasks:
        for task in row.tasks:
            _share(run / TEACHER_OF[task], folder / TEACHER_OF[task], plan)
        plan = replace(plan, jdmd=replace(plan.jdmd, tasks=row.tasks))
    else:
        plan = replace(plan, ablation=row.ablation, stages=_without(plan, FURTHER_STAGES))
    last = list(plan.stages)[-1]
    if row.tasks and last != JdmdStage.name:
        train(plan, JdmdStage.name, data, folder, device, weights=start)
    # What ends the decoder's training is shared, and done: it is read.
    train(plan, last if row.tasks else 'all', data, folder, device, weights=start)
    return _weights(folder / 'weights')


def _without(plan: Plan, names: Sequence[str]) -> dict[str, TrainerConfig]:
    return {name: config for name, config in plan.stages.items() if name not in names}


def measure_row(row: Row, weights: Path, folder: Path, suites: Sequence[str], count: int | None = None,
                device: str = 'cpu', reference: Reference | None = None) -> dict[str, dict[str, dict[str, Any]]]:
    """Measure weights on the suites, and write a report for each.

    Gives the figures of the generator ('') and of the fills beside it: who -> suite -> figures.
    """
    from inspatio_ros.evaluation.candidates import observe
    from inspatio_ros.evaluation.latents import open_autoencoder
    from inspatio_ros.evaluation.protocol import Setting, evaluate
    from inspatio_ros.evaluation.report import write_report
    from inspatio_ros.evaluation.suites import TRUTH, open_suite
    from inspatio_ros.star.checkpoint import load_config
    from inspatio_ros.star.pipeline import StarPipeline
    name = load_config(weights).name
    candidates = observe(StarPipeline.load(name, weights, device), (row.ablation,) if row.ablation else ())
    # A network that was trained without a part is measured without it alone.
    chosen = {name: list(candidates.values())[-1]}
    # Distances are taken in the latents of the shipped weights, so that all rows have one measure.
    setting = Setting(device=device, autoencoder=open_autoencoder(None, device), tell=lambda line: None)
    found: dict[str, dict[str, dict[str, Any]]] = {'': {}, **{fill: {} for fill in _FILLS}}
    for suite in suites:
        place = folder / suite
        place.mkdir(parents=True, exist_ok=True)
        result = evaluate(open_suite(suite, count, reference if suite == 'office' else None), chosen, setting)
        write_report(result, place)
        np.savez_compressed(place / 'pictures.npz', **{
            kind: np.stack([images[key] for _, images in result.pictures[:PICTURES] if key in images])
            for kind, key in (('made', name), ('truth', TRUTH))})
        for who, figures in found.items():
            figures[suite] = result.figures['candidates'][who or name]
    return found


def table(rows: dict[str, dict[str, dict[str, Any]]], fills: dict[str, dict[str, dict[str, Any]]] | None = None) -> str:
    """Lay out figures (row or fill -> suite -> figure) as Markdown; what was not measured is a dash."""
    lines = ['| trained as | ' + ' | '.join(heading for heading, *_ in _COLUMNS) + ' |',
             '|---' * (len(_COLUMNS) + 1) + '|']
    said = {**{_FILLS[name]: figures for name, figures in (fills or {}).items()},
            **{ROWS[name].about: figures for name, figures in rows.items()}}
    for about, figures in said.items():
        cells = []
        for _, suite, path, digits in _COLUMNS:
            value: Any = figures.get(suite, {})
            for key in path:
                value = value.get(key) if isinstance(value, dict) else None
            cells.append('–' if value is None else f'{value:.{digits}f}')
        lines.append(f'| {about} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def _sheet(folders: dict[str, Path]) -> np.ndarray:
    """Show the same frames of every row, the truth last."""
    from inspatio_ros.evaluation import pictures
    made = {ROWS[name].about: np.load(folder / SUITES[0] / 'pictures.npz') for name, folder in folders.items()}
    last = next(iter(made.values()))
    rows = [pictures.Row(about, list(shown['made'])) for about, shown in made.items()]
    columns = [f'{SUITES[0]} {index + 1}' for index in range(len(last['truth']))]
    return pictures.contact_sheet(columns, [*rows, pictures.Row('truth', list(last['truth']))])


def _share(source: Path, place: Path, plan: Plan) -> None:
    """Let a row go on from a stage of the whole run, without copying it.

    Raises:
        ConfigurationError: it is not trained to its end; the row would train it on, and so change the whole run.

    """
    if not (source / 'checkpoints').is_dir():
        raise ConfigurationError(f'{source} holds no checkpoints; train stage {source.name} first')
    check_kind(source / 'checkpoints', sharded=False)
    trained = CheckpointFolder(source / 'checkpoints').newest_step()
    wanted = plan.stages[source.name].steps if source.name in plan.stages else 0
    if trained < wanted:
        raise ConfigurationError(f'{source} has been trained for {trained} of {wanted} steps, and rows share '
                                 f'it; train stage {source.name} to its end first')
    _link(source, place)


def _done(path: Path, about: dict[str, Any]) -> dict[str, Any] | None:
    """Give the file of a row that was measured before as it is now asked for; None where it is to be measured.

    Raises:
        ConfigurationError: it was trained otherwise.

    """
    if not path.is_file():
        return None
    found = json.loads(path.read_text())
    # Files of before are the figures alone.
    said = found.get('about', {})
    difference = first_difference(about['training'], said.get('training', about['training']))
    if difference:
        raise ConfigurationError(f'{path.parent} was trained otherwise ({difference}); choose another --output or '
                                 f'remove {path.parent}')
    return found if said == about and 'fills' in found else None


def _link(source: Path, place: Path) -> None:
    if not place.exists():
        place.symlink_to(source.resolve(), target_is_directory=True)


def _weights(folder: Path) -> Path:
    if not folder.is_dir():
        raise ConfigurationError(f'{folder} holds no weights; train all stages first')
    return folder


def ablate(plan: Plan, names: Sequence[str], data: Path, run: Path, output: Path, suites: Sequence[str] = SUITES[:-1],
           count: int | None = None, device: str = 'cpu', budget: Budget | None = None,
           recording: Path | None = None) -> str:
    """Train and measure rows, those that are not done yet; writes and gives the table.

    `budget` is what every row is trained for, where that is not what RUN was; `recording` is that of the suite office.
    """
    from inspatio_ros.evaluation.pictures import write_bytes, write_png
    from inspatio_ros.reference import open_reference
    if 'office' in suites and recording is None:
        raise ConfigurationError('the suite office needs a recording: give --reference, or leave it out of --suites')
    reference = open_reference(recording) if recording else None
    budget = budget or Budget()
    whole = output / 'initialisation' if budget.steps is not None else None
    about = {'training': budget.as_json(plan), 'suites': sorted(suites), 'clips': count,
             **({'recording': reference.name} if reference else {})}
    plan, figures, fills, folders = budget.applied(plan), {}, {}, {}
    for name in names:
        folder, done = output / name, output / name / 'figures.json'
        found = _done(done, about)
        if found is None:
            weights = train_row(plan, ROWS[name], data, run, folder, device, whole, budget.start)
            measured = measure_row(ROWS[name], weights, folder, suites, count, device, reference)
            found = {'about': about, 'commit': commit(), 'figures': measured.pop(''), 'fills': measured}
            write_bytes(done, (json.dumps(found, indent=1) + '\n').encode())
        figures[name], fills, folders[name] = found['figures'], found['fills'], folder
        print(table(figures, fills), flush=True)
    write_bytes(output / 'ablations.md', (table(figures, fills) + '\n').encode())
    if SUITES[0] in suites:
        write_png(output / 'ablations.png', _sheet(folders))
    return table(figures, fills)


def main(arguments: list[str] | None = None) -> int:
    """Ablate from the command line."""
    parser = argparse.ArgumentParser(prog='python -m inspatio_ros.training.ablations', description=__doc__)
    parser.add_argument('--config', type=Path, required=True, help='the configuration that RUN was trained with')
    parser.add_argument('--data', type=Path, required=True, help='folder with train/ and held_out/')
    parser.add_argument('--run', type=Path, required=True, help='folder of the whole: stages, teachers, weights')
    parser.add_argument('--output', type=Path, required=True, help='folder for the rows, the table and the pictures')
    parser.add_argument('--rows', nargs='+', choices=ROWS, default=list(ROWS))
    parser.add_argument('--suites', nargs='+', choices=SUITES, default=[name for name in SUITES if name != 'office'])
    parser.add_argument('--clips', type=int, help="clips of each suite (default: the suite's own)")
    parser.add_argument('--reference', type=Path, metavar='DIR', help='recording of the suite office')
    parser.add_argument('--steps', type=int, help="steps of every row's student, the whole one's too")
    parser.add_argument('--start', type=Path, help='with --steps: folder of weights that every row starts from')
    parser.add_argument('--learning-rate', type=float, help='with --steps: of the rows that are not distilled')
    parser.add_argument('--batch-size', type=int, help='with --steps: of all rows')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, help='CPU threads (all cores if left out)')
    options = parser.parse_args(arguments)
    import torch

    from inspatio_ros.simulator import resolve_device
    from inspatio_ros.training.entry import run
    if options.threads:
        torch.set_num_threads(options.threads)
    return run(lambda: ablate(
        read_plan(options.config), options.rows, options.data, options.run, options.output, options.suites,
        options.clips, resolve_device(options.device),
        Budget(options.steps, options.start, options.learning_rate, options.batch_size), options.reference))


if __name__ == '__main__':
    sys.exit(main())
