# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Clips as latents: kept or made anew they are the same, and further holes hide nothing but what they cover."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_training import TINY, make_clip

from inspatio_ros.scenes.clips import TRAIN_SEEDS_START
from inspatio_ros.star.generator import BlockGenerator
from inspatio_ros.training.clips import ClipConfig
from inspatio_ros.training.data import ClipFolder, save_clip
from inspatio_ros.training.encoded import EncodedClips, EncodingConfig
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.punch import punch
from inspatio_ros.training.scenes import SeededClips
from inspatio_ros.training.stages import InitialisationStage, LossConfig, pixel_effects


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp('clips')
    for seed in range(3):
        save_clip(folder / f'clip_{seed:07d}.safetensors', make_clip(seed, stills=seed == 1), {})
    return ClipFolder(folder)


def networks(positions='reprojected'):
    return Networks(replace(TINY, positions=positions))


@pytest.mark.parametrize('positions', ['grid', 'reprojected'])
def test_kept_latents_are_those_of_the_clips_up_to_half_precision(clips, positions):
    nets = networks(positions)
    kept = EncodedClips(nets, clips, EncodingConfig(variants=1))
    truth, conditions = kept.draw(1, generator())
    draws = torch.Generator().manual_seed(0x5EED)
    made = [nets.encode(punch(clip, 0., draws)) for clip in clips.augmented(draws)]
    distance = [(truth - other).abs().max().item() for other, _ in made]
    assert min(distance) < 1e-2
    other = made[distance.index(min(distance))][1]
    for name in ('reference', 'render', 'mask'):
        torch.testing.assert_close(getattr(conditions, name), getattr(other, name), atol=1e-2, rtol=1e-2)
    assert len(conditions.positions) == len(other.positions) == (2 if positions == 'reprojected' else 0)
    for ours, theirs in zip(conditions.positions, other.positions, strict=True):
        torch.testing.assert_close(ours.block, theirs.block)
        assert (ours.previous is None) == (theirs.previous is None)


def test_clips_of_both_kinds_are_drawn_together_and_a_seed_draws_the_same(clips):
    nets = networks()
    one, other = (EncodedClips(nets, clips, EncodingConfig(variants=2, punched=0.5)) for _ in range(2))
    for seed in range(3):
        ours, theirs = one.draw(4, generator(seed)), other.draw(4, generator(seed))
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1].render, theirs[1].render)
        assert ours[0].shape[0] == ours[1].positions[1].previous.shape[0] == 4
    assert len(one._kept['truth']) == 2 * len(clips)


def test_nothing_is_kept_where_no_variants_are_asked_for(clips):
    fresh = EncodedClips(networks(), clips, EncodingConfig())
    assert fresh.draw(2, generator())[0].shape[:2] == (2, 6) and not fresh._kept


def test_kept_latents_are_read_again_unless_something_differs(clips, tmp_path, capsys):
    nets = networks()

    def kept(punched=0.):
        encoded = EncodedClips(nets, clips, EncodingConfig(variants=1, punched=punched), folder=tmp_path)
        return encoded.draw(3, generator(1))

    first = kept()
    files = list(tmp_path.iterdir())
    assert len(files) == 1
    made = files[0].stat().st_mtime_ns
    again = kept()
    assert torch.equal(first[0], again[0]) and torch.equal(first[1].render, again[1].render)
    assert torch.equal(first[1].positions[1].previous, again[1].positions[1].previous)
    assert files[0].stat().st_mtime_ns == made
    with torch.no_grad():
        nets.autoencoder.linear_encoder.weight.mul_(1.1)
    assert not torch.equal(kept()[0], first[0]) and len(list(tmp_path.iterdir())) == 2
    nets.autoencoder.load_state_dict(networks().autoencoder.state_dict())
    assert not torch.equal(kept(punched=1.)[1].render, first[1].render) and len(list(tmp_path.iterdir())) == 3
    files[0].write_bytes(b'half')
    assert torch.equal(kept()[0], first[0]) and 'is made anew' in capsys.readouterr().out


def test_latents_of_clips_that_were_made_anew_are_not_read_again(tmp_path):
    folder, kept = tmp_path / 'clips', tmp_path / 'latents'
    for seed in range(2):
        save_clip(folder / f'clip_{seed}.safetensors', make_clip(seed), {})

    def draw(config=TINY):
        encoded = EncodedClips(Networks(config), ClipFolder(folder), EncodingConfig(variants=1), folder=kept)
        return encoded.draw(2, generator())[0]

    first = draw()
    assert torch.equal(draw(), first) and len(list(kept.iterdir())) == 1
    before = (folder / 'clip_1.safetensors').stat()
    save_clip(folder / 'clip_1.safetensors', make_clip(7), {})
    assert (folder / 'clip_1.safetensors').stat().st_size == before.st_size
    assert not torch.equal(draw(), first) and len(list(kept.iterdir())) == 2
    draw(replace(TINY, condition_fill='black'))
    assert len(list(kept.iterdir())) == 3, 'the render is filled otherwise'


def test_clips_that_are_no_files_are_told_apart_by_what_they_hold():
    sources = [SeededClips([seed], ClipConfig(48, 32)) for seed in (TRAIN_SEEDS_START, TRAIN_SEEDS_START + 1)]
    one, other = (next(iter(source._clips.values())) for source in sources)
    sources[1]._clips = {name: one for name in sources[0]._clips}
    assert sources[0].identities() == sources[1].identities()
    sources[1]._clips = {name: other for name in sources[0]._clips}
    assert sources[0].identities() != sources[1].identities()


def test_further_holes_hide_only_what_they_cover(clips):
    clip = clips.draw(2, generator())
    cut = punch(clip, 1., generator(1))
    assert (cut.mask <= clip.mask).all() and cut.mask.float().mean() < clip.mask.float().mean() - 0.02
    known = (cut.mask > 0).expand_as(cut.filled)
    assert torch.equal(cut.filled[known], clip.filled[known])
    assert torch.equal(cut.truth, clip.truth) and torch.equal(cut.reference, clip.reference)
    assert punch(clip, 0., generator(1)) is clip


def test_channels_count_by_what_they_do_to_pixels(clips):
    nets = networks()
    with torch.no_grad():
        nets.autoencoder.linear_decoder.weight.zero_()
        nets.autoencoder.linear_decoder.weight[:, 3] = 0.1
    effects = pixel_effects(nets, clips)
    assert effects.argmax() == 3 and effects[3] > 10 and float(effects.mean()) == pytest.approx(1.)


class Watched(BlockGenerator):
    """A block generator that lets one see what it is given: (noised latents, pass) and remembered blocks."""

    def __init__(self, whole):
        super().__init__(whole.config, whole.transformer, whole.scheduler, whole.text_embedding)
        self.predicted, self.remembered = [], []

    def predict(self, constants, cache, x_t, index, *conditions):
        found = super().predict(constants, cache, x_t, index, *conditions)
        self.predicted.append((x_t, index, found.detach()))
        return found

    def remember(self, constants, cache, reference, previous):
        self.remembered.append(previous)
        super().remember(constants, cache, reference, previous)


@pytest.mark.parametrize('seed', [1, 2, 3])
@pytest.mark.parametrize('own', [0., 1.])
def test_what_is_noised_and_remembered_is_the_truth_or_the_own_guess(clips, own, seed):
    nets = networks()
    torch.nn.init.normal_(nets.transformer.head.head.weight, std=0.1)
    nets.blocks = Watched(nets.blocks)
    encoded = EncodedClips(nets, clips, EncodingConfig())
    stage = InitialisationStage(nets, encoded, clips, LossConfig(own_history=own, own_samples=own, history_noise=0.))
    loss = stage.loss(2, generator(seed))[0]
    assert loss.requires_grad
    truth = encoded.draw(2, generator(seed))[0]
    guess = nets.blocks.predicted[0][2]
    meant = guess if own else truth[:, :3]
    passes = [index for _, index, _ in nets.blocks.predicted]
    if seed == 1:
        assert passes == [0, 0], 'the first pass was drawn: the guess of each block is what is trained'
    else:
        (x_t, step, _) = nets.blocks.predicted[1]
        assert passes == [0, step, 0, step] and step > 0
        sigma = nets.blocks.constants(nets.text, 2).sigmas[step]
        noise = (x_t - (1 - sigma) * meant) / sigma
        assert abs(float(noise.mean())) < 0.1 and float(noise.std()) == pytest.approx(1., abs=0.1)
    assert nets.blocks.remembered[0] is None
    torch.testing.assert_close(nets.blocks.remembered[1], meant)


@pytest.mark.parametrize('weigh_channels', [False, True])
def test_initialisation_trains_every_parameter_of_the_transformer(clips, weigh_channels):
    nets = networks()
    torch.nn.init.normal_(nets.transformer.head.head.weight, std=0.1)
    stage = InitialisationStage(nets, EncodedClips(nets, clips, EncodingConfig()), clips,
                                LossConfig(weigh_channels=weigh_channels))
    loss, figures = stage.loss(2, generator())
    loss.backward()
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in nets.transformer.parameters())
    assert all(value.grad is None for value in nets.autoencoder.parameters())
    assert figures['of_filled'] > 0
