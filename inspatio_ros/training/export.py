# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Weights as they are shipped: config.json, and transformer, autoencoder and text as safetensors."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from inspatio_ros.config import GeneratorConfig, from_dict, to_dict
from inspatio_ros.errors import WeightsError
from inspatio_ros.training.checkpoint import load_tensors, save_tensors
from inspatio_ros.training.networks import Networks

SHIPPED = Path(__file__).parents[1] / 'weights' / 'nano'
LICENCE = 'Apache-2.0'
#: Largest file that a repository takes without extra tools.
LARGEST_BYTES = 16 * 2**20


def export(networks: Networks, folder: Path, about: dict[str, Any]) -> None:
    """Write the weights of all networks to a folder, with the configuration and `about` in each file's metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    config = to_dict(networks.config)
    metadata = {'config': config, 'licence': LICENCE, 'commit': commit(), **about}
    for name, module in networks.modules().items():
        path = folder / f'{name}.safetensors'
        save_tensors(path, module.state_dict(), metadata)
        if path.stat().st_size > LARGEST_BYTES:
            raise WeightsError(f'{path} is larger than {LARGEST_BYTES} bytes; train a smaller configuration')
    save_tensors(folder / 'text.safetensors', {'embedding': networks.text}, metadata)
    beside = folder / '.config.json.partial'
    beside.write_text(json.dumps(config, indent=2) + '\n')
    os.replace(beside, folder / 'config.json')


def load_networks(folder: Path | None = None) -> Networks:
    """Load weights for training or measuring; the shipped ones if no folder is named."""
    folder = folder or SHIPPED
    path = folder / 'config.json'
    if not path.is_file():
        raise WeightsError(f'{folder} holds no config.json; name a folder of exported weights')
    networks = Networks(from_dict(GeneratorConfig, json.loads(path.read_text())))
    for name, module in networks.modules().items():
        tensors, _ = load_tensors(folder / f'{name}.safetensors')
        try:
            module.load_state_dict(tensors, strict=True)
        except RuntimeError as error:
            raise WeightsError(f'{folder / name}.safetensors does not fit {path}: {error}') from error
        module.eval()
    return networks


def commit() -> str:
    """Name the commit that the weights were trained with, 'unknown' outside a checkout."""
    try:
        found = subprocess.run(['git', 'describe', '--always', '--dirty', '--exclude', '*'], cwd=Path(__file__).parent,
                               capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'
    return found.stdout.strip()
