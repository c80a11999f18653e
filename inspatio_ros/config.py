# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Every size of the method, typed once; what follows from a size is derived, never typed again."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from inspatio_ros.errors import ConfigurationError


@dataclass(frozen=True)
class TransformerConfig:
    """The diffusion transformer; the defaults are the released 1.3B (Wan2.1-T2V with a widened input)."""

    patch_size: tuple[int, int, int] = (1, 2, 2)
    text_len: int = 512
    in_dim: int = 36
    dim: int = 1536
    ffn_dim: int = 8960
    freq_dim: int = 256
    text_dim: int = 4096
    out_dim: int = 16
    num_heads: int = 12
    num_layers: int = 30
    qk_norm: bool = True
    cross_attn_norm: bool = True
    eps: float = 1e-6
    #: Base of the rotary frequencies: the wavelengths along an axis reach from 2 pi tokens to nearly base times that.
    rope_base: float = 10000.

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dim // self.num_heads

    @property
    def condition_dim(self) -> int:
        """Channels of mask and render that follow the latent's own."""
        return self.in_dim - self.out_dim


@dataclass(frozen=True)
class AutoencoderConfig:
    """The tiny video autoencoder; the defaults are TAEHV in its taew2_1 layout.

    `patch_size` folds pixels into channels before the first and unfolds them after the last convolution; `space`
    and `time` say which of the encoder's three stages halve (the decoder's stages double in the opposite order).
    `guided` adds the head that sees the render and the mask at pixel resolution (see star/autoencoder.py); `linear`
    adds a linear map between whole blocks of pixels (space x space x time) and latents, beside the convolutions;
    `mend_width` above 0 has convolutions of that width mend known pixels of the render before they are blended in;
    `texture_width` above 0 has a network of that width give made-up regions texture (star/texture.py), of which
    `texture_scale` (0 to 1) is added when the decoder runs; it is trained with all of it.
    """

    latent_channels: int = 16
    image_channels: int = 3
    patch_size: int = 1
    encoder_widths: tuple[int, int, int, int] = (64, 64, 64, 64)
    decoder_widths: tuple[int, int, int, int] = (256, 128, 64, 64)
    blocks_per_stage: int = 3
    space: tuple[bool, bool, bool] = (True, True, True)
    time: tuple[bool, bool, bool] = (True, True, False)
    guided: bool = False
    guide_width: int = 0
    linear: bool = False
    mend_width: int = 0
    texture_width: int = 0
    texture_scale: float = 1.

    def __post_init__(self) -> None:
        if not 0 <= self.texture_scale <= 1:
            raise ConfigurationError(f'texture_scale is {self.texture_scale}; it is a share of the texture from 0 to 1')

    @property
    def spatial_factor(self) -> int:
        """Pixels per latent cell along one image axis."""
        return self.patch_size * 2 ** sum(self.space)

    @property
    def temporal_factor(self) -> int:
        """Pixel frames per latent frame."""
        return 2 ** sum(self.time)

    @property
    def values_per_cell(self) -> int:
        """Numbers of the clip that one latent cell stands for."""
        return self.image_channels * self.spatial_factor**2 * self.temporal_factor


@dataclass(frozen=True)
class SchedulerConfig:
    """Flow matching: sigmas from 1 to 0 (exclusive), warped by `shift`; steps are counted down from 1000."""

    num_train_timesteps: int = 1000
    shift: float = 5.0
    sigma_min: float = 0.0
    denoising_steps: tuple[int, ...] = (1000, 750, 500, 250)


@dataclass(frozen=True)
class GeneratorConfig:
    """One generator: its networks, its image size and its rate."""

    name: str = '1.3b'
    width: int = 832
    height: int = 480
    frame_rate: float = 24.0
    latent_frames_per_block: int = 3
    #: 'flow': the network predicts the velocity (the released weights); 'residual': it predicts the clean latent
    #: as a residual on the render's latent (what trains at a small size, docs/nano.md).
    prediction: str = 'flow'
    #: How holes of the render are filled before it is encoded: 'black' (the released weights), 'nearest', 'smooth'.
    condition_fill: str = 'black'
    #: Where tokens lie for attention: 'grid', in their own picture (the released weights), or 'reprojected': where the
    #: block's camera sees their content, by depth and poses (spatial/positions.py, docs/nano.md).
    positions: str = 'grid'
    #: Share of the step across a seam between tokens that each of the two cells beside it takes over where the picture
    #: is made up (star/seams.py, docs/nano.md): 0 to 0.5; the released weights need none.
    smooth_seams: float = 0.
    #: Standard deviation of the noise that blocks are generated from, 0 to 1. Less than the 1 that networks are trained
    #: with (and the released weights run with): samples nearer to the mean of what could be there, and to each other.
    noise_scale: float = 1.
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)

    def __post_init__(self) -> None:
        _one_of('prediction', self.prediction, ('flow', 'residual'))
        _one_of('condition_fill', self.condition_fill, ('black', 'nearest', 'smooth'))
        _one_of('positions', self.positions, ('grid', 'reprojected'))
        if not 0 <= self.smooth_seams <= 0.5:
            raise ConfigurationError(f'smooth_seams is {self.smooth_seams}; it is a share from 0 to 0.5')
        if not 0 <= self.noise_scale <= 1:
            raise ConfigurationError(f'noise_scale is {self.noise_scale}; it is a standard deviation from 0 to 1')
        if self.autoencoder.texture_width and self.positions != 'reprojected':
            raise ConfigurationError('texture_width needs positions = reprojected: texture lies on the '
                                     'scene by its poses and depth')
        check_size(self.width, self.height, self.size_multiple)

    @property
    def size_multiple(self) -> int:
        """Width and height must be multiples of this: one token of the transformer."""
        return self.autoencoder.spatial_factor * self.transformer.patch_size[1]

    @property
    def latent_height(self) -> int:
        """Rows of a latent frame."""
        return self.height // self.autoencoder.spatial_factor

    @property
    def latent_width(self) -> int:
        """Columns of a latent frame."""
        return self.width // self.autoencoder.spatial_factor

    @property
    def tokens_per_latent_frame(self) -> int:
        """Tokens of the transformer for one latent frame."""
        _, patch_h, patch_w = self.transformer.patch_size
        return (self.latent_height // patch_h) * (self.latent_width // patch_w)

    @property
    def tokens_per_block(self) -> int:
        """Tokens of the transformer for one block."""
        return self.tokens_per_latent_frame * self.latent_frames_per_block

    @property
    def frames_per_block(self) -> int:
        """Pixel frames of every block but the first."""
        return self.latent_frames_per_block * self.autoencoder.temporal_factor

    @property
    def frames_in_first_block(self) -> int:
        """Pixel frames of the first block: its first latent stands for one frame only."""
        return self.frames_per_block - self.autoencoder.temporal_factor + 1


def check_size(width: int, height: int, multiple: int = 16) -> None:
    """Raise ConfigurationError unless width and height are positive multiples of `multiple`."""
    for name, value in (('width', width), ('height', height)):
        if value <= 0 or value % multiple:
            below = max(multiple, value // multiple * multiple)
            raise ConfigurationError(
                f'{name} {value} is not a positive multiple of {multiple}; try {below} or {below + multiple}')


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigurationError(f'{name} {value!r} is unknown; choose one of {", ".join(known)}')


def to_dict(config: Any) -> dict[str, Any]:
    """Turn a configuration into plain JSON types."""
    plain = {}
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            value = to_dict(value)
        elif isinstance(value, tuple):
            value = list(value)
        plain[item.name] = value
    return plain


_NESTED = {'transformer': TransformerConfig, 'autoencoder': AutoencoderConfig, 'scheduler': SchedulerConfig}


def as_trained(config: GeneratorConfig | AutoencoderConfig) -> dict[str, Any]:
    """Give a configuration without what it says of running alone: checkpoints of other such settings go on."""
    plain = to_dict(config)
    plain.get('autoencoder', plain).pop('texture_scale')
    return plain


def from_dict(cls: type, plain: dict[str, Any]) -> Any:
    """Build a configuration from plain JSON types; an unknown key is an error that names it."""
    known = {item.name for item in fields(cls)}
    unknown = sorted(set(plain) - known)
    if unknown:
        raise ConfigurationError(
            f'{cls.__name__} has no field {unknown[0]!r}; it has {", ".join(sorted(known))}')
    values = {}
    for name, value in plain.items():
        if name in _NESTED and isinstance(value, dict):
            value = from_dict(_NESTED[name], value)
        elif isinstance(value, list):
            value = tuple(value)
        values[name] = value
    for item in fields(cls):
        if item.name in values:
            _check_kind(item.name, values[item.name], item.default)
    return cls(**values)


def _check_kind(name: str, value: Any, default: Any) -> None:
    """Refuse a value of another kind than a field's default."""
    if isinstance(default, bool):
        fits, kind = isinstance(value, bool), 'true or false'
    elif isinstance(default, int):
        fits, kind = isinstance(value, int) and not isinstance(value, bool), 'a whole number'
    elif isinstance(default, float):
        # YAML takes 2e-5 for a word.
        fits, kind = isinstance(value, int | float) and not isinstance(value, bool), 'a number; write 2.0e-5, not 2e-5'
    elif isinstance(default, str):
        fits, kind = isinstance(value, str), 'a word'
    elif isinstance(default, tuple):
        fits, kind = isinstance(value, tuple), 'a list'
    else:
        return
    if not fits:
        raise ConfigurationError(f'{name} {value!r} is not {kind}')
