# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Weights as they are shipped: config.json, and transformer, autoencoder and text as safetensors."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from inspatio_ros.config import to_dict
from inspatio_ros.errors import WeightsError
from inspatio_ros.star.checkpoint import load_config, load_module, packaged_folder, save_config
from inspatio_ros.star.text import EMBEDDING_KEY
from inspatio_ros.training.checkpoint import save_tensors
from inspatio_ros.training.networks import Networks

LICENCE = 'Apache-2.0'
#: Largest file that a repository takes without extra tools.
LARGEST_BYTES = 16 * 2**20


def check_exportable(networks: Networks) -> None:
    """Raise a WeightsError, before anything is trained, where a network is too large to be shipped."""
    for name, module in networks.modules().items():
        size = sum(value.numel() * value.element_size() for value in module.state_dict().values())
        if size > LARGEST_BYTES:
            raise WeightsError(f'the {name} of {networks.config.name} would have {size} bytes, and what is trained '
                               f'from nothing has {LARGEST_BYTES} at most; name --weights to start from, or train a '
                               'smaller configuration')


def export(networks: Networks, folder: Path, about: dict[str, Any], limited: bool = True) -> None:
    """Write the weights of all networks to a folder, with the configuration and `about` in each file's metadata."""
    metadata = {'config': to_dict(networks.config), 'licence': LICENCE, 'commit': commit(), **about}
    for name, module in networks.modules().items():
        path = folder / f'{name}.safetensors'
        save_tensors(path, module.state_dict(), metadata)
        if limited and path.stat().st_size > LARGEST_BYTES:
            raise WeightsError(f'{path} is larger than {LARGEST_BYTES} bytes; train a smaller configuration')
    save_tensors(folder / 'text.safetensors', {EMBEDDING_KEY: networks.text}, metadata)
    save_config(folder, networks.config)


def load_networks(folder: Path | None = None, device: str = 'cpu') -> Networks:
    """Load weights for training or measuring; the shipped ones if no folder is named."""
    folder = folder or packaged_folder('nano')
    networks = Networks(load_config(folder), device)
    for name, module in networks.modules().items():
        load_module(module, folder / f'{name}.safetensors', device)
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
