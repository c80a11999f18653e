# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The command line: quick, quiet, and one line for what the user can mend."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from inspatio_ros import cli
from inspatio_ros.commands import doctor, options
from inspatio_ros.errors import ConfigurationError, RecordingError

HEAVY = ('torch', 'rclpy', 'cv2', 'numba', 'open3d', 'scipy', 'av')


def run(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess:
    """Run the command line, or a piece of Python, in a process of its own."""
    command = ['-c', code] if code else ['-m', 'inspatio_ros.cli', *arguments]
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120)


def test_help_is_quick_and_lists_every_command() -> None:
    # The processor's time, which is what the wall clock shows where nobody else uses the machine.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = run('--help')
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert answer.returncode == 0
    assert all(f'\n    {name} ' in answer.stdout for name in cli.COMMANDS)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.


@pytest.mark.parametrize('command', [[], *([name] for name in cli.COMMANDS)])
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    code = (f'import sys\nfrom inspatio_ros.cli import main\ntry:\n    main({[*command, "--help"]!r})\n'
            f'except SystemExit as end:\n    assert end.code == 0\n'
            f'print("HEAVY", [name for name in {HEAVY!r} if name in sys.modules])')
    answer = run(code=code)
    assert answer.stdout.splitlines()[-1] == 'HEAVY []', answer.stdout + answer.stderr


@pytest.mark.parametrize(('arguments', 'message'), [
    (['paint'], "invalid choice: 'paint'"),
    (['render'], 'one of the arguments --trajectory --hold-out is required'),
    (['demo', '--size', '192'], "'192' is not WIDTHxHEIGHT"),
    (['demo', '--duration', 'nan'], "'nan' is not a number above zero"),
    (['bench', '--frames', '0'], "'0' is not a whole number above zero"),
    (['demo', '--seed', str(2**31)], 'is not a whole number from 0 to 2147483647'),
])
def test_bad_usage_is_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    answer = run(*arguments)
    assert answer.returncode == 2
    assert answer.stderr.startswith('inspatio: error: ') and message in answer.stderr
    assert answer.stderr.count('\n') == 1 and not answer.stdout


def test_an_error_of_ours_is_one_line_and_its_exit_code(monkeypatch, capsys) -> None:
    def fail(_: object) -> int:
        raise RecordingError('no frames in somewhere; record some')
    monkeypatch.setattr(doctor, 'run', fail)
    assert cli.main(['doctor']) == RecordingError.exit_code == 1
    assert capsys.readouterr().err == 'inspatio: error: no frames in somewhere; record some\n'


def test_ctrl_c_ends_with_130_and_no_traceback(monkeypatch, capsys) -> None:
    def interrupt(_: object) -> int:
        raise KeyboardInterrupt
    monkeypatch.setattr(doctor, 'run', interrupt)
    assert cli.main(['doctor']) == 130
    assert capsys.readouterr().err == 'inspatio: stopped\n'


def test_a_reader_that_has_seen_enough_ends_the_command_and_a_script_can_tell(tmp_path: Path) -> None:
    script = tmp_path / 'talks.py'
    script.write_text('import sys\nfrom inspatio_ros import cli\n'
                      "cli.COMMANDS['doctor'].run = lambda _: [print('line', i, flush=True) for i in range(100000)]\n"
                      "sys.exit(cli.main(['doctor']))\n")
    done = subprocess.run(['bash', '-c', f'set -o pipefail; {sys.executable} {script} | head -1'],
                          capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (141, 'line 0\n', '')


def test_a_mistake_of_ours_is_not_hidden(monkeypatch) -> None:
    def blunder(_: object) -> int:
        raise ZeroDivisionError
    monkeypatch.setattr(doctor, 'run', blunder)
    with pytest.raises(ZeroDivisionError):
        cli.main(['doctor'])


def test_the_output_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / 'out' / 'result'
    with pytest.raises(RuntimeError), options.output_folder(target, ['image'], force=False) as folder:
        (folder / 'image').mkdir()
        raise RuntimeError
    assert not list(tmp_path.iterdir()), 'the folder above is gone too'
    with options.output_folder(target, ['image'], force=False) as folder:
        (folder / 'image').mkdir()
        (folder / 'image' / 'a.png').touch()
        assert not target.exists()
    assert (target / 'image' / 'a.png').is_file()
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['result']


def test_an_earlier_output_is_replaced_only_by_force(tmp_path: Path) -> None:
    (tmp_path / 'image').mkdir()
    (tmp_path / 'image' / 'old.png').touch()
    with pytest.raises(ConfigurationError, match=r'not empty.*--force'), \
            options.output_folder(tmp_path, ['image'], force=False):
        pytest.fail('it was let in')
    with options.output_folder(tmp_path, ['image'], force=True) as folder:
        (folder / 'image').mkdir()
    assert not list((tmp_path / 'image').iterdir())


def test_an_output_that_is_a_disk_of_its_own_is_written_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, move = tmp_path / 'disk', os.replace
    disk.mkdir()

    def replace_on_one_disk(source: Path, target: Path) -> None:
        if disk in Path(source).parents:
            return move(source, target)
        raise OSError(errno.EXDEV, 'Invalid cross-device link')
    monkeypatch.setattr(os, 'replace', replace_on_one_disk)
    with options.output_folder(disk, ['image'], force=False) as folder:
        (folder / 'image').mkdir()
    assert [path.name for path in disk.iterdir()] == ['image']
    # What a killed run left is in nobody's way.
    (disk / f'{options._PARTIAL}x').mkdir()
    with options.output_folder(disk, ['image'], force=True) as folder:
        (folder / 'image').mkdir()
        (folder / 'image' / 'a.png').touch()
    assert (disk / 'image' / 'a.png').is_file()
    with pytest.raises(ConfigurationError, match='cannot write .* cross-device'), \
            options.output_folder(tmp_path / 'elsewhere', ['image'], force=False) as folder:
        (folder / 'image').mkdir()


def test_what_is_not_ours_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / 'thesis.tex').write_text('years of work')
    with pytest.raises(ConfigurationError, match=r'thesis\.tex'), \
            options.output_folder(tmp_path, ['image'], force=True):
        pytest.fail('it was let in')
    assert (tmp_path / 'thesis.tex').read_text() == 'years of work'
    with pytest.raises(ConfigurationError, match='is a file'), \
            options.output_folder(tmp_path / 'thesis.tex', ['image'], force=True):
        pytest.fail('it was let in')


def test_an_output_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    with pytest.raises(ConfigurationError, match='cannot write the output folder'), \
            options.output_folder(tmp_path / 'file' / 'out', [], force=False):
        pytest.fail('it was let in')


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_an_output_without_permission_says_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(ConfigurationError, match='ermission denied'), \
            options.output_folder(tmp_path / 'out', [], force=False):
        pytest.fail('it was let in')


def test_verify_prints_the_largest_error_and_judges(shared: Path, tmp_path: Path, capsys) -> None:
    golden = shared / 'golden' / 'scheduler.safetensors'
    assert cli.main(['verify', str(golden), '--device', 'cpu']) == 0
    assert 'scheduler' in capsys.readouterr().out
    damaged = tmp_path / 'damaged.safetensors'
    damaged.write_bytes(golden.read_bytes()[:1000])
    assert cli.main(['verify', str(damaged), str(golden)]) == 1
    answer = capsys.readouterr()
    assert str(damaged) in answer.err and answer.err.count('\n') == 1
    assert 'scheduler.safetensors' in answer.out


def test_verify_fails_beyond_the_tolerance(shared: Path, tmp_path: Path, capsys) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file
    with safe_open(shared / 'golden' / 'scheduler.safetensors', 'pt') as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  the file is no dict
        metadata = file.metadata()
    tensors['out.sigmas'] = tensors['out.sigmas'] + 0.5
    save_file(tensors, tmp_path / 'wrong.safetensors', metadata)
    assert cli.main(['verify', str(tmp_path / 'wrong.safetensors')]) == 1
    out = capsys.readouterr().out
    assert 'BEYOND' in out and '0.5' in out


def test_the_doctor_names_what_is_missing_and_what_mends_it(monkeypatch, capsys) -> None:
    works = doctor.Finding('python', True, 'fine')
    lacking = doctor.Finding('ros', False, 'no rclpy', 'make setup')
    optional = doctor.Finding('cv_bridge', False, 'absent', needed=False)
    monkeypatch.setattr(doctor, 'findings', lambda _: [works, optional])
    assert cli.main(['doctor']) == 0
    monkeypatch.setattr(doctor, 'findings', lambda _: [works, optional, lacking])
    assert cli.main(['doctor']) == 1
    out = capsys.readouterr().out
    assert 'mend: make setup' in out and 'ros missing' in out


def test_the_doctor_goes_on_where_torch_cannot_be_loaded(monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise OSError('libcudart.so.12: cannot open shared object file')
    monkeypatch.setattr('inspatio_ros.star.checkpoint.find_folder', broken)
    for finding in (doctor.check_large_weights(None), doctor.check_nano()):
        assert not finding.works and finding.detail.startswith('OSError: libcudart')


def test_the_doctor_sees_a_library_that_does_not_import(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, 'rclpy', None)
    assert not doctor.check_ros().works
    finding = doctor.check_import('json', 'never mind')
    assert finding.works and finding.needed


def test_the_doctor_finds_this_machine_fit_for_the_demo() -> None:
    for module in ('rclpy', 'tf2_msgs'):
        pytest.importorskip(module)
    answer = run('doctor')
    assert answer.returncode == 0, answer.stdout
    assert 'MISSING' not in answer.stdout and 'The main job can run here' in answer.stdout
    for name in ('python', 'torch', 'ros', 'tf2_msgs', 'h264', 'nano weights'):
        assert f'ok      {name} ' in answer.stdout
