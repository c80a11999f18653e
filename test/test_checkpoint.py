# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Weights load from every layout they come in, and what does not fit is an error that names it."""

from __future__ import annotations

import os
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from inspatio_ros.config import AutoencoderConfig, TransformerConfig
from inspatio_ros.errors import WeightsError
from inspatio_ros.star import checkpoint
from inspatio_ros.star.autoencoder import TinyAutoencoder
from inspatio_ros.star.checkpoint import (
    WEIGHTS_VARIABLE,
    find_file,
    find_folder,
    load_config,
    load_module,
    own_names,
    packaged_folder,
    save_config,
    save_tensors,
)
from inspatio_ros.star.presets import TINY, TINY_GUIDED
from inspatio_ros.star.text import TextEncoder, TextEncoderConfig
from inspatio_ros.star.transformer import DiffusionTransformer

CONFIG = TransformerConfig(text_len=4, dim=12, ffn_dim=8, freq_dim=8, text_dim=6, num_heads=2, num_layers=2)
PREFIXES = ('', 'model.', 'generator.', 'generator_ema.', 'generator.model.', 'generator_ema.model.', 'model.model.',
            'module.', 'state_dict.generator.model.')


@pytest.fixture
def net():
    torch.manual_seed(0)
    return DiffusionTransformer(CONFIG)


def empty_net(config=CONFIG):
    with torch.device('meta'):
        return DiffusionTransformer(config)


def prefixed(net, prefix):
    return {prefix + name: value.clone() for name, value in net.state_dict().items()}


def assert_same(loaded, net):
    for name, value in net.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


# --- layouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('suffix', ['.safetensors', '.pth', '.pt'])
@pytest.mark.parametrize('prefix', PREFIXES)
def test_loads_under_every_prefix(net, tmp_path, prefix, suffix):
    path = tmp_path / f'weights{suffix}'
    if suffix == '.safetensors':
        save_file(prefixed(net, prefix), path)
    else:
        torch.save(prefixed(net, prefix), path)
    assert_same(load_module(empty_net(), path), net)


def test_loads_nested_dicts_and_takes_the_averaged_copy(net, tmp_path):
    other = {name: value + 1 for name, value in net.state_dict().items()}
    torch.save({'generator': {'model': other}, 'generator_ema': {'model': net.state_dict()}, 'step': 7},
               tmp_path / 'training.pt')
    assert_same(load_module(empty_net(), tmp_path / 'training.pt'), net)


def test_takes_sharding_wrappers_out_of_the_middle(net, tmp_path):
    wrapped = {f'model._fsdp_wrapped_module.{name.replace("blocks.0.", "blocks.0._checkpoint_wrapped_module.")}': value
               for name, value in net.state_dict().items()}
    save_file(wrapped, tmp_path / 'sharded.safetensors')
    assert_same(load_module(empty_net(), tmp_path / 'sharded.safetensors'), net)


def test_loads_in_the_type_asked_for(net, tmp_path):
    save_tensors(tmp_path / 'w.safetensors', net.state_dict())
    loaded = load_module(empty_net(), tmp_path / 'w.safetensors', dtype=torch.bfloat16)
    assert {p.dtype for p in loaded.parameters()} == {torch.bfloat16}
    assert_same(loaded, net.to(torch.bfloat16))


@given(st.lists(st.sampled_from(('generator', 'generator_ema', 'model', 'module', '_fsdp_wrapped_module', '_orig_mod')),
                max_size=5))
def test_any_stack_of_wrappers_comes_off(wrappers):
    names = list(empty_net().state_dict())
    stored = ['.'.join((*wrappers, name)) for name in names]
    own, strays = own_names(stored)
    assert own == dict(zip(names, stored, strict=True))
    assert strays == []


def test_the_released_autoencoder_layout_is_cut(tmp_path):
    """The stored file has a growing weight that is twice as tall; its last rows are the ones to keep."""
    from inspatio_ros.star.autoencoder import cut_time_growth
    config = AutoencoderConfig(encoder_widths=(4, 4, 4, 4), decoder_widths=(8, 4, 4, 4))
    torch.manual_seed(0)
    net = TinyAutoencoder(config)
    stored = {name: value.clone() for name, value in net.state_dict().items()}
    stored['decoder.7.conv.weight'] = torch.cat([torch.zeros_like(stored['decoder.7.conv.weight']),
                                                 stored['decoder.7.conv.weight']])
    torch.save(stored, tmp_path / 'taew2_1.pth')
    with torch.device('meta'):
        empty = TinyAutoencoder(config)
    assert_same(load_module(empty, tmp_path / 'taew2_1.pth', amend=lambda state: cut_time_growth(state, config)), net)


# --- what does not fit -----------------------------------------------------------------------------------------------


def test_missing_keys_are_named(net, tmp_path):
    state = prefixed(net, 'model.')
    del state['model.blocks.1.ffn.0.weight']
    save_file(state, tmp_path / 'w.safetensors')
    with pytest.raises(WeightsError, match=r'w\.safetensors does not fit.* 1 missing \(blocks\.1\.ffn\.0\.weight\)$'):
        load_module(empty_net(), tmp_path / 'w.safetensors')


@pytest.mark.parametrize('extra', ['model.blocks.7.ffn.0.weight', 'critic.weight'])
def test_extra_keys_are_named(net, tmp_path, extra):
    save_file({**prefixed(net, 'model.'), extra: torch.zeros(1)}, tmp_path / 'w.safetensors')
    with pytest.raises(WeightsError, match=rf'1 extra \({extra.removeprefix("model.")}\)'):
        load_module(empty_net(), tmp_path / 'w.safetensors')


def test_misshaped_keys_are_named(tmp_path):
    """The base weights, whose input was not widened, must not pass for the generator's."""
    base = DiffusionTransformer(TransformerConfig(**{**CONFIG.__dict__, 'in_dim': 16}))
    save_file(base.state_dict(), tmp_path / 'w.safetensors')
    with pytest.raises(WeightsError, match=r'1 misshaped \(patch_embedding.weight is \[12, 16, 1, 2, 2\] instead of '
                                           r'\[12, 36, 1, 2, 2\]\)'):
        load_module(empty_net(), tmp_path / 'w.safetensors')


def test_only_the_first_few_of_many_are_named(net, tmp_path):
    save_file({f'wrong.{name}': value for name, value in net.state_dict().items()}, tmp_path / 'w.safetensors')
    with pytest.raises(WeightsError) as error:
        load_module(empty_net(), tmp_path / 'w.safetensors')
    assert 'missing' in str(error.value) and 'extra' in str(error.value) and '; ...)' in str(error.value)
    assert len(str(error.value)) < 800


def test_a_module_is_left_alone_by_what_does_not_fit(net, tmp_path):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    save_file({'head.head.bias': torch.zeros(64)}, tmp_path / 'w.safetensors')
    with pytest.raises(WeightsError):
        load_module(net, tmp_path / 'w.safetensors')
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())


# --- damaged and dangerous files -------------------------------------------------------------------------------------


@pytest.mark.parametrize('share', [0., 0.001, 0.5, 0.999])
@pytest.mark.parametrize('suffix', ['.safetensors', '.pth'])
def test_truncated_files_are_an_error(net, tmp_path, suffix, share):
    path = tmp_path / f'w{suffix}'
    if suffix == '.safetensors':
        save_file(net.state_dict(), path)
    else:
        torch.save(net.state_dict(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:int(share * len(whole))])
    with pytest.raises(WeightsError, match=rf'w\{suffix}.*(truncated|damaged)'):
        load_module(empty_net(), path)


class _Danger:
    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize('save', [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_a_pickle_that_runs_code_is_refused(tmp_path, save):
    danger = _Danger()
    danger.path = str(tmp_path / 'code_ran')
    save({'weight': danger}, tmp_path / 'w.pth')
    with pytest.raises(WeightsError, match='was not opened|truncated or not'):
        load_module(empty_net(), tmp_path / 'w.pth')
    assert not (tmp_path / 'code_ran').exists()


@pytest.mark.parametrize('name, message', [('nothing.safetensors', 'not a file'), ('w.bin', 'neither')])
def test_other_files_are_an_error(tmp_path, name, message):
    (tmp_path / 'w.bin').write_bytes(b'x')
    with pytest.raises(WeightsError, match=message):
        load_module(empty_net(), tmp_path / name)


def test_an_empty_file_of_tensors_lacks_everything(tmp_path):
    save_file({}, tmp_path / 'w.safetensors')
    with pytest.raises(WeightsError, match=r'of \d+ tensors, \d+ missing'):
        load_module(empty_net(), tmp_path / 'w.safetensors')


# --- finding them ----------------------------------------------------------------------------------------------------


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    root = tmp_path / 'packaged'
    monkeypatch.setattr(checkpoint, 'packaged_folder', lambda name: root / name)
    return root


def test_an_argument_goes_before_the_environment_before_the_package(tmp_path, packaged, monkeypatch):
    with pytest.raises(WeightsError, match=f"no weights for 'tiny'.*--weights.*{WEIGHTS_VARIABLE}"):
        find_folder('tiny')
    save_config(packaged / 'tiny', TINY)
    assert find_folder('tiny') == packaged / 'tiny'
    for folder in ('environment', 'argument'):
        save_config(tmp_path / folder, TINY)
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / 'environment'))
    assert find_folder('tiny') == tmp_path / 'environment'
    assert find_folder('tiny', tmp_path / 'argument') == tmp_path / 'argument'


def test_sub_folders_of_a_generators_name_are_taken(tmp_path, packaged, monkeypatch):
    save_config(tmp_path / 'all' / 'tiny', TINY)
    assert find_folder('tiny', tmp_path / 'all') == tmp_path / 'all' / 'tiny'
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / 'all'))
    assert find_folder('tiny') == tmp_path / 'all' / 'tiny'


def test_another_generators_folder_in_the_environment_is_passed_over(tmp_path, packaged, monkeypatch):
    save_config(packaged / 'tiny', TINY)
    save_config(tmp_path / 'other', TINY_GUIDED)
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / 'other'))
    assert find_folder('tiny') == packaged / 'tiny'


def test_a_named_folder_must_exist(tmp_path, packaged, monkeypatch):
    with pytest.raises(WeightsError, match='no weights folder'):
        find_folder('tiny', tmp_path / 'nowhere')
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / 'nowhere'))
    with pytest.raises(WeightsError, match=f'{WEIGHTS_VARIABLE} names .*nowhere'):
        find_folder('tiny')


def test_files_are_found_below_a_folder_and_missing_ones_are_named(tmp_path):
    with pytest.raises(WeightsError, match=r'holds no transformer; put a\.safetensors or World\*\.pt there'):
        find_file(tmp_path, ('a.safetensors', 'World*.pt'), 'transformer')
    (tmp_path / 'deep').mkdir()
    (tmp_path / 'deep' / 'World-1.pt').touch()
    assert find_file(tmp_path, ('a.safetensors', 'World*.pt'), 'transformer').name == 'World-1.pt'
    (tmp_path / 'World-2.pt').touch()
    with pytest.raises(WeightsError, match='several files for transformer.*keep one'):
        find_file(tmp_path, ('a.safetensors', 'World*.pt'), 'transformer')
    (tmp_path / 'a.safetensors').touch()
    assert find_file(tmp_path, ('a.safetensors', 'World*.pt'), 'transformer').name == 'a.safetensors'


def test_files_of_a_generator_in_a_folder_below_are_not_those_of_the_folder(tmp_path):
    save_config(tmp_path / 'tiny', TINY)
    for path in ('tiny/a.safetensors', 'released/World-1.pt', 'tiny/text.safetensors', 'text.safetensors',
                 'tiny/deep/World-2.pt'):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    # The configuration that Wan's own files come with.
    (tmp_path / 'released' / 'config.json').write_text('{"_class_name": "WanModel"}')
    for folder, patterns, found in ((tmp_path, ('a.safetensors', 'World*.pt'), 'released/World-1.pt'),
                                    (tmp_path, ('text.safetensors',), 'text.safetensors'),
                                    (tmp_path / 'tiny', ('a.safetensors', 'World*.pt'), 'tiny/a.safetensors')):
        assert find_file(folder, patterns, 'transformer') == tmp_path / found


def test_configurations_are_read_back(tmp_path):
    save_config(tmp_path, TINY_GUIDED)
    assert load_config(tmp_path) == TINY_GUIDED
    assert [path.name for path in tmp_path.iterdir()] == ['config.json']


@pytest.mark.parametrize('content', ['', '{"name": ', '[]', '{"nonsense": 1}', '{"width": 7}',
                                     '{"transformer": {"dim": "wide", "x": 1}}'])
def test_damaged_configurations_are_an_error(tmp_path, content):
    (tmp_path / 'config.json').write_text(content)
    with pytest.raises(WeightsError, match='config.json is not a generator'):
        load_config(tmp_path)


def test_a_folder_without_configuration_is_an_error_unless_there_is_a_default(tmp_path):
    assert load_config(tmp_path, TINY) is TINY
    with pytest.raises(WeightsError, match='holds no config.json'):
        load_config(tmp_path)


def test_the_packaged_folder_lies_beside_the_code():
    assert packaged_folder('nano').parent.parent.name == 'inspatio_ros'


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    save_tensors(tmp_path / 'w.safetensors', {'a': torch.ones(2)})
    with pytest.raises(Exception):  # noqa: B017 - whatever the library raises for what is not a tensor
        save_tensors(tmp_path / 'w.safetensors', {'a': nn.Linear(1, 1)})
    assert [path.name for path in tmp_path.iterdir()] == ['w.safetensors']


def test_every_network_of_the_package_loads_by_the_same_function(tmp_path):
    config = TextEncoderConfig(vocab_size=8, dim=6, dim_attn=6, dim_ffn=8, num_heads=2, encoder_layers=1)
    encoder = TextEncoder(config)
    save_tensors(tmp_path / 't5.safetensors', encoder.state_dict())
    assert_same(load_module(TextEncoder(config), tmp_path / 't5.safetensors'), encoder)
