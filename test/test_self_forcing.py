# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Roll-outs of the student, and their gradient block by block against that of the whole graph."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from inspatio_ros.evaluation.ablation import AblatedBlocks
from inspatio_ros.star.presets import TINY, TINY_GUIDED
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.self_forcing import Conditions, RollOut, draw_noise

SMALL = {'width': 48, 'height': 32}


def make(prediction='residual', blocks=2, exit_pass=2, reference=True, **settings):
    """A roll-out of two clips in float64, every weight of the student far from its start."""
    base = TINY_GUIDED if prediction == 'residual' else TINY
    # What the last pass gives is finished, in a roll-out as in the simulator.
    networks = Networks(dataclasses.replace(base, **SMALL, smooth_seams=0.25))
    networks.transformer.double()
    generator = torch.Generator().manual_seed(0)
    for parameter in networks.transformer.parameters():
        nn.init.normal_(parameter, std=0.1, generator=generator)
    config, frames = networks.config, blocks * networks.frames
    size = (config.latent_height, config.latent_width)
    draw = [torch.randn(2, frames, channels, *size, generator=generator, dtype=torch.float64)
            for channels in (16, 16, config.transformer.condition_dim - 16)]
    conditions = Conditions(draw[0] if reference else None, draw[1], draw[2])
    noise = draw_noise(networks.blocks, blocks, 2, generator).double()
    return networks, RollOut(networks.blocks, conditions, noise, exit_pass, networks.text, **settings)


def gradients(networks):
    return {name: value.grad.clone() for name, value in networks.transformer.named_parameters()
            if value.grad is not None}


@pytest.mark.parametrize('prediction', ['residual', 'flow'])
@pytest.mark.parametrize('exit_pass', [0, 3])
def test_gradient_block_by_block_is_that_of_the_whole_graph(prediction, exit_pass):
    networks, roll_out = make(prediction, exit_pass=exit_pass)
    parts = roll_out.conditions
    whole = networks.roll_out(parts, roll_out.noise, exit_pass)
    gradient = torch.randn(whole.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (whole * gradient).sum().backward()
    wanted = gradients(networks)
    networks.transformer.zero_grad()
    latents = roll_out.generate()
    torch.testing.assert_close(latents, whole.detach(), rtol=1e-10, atol=1e-10)
    roll_out.backpropagate(latents, gradient)
    found = gradients(networks)
    assert found.keys() == wanted.keys() and len(wanted) > 40
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-11, msg=name)
    assert all(value.abs().max() > 0 for value in wanted.values())


class SavedBytes:
    """Counts the bytes that graphs hold for their backward passes, and their peak."""

    def __enter__(self):
        self.now = self.peak = 0
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda held: held.tensor)
        self._hooks.__enter__()
        return self

    def __exit__(self, *error):
        self._hooks.__exit__(*error)

    def _pack(self, tensor):
        counter, size = self, tensor.numel() * tensor.element_size()

        class Held:
            def __init__(self):
                self.tensor = tensor.detach() if tensor.is_leaf else tensor
                counter.now += size
                counter.peak = max(counter.peak, counter.now)

            def __del__(self):
                counter.now -= size

        return Held()


def test_peak_memory_is_that_of_one_block_however_many_there_are():
    def chunk_wise(blocks):
        _, roll_out = make(blocks=blocks)
        latents = roll_out.generate()
        with SavedBytes() as saved:
            roll_out.backpropagate(latents, torch.ones_like(latents))
        return saved.peak

    def whole(blocks):
        networks, roll_out = make(blocks=blocks)
        parts = roll_out.conditions
        with SavedBytes() as saved:
            networks.roll_out(parts, roll_out.noise, 2)
        return saved.peak

    # The second block also has a history to remember; from then on a block is a block.
    assert chunk_wise(4) == chunk_wise(2)
    assert whole(4) > 1.8 * whole(2) > 1.8 * chunk_wise(2) * 0.9


def test_without_a_reference_the_first_block_is_made_of_noise_and_caption_and_the_second_remembers_it():
    networks, roll_out = make(reference=False)
    latents = roll_out.generate()
    assert torch.isfinite(latents).all()
    changed = roll_out.noise.clone()
    changed[0] += 1
    other = dataclasses.replace(roll_out, noise=changed).generate()
    assert not torch.allclose(other[:, 3:], latents[:, 3:])
    without = dataclasses.replace(roll_out, conditions=roll_out.conditions.without_geometry(False))
    assert not torch.allclose(without.generate(), latents)


def test_context_can_be_left_out_of_the_gradient():
    networks, roll_out = make(train_context=False)
    latents = roll_out.generate()
    roll_out.backpropagate(latents, torch.ones_like(latents))
    without = gradients(networks)
    networks.transformer.zero_grad()
    dataclasses.replace(roll_out, train_context=True).backpropagate(latents, torch.ones_like(latents))
    key = 'blocks.0.self_attn.k.weight'
    assert not torch.allclose(without[key], gradients(networks)[key])


@pytest.mark.parametrize('without', [set(), {'history'}])
def test_what_is_left_out_of_the_cache_is_left_out_where_there_is_no_reference(without):
    networks, roll_out = make(reference=False)
    blocks = AblatedBlocks(networks.blocks, without)
    given = dataclasses.replace(roll_out, blocks=blocks)
    latents = given.generate()
    other = torch.cat([latents[:, :networks.frames] + 1., latents[:, networks.frames:]], dim=1)
    again = [list(given.recompute(history))[1] for history in (latents, other)]
    assert torch.equal(*again) == bool(without)
