# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Golden files of every kind and other sizes are replayed; what differs is beyond, what is unknown an error."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from inspatio_ros.config import SchedulerConfig
from inspatio_ros.errors import ConfigurationError, WeightsError
from inspatio_ros.golden import Item
from inspatio_ros.star.cache import Cache
from inspatio_ros.star.generator import BlockGenerator
from inspatio_ros.star.presets import TINY
from inspatio_ros.star.scheduler import FlowScheduler
from inspatio_ros.star.transformer import DiffusionTransformer
from inspatio_ros.verify import format_table, verify, verify_file

FILES = {
    'block_loop_tiny.safetensors': 'block loop', 'dit_tiny.safetensors': 'transformer',
    'forward_warp.safetensors': 'render', 'mask_latent.safetensors': 'mask packing',
    'scheduler.safetensors': 'scheduler', 'state_dict_1_3b.json': 'transformer names',
    't5_tiny.safetensors': 'text encoder', 'taehv_keys.json': 'autoencoder names',
    'taehv_tiny.safetensors': 'tiny autoencoder', 'trajectory.json': 'trajectories',
    'umt5_keys.json': 'text encoder names',
}


def read(path):
    with safe_open(path, 'pt') as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


@pytest.mark.parametrize('name', FILES)
def test_every_kind_is_within_its_tolerance(shared, name):
    result = verify_file(shared / 'golden' / name)
    assert result.kind == FILES[name]
    assert [item for item in result.items if not item.passed] == []
    assert result.passed


@pytest.mark.parametrize('dtype', ['float64', 'bfloat16'])
@pytest.mark.parametrize('name', ['block_loop_tiny', 'dit_tiny', 't5_tiny', 'taehv_tiny'])
def test_networks_are_within_tolerance_in_other_types(shared, name, dtype):
    result = verify_file(shared / 'golden' / f'{name}.safetensors', dtype=dtype)
    assert [item for item in result.items if not item.passed] == []
    # Only these two say what the released code loses by bfloat16.
    assert result.kind.endswith('(float32)') == (dtype == 'bfloat16' and name in ('t5_tiny', 'taehv_tiny'))


@pytest.mark.parametrize('name, tensor, change', [
    ('dit_tiny', 'sd.blocks.1.self_attn.norm_k.weight', 1e-2), ('dit_tiny', 'out.c.act.block0.ffn', 2e-4),
    ('block_loop_tiny', 'in.renoise', 1e-2), ('block_loop_tiny', 'out.final_kv.1.v', 2e-4),
    ('mask_latent', 'in.t9_64x96', 1e-2), ('scheduler', 'out.flow_to_x0', 2e-6), ('forward_warp', 'in.depth', 1e-2),
    ('t5_tiny', 'sd.blocks.0.pos_embedding.embedding.weight', 1e-2), ('taehv_tiny', 'in.clip', 1e-2),
])
def test_a_change_is_noticed(shared, tmp_path, name, tensor, change):
    tensors, metadata = read(shared / 'golden' / f'{name}.safetensors')
    tensors[tensor] = tensors[tensor] + change * torch.randn(tensors[tensor].shape,
                                                             generator=torch.Generator().manual_seed(0))
    save_file(tensors, tmp_path / 'changed.safetensors', metadata)
    result = verify_file(tmp_path / 'changed.safetensors')
    assert not result.passed
    assert result.worst.error > result.worst.tolerance
    assert 'BEYOND' in format_table([result])


@pytest.mark.parametrize('path', [('trajectories', 'synthetic_yaw_only', 'interpolated', 'y_left', 'values'),
                                  ('bounce_indices', 0, 'indices')])
def test_a_changed_trajectory_is_noticed(shared, tmp_path, path):
    content = json.loads((shared / 'golden' / 'trajectory.json').read_text())
    values = content
    for key in path:
        values = values[key]
    values[3] += 1
    (tmp_path / 'changed.json').write_text(json.dumps(content))
    assert not verify_file(tmp_path / 'changed.json').passed


def test_a_renamed_tensor_of_the_full_size_is_noticed(shared, tmp_path):
    content = json.loads((shared / 'golden' / 'state_dict_1_3b.json').read_text())
    content['tensors']['model.blocks.0.norm9.weight'] = content['tensors'].pop('model.blocks.0.norm3.weight')
    (tmp_path / 'changed.json').write_text(json.dumps(content))
    assert verify_file(tmp_path / 'changed.json').worst.error == 2.


def write_block_loop(path, seed=0):
    """Write a block loop of another size, computed in float64 by the cache that training uses."""
    transformer = replace(TINY.transformer, num_heads=2, num_layers=3, dim=40, text_len=7)
    config = replace(TINY, width=64, height=32, latent_frames_per_block=2, transformer=transformer,
                     scheduler=SchedulerConfig(shift=3., denoising_steps=(1000, 600, 300)))
    torch.manual_seed(seed)
    net = DiffusionTransformer(transformer)
    torch.nn.init.normal_(net.head.head.weight, std=0.1)
    draw = torch.randn(4, 1, 4, 16, 4, 8)
    tensors = dict(zip(('in.noise', 'in.ref_latent', 'in.render_latent', 'in.mask_latent'), draw, strict=True))
    tensors['in.mask_latent'] = tensors['in.mask_latent'][:, :, :4].contiguous()
    tensors['in.renoise'] = torch.randn(2, 2, 2, 16, 4, 8)
    tensors['in.prompt_embeds'] = torch.randn(1, 7, transformer.text_dim)
    tensors.update({f'sd.model.{name}': value.clone() for name, value in net.state_dict().items()})
    generator = BlockGenerator(config, net.double(), FlowScheduler(config.scheduler), tensors['in.prompt_embeds'])
    constants, cache, previous, blocks = generator.constants(generator.text_embedding), Cache(3), None, []
    with torch.no_grad():
        for block in range(2):
            reference, render, mask = (tensors[f'in.{name}_latent'][:, 2 * block:2 * block + 2].double()
                                       for name in ('ref', 'render', 'mask'))
            noise = torch.cat([tensors['in.noise'][None, :, 2 * block:2 * block + 2],
                               tensors['in.renoise'][block][:, None]]).double()
            generator.remember(constants, cache, reference, previous)
            x_t = noise[0]
            for step in range(3):
                tensors[f'out.block{block}.step{step}.input'] = x_t.float()
                x0 = generator.predict(constants, cache, x_t, step, render, mask)
                sigma = constants.sigmas[step].double()
                tensors[f'out.block{block}.step{step}.flow'] = ((x_t - x0) / sigma).float()
                if step < 2:
                    following = constants.sigmas[step + 1].double()
                    x_t = (1 - following) * x0 + following * noise[step + 1]
            tensors[f'out.block{block}.step2.x0'] = x0.float()
            blocks.append(x0.float())
            previous = x0
    tensors['out.final_latent'] = torch.cat(blocks, dim=1)
    tensors['out.denoising_step_list_warped'] = generator.scheduler.denoising_timesteps
    for layer in range(3):
        for part, value in zip('kv', cache.remembered(layer), strict=True):
            tensors[f'out.final_kv.{layer}.{part}'] = value.float()
    save_file({name: value.contiguous() for name, value in tensors.items()}, path, {
        'what': 'CausalInferencePipeline.inference block loop', 'config': json.dumps(asdict(transformer)),
        'timestep_shift': '3.0', 'denoising_step_list': '[1000, 600, 300]', 'num_frame_per_block': '2'})


def test_a_block_loop_of_another_size_is_replayed(tmp_path):
    write_block_loop(tmp_path / 'other.safetensors')
    result = verify_file(tmp_path / 'other.safetensors')
    assert [item for item in result.items if not item.passed] == []
    assert len(result.items) == 1 + 2 * (3 * 2 + 1) + 1 + 3 * 2


def test_masks_of_another_size_are_replayed(tmp_path):
    mask = torch.ones(1, 3, 5, 16, 16)
    mask[:, :, 0] = -1
    packed = torch.ones(1, 2, 4, 2, 2)
    packed[:, 0] = -1
    save_file({'in.small': mask, 'out.small': packed}, tmp_path / 'mask.safetensors', {'what': 'convert_mask_video'})
    assert verify_file(tmp_path / 'mask.safetensors').worst == Item('small', 0., 1e-6)


def test_the_table_names_the_worst_of_every_file(shared):
    results = verify([shared / 'golden' / name for name in ('mask_latent.safetensors', 'scheduler.safetensors')])
    lines = format_table(results).splitlines()
    assert [line.split()[0] for line in lines] == ['file', 'mask_latent.safetensors', 'scheduler.safetensors']
    assert all(line.endswith('ok') for line in lines[1:])


def test_not_a_number_is_beyond_every_tolerance():
    assert not Item('x', math.nan, 1.).passed


# --- what cannot be replayed -----------------------------------------------------------------------------------------


@pytest.mark.parametrize('metadata', [None, {'what': 'something else'}])
def test_an_unknown_file_is_an_error_that_lists_the_known(tmp_path, metadata):
    save_file({'x': torch.zeros(1)}, tmp_path / 'x.safetensors', metadata)
    with pytest.raises(ConfigurationError, match='no kind that can be verified; known are: transformer, block loop'):
        verify_file(tmp_path / 'x.safetensors')


@pytest.mark.parametrize('content, error', [('{"what": "something"}', ConfigurationError), ('[1]', ConfigurationError),
                                            ('{"what', WeightsError)])
def test_other_json_is_an_error(tmp_path, content, error):
    (tmp_path / 'x.json').write_text(content)
    with pytest.raises(error, match='x.json'):
        verify_file(tmp_path / 'x.json')


@pytest.mark.parametrize('name', ['nothing.safetensors', 'nothing.json'])
def test_a_missing_file_is_an_error(tmp_path, name):
    with pytest.raises(WeightsError, match=name):
        verify_file(tmp_path / name)


def test_a_missing_tensor_is_named(shared, tmp_path):
    tensors, metadata = read(shared / 'golden' / 'scheduler.safetensors')
    del tensors['in.xt']
    save_file(tensors, tmp_path / 'x.safetensors', metadata)
    with pytest.raises(WeightsError, match=r"x\.safetensors lacks 'in\.xt'"):
        verify_file(tmp_path / 'x.safetensors')


def test_an_unknown_type_is_an_error(shared):
    with pytest.raises(ConfigurationError, match='float32, float64, bfloat16'):
        verify_file(shared / 'golden' / 'scheduler.safetensors', dtype='int4')
