# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Files of tensors that the released code computed, and comparisons with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from inspatio_ros.errors import WeightsError
from inspatio_ros.star.checkpoint import TensorFile, check_fit, own_names

#: How much more than the released code a low-precision type may lose here.
LOW_PRECISION_FACTOR = 1.5


@dataclass(frozen=True)
class Item:
    """One comparison: the largest absolute error (or the share of wrong pixels) and what is allowed."""

    name: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance (NaN is not)."""
        return self.error <= self.tolerance


@dataclass(frozen=True)
class Result:
    """All comparisons of one file."""

    file: Path
    kind: str
    items: tuple[Item, ...]

    @property
    def worst(self) -> Item:
        """The comparison that comes closest to its tolerance, or is furthest beyond."""
        return max(self.items, key=lambda item: _strain(item))

    @property
    def passed(self) -> bool:
        """Whether every comparison is within its tolerance."""
        return all(item.passed for item in self.items)


def _strain(item: Item) -> float:
    if np.isnan(item.error):
        return float('inf')
    return item.error / item.tolerance if item.tolerance else (float('inf') if item.error else 0.)


class Golden:
    """One opened file: tensors on a device, and metadata."""

    def __init__(self, path: Path, device: torch.device, dtype: torch.dtype) -> None:
        self.path, self.device, self.dtype = path, device, dtype
        self._file = TensorFile(path)
        self.names = tuple(self._file.shapes)
        self.metadata = self._file.metadata

    def __getitem__(self, name: str) -> Tensor:
        """Read a tensor to the device, in the type it is stored in."""
        if name not in self._file.shapes:
            raise WeightsError(f'{self.path} lacks {name!r}, which a file of its kind holds')
        return self._file.tensor(name).to(self.device)

    def __contains__(self, name: str) -> bool:
        """Say whether the file holds a tensor."""
        return name in self._file.shapes

    def json(self, key: str) -> dict[str, Any]:
        """Read an entry of the metadata that is JSON."""
        try:
            return json.loads(self.metadata[key])
        except (KeyError, ValueError) as error:
            raise WeightsError(f'{self.path} has no readable {key!r} in its metadata') from error

    def load(self, module: nn.Module) -> nn.Module:
        """Load the file's state dict into a module, strictly."""
        stored = {name[3:]: name for name in self.names if name.startswith('sd.')}
        names, strays = own_names(stored)
        check_fit({own: self._file.shapes[stored[name]] for own, name in names.items()},
                  {name: tuple(value.shape) for name, value in module.state_dict().items()}, self.path, strays)
        module.load_state_dict({own: self[stored[name]] for own, name in names.items()})
        return module.to(self.device, self.dtype).eval().requires_grad_(False)

    def compare(self, name: str, value: Tensor, tolerance: float, last: bool = False) -> Iterator[Item]:
        """Compare with out.<name>; with a low-precision type only where the file says what that may cost.

        `last`: compare with the last frames [N, T, ...] of what the file holds.
        """
        expected = self[f'out.{name}']
        if last:
            expected = expected[:, expected.shape[1] - value.shape[1]:]
        if self.dtype != torch.bfloat16:
            yield Item(name, largest(value, expected), tolerance)
        elif f'bf16.{name}' in self:
            yardstick = self[f'bf16.{name}']
            for suffix, measure in (('', largest), (' (rms)', rms)):
                allowed = LOW_PRECISION_FACTOR * measure(yardstick, expected)
                yield Item(f'{name}{suffix}', measure(value, expected), allowed)


def largest(a: Tensor, b: Tensor) -> float:
    """Give the largest absolute difference of two tensors of one shape."""
    if a.shape != b.shape:
        raise WeightsError(f'shapes differ: {tuple(a.shape)} here, {tuple(b.shape)} in the file')
    return float((a.double() - b.double()).abs().max()) if a.numel() else 0.


def rms(a: Tensor, b: Tensor) -> float:
    """Give the root mean square difference of two tensors of one shape."""
    return float((a.double() - b.double()).square().mean().sqrt())
