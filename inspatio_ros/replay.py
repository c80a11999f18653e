# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What replays each kind of golden file: the same inputs through the code here, compared with what the file holds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from inspatio_ros.config import (
    AutoencoderConfig,
    GeneratorConfig,
    SchedulerConfig,
    TransformerConfig,
    from_dict,
)
from inspatio_ros.golden import Golden, Item, largest
from inspatio_ros.spatial.render import splat
from inspatio_ros.spatial.trajectory import (
    TextKeys,
    bounce_indices,
    compose_with_source,
    interpolate_keys,
    keyed_poses,
)
from inspatio_ros.star.autoencoder import TinyAutoencoder
from inspatio_ros.star.cache import StaticCache
from inspatio_ros.star.checkpoint import own_names
from inspatio_ros.star.condition import pack_mask
from inspatio_ros.star.generator import BlockGenerator
from inspatio_ros.star.scheduler import FlowScheduler
from inspatio_ros.star.text import TextEncoder, TextEncoderConfig, relative_buckets
from inspatio_ros.star.transformer import DiffusionTransformer, axis_dims, rotary_angles, sinusoidal_embedding

#: Largest error in float32, by kind of file (golden/README.md gives the reasons).
NETWORK, AUTOENCODER, TEXT, FORMULA, SINGLE = 1e-4, 5e-5, 2e-5, 1e-6, 1e-5
#: Rendered colours; and the share of pixels that may lie beyond where the released splat is unstable.
COLOUR, UNSTABLE_SHARE = 1e-3, 0.015


# --- transformer and block loop --------------------------------------------------------------------------------------


def _transformer_config(golden: Golden) -> TransformerConfig:
    known = {item.name for item in fields(TransformerConfig)}
    return from_dict(TransformerConfig, {k: v for k, v in golden.json('config').items() if k in known})


class _Recorder:
    """Notes the outputs of the modules whose activations the files hold."""

    def __init__(self, net: DiffusionTransformer) -> None:
        self.seen: dict[str, Tensor] = {}
        parts = {name: getattr(net, name) for name in
                 ('time_embedding', 'time_projection', 'text_embedding', 'patch_embedding', 'head')}
        for i, block in enumerate(net.blocks):
            parts[f'block{i}'] = block
            parts.update({f'block{i}.{name}': getattr(block, name) for name in ('self_attn', 'cross_attn', 'ffn')})
        for name, module in parts.items():
            module.register_forward_hook(lambda _, __, out, name=name: self.seen.__setitem__(name, out))


def _transformer(golden: Golden) -> Iterator[Item]:
    config = _transformer_config(golden)
    net = golden.load(DiffusionTransformer(config))
    recorder = _Recorder(net)
    frames, height, width = golden['in.b.x'].shape[2:]
    tokens = net.rotary(frames, height, width, 0).cos.shape[1]
    text = net.text_constants(golden['in.context'].to(net.dtype))
    text_embedding = recorder.seen['text_embedding']
    cache = StaticCache(config, 1, tokens, golden.device, golden.dtype)
    # In the file's order: a and c_ctx rewrite the cache, b and c read it, d has neither cache nor condition.
    for tag in ('a', 'b', 'c_ctx', 'c', 'd'):
        source = 'c' if tag == 'd' else tag
        x, timestep = golden[f'in.{source}.x'], golden[f'in.{source}.t'][:, 0]
        is_context = tag in ('a', 'c_ctx')
        if tag == 'd':
            x = torch.cat([x, x.new_zeros(1, config.condition_dim, *x.shape[2:])], dim=1)
        elif not is_context:
            x = torch.cat([x, golden[f'in.{tag}.render']], dim=1)
        x = x.transpose(1, 2).to(net.dtype)
        modulation = net.modulation(timestep)
        rotary = net.rotary(x.shape[1], height, width, 2 * frames if tag in ('b', 'c') else 0)
        if is_context:
            net.context_pass(x, text, modulation, rotary, cache)
            yield from _compare_cache(golden, cache, config, f'{tag}.kv_after')
        recorder.seen['text_embedding'] = text_embedding
        flow = net(x, text, modulation, rotary, cache if tag in ('b', 'c') else None)
        yield from golden.compare(f'{tag}.flow', flow.transpose(1, 2), NETWORK)
        for name, value in recorder.seen.items():
            if name == 'patch_embedding':
                value = value.transpose(1, 2).unflatten(2, golden[f'out.{tag}.act.{name}'].shape[2:])
            yield from golden.compare(f'{tag}.act.{name}', value, NETWORK)
    yield from _tables(golden, net)


def _compare_cache(golden: Golden, cache: StaticCache, config: TransformerConfig, name: str) -> Iterator[Item]:
    for layer in range(config.num_layers):
        for part, value in zip('kv', cache.remembered(layer), strict=True):
            expected = golden[f'out.{name}.{layer}.{part}']
            # The released cache has room for more than the first block fills.
            padded = torch.zeros_like(expected)
            padded[:, :value.shape[1]] = value
            yield from golden.compare(f'{name}.{layer}.{part}', padded, NETWORK)


def _tables(golden: Golden, net: DiffusionTransformer) -> Iterator[Item]:
    """Compare the rotary table by feeding one axis at a time, and the embedding of the timesteps in the file."""
    expected = golden['out.rope_freqs.real']
    rows = expected.shape[0]
    angles = torch.cat([rotary_angles(torch.arange(rows, device=golden.device), dim, net.config.rope_base)
                        for dim in axis_dims(net.config.head_dim)], dim=1)
    yield from golden.compare('rope_freqs.real', angles.cos(), FORMULA)
    yield from golden.compare('rope_freqs.imag', angles.sin(), FORMULA)
    timesteps = torch.tensor([0., 250., 625., 937.5, 1000.], device=golden.device)
    yield from golden.compare('sinusoidal_embedding', sinusoidal_embedding(timesteps, net.config.freq_dim), FORMULA)


def _block_loop(golden: Golden) -> Iterator[Item]:
    transformer = _transformer_config(golden)
    steps = tuple(json.loads(golden.metadata.get('denoising_step_list', '[1000, 750, 500, 250]')))
    frames = int(golden.metadata.get('num_frame_per_block', 3))
    noise, renoise = golden['in.noise'], golden['in.renoise']
    factor = AutoencoderConfig().spatial_factor
    config = GeneratorConfig('golden', width=noise.shape[-1] * factor, height=noise.shape[-2] * factor,
                             latent_frames_per_block=frames, transformer=transformer,
                             scheduler=SchedulerConfig(shift=float(golden.metadata.get('timestep_shift', 5.)),
                                                       denoising_steps=steps))
    net = golden.load(DiffusionTransformer(transformer))
    generator = BlockGenerator(config, net, FlowScheduler(config.scheduler), golden['in.prompt_embeds'])
    state = generator.init(1, torch.Generator())
    yield from golden.compare('denoising_step_list_warped', generator.scheduler.denoising_timesteps.to(golden.device),
                              FORMULA)
    calls: list[tuple[Tensor, Tensor]] = []
    net.register_forward_hook(lambda _, inputs, out: calls.append((inputs[0], out)))
    latents = []
    for block in range(noise.shape[1] // frames):
        part = slice(block * frames, (block + 1) * frames)
        own = torch.cat([noise[None, :, part], renoise[block][:, None]])
        inputs = [golden[f'in.{name}'][:, part] for name in ('ref_latent', 'render_latent', 'mask_latent')]
        latents.append(generator.step(state, *inputs, noise=own))
        for step, (x, flow) in enumerate(calls):
            yield from golden.compare(f'block{block}.step{step}.input', x[:, :, :transformer.out_dim], NETWORK)
            yield from golden.compare(f'block{block}.step{step}.flow', flow, NETWORK)
        yield from golden.compare(f'block{block}.step{len(steps) - 1}.x0', latents[-1], NETWORK)
        calls.clear()
    yield from golden.compare('final_latent', torch.cat(latents, dim=1), NETWORK)
    yield from _compare_cache(golden, state.cache, transformer, 'final_kv')


# --- formulas --------------------------------------------------------------------------------------------------------


def _scheduler(golden: Golden) -> Iterator[Item]:
    scheduler = FlowScheduler(release_nearest_sigma=True)
    steps = torch.arange(scheduler.config.num_train_timesteps, -1, -1)
    shorter = golden['out.sigmas_before_set_timesteps_100']
    timesteps, x0, noise, x_t, flow = (golden[f'in.{name}'] for name in ('timesteps', 'x0', 'noise', 'xt', 'flow'))
    on_grid = len(golden['out.step'])
    low = [part.to(torch.bfloat16) for part in (x0, noise, x_t, flow)]
    found = {
        'sigmas': scheduler.sigmas, 'timesteps': scheduler.timesteps,
        'training_weights': scheduler.training_weights(),
        'sigmas_before_set_timesteps_100': scheduler.sigma_grid(len(shorter)),
        'denoising_step_list_warped': scheduler.denoising_timesteps,
        'denoising_step_list_warped_all': scheduler.warp(steps),
        'nearest_index': scheduler.nearest_index(timesteps),
        'add_noise': scheduler.add_noise(x0, noise, timesteps),
        'add_noise_bf16': scheduler.add_noise(low[0], low[1], timesteps),
        'flow_to_x0': scheduler.flow_to_x0(flow, x_t, timesteps),
        'flow_to_x0_bf16': scheduler.flow_to_x0(low[3], low[2], timesteps),
        'x0_to_flow': scheduler.x0_to_flow(golden['out.flow_to_x0'], x_t, timesteps),
        'step': scheduler.step(flow[:on_grid], timesteps[:on_grid], x_t[:on_grid]),
        'step_to_final': scheduler.step(flow, timesteps, x_t, to_final=True),
    }
    for name, value in found.items():
        yield Item(name, largest(value.to(golden.device), golden[f'out.{name}']), FORMULA)


def _mask(golden: Golden) -> Iterator[Item]:
    for name in golden.names:
        if name.startswith('in.'):
            mask = golden[name][:, :1].transpose(1, 2)
            expected = golden[f'out.{name[3:]}']
            yield Item(name[3:], largest(pack_mask(mask, first=True), expected), FORMULA)


def _warp(golden: Golden) -> Iterator[Item]:
    image, z_depth = golden['out.frame_m1_p1'], golden['in.depth']
    K = golden['out.intrinsic_render'].double().cpu().numpy()
    size = (image.shape[-1], image.shape[-2])
    cases = golden.json('cases')
    identity = torch.eye(4, device=golden.device).expand(len(image), 4, 4)
    for name in sorted(n.split('.')[1] for n in golden.names if n.startswith('out.') and n.endswith('.render')):
        case = name.split('_')[0]
        frames = _warp_frames(len(image), cases.get(case, {}))
        source = golden[f'out.{case}.source_w2c'] if f'out.{case}.source_w2c' in golden else identity
        target = golden[f'out.{case}.target_w2c'] if f'out.{case}.target_w2c' in golden else identity
        if name.endswith('_alone'):
            only = int(name.split('frame')[1].split('_')[0])
            frames, source, target = [frames[only]], source[only:only + 1], target[only:only + 1]
        motion = (target.double() @ torch.linalg.inv(source.double())).cpu().numpy()
        found = splat(image[frames], z_depth[frames], K, motion, K, size, release=True)
        # Straight ahead, the row and column of the principal point stay on whole pixels, where rounding decides.
        straight = np.abs(motion - np.eye(4))
        straight[:, 2, 3] = 0
        unstable = straight.max(axis=(1, 2)) < FORMULA
        yield from _compare_warp(name, found.image, golden[f'out.{name}.render'], found.mask,
                                 golden[f'out.{name}.mask'], unstable)


def _warp_frames(count: int, case: dict[str, Any]) -> list[int]:
    frames = list(range(count))
    if 'freeze_repeat' in case:
        frozen = case['freeze_frame']
        frames[frozen:frozen] = [frozen] * case['freeze_repeat']
    return frames


def _compare_warp(name: str, image: Tensor, wanted: Tensor, mask: Tensor, wanted_mask: Tensor,
                  unstable: np.ndarray) -> Iterator[Item]:
    for frame, is_unstable in enumerate(unstable):
        error = (image[frame].double() - wanted[frame].double()).abs().amax(dim=0)
        wrong_mask = float((mask[frame] != wanted_mask[frame]).double().mean())
        yield Item(f'{name}.mask[{frame}] (share of pixels)', wrong_mask, UNSTABLE_SHARE if is_unstable else 0.)
        if is_unstable:
            yield Item(f'{name}.render[{frame}] (share of pixels)', float((error > COLOUR).double().mean()),
                       UNSTABLE_SHARE)
        else:
            yield Item(f'{name}.render[{frame}]', float(error.max()), COLOUR)


# --- autoencoder and text --------------------------------------------------------------------------------------------


def _autoencoder_config(golden: Golden) -> AutoencoderConfig:
    """Read the widths off the weights: the file has no configuration in its metadata."""
    def width(name: str, axis: int = 0) -> int:
        return golden[f'sd.{name}.weight'].shape[axis]
    return AutoencoderConfig(latent_channels=width('decoder.1', 1),
                             encoder_widths=tuple(width(f'encoder.{i}') for i in (0, 3, 8, 13)),
                             decoder_widths=tuple(width(f'decoder.{i}') for i in (1, 8, 14, 20)))


def _autoencoder(golden: Golden) -> Iterator[Item]:
    config = _autoencoder_config(golden)
    net = golden.load(TinyAutoencoder(config))
    clip, latent = golden['in.clip'].to(golden.dtype), golden['in.latent'].to(golden.dtype)
    found = {
        'latent': net.encode(clip, padding='end'),
        'latent_12frames': net.encode(golden['in.clip12'].to(golden.dtype), padding='end'),
        'decoded': net.decode(golden['out.latent'].to(golden.dtype)),
        'decoded_random_latent': net.decode(latent),
    }
    found['latent_sequential'], found['decoded_sequential'] = found['latent'], found['decoded']
    state = net.encoder_state('end')
    pieces = [net.encode_step(state, clip[:, i:i + 1]) for i in range(clip.shape[1])]
    found['stream_latent'] = torch.cat([*pieces, net.encode_finish(state)], dim=1)
    state = net.decoder_state()
    half = latent.shape[1] // 2
    found['stream_decoded'] = torch.cat([net.decode_step(state, part) for part in latent.split(half, dim=1)], dim=1)
    # The raw output still has the start-up frames, which ours drops before anyone sees them.
    yield from golden.compare('decoder_raw_random_latent', net.decode(latent, clamp=False), AUTOENCODER, last=True)
    for name, value in found.items():
        yield from golden.compare(name, value, AUTOENCODER)


def _text(golden: Golden) -> Iterator[Item]:
    known = {item.name for item in fields(TextEncoderConfig)}
    config = TextEncoderConfig(**{k: v for k, v in golden.json('config').items() if k in known})
    net = golden.load(TextEncoder(config))
    ids, mask = golden['in.ids'], golden['in.mask']
    seen: dict[str, Tensor] = {}
    net.blocks[0].register_forward_hook(lambda _, __, out: seen.__setitem__('block0', out))
    found = {'raw': net(ids, mask), 'prompt_embeds': net.embed(ids, mask), 'block0': seen['block0'],
             'position_bias_layer0': net.blocks[0].pos_embedding(ids.shape[1])}
    for name, value in found.items():
        yield from golden.compare(name, value, TEXT)
    reach = len(golden['out.bucket_offsets_minus200_to_200']) // 2
    index = torch.arange(ids.shape[1])
    for name, offset in (('bucket', index[None] - index[:, None]),
                         ('bucket_offsets_minus200_to_200', torch.arange(-reach, reach + 1))):
        buckets = relative_buckets(offset, config.num_buckets, config.max_distance).to(golden.device)
        yield from golden.compare(name, buckets, 0.)


# --- JSON files ------------------------------------------------------------------------------------------------------


def _trajectories(content: dict[str, Any]) -> Iterator[Item]:
    moving = np.reshape(content['moving_source_c2w']['data'], (-1, 4, 4))
    sources = {'identity_source': np.tile(np.eye(4), (len(moving), 1, 1)), 'moving_source': moving}
    count = len(moving)

    def item(name: str, value: np.ndarray, expected: list[float], tolerance: float) -> Item:
        return Item(name, float(np.abs(np.ravel(value) - np.asarray(expected, dtype=np.float64)).max()), tolerance)

    for name, entry in content['trajectories'].items():
        keys = TextKeys(tuple(entry['x_up_deg']), tuple(entry['y_left_deg']), tuple(entry['r']))
        for line, values in (('x_up', keys.pitch), ('y_left', keys.yaw), ('r', keys.displacement)):
            yield item(f'{name} {line}', interpolate_keys(values, count, release=True),
                       entry['interpolated'][line]['values'], FORMULA)
        for key, expected in entry['generated_c2w'].items():
            yield item(f'{name} {key}', keyed_poses(keys, count, key.endswith('True'), release=True),
                       expected['data'], FORMULA)
        for key, expected in entry['target_c2w'].items():
            source, relative, rotation_only = key.split('/')
            poses = keyed_poses(keys, count, rotation_only.endswith('True'), release=True)
            poses = compose_with_source(poses, sources[source], relative.endswith('True'), release=True)
            yield item(f'{name} {key}', poses, expected, SINGLE)
    for case in content['bounce_indices']:
        found = bounce_indices(case['n_source'], case['n_target'])
        yield item(f'bounce {case["n_source"]} to {case["n_target"]}', np.array(found), case['indices'], 0.)


def _names(build: Callable[[], nn.Module]) -> Callable[[dict[str, Any]], Iterator[Item]]:
    """Compare the names and shapes of a network's full size, without allocating it: the error counts what differs."""
    def compare(content: dict[str, Any]) -> Iterator[Item]:
        with torch.device('meta'):
            state = build().state_dict()
        listed, _ = own_names(content['tensors'])
        expected = {own: list(content['tensors'][stored]['shape']) for own, stored in listed.items()}
        found = {name: list(value.shape) for name, value in state.items()}
        differ = {name for name in {*found, *expected} if found.get(name) != expected.get(name)}
        yield Item(f'{len(expected)} names and shapes', float(len(differ)), 0.)
    return compare


# --- the kinds -------------------------------------------------------------------------------------------------------

#: How the description in a file begins, what to call it, and what replays it.
TENSOR_KINDS: dict[str, tuple[str, Callable[[Golden], Iterator[Item]]]] = {
    'CausalWanModel': ('transformer', _transformer),
    'CausalInferencePipeline': ('block loop', _block_loop),
    'FlowMatchScheduler': ('scheduler', _scheduler),
    'convert_mask_video': ('mask packing', _mask),
    'render_point_cloud_warper': ('render', _warp),
    'TAEHV': ('tiny autoencoder', _autoencoder),
    'T5Encoder': ('text encoder', _text),
}
JSON_KINDS: dict[str, tuple[str, Callable[[dict[str, Any]], Iterator[Item]]]] = {
    'official per-frame camera matrices': ('trajectories', _trajectories),
    'InSpatio-World-1.3B generator': ('transformer names', _names(lambda: DiffusionTransformer(TransformerConfig()))),
    'TAEHV': ('autoencoder names', _names(lambda: TinyAutoencoder(AutoencoderConfig()))),
    'umt5-xxl encoder': ('text encoder names', _names(TextEncoder)),
}
