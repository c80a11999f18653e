# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What files of parameters say to a node, for whoever starts it and has to know before the node runs.

Nothing of ROS is imported: the launch file asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

_PARAMETERS = 'ros__parameters'


def given_in(files: Iterable[str | Path], node: str) -> dict[str, Any]:
    """Give the parameters, by their full names, that files have for a node such as /robot1/inspatio.

    The last one counts. As rclpy takes them: those of every node (`/**`) first, then over them those of this very one,
    wherever they stand. What is no file of parameters gives none; the node says what is wrong with it.
    """
    import yaml
    sections = []
    for file in files:
        try:
            sections += _sections(yaml.safe_load(Path(file).read_text(encoding='utf-8')))
        except (OSError, ValueError, yaml.YAMLError):
            continue
    return {name: value for wanted in ('/**', node) for section, values in sections if section == wanted
            for name, value in _flat(values)}


def _sections(plain: Any, name: str = '') -> Iterator[tuple[str, dict]]:
    """Give the name of each section, whose parts may be levels of their own, and what it holds."""
    for key, value in plain.items() if isinstance(plain, dict) else ():
        if key == _PARAMETERS and isinstance(value, dict):
            yield f'/{name.strip("/")}', value
        else:
            yield from _sections(value, f'{name}/{str(key).strip("/")}')


def _flat(values: dict, before: str = '') -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f'{before}{name}.')
        else:
            yield f'{before}{name}', value
