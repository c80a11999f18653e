# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures for people: contact sheets of labelled rows, and PNG files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inspatio_ros.errors import ConfigurationError

_PAPER, _INK, _FAINT = (255, 255, 255), (24, 24, 24), (225, 225, 225)
_GAP, _LABEL = 4, 22


@dataclass(frozen=True)
class Row:
    """One line of a contact sheet: its label, and one image a column (None where there is none to show)."""

    label: str
    images: Sequence[np.ndarray | None]


def write_png(path: str | Path, image: np.ndarray) -> None:
    """Write uint8 RGB [H, W, 3], uint8 [H, W] or uint16 [H, W] as PNG, beside its place and renamed when whole."""
    import cv2
    path = Path(path)
    done, data = cv2.imencode('.png', image[..., ::-1] if image.ndim == 3 else image)
    if not done:
        raise ConfigurationError(f'cannot write {path}: an image of {image.dtype} {image.shape} makes no PNG')
    write_bytes(path, data.tobytes())


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file beside its place and rename it when whole."""
    path = Path(path)
    partial = path.with_name(f'.{path.name}.partial')
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        raise ConfigurationError(f'cannot write {path}: {error.strerror or error}') from error
    finally:
        # Where nothing could be written, nothing is there to be taken away.
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def contact_sheet(columns: Sequence[str], rows: Sequence[Row], cell_width: int = 256) -> np.ndarray:
    """Lay out labelled images in rows and columns.

    Args:
        columns: a title for each column.
        rows: images uint8 RGB [H, W, 3] or grey [H, W], of any size; all get the shape of the first row's last one,
            cut about their middle where theirs is another.
        cell_width: width of every image on the sheet, pixels.

    Returns:
        The sheet, uint8 RGB [H, W, 3].

    """
    shown = [image for row in rows[:1] for image in row.images if image is not None]
    if not shown:
        raise ConfigurationError('a contact sheet needs at least one image')
    cell_height = round(shown[-1].shape[0] * cell_width / shown[-1].shape[1])
    lines = [np.concatenate([_text(title, cell_width) for title in columns], axis=1)]
    for row in rows:
        cells = [_cell(image, cell_width, cell_height) for image in row.images]
        lines += [np.concatenate(cells, axis=1), _text(row.label, cells[0].shape[1] * len(cells) - _GAP)]
    return np.concatenate(lines, axis=0)


def _cell(image: np.ndarray | None, width: int, height: int) -> np.ndarray:
    import cv2
    if image is None:
        shown = np.full((height, width, 3), _FAINT, np.uint8)
    else:
        shown = _cut(np.repeat(image[..., None], 3, axis=-1) if image.ndim == 2 else image, width / height)
        # Enlarging shows the pixels as they are; shrinking averages them.
        method = cv2.INTER_NEAREST if width >= shown.shape[1] else cv2.INTER_AREA
        shown = cv2.resize(shown, (width, height), interpolation=method)
    return np.pad(shown, ((0, 0), (0, _GAP), (0, 0)), constant_values=_PAPER[0])


def _cut(image: np.ndarray, aspect: float) -> np.ndarray:
    """Cut an image about its middle to a ratio of width to height."""
    height, width = image.shape[:2]
    new_width, new_height = min(width, round(height * aspect)), min(height, round(width / aspect))
    left, top = (width - new_width) // 2, (height - new_height) // 2
    return image[top:top + new_height, left:left + new_width]


def _text(text: str, width: int) -> np.ndarray:
    import cv2
    strip = np.full((_LABEL, width + _GAP, 3), _PAPER, np.uint8)
    return cv2.putText(strip, text, (2, _LABEL - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.42, _INK, 1, cv2.LINE_AA)
