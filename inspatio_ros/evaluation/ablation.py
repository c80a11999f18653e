# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""STAR with a part of what it is given taken away: what each part contributes is the difference.

The same weights with a part missing were not trained for it, which may cost something of its own; weights trained
without the part are measured with the same ablation (docs/evaluation.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from inspatio_ros.errors import ConfigurationError
from inspatio_ros.star.cache import Cache
from inspatio_ros.star.generator import BlockGenerator, RunConstants
from inspatio_ros.star.transformer import Rotary

if TYPE_CHECKING:
    from inspatio_ros.star.pipeline import StarPipeline

#: What each ablation takes away.
ABLATIONS = {'no_reference': {'reference'}, 'no_history': {'history'}, 'no_cache': {'reference', 'history'},
             'no_render': {'render'}}


def taken_away(ablation: str) -> set[str]:
    """Give what an ablation takes away; none for ''. Raises ConfigurationError for a name that is not known."""
    if ablation and ablation not in ABLATIONS:
        raise ConfigurationError(f'ablation {ablation!r} is unknown; choose one of {", ".join(ABLATIONS)}')
    return ABLATIONS.get(ablation, set())


class AblatedBlocks(BlockGenerator):
    """The block loop whose cache lacks the reference, the history (the block before), or both.

    What is left keeps its place in time, so that the network sees a shorter cache and nothing else changes.
    """

    def __init__(self, whole: BlockGenerator, without: set[str]) -> None:
        super().__init__(whole.config, whole.transformer, whole.scheduler, whole.text_embedding)
        self.without = without

    def remember(self, constants: RunConstants, cache: Cache, reference: Tensor, previous: Tensor | None) -> None:
        """Rewrite the cache from what is left of reference and previous block."""
        if 'history' in self.without:
            previous = None
        if 'reference' not in self.without:
            super().remember(constants, cache, reference, previous)
        elif previous is None:
            cache.reset()
        else:
            alone = constants._replace(context_rotary=(_second_half(constants.context_rotary[1]),) * 2)
            super().remember(alone, cache, previous.to(reference), None)


def ablate(pipeline: StarPipeline, ablation: str) -> StarPipeline:
    """Give a pipeline with the same networks whose cache lacks what the ablation names."""
    made = twin(pipeline, pipeline.texture)
    made.blocks = AblatedBlocks(pipeline.blocks, taken_away(ablation))
    made.reset()
    return made


def twin(pipeline: StarPipeline, texture: bool) -> StarPipeline:
    """Give a pipeline with the same networks, with or without texture in what is made up."""
    kernel = pipeline.transformer.blocks[0].self_attn.attend
    made = type(pipeline)(pipeline.config, pipeline.transformer, pipeline.autoencoder, pipeline.blocks.text_embedding,
                          texture=texture)
    # A pipeline that is made chooses one for the networks that it shares.
    pipeline.transformer.attend_by(kernel)
    return made


def _second_half(rotary: Rotary) -> Rotary:
    """Give the positions of the previous block, which follow those of the reference."""
    half = rotary.cos.shape[1] // 2
    return Rotary(rotary.cos[:, half:], rotary.sin[:, half:])
