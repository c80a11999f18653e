# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Whatever is wrong with the input, every command says it in one line, exits with 1, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from faulty_recordings import FAULTS, write_faulty, write_truncated_weights
from small_recording import HEIGHT, WIDTH, sideways, write_wall

from inspatio_ros import cli
from inspatio_ros.tum import write_tum

SIZE = ['--size', f'{WIDTH}x{HEIGHT}', '--device', 'cpu']
#: Every command that opens a recording, without the recording; {} is a folder for what it needs and writes.
COMMANDS = {
    'render': ['render', '--trajectory', '{}/poses.txt', '--generator', 'render', *SIZE, '--output', '{}/new/out'],
    'hold out': ['render', '--hold-out', '1', '--generator', 'render', *SIZE, '--output', '{}/new/out'],
    'demo': ['demo', '--generator', 'render', *SIZE, '--output', '{}/new/out'],
    'bench': ['bench', '--generator', 'render', *SIZE, '--json', '{}/bench.json'],
    'evaluate': ['evaluate', '--suite', 'office', '--generator', 'render', *SIZE, '--output', '{}/new/out'],
}


def command(name: str, folder: Path, *more: str) -> list[str]:
    """Give a command's arguments, with a good trajectory in the folder."""
    write_tum(folder / 'poses.txt', np.arange(3) * 0.1, sideways([0., 0.05, 0.1]))
    return [argument.replace('{}', str(folder)) for argument in COMMANDS[name]] + list(more)


def refused(arguments: list[str], folder: Path, capsys: pytest.CaptureFixture) -> str:
    """Run a command that must fail, and give its one line; nothing in the folder may come or go."""
    before = sorted(folder.rglob('*'))
    assert cli.main(arguments) == 1
    answer = capsys.readouterr()
    assert answer.err.startswith('inspatio: error: ') and answer.err.count('\n') == 1, answer.err
    assert not answer.out
    assert sorted(folder.rglob('*')) == before
    return answer.err


@pytest.mark.parametrize('fault', FAULTS)
@pytest.mark.parametrize('name', COMMANDS)
def test_a_faulty_recording(tmp_path: Path, capsys, name: str, fault: str) -> None:
    recording = write_faulty(tmp_path, fault)
    arguments = command(name, tmp_path, '--reference', str(recording))
    line = refused(arguments, tmp_path, capsys)
    assert str(recording) in line and FAULTS[fault][1] in line


@pytest.fixture(scope='module')
def good(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make a recording without fault."""
    return str(write_wall(tmp_path_factory.mktemp('good')))


@pytest.fixture(scope='module')
def truncated(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make weights that were cut short."""
    return str(write_truncated_weights(tmp_path_factory.mktemp('cut')))


@pytest.mark.parametrize('name', ['render', 'bench'])
@pytest.mark.parametrize(('arguments', 'words'), [
    (['--generator', 'dream'], "generator 'dream' is unknown; choose one of render, nano, 1.3b"),
    (['--size', '100x64'], 'width 100 is not a positive multiple of 16; try 96 or 112'),
    (['--device', 'abacus'], "device 'abacus' is unknown; choose one of auto, cpu, cuda, cuda:1"),
    (['--generator', 'nano', '--weights', 'TRUNCATED'], 'transformer.safetensors is truncated'),
    (['--generator', 'nano', '--weights', '/nowhere'], 'there is no weights folder /nowhere'),
    (['--generator', '1.3b'], "there are no weights for '1.3b'"),
])
def test_what_no_generator_can_be(tmp_path: Path, capsys, monkeypatch, good: str, truncated: str, name: str,
                                  arguments: list[str], words: str) -> None:
    monkeypatch.delenv('INSPATIO_WEIGHTS', raising=False)
    arguments = [truncated if argument == 'TRUNCATED' else argument for argument in arguments]
    assert words in refused(command(name, tmp_path, '--reference', good, *arguments), tmp_path, capsys)


@pytest.mark.parametrize('name', ['render', 'hold out', 'demo', 'evaluate'])
def test_an_output_that_cannot_be_written(tmp_path: Path, capsys, good: str, name: str) -> None:
    (tmp_path / 'file').touch()
    more = [*command(name, tmp_path, '--reference', good), '--output']
    if name == 'evaluate':
        # The recording is too short to hold five frames out of.
        more = ['evaluate', '--suite', 'scenes', '--generator', 'render', *SIZE, '--output']
    below = str(tmp_path / 'file' / 'deep' / 'out')
    assert f'{below}: {tmp_path / "file"} is a file' in refused([*more, below], tmp_path, capsys)
    assert f'{tmp_path / "file"} is a file; name a folder' in refused([*more, str(tmp_path / 'file')], tmp_path, capsys)
    assert 'cannot write the output folder /proc/out' in refused([*more, '/proc/out'], tmp_path, capsys)


def test_too_short_a_recording_to_hold_frames_out_of(tmp_path: Path, capsys, good: str) -> None:
    line = refused(command('hold out', tmp_path, '--reference', good, '--hold-out', '2'), tmp_path, capsys)
    assert 'has 3 frames, too few to hold 2 out of' in line


def test_a_size_of_nothing(capsys) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(['demo', '--size', '0x0'])
    assert end.value.code == 2 and "'0x0' is not WIDTHxHEIGHT" in capsys.readouterr().err


def test_golden_files_that_are_none(tmp_path: Path, capsys) -> None:
    (tmp_path / 'a.safetensors').write_bytes(b'')
    (tmp_path / 'b.json').write_text('{"x": ')
    for path, words in ((tmp_path / 'nowhere.safetensors', 'is not a file'), (tmp_path, 'is not a file'),
                        (tmp_path / 'a.safetensors', 'is truncated'), (tmp_path / 'b.json', 'is truncated')):
        line = refused(['verify', str(path)], tmp_path, capsys)
        assert str(path) in line and words in line
    assert "device 'abacus' is unknown" in refused(['verify', str(tmp_path), '--device', 'abacus'], tmp_path, capsys)


def test_the_doctor_wants_the_weights_that_it_was_shown(monkeypatch, capsys) -> None:
    from inspatio_ros.commands import doctor
    monkeypatch.setattr(doctor, 'findings', lambda weights: [doctor.check_large_weights(weights)])
    monkeypatch.delenv('INSPATIO_WEIGHTS', raising=False)
    assert cli.main(['doctor']) == 0
    assert 'absent' in capsys.readouterr().out
    assert cli.main(['doctor', '--weights', '/nowhere']) == 1
    assert 'MISSING 1.3b weights  there is no weights folder /nowhere' in capsys.readouterr().out
