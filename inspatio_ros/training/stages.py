# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The stages that nano is trained in, one after the other.

1. `autoencoder`: true clips through the tiny autoencoder, its decoder guided by the render (`mend`, `finish` and
   `texture`, in files of their own, go on with the decoder).
2. `initialisation`: the transformer in latents, block-wise with reference, history and render (the paper's
   multi-condition causal initialisation), at the sampler's own noise levels; `spread` goes on with it, so that samples
   differ.
3. `joint`: transformer and decoder together on pixels, on roll-outs of the transformer itself (self-forcing).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from inspatio_ros.star.cache import Cache
from inspatio_ros.star.scheduler import mix
from inspatio_ros.training.data import Clips, ClipSource, crop, unit
from inspatio_ros.training.encoded import EncodedClips
from inspatio_ros.training.local_start import start_local
from inspatio_ros.training.measure import measure
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.noise import normal
from inspatio_ros.training.pca import start_from_components
from inspatio_ros.training.self_forcing import Conditions, placed, remember
from inspatio_ros.training.spread import energy_score

#: Clips, and the change of a channel, by which the channels' effect on pixels is found out.
PROBES, PROBE_STEP = 4, 0.5
#: Share of steps in which the stage `spread` goes by the network's own guesses.
OWN_SHARE = 0.5
#: Squared error (40 dB) below which a clip gains no more weight in relative errors.
LEAST_SQUARE = 1e-4


@dataclass(frozen=True)
class LossConfig:
    """Weights and sizes that the stages' losses share."""

    #: Window [height, width] that the decoder is trained on; the transformer always sees the whole image.
    crop: tuple[int, int] = (96, 96)
    #: Absolute error beside squared error of the autoencoder.
    absolute: float = 0.05
    #: Pull of the latents' channels towards mean 0 and standard deviation 1.
    scale: float = 0.002
    #: Noise added to latents before they are decoded: the decoder will be given predictions, not encodings.
    latent_noise: float = 0.1
    #: Share of clips whose guide is taken away, so that latents stand for all of an image and not for holes alone.
    guide_dropout: float = 0.5
    #: Noise added to the true history, which at run time is a prediction.
    history_noise: float = 0.3
    #: Shares of steps in which the network's own guess, made from noise alone, takes the place of the truth: as what
    #: the second block remembers of the first, and as what is noised and to be denoised. With the truth alone it learns
    #: to trust both; when it runs both are its own, and it takes noise, or what it made up, for evidence.
    own_history: float = 0.5
    own_samples: float = 0.5
    #: In the stage `spread`: weight of the energy score beside the squared error.
    spread: float = 3.5
    #: Whether latents' channels count in the initialisation by what they do to pixels.
    weigh_channels: bool = False
    #: Whether the transformer starts from nothing, and then with heads that look about their own place.
    local_start: bool = False
    #: In the stages that end the decoder's training: clips that the student rolls out; and, in the first, the share of
    #: windows that are decoded from what it made of them; the others are decoded from true latents.
    rolled_out: int = 256
    own_latents: float = 0.7
    #: In `finish`: weight of how unlike true patches made-up ones are (training/likeness.py), and whether only windows
    #: that the student made are looked at, not those that are decoded from true latents.
    likeness: float = 0.
    likeness_of_own: bool = False
    #: In the training of texture, beside the discriminator's judgement: weights of the squared error in holes, and of
    #: how much less or more neighbouring pixels differ there than the truth's; both relative to the error without it.
    faithfulness: float = 5.
    variation: float = 600.
    #: What share of the truth's differences those shall have. Even differences leave rough scenes too smooth: how rough
    #: a scene is cannot be seen in every hole, and clips with large errors count less.
    roughness: float = 1.
    #: And of how unlike true patches textured ones are.
    texture_likeness: float = 0.
    #: Weight of the pooled squared error beside the relative one, in the joint stage.
    pooled: float = 50.
    #: Weight of the latents' squared error in the joint stage.
    latent: float = 0.05


class AutoencoderStage:
    """Train encoder and guided decoder on true clips."""

    name = 'autoencoder'
    #: The settings of LossConfig that it goes by: a run with others does not go on from its checkpoints.
    goes_by = ('crop', 'absolute', 'scale', 'latent_noise', 'guide_dropout')

    def __init__(self, networks: Networks, clips: ClipSource, held_out: ClipSource, config: LossConfig) -> None:
        self.networks, self.clips, self.held_out, self.config = networks, clips, held_out, config
        self.modules: dict[str, nn.Module] = {'autoencoder': networks.autoencoder}
        networks.leave_mend_and_texture()
        if networks.config.autoencoder.linear and not networks.trained:
            start_from_components(networks.autoencoder, clips)

    def loss(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Reconstruct a window of true clips."""
        clips = first_frames(self.clips.draw(batch_size, generator), self.networks.config.frames_in_first_block)
        window, rows, columns = crop(clips, *self.config.crop, self._multiple, generator)
        truth = unit(window.truth.to(self.networks.device))
        latent = self.networks.autoencoder.encode(truth)
        noisy = latent + self.config.latent_noise * normal(latent.shape, generator, latent.device)
        guide = drop_guide(*self.networks.guide(clips, rows, columns), self.config.guide_dropout, generator)
        error = self.networks.autoencoder.decode(noisy, guide, clamp=False).float() - truth
        square, absolute = error.square().mean(), error.abs().mean()
        spread = latent_spread(latent)
        loss = square + self.config.absolute * absolute + self.config.scale * spread
        return loss, {'psnr': float(-10 * torch.log10(square.detach())), 'spread': float(spread.detach())}

    def validate(self) -> dict[str, float]:
        """Reconstruct held-out clips, with the guide and without."""
        with_guide, without = [], []
        for clips in self.held_out.batches(1):
            truth = unit(clips.truth.to(self.networks.device))
            latent = self.networks.autoencoder.encode(truth)
            guide = self.networks.guide(clips)
            without.append(_psnr(self.networks.autoencoder.decode(latent, blank(*guide)), truth))
            with_guide.append(_psnr(self.networks.autoencoder.decode(latent, guide), truth))
        return {'psnr': sum(with_guide) / len(with_guide), 'psnr_without_guide': sum(without) / len(without)}

    @property
    def _multiple(self) -> int:
        return self.networks.config.size_multiple


class InitialisationStage:
    """Train the transformer in latents: the true block from reference, history and render."""

    name = 'initialisation'
    goes_by = ('history_noise', 'own_history', 'own_samples', 'weigh_channels', 'local_start')

    def __init__(self, networks: Networks, encoded: EncodedClips, held_out: ClipSource, config: LossConfig) -> None:
        self.networks, self.encoded, self.held_out, self.config = networks, encoded, held_out, config
        self.modules: dict[str, nn.Module] = {'transformer': networks.transformer}
        if config.local_start and not networks.trained:
            start_local(networks.transformer)
        self._weights: Tensor | None = None

    def loss(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Denoise both blocks of true clips from one of the sampler's noise levels."""
        nets = self.networks
        truth, conditions = self.draw(batch_size, generator)
        constants = nets.blocks.constants(nets.text, len(truth))
        step = int(torch.randint(len(constants.modulations), (1,), generator=generator))
        own_sample, own_history = (float(torch.rand(1, generator=generator)) < share
                                   for share in (self.config.own_samples, self.config.own_history))
        errors, made, previous = [], [], None
        for index in range(truth.shape[1] // nets.frames):
            parts, cache = conditions.block(index, nets.frames), Cache(nets.config.transformer.num_layers)
            here = placed(nets.blocks, constants, parts)
            wanted = truth[:, index * nets.frames:(index + 1) * nets.frames]
            remember(nets.blocks, here, cache, parts.reference, previous)
            predict = partial(nets.blocks.predict, here, cache)
            # From noise alone: the first pass, which is trained if that is the one drawn.
            with torch.set_grad_enabled(step == 0):
                found = predict(_noise_like(wanted, generator), 0, parts.render, parts.mask)
            guess = found.detach()
            if step:
                x_t = mix(guess if own_sample else wanted, _noise_like(wanted, generator), constants.sigmas[step])
                found = predict(x_t, step, parts.render, parts.mask)
            errors.append(self._error(found - wanted, truth))
            made.append(found)
            previous = guess if own_history else self._noised(wanted, generator)
        error = sum(errors) / len(errors)
        # The filled render's own error: clips with small holes count too, without being all that counts.
        filled = self._error(conditions.render - truth, truth)
        loss = (error / (filled + LEAST_SQUARE).sqrt()).mean()
        also, figures = self.judge(made, truth, conditions)
        return loss + also, {f'loss_step_{step}': float(loss.detach()),
                             'of_filled': float((error.sum() / filled.sum()).detach()), **figures}

    def draw(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Conditions]:
        """Draw a batch of clips: true latents, and what they are generated from."""
        return self.encoded.draw(batch_size, generator)

    def judge(self, made: list[Tensor], truth: Tensor,
              conditions: Conditions) -> tuple[Tensor | float, dict[str, float]]:
        """Give what counts beside the squared error of the blocks that were made, and figures to log: nothing."""
        return 0., {}

    def _error(self, difference: Tensor, truth: Tensor) -> Tensor:
        """Give the squared error [B] of latents."""
        return (difference.square() * self._channels(truth)[:, None, None]).flatten(1).mean(dim=1)

    def _channels(self, truth: Tensor) -> Tensor:
        """Give the weights [C] of channels: what they do to pixels, if that is asked for."""
        if self._weights is None:
            self._weights = torch.ones(truth.shape[2]).to(truth)
            if self.config.weigh_channels:
                self._weights = pixel_effects(self.networks, self.held_out)
        return self._weights

    def _noised(self, wanted: Tensor, generator: torch.Generator) -> Tensor:
        """Give a true block as history, noised a little: at run time it is a prediction."""
        level = torch.tensor(self.config.history_noise * float(torch.rand(1, generator=generator)))
        return mix(wanted, _noise_like(wanted, generator), level)

    def validate(self) -> dict[str, float]:
        """Generate held-out clips."""
        return measure(self.networks, self.held_out)


class SpreadStage(InitialisationStage):
    """Go on with the initialisation by the energy score, too: samples shall differ as much as what could be there.

    Squared errors alone teach a network to make nothing of its noise, and each thing that it does make of it is an
    error. Here two samples are made of each clip. The shares of own guesses are even: a sample that differs is worth
    carrying on only where the network has also seen that the block before tells the truth.
    """

    name = 'spread'
    goes_by = ('history_noise', 'spread', 'weigh_channels')

    def __init__(self, networks: Networks, encoded: EncodedClips, held_out: ClipSource, config: LossConfig) -> None:
        super().__init__(networks, encoded, held_out, replace(
            config, local_start=False, own_history=OWN_SHARE, own_samples=OWN_SHARE))

    def draw(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Conditions]:
        """Draw half as many clips, each twice."""
        truth, conditions = self.encoded.draw(max(1, batch_size // 2), generator)
        return torch.cat([truth, truth]), conditions.twice()

    def judge(self, made: list[Tensor], truth: Tensor,
              conditions: Conditions) -> tuple[Tensor | float, dict[str, float]]:
        """Score the two samples of each block."""
        nets, scores, spreads = self.networks, [], []
        for index, found in enumerate(made):
            block = slice(index * nets.frames, (index + 1) * nets.frames)
            wanted, mask = truth.chunk(2)[0][:, block], conditions.mask.chunk(2)[0][:, block]
            score, spread = energy_score(found.chunk(2), wanted, mask, self._channels(truth),
                                         nets.config.transformer.patch_size[1:])
            scores.append(score.mean())
            spreads.append(float(spread))
        return self.config.spread * sum(scores) / len(scores), {'spread': sum(spreads) / len(spreads)}


@torch.no_grad()
def pixel_effects(networks: Networks, held_out: ClipSource) -> Tensor:
    """Give for each channel [C] the squared change of pixels when it changes, relative to the mean over channels.

    On the first held-out clips, so that it is the same for a run that goes on and for every stage.
    """
    latents, _ = networks.encode(next(iter(held_out.batches(PROBES))))
    latents, autoencoder, factor = latents[:, :networks.frames], networks.autoencoder, networks.config.autoencoder
    frames = (latents.shape[1] - 1) * factor.temporal_factor + 1
    size = [side * factor.spatial_factor for side in latents.shape[3:]]
    guide = None
    if factor.guided:
        render = torch.full((len(latents), frames, factor.image_channels, *size), networks.empty).to(latents)
        guide = render, torch.zeros_like(render[:, :, :1])
    still = autoencoder.decode(latents, guide, clamp=False)
    changes = []
    for channel in range(latents.shape[2]):
        moved = latents.clone()
        moved[:, :, channel] += PROBE_STEP
        changes.append((autoencoder.decode(moved, guide, clamp=False) - still).square().mean())
    effects = torch.stack(changes)
    return effects / effects.mean()


class JointStage:
    """Train transformer and decoder together on the pixels of the transformer's own roll-outs."""

    name = 'joint'
    goes_by = ('crop', 'pooled', 'latent')

    def __init__(self, networks: Networks, clips: ClipSource, held_out: ClipSource, config: LossConfig) -> None:
        self.networks, self.clips, self.held_out, self.config = networks, clips, held_out, config
        for part in networks.autoencoder.encoding_parts():
            part.requires_grad_(False)
        networks.leave_mend_and_texture()
        self.modules: dict[str, nn.Module] = networks.modules()

    def loss(self, batch_size: int, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Roll clips out to a random pass, decode a window, and compare with the truth."""
        nets, clips = self.networks, self.clips.draw(batch_size, generator)
        conditions = nets.conditions(clips)
        noise = nets.draw_noise(len(clips), generator)
        # The last pass is what is shown, so it is drawn half the time.
        passes = noise.shape[1]
        drawn = int(torch.randint(2 * passes - 2, (1,), generator=generator))
        latent = nets.roll_out(conditions, noise, min(drawn, passes - 1))
        cell = nets.config.autoencoder.spatial_factor
        window, rows, columns = crop(clips, *self.config.crop, nets.config.size_multiple, generator)
        part = latent[..., rows.start // cell:rows.stop // cell, columns.start // cell:columns.stop // cell]
        error = nets.autoencoder.decode(part, nets.guide(clips, rows, columns), clamp=False).float() - unit(
            window.truth.to(nets.device))
        square = error.square().mean(dim=(1, 2, 3, 4))
        relative = relative_error(square, clips)
        # The pooled error beside it sees the clips with large holes, which the relative one hardly does.
        loss = relative + self.config.pooled * square.mean()
        if self.config.latent:
            with torch.no_grad():
                truth = nets.autoencoder.encode(unit(clips.truth.to(nets.device))).float()
            loss = loss + self.config.latent * (latent - truth).square().mean()
        return loss, {'psnr': float(-10 * torch.log10(square.detach()).mean()),
                      'relative': float(relative.detach())}

    def validate(self) -> dict[str, float]:
        """Generate held-out clips."""
        return measure(self.networks, self.held_out)


def first_frames(clips: Clips, count: int) -> Clips:
    """Keep the first block of clips; their reference is left as it is."""
    return replace(clips, **{name: getattr(clips, name)[:, :count] for name in ('truth', 'filled', 'mask')})


def relative_error(square: Tensor, clips: Clips) -> Tensor:
    """Give the mean over clips of a window's squared error [B], relative to that of the filled render of the clip.

    PSNR's mean over clips is a logarithm, whose slope is one over a clip's error. A window's error says little of its
    clip's (many windows hold no hole), so the slope is taken from the filled render's, over the whole clip.
    """
    filled = (unit(clips.filled) - unit(clips.truth)).square().mean(dim=(1, 2, 3, 4))
    return (square / (filled.to(square) + LEAST_SQUARE)).mean()


def blank(render: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Give a guide that shows nothing: all hole, filled with the render's mean colour."""
    return render.mean(dim=(1, 3, 4), keepdim=True).expand_as(render), torch.zeros_like(mask)


def drop_guide(render: Tensor, mask: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Take the guide away from a share of the clips."""
    dropped = (torch.rand(len(render), 1, 1, 1, 1, generator=generator) < share).to(render.device)
    empty = blank(render, mask)
    return torch.where(dropped, empty[0], render), torch.where(dropped, empty[1], mask)


def latent_spread(latent: Tensor) -> Tensor:
    """Say how far the channels of latents [B, T, C, h, w] are from mean 0 and standard deviation 1."""
    channels = latent.float().transpose(0, 2).flatten(1)
    return channels.mean(dim=1).square().mean() + (channels.std(dim=1) - 1).square().mean()


def _noise_like(latent: Tensor, generator: torch.Generator) -> Tensor:
    return normal(latent.shape, generator, latent.device)


def _psnr(image: Tensor, truth: Tensor) -> float:
    return float(-10 * torch.log10((image.float() - truth).square().mean()))
