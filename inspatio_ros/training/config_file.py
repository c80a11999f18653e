# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Read a configuration file, which may say only where it differs from another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from inspatio_ros.errors import ConfigurationError

#: The key that names the other file, relative to the one it stands in.
BASE = 'base'


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a configuration file; what it says goes before what its `base` says, key by key, however deep.

    Raises:
        ConfigurationError: a file cannot be read, holds no settings, or a base has a base itself.

    """
    plain = _read_one(path)
    if BASE not in plain:
        return plain
    base = path.parent / str(plain.pop(BASE))
    below = _read_one(base)
    if BASE in below:
        raise ConfigurationError(f'{base} is the base of {path} and has a base itself; one is all that is read')
    return merged(below, plain)


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Lay settings over others; whatever is no group of settings in both of them replaces what was there."""
    # A heading whose lines are all comments is None, and says nothing.
    above = {key: value for key, value in above.items() if value is not None or not isinstance(below.get(key), dict)}
    both = [key for key, value in above.items() if isinstance(value, dict) and isinstance(below.get(key), dict)]
    return {**below, **above, **{key: merged(below[key], above[key]) for key in both}}


def _read_one(path: Path) -> dict[str, Any]:
    try:
        plain = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f'{path} cannot be read as YAML: {error}') from error
    if not isinstance(plain, dict):
        raise ConfigurationError(f'{path} holds no settings')
    return plain
