# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Training on many ranks is training on one with the larger batch; checkpoints of shards; weights that are widened."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import two_ranks
from safetensors.torch import save_file
from torch import nn

from inspatio_ros.config import TransformerConfig
from inspatio_ros.errors import ConfigurationError, WeightsError
from inspatio_ros.star.cache import Cache
from inspatio_ros.star.presets import TINY_GUIDED
from inspatio_ros.star.transformer import DiffusionTransformer
from inspatio_ros.training import sharded
from inspatio_ros.training.checkpoint import CheckpointError, CheckpointFolder
from inspatio_ros.training.distributed import (
    ScaleConfig,
    ScaledTrainer,
    compile_layers,
    rank,
    recompute_activations,
    start,
    stop,
)
from inspatio_ros.training.sharded import ABOUT_FILE
from inspatio_ros.training.train import read_plan
from inspatio_ros.training.widen import INPUT_WEIGHT, load_widened, widen

PROJECT = Path(__file__).resolve().parents[1]


def run_two(script, folder):
    """Let two processes run a script in a folder, as torchrun would."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    shared = {**os.environ, 'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port),
              'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(PROJECT)}
    processes = [subprocess.Popen([sys.executable, script, str(folder), str(rank)],
                                  env={**shared, 'RANK': str(rank), 'LOCAL_RANK': str(rank)},
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for rank in range(2)]
    try:
        said = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], '\n'.join(said)
    return '\n'.join(said)


@pytest.fixture(scope='module')
def both(tmp_path_factory):
    """The folder that two processes have worked in."""
    folder = tmp_path_factory.mktemp('two')
    run_two(two_ranks.__file__, folder)
    return folder


@pytest.mark.parametrize('kind', ['plain', 'recomputed'])
def test_two_ranks_give_the_gradient_of_one_with_the_doubled_batch(both, tmp_path, kind):
    wanted = two_ranks.gradients(two_ranks.make(tmp_path))
    found = torch.load(both / f'{kind}.pt')
    assert found.keys() == wanted.keys() and len(wanted) > 80
    # What is zero but for rounding (the keys' biases) is compared at the scale of its network.
    scale = {name.split('.')[0]: 0. for name in wanted}
    for name, value in wanted.items():
        scale[name.split('.')[0]] = max(scale[name.split('.')[0]], float(value.abs().max()))
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5 * scale[name.split('.')[0]], msg=name)


def test_two_ranks_take_the_step_of_muon_that_one_takes(both, tmp_path):
    before = {name: value.detach().clone() for name, value in two_ranks.make(tmp_path).parameters.items()}
    wanted, found = two_ranks.moved(tmp_path), torch.load(both / 'muon.pt')
    matrices = 0
    for name, value in wanted.items():
        step = value - before[name]
        # A caption of few tokens gives cross-attention gradients of low rank, and Muon enlarges the rounding beside.
        if '.blocks.' in name and 'cross_attn' not in name and value.ndim == 2 and step.any():
            matrices += 1
            # Muon multiplies in bfloat16.
            assert (found[name] - value).norm() < 0.06 * step.norm(), name
    assert matrices >= 20


def test_both_ranks_went_through_checkpoints_and_bad_losses(both):
    assert {path.name for path in both.glob('done_*')} == {'done_0', 'done_1'}


def check_views(folder):
    """Go on from what rank 0 sees, whatever the other does; this file, run as a script, does it on two ranks."""
    torch.set_num_threads(1)
    start('cpu')
    two_ranks.make(folder).save()
    first = two_ranks.make(folder)
    first.take_step()
    first.save()

    def resumed():
        trainer = two_ranks.make(folder)
        if rank() == 1:
            trainer.checkpoints.folder = folder / 'not_there_yet'
        trainer.resume()
        return trainer

    found, wanted = resumed(), two_ranks.everything(first)
    assert found.step == 1
    for name, value in two_ranks.everything(found).items():
        assert torch.equal(value, wanted[name]), name
    if rank() == 0:
        (folder / 'checkpoints' / 'step_00000001' / ABOUT_FILE).write_text('{')
    torch.distributed.barrier()
    assert resumed().step == 0
    torch.distributed.barrier()
    assert sorted(path.name for path in (folder / 'checkpoints').iterdir()) == [
        'step_00000000', 'step_00000001.damaged']

    if rank() == 0:
        for part in (folder / 'checkpoints' / 'step_00000000').glob('*.distcp'):
            part.write_bytes(b'')
        CheckpointFolder(folder / 'alone' / 'checkpoints').save(1, {'x': torch.zeros(1)}, {})
    torch.distributed.barrier()
    with pytest.raises(CheckpointError, match='holds no checkpoint that can be read: '):
        resumed()
    assert (folder / 'checkpoints' / 'step_00000000').is_dir(), 'a disk that is away must not cost a checkpoint'
    torch.distributed.barrier()
    # Hosts that name different folders by the same words.
    sharded._SEEN_AFTER = 0.
    apart = two_ranks.make(folder / f'of_{rank()}')
    with pytest.raises(CheckpointError, match='rank 1 does not see .*of_1.*that all hosts see'):
        apart.save()
    assert not list((folder / 'of_1').glob('**/*.distcp'))
    with pytest.raises(CheckpointError, match="one process's checkpoints, which many ranks cannot read"):
        two_ranks.make(folder / 'alone').resume()
    print('both kinds of views were looked at')
    stop()


def test_ranks_go_on_from_what_the_first_one_sees(tmp_path):
    assert run_two(__file__, tmp_path).count('both kinds of views were looked at') == 2


def test_accumulated_batches_give_the_mean_gradient(tmp_path):
    once = two_ranks.make(tmp_path)
    loss, _ = once.take_step()
    twice = two_ranks.make(tmp_path, accumulate=2)
    assert twice.take_step()[0] == pytest.approx(loss)
    for name, value in once.parameters.items():
        torch.testing.assert_close(value, twice.parameters[name], rtol=1e-5, atol=1e-7, msg=name)


def transformer(seed=0):
    return two_ranks.random_weights(DiffusionTransformer(TINY_GUIDED.transformer), seed)


def run(net, x):
    return net(x, net.text_constants(torch.ones(1, 2, net.config.text_dim)), net.modulation(torch.full((1,), 300.)),
               net.rotary(3, 4, 4, 0))


@pytest.mark.parametrize('change', [recompute_activations, lambda net: compile_layers(net, 'eager')])
def test_recomputing_or_compiling_layers_changes_no_gradient(change):
    x = torch.randn(1, 3, 36, 4, 4, generator=torch.Generator().manual_seed(0))
    plain, changed = transformer(), transformer()
    change(changed)
    for net in (plain, changed):
        run(net, x).square().sum().backward()
    assert {n for n, _ in changed.named_parameters()} == {n for n, _ in plain.named_parameters()}
    for name, value in plain.named_parameters():
        torch.testing.assert_close(changed.get_parameter(name).grad, value.grad, rtol=1e-4, atol=1e-5, msg=name)


def test_all_layers_run_compiled_however_many_caches_they_look_into():
    from torch._dynamo.testing import CompileCounter
    layers, compiled = 10, CompileCounter()
    net = DiffusionTransformer(dataclasses.replace(TINY_GUIDED.transformer, num_layers=layers))
    compile_layers(net, compiled)
    x, cache = torch.randn(1, 3, 36, 4, 4), Cache(layers)
    given = (net.text_constants(torch.ones(1, 2, net.config.text_dim)), net.modulation(torch.full((1,), 300.)))
    net.context_pass(x, *given, net.rotary(3, 4, 4, 0), cache)
    net(x, *given, net.rotary(3, 4, 4, 3), cache)
    # The last layer's context pass computes keys and values alone.
    assert compiled.frame_count == 2 * layers - 1


def test_layers_that_are_computed_again_leave_the_cache_as_it_is():
    net = transformer()
    recompute_activations(net)
    x = torch.randn(1, 3, 36, 4, 4, generator=torch.Generator().manual_seed(0))
    cache = Cache(net.config.num_layers)
    given = (net.text_constants(torch.ones(1, 2, net.config.text_dim)), net.modulation(torch.full((1,), 300.)))
    net.context_pass(x, *given, net.rotary(3, 4, 4, 0), cache)
    held = [cache.remembered(layer) for layer in range(net.config.num_layers)]
    net(x, *given, net.rotary(3, 4, 4, 3), cache).square().sum().backward()
    assert all(now is then for layer, pair in enumerate(held) for now, then in zip(cache.remembered(layer), pair,
                                                                                  strict=True))
    assert all(parameter.grad is not None for parameter in net.blocks[0].self_attn.parameters())
    cache.write(0, *held[1])
    assert cache.remembered(0)[0] is held[1][0]


def test_stage_whose_ranks_would_part_is_refused_by_many(tmp_path, monkeypatch):
    stage = two_ranks.FixedStage()
    stage.name = 'joint'
    monkeypatch.setattr('inspatio_ros.training.distributed.world_size', lambda: 2)
    with pytest.raises(ConfigurationError, match='stage joint runs in one process'):
        ScaledTrainer(stage, two_ranks.SETTINGS, tmp_path)
    with pytest.raises(ConfigurationError, match='accumulate is 0'):
        ScaleConfig(accumulate=0)


# Weights to start from


def narrow_state(config):
    torch.manual_seed(0)
    narrow = DiffusionTransformer(dataclasses.replace(config, in_dim=config.out_dim))
    return two_ranks.random_weights(narrow, 0), narrow.state_dict()


def test_widened_input_computes_the_same_whatever_the_new_channels_hold(tmp_path):
    narrow, state = narrow_state(TINY_GUIDED.transformer)
    save_file(state, tmp_path / 'wan.safetensors')
    wide = DiffusionTransformer(TINY_GUIDED.transformer)
    load_widened(wide, tmp_path / 'wan.safetensors')
    x = torch.randn(1, 3, 16, 4, 4)
    extra = torch.randn(1, 3, 20, 4, 4)
    with torch.no_grad():
        wanted = run(narrow, x)
        torch.testing.assert_close(run(wide, torch.cat([x, torch.zeros_like(extra)], 2)), wanted)
        torch.testing.assert_close(run(wide, torch.cat([x, extra], 2)), wanted)
        # The old channels do count.
        assert not torch.allclose(run(wide, torch.cat([x + 1, extra], 2)), wanted)


def test_weights_that_cannot_be_widened_are_named():
    config = TINY_GUIDED.transformer
    _, state = narrow_state(config)
    with pytest.raises(WeightsError, match='takes 12 channels; it can be widened from 16 to 36'):
        widen({**state, INPUT_WEIGHT: state[INPUT_WEIGHT][:, :12]}, config)
    with pytest.raises(WeightsError, match=INPUT_WEIGHT):
        widen({'other': torch.zeros(1)}, config)


def test_large_configuration_is_the_released_one_and_fits_widened_official_weights():
    plan = read_plan(PROJECT / 'config' / 'training' / '1.3b.yaml')
    config = plan.generator.transformer
    assert config == TransformerConfig()
    with torch.device('meta'):
        wide = DiffusionTransformer(config)
        narrow = DiffusionTransformer(dataclasses.replace(config, in_dim=16))
    widened = widen(narrow.state_dict(), config)
    wanted = {name: value.shape for name, value in wide.state_dict().items()}
    assert {name: value.shape for name, value in widened.items()} == wanted
    assert wanted[INPUT_WEIGHT] == (1536, 36, 1, 2, 2)
    assert sum(nn.Parameter(v, False).numel() for v in wide.state_dict().values()) > 1.4e9
    assert list(plan.stages) == ['initialisation', 'motion_teacher', 'real_teacher', 'jdmd']


if __name__ == '__main__':
    check_views(Path(sys.argv[1]))
