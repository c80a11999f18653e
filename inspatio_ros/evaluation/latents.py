# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The latent space in which distributions of pictures are compared: nano's tiny autoencoder, for every generator."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from inspatio_ros.evaluation.frechet import latent_features
from inspatio_ros.star.autoencoder import TinyAutoencoder
from inspatio_ros.star.checkpoint import find_file, load_config, load_module, packaged_folder
from inspatio_ros.star.pipeline import AUTOENCODER_FILES

if TYPE_CHECKING:
    from torch import Tensor

#: Whose autoencoder it is.
NAME = 'nano'


def open_autoencoder(folder: str | Path | None = None, device: str = 'cpu') -> TinyAutoencoder | None:
    """Load the autoencoder of a folder of weights, by default that of the packaged nano; None where none is packaged.

    Raises WeightsError where the folder that is named holds none.
    """
    if folder is None:
        if not packaged_folder(NAME).is_dir():
            return None
        folder = packaged_folder(NAME)
    config = load_config(Path(folder)).autoencoder
    with torch.device('meta'):
        autoencoder = TinyAutoencoder(config)
    load_module(autoencoder, find_file(Path(folder), AUTOENCODER_FILES, 'autoencoder'), device)
    return autoencoder.eval().requires_grad_(False)


def latent_space(autoencoder: TinyAutoencoder) -> str:
    """Name the space by what its encoder weighs: distances in different ones cannot be compared."""
    found = hashlib.sha256()
    for part in autoencoder.encoding_parts():
        for value in part.state_dict().values():
            found.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return f'{NAME} autoencoder {found.hexdigest()[:8]}'


@torch.inference_mode()
def clip_features(autoencoder: TinyAutoencoder, images: np.ndarray) -> np.ndarray:
    """Give the features [N, D] of a clip uint8 [F, H, W, 3]: see frechet.latent_features."""
    device = next(autoencoder.parameters()).device
    clip = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2).float().div_(255.)
    return latent_features(autoencoder.encode(whole_cells(clip, autoencoder)[None]))


def whole_cells(clip: Tensor, autoencoder: TinyAutoencoder) -> Tensor:
    """Cut images [F, 3, H, W] to whole latent cells."""
    cell = autoencoder.config.spatial_factor
    return clip[..., :clip.shape[-2] // cell * cell, :clip.shape[-1] // cell * cell]
