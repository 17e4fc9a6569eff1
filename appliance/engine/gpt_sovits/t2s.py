"""s1, the text-to-semantic transformer of GPT-SoVITS: phones and a spoken prompt -> logits of the next speech token.

A sequence is [text | audio]. Text rows see all text and no audio; an audio row sees all text and the audio up to
itself. So keys and values of earlier rows never change, and one step of decoding computes one row (`KeyValueCache`).
Items of a batch are aligned to the right: what is missing on the left is masked, and positions are counted per item,
so an item gets the numbers it would get alone, up to rounding.

Letters: b items, x phones, y speech tokens, n = x + y, d width, h heads, v vocabulary. Parameters keep the names of the
official files, less the leading "model.".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from appliance.engine.gpt_sovits.loading import without_numbers

BERT_WIDTH = 1024
NAME_PREFIX = "model."  # of every tensor in the official files


@dataclass(frozen=True)
class TextToSemanticConfig:
    """Sizes of the network; the defaults are the official ones since v2."""

    phonemes: int = 732  # v1: 512
    vocabulary: int = 1025  # 1024 codes and the end mark
    width: int = 512
    heads: int = 16
    layers: int = 24
    end: int = 1024  # the token that ends an answer

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> TextToSemanticConfig:
        """From the `config` of an official file, or its "model" part alone. Raises KeyError, ValueError."""
        model = config.get("model", config)
        return cls(
            phonemes=int(model["phoneme_vocab_size"]),
            vocabulary=int(model["vocab_size"]),
            width=int(model["hidden_dim"]),
            heads=int(model["head"]),
            layers=int(model["n_layer"]),
            end=int(model.get("EOS", int(model["vocab_size"]) - 1)),
        )


@dataclass
class KeyValueCache:
    """Keys and values of all rows so far, in memory set aside once; `step` writes one row in place."""

    keys: Tensor  # (layers, b, h, capacity, d / h)
    values: Tensor  # (layers, b, h, capacity, d / h)
    length: int  # rows written
    padding: tuple[int, ...]  # masked rows at the start of each item

    @property
    def capacity(self) -> int:
        return self.keys.shape[3]

    def select(self, rows: Sequence[int]) -> KeyValueCache:
        """A cache of some of the items only, as when others are finished."""
        index = torch.tensor(list(rows), device=self.keys.device)
        keys, values = (_copy_items(stored, index, self.length) for stored in (self.keys, self.values))
        return KeyValueCache(keys, values, self.length, tuple(self.padding[row] for row in rows))


def _copy_items(stored: Tensor, index: Tensor, length: int) -> Tensor:
    layers, _, heads, capacity, size = stored.shape
    kept = stored.new_empty(layers, len(index), heads, capacity, size)
    kept[..., :length, :] = stored[:, index, :, :length]
    return kept


class Embedding(nn.Module):
    """A table of vectors."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(count, width)

    def forward(self, ids: Tensor) -> Tensor:
        vectors: Tensor = self.word_embeddings(ids)
        return vectors  # (…,) -> (…, d)


class Position(nn.Module):
    """Adds alpha * [sin(p w_0), cos(p w_0), sin(p w_1), …] with w_k = 10000^(-2k / d)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.alpha = nn.Parameter(torch.ones(1))

    def forward(self, vectors: Tensor, start: Tensor | int = 0) -> Tensor:
        """`start` is the position of the first vector: one for all items, or (b,)."""
        steps = torch.arange(vectors.shape[1], dtype=torch.float32, device=vectors.device)  # (t,)
        if isinstance(start, Tensor):
            steps = steps + start[:, None]  # (b, t)
        else:
            steps = steps + start
        even = torch.arange(0, self.width, 2, dtype=torch.float32, device=vectors.device)
        angles = steps[..., None] * torch.exp(even * -(math.log(10000.0) / self.width))  # (…, t, d / 2)
        table = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)  # (…, t, d), sin and cos in turns
        return vectors + self.alpha * table.to(vectors.dtype)  # (b, t, d)


class Attention(nn.Module):
    """Multi-head attention with the query, key and value projections in one matrix."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        b, t, _ = x.shape
        q, k, v = functional.linear(x, self.in_proj_weight, self.in_proj_bias).view(b, t, 3, self.heads, -1).unbind(2)
        return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (b, h, t, d / h) each

    def attend(self, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None) -> Tensor:
        """`allowed` is True where a row may look at a column: (b, 1, rows, columns)."""
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed)  # (b, h, t, d / h)
        joined: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return joined  # (b, t, d)


class Block(nn.Module):
    """x = norm(x + attention(x)); x = norm(x + feed-forward(x))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.linear1 = nn.Linear(width, 4 * width)
        self.linear2 = nn.Linear(4 * width, width)
        self.norm1 = nn.LayerNorm(width, eps=1e-5)
        self.norm2 = nn.LayerNorm(width, eps=1e-5)

    def forward(self, x: Tensor, cache: KeyValueCache, layer: int, allowed: Tensor | None) -> Tensor:
        """Rows `cache.length …` of one layer; their keys and values go into the cache."""
        q, k, v = self.self_attn.project(x)
        end = cache.length + x.shape[1]
        cache.keys[layer, :, :, cache.length : end] = k
        cache.values[layer, :, :, cache.length : end] = v
        mixed = self.self_attn.attend(q, cache.keys[layer, :, :, :end], cache.values[layer, :, :, :end], allowed)
        return self.finish(x, mixed)

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """What follows the attention: `mixed` is its result."""
        x = self.norm1(x + mixed)
        done: Tensor = self.norm2(x + self.linear2(functional.relu(self.linear1(x))))
        return done  # (b, t, d)


class Stack(nn.Module):
    """The blocks, without a norm at the end."""

    def __init__(self, config: TextToSemanticConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(config.width, config.heads) for _ in range(config.layers))

    def forward(self, x: Tensor, cache: KeyValueCache, allowed: Tensor | None) -> Tensor:
        for number, layer in enumerate(self.layers):
            x = layer(x, cache, number, allowed)
        cache.length += x.shape[1]
        return x  # (b, t, d)


@dataclass(frozen=True)
class TextPrompt:
    """What one answer starts from."""

    phones: Tensor  # (x,) ids of the prompt's phones, then the target's
    bert: Tensor  # (1024, x), zeros where there is no Chinese
    tokens: Tensor  # (y,) speech tokens of the prompt; may be empty

    @property
    def rows(self) -> int:
        return len(self.phones) + len(self.tokens)


class TextToSemantic(nn.Module):
    """The network. `prefill` reads the prompts, `step` gives one more row of logits per call."""

    def __init__(self, config: TextToSemanticConfig) -> None:
        super().__init__()
        self.config = config
        self.bert_proj = nn.Linear(BERT_WIDTH, config.width)
        self.ar_text_embedding = Embedding(config.phonemes, config.width)
        self.ar_text_position = Position(config.width)
        self.ar_audio_embedding = Embedding(config.vocabulary, config.width)
        self.ar_audio_position = Position(config.width)
        self.h = Stack(config)
        self.ar_predict_layer = nn.Linear(config.width, config.vocabulary, bias=False)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> TextToSemantic:
        """Ready to run in float32, from the tensors of an official file. Raises RuntimeError for wrong ones."""
        with without_numbers():
            network = cls(TextToSemanticConfig.from_dict(config))
        state = {name.removeprefix(NAME_PREFIX): tensor.float() for name, tensor in tensors.items()}
        network.load_state_dict(state, strict=True, assign=True)
        return network.eval().requires_grad_(False)

    def embed_prompt(self, prompt: TextPrompt) -> Tensor:
        """One item's rows; the bias of the BERT projection counts for phones without features, too."""
        text = self.ar_text_embedding(prompt.phones[None]) + self.bert_proj(prompt.bert.T[None])
        audio = self.ar_audio_embedding(prompt.tokens[None])
        return torch.cat((self.ar_text_position(text), self.ar_audio_position(audio)), dim=1)  # (1, x + y, d)

    def prefill(self, prompts: Sequence[TextPrompt], more: int) -> tuple[Tensor, KeyValueCache]:
        """Logits (b, v) after the prompts, and a cache with room for `more` steps."""
        rows = [self.embed_prompt(prompt)[0] for prompt in prompts]
        longest = max(len(row) for row in rows)
        padding = tuple(longest - len(row) for row in rows)
        x = torch.stack([functional.pad(row, (0, 0, pad, 0)) for row, pad in zip(rows, padding, strict=True)])
        cache = self._make_cache(len(rows), longest + more, padding)
        borders = [pad + len(prompt.phones) for pad, prompt in zip(padding, prompts, strict=True)]
        hidden = self.h(x, cache, allowed_columns(padding, borders, longest).to(x.device))
        return self.ar_predict_layer(hidden[:, -1]), cache  # (b, v)

    def step(self, tokens: Tensor, positions: Tensor, cache: KeyValueCache) -> tuple[Tensor, KeyValueCache]:
        """Logits (b, v) after one more token each; `tokens` (b,) are at `positions` (b,) among the speech tokens."""
        x = self.ar_audio_position(self.ar_audio_embedding(tokens[:, None]), positions)  # (b, 1, d)
        allowed = None
        if any(cache.padding):
            columns = torch.arange(cache.length + 1, device=x.device)
            allowed = (columns >= torch.tensor(cache.padding, device=x.device)[:, None])[:, None, None]
        return self.ar_predict_layer(self.h(x, cache, allowed)[:, -1]), cache  # (b, v)

    def _make_cache(self, items: int, capacity: int, padding: tuple[int, ...]) -> KeyValueCache:
        config, like = self.config, self.bert_proj.weight
        shape = (config.layers, items, config.heads, capacity, config.width // config.heads)
        return KeyValueCache(like.new_empty(shape), like.new_empty(shape), 0, padding)


def allowed_columns(padding: Sequence[int], borders: Sequence[int], length: int) -> Tensor:
    """Which columns each row may look at, (b, 1, n, n): all text, and for audio rows the audio up to themselves.

    Item i has `padding[i]` empty columns, then text up to `borders[i]`, then audio. The empty rows look at the text
    like text rows, for a softmax over nothing is not a number; nobody looks at them.
    """
    row, column = torch.arange(length)[:, None], torch.arange(length)[None, :]
    first, border = (torch.tensor(list(values))[:, None, None] for values in (padding, borders))  # (b, 1, 1)
    is_text = column < border
    is_past = (row >= border) & (column <= row)
    return ((column >= first) & (is_text | is_past))[:, None]
