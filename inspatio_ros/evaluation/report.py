# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A run's figures for people and for programs: a table, metrics.json, and one page with plots and pictures."""

from __future__ import annotations

import base64
import json
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from inspatio_ros.evaluation.pictures import Row, contact_sheet, write_bytes
from inspatio_ros.evaluation.plots import plots
from inspatio_ros.evaluation.protocol import Result
from inspatio_ros.evaluation.suites import ANOTHER_FRAME, BLOCK_BEFORE, SIZE
from inspatio_ros.evaluation.targets import Target, targets

OUTPUTS = ('metrics.json', 'report.html')
#: Width of a picture on the page's sheet, pixels.
_CELL = 192
_NOTHING = '–'

#: Columns of the table: heading, where the figure lies, digits.
_COLUMNS = (
    ('PSNR all', ('psnr', 'all'), 2), ('PSNR known', ('psnr', 'known'), 2), ('PSNR holes', ('psnr', 'holes'), 2),
    ('PSNR gain fit', ('psnr_after_gain_fit', 'all'), 2),
    ('PSNR other frame', ('psnr_of_answers', ANOTHER_FRAME), 2),
    ('PSNR block before', ('psnr_of_answers', BLOCK_BEFORE), 2),
    ('revisit all', ('revisit', 'all', 'psnr'), 2), ('revisit holes', ('revisit', 'holes', 'psnr'), 2),
    ('SSIM all', ('ssim', 'all'), 3), ('SSIM known', ('ssim', 'known'), 3), ('SSIM holes', ('ssim', 'holes'), 3),
    ('sharp', ('gradient_energy_in_holes',), 2), ('Frechet', ('frechet_distance',), 3),
    ('warp all', ('warp_error', 'all'), 2), ('warp holes', ('warp_error', 'holes'), 2),
    ('rot °', ('camera', 'rotation_degrees'), 3), ('trans cm', ('camera', 'translation_cm'), 2),
    ('trans %', ('camera', 'translation_percent_of_depth'), 2), ('failed', ('camera', 'failures'), 0),
)

_MEANINGS = (
    'PSNR in dB: <b>all</b> is the mean over clips of a clip’s PSNR over all its pixels; <b>known</b> and <b>holes</b> '
    'are pooled over all clips. Holes are pixels that the recording, as rendered, says nothing about.',
    '<b>sharp</b>: gradient energy in holes as a share of the truth’s. <b>Frechet</b>: squared distance of the '
    'Gaussians of latents. <b>warp</b>: root mean square difference (0 to 255) to the next frame, warped back by true '
    'depth; the truth’s own is in the last row.',
    '<b>rot</b>, <b>trans</b>: median error of the camera that the picture shows, in degrees, centimetres and % of the '
    'scene’s depth; <b>failed</b>: pictures in which no camera was found.',
    '<b>other frame</b>, <b>block before</b>: PSNR in holes whose content the cache was given. <b>revisit</b>: PSNR '
    'between two pictures from one pose, before and after leaving, over all pixels and over holes; <b>equal</b>: no '
    'pixel differs.',
    '<b>gain fit</b>: after each channel was multiplied by the factor that brings it closest to the truth, as cameras '
    'change exposure. <b>SSIM</b>: structural similarity, 1 for the truth.',
)

_STYLE = """
body{font:13px/1.45 system-ui,sans-serif;color:#1a1a1a;max-width:1180px;margin:1.5em auto;padding:0 1em}
h1{font-size:1.5em;margin:0}h2{font-size:1.1em;margin:1.3em 0 .4em}p{margin:.3em 0}.facts{color:#555}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.2em .5em;text-align:right;border-bottom:1px solid #ddd}td{white-space:nowrap}th{vertical-align:bottom}
th:first-child,td:first-child{text-align:left}tr.ours{background:#e8f1fa;font-weight:600}
.holds{color:#00694a}.misses{color:#a33a00;font-weight:600}.open{color:#555}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(25em,1fr));gap:.6em}figure{margin:0}
figcaption{color:#555;font-size:.92em}img{max-width:100%}.notes{color:#555;font-size:.92em}
@media print{@page{size:A4;margin:10mm}body{font-size:9px;margin:0;max-width:none;padding:0}
h2{margin:.7em 0 .2em}th,td{padding:.1em .28em}figure,tr{break-inside:avoid}
table{width:100%}.plots{grid-template-columns:repeat(4,1fr)}.sheets img{max-height:112mm}
.sheets figure+figure img{max-height:20mm}h1{font-size:1.2em}
tr.ours{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""


def write_report(result: Result, folder: Path) -> list[Target]:
    """Write metrics.json and report.html into a folder; gives the targets that the figures were held against."""
    found = targets(result.figures)
    figures = {**result.figures, 'targets': [target.as_json() for target in found]}
    write_bytes(folder / 'metrics.json', (json.dumps(figures, indent=1, ensure_ascii=False) + '\n').encode())
    write_bytes(folder / 'report.html', page(result, found).encode())
    return found


def cells(figures: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Give the table of a run: headings, and a row for each candidate; columns that nobody has are left out."""
    candidates = figures['candidates']
    columns = [column for column in _COLUMNS if any(_look(c, column[1]) is not None for c in candidates.values())]
    rows = [[name, *(_cell(candidate, *column[1:]) for column in columns)] for name, candidate in candidates.items()]
    return ['', *(heading for heading, _, _ in columns)], rows


def _look(candidate: dict[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = candidate
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _cell(candidate: dict[str, Any], path: tuple[str, ...], digits: int) -> str:
    value = _look(candidate, path)
    if value is None:
        return 'equal' if _look(candidate, (*path[:-1], 'identical')) else _NOTHING
    return f'{value:.{digits}f}'


def table(figures: dict[str, Any], found: list[Target]) -> str:
    """Lay out a run for the terminal: a line for each figure, a column for each candidate."""
    headings, rows = cells(figures)
    columns = [headings, *rows]
    widths = [max(len(cell) for cell in column) for column in columns]
    lines = [headline(figures)]
    for line in zip(*columns, strict=True):
        lines.append('  '.join([line[0].ljust(widths[0]),
                                *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]))
    if 'drift' in figures:
        lines.append(drift_line(figures))
    lines += [f'{_verdict(target):12} {target.what}: {_value(target)} (must be {target.bounds})' for target in found]
    return '\n'.join([*lines, *notes(figures)])


def headline(figures: dict[str, Any]) -> str:
    """Say what was measured on what."""
    clips = figures['clips']
    return (f'{figures["suite"]}: {figures["generator"]}, {len(clips)} clips, '
            f'{sum(clip["judged"] for clip in clips)} frames of {figures["width"]}x{figures["height"]}, '
            f'{100 * figures["holes"]:.1f} % holes')


def drift_line(figures: dict[str, Any]) -> str:
    """Say how the first frames of the long loop compare with the last."""
    drift = figures['drift']
    parts = [f'{name} {values["first"]:.2f} dB, then {values["last"]:.2f} dB ({values["change"]:+.2f})'
             for name, values in drift.items() if isinstance(values, dict)]
    return f'First and last {drift["compared"]} of {drift["frames"]} frames round and round: ' + '; '.join(parts)


def notes(figures: dict[str, Any]) -> list[str]:
    """Say what was not measured, and why."""
    said = []
    size, meant = (figures['width'], figures['height']), figures.get('clips_meant')
    if meant and figures['generator'] != 'render' and (size != SIZE or meant != len(figures['clips'])):
        said.append(f'The targets are meant for {meant} clips of {SIZE[0]}x{SIZE[1]}: these figures do not compare.')
    if figures['frechet_space'] is None:
        said.append("The Frechet distance was not measured: nano's autoencoder is not packaged; name a folder of nano "
                    'weights with --features.')
    elif all(candidate['frechet_distance'] is None for candidate in figures['candidates'].values()):
        said.append('The Frechet distance was not measured: too few frames for a covariance.')
    return said


_CLASSES = {True: 'holds', False: 'misses', None: 'open'}


def _verdict(target: Target) -> str:
    return {True: 'holds', False: 'MISSED', None: 'not measured'}[target.holds]


def _value(target: Target) -> str:
    return _NOTHING if target.value is None else f'{target.value:.4g}'


def page(result: Result, found: list[Target]) -> str:
    """Give the page: one HTML file with everything inside."""
    figures = result.figures
    machine = figures['machine']
    parts = [f'<h1>{escape(figures["suite"])}: {escape(figures["generator"])}</h1>',
             f'<p class="facts">{escape(figures["about"])}. {escape(headline(figures).partition(": ")[2])}; '
             f'seed {figures["seed"]}, suite {figures["fingerprint"]}. {figures["seconds"]:.0f} s on '
             f'{escape(str(machine["gpu"] or machine["cpu"]))}, {machine["cores"]} cores.</p>',
             '<h2>Figures</h2>', _html_table(figures)]
    if 'drift' in figures:
        parts.append(f'<p>{escape(drift_line(figures))}.</p>')
    parts += [f'<p class="misses">{escape(note)}</p>' for note in notes(figures)]
    if found:
        parts += ['<h2>What it must show</h2>', _html_targets(found)]
    parts += ['<h2>Plots</h2>', '<div class="plots">',
              *(_figure(caption, png) for caption, png in plots(figures).items()), '</div>',
              '<h2>Pictures</h2>', '<div class="sheets">',
              *(_figure('Frames of clips, as the columns say', png) for png in sheets(result.pictures)), '</div>',
              '<div class="notes">', *(f'<p>{meaning}</p>' for meaning in _MEANINGS), '</div>']
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width,initial-scale=1">'
            f'<title>{escape(headline(figures))}</title><style>{_STYLE}</style></head><body>\n'
            + '\n'.join(parts) + '\n</body></html>\n')


def _html_table(figures: dict[str, Any]) -> str:
    headings, rows = cells(figures)
    head = ''.join(f'<th>{escape(heading)}</th>' for heading in headings)
    body = ''.join(f'<tr{" class=ours" if row[0] == figures["generator"] else ""}>'
                   + ''.join(f'<td>{escape(cell)}</td>' for cell in row) + '</tr>' for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _html_targets(found: list[Target]) -> str:
    rows = ''.join(f'<tr><td>{escape(target.what)}</td><td>{escape(_value(target))}</td>'
                   f'<td>{escape(target.bounds)}</td><td class="{_CLASSES[target.holds]}">'
                   f'{_verdict(target)}</td></tr>' for target in found)
    return f'<table><thead><tr><th></th><th>is</th><th>must be</th><th></th></tr></thead><tbody>{rows}</tbody></table>'


def _figure(caption: str, png: bytes) -> str:
    image = f'<img alt="{escape(caption)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
    return f'<figure>{image}' + (f'<figcaption>{escape(caption)}</figcaption>' if caption else '') + '</figure>'


def sheets(pictures: list[tuple[str, dict[str, np.ndarray]]]) -> list[bytes]:
    """Lay the pictures out: one sheet for rows that show the same things."""
    import cv2
    groups: dict[tuple[str, ...], list[Row]] = {}
    for label, images in pictures:
        groups.setdefault(tuple(images), []).append(Row(label, list(images.values())))
    made = [contact_sheet(columns, rows, _CELL) for columns, rows in groups.items()]
    return [cv2.imencode('.png', sheet[..., ::-1])[1].tobytes() for sheet in made]
