# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Where the content of tokens lies in another camera: positions by which attention finds what it remembers.

A token stands for a square of pixels. Its depth says where a camera elsewhere would see it, in tokens: rows and columns
that are no whole numbers, and that may lie outside the picture. A token of which no depth is known takes that of its
neighbours; where nothing is known, it is infinitely far away, and the turn of the camera alone moves it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

#: Width, in tokens, of the neighbourhood that a token without depth takes it from; the floor lets all others help.
_REACH, _FLOOR = 1.5, 1e-6
#: Least depth that a point is projected with, as a share of the depth it was seen at: what is behind a camera lies far
#: outside of its picture, on the side that it is on.
_NEAREST = 0.05


@dataclass(frozen=True)
class TokenViews:
    """N views of a batch, at the resolution of tokens.

    `T_world_camera` float64 [B, N, 4, 4]; `inverse_depth` float32 [B, N, rows, cols] along z, one over the reference's
    unit, 0 infinitely far away.
    """

    T_world_camera: Tensor
    inverse_depth: Tensor

    def __getitem__(self, index: slice | list[int] | Tensor) -> TokenViews:
        """Take some of the views."""
        return TokenViews(self.T_world_camera[:, index], self.inverse_depth[:, index])

    def sample(self, index: int) -> TokenViews:
        """Take one sample of the batch, as a batch of one."""
        return TokenViews(self.T_world_camera[index:index + 1], self.inverse_depth[index:index + 1])

    def to(self, device: torch.device | str) -> TokenViews:
        """Move both to a device."""
        return TokenViews(self.T_world_camera.to(device), self.inverse_depth.to(device))


@dataclass(frozen=True)
class BlockViews:
    """What a block is seen from: its own frames and its reference's, which share their intrinsics K float64 [B, 3, 3].

    `block` has a view a frame; `reference` one a still, or one a frame where the reference is aligned in time.
    """

    K: Tensor
    block: TokenViews
    reference: TokenViews

    def to(self, device: torch.device | str) -> BlockViews:
        """Move all of it to a device."""
        return BlockViews(self.K.to(device), self.block.to(device), self.reference.to(device))

    def without_depth(self) -> BlockViews:
        """Give the same where the block's own geometry is not known, but where its cameras are."""
        return replace(self, block=replace(self.block, inverse_depth=torch.zeros_like(self.block.inverse_depth)))


@dataclass(frozen=True)
class BlockPositions:
    """Rows and columns float32 [B, F, rows, cols, 2], in tokens, in the block's own camera, for F latent frames each.

    `previous` is None for the first block.
    """

    reference: Tensor
    previous: Tensor | None
    block: Tensor

    def twice(self) -> BlockPositions:
        """Give those of the same clips twice, one batch behind the other."""
        return BlockPositions(*(None if part is None else torch.cat([part, part])
                                for part in (self.reference, self.previous, self.block)))


def token_inverse_depth(z_depth: Tensor, token: int) -> Tensor:
    """Give float32 [..., H / token, W / token], the mean inverse depth of each token, of z_depth [..., H, W].

    Depth that is NaN, infinite or not above 0 is unknown.
    """
    known = (z_depth > 0) & torch.isfinite(z_depth)
    inverse = torch.where(known, 1 / torch.where(known, z_depth, 1.), 0.)
    count, total = (_cells(part.float(), token).sum(dim=(-3, -1)) for part in (known, inverse))
    return _from_neighbours(total / count.clamp_min(1.), count > 0)


def _cells(image: Tensor, token: int) -> Tensor:
    return image.unflatten(-1, (-1, token)).unflatten(-3, (-1, token))


def _from_neighbours(inverse: Tensor, known: Tensor) -> Tensor:
    """Give tokens [..., rows, cols] that are not known the mean of those that are, weighted by nearness."""
    rows, cols = inverse.shape[-2:]
    y, x = (torch.arange(n, device=inverse.device, dtype=torch.float32) for n in (rows, cols))
    place = torch.stack(torch.meshgrid(y, x, indexing='ij'), dim=-1).flatten(0, 1)
    weight = torch.exp(-torch.cdist(place, place).square() / (2 * _REACH**2)) + _FLOOR
    flat, sure = inverse.flatten(-2), known.flatten(-2).float()
    mean = (flat * sure) @ weight / (sure @ weight).clamp_min(_FLOOR**2)
    return torch.where(known, inverse, mean.unflatten(-1, (rows, cols)))


def reproject(views: TokenViews, K: Tensor, T_world_anchor: Tensor, token: int) -> Tensor:
    """Give where another camera sees the tokens of views: float32 [B, N, rows, cols, 2], rows and columns in tokens.

    Args:
        views: N views.
        K: float64 [B, 3, 3], of all cameras.
        T_world_anchor: float64 [B, 4, 4], the other camera.
        token: pixels along each side of a token.

    Positions are bounded to one picture's size around the picture.

    """
    rows, cols = views.inverse_depth.shape[-2:]
    device = views.inverse_depth.device
    v, u = (torch.arange(n, device=device, dtype=torch.float64) * token + (token - 1) / 2 for n in (rows, cols))
    pixels = torch.stack([u.expand(rows, -1), v[:, None].expand(-1, cols), torch.ones(rows, cols).to(u)], dim=-1)
    rays = torch.einsum('bij,rcj->birc', torch.linalg.inv(K), pixels)
    T = torch.linalg.inv(T_world_anchor)[:, None] @ views.T_world_camera
    # A point, divided by the depth it was seen at: finite at infinity too.
    point = torch.einsum('bnij,bjrc->bnirc', T[..., :3, :3], rays)
    point = point + T[..., :3, 3, None, None] * views.inverse_depth.to(point)[:, :, None]
    seen = torch.einsum('bij,bnjrc->bnirc', K, torch.cat([point[:, :, :2], point[:, :, 2:].clamp_min(_NEAREST)], dim=2))
    x, y = (seen[:, :, i] / seen[:, :, 2] for i in (0, 1))
    found = torch.stack([(y + 0.5) / token - 0.5, (x + 0.5) / token - 0.5], dim=-1)
    size = torch.tensor([rows, cols], device=device, dtype=found.dtype)
    return torch.minimum(torch.maximum(found, -size), 2 * size).float()


def middle_frames(latents: int, factor: int, first: bool) -> list[int]:
    """Give for each of a block's latent frames the middle one of the frames it stands for (1 + F + F ... at first)."""
    lengths = [1 if first and i == 0 else factor for i in range(latents)]
    return [sum(lengths[:i]) + length // 2 for i, length in enumerate(lengths)]


def latent_views(views: BlockViews, latents: int, factor: int, first: bool) -> BlockViews:
    """Keep one view a latent frame of the block and of its reference (stills have one each as they are)."""
    middles = middle_frames(latents, factor, first)
    aligned = views.reference.inverse_depth.shape[1] != latents
    return BlockViews(views.K, views.block[middles], views.reference[middles] if aligned else views.reference)


def block_positions(views: BlockViews, previous: TokenViews | None, token: int) -> BlockPositions:
    """Place everything that a block attends to in one camera, that of its middle latent frame.

    `views` as latent_views gives them; `previous`: those of the block before.
    """
    anchor = views.block.T_world_camera[:, views.block.inverse_depth.shape[1] // 2]

    def place(part: TokenViews) -> Tensor:
        return reproject(part, views.K, anchor, token)

    return BlockPositions(place(views.reference), None if previous is None else place(previous), place(views.block))
