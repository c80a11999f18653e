# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Which parameter is moved by what, and how far."""

from __future__ import annotations

import pytest
import torch

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.star.presets import TINY_GUIDED
from inspatio_ros.star.transformer import DiffusionTransformer
from inspatio_ros.training.optimizers import Optimizers
from inspatio_ros.training.trainer import TrainerConfig

RATE = 1e-2


def step_of(optimizer: str) -> dict[str, torch.Tensor]:
    """Take one step on random gradients that one direction dominates; gives how every parameter moved."""
    torch.manual_seed(0)
    net = DiffusionTransformer(TINY_GUIDED.transformer)
    parameters = {f'transformer.{name}': value for name, value in net.named_parameters()}
    for value in parameters.values():
        value.grad = torch.randn_like(value)
        if value.ndim == 2:
            value.grad += 30. * torch.randn(len(value), 1) * torch.randn(1, value.shape[1])
    before = {name: value.detach().clone() for name, value in parameters.items()}
    optimizers = Optimizers(TrainerConfig(1, learning_rate=1., weight_decay=0., optimizer=optimizer),
                            {'transformer': parameters}, {'transformer': 0.5})
    optimizers.set_rate(2 * RATE)
    optimizers.step()
    return {name: value.detach() - before[name] for name, value in parameters.items()}


def test_muon_moves_the_matrices_of_layers_in_all_directions_alike_and_adamw_the_rest():
    adamw, muon = step_of('adamw'), step_of('muon')
    matrices = [name for name, value in adamw.items() if '.blocks.' in name and value.ndim == 2]
    assert len(matrices) >= 20
    for name, step in muon.items():
        if name not in matrices:
            assert torch.equal(step, adamw[name]), name
            continue
        sizes = torch.linalg.svdvals(step)
        # Of the gradient the largest is hundreds of times the median.
        assert sizes.max() < 2 * sizes.median(), name
        # A fifth of the rate, the usual size of AdamW's steps.
        assert step.square().mean().sqrt() == pytest.approx(0.2 * RATE * 0.85, rel=0.25), name
    assert not torch.equal(muon[matrices[0]], adamw[matrices[0]])


def test_unknown_optimizer_is_refused():
    with pytest.raises(ConfigurationError, match='optimizer sgd is not known; choose one of adamw, muon'):
        Optimizers(TrainerConfig(1, optimizer='sgd'), {})
