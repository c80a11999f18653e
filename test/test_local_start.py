# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The start of a transformer that is trained from nothing: most heads look about their own place, at all times."""

from __future__ import annotations

from dataclasses import replace

import torch

from inspatio_ros.config import TransformerConfig
from inspatio_ros.star.transformer import DiffusionTransformer, rotate
from inspatio_ros.training.local_start import LOCAL_SHARE, start_local

CONFIG = TransformerConfig(text_len=2, text_dim=8, dim=192, ffn_dim=192, freq_dim=16, num_heads=6, num_layers=2,
                           rope_base=30.)


def attention_of(net, offset):
    """Give what heads pay to tokens at offsets (time, row, column) of a query, mean over random contents: [heads]."""
    attention, generator = net.blocks[0].self_attn, torch.Generator().manual_seed(0)
    x = torch.randn(2, 400, net.config.dim, generator=generator)
    time, row, column = offset
    here = torch.zeros(1, 1, 1, 1, 2) + 3.
    there = here + torch.tensor([row, column])
    q = attention.heads(attention.norm_q(attention.q(x[:1])))
    k = attention.heads(attention.norm_k(attention.k(x[1:])))
    q, k = rotate(q, net.rotary_at(here, 6)), rotate(k, net.rotary_at(there, 6 + time))
    return (q * k).sum(dim=-1).mean(dim=(0, 1)) / net.config.head_dim**0.5


def test_local_heads_prefer_their_own_place_and_no_time():
    net = DiffusionTransformer(CONFIG)
    with torch.no_grad():
        start_local(net)
        own = attention_of(net, (0, 0., 0.))
        local = round(LOCAL_SHARE * CONFIG.num_heads)
        for row, column in ((0., 1.), (1., 0.), (0., -2.5), (2., 2.)):
            lost = own - attention_of(net, (0, row, column))
            assert (lost[:local] > 0.3).all() and (lost[local:].abs() < 0.5).all()
        assert (attention_of(net, (0, 0., 2.))[:local] < attention_of(net, (0, 0., 1.))[:local]).all()
        for time in (-6, -3):
            assert (own - attention_of(net, (time, 0., 0.))).abs().max() < 0.3


def test_every_layer_counts_from_the_start():
    net = DiffusionTransformer(replace(CONFIG, num_heads=3))
    start_local(net)
    modulation = net.modulation(torch.tensor([0., 1000.]))
    for block in modulation.blocks:
        assert (block[:, [2, 5]] - 1).abs().max() < 0.3 and block[:, [0, 1, 3, 4]].abs().max() < 0.3
