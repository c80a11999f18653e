# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Real data: what is bad is skipped and counted, what is held out is never drawn, and pairs fit their geometry."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from inspatio_ros.errors import RecordingError
from inspatio_ros.geometry import make_pose
from inspatio_ros.reference.held_out import held_out_frames, kept_from_training
from inspatio_ros.star.presets import TINY_GUIDED
from inspatio_ros.training.data import ClipFolder
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.real_data import (
    ImageFolder,
    RealVideo,
    RgbdFrames,
    VideoFile,
    main,
    open_sources,
    pair_clip,
    write_pairs,
)
from inspatio_ros.training.reconstruction import of_recording
from inspatio_ros.training.stages import blank
from inspatio_ros.tum import write_tum

WIDTH, HEIGHT, FRAMES = 96, 64, 150
HELD_OUT = kept_from_training(FRAMES)
RATE = 12.
FOCAL, DISTANCE, STEP = 80., 2., 0.025


def write_recording(folder: Path) -> Path:
    """A camera that moves along a painted wall, a pixel a frame; frames that are held out are pure red."""
    for name in ('rgb', 'depth'):
        (folder / name).mkdir(parents=True)
    paint = np.random.default_rng(0).integers(0, 200, (8, 20, 3), dtype=np.uint8)
    paint = cv2.resize(paint, (WIDTH + FRAMES, HEIGHT), interpolation=cv2.INTER_CUBIC)
    for i in range(FRAMES):
        image = np.full((HEIGHT, WIDTH, 3), (0, 0, 255), np.uint8) if i in HELD_OUT else paint[:, i:i + WIDTH]
        cv2.imwrite(str(folder / 'rgb' / f'{i:06d}.png'), image)
        cv2.imwrite(str(folder / 'depth' / f'{i:06d}.png'), np.full((HEIGHT, WIDTH), DISTANCE * 1000, np.uint16))
    (folder / 'intrinsics.json').write_text(json.dumps(
        {'fx': FOCAL, 'fy': FOCAL, 'cx': (WIDTH - 1) / 2, 'cy': (HEIGHT - 1) / 2, 'width': WIDTH, 'height': HEIGHT,
         'depth_scale': 1000.}))
    poses = np.stack([make_pose(translation=np.array([i * STEP, 0., 0.])) for i in range(FRAMES)])
    write_tum(folder / 'trajectory.txt', np.arange(FRAMES) * 0.1, poses)
    return folder


def write_video(path: Path, frames: int, rate: int = 12) -> Path:
    """A video whose frame i is grey of brightness 4 i."""
    import av
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('mpeg4', rate=rate)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, 'yuv420p', 2_000_000
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 4 * i, np.uint8), format='rgb24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_red_left(path: Path, matrix: bytes) -> Path:
    """A video whose left half is red, with the matrix of the track's header that says how it is shown."""
    import av
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :32, 0] = 220
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('mpeg4', rate=12)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, 'yuv420p', 2_000_000
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
        container.mux(stream.encode())
    content = bytearray(path.read_bytes())
    start = content.index(b'tkhd') + 44
    content[start:start + 36] = matrix
    path.write_bytes(content)
    return path


@pytest.fixture
def recording(tmp_path):
    return write_recording(tmp_path / 'wall')


def is_red(clip):
    red = (clip[:, :, 0] > 240) & (clip[:, :, 1] < 20) & (clip[:, :, 2] < 20)
    return bool(red.any())


def write_images(folder: Path, frames: int) -> Path:
    """Images of a folder; image i is grey of brightness 4 i."""
    folder.mkdir()
    for i in range(frames):
        cv2.imwrite(str(folder / f'{i:04d}.png'), np.full((48, 64, 3), 4 * i, np.uint8))
    return folder


def test_folder_of_images_is_a_video_less_what_cannot_be_opened(tmp_path):
    folder = write_images(tmp_path / 'frames', 12)
    (folder / '0003.png').write_bytes(b'half')
    cv2.imwrite(str(folder / '0009.png'), np.zeros((20, 20, 3), np.uint8))
    source = ImageFolder(folder)
    assert source.skipped == 2 and source.windows(4) == [4, 5] and source.windows(3) == [0, 4, 5, 6]
    assert source.read(4, 4).shape == (4, 48, 64, 3) and source.read(4, 4)[:, 0, 0, 0].tolist() == [16, 20, 24, 28]
    clip = RealVideo([folder], 96, 64, 4, RATE).draw(2, torch.Generator().manual_seed(0))
    assert clip.shape == (2, 4, 3, 64, 96) and torch.equal(clip[0, 1] - clip[0, 0], torch.full((3, 64, 96), 4))


def test_images_beside_videos_are_not_taken_for_one(tmp_path):
    folder = write_images(tmp_path / 'both', 5)
    write_video(folder / 'a.mp4', 5)
    sources, skipped = open_sources([folder])
    assert [source.name for source in sources] == [str(folder / 'a.mp4')] and not skipped


def test_image_that_breaks_off_is_named_when_it_is_read(tmp_path):
    folder = write_images(tmp_path / 'frames', 3)
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    cv2.imwrite(str(folder / '0001.png'), noise)
    whole = (folder / '0001.png').read_bytes()
    (folder / '0001.png').write_bytes(whole[:len(whole) // 2])
    source = ImageFolder(folder)
    with pytest.raises(RecordingError, match='0001.png cannot be decoded'):
        source.read(0, 3)
    for file in folder.iterdir():
        file.write_bytes(b'')
    with pytest.raises(RecordingError, match='holds no image that can be opened'):
        ImageFolder(folder)


def test_pictures_stand_as_their_files_say(tmp_path):
    folder = tmp_path / 'upright'
    folder.mkdir()
    # Red above, stored lying on its left side.
    upright = np.zeros((64, 48, 3), np.uint8)
    upright[:32, :, 0] = 200
    for i in range(3):
        image = Image.fromarray(np.rot90(upright))
        exif = image.getexif()
        exif[0x0112] = 6  # turn clockwise to show
        image.save(folder / f'{i}.png', exif=exif)
    source = ImageFolder(folder)
    assert source.skipped == 0 and np.array_equal(source.read(0, 3), np.stack([upright] * 3))
    lying = write_video(tmp_path / 'v.mp4', 9)
    assert VideoFile(lying).read(0, 9).shape == (9, 48, 64, 3)
    content = bytearray(lying.read_bytes())
    # The matrix of the track's header (ISO 14496-12, 8.3.2), as a telephone that is held upright writes it.
    matrix = content.index(b'tkhd') + 44
    assert struct.unpack_from('>9i', content, matrix) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    struct.pack_into('>9i', content, matrix, 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
    lying.write_bytes(content)
    turned = VideoFile(write_red_left(tmp_path / 'w.mp4', bytes(content[matrix:matrix + 36]))).read(0, 3)
    assert VideoFile(lying).read(0, 9).shape == (9, 64, 48, 3) and turned.shape == (3, 64, 48, 3)
    # Turned clockwise, what was on the left is above.
    assert turned[:, :24, :, 0].min() > 150 and turned[:, 40:, :, 0].max() < 50


def test_an_odd_image_that_comes_first_does_not_say_what_size_all_have(tmp_path):
    folder = write_images(tmp_path / 'frames', 6)
    cv2.imwrite(str(folder / '0000.png'), np.zeros((20, 20, 3), np.uint8))
    assert ImageFolder(folder).windows(5) == [1] and ImageFolder(folder).skipped == 1


def test_held_out_frames_are_never_drawn(recording):
    video = RealVideo([recording], 96, 64, 9, RATE)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([video.draw(4, generator) for _ in range(10)])
    assert drawn.shape[1:] == (9, 3, 64, 96) and not is_red(drawn)
    kept = RgbdFrames(recording).reference.frame(held_out_frames(FRAMES)[0]).image
    assert is_red(torch.from_numpy(kept).permute(2, 0, 1)[None, None])
    rng = np.random.default_rng(0)
    for _ in range(3):
        clip = pair_clip(RgbdFrames(recording), rng, 48, 32, (9, 4), RATE)
        assert not any(is_red(images) for images in (clip.truth, clip.filled, clip.reference))


def test_rendered_pairs_show_what_the_window_shows(recording):
    clip = pair_clip(RgbdFrames(recording), np.random.default_rng(1), 96, 64, (9, 4), RATE)
    assert clip.stills and clip.truth.shape == (1, 13, 3, 64, 96) and clip.reference.shape[1] == 6
    known = clip.mask.expand_as(clip.truth) > 0
    assert known.float().mean() > 0.6
    error = (clip.truth.float() - clip.filled.float())[known].abs().mean()
    still = (clip.truth[:, 4:].float() - clip.truth[:, :-4].float()).abs().mean()
    assert error < 3 and still > 3 * error


def test_autoencoder_is_judged_on_held_out_frames_alone(recording, tmp_path):
    networks = Networks(TINY_GUIDED)
    red = torch.zeros(1, 1, 3, networks.config.height, networks.config.width)
    red[:, :, 0] = 1.
    guide = blank(red, red[:, :, :1])
    with torch.no_grad():
        made = networks.autoencoder.decode(networks.autoencoder.encode(red), guide)
    found = of_recording(networks, recording)
    assert found['clips'] == len(HELD_OUT)
    assert found['alone'] == pytest.approx(float(-10 * torch.log10((made - red).square().mean())), abs=0.01)
    for number in HELD_OUT:
        for kind in ('rgb', 'depth'):
            (recording / kind / f'{number:06d}.png').write_bytes(b'')
    with pytest.raises(RecordingError, match='none of the frames that are held out'):
        of_recording(networks, recording)


def test_bad_frames_are_skipped_and_counted_and_no_window_bridges_them(recording):
    for name in ('rgb/000010.png', 'depth/000040.png'):
        file = recording / name
        file.write_bytes(file.read_bytes()[:50])
    cv2.imwrite(str(recording / 'depth' / '000041.png'), np.ones((8, 8), np.uint16))
    frames = RgbdFrames(recording)
    assert frames.skipped == 3 and len(frames.reference) == FRAMES - 3
    bad = {10, 40, 41, *HELD_OUT}
    starts = [frames.reference.numbers[start] for start in frames.windows(9)]
    assert starts == [i for i in range(FRAMES - 8) if not bad & set(range(i, i + 9))] and starts
    image = frames.read(frames.windows(9)[-1], 9)
    assert np.array_equal(image[0], cv2.imread(str(recording / 'rgb' / f'{starts[-1]:06d}.png'))[..., ::-1])


def test_video_windows_are_the_frames_that_were_asked_for(tmp_path):
    video = VideoFile(write_video(tmp_path / 'v.mp4', 60))
    assert len(video.windows(21)) == 40 and video.skipped == 0
    for start in (0, 7, 39):
        means = video.read(start, 21).mean(axis=(1, 2, 3))
        assert np.abs(means - 4 * np.arange(start, start + 21)).max() < 3
    with pytest.raises(RecordingError, match='gives only 20 of 21'):
        video.read(40, 21)


def test_damaged_video_gives_what_is_left_of_it_and_counts_the_rest(tmp_path):
    path = write_video(tmp_path / 'v.mp4', 60)
    content = bytearray(path.read_bytes())
    middle = content.index(b'mdat') + 4
    end = content.rindex(b'moov') - 8
    third = middle + (end - middle) // 3
    content[third:third + (end - middle) // 6] = bytes(range(256)) * ((end - middle) // 6 // 256) + bytes(
        (end - middle) // 6 % 256)
    path.write_bytes(content)
    video = VideoFile(path)
    assert 0 < video.skipped and 20 < len(video.windows(1)) < 60


def test_held_out_windows_share_no_frame_with_drawn_ones(tmp_path):
    video = RealVideo([write_video(tmp_path / 'v.mp4', 60)], 32, 32, 9, RATE)
    kept = {frame for window in video._held_out for frame in range(window.start, window.start + 9)}
    drawn = {frame for window in video._train for frame in range(window.start, window.start + 9)}
    assert kept and drawn and not kept & drawn
    assert torch.equal(video.held_out(2), video.held_out(2)) and video.held_out(2).shape[1:] == (9, 3, 32, 32)


def test_short_video_is_trained_on_as_a_whole(tmp_path):
    video = RealVideo([write_video(tmp_path / 'v.mp4', 10)], 32, 32, 9, RATE)
    assert len(video) == 2 and video.held_out(4).shape == (0, 9, 3, 32, 32)


def test_same_seed_draws_the_same_clips(tmp_path):
    video = RealVideo([write_video(tmp_path / 'v.mp4', 60)], 32, 32, 9, RATE)
    first, again, other = (video.draw(2, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_nothing_usable_is_one_clear_error(tmp_path):
    with pytest.raises(RecordingError, match='no usable real data in .* is empty'):
        open_sources([tmp_path])
    (tmp_path / 'notes.mp4').write_text('not a video')
    with pytest.raises(RecordingError, match='no usable real data.*notes.mp4 cannot be read as a video'):
        open_sources([tmp_path])
    write_video(tmp_path / 'short.mp4', 5)
    with pytest.raises(RecordingError, match='9 usable frames in a row'):
        RealVideo([tmp_path], 32, 32, 9, RATE)


def test_one_bad_source_does_not_stop_the_others(tmp_path, capsys):
    (tmp_path / 'a.mp4').write_text('not a video')
    write_video(tmp_path / 'b.mp4', 30)
    write_video(tmp_path / 'c.mp4', 5)
    video = RealVideo([tmp_path], 32, 32, 9, RATE)
    assert list(video.skipped) == [str(tmp_path / 'a.mp4')] and len(video.sources) == 2
    said = capsys.readouterr().err
    assert f'skipped {tmp_path / "a.mp4"}: ' in said
    assert f'skipped {tmp_path / "c.mp4"}: it has no 9 usable frames in a row' in said and 'b.mp4' not in said


@pytest.mark.parametrize(('file', 'text'), [('README.md', 'Original: KITTI odometry benchmark'),
                                            ('LICENSE', 'Attribution-NonCommercial 4.0')])
def test_data_that_must_not_be_trained_on_is_refused(recording, file, text):
    (recording / file).write_text(text)
    with pytest.raises(RecordingError, match=f'is not trained on: .*{file}'):
        RgbdFrames(recording)


def test_street_recording_is_refused_by_its_own_words_and_the_office_is_not(shared):
    with pytest.raises(RecordingError, match='kitti'):
        open_sources([shared / 'data' / 'kitti_street_a'])
    office = RgbdFrames(shared / 'data' / 'hololens_office_a')
    assert len(office.usable) == 250 - len(HELD_OUT) and office.skipped == 0


@pytest.mark.parametrize('total', [2, 40, 90, 250, 300, 1234])
def test_no_frame_that_the_office_suite_measures_is_trained_on_whatever_the_length(total):
    kept = kept_from_training(total)
    assert kept >= set(held_out_frames(total))
    assert total < 40 or len(kept) < total / 5
    if total == 250:
        assert kept == {frame + near for frame in (25, 75, 125, 175, 225) for near in (-2, -1, 0, 1, 2)}


def test_sources_that_are_faster_than_clips_give_every_nth_frame(recording, tmp_path):
    fast = VideoFile(write_video(tmp_path / 'fast.mp4', 60, 24))
    assert fast.rate == 24. and fast.stride(RATE) == 2 and len(fast.windows(9, 2)) == 60 - 16
    brightness = fast.read(5, 4, 2).mean(axis=(1, 2, 3))
    assert np.abs(brightness - [20, 28, 36, 44]).max() < 3
    video = RealVideo([tmp_path / 'fast.mp4'], 32, 32, 9, RATE)
    clip = video.draw(1, torch.Generator().manual_seed(0)).float().mean(dim=(0, 2, 3, 4))
    assert (clip.diff() - 8).abs().max() < 3
    walk = RgbdFrames(recording)
    assert walk.rate == pytest.approx(10.) and walk.stride(RATE) == 1 and walk.stride(5.) == 2
    for start in walk.windows(9, 2):
        assert not HELD_OUT & set(range(walk.reference.numbers[start], walk.reference.numbers[start] + 17))
    start = walk.windows(9, 2)[0]
    assert np.array_equal(walk.read(start, 9, 2), walk.read(start, 17)[::2])
    clip = pair_clip(walk, np.random.default_rng(1), 96, 64, (9, 4), 5.)
    assert np.allclose(clip.views.block.T_world_camera[0, :, 0, 3].diff(), 2 * STEP, atol=1e-5)


def test_no_window_bridges_frames_that_a_video_lacks(tmp_path):
    video = VideoFile(write_video(tmp_path / 'v.mp4', 60))
    # As where a packet in the middle could not be decoded.
    del video._times[30:32]
    assert 29 in video.windows(1) and all(start + 8 < 30 or start >= 30 for start in video.windows(9))


def test_images_of_a_recording_are_no_way_round_what_is_held_out(recording):
    (source,), _ = open_sources([recording / 'rgb'])
    assert isinstance(source, RgbdFrames) and len(source.usable) == FRAMES - len(HELD_OUT)


def test_one_damaged_frame_does_not_spoil_the_clips_of_others(recording):
    # Whole header and tail, broken between: found when it is decoded.
    for kind in ('rgb', 'depth'):
        file = recording / kind / '000100.png'
        content = bytearray(file.read_bytes())
        content[60:-60] = bytes(len(content) - 120)
        file.write_bytes(content)
    made = 0
    for seed in range(6):
        try:
            pair_clip(RgbdFrames(recording), np.random.default_rng(seed), 48, 32, (9, 4), RATE)
            made += 1
        except RecordingError as error:
            assert '000100.png' in str(error)
    assert made >= 3


def test_pairs_are_not_made_of_depth_that_cannot_be_believed(recording, tmp_path, capsys):
    whole = write_recording(tmp_path / 'whole')
    plain = json.loads((recording / 'intrinsics.json').read_text())
    (recording / 'intrinsics.json').write_text(json.dumps({**plain, 'depth_scale': 1.}))
    assert len(RealVideo([recording], 32, 32, 9, RATE)) > 0  # its images are as good as any
    with pytest.raises(RecordingError, match=r'no RGB-D folder.*median depth is 2e\+03 m'):
        write_pairs([recording], tmp_path / 'a', 1, 48, 32, (9, 4), RATE)
    video, nowhere = write_video(tmp_path / 'v.mp4', 5), tmp_path / 'nowhere'
    nowhere.mkdir()
    capsys.readouterr()
    assert write_pairs([recording, whole, video, nowhere], tmp_path / 'a', 2, 48, 32, (9, 4), RATE) == 0
    said = capsys.readouterr().err
    assert 'median depth is 2e+03 m' in said and f'{video} has no depth' in said and f'skipped {nowhere}: ' in said
    assert len(list((tmp_path / 'a').iterdir())) == 2


def test_pairs_are_written_where_training_finds_them(recording, tmp_path, capsys):
    arguments = ['--recording', str(recording), '--output', str(tmp_path / 'train'), '--count', '1',
                 '--config', str(Path(__file__).parents[1] / 'config' / 'training' / 'nano.yaml')]
    assert main(arguments) == 0
    assert '1 clips written' in capsys.readouterr().out
    clips = ClipFolder(tmp_path / 'train')
    assert len(clips) == 1 and next(clips.batches(1)).truth.shape == (1, 21, 3, 128, 192)
    # Another recording's lie beside them, and what is there already is not made again.
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / 'train').iterdir()}
    other = write_recording(tmp_path / 'another wall')
    assert main([arguments[0], str(other), *arguments[2:]]) == 0 and main([*arguments, '--count', '2']) == 0
    assert len(list((tmp_path / 'train').iterdir())) == 3
    assert all(path.stat().st_mtime_ns == before for path, before in made.items())
    assert main([*arguments[:1], str(tmp_path / 'nowhere'), *arguments[2:]]) == 1
    assert 'no usable real data' in capsys.readouterr().err
