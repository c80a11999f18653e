# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""What turns gradients into steps: AdamW for everything, or Muon for the matrices of transformer layers.

Muon (https://kellerjordan.github.io/posts/muon/) makes the momentum of a matrix orthogonal, so that directions which
few examples speak for move as far as the others. Its step is scaled to the size of AdamW's (arXiv 2502.16982, section
2.2), so that both take the same learning rate and weight decay. Vectors, convolutions and what leads into and out of
the layers stay with AdamW.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from inspatio_ros.errors import ConfigurationError

if TYPE_CHECKING:
    from inspatio_ros.training.trainer import TrainerConfig

OPTIMIZERS = ('adamw', 'muon')
#: What either keeps of a parameter.
MOMENTS = ('step', 'exp_avg', 'exp_avg_sq', 'momentum_buffer')
#: Names of parameters of a transformer's layers hold this.
_LAYERS = '.blocks.'


class Optimizers:
    """The optimisers of a stage, as one.

    `groups`: parameters by name, in groups that each have a learning rate of their own, `rates` times the stage's.

    Raises:
        ConfigurationError: `config.optimizer` is none of OPTIMIZERS.

    """

    def __init__(self, config: TrainerConfig, groups: Mapping[str, Mapping[str, nn.Parameter]],
                 rates: Mapping[str, float] | None = None) -> None:
        if config.optimizer not in OPTIMIZERS:
            raise ConfigurationError(f'optimizer {config.optimizer} is not known; choose one of '
                                     f'{", ".join(OPTIMIZERS)}')
        matrices, rest = [], []
        for group, parameters in groups.items():
            rate = rates[group] if rates else 1.
            taken = {name for name, value in parameters.items()
                     if config.optimizer == 'muon' and value.ndim == 2 and _LAYERS in f'.{name}'}
            matrices.append({'params': [parameters[name] for name in parameters if name in taken], 'rate': rate})
            rest.append({'params': [parameters[name] for name in parameters if name not in taken], 'rate': rate})
        common: dict[str, Any] = {'lr': config.learning_rate, 'weight_decay': config.weight_decay}
        self._all: list[torch.optim.Optimizer] = []
        if any(group['params'] for group in rest):
            self._all.append(torch.optim.AdamW(rest, betas=config.betas, **common))
        if any(group['params'] for group in matrices):
            self._all.append(torch.optim.Muon(matrices, adjust_lr_fn='match_rms_adamw', **common))
        self._of = {value: optimizer for optimizer in self._all
                    for group in optimizer.param_groups for value in group['params']}

    def set_rate(self, rate: float) -> None:
        """Set the stage's learning rate."""
        for optimizer in self._all:
            for group in optimizer.param_groups:
                group['lr'] = rate * group['rate']

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for optimizer in self._all:
            optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Move the parameters."""
        for optimizer in self._all:
            optimizer.step()

    def moments(self, value: nn.Parameter) -> dict[str, Tensor]:
        """Give what is kept of a parameter, by MOMENTS' names; nothing before its first step."""
        return {name: torch.as_tensor(held) for name, held in self._of[value].state.get(value, {}).items()}

    def take_moments(self, value: nn.Parameter, moments: Mapping[str, Tensor]) -> None:
        """Take over what `moments` gave; nothing if no step had reached the parameter."""
        if moments:
            # AdamW counts its steps on the CPU, whatever device it runs on.
            self._of[value].state[value] = {name: held if name == 'step' else held.to(value.device)
                                            for name, held in moments.items()}


def moments_under(tensors: Container[str], name: str) -> dict[str, str]:
    """Give the names in a checkpoint of what is kept of the parameter `name`, by MOMENTS' names."""
    keys = {moment: f'optimizer.{moment}.{name}' for moment in MOMENTS}
    return {moment: key for moment, key in keys.items() if key in tensors}
