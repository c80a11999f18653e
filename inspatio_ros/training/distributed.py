# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The same trainer on one CPU, one GPU, or many of them on many hosts.

Started by torchrun, every network of a stage is sharded over all ranks (FSDP2): parameters, their average, gradients
and the optimiser's moments. Parameters are gathered once a step, because a step of self-forcing passes through a
network a dozen times, and gradients are reduced once, after the last block. Each rank draws data of its own; what must
be the same on all of them is drawn from the step's number alone. Checkpoints are sharded too
(torch.distributed.checkpoint). Alone, it is the plain trainer with the plain trainer's safetensors checkpoints.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.star.cache import Cache
from inspatio_ros.star.transformer import DiffusionTransformer
from inspatio_ros.training.checkpoint import CheckpointError, CheckpointFolder, no_whole_one
from inspatio_ros.training.networks import Networks
from inspatio_ros.training.optimizers import moments_under
from inspatio_ros.training.sharded import ShardedFolder, from_first, sharded_paths
from inspatio_ros.training.trainer import Trainer, TrainerConfig

#: Stages whose ranks all take the same passes through sharded networks, whatever data they draw.
SHARDED_STAGES = ('initialisation', 'spread', 'motion_teacher', 'real_teacher', 'jdmd')
#: Sets the random numbers of ranks and of accumulated parts apart from those of steps (seed * 1_000_003 + step).
_PART_STRIDE = 1_000_000_000_039
#: Sets what all ranks draw alike apart from what each draws for itself, in the 32 bits of a seed that generators take.
_SHARED = 0x5A5A5A5A
#: What a transformer computes outside of `forward`, with parameters that have to be gathered first.
_OTHER_PASSES = ('text_constants', 'modulation', 'context_pass', '_touch')
#: Graphs that torch.compile may make of one layer.
_GRAPHS = 8
#: How long ranks wait for each other: each goes through a teacher's videos before its first step, at its own pace.
_PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class ScaleConfig:
    """How a stage is spread; none of it changes what is computed, but for the size of the batch."""

    #: Batches of `batch_size` whose gradients are averaged before a step; the whole batch is
    #: batch_size * accumulate * ranks.
    accumulate: int = 1
    #: Compute the activations of every layer again for the backward pass, instead of keeping them.
    checkpoint_activations: bool = False
    #: A torch.compile backend for the layers ('inductor'), '' for none.
    compile: str = ''

    def __post_init__(self) -> None:
        if self.accumulate < 1:
            raise ConfigurationError(f'scale: accumulate is {self.accumulate}; it must be at least 1')


# --- processes -------------------------------------------------------------------------------------------------------


def start(device: str) -> str:
    """Join the other processes that torchrun has started, if it has; gives this process's device."""
    if 'RANK' not in os.environ or dist.is_initialized():
        return device
    on_gpu = device.startswith('cuda')
    if on_gpu:
        device = f'cuda:{os.environ.get("LOCAL_RANK", "0")}'
        torch.cuda.set_device(device)
    dist.init_process_group('nccl' if on_gpu else 'gloo', timeout=_PATIENCE)
    return device


def stop() -> None:
    """Leave the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def leave(code: int) -> NoReturn:
    """End this process at once where others may wait for it: torchrun ends them, and NCCL's clean-up would wait too."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def rank() -> int:
    """Number this process among all; 0 if it is alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Count the processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def agree(value: bool, device: torch.device) -> bool:
    """Say whether the value is true on any rank; all ranks get the same answer."""
    if world_size() == 1:
        return value
    flag = torch.tensor(float(value), device=device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag > 0)


def check_kind(folder: Path, sharded: bool) -> None:
    """Raise a CheckpointError where a folder has checkpoints, and none of the kind that this run reads and writes."""
    kinds = from_first(lambda: (bool(CheckpointFolder(folder).paths()), bool(sharded_paths(folder))))
    if kinds[sharded] or not kinds[not sharded]:
        return
    held, reader, remedy = ("one process's checkpoints", 'many ranks cannot', 'without torchrun') if sharded else (
        'sharded checkpoints of torchrun', 'one process cannot', 'with torchrun')
    raise CheckpointError(f'{folder} holds {held}, which {reader} read; go on {remedy}, '
                          'or choose another --output and start from exported --weights')


# --- networks --------------------------------------------------------------------------------------------------------


def transformers_of(modules: Iterable[nn.Module]) -> list[DiffusionTransformer]:
    """Find the transformers among modules and what they hold."""
    return [part for module in modules for part in module.modules() if isinstance(part, DiffusionTransformer)]


def recompute_activations(net: DiffusionTransformer) -> None:
    """Let every layer keep its input alone and compute the rest again for the backward pass."""
    for block in net.blocks:
        if isinstance(block.forward, functools.partial):
            return
        block.forward = functools.partial(_recomputed, block.forward)


def _recomputed(forward: Callable[..., Tensor], x: Tensor, *given: Any) -> Tensor:
    from torch.utils.checkpoint import checkpoint
    caches = [part for part in given if isinstance(part, Cache)]
    # What the backward pass computes again is not for the cache: the graphs of all layers would stay until its end.
    contexts = {'context_fn': lambda: (contextlib.nullcontext(), caches[0].staying())} if caches else {}
    return checkpoint(forward, x, *given, use_reentrant=False, preserve_rng_state=False, **contexts)


def compile_layers(net: DiffusionTransformer, backend: str) -> None:
    """Compile every layer by itself: without a cache the first one's graph serves all, with one each has its own."""
    # A graph holds the number of the layer whose cache it writes or reads, with gradients or without; beyond the limit
    # layers would run uncompiled without a word.
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, _GRAPHS * len(net.blocks))
    config.accumulated_recompile_limit = max(config.accumulated_recompile_limit, 2 * config.recompile_limit)
    for block in net.blocks:
        block.compile(backend=backend)


def shard(net: DiffusionTransformer, device: torch.device) -> None:
    """Shard a transformer over all ranks, in place; its parameters become DTensors."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
    net._touch = types.MethodType(_touch, net)
    fully_shard(net, mesh=init_device_mesh(device.type, (world_size(),)), reshard_after_forward=False)
    for name in _OTHER_PASSES:
        register_fsdp_forward_method(net, name)
    _gather_gradients(net, False)


def reduce_gradients(net: DiffusionTransformer, device: torch.device) -> None:
    """Average the gradients that all backward passes of a step have left, over all ranks, and shard them."""
    _gather_gradients(net, True)
    net._touch(torch.zeros(1, device=device, requires_grad=True)).sum().backward()
    _gather_gradients(net, False)


def _touch(self: DiffusionTransformer, x: Tensor) -> Tensor:
    # A pass that computes nothing: its backward pass is where FSDP reduces what the real ones have accumulated.
    return x * 1.


def _gather_gradients(net: DiffusionTransformer, last: bool) -> None:
    net.set_requires_gradient_sync(last)
    net.set_reshard_after_backward(last)


def whole(value: Tensor) -> Tensor:
    """Give a tensor as one, wherever its parts lie; every rank must ask for it."""
    return value.full_tensor() if hasattr(value, 'full_tensor') else value


def unsharded(networks: Networks) -> Networks:
    """Give networks that one process can export: a copy gathered on the CPU on the first of many ranks.

    Every rank must ask for it; the others, and who is alone, are given the same networks.
    """
    if world_size() == 1:
        return networks
    gathered: dict[str, dict[str, Tensor]] = {}
    for part, net in networks.modules().items():
        gathered[part] = {}
        for name, value in net.state_dict().items():
            full = whole(value)
            if rank() == 0:
                gathered[part][name] = full.cpu()
    if rank() != 0:
        return networks
    copy = Networks(networks.config)
    copy.text = networks.text.cpu()
    for part, net in copy.modules().items():
        net.load_state_dict(gathered[part])
    return copy


# --- training --------------------------------------------------------------------------------------------------------


class ScaledTrainer(Trainer):
    """The trainer for stages of one loss and of many, alone or on many ranks.

    A stage may have `backward(batch_size, generator, shared, step)`, which adds the gradients of a step itself, in
    place of `loss`; `rates`, a share of the learning rate for each module, whose gradients are then clipped one by one;
    and `frozen`, networks that it reads and that are sharded along.
    """

    def __init__(self, stage: Any, config: TrainerConfig, output: Path, device: str = 'cpu',
                 description: dict[str, Any] | None = None, scale: ScaleConfig | None = None) -> None:
        self.scale = scale or ScaleConfig()
        self.sharded = world_size() > 1
        trained, frozen = transformers_of(stage.modules.values()), transformers_of(getattr(stage, 'frozen', ()))
        if self.sharded and stage.name not in SHARDED_STAGES:
            raise ConfigurationError(f'stage {stage.name} runs in one process; start it without torchrun '
                                     f'(those that are sharded: {", ".join(SHARDED_STAGES)})')
        for net in trained:
            if self.scale.checkpoint_activations:
                recompute_activations(net)
        for net in trained + frozen:
            if self.scale.compile:
                compile_layers(net, self.scale.compile)
            if self.sharded and not hasattr(net, '_touch'):
                shard(net, torch.device(device))
        self._trained, self._all = trained, trained + frozen
        super().__init__(stage, config, output, device, description)
        self.quiet = rank() != 0
        if self.sharded:
            self.checkpoints = ShardedFolder(output / 'checkpoints')

    def take_step(self) -> tuple[float, dict[str, float]]:
        """Take one optimiser step from `accumulate` batches on every rank."""
        self.optimizers.set_rate(self.learning_rate())
        for net in self.stage.modules.values():
            net.train()
        self.optimizers.zero_grad()
        losses, figures = [], {}
        for part in range(self.scale.accumulate):
            loss, figures = self._accumulate(self._generator(part))
            losses.append(loss)
        self._finish_gradients()
        norms = self._clip()
        self.optimizers.step()
        self.step += 1
        self._follow()
        return sum(float(loss) for loss in losses) / len(losses), {**figures, **norms}

    def _generator(self, part: int) -> torch.Generator:
        # Other random numbers for each rank and part; those of rank 0 alone are the plain trainer's.
        which = rank() * self.scale.accumulate + part
        return torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.step + which * _PART_STRIDE)

    def _accumulate(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Add the gradients of one batch."""
        if hasattr(self.stage, 'backward'):
            shared = torch.Generator().manual_seed((self.config.seed * 1_000_003 + self.step) ^ _SHARED)
            with self._autocast():
                loss, figures = self.stage.backward(self.config.batch_size, generator, shared, self.step)
            self._check_all_finite('loss', loss)
            return loss, figures
        with self._autocast():
            loss, figures = self.stage.loss(self.config.batch_size, generator)
        self._check_all_finite('loss', loss)
        loss.backward()
        return loss.detach(), figures

    def _finish_gradients(self) -> None:
        if self.sharded:
            for net in self._trained:
                reduce_gradients(net, self.device)
            # What was gathered for passes without gradient would be stale after the step.
            self._reshard()
        if self.scale.accumulate > 1:
            for value in self.parameters.values():
                if value.grad is not None:
                    value.grad.div_(self.scale.accumulate)

    def _clip(self) -> dict[str, float]:
        norms = {}
        for name, parameters in self.groups.items():
            reached = [value for value in parameters.values() if value.grad is not None]
            if reached:
                norm = whole(nn.utils.clip_grad_norm_(reached, self.config.clip))
                self._check_all_finite('gradient', norm)
                norms[f'gradient_norm{"_" if name else ""}{name}'] = float(norm)
        return norms

    def _follow(self) -> None:
        """Let the averages follow what this step has moved."""
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.parameters.items():
            if value.grad is not None:
                self.ema[name].lerp_(value.detach(), 1 - decay)

    def _check_all_finite(self, what: str, value: Tensor) -> None:
        # All ranks stop together, or none: one that went on alone would wait for the others for ever.
        if agree(not bool(torch.isfinite(value)), self.device):
            self._check_finite(what, value.new_tensor(float('nan')) if bool(torch.isfinite(value)) else value)

    def _goes_on(self, started: float, stop_after: float) -> bool:
        return not agree(not super()._goes_on(started, stop_after), self.device)

    @contextlib.contextmanager
    def _writer(self) -> Iterator[Any]:
        # One curve for all ranks.
        with super()._writer() if rank() == 0 else contextlib.nullcontext() as writer:
            yield writer

    def _log(self, writer: Any, figures: dict[str, float]) -> None:
        if writer is not None:
            super()._log(writer, figures)

    def validate(self) -> dict[str, float]:
        """Give the stage's figures on held-out data with the EMA weights."""
        figures = super().validate()
        self._reshard()
        return figures

    @contextlib.contextmanager
    def ema_weights(self) -> Any:
        """Swap the EMA weights in for a while."""
        with super().ema_weights():
            try:
                yield
            finally:
                self._reshard()

    def _reshard(self) -> None:
        if self.sharded:
            for net in self._all:
                net.reshard()

    # Checkpoints

    def save(self) -> Path:
        """Write a checkpoint: one file alone, a folder of shards on many ranks."""
        if not self.sharded:
            return super().save()
        return self.checkpoints.save(self.step, self._state(with_moments_of=None), self._identity())

    def resume(self) -> None:
        """Go on from the newest whole checkpoint; one of another configuration or of the other kind alone is an error.

        Rank 0 says which there are: a file system that all share may show them to others later.
        """
        check_kind(self.output / 'checkpoints', self.sharded)
        if not self.sharded:
            return super().resume()
        damaged: list[tuple[Path, CheckpointError]] = []
        for path in reversed(self.checkpoints.paths()):
            try:
                metadata, names = self.checkpoints.metadata(path), self.checkpoints.names(path)
            except CheckpointError as error:
                damaged.append((path, error))
                continue
            self._check_same(path, metadata)
            state = self._state(names)
            try:
                self.checkpoints.load(path, state)
            except CheckpointError as error:
                damaged.append((path, error))
                continue
            self._take(state)
            self.step = metadata['step']
            for bad, error in damaged:
                self.checkpoints.set_aside(bad, error, path)
            return None
        if damaged:
            raise no_whole_one(self.output / 'checkpoints', damaged[0][1])
        return None

    def _state(self, with_moments_of: set[str] | None) -> dict[str, Tensor]:
        """Name all tensors of a checkpoint: as they are, or (from the names in a file) with room for the moments."""
        state = {f'weights.{name}': value.detach() for name, value in self.parameters.items()}
        state |= {f'ema.{name}': value for name, value in self.ema.items()}
        for name, value in self.parameters.items():
            if with_moments_of is None:
                moments = self.optimizers.moments(value)
            else:
                moments = {moment: torch.zeros(()) if moment == 'step' else torch.zeros_like(value.detach())
                           for moment in moments_under(with_moments_of, name)}
            state |= {f'optimizer.{moment}.{name}': held for moment, held in moments.items()}
        return state

    def _take(self, state: dict[str, Tensor]) -> None:
        """Take over the optimiser's part of a state that was read; weights and averages were read in place."""
        for name, value in self.parameters.items():
            self.optimizers.take_moments(value, {moment: state[key]
                                                 for moment, key in moments_under(state, name).items()})

