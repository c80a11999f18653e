# Copyright 2026 The inspatio_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The text encoder equals umT5's, and captions become embeddings or clear errors."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from inspatio_ros.errors import ConfigurationError, WeightsError
from inspatio_ros.star.checkpoint import save_tensors
from inspatio_ros.star.text import (
    TextEncoder,
    TextEncoderConfig,
    clean_caption,
    embed_caption,
    load_embedding,
    relative_buckets,
    save_embedding,
    tokenize,
)
from inspatio_ros.verify import verify_file

CONFIG = TextEncoderConfig(vocab_size=32, dim=12, dim_attn=8, dim_ffn=16, num_heads=2, encoder_layers=2)
has_transformers = importlib.util.find_spec('transformers') is not None


@pytest.mark.parametrize('name', ['t5_tiny.safetensors', 'umt5_keys.json'])
def test_equals_the_released_encoder(shared, name):
    result = verify_file(shared / 'golden' / name)
    assert [item for item in result.items if not item.passed] == []


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return TextEncoder(CONFIG).eval()


def test_padding_changes_nothing_and_comes_out_as_zero(encoder):
    ids = torch.tensor([[5, 9, 2, 1]])
    alone = encoder.embed(ids, torch.ones_like(ids))
    padded_ids = torch.cat([ids, torch.tensor([[0, 0, 7]])], dim=1)
    mask = torch.tensor([[1, 1, 1, 1, 0, 0, 0]])
    padded = encoder.embed(padded_ids, mask)
    torch.testing.assert_close(padded[:, :4], alone, rtol=0, atol=1e-6)
    assert not padded[:, 4:].any()


def test_order_counts(encoder):
    mask = torch.ones(1, 3, dtype=torch.long)
    one, other = (encoder.embed(torch.tensor([ids]), mask) for ids in ([3, 4, 5], [5, 4, 3]))
    assert not torch.allclose(one.flip(1), other, atol=1e-4)


def test_near_positions_have_their_own_bucket_and_far_ones_share():
    buckets = relative_buckets(torch.arange(-300, 301), 32, 128)
    assert buckets.min() == 0 and buckets.max() == 31
    near = relative_buckets(torch.arange(-7, 8), 32, 128)
    assert len(set(near.tolist())) == 15
    assert relative_buckets(torch.tensor([-128, -5000]), 32, 128).tolist() == [15, 15]


def test_stored_embeddings_are_read_back(tmp_path):
    embedding = torch.randn(1, 5, 6)
    save_embedding(tmp_path / 'text.safetensors', embedding, 'an office')
    assert torch.equal(load_embedding(tmp_path / 'text.safetensors', 6, 8), embedding)


@pytest.mark.parametrize('tensors, message', [
    ({'other': torch.zeros(1)}, "holds no 'prompt_embeds'"),
    ({'prompt_embeds': torch.zeros(1, 9, 6)}, r'is \[1, 9, 6\], but the network takes \[1, up to 8, 6\]'),
    ({'prompt_embeds': torch.zeros(1, 5, 7)}, r'is \[1, 5, 7\]'),
    ({'prompt_embeds': torch.zeros(5, 6)}, r'is \[5, 6\]'),
])
def test_embeddings_that_do_not_fit_are_an_error(tmp_path, tensors, message):
    save_tensors(tmp_path / 'text.safetensors', tensors)
    with pytest.raises(WeightsError, match=message):
        load_embedding(tmp_path / 'text.safetensors', 6, 8)


def test_captions_are_cleaned():
    pytest.importorskip('ftfy', reason='ftfy is not installed')
    assert clean_caption('  a&amp;amp;b \n\t c ') == 'a&b c'
    assert clean_caption('the room\u2019s \u201cblue\u201d door') == 'the room\'s "blue" door'


@pytest.mark.skipif(has_transformers, reason='transformers is installed')
def test_without_a_tokenizer_library_the_error_says_what_to_install(tmp_path):
    with pytest.raises(ConfigurationError, match='packages transformers, sentencepiece and ftfy'):
        tokenize('an office', tmp_path, 8)


@pytest.mark.skipif(not has_transformers, reason='transformers is not installed')
def test_a_caption_is_embedded_from_files(tmp_path, encoder):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast
    vocabulary = {'<pad>': 0, '</s>': 1, '<unk>': 2, 'an': 3, 'office': 4}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token='<unk>'))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single='$A </s>', special_tokens=[('</s>', 1)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token='<pad>', eos_token='</s>',
                            unk_token='<unk>').save_pretrained(tmp_path)
    save_tensors(tmp_path / 'encoder.safetensors', encoder.state_dict())
    ids, mask = tokenize(' an  office ', tmp_path, 6)
    assert ids.tolist() == [[3, 4, 1, 0, 0, 0]]
    assert mask.tolist() == [[1, 1, 1, 0, 0, 0]]
    embedding = embed_caption('an office', tmp_path / 'encoder.safetensors', tmp_path, 6, dtype=torch.float32,
                              config=CONFIG)
    torch.testing.assert_close(embedding, encoder.embed(ids, mask))
    with pytest.raises(WeightsError, match='no tokenizer folder'):
        tokenize('an office', tmp_path / 'nowhere', 6)
