# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The diffusion transformer of every size, with the parameter names of the released weights.

One pass over the network takes latents [B, F, C, H, W] and three sets of constants that the caller makes once:

1. `text_constants`: keys and values of the caption in every cross-attention, constant for a run;
2. `modulation`: shifts, scales and gates of every layer, constant for a timestep;
3. `rotary`: the rotary tables, constant for a position of the frames in time.

`context_pass` fills the cache and ends after the last layer's keys and values; `forward` is a denoising pass.
Equations: Wan 2.1's transformer with the cache of InSpatio-World (arXiv 2604.07209).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inspatio_ros.config import TransformerConfig
from inspatio_ros.star.attention import Attend, attend
from inspatio_ros.star.cache import Cache
from inspatio_ros.star.float8 import linear_rows


class TextConstants(NamedTuple):
    """Keys and values of the caption, one [B, text_len, heads, head_dim] a layer."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


class Modulation(NamedTuple):
    """What a timestep does: [B, 6, dim] for every layer (shift, scale, gate; twice) and [B, 2, dim] for the head."""

    blocks: tuple[Tensor, ...]
    head: Tensor


class Rotary(NamedTuple):
    """Cosines and sines [1 or B, tokens, 1, head_dim / 2] of the rotary position embedding."""

    cos: Tensor
    sin: Tensor


def sinusoidal_embedding(timestep: Tensor, dim: int) -> Tensor:
    """Embed timesteps [N] as float64 [N, dim]: cosines, then sines, of t * 10000^(-i / (dim / 2))."""
    half = dim // 2
    exponent = torch.arange(half, dtype=torch.float64, device=timestep.device) / half
    angle = timestep.to(torch.float64)[:, None] * torch.pow(10000., -exponent)
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def rotary_angles(positions: Tensor, dim: int, base: float) -> Tensor:
    """Give the angles float64 [N, dim / 2] of positions [N] along one axis that owns `dim` channels of a head."""
    exponent = torch.arange(0, dim, 2, dtype=torch.float64, device=positions.device) / dim
    return positions.to(torch.float64)[:, None] * torch.pow(base, -exponent)


def axis_dims(head_dim: int) -> tuple[int, int, int]:
    """Split a head's channels among time, height and width; time gets what does not divide by six."""
    spatial = 2 * (head_dim // 6)
    return head_dim - 2 * spatial, spatial, spatial


def rotate(x: Tensor, rotary: Rotary) -> Tensor:
    """Turn neighbouring channel pairs of x [B, tokens, heads, head_dim] by the tables' angles."""
    a, b = x.to(rotary.cos.dtype).unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([a * rotary.cos - b * rotary.sin, a * rotary.sin + b * rotary.cos], dim=-1)
    return turned.flatten(-2).to(x.dtype)


class RMSNorm(nn.Module):
    """Root-mean-square norm over the full width, all heads together, with a learned weight."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [..., dim]."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Attention(nn.Module):
    """The projections that self- and cross-attention share."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        dim = config.dim
        self.num_heads = config.num_heads
        self.attend: Attend = attend
        self.rotate = rotate
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.o = nn.Linear(dim, dim)
        self.norm_q = RMSNorm(dim, config.eps) if config.qk_norm else nn.Identity()
        self.norm_k = RMSNorm(dim, config.eps) if config.qk_norm else nn.Identity()

    def heads(self, x: Tensor) -> Tensor:
        """Split the width: [B, T, dim] -> [B, T, heads, head_dim]."""
        return x.unflatten(-1, (self.num_heads, -1))


class SelfAttention(Attention):
    """Attention over the cache followed by the pass's own tokens, or over the own tokens alone."""

    def fuse(self) -> None:
        """Merge the three projections into one matrix; the parameter names change, so load weights before."""
        if not hasattr(self, 'q'):
            return
        qkv = nn.Linear(self.q.in_features, 3 * self.q.out_features, device='meta')
        qkv.weight = nn.Parameter(torch.cat([m.weight.detach() for m in (self.q, self.k, self.v)]))
        qkv.bias = nn.Parameter(torch.cat([m.bias.detach() for m in (self.q, self.k, self.v)]))
        self.qkv = qkv.requires_grad_(self.q.weight.requires_grad)
        del self.q, self.k, self.v

    def project(self, x: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor, Tensor]:
        """Give queries, keys and values [B, T, heads, head_dim] of x [B, T, dim], normed and turned."""
        q, k, v = self.qkv(x).chunk(3, dim=-1) if hasattr(self, 'qkv') else (self.q(x), self.k(x), self.v(x))
        return (self.rotate(self.heads(self.norm_q(q)), rotary), self.rotate(self.heads(self.norm_k(k)), rotary),
                self.heads(v))

    def project_keys(self, x: Tensor, rotary: Rotary) -> tuple[Tensor, Tensor]:
        """Give keys and values alone: where the context pass ends."""
        if hasattr(self, 'qkv'):
            k, v = linear_rows(self.qkv, x, self.qkv.in_features).chunk(2, dim=-1)
        else:
            k, v = self.k(x), self.v(x)
        return self.rotate(self.heads(self.norm_k(k)), rotary), self.heads(v)

    def forward(self, x: Tensor, rotary: Rotary, cache: Cache | None, layer: int, write: bool) -> Tensor:
        """Attend from x [B, T, dim]; `write` replaces the cache by this pass's keys and values, else they follow it."""
        q, k, v = self.project(x, rotary)
        if cache is not None:
            k, v = cache.write(layer, k, v) if write else cache.read(layer, k, v)
        return self.o(self.attend(q, k, v))


class CrossAttention(Attention):
    """Attention over the caption, whose keys and values are constants of a run. Padding is attended to, unmasked."""

    def constants(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Give keys and values [B, text_len, heads, head_dim] of the embedded caption [B, text_len, dim]."""
        return self.heads(self.norm_k(self.k(text))), self.heads(self.v(text))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Attend from x [B, T, dim] to the caption."""
        return self.o(self.attend(self.heads(self.norm_q(self.q(x))), keys, values))


class Block(nn.Module):
    """Self-attention, cross-attention and feed-forward, each added to its input."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        dim = config.dim
        self.eps = config.eps
        self.self_attn = SelfAttention(config)
        self.norm3 = nn.LayerNorm(dim, config.eps) if config.cross_attn_norm else nn.Identity()
        self.cross_attn = CrossAttention(config)
        self.ffn = nn.Sequential(nn.Linear(dim, config.ffn_dim), nn.GELU(approximate='tanh'),
                                 nn.Linear(config.ffn_dim, dim))
        self.modulation = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)

    def norm(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        """Layer norm without weights, then scale and shift [B, 1, dim]."""
        return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=self.eps), 1 + scale)

    def forward(self, x: Tensor, modulation: Tensor, rotary: Rotary, text_keys: Tensor, text_values: Tensor,
                cache: Cache | None, layer: int, write: bool) -> Tensor:
        """Run one layer on x [B, T, dim] with its modulation [B, 6, dim]."""
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.split(1, dim=1)
        x = torch.addcmul(x, gate1, self.self_attn(self.norm(x, shift1, scale1), rotary, cache, layer, write))
        x = x + self.cross_attn(self.norm3(x), text_keys, text_values)
        return torch.addcmul(x, gate2, self.ffn(self.norm(x, shift2, scale2)))

    def write_keys(self, x: Tensor, modulation: Tensor, rotary: Rotary, cache: Cache, layer: int) -> None:
        """Write this layer's keys and values of x [B, T, dim] to the cache and compute nothing else."""
        shift, scale = modulation[:, 0:1], modulation[:, 1:2]
        keys, values = self.self_attn.project_keys(self.norm(x, shift, scale), rotary)
        cache.write(layer, keys, values)


class PatchEmbedding(nn.Conv3d):
    """Patches to tokens: a convolution whose stride is its kernel, computed as one matrix product."""

    def forward(self, x: Tensor) -> Tensor:
        """Embed latents [B, F, C, H, W] as tokens [B, T, dim], ordered by frame, row, column."""
        b, f, c, h, w = x.shape
        pt, ph, pw = self.kernel_size
        x = x.reshape(b, f // pt, pt, c, h // ph, ph, w // pw, pw)
        # The kernel's order is (channel, time, row, column).
        patches = x.permute(0, 1, 4, 6, 3, 2, 5, 7).reshape(b, -1, c * pt * ph * pw)
        return F.linear(patches, self.weight.flatten(1), self.bias)


class Head(nn.Module):
    """Tokens to patches of the output: [B, T, prod(patch) * out_dim], channel fastest."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        pt, ph, pw = config.patch_size
        self.eps = config.eps
        self.head = nn.Linear(config.dim, pt * ph * pw * config.out_dim)
        self.modulation = nn.Parameter(torch.randn(1, 2, config.dim) / config.dim**0.5)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """Project x [B, T, dim] with the modulation [B, 2, dim]."""
        shift, scale = modulation.split(1, dim=1)
        return self.head(torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=self.eps), 1 + scale))


class DiffusionTransformer(nn.Module):
    """The network: noisy latents, mask and render in, velocity (or residual) out."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.patch_embedding = PatchEmbedding(config.in_dim, dim, config.patch_size, stride=config.patch_size)
        self.text_embedding = nn.Sequential(nn.Linear(config.text_dim, dim), nn.GELU(approximate='tanh'),
                                            nn.Linear(dim, dim))
        self.time_embedding = nn.Sequential(nn.Linear(config.freq_dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.num_layers)])
        self.head = Head(config)
        self.reset_parameters()

    @property
    def dtype(self) -> torch.dtype:
        """The type that the network computes in."""
        return self.head.head.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return self.head.head.weight.device

    def reset_parameters(self) -> None:
        """Draw new weights, ready to be trained; the head starts at zero, so the first prediction is zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.patch_embedding.weight.flatten(1))
        nn.init.zeros_(self.patch_embedding.bias)
        for module in (self.text_embedding[0], self.text_embedding[2], self.time_embedding[0], self.time_embedding[2]):
            nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(self.head.head.weight)

    def fuse(self) -> DiffusionTransformer:
        """Merge the query, key and value projections of every self-attention, for speed; after loading only."""
        for block in self.blocks:
            block.self_attn.fuse()
        return self

    def use_cpu_kernels(self) -> None:
        """Compute rotations and activations by fewer passes over memory; for a CPU, and where nothing is compiled."""
        from inspatio_ros.star.fused_layers import FusedGelu, rotate_complex
        for block in self.blocks:
            block.self_attn.rotate = rotate_complex
            block.ffn[1] = FusedGelu()

    def attend_by(self, kernel: Attend) -> None:
        """Use a kernel of attention.py in every self-attention; the few tokens of the caption keep torch's choice."""
        for block in self.blocks:
            block.self_attn.attend = kernel

    def text_constants(self, text: Tensor) -> TextConstants:
        """Project a caption's embedding [B, L <= text_len, text_dim] for every layer; missing rows are zero rows.

        Zero rows go through the text network too (its biases make them non-zero) and are attended to, as trained.
        """
        missing = self.config.text_len - text.shape[1]
        if missing < 0 or text.shape[2] != self.config.text_dim:
            raise ValueError(f'text must be [B, <= {self.config.text_len}, {self.config.text_dim}], '
                             f'got {tuple(text.shape)}')
        embedded = self.text_embedding(F.pad(text.to(self.dtype), (0, 0, 0, missing)))
        keys, values = zip(*(block.cross_attn.constants(embedded) for block in self.blocks), strict=True)
        return TextConstants(keys, values)

    def modulation(self, timestep: Tensor) -> Modulation:
        """Give the modulation of every layer for timesteps [B] in 0..1000, one for all frames of a sample."""
        embedding = self.time_embedding(sinusoidal_embedding(timestep, self.config.freq_dim).to(self.dtype))
        projection = self.time_projection(embedding).unflatten(1, (6, -1))
        return Modulation(tuple(block.modulation + projection for block in self.blocks),
                          self.head.modulation + embedding[:, None])

    def rotary(self, frames: int, height: int, width: int, offset: int) -> Rotary:
        """Give the rotary tables of `frames` latent frames of height x width cells whose time starts at `offset`."""
        pt, ph, pw = self.config.patch_size
        grid = (frames // pt, height // ph, width // pw)
        angles = []
        for axis, (count, dim) in enumerate(zip(grid, axis_dims(self.config.head_dim), strict=True)):
            positions = torch.arange(count, device=self.device) + (offset if axis == 0 else 0)
            shape = [1, 1, 1, dim // 2]
            shape[axis] = count
            angles.append(rotary_angles(positions, dim, self.config.rope_base).view(shape).expand(*grid, dim // 2))
        return self._tables(torch.cat(angles, dim=-1).view(1, -1, 1, self.config.head_dim // 2))

    def rotary_at(self, positions: Tensor, offset: int) -> Rotary:
        """Give the tables of tokens at positions [B, F, rows, cols, 2] (row, column) whose time starts at `offset`."""
        time, *space = axis_dims(self.config.head_dim)
        frames = torch.arange(positions.shape[1], device=positions.device) + offset
        base = self.config.rope_base
        parts = [rotary_angles(frames, time, base)[None, :, None, None].expand(*positions.shape[:4], -1)]
        parts += [rotary_angles(positions[..., axis].flatten(), dim, base).unflatten(0, positions.shape[:4])
                  for axis, dim in enumerate(space)]
        return self._tables(torch.cat(parts, dim=-1).flatten(1, 3)[:, :, None])

    def _tables(self, angle: Tensor) -> Rotary:
        dtype = torch.float64 if self.dtype == torch.float64 else torch.float32
        return Rotary(angle.cos().to(dtype), angle.sin().to(dtype))

    def forward(self, x: Tensor, text: TextConstants, modulation: Modulation, rotary: Rotary,
                cache: Cache | None = None) -> Tensor:
        """Run a denoising pass over latents [B, F, in_dim, H, W] -> [B, F, out_dim, H, W].

        The pass attends to the cache followed by its own tokens, without a mask, and does not change what the cache
        remembers. Without a cache (or with an empty one) it attends to itself alone.
        """
        frames, _, height, width = x.shape[1:]
        tokens = self.patch_embedding(x)
        for layer, block in enumerate(self.blocks):
            tokens = block(tokens, modulation.blocks[layer], rotary, text.keys[layer], text.values[layer],
                           cache, layer, False)
        return self.unpatchify(self.head(tokens, modulation.head), frames, height, width)

    def context_pass(self, x: Tensor, text: TextConstants, modulation: Modulation, rotary: Rotary,
                     cache: Cache) -> None:
        """Rewrite the cache with the keys and values of context latents [B, F, in_dim, H, W].

        Nothing after the last layer's keys and values is computed, because nobody would read it.
        """
        tokens = self.patch_embedding(x)
        last = len(self.blocks) - 1
        for layer, block in enumerate(self.blocks[:last]):
            tokens = block(tokens, modulation.blocks[layer], rotary, text.keys[layer], text.values[layer],
                           cache, layer, True)
        self.blocks[last].write_keys(tokens, modulation.blocks[last], rotary, cache, last)

    def unpatchify(self, patches: Tensor, frames: int, height: int, width: int) -> Tensor:
        """Lay the head's output [B, T, prod(patch) * out_dim] out as latents [B, F, out_dim, H, W]."""
        pt, ph, pw = self.config.patch_size
        x = patches.reshape(-1, frames // pt, height // ph, width // pw, pt, ph, pw, self.config.out_dim)
        return x.permute(0, 1, 4, 7, 2, 5, 3, 6).reshape(-1, frames, self.config.out_dim, height, width)
