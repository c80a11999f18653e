# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Metrics, pictures and videos."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.evaluation import metrics
from inspatio_ros.evaluation.pictures import Row, contact_sheet, write_png
from inspatio_ros.evaluation.video import VideoWriter


def picture(seed: int, height: int = 24, width: int = 32) -> np.ndarray:
    """Give noise, uint8 [H, W, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def half(shape: tuple[int, ...]) -> np.ndarray:
    """Give a mask of the left half."""
    mask = np.zeros(shape, bool)
    mask[..., : shape[-1] // 2] = True
    return mask


@given(seed=st.integers(0, 2**16), step=st.integers(1, 60))
def test_psnr_of_a_constant_error_is_what_the_definition_says(seed: int, step: int) -> None:
    truth = picture(seed) // 2
    assert metrics.psnr(truth + np.uint8(step), truth) == pytest.approx(20 * math.log10(255 / step), abs=1e-9)


@settings(deadline=None)
@given(seed=st.integers(0, 2**16))
def test_identical_images_are_infinitely_alike(seed: int) -> None:
    image = picture(seed)
    assert metrics.psnr(image, image) == math.inf
    assert metrics.ssim(image, image) == pytest.approx(1., abs=1e-9)
    assert metrics.for_json(metrics.psnr(image, image)) is None


@given(seed=st.integers(0, 2**16), gain=st.lists(st.floats(0.05, 0.9), min_size=3, max_size=3))
def test_a_gain_of_each_channel_changes_nothing_after_the_fit(seed: int, gain: list[float]) -> None:
    image, truth = picture(seed).astype(float), picture(seed + 1)
    assert metrics.gain_fit_psnr(image * gain, truth) == pytest.approx(metrics.gain_fit_psnr(image, truth), abs=1e-6)
    assert metrics.gain_fit_psnr(truth * np.array(gain), truth) > 200
    assert metrics.psnr(truth * np.array(gain), truth) < 60


@given(seed=st.integers(0, 2**16))
def test_the_fit_never_makes_an_image_worse(seed: int) -> None:
    image, truth = picture(seed), picture(seed + 1)
    assert metrics.gain_fit_psnr(image, truth) >= metrics.psnr(image, truth) - 1e-9


@pytest.mark.parametrize('metric', [metrics.psnr, metrics.gain_fit_psnr])
def test_what_lies_outside_the_mask_does_not_count(metric) -> None:
    image, truth, other = picture(0), picture(1), picture(2)
    mask = half(truth.shape[:2])
    mixed = np.where(mask[..., None], image, other)
    assert metric(mixed, truth, mask) == metric(image, truth, mask)
    assert metric(mixed, truth, mask) != metric(image, truth)
    assert math.isnan(metric(image, truth, np.zeros_like(mask)))


def test_ssim_under_a_mask_sees_the_damage_only_where_it_is() -> None:
    truth = picture(0, 48, 64)
    damaged = truth.copy()
    damaged[:, 48:] = 128
    clean = np.zeros(truth.shape[:2], bool)
    clean[:, :40] = True
    assert metrics.ssim(damaged, truth, clean) == pytest.approx(1., abs=1e-9)
    assert metrics.ssim(damaged, truth, ~clean) < 0.6
    assert metrics.ssim(damaged, truth) < 0.9


def test_ssim_falls_with_noise_and_keeps_frames_apart() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:48, :64]
    truth = np.stack([128 + 90 * np.sin(x / 5 + c) * np.cos(y / 7) for c in range(3)], axis=-1)
    levels = [metrics.ssim(truth + rng.normal(0, s, truth.shape), truth) for s in (2, 8, 32)]
    assert levels[0] > 0.95 and levels[0] > levels[1] > levels[2]
    noisy = truth + rng.normal(0, 20, truth.shape)
    both = metrics.ssim(np.stack([truth, noisy]), np.stack([truth, truth]))
    assert both == pytest.approx((1. + metrics.ssim(noisy, truth)) / 2, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(counts=st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_the_pooled_error_does_not_depend_on_how_a_clip_is_cut(counts: list[int]) -> None:
    total = sum(counts)
    clip, truth = np.stack([picture(i) for i in range(total)]), np.stack([picture(i + 50) for i in range(total)])
    pooled, start = metrics.ErrorSum(), 0
    for count in counts:
        pooled.add(clip[start:start + count], truth[start:start + count], half((count, 24, 32)))
        start += count
    assert pooled.psnr == pytest.approx(metrics.psnr(clip, truth, half(clip.shape[:-1])), abs=1e-9)


def test_images_of_other_shapes_are_refused() -> None:
    with pytest.raises(ConfigurationError, match='both be'):
        metrics.psnr(picture(0), picture(0)[:-1])
    with pytest.raises(ConfigurationError, match='mask'):
        metrics.psnr(picture(0), picture(1), np.ones((3, 3)))


def test_a_video_holds_every_frame_and_its_rate(tmp_path) -> None:
    import av
    colours = [(200, 40, 40), (40, 200, 40), (40, 40, 200)] * 4
    with VideoWriter(tmp_path / 'clip.mp4', 64, 48, 12.) as video:
        for colour in colours:
            video.write(np.full((48, 64, 3), colour, np.uint8))
    with av.open(str(tmp_path / 'clip.mp4')) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, float(stream.average_rate)) == ('h264', 'yuv420p', 12.)
        frames = [frame.to_ndarray(format='rgb24') for frame in container.decode(stream)]
    assert len(frames) == len(colours)
    for frame, colour in zip(frames, colours, strict=True):
        assert np.abs(frame[24, 32].astype(int) - colour).max() < 12
    assert [p.name for p in tmp_path.iterdir()] == ['clip.mp4']


def test_a_video_that_fails_leaves_nothing(tmp_path) -> None:
    with pytest.raises(ConfigurationError, match='a frame of this video'), \
            VideoWriter(tmp_path / 'clip.mp4', 64, 48, 12.) as video:
        video.write(np.zeros((48, 64, 3), np.uint8))
        video.write(np.zeros((10, 64, 3), np.uint8))
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigurationError, match='cannot write'):
        VideoWriter(tmp_path / 'no' / 'clip.mp4', 64, 48, 12.)


def test_depth_survives_a_png(tmp_path) -> None:
    import cv2
    depth = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 20
    write_png(tmp_path / 'depth.png', depth)
    assert np.array_equal(cv2.imread(str(tmp_path / 'depth.png'), cv2.IMREAD_UNCHANGED), depth)
    write_png(tmp_path / 'image.png', picture(3))
    assert np.array_equal(cv2.imread(str(tmp_path / 'image.png'))[..., ::-1], picture(3))


def test_a_contact_sheet_shows_each_image_in_its_place() -> None:
    red, mask = np.full((30, 40, 3), (250, 0, 0), np.uint8), np.full((30, 40), 255, np.uint8)
    sheet = contact_sheet(['image', 'mask', 'truth'], [Row('t = 0', [red, mask, None])], cell_width=80)
    is_red = (sheet == (250, 0, 0)).all(axis=-1)
    assert is_red.sum() == 80 * 60
    assert np.argwhere(is_red).min(axis=0).tolist() == [22, 0]
    with pytest.raises(ConfigurationError, match='at least one image'):
        contact_sheet(['image'], [Row('nothing', [None])])
