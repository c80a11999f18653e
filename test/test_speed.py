# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Settings of speed change nothing that they do not say they change, and refuse what the machine lacks."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.golden import Golden
from inspatio_ros.spatial.host import HostCopies
from inspatio_ros.spatial.pixels import mask_to_uint8, to_bytes, to_uint8
from inspatio_ros.spatial.render import Condition
from inspatio_ros.star import pipeline as pipeline_module
from inspatio_ros.star import speed as speed_module
from inspatio_ros.star.attention import BACKENDS, attention, time_attention
from inspatio_ros.star.autoencoder import TinyAutoencoder
from inspatio_ros.star.generator import BlockGenerator
from inspatio_ros.star.pipeline import StarPipeline, latents_of_parts
from inspatio_ros.star.presets import TINY, TINY_GUIDED
from inspatio_ros.star.scheduler import FlowScheduler
from inspatio_ros.star.speed import SPEEDS, compiler_lacking, cpu_multiplies_bfloat16, describe
from inspatio_ros.star.transformer import DiffusionTransformer
from inspatio_ros.verify import verify_file

SMALL = replace(TINY_GUIDED, width=48, height=32)
CPU = torch.device('cpu')


def make_blocks(config=SMALL):
    torch.manual_seed(0)
    net = DiffusionTransformer(config.transformer)
    torch.nn.init.normal_(net.head.head.weight, std=0.1)
    text = torch.randn(1, 3, config.transformer.text_dim)
    return BlockGenerator(config, net.eval().requires_grad_(False), FlowScheduler(config.scheduler), text)


def latents(blocks, seed):
    generator = torch.Generator().manual_seed(seed)
    frames, channels, *size = blocks.latent_shape
    return [torch.randn(1, frames, c, *size, generator=generator).to(blocks.transformer.device)
            for c in (channels, channels, 4)]


def run(blocks, count=3):
    state = blocks.init(1, torch.Generator().manual_seed(0))
    return torch.cat([blocks.step(state, *latents(blocks, i)) for i in range(count)])


def condition(frames, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.rand(frames, 1, SMALL.height, SMALL.width, generator=generator) > 0.3).float()
    image = torch.rand(frames, 3, SMALL.height, SMALL.width, generator=generator) * 2 - 1
    return Condition(torch.where(mask > 0, image, -1.), mask, torch.ones(frames, SMALL.height, SMALL.width))


def blocks_of(pipe, count=2):
    return [pipe.step(condition(pipe.frames_in_next_block(), i), condition(3).image)[0] for i in range(count)]


# --- the same numbers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('kernel', ['default', 'flash', 'math'])
@pytest.mark.parametrize('file', ['dit_tiny', 'block_loop_tiny'])
def test_exact_settings_equal_the_released_code(shared, monkeypatch, kernel, file):
    load = Golden.load

    def load_fast(golden, module):
        module = load(golden, module)
        if isinstance(module, DiffusionTransformer):
            module.fuse().attend_by(attention(kernel))
            module.use_cpu_kernels()
            assert hasattr(module.blocks[0].self_attn, 'qkv')
        return module

    monkeypatch.setattr(Golden, 'load', load_fast)
    result = verify_file(shared / 'golden' / f'{file}.safetensors')
    assert len(result.items) > 30 and [item for item in result.items if not item.passed] == []


def test_fused_layers_equal_the_released_autoencoder(shared, monkeypatch):
    load = Golden.load
    fused = []

    def load_fused(golden, module):
        module = load(golden, module)
        if isinstance(module, TinyAutoencoder):
            fused.append(module.fuse())
        return module

    monkeypatch.setattr(Golden, 'load', load_fused)
    result = verify_file(shared / 'golden' / 'taehv_tiny.safetensors')
    assert fused and result.items and [item for item in result.items if not item.passed] == []


def test_exact_equals_plain_from_pixels_to_pixels():
    plain, exact = (blocks_of(StarPipeline.random(SMALL, speed=name)) for name in ('plain', 'exact'))
    for a, b in zip(plain, exact, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


@pytest.mark.parametrize('device', [CPU, torch.device('cuda')])
def test_a_stream_gives_the_frames_of_a_step_as_they_are_decoded(device, monkeypatch):
    # On a GPU each latent alone; the loop is the same.
    monkeypatch.setattr(pipeline_module, 'latents_of_parts', lambda count, _: latents_of_parts(count, device))
    whole, streamed = StarPipeline.random(SMALL), StarPipeline.random(SMALL)
    for index, sizes in enumerate(([1, 8], [4, 8]) if device is CPU else ([1, 4, 4], [4, 4, 4])):
        given = condition(sum(sizes), index), condition(3).image
        parts = []
        for part in streamed.stream(*given):
            parts.append(part)
            time.sleep(0.3)
        assert [len(part) for part in parts] == sizes
        images, timings = whole.step(*given)
        assert torch.equal(torch.cat(parts), images)
        found = streamed.stage_seconds()
        assert list(found) == list(timings) and found['decode'] < 0.5, "the caller's time is no stage"


def test_a_restart_is_a_fresh_run_in_the_same_buffers():
    pipe = StarPipeline.random(SMALL)
    first = blocks_of(pipe)
    buffers = [part.data_ptr() for layer in range(2) for part in pipe._state.cache.remembered(layer)]
    pipe.reset(0)
    assert all(torch.equal(a, b) for a, b in zip(first, blocks_of(pipe), strict=True))
    assert buffers == [part.data_ptr() for layer in range(2) for part in pipe._state.cache.remembered(layer)]


@pytest.mark.parametrize('kernel', ['flash', 'math'])
def test_a_chosen_attention_breaks_no_graph(kernel):
    torch._dynamo.reset()
    plain, compiled = make_blocks(), make_blocks()
    compiled.transformer.fuse().attend_by(attention(kernel))
    counter = CompileCounter()
    compiled.compile(backend=counter)
    torch.testing.assert_close(run(compiled), run(plain), rtol=0, atol=1e-4)
    assert counter.frame_count == 4
    compiled.interpret()
    run(compiled)
    assert counter.frame_count == 4
    torch._dynamo.reset()


@pytest.mark.skipif(bool(compiler_lacking(CPU)), reason='needs a C++ compiler')
def test_compiled_passes_write_to_the_cache_in_place(monkeypatch, tmp_path):
    """No buffer of the cache's size in what inductor writes, and the same numbers."""
    from torch._inductor.utils import run_and_get_code
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path))
    torch._dynamo.reset()
    small = replace(SMALL, transformer=replace(SMALL.transformer, num_layers=1))
    plain, compiled = make_blocks(small), make_blocks(small)
    compiled.compile()
    with torch.inference_mode():
        found, sources = run_and_get_code(run, compiled, 2)
    torch.testing.assert_close(found, run(plain, 2), rtol=0, atol=1e-4)
    heads, width = small.transformer.num_heads, small.transformer.head_dim
    whole = f'((1, {3 * small.tokens_per_block}, {heads}, {width})'
    assert len(sources) == 4
    allocated = [line for source in sources for line in source.splitlines()
                 if line.strip().startswith('buf') and 'empty_strided' in line]
    assert allocated and not any(whole in line for line in allocated)
    torch._dynamo.reset()


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_a_captured_block_equals_a_plain_one():
    plain, captured = make_blocks(), make_blocks()
    plain.transformer.cuda(), captured.transformer.cuda()
    captured.capture = True
    torch.testing.assert_close(run(captured, 5), run(plain, 5), rtol=0, atol=1e-4)


# --- memory ----------------------------------------------------------------------------------------------------------


def test_memory_after_a_thousand_steps_is_that_after_ten():
    config = replace(TINY, width=16, height=16, transformer=replace(TINY.transformer, num_layers=1))
    blocks = make_blocks(config)
    state, given = blocks.init(1, torch.Generator().manual_seed(0)), latents(blocks, 0)

    def live():
        gc.collect()
        storages = {s.data_ptr(): s.nbytes() for s in (x.untyped_storage() for x in gc.get_objects()
                                                        if type(x) in (torch.Tensor, torch.nn.Parameter))}
        return sum(storages.values())

    held = {}
    for step in range(1, 1001):
        blocks.step(state, *given)
        if step in (10, 1000):
            held[step] = live()
    # Other tests' garbage may go meanwhile; nothing may come.
    assert held[1000] <= held[10]


# --- choices ---------------------------------------------------------------------------------------------------------


def test_kernels_are_timed_and_those_that_cannot_run_say_why():
    timings = time_attention(16, 48, 3, 16, CPU, torch.float32, repeats=2)
    assert sorted(t.name for t in timings) == sorted(BACKENDS)
    works = [t for t in timings if t.milliseconds is not None]
    assert {'default', 'math'} <= {t.name for t in works}
    assert [t.milliseconds for t in works] == sorted(t.milliseconds for t in works)
    ruled_out = {t.name: t.reason for t in timings if t.milliseconds is None}
    assert 'cudnn' in ruled_out and all(ruled_out.values())


def test_the_plain_formula_is_not_timed_where_its_scores_would_fill_the_memory(monkeypatch):
    from inspatio_ros.star import attention as module
    monkeypatch.setattr(module, '_MOST_SCORES', 2 * 4 * 16 * 48 * 3 - 1)
    timings = {t.name: t for t in time_attention(16, 48, 3, 16, CPU, torch.float32, repeats=1)}
    assert timings['math'].milliseconds is None and timings['math'].reason.startswith('its scores take ')
    assert timings['default'].milliseconds is not None


def test_a_kernel_that_computes_something_else_is_not_taken(monkeypatch):
    from inspatio_ros.star import attention as module
    right = module.attend
    monkeypatch.setattr(module, 'attend', lambda q, k, v: right(q, k, v) * 1.1)
    timings = time_attention(16, 48, 3, 16, CPU, torch.float32, repeats=1)
    assert all(t.milliseconds is None for t in timings)
    assert any(t.reason.startswith('differs from the plain formula by') for t in timings)


@pytest.mark.parametrize('make, message', [
    (lambda: attention('quick'), "attention 'quick' is unknown; choose auto or one of default"),
    (lambda: attention('flash3'), "'flash3' needs FlashAttention-3"),
    (lambda: StarPipeline.random(SMALL, speed='quick'), "speed 'quick' is unknown; choose one of plain"),
    (lambda: StarPipeline.random(SMALL, speed='float8'), 'float8 needs a GPU of compute capability 9.0 or more'),
])
def test_what_cannot_be_had_is_refused_in_one_sentence(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_without_a_compiler_what_needs_one_is_refused(monkeypatch):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    with pytest.raises(ConfigurationError, match=r'no C\+\+ compiler \(no-such-compiler\); choose speed .exact'):
        StarPipeline.random(SMALL, speed='compiled')
    report = StarPipeline.random(SMALL, speed='fast').speed_report
    assert not report['compiled'] and not report['captured']


def test_what_waits_for_a_compiler_is_announced(monkeypatch, caplog):
    monkeypatch.setattr(speed_module, 'compiler_lacking', lambda device: '')
    with caplog.at_level('INFO'):
        report = StarPipeline.random(SMALL, speed='compiled').speed_report
    assert report['compiled'] and 'compiled' in describe(report)
    assert 'compile the block step: a minute or more the first time, then kept in' in caplog.text


def test_only_a_gpu_compiles_without_being_told(monkeypatch):
    gpu = torch.device('cuda')
    assert [name for name, speed in SPEEDS.items() if speed.compiles(CPU)] == ['compiled']
    assert [name for name, speed in SPEEDS.items() if speed.compiles(gpu)] == ['compiled', 'fast', 'float8']


def test_a_cpu_without_fast_products_says_so(monkeypatch):
    from inspatio_ros.star import int8
    monkeypatch.setattr(int8, 'supported', lambda: False)
    monkeypatch.setattr(speed_module, 'cpu_multiplies_bfloat16', lambda: False)
    report = StarPipeline.random(SMALL, speed='fast').speed_report
    assert report['precision'] == 'float32' and 'int8_layers' not in report
    assert 'float32: this CPU has no products of bfloat16 (AMX) or int8 (AVX-512 VNNI)' in describe(report)


def test_every_setting_can_be_asked_for_where_torch_is_not_imported():
    from inspatio_ros import generators
    assert generators.SPEEDS == tuple(SPEEDS)


def test_low_precision_is_taken_on_a_cpu_only_where_it_is_multiplied(monkeypatch):
    assert SPEEDS['fast'].dtype(CPU) == (torch.bfloat16 if cpu_multiplies_bfloat16() else torch.float32)
    monkeypatch.setattr(speed_module, 'cpu_multiplies_bfloat16', lambda: False)
    assert SPEEDS['fast'].dtype(CPU) == torch.float32
    assert SPEEDS['exact'].dtype(CPU) == torch.float32
    assert all(speed.dtype(torch.device('cuda')) == torch.bfloat16 for speed in SPEEDS.values())


def test_the_cache_folder_is_the_users_and_can_be_set(monkeypatch, tmp_path):
    monkeypatch.delenv(speed_module.CACHE_VARIABLE, raising=False)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert speed_module.use_cache_folder() == str(tmp_path / 'inspatio_ros' / 'inductor')
    assert (tmp_path / 'inspatio_ros' / 'inductor').is_dir()
    # What inductor sets by itself is gone with the next start.
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir
    monkeypatch.setenv(speed_module.CACHE_VARIABLE, default_cache_dir())
    assert speed_module.use_cache_folder() == str(tmp_path / 'inspatio_ros' / 'inductor')
    monkeypatch.setenv(speed_module.CACHE_VARIABLE, '/somewhere')
    assert speed_module.use_cache_folder() == '/somewhere'


def test_a_setting_that_fails_does_not_take_the_others_with_it(tmp_path, monkeypatch):
    from small_recording import write_wall

    from inspatio_ros.evaluation import speed_suite
    from inspatio_ros.evaluation.benchmark import drive
    from inspatio_ros.reference import open_reference
    monkeypatch.setenv('CXX', 'no-such-compiler')
    monkeypatch.setattr(speed_suite, 'precision_errors', lambda plan: {})
    reference, kept, said = open_reference(write_wall(tmp_path)), {}, []
    plan = speed_suite.Plan(SMALL, CPU, ('compiled', 'plain'), 300., 1)
    assert not speed_suite.run_suite(plan, reference, partial(drive, reference, twist=lambda time: (0.2, 0., 0.1)),
                                     kept.__setitem__, said.append)
    assert 'no C++ compiler (no-such-compiler)' in kept['failed']['compiled'] and 'speeds.plain' in kept
    assert any(line.startswith('compiled: FAILED, ConfigurationError') for line in said)


# --- to the host -----------------------------------------------------------------------------------------------------


def test_frames_reach_the_host_as_the_simulator_gives_them():
    image = condition(3).image
    coming = HostCopies('cpu').start(to_bytes(image))
    assert coming.is_here()
    assert (coming.array() == to_uint8(image)).all()
    room = HostCopies('cpu').room((5, 32, 48, 3), torch.uint8)
    HostCopies('cpu').start_images(image, room[2:])
    HostCopies('cpu').start(to_bytes(image)[:2], room[:2])
    assert (room[2:].numpy() == to_uint8(image)).all() and (room[:2].numpy() == to_uint8(image)[:2]).all()
    mask = HostCopies('cpu').start_masks(condition(3).mask).place()
    assert (mask == mask_to_uint8(condition(3).mask)).all() and set(mask.ravel().tolist()) == {0, 255}


# --- side by side ----------------------------------------------------------------------------------------------------


def test_speeds_are_compared_on_the_same_frames(tmp_path):
    from small_recording import write_wall

    from inspatio_ros.evaluation.benchmark import drive
    from inspatio_ros.evaluation.speed_comparison import compare_speeds
    from inspatio_ros.reference import open_reference
    from inspatio_ros.simulator import WorldSimulator
    reference = open_reference(write_wall(tmp_path))
    simulators = {name: WorldSimulator(reference, StarPipeline.random(SMALL, dtype=dtype), device='cpu')
                  for name, dtype in (('a', torch.float32), ('b', torch.float32), ('low', torch.bfloat16))}
    path = partial(drive, reference, twist=lambda time: (0.2, 0., 0.1))
    found = compare_speeds(simulators, path, 13)
    assert found['a']['frames'] == found['b']['frames'] == 24
    assert found['a']['psnr_db'] is None and found['b']['psnr_db'] is None
    assert 15 < found['low']['psnr_db'] < 80
    for figures in found.values():
        assert {'render', 'fill', 'encode', 'generate', 'decode', 'all'} <= set(figures['stages_ms_per_frame'])
        assert figures['frames_per_second'] == pytest.approx(24 / (2e-3 * figures['block_ms']['median']), rel=0.2)


def test_the_suite_runs_at_a_tiny_size_and_names_what_it_left_out(tmp_path):
    from small_recording import write_wall

    from inspatio_ros.evaluation.benchmark import drive
    from inspatio_ros.evaluation.speed_suite import Plan, run_suite
    from inspatio_ros.reference import open_reference
    reference = open_reference(write_wall(tmp_path))
    kept, said = {}, []
    run_suite(Plan(SMALL, CPU, ('exact', 'float8'), 300., 2), reference,
              partial(drive, reference, twist=lambda time: (0.2, 0., 0.1)), kept.__setitem__, said.append)
    assert set(kept['matrix_tflops']) == {'float32', 'bfloat16'} and set(kept['skipped']) == {'float8'}
    figures = kept['speeds.exact']
    assert figures['report']['speed'] == 'exact' and figures['waits_in_a_block'] is None
    assert {'render', 'fill', 'encode', 'generate', 'decode', 'to_host'} == set(figures['stages_ms'])
    for name in ('alone', 'ahead'):
        overlap = figures['overlap'][name]
        assert overlap['frames_per_second'] > 0 and overlap['first_frame_ms']['median'] < overlap['block_ms']['median']
    assert 0 < figures['first_pixel_ms']['median'] <= figures['streamed_block_ms']['median']
    assert figures['generate_tflops'] == pytest.approx(
        figures['block_tflop'] / figures['stages_ms']['generate']['median'] * 1e3, rel=0.05)
    assert 0 < kept['error']['bfloat16'] < kept['error']['float8'] < 0.5 and kept['error']['float8_emulated']
    assert kept['splat_ms']['numba_from_torch'] < 0.01


@pytest.mark.parametrize(('given', 'wanted'), [({}, '5000'), ({'GOMP_SPINCOUNT': '7'}, '7'),
                                               ({'OMP_WAIT_POLICY': 'ACTIVE'}, None)])
def test_threads_do_not_spin_long_unless_the_user_says_so(given, wanted):
    clean = {name: value for name, value in os.environ.items() if name not in ('GOMP_SPINCOUNT', 'OMP_WAIT_POLICY')}
    code = 'import os, inspatio_ros; print(os.environ.get("GOMP_SPINCOUNT"))'
    found = subprocess.run([sys.executable, '-c', code], env={**clean, **given}, capture_output=True, text=True,
                           check=True)
    assert found.stdout.strip() == str(wanted)
