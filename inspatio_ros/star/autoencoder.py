# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The tiny video autoencoder: TAEHV in its taew2_1 layout, and a guided form whose decoder sees the render.

Pixels are RGB in [0, 1], [N, T, 3, H, W]; latents [N, T', C, h, w]. All convolutions are over the image plane; time
enters through memory blocks (which look one step back at their own layer), pooling and growing. The network is
causal, so a stream in pieces gives what the whole clip gives; what it must remember is an explicit state.

Grouping of frames into latents, with F = `temporal_factor` frames a latent:
- padding 'start': F-1 copies of the first frame come before it, so that latents stand for 1, F, F, ... frames. It is
  the grouping of the packed mask and of the decoder's output, and it can be streamed live.
- padding 'end' (the release): the clip is filled up with copies of its last frame, so that latents stand for F, F, ...

The linear form (`AutoencoderConfig.linear`) adds a linear map of whole cells, whose best weights are known (principal
components), so that the convolutions only learn what is not linear. The guided form (`AutoencoderConfig.guided`) gives
the decoder the filled render and its mask at pixel resolution:
image = gate * render + (1 - gate) * decoded + residual, where the gate starts from the mask. With `mend_width` the
render's known pixels are mended first (star/mend.py); with `texture_width` holes get texture at last, where the guide
has noise to make it of (star/texture.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inspatio_ros.config import AutoencoderConfig
from inspatio_ros.errors import ConfigurationError
from inspatio_ros.star.mend import Mend
from inspatio_ros.star.texture import Texture

#: The filled render [N, T, 3, H, W] in [0, 1] and its mask [N, T, 1, H, W] (1 known, 0 hole); with noise that lies on
#: the scene [N, T, 1, H, W] holes get texture.
Guide = tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]
Memory = list[Tensor | None]

#: Latents are squashed to this range before they are decoded (a constant of TAEHV).
LATENT_BOUND = 3.


class Squash(nn.Module):
    """Bound latents smoothly: 3 tanh(z / 3)."""

    def forward(self, x: Tensor) -> Tensor:
        """Bound [N, C, h, w]."""
        return torch.tanh(x / LATENT_BOUND) * LATENT_BOUND


class MemoryBlock(nn.Module):
    """Residual block over a frame and the frame before it, at the same layer (zeros before the first)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Tensor, batch: int, memory: Tensor | None) -> tuple[Tensor, Tensor]:
        """Map [N*T, C, h, w] and the frame before it [N, C, h, w] to the same shape and the frame to remember."""
        frames = x.unflatten(0, (batch, -1))
        before = torch.zeros_like(frames[:, 0]) if memory is None else memory.to(x.dtype)
        past = torch.cat([before[:, None], frames[:, :-1]], dim=1).flatten(0, 1)
        # A clone: a view would keep the whole clip's activations alive in the state.
        return F.relu(self.conv(torch.cat([x, past], dim=1)) + x), frames[:, -1].clone()


class TimePool(nn.Module):
    """Join each `stride` frames into one by a 1x1 convolution over their channels."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(width * stride, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N*T, C, h, w] to [N*T/stride, C, h, w]."""
        return self.conv(x.reshape(-1, self.stride * x.shape[1], *x.shape[2:]))


class TimeGrow(nn.Module):
    """Split each frame into `stride` frames by a 1x1 convolution."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width * stride, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N*T, C, h, w] to [N*T*stride, C, h, w]."""
        return self.conv(x).reshape(-1, *x.shape[1:])


class JoiningConvolution(nn.Conv2d):
    """A convolution of several images that stand for one image of all their channels."""

    def forward(self, *parts: Tensor) -> Tensor:
        """Map images [N, C, h, w] that together have `in_channels` to [N, C', h, w]."""
        return super().forward(torch.cat(parts, dim=1))


class GuideHead(nn.Module):
    """What the decoder sees of the render, and the gate between the render and what was decoded.

    Untrained, the gate is the mask itself.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        width, patch = config.guide_width, config.patch_size
        stage, features = config.decoder_widths[2], config.decoder_widths[3]
        self.patch_size = patch
        self.unshuffle = _unshuffle
        self.stem = nn.Conv2d((config.image_channels + 1) * patch**2, width, 3, padding=1)
        self.down = nn.Conv2d(width, stage, 3, stride=2 if config.space[0] else 1, padding=1)
        self.join = nn.Conv2d(stage, stage, 1)
        self.mix = JoiningConvolution(features + width, width, 3, padding=1)
        self.out = nn.Conv2d(width, (config.image_channels + 1) * patch**2, 3, padding=1)

    def start_as_mask(self) -> None:
        """Make the gate the mask itself, without residual, and the join nothing."""
        for layer in (self.join, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def look(self, render: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Give features of a render [B, 3, H, W] and mask [B, 1, H, W]: at patch resolution, and for the decoder."""
        fine = F.relu(self.stem(self.unshuffle(torch.cat([render, mask], dim=1), self.patch_size)))
        return fine, self.join(F.relu(self.down(fine)))

    def blend(self, features: Tensor, fine: Tensor, decoded: Tensor, render: Tensor, mask: Tensor) -> Tensor:
        """Blend the decoded image [B, 3, H, W] with the render, by the decoder's features and the guide's."""
        mixed = F.relu_(self.mix(features, fine))
        change = _shuffle(self.out(mixed), self.patch_size).to(decoded.dtype)
        gate = (mask + change[:, -1:]).clamp(0, 1)
        return decoded + gate * (render - decoded) + change[:, :-1]


@dataclass
class EncoderState:
    """What the encoder remembers between pieces of a stream: waiting frames [N, T, 3, H, W] and one frame a block."""

    padding: str
    waiting: Tensor | None = None
    started: bool = False
    memory: Memory = field(default_factory=list)


@dataclass
class DecoderState:
    """What the decoder remembers between pieces of a stream: one frame a block."""

    started: bool = False
    memory: Memory = field(default_factory=list)


class TinyAutoencoder(nn.Module):
    """Encoder and decoder of one AutoencoderConfig; parameters are named as TAEHV's (the guide adds its own)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        if config.guided and config.time[0]:
            raise ConfigurationError('a guided autoencoder needs time[0] = false: '
                                     'the render joins the decoder where it has every frame')
        if config.mend_width and not config.guided:
            raise ConfigurationError('mend_width mends what a guided decoder is shown; set guided = true')
        if config.texture_width and not config.guided:
            raise ConfigurationError('texture_width gives holes texture, of which a guided decoder knows; '
                                     'set guided = true')
        self.encoder = nn.Sequential(*_encoder_layers(config))
        self.decoder = nn.Sequential(*_decoder_layers(config))
        self._unshuffle = _unshuffle
        if config.guided:
            self.guide = GuideHead(config)
        self.mend = Mend(config.image_channels, config.mend_width) if config.mend_width else None
        if config.linear:
            self.linear_encoder = nn.Conv2d(config.values_per_cell, config.latent_channels, 1)
            self.linear_decoder = nn.Conv2d(config.latent_channels, config.values_per_cell, 1)
        memory_blocks = [i for i, layer in enumerate(self.decoder) if isinstance(layer, MemoryBlock)]
        self._join_before = memory_blocks[-config.blocks_per_stage]
        self.reset_parameters()
        self.texture = Texture(config.image_channels, config.texture_width) if config.texture_width else None

    def reset_parameters(self) -> None:
        """Draw new weights, ready to be trained: variance is kept from layer to layer, residual branches start at 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                gain = 'linear' if module.kernel_size == (1, 1) else 'relu'
                nn.init.kaiming_normal_(module.weight, nonlinearity=gain)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, MemoryBlock):
                nn.init.zeros_(module.conv[-1].weight)
        # Small latents and pixels about mid grey to begin with.
        nn.init.xavier_normal_(self.encoder[-1].weight)
        nn.init.xavier_normal_(self.decoder[-1].weight, gain=0.1)
        nn.init.constant_(self.decoder[-1].bias, 0.5)
        if self.config.guided:
            self.guide.start_as_mask()
        if self.mend is not None:
            self.mend.start_as_nothing()

    def fuse(self) -> TinyAutoencoder:
        """Take faster layers that give the same numbers, for inference; after loading only."""
        from inspatio_ros.star import fused_layers
        for layers in (self.encoder, self.decoder):
            fused_layers.fuse_layers(layers)
        self._unshuffle = fused_layers.unshuffle
        if self.config.guided:
            self.guide.unshuffle = fused_layers.unshuffle
        return self.to(memory_format=torch.channels_last)

    def encoding_parts(self) -> list[nn.Module]:
        """List the modules that make latents; the others make pixels of them."""
        return [self.encoder, self.linear_encoder] if self.config.linear else [self.encoder]

    # Whole clips

    def encode(self, clip: Tensor, padding: str = 'start') -> Tensor:
        """Encode a clip [N, T, 3, H, W] in [0, 1] to latents [N, T', C, h, w]."""
        state = self.encoder_state(padding)
        latents = [self.encode_step(state, clip)]
        if state.waiting is not None:
            latents.append(self.encode_finish(state))
        return torch.cat(latents, dim=1)

    def decode(self, latent: Tensor, guide: Guide | None = None, clamp: bool = True) -> Tensor:
        """Decode latents [N, T', C, h, w] to a clip [N, (T'-1)*F + 1, 3, H, W] in [0, 1]."""
        return self.decode_step(self.decoder_state(), latent, guide, clamp)

    # Streams

    def encoder_state(self, padding: str = 'start') -> EncoderState:
        """Start a stream of frames."""
        if padding not in ('start', 'end'):
            raise ConfigurationError(f"padding {padding!r} is unknown; choose 'start' or 'end'")
        return EncoderState(padding, memory=[None] * len(self.encoder))

    def encode_step(self, state: EncoderState, frames: Tensor) -> Tensor:
        """Encode the next frames [N, T, 3, H, W]; gives the latents they complete [N, k, C, h, w], k may be 0."""
        self._check_frames(frames)
        factor = self.config.temporal_factor
        if not state.started and state.padding == 'start':
            frames = torch.cat([frames[:, :1].expand(-1, factor - 1, -1, -1, -1), frames], dim=1)
        if state.waiting is not None:
            frames = torch.cat([state.waiting, frames], dim=1)
        state.started = True
        whole = frames.shape[1] // factor * factor
        state.waiting = frames[:, whole:].clone() if whole < frames.shape[1] else None
        if whole == 0:
            return self._no_latent(frames)
        return self._encode_groups(state, frames[:, :whole])

    def encode_finish(self, state: EncoderState) -> Tensor:
        """Complete the last latent of a stream with copies of its last frame: [N, 1, C, h, w]."""
        if state.waiting is None:
            raise ValueError('the stream holds no unfinished latent')
        missing = self.config.temporal_factor - state.waiting.shape[1]
        frames = torch.cat([state.waiting, state.waiting[:, -1:].expand(-1, missing, -1, -1, -1)], dim=1)
        state.waiting = None
        return self._encode_groups(state, frames)

    def decoder_state(self) -> DecoderState:
        """Start a stream of latents."""
        return DecoderState(memory=[None] * len(self.decoder))

    def decode_step(self, state: DecoderState, latent: Tensor, guide: Guide | None = None,
                    clamp: bool = True) -> Tensor:
        """Decode the next latents [N, k, C, h, w] to frames [N, k*F, 3, H, W]; the first F-1 of a stream are dropped.

        `guide` covers exactly the frames that come out. `clamp` bounds pixels to [0, 1] (training leaves it off).
        """
        self._check_latent(latent)
        first, state.started = not state.started, True
        if not self.config.guided:
            pixels = self._decode_plain(state, latent)
        else:
            pixels = self._decode_guided(state, latent, self._aligned_guide(latent, guide, first))
        if first:
            pixels = pixels[:, self.config.temporal_factor - 1:]
        return pixels.clamp(0, 1) if clamp else pixels

    # Inside

    def _encode_groups(self, state: EncoderState, frames: Tensor) -> Tensor:
        batch = frames.shape[0]
        x = self._unshuffle(frames.flatten(0, 1), self.config.patch_size)
        latent = _run(self.encoder, x, batch, state.memory, 0, len(self.encoder))
        if self.config.linear:
            latent = latent + self.linear_encoder(fold(frames, self.config))
        return latent.unflatten(0, (batch, -1))

    def _decode_plain(self, state: DecoderState, latent: Tensor) -> Tensor:
        batch = latent.shape[0]
        x = _run(self.decoder, latent.flatten(0, 1), batch, state.memory, 0, len(self.decoder))
        return self._pixels(x, latent).unflatten(0, (batch, -1))

    def _decode_guided(self, state: DecoderState, latent: Tensor, guide: Guide) -> Tensor:
        batch, last = latent.shape[0], len(self.decoder) - 1
        render, mask, *grain = (part.flatten(0, 1) for part in guide)
        fine, joined = self.guide.look(render, mask)
        x = _run(self.decoder, latent.flatten(0, 1), batch, state.memory, 0, self._join_before)
        features = _run(self.decoder, x + joined, batch, state.memory, self._join_before, last)
        decoded = self._pixels(self.decoder[last](features), latent).to(render.dtype)
        shown = render if self.mend is None else self.mend(render, mask)
        image = self.guide.blend(features, fine, decoded, shown, mask)
        if grain and self.texture is not None:
            image = self.texture(image, mask, *grain, scale=self.config.texture_scale)
        return image.unflatten(0, (batch, -1))

    def _pixels(self, out: Tensor, latent: Tensor) -> Tensor:
        """Give the pixels [N*T, 3, H, W] of the decoder's last layer, with those of the linear map from latents."""
        pixels = _shuffle(out, self.config.patch_size)
        if self.config.linear:
            pixels = pixels + unfold(self.linear_decoder(latent.flatten(0, 1)), self.config)
        return pixels

    def _aligned_guide(self, latent: Tensor, guide: Guide | None, first: bool) -> Guide:
        if guide is None:
            raise ValueError('a guided decoder needs guide=(render, mask)')
        dropped = self.config.temporal_factor - 1 if first else 0
        frames = latent.shape[1] * self.config.temporal_factor - dropped
        n, _, _, h, w = latent.shape
        factor = self.config.spatial_factor
        for name, part, channels in zip(('render', 'mask', 'grain'), guide, (self.config.image_channels, 1, 1),
                                        strict=False):
            wanted = (n, frames, channels, h * factor, w * factor)
            if tuple(part.shape) != wanted:
                raise ValueError(f"the guide's {name} must be {wanted}, got {tuple(part.shape)}")
        if not dropped:
            return guide
        return tuple(torch.cat([part[:, :1].expand(-1, dropped, -1, -1, -1), part], dim=1) for part in guide)

    def _no_latent(self, frames: Tensor) -> Tensor:
        factor = self.config.spatial_factor
        n, _, _, h, w = frames.shape
        return frames.new_zeros(n, 0, self.config.latent_channels, h // factor, w // factor)

    def _check_frames(self, frames: Tensor) -> None:
        factor, channels = self.config.spatial_factor, self.config.image_channels
        if frames.ndim != 5 or frames.shape[2] != channels or frames.shape[3] % factor or frames.shape[4] % factor:
            raise ValueError(f'frames must be [N, T, {channels}, H, W] with H and W multiples of {factor}, '
                             f'got {tuple(frames.shape)}')

    def _check_latent(self, latent: Tensor) -> None:
        if latent.ndim != 5 or latent.shape[2] != self.config.latent_channels:
            raise ValueError(f'latents must be [N, T, {self.config.latent_channels}, h, w], got {tuple(latent.shape)}')


def cut_time_growth(state_dict: dict[str, Tensor], config: AutoencoderConfig) -> dict[str, Tensor]:
    """Cut time-growing weights of a TAEHV file that grow where `config` does not: the last rows are kept.

    The released file stores two frames a step for the decoder's first stage; the taew2_1 layout wants the last one.
    """
    with torch.device('meta'):
        model = TinyAutoencoder(config)
    cut = dict(state_dict)
    for index, layer in enumerate(model.decoder):
        name = f'decoder.{index}.conv.weight'
        if isinstance(layer, TimeGrow) and name in cut and cut[name].shape[0] > layer.conv.weight.shape[0]:
            cut[name] = cut[name][-layer.conv.weight.shape[0]:].clone()
    return cut


def fold(frames: Tensor, config: AutoencoderConfig) -> Tensor:
    """Fold frames [N, T, 3, H, W] into the latents' cells: [N * T', values_per_cell, h, w]."""
    cells = F.pixel_unshuffle(frames.flatten(0, 1), config.spatial_factor)
    return cells.reshape(-1, config.values_per_cell, *cells.shape[2:])


def unfold(cells: Tensor, config: AutoencoderConfig) -> Tensor:
    """Undo `fold`: [N * T', values_per_cell, h, w] to frames [N * T, 3, H, W]."""
    frames = cells.reshape(-1, cells.shape[1] // config.temporal_factor, *cells.shape[2:])
    return F.pixel_shuffle(frames, config.spatial_factor)


def _encoder_layers(config: AutoencoderConfig) -> list[nn.Module]:
    widths = config.encoder_widths
    layers = [nn.Conv2d(config.image_channels * config.patch_size**2, widths[0], 3, padding=1), nn.ReLU(inplace=True)]
    for stage in range(3):
        layers += [TimePool(widths[stage], 2 if config.time[stage] else 1),
                   nn.Conv2d(widths[stage], widths[stage + 1], 3, stride=2 if config.space[stage] else 1, padding=1,
                             bias=False)]
        layers += [MemoryBlock(widths[stage + 1]) for _ in range(config.blocks_per_stage)]
    return [*layers, nn.Conv2d(widths[3], config.latent_channels, 3, padding=1)]


def _decoder_layers(config: AutoencoderConfig) -> list[nn.Module]:
    widths = config.decoder_widths
    layers = [Squash(), nn.Conv2d(config.latent_channels, widths[0], 3, padding=1), nn.ReLU(inplace=True)]
    for stage in range(3):
        layers += [MemoryBlock(widths[stage]) for _ in range(config.blocks_per_stage)]
        layers += [nn.Upsample(scale_factor=2 if config.space[2 - stage] else 1),
                   TimeGrow(widths[stage], 2 if config.time[2 - stage] else 1),
                   nn.Conv2d(widths[stage], widths[stage + 1], 3, padding=1, bias=False)]
    out = nn.Conv2d(widths[3], config.image_channels * config.patch_size**2, 3, padding=1)
    return [*layers, nn.ReLU(inplace=True), out]


def _run(layers: nn.Sequential, x: Tensor, batch: int, memory: Memory, start: int, stop: int) -> Tensor:
    """Run layers start..stop-1 over [N*T, C, h, w], and note in `memory` what each memory block must remember."""
    # CPU convolutions are about three times as fast on channels-last memory.
    x = x.contiguous(memory_format=torch.channels_last)
    for index in range(start, stop):
        layer = layers[index]
        if isinstance(layer, MemoryBlock):
            x, memory[index] = layer(x, batch, memory[index])
        else:
            x = layer(x)
    return x


def _unshuffle(image: Tensor, patch: int) -> Tensor:
    return F.pixel_unshuffle(image, patch) if patch > 1 else image


def _shuffle(image: Tensor, patch: int) -> Tensor:
    return F.pixel_shuffle(image, patch) if patch > 1 else image
