# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Recordings: the built-in one and RGB-D folders, whole and with every fault a folder can have."""

from __future__ import annotations

import json
import re
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inspatio_ros.errors import ConfigurationError, RecordingError
from inspatio_ros.geometry import is_rigid, lift, make_pose, project, se3_exp
from inspatio_ros.reference import SAMPLE, Reference, open_reference
from inspatio_ros.reference import sample as sample_module
from inspatio_ros.reference.base import estimate_up
from inspatio_ros.reference.order import in_sequence
from inspatio_ros.reference.rgbd import RgbdFolder
from inspatio_ros.reference.sample import SampleRoom
from inspatio_ros.tum import read_tum, write_tum

WIDTH, HEIGHT, FRAMES = 48, 32, 5
MILLIMETRES = 1000.


@pytest.fixture(scope='module')
def sample() -> SampleRoom:
    return SampleRoom(96, 64, frames=6, ahead=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small recording that is as it should be, on disk."""
    room, path = SampleRoom(WIDTH, HEIGHT, frames=FRAMES, ahead=0), tmp_path / 'recording'
    for name in ('rgb', 'depth'):
        (path / name).mkdir(parents=True)
    for i in range(FRAMES):
        frame = room.frame(i)
        Image.fromarray(frame.image).save(path / 'rgb' / f'{i:06d}.png')
        depth = np.round(frame.z_depth * MILLIMETRES).astype(np.uint16)
        depth[:3] = 0
        Image.fromarray(depth).save(path / 'depth' / f'{i:06d}.png')
    camera = room.camera
    write_json(path / 'intrinsics.json', {
        'fx': camera.fx, 'fy': camera.fy, 'cx': camera.cx, 'cy': camera.cy, 'width': WIDTH, 'height': HEIGHT,
        'depth_scale': MILLIMETRES})
    write_tum(path / 'trajectory.txt', room.times, room.T_world_camera)
    return path


def write_json(path: Path, plain: dict) -> None:
    path.write_text(json.dumps(plain))


def change(path: Path, **fields: object) -> None:
    """Set fields of a JSON file; None takes one out."""
    plain = json.loads(path.read_text()) if path.exists() else {}
    plain.update(fields)
    write_json(path, {name: value for name, value in plain.items() if value is not None})


def change_line(path: Path, number: int, edit: Callable[[list[str]], list[str]]) -> None:
    """Edit the words of a line of the trajectory, counted from 1 in the file."""
    lines = path.read_text().splitlines()
    lines[number - 1] = ' '.join(edit(lines[number - 1].split()))
    path.write_text('\n'.join(lines) + '\n')


def agree(reference: Reference, first: int, second: int) -> float:
    """Lift a frame, project it to another one: how much of the depth there is the same."""
    a, b = reference.frame(first), reference.frame(second)
    pixels, z = project(lift(a.z_depth, reference.camera, a.T_world_camera), reference.camera, b.T_world_camera)
    x, y = np.rint(np.nan_to_num(pixels, nan=-1.)).astype(int).transpose(2, 0, 1)
    inside = (x >= 0) & (x < reference.camera.width) & (y >= 0) & (y < reference.camera.height) & (z > 0)
    there = b.z_depth[y[inside], x[inside]]
    known = np.isfinite(there)
    return float((np.abs(there[known] / z[inside][known] - 1.) < .03).mean())


# --- the sample -------------------------------------------------------------------------------------------------------

def test_the_sample_opens_by_its_name() -> None:
    reference = open_reference(SAMPLE)
    assert isinstance(reference, SampleRoom)
    assert len(reference) * reference.camera.width * reference.camera.height > 10**6
    assert not reference.is_static and reference.scale == 'metric'
    np.testing.assert_array_equal(reference.up, (0., 0., 1.))
    assert (np.diff(reference.times) > 0).all() and all(is_rigid(T) for T in reference.T_world_camera)


def test_frames_of_the_sample_are_the_truth_from_their_poses(sample: SampleRoom) -> None:
    frame = sample.frame(3)
    image, z_depth = sample.truth(sample.camera, sample.T_world_camera[3], sample.times[3])
    np.testing.assert_array_equal(frame.image, image)
    np.testing.assert_array_equal(frame.z_depth, z_depth)
    assert (frame.index, frame.time) == (3, sample.times[3]) and np.isfinite(z_depth).all()
    assert sample.frame(3) is frame and sample.frame(-1).index == len(sample) - 1
    with pytest.raises(IndexError):
        sample.frame(len(sample))


def test_frames_of_the_sample_show_one_room_with_something_that_moves(sample: SampleRoom) -> None:
    assert agree(sample, 0, 5) > .8
    still = sample.truth(sample.camera, sample.T_world_camera[0], 0.)[1]
    later = sample.truth(sample.camera, sample.T_world_camera[0], 1.)[1]
    moved = np.abs(still - later) > .05
    assert .005 < moved.mean() < .2


def test_the_sample_is_the_same_every_time(sample: SampleRoom) -> None:
    again = SampleRoom(96, 64, frames=6, ahead=0)
    np.testing.assert_array_equal(again.T_world_camera, sample.T_world_camera)
    np.testing.assert_array_equal(again.frame(2).image, sample.frame(2).image)


def test_frames_are_cast_ahead_without_being_asked_for() -> None:
    room, without = SampleRoom(32, 24, frames=7, ahead=2), SampleRoom(32, 24, frames=7, ahead=0)
    room._worker.join(60.)
    assert sorted(room._frames) == [0, 1] and not without._frames
    np.testing.assert_array_equal(room.frame(3).image, without.frame(3).image)
    room._worker.join(60.)
    assert sorted(room._frames) == [0, 1, 3, 4, 5]


def test_memory_of_a_long_sample_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_module, '_KEPT', 3)
    room = SampleRoom(16, 12, frames=9, ahead=0)
    for index in range(9):
        assert room.frame(index).index == index
    assert sorted(room._frames) == [6, 7, 8]


def test_nothing_is_cast_for_a_recording_that_nobody_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    cast, raycast = [], sample_module.raycast
    monkeypatch.setattr(sample_module, 'raycast', lambda *args: cast.append(args) or raycast(*args))
    room = SampleRoom(208, 120, frames=40, ahead=40)
    worker, seen = room._worker, weakref.ref(room)
    del room
    worker.join(60.)
    assert not worker.is_alive() and seen() is None and len(cast) < 40


@pytest.mark.parametrize('wrong', [{'frames': 1}, {'width': 0}, {'height': -3}, {'frame_rate': 0.}])
def test_samples_that_cannot_be(wrong: dict) -> None:
    with pytest.raises(ConfigurationError, match='two frames or more'):
        SampleRoom(**wrong)


# --- frames kept out --------------------------------------------------------------------------------------------------

@given(st.sets(st.integers(0, 5), max_size=4))
def test_frames_kept_out(sample: SampleRoom, out: set[int]) -> None:
    kept = [i for i in range(len(sample)) if i not in out]
    rest = sample.without(out)
    assert len(rest) == len(kept) and rest.is_static == sample.is_static
    np.testing.assert_array_equal(rest.times, sample.times[kept])
    np.testing.assert_array_equal(rest.T_world_camera, sample.T_world_camera[kept])
    for index, whole in enumerate(kept):
        assert rest.frame(index).index == index
        assert rest.frame(index).image is sample.frame(whole).image


def test_what_is_kept_out_can_still_be_compared_with(sample: SampleRoom) -> None:
    rest = sample.without([-1])
    assert len(rest) == len(sample) - 1
    image, _ = rest.truth(sample.camera, sample.T_world_camera[-1], sample.times[-1])
    np.testing.assert_array_equal(image, sample.frame(-1).image)


# --- up ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('axis', [(0., 0., 1.), (0., 1., 0.), (0., -1., 0.), (1., 0., 0.)])
def test_up_is_found_in_worlds_of_any_axis(sample: SampleRoom, axis: tuple) -> None:
    # Turn the world so that its up, z, becomes the axis.
    helper = np.roll(axis, 1)
    T = make_pose(np.stack([np.cross(helper, axis), helper, axis], axis=1))
    assert is_rigid(T)
    np.testing.assert_array_equal(estimate_up(T @ sample.T_world_camera), axis)


def test_up_of_a_tilted_world_is_not_snapped(sample: SampleRoom) -> None:
    tilt = se3_exp(np.array([0., 0., 0., np.radians(40.), 0., 0.]))
    up = estimate_up(tilt @ sample.T_world_camera)
    assert np.degrees(np.arccos(up @ tilt[:3, 2])) < 12. and np.linalg.norm(up) == pytest.approx(1.)


@pytest.mark.parametrize('tilted', [40., 12.])
@pytest.mark.parametrize('down', [0., 35., 90.])
def test_up_is_told_by_cameras_that_turned_however_far_they_look_down(down: float, tilted: float) -> None:
    # 12 degrees: a world that is its first camera, which looked a little down.
    tilt = se3_exp(np.array([0., 0., 0., np.radians(tilted), np.radians(10.), 0.]))
    poses = []
    for heading in np.radians([0., 40., 80.]):
        forward = np.array([np.cos(heading), np.sin(heading), 0.])
        across = np.array([np.sin(heading), -np.cos(heading), 0.])
        angle = np.radians(down)
        look = np.cos(angle) * forward - np.sin(angle) * np.array([0., 0., 1.])
        poses.append(make_pose(np.stack([across, np.cross(look, across), look], axis=1)))
    up = estimate_up(tilt @ np.array(poses))
    np.testing.assert_allclose(up, tilt[:3, 2], atol=1e-9)
    # Carried by hand in a gravity-aligned world: near enough to an axis to be that axis.
    shaken = se3_exp(np.array([0., 0., 0., np.radians(3.), 0., 0.]))
    np.testing.assert_array_equal(estimate_up(shaken @ np.array(poses)), (0., 0., 1.))


# --- RGB-D folders ----------------------------------------------------------------------------------------------------

def test_a_folder_gives_back_what_was_written(folder: Path) -> None:
    reference, room = open_reference(folder), SampleRoom(WIDTH, HEIGHT, frames=FRAMES, ahead=0)
    assert isinstance(reference, RgbdFolder)
    assert (reference.name, len(reference), reference.camera) == ('recording', FRAMES, room.camera)
    assert reference.is_static and reference.scale == 'metric' and reference.truth(room.camera, np.eye(4), 0.) is None
    np.testing.assert_array_equal(reference.up, (0., 0., 1.))
    np.testing.assert_allclose(reference.times, room.times)
    np.testing.assert_allclose(reference.T_world_camera, room.T_world_camera, atol=1e-9)
    for i in range(FRAMES):
        frame, truth = reference.frame(i), room.frame(i)
        np.testing.assert_array_equal(frame.image, truth.image)
        assert frame.z_depth.dtype == np.float32 and np.isnan(frame.z_depth[:3]).all()
        np.testing.assert_allclose(frame.z_depth[3:], truth.z_depth[3:], atol=.00051)
    assert reference.frame(1) is reference.frame(1)
    with pytest.raises(IndexError):
        reference.frame(FRAMES)


def test_a_folder_may_say_more_of_itself(folder: Path) -> None:
    write_json(folder / 'metadata.json', {'static': False, 'up': [0, 2, 0], 'scale': 'relative', 'name': 'lab'})
    reference = open_reference(str(folder))
    assert (reference.name, reference.is_static, reference.scale) == ('lab', False, 'relative')
    np.testing.assert_array_equal(reference.up, (0., 1., 0.))


def test_numbers_in_names_are_counted_not_spelt(folder: Path) -> None:
    names = {'000000': '9', '000001': '10', '000002': '11', '000003': '100', '000004': '101'}
    for before, after in names.items():
        for kind in ('rgb', 'depth'):
            (folder / kind / f'{before}.png').rename(folder / kind / f'frame_{after}.png')
    reference, room = open_reference(folder), SampleRoom(WIDTH, HEIGHT, frames=FRAMES, ahead=0)
    for i in range(FRAMES):
        np.testing.assert_array_equal(reference.frame(i).image, room.frame(i).image)
    stamps = ['7.25', '7.5', '12.000001', '12.1']
    assert sorted(stamps[::-1], key=in_sequence) == stamps


def test_frames_kept_are_few_where_they_are_large(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from inspatio_ros.reference import rgbd
    monkeypatch.setattr(rgbd, '_BYTES_KEPT', 10 * 7 * WIDTH * HEIGHT)
    assert RgbdFolder(folder)._kept.cache_info().maxsize == 10
    monkeypatch.setattr(rgbd, '_BYTES_KEPT', 1)
    assert RgbdFolder(folder)._kept.cache_info().maxsize == rgbd._LEAST_KEPT


@pytest.mark.parametrize('none', ['none', '', None, 0., [0, 0., 0, 0, 0], {'k1': 0.}])
def test_distortion_that_is_none_is_no_fault(folder: Path, none: object) -> None:
    plain = json.loads((folder / 'intrinsics.json').read_text())
    write_json(folder / 'intrinsics.json', {**plain, 'distortion': none})
    open_reference(folder)


def test_memory_does_not_grow_with_what_was_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from inspatio_ros.reference import rgbd
    monkeypatch.setattr(rgbd, '_FRAMES_KEPT', 2)
    reference = RgbdFolder(folder)
    frames = [reference.frame(i) for i in range(FRAMES)]
    assert reference.frame(FRAMES - 1) is frames[-1] and reference.frame(0) is not frames[0]
    assert reference._kept.cache_info().currsize == 2


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def cut_short_behind_a_preview(folder: Path) -> None:
    path = folder / 'rgb' / '000002.jpg'
    with Image.open(path.with_suffix('.png')) as image:
        image.save(path, comment=b'a picture \xff\xd9 within the picture')
    path.with_suffix('.png').unlink()
    path.write_bytes(path.read_bytes()[:-200])


def resize(path: Path) -> None:
    with Image.open(path) as image:
        image.resize((WIDTH - 1, HEIGHT)).save(path)


def keep_one(folder: Path) -> None:
    for i in range(1, FRAMES):
        (folder / 'rgb' / f'{i:06d}.png').unlink()
        (folder / 'depth' / f'{i:06d}.png').unlink()


def eight_bit_depth(folder: Path) -> None:
    path = folder / 'depth' / '000001.png'
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(path)


def scale_quaternion(words: list[str]) -> list[str]:
    return words[:4] + [str(1.2 * float(word)) for word in words[4:]]


def no_depth_at_all(folder: Path) -> None:
    for path in (folder / 'depth').iterdir():
        Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16)).save(path)


def sixteen_bit_image(folder: Path) -> None:
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16)).save(folder / 'rgb' / '000001.png')


def hold_every_way(folder: Path) -> None:
    """Turn the camera so that neither its x axes lie in a plane nor its y axes have a mean."""
    times, poses = read_tum(folder / 'trajectory.txt')
    x = np.eye(3)[[0, 0, 1, 1, 2]]
    y = np.array([[0., 1., 0.], [0., -1., 0.], [-.5, 0., .75**.5], [-.5, 0., -.75**.5], [1., 0., 0.]])
    poses[:, :3, :3] = np.stack([x, y, np.cross(x, y)], axis=2)
    write_tum(folder / 'trajectory.txt', times, poses)


def hold_on_its_side(folder: Path) -> None:
    """Turn about the x axis alone, as who turns on the spot with a phone held upright does."""
    times, poses = read_tum(folder / 'trajectory.txt')
    poses = np.array([se3_exp(np.array([0., 0., 0., angle, 0., 0.])) for angle in np.linspace(-1.2, 1.2, len(poses))])
    write_tum(folder / 'trajectory.txt', times, poses)


def drop_last_pose(folder: Path) -> None:
    path = folder / 'trajectory.txt'
    path.write_text('\n'.join(path.read_text().splitlines()[:-1]))


def lose_intrinsics(field: str) -> tuple[Callable[[Path], None], str]:
    return lambda f: change(f / 'intrinsics.json', **{field: None}), f"intrinsics.json: the field '{field}' is missing"


# What is done to a good folder, and what must be said then.
FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    'truncated image': (lambda f: cut_short(f / 'rgb' / '000002.png'), r'000002.png is truncated'),
    'truncated depth': (lambda f: cut_short(f / 'depth' / '000004.png'), r'depth/000004.png is truncated'),
    'truncated image with a preview': (cut_short_behind_a_preview, r'000002.jpg is truncated'),
    'not an image': (lambda f: (f / 'rgb' / '000000.png').write_text('hello'), r'000000.png is not an image'),
    'image of another size': (lambda f: resize(f / 'rgb' / '000001.png'),
                              r'000001.png: the image is 47x32, but intrinsics.json says 48x32'),
    'depth of another size': (lambda f: resize(f / 'depth' / '000003.png'),
                              r'000003.png: the depth is 47x32, but intrinsics.json says 48x32'),
    'depth of 8 bits': (eight_bit_depth, r'000001.png: depth has pixels of kind L; it must be 16-bit'),
    'no depth of a frame': (lambda f: (f / 'depth' / '000002.png').unlink(),
                            r'frame 000002 is in rgb/ but not in depth/'),
    'no image of a frame': (lambda f: (f / 'rgb' / '000002.png').unlink(),
                            r'frame 000002 is in depth/ but not in rgb/'),
    'fewer poses than frames': (drop_last_pose, r'trajectory.txt has 4 poses for 5 frames'),
    'NaN in a pose': (lambda f: change_line(f / 'trajectory.txt', 3, lambda w: [*w[:2], 'nan', *w[3:]]),
                      r'trajectory.txt line 3: nan is not a finite number'),
    'non-rigid pose': (lambda f: change_line(f / 'trajectory.txt', 4, scale_quaternion),
                       r'trajectory.txt line 4: the quaternion has length 1.2, not 1'),
    'time that goes back': (lambda f: change_line(f / 'trajectory.txt', 4, lambda w: ['-1', *w[1:]]),
                            r'trajectory.txt line 4: time -1.0 is not after'),
    'seven numbers': (lambda f: change_line(f / 'trajectory.txt', 2, lambda w: w[:7]),
                      r'trajectory.txt line 2: 7 numbers instead of 8'),
    'no trajectory': (lambda f: (f / 'trajectory.txt').unlink(), r'trajectory.txt: there is no such'),
    'no intrinsics': (lambda f: (f / 'intrinsics.json').unlink(), r'intrinsics.json is missing'),
    'intrinsics not JSON': (lambda f: (f / 'intrinsics.json').write_text('{'), r'cannot be read as JSON'),
    'focal length 0': (lambda f: change(f / 'intrinsics.json', fx=0), r'fx is 0; it must be a positive number'),
    'distorted': (lambda f: change(f / 'intrinsics.json', distortion_model='plumb_bob'), r'undistort'),
    'distorted by a coefficient': (lambda f: change(f / 'intrinsics.json', coeffs=[0., -.3]),
                                   r'coeffs says .* undistort'),
    'no depth at all': (no_depth_at_all, r'depth: no pixel looked at in 5 frames has a depth'),
    'depth scale of the other kind': (lambda f: change(f / 'intrinsics.json', depth_scale=1 / MILLIMETRES),
                                      r'depth_scale 0.001 the median depth is .*e\+06 m; depth_scale is units a metre'),
    'image of 16 bits': (sixteen_bit_image, r'000001.png: the image has pixels of kind I;16; it must be 8-bit'),
    'held every way round': (hold_every_way, r'held every way round, so which way is up cannot be told'),
    'held on its side': (hold_on_its_side, r'held on their side, so which way is up cannot be told'),
    'millimetres read as metres': (lambda f: change(f / 'intrinsics.json', depth_scale=1),
                                   r'depth_scale 1 the median depth is .*e\+03 m; depth_scale is units a metre'),
    'intrinsics of another size': (lambda f: change(f / 'intrinsics.json', cx=3 * WIDTH / 2),
                                   r'cx 72 lies outside of an image of 48x32; fx, fy, cx and cy must be those of'),
    'two images of one name': (lambda f: Image.open(f / 'rgb' / '000001.png').save(f / 'rgb' / '000001.jpg'),
                               r'holds both 000001.jpg and 000001.png; keep one file for each frame'),
    'one frame': (keep_one, r'holds a sequence of one frame'),
    'metadata of another kind': (lambda f: change(f / 'metadata.json', static='no'), r'static must be a bool'),
    'unknown metadata': (lambda f: change(f / 'metadata.json', statik=True), r"unknown field 'statik'; it may hold"),
    'unknown scale': (lambda f: change(f / 'metadata.json', scale='feet'), r"scale 'feet' is unknown; choose one of"),
    'up is nothing': (lambda f: change(f / 'metadata.json', up=[0, 0, 0]),
                      r'up \[0, 0, 0\] is not a direction'),
    **{f'intrinsics without {field}': lose_intrinsics(field)
       for field in ('fx', 'fy', 'cx', 'cy', 'width', 'height', 'depth_scale')},
}


def append_to_an_image(folder: Path) -> None:
    """Put behind an image's end what cameras put there."""
    for path in ('rgb/000001.png', 'depth/000002.png'):
        (folder / path).write_bytes((folder / path).read_bytes() + bytes(4096))


def mark_byte_order(folder: Path) -> None:
    for name in ('trajectory.txt', 'intrinsics.json'):
        (folder / name).write_bytes(b'\xef\xbb\xbf' + (folder / name).read_bytes().replace(b'\n', b'\r\n'))


def leave_hidden_files(folder: Path) -> None:
    for name in ('rgb', 'depth'):
        (folder / name / '._000001.png').write_bytes(b'no image')


@pytest.mark.parametrize('change_it', [append_to_an_image, mark_byte_order, leave_hidden_files])
def test_what_other_systems_leave_in_a_recording_does_no_harm(folder: Path, change_it: Callable[[Path], None]) -> None:
    before = open_reference(folder)
    change_it(folder)
    after = open_reference(folder)
    assert len(after) == len(before) == FRAMES
    np.testing.assert_array_equal(after.T_world_camera, before.T_world_camera)
    for i in range(FRAMES):
        np.testing.assert_array_equal(after.frame(i).image, before.frame(i).image)
        np.testing.assert_array_equal(after.frame(i).z_depth, before.frame(i).z_depth)


@pytest.mark.parametrize('fault', FAULTS)
def test_a_fault_is_said_in_one_sentence_at_opening(folder: Path, fault: str) -> None:
    open_reference(folder)
    spoil, sentence = FAULTS[fault]
    spoil(folder)
    with pytest.raises(RecordingError, match=sentence) as caught:
        open_reference(folder)
    assert str(folder) in str(caught.value) and '\n' not in str(caught.value)


def test_folders_that_are_none(tmp_path: Path) -> None:
    for path, sentence in ((tmp_path / 'nowhere', 'there is no such folder'), (tmp_path, 'is empty')):
        with pytest.raises(RecordingError, match=f'{re.escape(str(path))}.*{sentence}'):
            open_reference(path)
    file = tmp_path / 'file'
    file.write_text('')
    with pytest.raises(RecordingError, match='is not a folder'):
        open_reference(file)


def test_pixels_that_cannot_be_decoded_are_said_when_they_are_read(folder: Path) -> None:
    path = folder / 'rgb' / '000002.png'
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle:middle + 40] = bytes(40)
    path.write_bytes(data)
    reference = open_reference(folder)
    assert reference.frame(1).image.shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(RecordingError, match='000002.png cannot be decoded'):
        reference.frame(2)


# --- the real recording -----------------------------------------------------------------------------------------------

def test_the_office_fits_together(shared_office: Path) -> None:
    office = open_reference(shared_office)
    assert (len(office), office.camera.width, office.camera.height) == (250, 540, 360)
    assert office.is_static and office.name == 'hololens_office_a'
    np.testing.assert_array_equal(office.up, (0., 1., 0.))
    frame = office.frame(100)
    assert frame.image.shape == (360, 540, 3) and .4 < np.isfinite(frame.z_depth).mean() < .9
    assert .3 < np.nanmin(frame.z_depth) and np.nanmax(frame.z_depth) < 20.
    # Depth, poses and intrinsics belong together: neighbouring frames lift onto each other.
    assert min(agree(office, i, i + 1) for i in (20, 120, 220)) > .85
