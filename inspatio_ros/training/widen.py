# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Start from a video model without geometry channels: Wan2.1's weights, their input widened from 16 to 36 channels."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inspatio_ros.config import TransformerConfig
from inspatio_ros.errors import WeightsError
from inspatio_ros.star.autoencoder import TinyAutoencoder, cut_time_growth
from inspatio_ros.star.checkpoint import TensorFile, find_file, load_module
from inspatio_ros.star.pipeline import AUTOENCODER_FILES, TEXT_FILES
from inspatio_ros.star.text import load_embedding
from inspatio_ros.star.transformer import DiffusionTransformer
from inspatio_ros.training.networks import Networks

#: The one parameter that depends on the number of input channels; the official name.
INPUT_WEIGHT = 'patch_embedding.weight'
#: Wan2.1's transformer as it is published, and as this package writes it.
TRANSFORMER_FILES = ('transformer.safetensors', 'diffusion_pytorch_model.safetensors')

#: What weights of this package say of themselves, as far as those trained from them repeat it.
ORIGIN = ('commit', 'licence', 'data', 'real_data', 'seed', 'steps', 'started_from')


def widen(state: dict[str, Tensor], config: TransformerConfig) -> dict[str, Tensor]:
    """Widen the input of official weights to `config.in_dim` channels: the old ones kept, the new ones zero.

    The new channels (mask, render) come after the latent's own, so the widened network computes what the old one did
    until training tells it otherwise. Weights that are wide already are left as they are.
    """
    weight = state.get(INPUT_WEIGHT)
    if weight is None:
        raise WeightsError(f'the weights have no {INPUT_WEIGHT}; they are not those of this transformer')
    missing = config.in_dim - weight.shape[1]
    if missing == 0:
        return dict(state)
    if weight.shape[1] != config.out_dim:
        raise WeightsError(f'{INPUT_WEIGHT} takes {weight.shape[1]} channels; it can be widened from '
                           f'{config.out_dim} to {config.in_dim} only')
    new = torch.zeros(weight.shape[0], missing, *weight.shape[2:], dtype=weight.dtype, device=weight.device)
    return {**state, INPUT_WEIGHT: torch.cat([weight, new], dim=1)}


def start_from(networks: Networks, folder: Path) -> None:
    """Start a generator from a folder: the transformer's weights, widened, the autoencoder's, and the caption's.

    Raises WeightsError where a file is missing or does not fit.
    """
    config = networks.config
    load_widened(networks.transformer, find_file(folder, TRANSFORMER_FILES, 'transformer'))
    load_module(networks.autoencoder, find_file(folder, AUTOENCODER_FILES, 'autoencoder'), networks.device,
                amend=partial(_with_texture, autoencoder=networks.autoencoder))
    text = load_embedding(find_file(folder, TEXT_FILES, 'text embedding'), config.transformer.text_dim,
                          config.transformer.text_len)
    networks.text = networks.blocks.text_embedding = text.to(networks.device)
    networks.trained = True


def _with_texture(state: dict[str, Tensor], autoencoder: TinyAutoencoder) -> dict[str, Tensor]:
    """Amend an autoencoder's tensors: what gives texture, where they lack it, is as it is untrained."""
    own = {f'texture.{name}': value for name, value in autoencoder.texture.state_dict().items()
           } if autoencoder.texture is not None else {}
    return {**own, **cut_time_growth(state, autoencoder.config)}


def origin(folder: Path) -> dict[str, Any]:
    """Say where weights to start from come from: the folder's name, and what weights of this package say of themselves.

    Their metadata is JSON; foreign files say nothing that is understood.
    """
    metadata = TensorFile(find_file(folder, TRANSFORMER_FILES, 'transformer')).metadata
    said = {name: json.loads(metadata[name]) for name in ORIGIN if name in metadata}
    return {'folder': folder.resolve().name, **said}


def digest(folder: Path) -> str:
    """Give what tells weights to start from apart from others: twelve digits of a sum over both networks' files."""
    total = hashlib.sha256()
    for names, what in ((TRANSFORMER_FILES, 'transformer'), (AUTOENCODER_FILES, 'autoencoder')):
        with find_file(folder, names, what).open('rb') as file:
            total.update(hashlib.file_digest(file, 'sha256').digest())
    return total.hexdigest()[:12]


def load_widened(transformer: DiffusionTransformer, path: str | Path) -> None:
    """Load official weights (.safetensors or .pth) into a transformer, widened where they are narrow; strictly."""
    device = transformer.device
    load_module(transformer, path, device, amend=lambda state: widen(state, transformer.config))
