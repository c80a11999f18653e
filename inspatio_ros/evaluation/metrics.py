# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How far an image is from the truth: PSNR, PSNR after a gain fit, and SSIM, each over all pixels or under a mask.

Images are [..., H, W, C] with values 0 to 255 (uint8 or float); masks are bool or numbers [..., H, W], where what is
not zero counts. A metric over no pixels at all is NaN; the PSNR of identical images is infinite.
"""

from __future__ import annotations

import math

import numpy as np

from inspatio_ros.errors import ConfigurationError

PEAK = 255.
#: SSIM's Gaussian window, in pixels.
_WINDOW, _SIGMA = 11, 1.5


class ErrorSum:
    """Squared error summed over many images, so that a long clip has one pooled PSNR without being kept."""

    def __init__(self) -> None:
        self.total, self.values = 0., 0

    def add(self, image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> None:
        """Add the pixels of an image [..., H, W, C] that lie under the mask [..., H, W]."""
        _check_shapes(image, truth, mask)
        if np.ndim(image) > 3:
            # Frame by frame: a long clip is not to be in memory as float64.
            for index in range(len(image)):
                self.add(image[index], truth[index], None if mask is None else mask[index])
            return
        image, truth = _selected(image, truth, mask)
        self.total += float(np.square(image - truth).sum())
        self.values += image.size

    @property
    def psnr(self) -> float:
        """PSNR in dB over everything added."""
        if not self.values:
            return math.nan
        return math.inf if self.total == 0 else 10 * math.log10(PEAK**2 * self.values / self.total)


def psnr(image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Peak signal-to-noise ratio in dB: 10 log10(255^2 / mean squared error)."""
    error = ErrorSum()
    error.add(image, truth, mask)
    return error.psnr


def fit_gain(image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Fit the gain [C] of each channel that brings an image closest to the truth (least squares)."""
    image, truth = _selected(image, truth, mask)
    power = np.square(image).sum(axis=0)
    return np.where(power > 0, (image * truth).sum(axis=0) / np.where(power > 0, power, 1.), 1.)


def gain_fit_psnr(image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """PSNR in dB after a gain fit of each channel: blind to exposure and white balance, which cameras change."""
    gain = fit_gain(image, truth, mask)
    return psnr(np.clip(np.asarray(image, dtype=np.float64) * gain, 0., PEAK), truth, mask)


def ssim(image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Structural similarity of images [..., H, W, C] (Wang et al. 2004: Gaussian window of 11 pixels, sigma 1.5).

    The mean is taken over channels and pixels; under a mask, over the pixels whose window is centred in it.
    """
    _check_shapes(image, truth, mask)
    similarity = ssim_map(image, truth)
    if mask is not None:
        similarity = similarity[np.asarray(mask) != 0]
    return float(similarity.mean()) if similarity.size else math.nan


def ssim_map(image: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Give the structural similarity of every pixel, the mean over its channels: float64 [..., H, W]."""
    _check_shapes(image, truth, None)
    x, y = (np.asarray(a, dtype=np.float64) for a in (image, truth))
    c1, c2 = (0.01 * PEAK)**2, (0.03 * PEAK)**2
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    var_x, var_y = _window_mean(x * x) - mean_x**2, _window_mean(y * y) - mean_y**2
    covariance = _window_mean(x * y) - mean_x * mean_y
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)
                  / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)))
    return similarity.mean(axis=-1)


def for_json(value: float, digits: int = 3) -> float | None:
    """Round a figure for a report; what JSON cannot hold (NaN, infinity) becomes None."""
    return round(float(value), digits) if math.isfinite(value) else None


def _window_mean(x: np.ndarray) -> np.ndarray:
    import cv2
    images = x.reshape(-1, *x.shape[-3:])
    blurred = [cv2.GaussianBlur(image, (_WINDOW, _WINDOW), _SIGMA, borderType=cv2.BORDER_REFLECT) for image in images]
    return np.stack(blurred).reshape(x.shape)


def _selected(image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Give the pixels under the mask as float64 [N, C]."""
    _check_shapes(image, truth, mask)
    image, truth = (np.asarray(a, dtype=np.float64) for a in (image, truth))
    if mask is None:
        return image.reshape(-1, image.shape[-1]), truth.reshape(-1, truth.shape[-1])
    inside = np.asarray(mask) != 0
    return image[inside], truth[inside]


def _check_shapes(image: np.ndarray, truth: np.ndarray, mask: np.ndarray | None) -> None:
    if np.ndim(image) < 3 or np.shape(image) != np.shape(truth):
        raise ConfigurationError(
            f'images to compare must both be [..., H, W, C], got {np.shape(image)} and {np.shape(truth)}')
    if mask is not None and np.shape(mask) != np.shape(image)[:-1]:
        raise ConfigurationError(f'the mask must be {np.shape(image)[:-1]} like the image, got {np.shape(mask)}')
