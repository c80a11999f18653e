# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The caption: a stored embedding, or umT5's encoder with the released parameter names.

A caption is embedded once and never changes during a run. Rows of padding are zero in the embedding; they are
attended to all the same, without a mask, because the released weights were trained so.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inspatio_ros.errors import ConfigurationError, WeightsError
from inspatio_ros.star.checkpoint import TensorFile, load_module, save_tensors
from inspatio_ros.star.transformer import RMSNorm

#: The tensor of a stored embedding.
EMBEDDING_KEY = 'prompt_embeds'


@dataclass(frozen=True)
class TextEncoderConfig:
    """The encoder of umT5; the defaults are umT5-xxl."""

    vocab_size: int = 256384
    dim: int = 4096
    dim_attn: int = 4096
    dim_ffn: int = 10240
    num_heads: int = 64
    encoder_layers: int = 24
    num_buckets: int = 32
    #: Distances beyond this share the last bucket (a constant of T5).
    max_distance: int = 128
    eps: float = 1e-6


def relative_buckets(offset: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    """Give the bucket of relative positions (key index - query index), any shape: exact near by, logarithmic beyond.

    Half of the buckets are for keys after the query. Equation: Raffel et al. 2020 (T5), appendix of the code.
    """
    half = num_buckets // 2
    exact = half // 2
    distance = offset.abs()
    ratio = torch.log(distance.clamp(min=1).float() / exact) / torch.log(torch.tensor(max_distance / exact))
    far = (exact + (ratio * (half - exact)).long()).clamp(max=half - 1)
    return (offset > 0).long() * half + torch.where(distance < exact, distance, far)


class TextAttention(nn.Module):
    """Attention with a position bias, without scaling and without biases in its projections."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.q = nn.Linear(config.dim, config.dim_attn, bias=False)
        self.k = nn.Linear(config.dim, config.dim_attn, bias=False)
        self.v = nn.Linear(config.dim, config.dim_attn, bias=False)
        self.o = nn.Linear(config.dim_attn, config.dim, bias=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Attend from x [B, L, dim] to itself, with a bias [B, heads, L, L] on the scores."""
        q, k, v = (part(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), scale=1.)
        return self.o(out.transpose(1, 2).flatten(2))


class TextFeedForward(nn.Module):
    """Feed-forward with a gate."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(config.dim, config.dim_ffn, bias=False), nn.GELU(approximate='tanh'))
        self.fc1 = nn.Linear(config.dim, config.dim_ffn, bias=False)
        self.fc2 = nn.Linear(config.dim_ffn, config.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [B, L, dim]."""
        return self.fc2(self.fc1(x) * self.gate(x))


class PositionBias(nn.Module):
    """The bias of each head on the distance of two tokens."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.num_buckets, self.max_distance = config.num_buckets, config.max_distance
        self.embedding = nn.Embedding(config.num_buckets, config.num_heads)

    def forward(self, length: int) -> Tensor:
        """Give the bias [1, heads, length, length] (query, key)."""
        index = torch.arange(length)
        buckets = relative_buckets(index[None, :] - index[:, None], self.num_buckets, self.max_distance)
        return self.embedding(buckets.to(self.embedding.weight.device)).permute(2, 0, 1)[None]


class TextBlock(nn.Module):
    """One layer of the encoder."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.norm1 = RMSNorm(config.dim, config.eps)
        self.attn = TextAttention(config)
        self.norm2 = RMSNorm(config.dim, config.eps)
        self.ffn = TextFeedForward(config)
        self.pos_embedding = PositionBias(config)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Map x [B, L, dim]; `hidden` [B, 1, 1, L] is True where a token is padding."""
        bias = self.pos_embedding(x.shape[1])
        bias = bias.masked_fill(hidden, torch.finfo(bias.dtype).min)
        x = x + self.attn(self.norm1(x), bias)
        return x + self.ffn(self.norm2(x))


class TextEncoder(nn.Module):
    """umT5's encoder, with a position bias in every layer."""

    def __init__(self, config: TextEncoderConfig | None = None) -> None:
        super().__init__()
        self.config = config or TextEncoderConfig()
        self.token_embedding = nn.Embedding(self.config.vocab_size, self.config.dim)
        self.blocks = nn.ModuleList([TextBlock(self.config) for _ in range(self.config.encoder_layers)])
        self.norm = RMSNorm(self.config.dim, self.config.eps)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Encode tokens int64 [B, L] whose mask [B, L] is 1 for text and 0 for padding: [B, L, dim]."""
        x = self.token_embedding(ids)
        hidden = (mask == 0)[:, None, None, :]
        for block in self.blocks:
            x = block(x, hidden)
        return self.norm(x)

    @torch.inference_mode()
    def embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Give the embedding [B, L, dim] that the transformer takes: padding rows are zero."""
        return self(ids, mask) * mask[..., None]


def tokenize(caption: str, tokenizer_folder: str | Path, length: int) -> tuple[Tensor, Tensor]:
    """Turn a caption into ids and mask int64 [1, length] by the tokenizer in a folder, from disk only."""
    try:
        from transformers import AutoTokenizer
        caption = clean_caption(caption)
    except ImportError as error:
        raise ConfigurationError('turning a caption into tokens needs the packages transformers, sentencepiece and '
                                 'ftfy; install them with pip, or store the embedding in text.safetensors') from error
    if not Path(tokenizer_folder).is_dir():
        raise WeightsError(f"there is no tokenizer folder {tokenizer_folder}; put umT5's tokenizer files there")
    tokenizer = AutoTokenizer.from_pretrained(str(tokenizer_folder), local_files_only=True)
    batch = tokenizer(caption, padding='max_length', truncation=True, max_length=length,
                      add_special_tokens=True, return_tensors='pt')
    return batch['input_ids'], batch['attention_mask']


def clean_caption(caption: str) -> str:
    """Straighten quotes and mend letters, undo HTML entities, collapse white space: as Wan cleans a caption.

    Needs ftfy; ImportError without it.
    """
    import ftfy
    return ' '.join(html.unescape(html.unescape(ftfy.fix_text(caption))).split())


def embed_caption(caption: str, encoder_file: str | Path, tokenizer_folder: str | Path, length: int = 512,
                  device: torch.device | str = 'cpu', dtype: torch.dtype = torch.bfloat16,
                  config: TextEncoderConfig | None = None) -> Tensor:
    """Embed a caption float32 [1, length, dim] with umT5's released file; the encoder is let go of afterwards."""
    ids, mask = tokenize(caption, tokenizer_folder, length)
    with torch.device('meta'):
        encoder = TextEncoder(config)
    load_module(encoder, encoder_file, device, dtype)
    return encoder.embed(ids.to(device), mask.to(device)).float().cpu()


def load_embedding(path: str | Path, text_dim: int, text_len: int) -> Tensor:
    """Read a stored embedding float32 [1, L <= text_len, text_dim] from a safetensors file."""
    file = TensorFile(path)
    if EMBEDDING_KEY not in file.shapes:
        raise WeightsError(f'{path} holds no {EMBEDDING_KEY!r}; it does not look like a stored text embedding')
    shape = file.shapes[EMBEDDING_KEY]
    if len(shape) != 3 or shape[0] != 1 or not 0 < shape[1] <= text_len or shape[2] != text_dim:
        raise WeightsError(f'{path}: {EMBEDDING_KEY} is {list(shape)}, but the network takes '
                           f'[1, up to {text_len}, {text_dim}]')
    return file.tensor(EMBEDDING_KEY).float()


def save_embedding(path: str | Path, embedding: Tensor, caption: str) -> None:
    """Store an embedding [1, L, text_dim] with the caption it was made from."""
    save_tensors(path, {EMBEDDING_KEY: embedding.float()}, {'caption': caption})
