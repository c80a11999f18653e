# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Configurations that need no file: the released generator, and tiny ones for tests and quick benchmarks."""

from __future__ import annotations

from inspatio_ros.config import AutoencoderConfig, GeneratorConfig, TransformerConfig

#: The released weights' sizes: every default.
RELEASED = GeneratorConfig()

_TINY_TRANSFORMER = TransformerConfig(text_len=8, dim=48, ffn_dim=64, freq_dim=32, text_dim=16, num_heads=3,
                                      num_layers=2)

#: Everything of the released generator, small: flow prediction, black holes, a plain decoder.
TINY = GeneratorConfig(name='tiny', width=96, height=64, transformer=_TINY_TRANSFORMER,
                       autoencoder=AutoencoderConfig(encoder_widths=(8, 8, 8, 8), decoder_widths=(16, 8, 8, 8),
                                                     blocks_per_stage=1))

#: Everything of nano, small: residual prediction, smooth fill, a guided decoder behind folded pixels.
TINY_GUIDED = GeneratorConfig(name='tiny-guided', width=96, height=64, frame_rate=12., prediction='residual',
                              condition_fill='smooth', transformer=_TINY_TRANSFORMER,
                              autoencoder=AutoencoderConfig(patch_size=2, encoder_widths=(8, 8, 8, 8),
                                                            decoder_widths=(16, 8, 8, 8), blocks_per_stage=1,
                                                            space=(True, True, False), time=(False, True, True),
                                                            guided=True, guide_width=8))
