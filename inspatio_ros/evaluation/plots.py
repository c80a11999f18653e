# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Plots of a run's figures, as PNG bytes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 160
#: Colours that people with colour-blindness tell apart (Okabe, Ito 2008); the generator has the first one.
_COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00')
_BASELINES = {'smooth': '#444444', 'nearest': '#888888', 'black': '#bbbbbb', 'inpainter': '#6a3d9a'}


def colours(figures: dict[str, Any]) -> dict[str, str]:
    """Give every candidate but the truth a colour: greys for the fills, colours for what is measured."""
    measured = [name for name in figures['candidates'] if name not in _BASELINES and name != 'truth']
    return {**{name: _COLOURS[i % len(_COLOURS)] for i, name in enumerate(measured)},
            **{name: colour for name, colour in _BASELINES.items() if name in figures['candidates']}}


def plots(figures: dict[str, Any]) -> dict[str, bytes]:
    """Make all plots of a run: caption -> PNG."""
    made = {'PSNR by region: whole images (mean over clips), known pixels, holes (pooled)': _regions(figures),
            'PSNR of each clip over all its pixels': _clips(figures)}
    if any(len(c['psnr_by_frame']) > 1 for c in figures['candidates'].values()):
        made['PSNR by frame of a clip (pooled over clips, as far as all of them go)'] = _frames(figures)
    if 'drift' in figures:
        made[f'PSNR over {figures["drift"]["frames"]} frames, round and round'] = _drift(figures)
    return made


def _axes(width: float = 4.6, height: float = 2.7) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure
    figure = Figure((width, height), dpi=_DPI, layout='constrained')
    axes = figure.add_subplot()
    axes.spines[['top', 'right']].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.set_ylabel('PSNR (dB)', fontsize=8)
    axes.grid(axis='y', color='#dddddd', linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _png(figure: Figure, axes: Axes) -> bytes:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=6.5, frameon=False, ncols=4, columnspacing=1., handlelength=1.2, loc='lower center',
                    bbox_to_anchor=(0.5, 1.))
    data = io.BytesIO()
    figure.savefig(data, format='png')
    return data.getvalue()


def _layers(figures: dict[str, Any]) -> list[tuple[int, tuple[str, str]]]:
    """Give names and colours with what to draw them over: the first candidate lies on top."""
    named = list(colours(figures).items())
    return [(2 + len(named) - place, entry) for place, entry in enumerate(named)]


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _regions(figures: dict[str, Any]) -> bytes:
    figure, axes = _axes()
    names = colours(figures)
    regions = ('all', 'known', 'holes')
    width = 0.8 / len(names)
    for i, (name, colour) in enumerate(names.items()):
        values = [_number(figures['candidates'][name]['psnr'][region]) for region in regions]
        axes.bar(np.arange(3) + (i - (len(names) - 1) / 2) * width, values, 0.9 * width, label=name, color=colour)
    axes.set_xticks(np.arange(3), regions)
    return _png(figure, axes)


def _clips(figures: dict[str, Any]) -> bytes:
    figure, axes = _axes()
    for layer, (name, colour) in _layers(figures):
        values = [_number(value) for value in figures['candidates'][name]['psnr_of_clips']]
        axes.plot(values, 'o', label=name, color=colour, markersize=4, zorder=layer)
    axes.set_xticks(range(len(figures['clips'])), [str(i) for i in range(len(figures['clips']))])
    axes.set_xlabel('clip', fontsize=8)
    return _png(figure, axes)


def frames_of_all(figures: dict[str, Any], name: str) -> dict[int, float]:
    """Give a candidate's PSNR by frame up to the end of the shortest clip: behind it other clips are pooled."""
    shared = min(clip['frames'] for clip in figures['clips'])
    found = {int(frame): _number(value) for frame, value in figures['candidates'][name]['psnr_by_frame'].items()}
    return {frame: value for frame, value in found.items() if frame < shared}


def _frames(figures: dict[str, Any]) -> bytes:
    figure, axes = _axes()
    for layer, (name, colour) in _layers(figures):
        values = frames_of_all(figures, name)
        axes.plot(list(values), list(values.values()), label=name, color=colour, linewidth=1.2, zorder=layer)
    axes.set_xlabel('frame', fontsize=8)
    return _png(figure, axes)


def _drift(figures: dict[str, Any]) -> bytes:
    figure, axes = _axes()
    drift, known = figures['drift'], colours(figures)
    for name in (name for name in known if name in drift):
        values = [_number(value) for value in drift[name]['psnr_by_frame']]
        axes.plot(values, color=known[name], linewidth=0.4, alpha=0.5)
        middles = (np.arange(drift['laps']) + 0.5) * drift['lap_frames']
        axes.plot(middles, [_number(value) for value in drift[name]['laps']], 'o-', color=known[name], markersize=3,
                  linewidth=1.2, label=f'{name}, mean of a lap')
    axes.set_xlabel('frame', fontsize=8)
    return _png(figure, axes)
