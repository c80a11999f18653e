# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Frechet distance between two sets of pictures in the latent space of an autoencoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


class GaussianFit:
    """Mean and covariance of feature vectors that arrive in pieces; its size does not grow with their number."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: np.ndarray | float = 0.
        self._outer: np.ndarray | float = 0.

    def add(self, features: np.ndarray) -> None:
        """Take in features [N, D]."""
        features = np.asarray(features, dtype=np.float64)
        self._count += len(features)
        self._sum = self._sum + features.sum(axis=0)
        self._outer = self._outer + features.T @ features

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Give the mean [D] and the covariance [D, D]."""
        if self._count < 2:
            raise ValueError(f'a covariance takes at least 2 features, got {self._count}')
        mean = self._sum / self._count
        covariance = (self._outer - self._count * np.outer(mean, mean)) / (self._count - 1)
        return mean, covariance


def frechet_distance(a: GaussianFit, b: GaussianFit) -> float:
    """Squared Frechet distance of two Gaussians: |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)).

    (Dowson, Landau 1982.) The trace of the square root is taken through the symmetric C_a^(1/2) C_b C_a^(1/2), whose
    eigenvalues are those of C_a C_b but real, so that no imaginary part has to be thrown away.
    """
    mean_a, cov_a = a.moments()
    mean_b, cov_b = b.moments()
    values, vectors = np.linalg.eigh(cov_a)
    root_a = (vectors * np.sqrt(values.clip(min=0.))) @ vectors.T
    trace_root = np.sqrt(np.linalg.eigvalsh(root_a @ cov_b @ root_a).clip(min=0.)).sum()
    return float(np.sum((mean_a - mean_b) ** 2) + np.trace(cov_a) + np.trace(cov_b) - 2. * trace_root)


def latent_features(latent: Tensor) -> np.ndarray:
    """Turn latents [B, F, C, h, w] into features [B F (h/2) (w/2), 4 C]: one for each 2 x 2 cells, one token.

    A single cell knows a patch's colour and detail; four of them know whether the detail goes on across cells.
    """
    return squares(latent).flatten(0, 3).float().cpu().numpy()


def squares(latent: Tensor, side: int = 2) -> Tensor:
    """Cut latents [B, F, C, h, w] into squares of cells: [B, F, h / side, w / side, C side^2]; a rest is left out."""
    height, width = (size // side for size in latent.shape[-2:])
    cut = latent[..., :height * side, :width * side].unflatten(-1, (width, side)).unflatten(-3, (height, side))
    return cut.permute(0, 1, 3, 5, 2, 4, 6).flatten(4)
