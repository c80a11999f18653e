# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""How well nano's autoencoder gives back what it is given: held-out clips, and held-out frames of recordings.

What it loses on true clips no generator in its latents can win back in holes; known pixels come from the render.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from inspatio_ros.errors import RecordingError
from inspatio_ros.reference.held_out import kept_from_training
from inspatio_ros.reference.rgbd import RgbdFolder
from inspatio_ros.star.autoencoder import TinyAutoencoder
from inspatio_ros.training.data import ClipFolder, images_to_tensor, unit
from inspatio_ros.training.entry import run
from inspatio_ros.training.export import load_networks
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.real_data import fit
from inspatio_ros.training.stages import blank


@torch.no_grad()
def psnr_of(autoencoder: TinyAutoencoder, truth: Tensor, guide: tuple[Tensor, Tensor]) -> float:
    """Encode and decode a clip [1, T, 3, H, W] in [0, 1], under a guide (render, mask): PSNR in dB."""
    made = autoencoder.decode(autoencoder.encode(truth), guide).float()
    return float(-10 * torch.log10((made - truth).square().mean()))


def of_clips(networks: Networks, clips: ClipFolder) -> dict[str, float]:
    """Give the mean PSNR over clips: of latents alone, and with the render beside them."""
    alone, guided = [], []
    for clip in clips.batches(1):
        truth, guide = unit(clip.truth), networks.guide(clip)
        alone.append(psnr_of(networks.autoencoder, truth, blank(*guide)))
        guided.append(psnr_of(networks.autoencoder, truth, guide))
    return {'clips': len(alone), 'alone': sum(alone) / len(alone), 'guided': sum(guided) / len(guided)}


def of_recording(networks: Networks, recording: Path) -> dict[str, float]:
    """Give the mean PSNR over the frames that nothing was trained on, each a still, as references are encoded."""
    config, reference = networks.config, RgbdFolder(recording, skip_bad=True)
    found, held_out = [], kept_from_training(reference.total)
    for index, number in enumerate(reference.numbers):
        if number in held_out:
            image = fit(reference.frame(index).image[None], config.width, config.height)
            truth = unit(images_to_tensor(image))
            found.append(psnr_of(networks.autoencoder, truth, blank(truth, truth[:, :, :1])))
    if not found:
        raise RecordingError(f'{recording} has none of the frames that are held out ({sorted(held_out)[0]} and on)')
    return {'clips': len(found), 'alone': sum(found) / len(found)}


def main(arguments: list[str] | None = None) -> int:
    """Print the table of held-out clips and recordings."""
    parser = argparse.ArgumentParser(prog='python -m inspatio_ros.training.reconstruction', description=main.__doc__)
    parser.add_argument('--clips', type=Path, required=True, help='folder of held-out clips')
    parser.add_argument('--recording', type=Path, nargs='*', default=[], help='RGB-D folders with held-out frames')
    parser.add_argument('--weights', type=Path, help='folder of weights (the shipped ones if left out)')
    options = parser.parse_args(arguments)

    def show() -> None:
        networks = load_networks(options.weights)
        rows = {str(options.clips): of_clips(networks, ClipFolder(options.clips))}
        rows |= {str(path): of_recording(networks, path) for path in options.recording}
        print('| PSNR in dB | clips or stills | latents alone | with the render |\n|---|---|---|---|')
        for name, row in rows.items():
            guided = f'{row["guided"]:.2f}' if 'guided' in row else '–'
            print(f'| {Path(name).name} | {row["clips"]} | {row["alone"]:.2f} | {guided} |')

    return run(show)


if __name__ == '__main__':
    sys.exit(main())
