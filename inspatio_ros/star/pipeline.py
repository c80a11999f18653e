# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""STAR from pixels to pixels, one block at a time: fill, encode, generate, decode.

The same class runs every size. All of it streams: the render's encoder, the reference's encoder (or a bounded store of
the latents of stills), the generator's cache and the decoder each keep what one block leaves to the next.

Latents stand for 1 + 4 + 4 ... frames, as the packed mask does and as the large autoencoder groups them. The released
code groups 4 + 4 + 4 with the tiny one, which puts mask and render up to three frames apart and needs frames that a
live stream does not have yet; that grouping is there as TinyAutoencoder's padding 'end'.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from inspatio_ros.config import GeneratorConfig
from inspatio_ros.errors import ConfigurationError, WeightsError
from inspatio_ros.spatial.grain import GrainField
from inspatio_ros.spatial.positions import BlockPositions, BlockViews, TokenViews, block_positions, latent_views
from inspatio_ros.spatial.render import Condition
from inspatio_ros.star.autoencoder import Guide, TinyAutoencoder, cut_time_growth
from inspatio_ros.star.checkpoint import find_file, find_folder, load_config, load_module
from inspatio_ros.star.condition import pack_mask
from inspatio_ros.star.generator import BlockGenerator, GeneratorState
from inspatio_ros.star.presets import RELEASED
from inspatio_ros.star.scheduler import FlowScheduler
from inspatio_ros.star.speed import Speed, find_speed, speed_up
from inspatio_ros.star.text import embed_caption, load_embedding, save_embedding
from inspatio_ros.star.transformer import DiffusionTransformer

#: File names in a folder of weights: ours, then those of the release and of TAEHV. The release's own download brings
#: the 14B beside the 1.3B, and umT5 once for each of them.
TRANSFORMER_FILES = ('transformer.safetensors', 'InSpatio-World-1.3B*.safetensors', 'InSpatio-World*.safetensors',
                     'InSpatio-World*.pt')
AUTOENCODER_FILES = ('autoencoder.safetensors', 'taew2_1.safetensors', 'taew2_1.pth')
TEXT_FILES = ('text.safetensors',)
_SMALL_WAN = 'Wan2.1-T2V-1.3B/**'
TEXT_ENCODER_FILES = ('models_t5_umt5-xxl-enc-bf16.safetensors', f'{_SMALL_WAN}/models_t5_umt5-xxl-enc-bf16.pth',
                      'models_t5_umt5-xxl-enc-bf16.pth')
TOKENIZER_FILES = (f'{_SMALL_WAN}/umt5-xxl/tokenizer.json', 'umt5-xxl/tokenizer.json', 'umt5-xxl/spiece.model')

#: Latents of stills that are kept; at 832x480 one takes 0.4 MB.
KEPT_STILLS = 64


class StarPipeline:
    """A generator of images, block by block, deterministic under its seed.

    Args:
        config: sizes, rates and the kind of prediction.
        transformer: the network, ready for inference.
        autoencoder: the tiny autoencoder, ready for inference.
        text_embedding: the caption [1, L, text_dim].
        seed: where the noise starts.
        speed: one of speed.SPEEDS.
        texture: whether made-up regions get texture, where the weights hold what gives it (star/texture.py).

    Attributes: `name`, `width`, `height`, `frame_rate`; `reference_count`, the stills that a block of a static
    reference takes; `speed_report`, what was done to be fast (see speed.speed_up).

    """

    def __init__(self, config: GeneratorConfig, transformer: DiffusionTransformer, autoencoder: TinyAutoencoder,
                 text_embedding: Tensor, seed: int = 0, speed: str | Speed = 'plain', texture: bool = False) -> None:
        self.config = config
        self.texture = texture and autoencoder.texture is not None
        self.transformer = transformer.eval().requires_grad_(False)
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self.blocks = BlockGenerator(config, self.transformer, FlowScheduler(config.scheduler), text_embedding)
        self.name, self.width, self.height = config.name, config.width, config.height
        self.frame_rate = config.frame_rate
        self.reference_count = config.latent_frames_per_block
        self.token = config.size_multiple if config.positions == 'reprojected' else 0
        self._state: GeneratorState | None = None
        self.speed_report = speed_up(self, speed)
        self.reset(seed)

    @classmethod
    def load(cls, name: str, weights_dir: str | Path | None = None, device: torch.device | str = 'cpu',
             width: int | None = None, height: int | None = None, caption: str | None = None,
             dtype: torch.dtype | None = None, speed: str | Speed = 'plain', texture: bool = False) -> StarPipeline:
        """Load a generator by name.

        Args:
            name: 'nano' or '1.3b'.
            weights_dir: see checkpoint.find_folder.
            device: where to run.
            width: image width in pixels; the trained one by default.
            height: image height in pixels; the trained one by default.
            caption: what the recording shows, for umT5; a stored embedding (text.safetensors) is used without one.
            dtype: what the transformer computes in: by default what `speed` says.
            speed: one of speed.SPEEDS.
            texture: whether made-up regions get texture, where the weights hold what gives it.

        Raises:
            WeightsError: files are missing (the message says which and where to put them) or do not fit.
            ConfigurationError: the size is not one that works, `speed` asks for what the machine lacks, or `texture`
                for what the weights lack.

        """
        speed = find_speed(speed)
        folder = find_folder(name, weights_dir)
        config = load_config(folder, RELEASED if name == RELEASED.name else None)
        if config.name != name:
            raise WeightsError(f'{folder} holds the weights of {config.name!r}, not of {name!r}; name another folder')
        if texture and not config.autoencoder.texture_width:
            raise ConfigurationError(f'the weights in {folder} hold nothing that gives texture; leave texture out, or '
                                     'choose nano')
        config = replace(config, width=width or config.width, height=height or config.height)
        device = torch.device(device)
        dtype = dtype or speed.dtype(device)
        with torch.device('meta'):
            transformer, autoencoder = DiffusionTransformer(config.transformer), TinyAutoencoder(config.autoencoder)
        load_module(transformer, find_file(folder, TRANSFORMER_FILES, 'transformer'), device, dtype)
        load_module(autoencoder, find_file(folder, AUTOENCODER_FILES, 'autoencoder'), device,
                    amend=partial(cut_time_growth, config=config.autoencoder))
        return cls(config, transformer, autoencoder, _text_embedding(folder, config, caption, device), speed=speed,
                   texture=texture)

    @classmethod
    def random(cls, config: GeneratorConfig, seed: int = 0, device: torch.device | str = 'cpu',
               dtype: torch.dtype = torch.float32, speed: str | Speed = 'plain') -> StarPipeline:
        """Make a pipeline of random weights, lively ones, for tests and because speed does not depend on them."""
        device = torch.device(device)
        # On the device itself: a CPU takes minutes for the released size.
        with torch.random.fork_rng(), torch.no_grad(), device:
            torch.manual_seed(seed)
            transformer, autoencoder = DiffusionTransformer(config.transformer), TinyAutoencoder(config.autoencoder)
            for module in (*transformer.modules(), *autoencoder.modules()):
                if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
                    # Of the size of the input at every layer: a fresh network's head is zero, and would hide the rest.
                    nn.init.normal_(module.weight, std=module.weight[0].numel()**-0.5)
            # Middle grey: pixels about zero would be clamped half the time.
            nn.init.constant_(autoencoder.decoder[-1].bias, 0.5)
            text = torch.randn(1, config.transformer.text_len, config.transformer.text_dim)
        return cls(config, transformer.to(device, dtype), autoencoder.to(device), text, seed, speed)

    @property
    def device(self) -> torch.device:
        """Where the networks live."""
        return self.transformer.device

    def frames_in_next_block(self) -> int:
        """Count the frames that the next step wants."""
        return self.frames_in_block(self._state.blocks)

    def frames_in_block(self, index: int) -> int:
        """Count the frames of the block `index` since the reset: 1 + 4 + 4 in the first, then 4 + 4 + 4, say."""
        return self.config.frames_per_block if index else self.config.frames_in_first_block

    def reset(self, seed: int = 0) -> None:
        """Forget every block and every reference, and draw noise from this seed."""
        # On the CPU whatever the device, so that a seed gives the same noise everywhere.
        generator = torch.Generator().manual_seed(seed)
        if self._state is None:
            self._state = self.blocks.init(1, generator)
        else:
            # In the same buffers: they take gigabytes at the released size, and CUDA graphs know their addresses.
            self.blocks.restart(self._state, generator)
        self._render_state = self.autoencoder.encoder_state()
        self._reference_state = self.autoencoder.encoder_state()
        self._decoder_state = self.autoencoder.decoder_state()
        self._previous_views: TokenViews | None = None
        self._grain = GrainField(seed)
        self._stills: OrderedDict[int, Tensor] = OrderedDict()
        self._watch = _Stopwatch(self.device)

    def forget(self, reference: bool = False) -> None:
        """Have the next block know nothing of those before, as behind a cut; noise and counting go on.

        What was generated elsewhere must not shine through: the cache's history, what encoder and decoder remember of
        the frame before, and where texture lay. The reference is another matter, and stays; `reference` says that its
        frames, aligned in time, do not go on from those before either.
        """
        self._state.previous = self._previous_views = None
        self._grain.forget()
        self._render_state = self.autoencoder.encoder_state()
        self._decoder_state = self.autoencoder.decoder_state()
        if reference:
            self._reference_state = self.autoencoder.encoder_state()

    @torch.inference_mode()
    def step(self, condition: Condition, reference_images: Tensor,
             reference_keys: tuple[int, ...] | None = None,
             views: BlockViews | None = None) -> tuple[Tensor, dict[str, float]]:
        """Make the next block.

        Args:
            condition: the render of the block's F = frames_in_next_block() frames.
            reference_images: float [R, 3, H, W] in [-1, 1]: `reference_count` stills, or F frames aligned in time,
                which must go on from block to block like a video.
            reference_keys: what each still is called, so that it is encoded once; a key stands for one image.
            views: where all of it is seen from; needed by `positions: reprojected` alone.

        Returns:
            Images float32 [F, 3, H, W] in [-1, 1], and the seconds of `fill`, `encode`, `generate`, `decode`.

        """
        images = torch.cat(list(self.stream(condition, reference_images, reference_keys, views)))
        return images, self.stage_seconds()

    @torch.inference_mode()
    def stream(self, condition: Condition, reference_images: Tensor,
               reference_keys: tuple[int, ...] | None = None,
               views: BlockViews | None = None) -> Iterator[Tensor]:
        """Make the next block as `step` does, and give its frames [k, 3, H, W] in parts, as they are decoded.

        The first part are the frames of the first latent (see latents_of_parts). All of them must be taken before the
        next block. Each is queued on the device when it is asked for, so that the first can leave while the next is
        decoded.
        """
        watch = self._watch = _Stopwatch(self.device)
        latent, guide = self._make_latent(condition, reference_images, reference_keys, views, watch)
        start, factor = 0, self.config.autoencoder.temporal_factor
        for part in latents_of_parts(latent.shape[1], self.device):
            # The first latent of a run stands for one frame.
            end = start + factor * len(part) - (0 if self._decoder_state.started else factor - 1)
            images = self._decode(latent[:, part.start:part.stop], guide and tuple(g[:, start:end] for g in guide))
            watch.lap('decode')
            yield images
            watch.skip()
            start = end

    def stage_seconds(self) -> dict[str, float]:
        """Give the seconds of each stage of the block made last, those of `step`; on a GPU this waits for its end."""
        return self._watch.seconds()

    def _make_latent(self, condition: Condition, reference_images: Tensor, reference_keys: tuple[int, ...] | None,
                     views: BlockViews | None, watch: _Stopwatch) -> tuple[Tensor, Guide | None]:
        """Give the block's latents [1, F', C, h, w] and what guides their decoder."""
        self._check(condition, reference_images, reference_keys)
        first = self._state.blocks == 0
        filled = _filled(condition, self.config.condition_fill)
        pixels = (filled + 1.).mul_(0.5)[None]
        guide = self._guide(pixels, condition.mask[None], views)
        watch.lap('fill')
        with self._autocast():
            if not (first or self._render_state.started):
                self._start_streams(pixels, guide)
            render_latent = self.autoencoder.encode_step(self._render_state, pixels).float()
            reference_latent = self._encode_reference(reference_images, reference_keys)
        factors = self.config.autoencoder.spatial_factor, self.config.autoencoder.temporal_factor
        mask_latent = pack_mask(condition.mask[None] * 2. - 1., first, *factors)
        watch.lap('encode')
        latent = self.blocks.step(self._state, reference_latent, render_latent, mask_latent,
                                  positions=self._positions(views, first))
        watch.lap('generate')
        return latent, guide

    def _start_streams(self, pixels: Tensor, guide: Guide | None) -> None:
        """Show encoder and decoder a block's first frame as the first of a stream, in four copies.

        Behind a cut the first latent stands for as many frames as any other, and neither network was trained on such a
        one with nothing before it.
        """
        latent = self.autoencoder.encode_step(self._render_state, pixels[:, :1])
        self._decode(latent.float(), guide and tuple(part[:, :1] for part in guide))

    def _guide(self, pixels: Tensor, mask: Tensor, views: BlockViews | None) -> Guide | None:
        """Give what guides the decoder: the filled render, its mask, and the noise that texture is made of."""
        if not self.config.autoencoder.guided:
            return None
        if not self.texture:
            return pixels, mask
        views = views.to(self.device)
        return pixels, mask, self._grain.look(views.K, views.block, mask)

    def _positions(self, views: BlockViews | None, first: bool) -> BlockPositions | None:
        """Place the block's tokens, its reference's and the previous block's in its camera, if that is asked for."""
        if self.config.positions == 'grid':
            return None
        if views is None:
            raise ValueError(f'{self.name} places what it remembers by poses and depth; give the views of the block')
        seen = latent_views(views.to(self.device), self.reference_count, self.config.autoencoder.temporal_factor, first)
        previous, self._previous_views = self._previous_views, seen.block
        return block_positions(seen, None if first else previous, self.config.size_multiple)

    def _decode(self, latent: Tensor, guide: Guide | None) -> Tensor:
        with self._autocast():
            images = self.autoencoder.decode_step(self._decoder_state, latent, guide)[0]
        return images.float().mul_(2.).sub_(1.)

    def _encode_reference(self, images: Tensor, keys: tuple[int, ...] | None) -> Tensor:
        """Give the reference's latents [1, latent frames, C, h, w] of stills or of aligned frames."""
        pixels = (images + 1.) * 0.5
        if keys is None and len(images) != self.reference_count:
            if self._state.blocks and not self._reference_state.started:
                self.autoencoder.encode_step(self._reference_state, pixels[None, :1])
            return self.autoencoder.encode_step(self._reference_state, pixels[None]).float()
        if keys is None:
            return self.autoencoder.encode(pixels[:, None]).transpose(0, 1).float()
        missing = {key: i for i, key in enumerate(keys) if key not in self._stills}
        if missing:
            encoded = self.autoencoder.encode(pixels[list(missing.values())][:, None]).float()
            # Clones: a view would keep all of the batch alive as long as one of them is kept.
            self._stills.update({key: encoded[i].clone() for i, key in enumerate(missing)})
        for key in keys:
            self._stills.move_to_end(key)
        while len(self._stills) > KEPT_STILLS:
            self._stills.popitem(last=False)
        return torch.stack([self._stills[key] for key in keys], dim=1)

    def _autocast(self) -> torch.autocast:
        # Convolutions in the transformer's type; the blend with the render stays in float32.
        dtype = self.transformer.dtype
        return torch.autocast(self.device.type, dtype, enabled=dtype in (torch.bfloat16, torch.float16))

    def _check(self, condition: Condition, images: Tensor, keys: tuple[int, ...] | None) -> None:
        frames, size = self.frames_in_next_block(), (3, self.height, self.width)
        if tuple(condition.image.shape) != (frames, *size):
            raise ValueError(f'the condition of this block must be {(frames, *size)}, '
                             f'got {tuple(condition.image.shape)}')
        if images.ndim != 4 or len(images) not in (frames, self.reference_count) or tuple(images.shape[1:]) != size:
            raise ValueError(f'the reference must be {self.reference_count} stills or {frames} frames of {size}, '
                             f'got {tuple(images.shape)}')
        if keys is not None and (len(keys) != self.reference_count or len(images) != self.reference_count):
            raise ValueError(f'{len(keys)} keys for {len(images)} reference images; stills take '
                             f'{self.reference_count} of each')


def latents_of_parts(count: int, device: torch.device) -> list[range]:
    """Split a block's latents into what is decoded at once: on a GPU each alone, on a CPU the first, then the others.

    The first frame is there as early either way. A CPU loses time with every call, and the frames of the first latent
    are shown for longer than it takes to decode the others.
    """
    edges = range(count + 1) if device.type == 'cuda' else sorted({0, 1, count})
    return [range(start, end) for start, end in pairwise(edges)]


def _filled(condition: Condition, method: str) -> Tensor:
    from inspatio_ros.spatial.fill import fill
    return fill(condition, method)


def _text_embedding(folder: Path, config: GeneratorConfig, caption: str | None, device: torch.device) -> Tensor:
    """Embed the caption, or read the stored embedding where there is none."""
    length, dim = config.transformer.text_len, config.transformer.text_dim
    if caption is None:
        try:
            path = find_file(folder, TEXT_FILES, 'stored text embedding')
        except WeightsError as error:
            raise WeightsError(f'{error}, or have `inspatio caption` make it by the files of umT5 '
                               f'({TEXT_ENCODER_FILES[-1]} and the folder umt5-xxl)') from error
        return load_embedding(path, dim, length)
    return _embed(folder, caption, length, device)


def store_caption(folder: str | Path, caption: str, config: GeneratorConfig = RELEASED,
                  device: torch.device | str = 'cpu') -> Path:
    """Embed a caption with the umT5 files in a folder and store it there as text.safetensors, for all later runs."""
    folder = Path(folder)
    path = folder / TEXT_FILES[0]
    save_embedding(path, _embed(folder, caption, config.transformer.text_len, torch.device(device)), caption)
    return path


def _embed(folder: Path, caption: str, length: int, device: torch.device) -> Tensor:
    encoder = find_file(folder, TEXT_ENCODER_FILES, 'text encoder')
    tokenizer = find_file(folder, TOKENIZER_FILES, 'tokenizer').parent
    return embed_caption(caption, encoder, tokenizer, length, device)


class _Stopwatch:
    """Seconds of stages, each from the lap before to its own; on a GPU by events, so that nothing waits before the end.

    A stage may have several laps.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._on_gpu = device, device.type == 'cuda'
        self._laps: list[tuple[str, object]] = []
        self.skip()

    def skip(self) -> None:
        """Leave out the time since the last lap: it is the caller's."""
        self.lap('')

    def lap(self, name: str) -> None:
        """End a stage."""
        if self._on_gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self._device))
            self._laps.append((name, event))
        else:
            self._laps.append((name, time.perf_counter()))

    def seconds(self) -> dict[str, float]:
        """Give the seconds of every stage; waits for the last one."""
        if self._on_gpu:
            self._laps[-1][1].synchronize()
        sums: dict[str, float] = {}
        for (_, before), (name, after) in pairwise(self._laps):
            if name:
                seconds = before.elapsed_time(after) / 1000. if self._on_gpu else after - before
                sums[name] = sums.get(name, 0.) + seconds
        return sums
