# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How unlike true patches those are that a decoder makes up: the Frechet distance of their latents, as a loss.

Squared errors make pictures of what could be there on average, whose patches vary less than true ones. The cheapest
way back to the truth's variation, in squared error, is the optimal transport between the two distributions (Freirich,
Michaeli, Meir 2021); between Gaussians it is a linear map, and a sample's way along it is half the gradient of their
squared Frechet distance.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from inspatio_ros.evaluation.frechet import squares
from inspatio_ros.star.autoencoder import TinyAutoencoder
from inspatio_ros.training.data import integer

#: Patches are one token's; they are looked at on grids that begin so many pixels apart, since a grid does not see what
#: lies between two of its patches.
OFFSETS = (0, 4, 8, 12)
#: What is left of earlier batches' weight in the moments when a batch comes.
KEPT = 0.95
#: Batches from which patches' moments are known before the first step of a process.
FIRST_LOOK = 32
#: Keeps a direction in which patches hardly vary from being taken for important.
_LEAST_VARIANCE = 1e-3


class Moments:
    """Mean and covariance of vectors of the last batches; batches lose weight as they age."""

    def __init__(self) -> None:
        self._count: float = 0.
        self._sum: Tensor | float = 0.
        self._outer: Tensor | float = 0.

    def add(self, vectors: Tensor) -> None:
        """Take in vectors [N, D]."""
        vectors = vectors.detach().double()
        self._count = KEPT * self._count + len(vectors)
        self._sum = KEPT * self._sum + vectors.sum(dim=0)
        self._outer = KEPT * self._outer + vectors.T @ vectors

    def get(self) -> tuple[Tensor, Tensor]:
        """Give mean [D] and covariance [D, D], float64."""
        mean = self._sum / self._count
        covariance = self._outer / self._count - torch.outer(mean, mean)
        return mean, covariance + _LEAST_VARIANCE * torch.eye(len(mean)).to(mean)


def transport(vectors: Tensor, made: Moments, true: Moments) -> Tensor:
    """Take vectors [N, D] to where optimal transport between two Gaussians takes them.

    T(x) = m_true + A (x - m_made), A = C_made^(-1/2) (C_made^(1/2) C_true C_made^(1/2))^(1/2) C_made^(-1/2)
    (Olkin, Pukelsheim 1982).
    """
    (made_mean, made_covariance), (true_mean, true_covariance) = made.get(), true.get()
    root = _root(made_covariance)
    inverse = torch.linalg.inv(root)
    linear = inverse @ _root(root @ true_covariance @ root) @ inverse
    return ((vectors.double() - made_mean) @ linear.T + true_mean).to(vectors.dtype)


class PatchLikeness:
    """Pulls made-up patches along the transport from the decoder's patches to true ones.

    The moments are those of the last batches of this process; `started` sees some before the first step.
    """

    def __init__(self, autoencoder: TinyAutoencoder, token: int) -> None:
        self._autoencoder, self._token = autoencoder, token
        self._made, self._true = [Moments() for _ in OFFSETS], [Moments() for _ in OFFSETS]

    @classmethod
    @torch.no_grad()
    def started(cls, autoencoder: TinyAutoencoder, token: int, seed: int,
                windows: Callable[[torch.Generator], tuple[Tensor, Tensor, Tensor]]) -> PatchLikeness:
        """Make one that has seen FIRST_LOOK batches of `windows`: images, truth and masks, as `__call__` takes them."""
        made, generator = cls(autoencoder, token), torch.Generator().manual_seed(seed)
        for _ in range(FIRST_LOOK):
            made.measure(*windows(generator), generator)
        return made

    def measure(self, image: Tensor, truth: Tensor, mask: Tensor, generator: torch.Generator) -> None:
        """Take a batch into the moments."""
        index = integer(len(OFFSETS), generator)
        if len(image):
            self._look(image, truth, mask, index)

    def __call__(self, image: Tensor, truth: Tensor, mask: Tensor, generator: torch.Generator) -> Tensor:
        """Give the mean over all patches of the squared way that hole patches have to go.

        Args:
            image: decoded windows [B, T, 3, H, W] in [0, 1], with their gradient; T a first block's or longer.
            truth: the true ones.
            mask: [B, T, 1, H, W], 1 known and 0 hole; only hole pixels get a gradient.
            generator: draws where the grid of patches begins.

        """
        index = integer(len(OFFSETS), generator)
        if not len(image):
            return image.sum()
        patches, share = self._look(torch.where(mask > 0, image.detach(), image), truth, mask, index)
        with torch.no_grad():
            wanted = transport(patches, self._made[index], self._true[index])
        return share * (patches - wanted).square().mean() if len(patches) else image.sum() * 0.

    def _look(self, image: Tensor, truth: Tensor, mask: Tensor, index: int) -> tuple[Tensor, float]:
        """Take a batch into the moments; gives its hole patches [N, D], and which share of all patches they are."""
        start, token = OFFSETS[index], self._token
        rows, columns = (slice(start, start + (side - max(OFFSETS)) // token * token) for side in image.shape[-2:])
        holes = self._hole_tokens(mask[..., rows, columns])
        patches = self._patches(image[..., rows, columns])[holes]
        with torch.no_grad():
            true = self._patches(truth[..., rows, columns])[holes]
        self._made[index].add(patches)
        self._true[index].add(true)
        return patches, float(holes.float().mean())

    def _patches(self, image: Tensor) -> Tensor:
        """Give the latents [B, F, h, w, D] of patches of a token's size, as they are judged."""
        side = self._token // self._autoencoder.config.spatial_factor
        return squares(self._autoencoder.encode(image), side).float()

    def _hole_tokens(self, mask: Tensor) -> Tensor:
        """Say of which patches [B, F, h, w] some pixel is a hole."""
        factor, token = self._autoencoder.config.temporal_factor, self._token
        holes = torch.nn.functional.max_pool2d(1 - mask.float().flatten(0, 1), token)[:, 0]
        holes = holes.unflatten(0, mask.shape[:2])
        later = holes[:, 1:].unflatten(1, (-1, factor)).amax(dim=2)
        return torch.cat([holes[:, :1], later], dim=1) > 0


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T
