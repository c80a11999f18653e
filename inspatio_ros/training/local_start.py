# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A start for transformers that are trained from nothing: most heads look at what lies where they are themselves.

Where tokens are placed by geometry, what a hole should show lies at its own position in the cache. Yet a network that
starts as usual looks everywhere alike, and thousands of clips pass before it has found that out. Here queries and keys
start with the same constant in the channels that are turned by rows and columns, so that attention falls off with
distance and is the same at all times: whatever a place shows in the reference, in the block before and in the render
is compared from the first step on. And every layer counts from the start: its gates are open.
"""

from __future__ import annotations

import torch

from inspatio_ros.star.transformer import DiffusionTransformer, axis_dims

#: Share of the heads that start local; the others look everywhere.
LOCAL_SHARE = 2 / 3
#: The constant, beside content of size about 1, and the weight of the norms of queries and keys, which sharpens it.
CONSTANT, SHARPNESS = 3., 2.
#: How much of what a timestep does to the layers is left at the start.
TIMESTEP = 0.1


@torch.no_grad()
def start_local(net: DiffusionTransformer) -> None:
    """Set the weights of a fresh transformer so; layers then add what they find in full (scale 0, shift 0, gate 1)."""
    config = net.config
    time = axis_dims(config.head_dim)[0]
    constant = torch.zeros(config.num_heads, config.head_dim)
    constant[:round(LOCAL_SHARE * config.num_heads), time:] = CONSTANT
    for block in net.blocks:
        block.modulation.zero_()
        for gate in (2, 5):
            block.modulation[:, gate] = 1.
        attention = block.self_attn
        for projection, norm in ((attention.q, attention.norm_q), (attention.k, attention.norm_k)):
            projection.bias.copy_(constant.flatten())
            norm.weight.fill_(SHARPNESS)
    net.head.modulation.zero_()
    net.time_projection[1].weight.mul_(TIMESTEP)
