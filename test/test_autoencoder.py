# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The tiny autoencoder equals TAEHV, streams, and never spoils a render it was not trained to change."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open

from inspatio_ros.config import AutoencoderConfig
from inspatio_ros.errors import ConfigurationError
from inspatio_ros.star.autoencoder import TinyAutoencoder, cut_time_growth

GOLDEN_TOLERANCE = 5e-5
TINY_TAEHV = AutoencoderConfig(encoder_widths=(16, 16, 16, 16), decoder_widths=(64, 32, 16, 16))
GUIDED = AutoencoderConfig(patch_size=2, encoder_widths=(8, 8, 8, 8), decoder_widths=(12, 12, 8, 8),
                           blocks_per_stage=1, space=(True, True, False), time=(False, True, True), guided=True,
                           guide_width=8, linear=True)


@pytest.fixture(scope='module')
def golden(shared):
    with safe_open(shared / 'golden' / 'taehv_tiny.safetensors', 'pt') as file:
        return {name: file.get_tensor(name) for name in file.keys()}


@pytest.fixture(scope='module')
def taehv(golden):
    model = TinyAutoencoder(TINY_TAEHV)
    model.load_state_dict({name[3:]: value for name, value in golden.items() if name.startswith('sd.')}, strict=True)
    return model.eval()


@pytest.fixture(scope='module')
def guided():
    torch.manual_seed(0)
    return TinyAutoencoder(GUIDED).eval()


def random_guide(frames, seed=1):
    generator = torch.Generator().manual_seed(seed)
    render = torch.rand(2, frames, 3, 16, 24, generator=generator)
    return render, (torch.rand(2, frames, 1, 16, 24, generator=generator) > 0.3).float()


def test_has_the_names_and_shapes_of_taehv(shared):
    wanted = json.loads((shared / 'golden' / 'taehv_keys.json').read_text())['tensors']
    with torch.device('meta'):
        model = TinyAutoencoder(AutoencoderConfig())
    assert {name: list(value.shape) for name, value in model.state_dict().items()} == {
        name: entry['shape'] for name, entry in wanted.items()}


@torch.no_grad()
@pytest.mark.parametrize('clip, latent', [('in.clip', 'out.latent'), ('in.clip12', 'out.latent_12frames')])
def test_encodes_like_taehv(golden, taehv, clip, latent):
    torch.testing.assert_close(taehv.encode(golden[clip], padding='end'), golden[latent],
                               atol=GOLDEN_TOLERANCE, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize('latent, decoded', [('out.latent', 'out.decoded'),
                                             ('in.latent', 'out.decoded_random_latent')])
def test_decodes_like_taehv(golden, taehv, latent, decoded):
    torch.testing.assert_close(taehv.decode(golden[latent]), golden[decoded], atol=GOLDEN_TOLERANCE, rtol=0)


@torch.no_grad()
def test_unclamped_pixels_equal_taehv(golden, taehv):
    raw = taehv.decode(golden['in.latent'], clamp=False)
    torch.testing.assert_close(raw, golden['out.decoder_raw_random_latent'][:, 3:], atol=GOLDEN_TOLERANCE, rtol=0)


@torch.no_grad()
def test_streams_like_taehv(golden, taehv):
    state, latents, emitted = taehv.encoder_state('end'), [], []
    for index in range(golden['in.clip'].shape[1]):
        latent = taehv.encode_step(state, golden['in.clip'][:, index:index + 1])
        latents.append(latent)
        emitted += [index] * latent.shape[1]
    latents.append(taehv.encode_finish(state))
    assert [*emitted, -1] == golden['out.stream_latent_emitted_after_frame'].tolist()
    torch.testing.assert_close(torch.cat(latents, 1), golden['out.stream_latent'], atol=GOLDEN_TOLERANCE, rtol=0)
    state = taehv.decoder_state()
    chunks = [taehv.decode_step(state, piece) for piece in golden['in.latent'].split(3, dim=1)]
    assert [chunk.shape[1] for chunk in chunks] == golden['out.stream_decoded_frames_per_chunk'].tolist()
    torch.testing.assert_close(torch.cat(chunks, 1), golden['out.stream_decoded'], atol=GOLDEN_TOLERANCE, rtol=0)


def test_released_time_growth_is_cut_to_its_last_rows(golden):
    stored = {name[3:]: value for name, value in golden.items() if name.startswith('sd.')}
    wanted = stored['decoder.7.conv.weight']
    stored['decoder.7.conv.weight'] = torch.cat([torch.full_like(wanted, 7.), wanted])
    cut = cut_time_growth(stored, TINY_TAEHV)
    torch.testing.assert_close(cut['decoder.7.conv.weight'], wanted)
    TinyAutoencoder(TINY_TAEHV).load_state_dict(cut, strict=True)


@torch.no_grad()
@pytest.mark.parametrize('pieces', [(9, 12), (1, 4, 4, 12), (2, 5, 1, 13)])
@pytest.mark.parametrize('padding', ['start', 'end'])
def test_encoding_a_stream_equals_the_whole_clip(guided, pieces, padding):
    clip = torch.rand(2, sum(pieces), 3, 16, 24, generator=torch.Generator().manual_seed(2))
    state = guided.encoder_state(padding)
    latents = [guided.encode_step(state, piece) for piece in clip.split(pieces, dim=1)]
    if state.waiting is not None:
        latents.append(guided.encode_finish(state))
    torch.testing.assert_close(torch.cat(latents, 1), guided.encode(clip, padding), atol=1e-5, rtol=0)


@torch.no_grad()
def test_decoding_a_guided_stream_equals_the_whole_clip(guided):
    torch.manual_seed(3)
    model = TinyAutoencoder(GUIDED)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    latent, (render, mask) = torch.randn(2, 6, 16, 2, 3), random_guide(21)
    state = model.decoder_state()
    first = model.decode_step(state, latent[:, :3], (render[:, :9], mask[:, :9]))
    second = model.decode_step(state, latent[:, 3:], (render[:, 9:], mask[:, 9:]))
    torch.testing.assert_close(torch.cat([first, second], 1), model.decode(latent, (render, mask)), atol=1e-5, rtol=0)


@torch.no_grad()
def test_start_padding_gives_the_first_frame_a_latent_of_its_own(guided):
    clip = torch.rand(1, 9, 3, 16, 24, generator=torch.Generator().manual_seed(4))
    changed = clip.clone()
    changed[:, 1:5] = 0.5
    before, after = guided.encode(clip, 'start'), guided.encode(changed, 'start')
    assert before.shape[1] == 3
    torch.testing.assert_close(before[:, 0], after[:, 0])
    assert (before[:, 1] - after[:, 1]).abs().max() > 1e-4


@torch.no_grad()
def test_untrained_gate_is_the_mask(guided):
    latent, (render, _) = torch.randn(2, 3, 16, 2, 3), random_guide(9)
    known = guided.decode(latent, (render, torch.ones(2, 9, 1, 16, 24)))
    torch.testing.assert_close(known, render, atol=1e-6, rtol=0)
    hole = guided.decode(latent, (render, torch.zeros(2, 9, 1, 16, 24)))
    assert (hole - render).abs().mean() > 0.05


def test_every_parameter_of_a_trained_guide_learns():
    torch.manual_seed(5)
    model = TinyAutoencoder(GUIDED)
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    clip, guide = torch.rand(2, 9, 3, 16, 24), random_guide(9)
    (model.decode(model.encode(clip), guide, clamp=False) - clip).square().mean().backward()
    still = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.abs().any()]
    assert still == []


def test_says_what_shape_it_got(guided):
    with pytest.raises(ValueError, match=r'multiples of 8, got \(1, 9, 3, 20, 24\)'):
        guided.encode(torch.rand(1, 9, 3, 20, 24))
    with pytest.raises(ValueError, match="the guide's render must be"):
        guided.decode(torch.randn(2, 3, 16, 2, 3), random_guide(12))
    with pytest.raises(ConfigurationError, match='padding'):
        guided.encode(torch.rand(1, 9, 3, 16, 24), padding='middle')
    with pytest.raises(ConfigurationError, match='time'):
        TinyAutoencoder(AutoencoderConfig(guided=True, guide_width=8))
