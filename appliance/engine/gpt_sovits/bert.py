"""Chinese BERT: characters -> what they mean in their sentence, the features that s1 reads beside the phones.

Of `chinese-roberta-wwm-ext-large` the output of the last layer but two is wanted, so the last two layers and the heads
are not even built. Axes: B batch, N tokens, W width. Parameters keep the names of the official file, less "bert.".
"""

# torch types the call of a module as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from appliance.engine.gpt_sovits.loading import load_strictly, without_numbers, without_prefix
from appliance.engine.gpt_sovits.wordpiece import WordPiece

NAME_PREFIX = "bert."
SKIPPED_LAYERS = 2  # at the end
# What files hold beside the encoder: the heads of the training tasks, and a table 0, 1, 2, … of older versions.
UNUSED = ("cls.", "pooler.", "embeddings.position_ids")
# Names of the norms' parameters in files converted from TensorFlow.
OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


@dataclass(frozen=True)
class BertConfig:
    """Sizes of the network; the defaults are those of the official one."""

    vocabulary: int = 21_128
    positions: int = 512
    token_types: int = 2
    width: int = 1024
    inner: int = 4096
    heads: int = 16
    layers: int = 24  # of the file; the last two are not used
    epsilon: float = 1e-12

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> BertConfig:
        """From a `config.json`; what it does not say is as in the official one. Raises ValueError for other layouts."""
        kinds = (config.get("hidden_act", "gelu"), config.get("position_embedding_type", "absolute"))
        if kinds != ("gelu", "absolute"):
            raise ValueError(f"this kind of BERT is not supported: {kinds[0]}, {kinds[1]} positions")
        return cls(
            vocabulary=int(config.get("vocab_size", cls.vocabulary)),
            positions=int(config.get("max_position_embeddings", cls.positions)),
            token_types=int(config.get("type_vocab_size", cls.token_types)),
            width=int(config.get("hidden_size", cls.width)),
            inner=int(config.get("intermediate_size", cls.inner)),
            heads=int(config.get("num_attention_heads", cls.heads)),
            layers=int(config.get("num_hidden_layers", cls.layers)),
            epsilon=float(config.get("layer_norm_eps", cls.epsilon)),
        )

    @property
    def used_layers(self) -> int:
        return self.layers - SKIPPED_LAYERS


class Embeddings(nn.Module):
    """Token, place and kind of sentence (always the first) -> vectors."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocabulary, config.width)
        self.position_embeddings = nn.Embedding(config.positions, config.width)
        self.token_type_embeddings = nn.Embedding(config.token_types, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=config.epsilon)

    def forward(self, ids: Tensor) -> Tensor:
        places = self.position_embeddings.weight[: ids.shape[1]]
        return self.LayerNorm(self.word_embeddings(ids) + self.token_type_embeddings.weight[0] + places)  # (B, N, W)


class Heads(nn.Module):
    """Self-attention of all tokens with all tokens, before its output layer."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            project(x).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, W / heads)
            for project in (self.query, self.key, self.value)
        )
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # (B, N, W)


class Output(nn.Module):
    """norm(x + dense(y))."""

    def __init__(self, inside: int, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(inside, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=config.epsilon)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        return self.LayerNorm(x + self.dense(y))  # (B, N, W)


class Attention(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.self = Heads(config)  # the official name
        self.output = Output(config.width, config)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.self(x), x)  # (B, N, W)


class Expansion(nn.Module):
    """The wide half of the feed-forward."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.inner)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.dense(x))  # (B, N, inner)


class Layer(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.intermediate = Expansion(config)
        self.output = Output(config.inner, config)

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(x)
        return self.output(self.intermediate(x), x)  # (B, N, W)


class Encoder(nn.Module):
    """The layers that are used."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.used_layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layer:
            x = layer(x)
        return x  # (B, N, W)


class Bert(nn.Module):
    """The network: ids (B, N) with the marks at start and end -> (B, N, W), the output of the last layer but two."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Bert:
        """Ready to run in float32, from the tensors and the `config.json` of an official folder.

        Raises ValueError for another layout, RuntimeError for tensors that are not this network's.
        """
        with without_numbers():
            network = cls(BertConfig.from_dict(config))
        last = [f"encoder.layer.{n}." for n in range(network.config.used_layers, network.config.layers)]
        return load_strictly(network, _with_new_names(without_prefix(tensors, NAME_PREFIX)), [*UNUSED, *last])

    @property
    def device(self) -> torch.device:
        return self.embeddings.word_embeddings.weight.device

    def forward(self, ids: Tensor) -> Tensor:
        return self.encoder(self.embeddings(ids))


class BertNetwork(Protocol):
    """What reads ids: `Bert` itself, or what it was exported to."""

    config: BertConfig

    @property
    def device(self) -> torch.device: ...

    def __call__(self, ids: Tensor) -> Tensor: ...


def _with_new_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file has either kind of names, or the strict loading that follows complains."""
    renamed = {}
    for name, tensor in tensors.items():
        old = next((old for old in OLD_NAMES if name.endswith(old)), None)
        renamed[name.removesuffix(old) + OLD_NAMES[old] if old else name] = tensor
    return renamed


@dataclass(frozen=True)
class ChineseBert:
    """The network with its tokens."""

    network: BertNetwork
    tokens: WordPiece

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> ChineseBert:
        """`config` is the folder's `config.json` together with what `wordpiece.tokenizer_config` made of its tokenizer.

        Raises ValueError, KeyError and RuntimeError if they do not belong together.
        """
        bert = cls(Bert.from_tensors(tensors, config), WordPiece.from_config(config))
        if len(bert.tokens.vocabulary) > bert.network.config.vocabulary:
            known = bert.network.config.vocabulary
            raise ValueError(f"{len(bert.tokens.vocabulary)} tokens for a network that knows {known}")
        return bert

    def character_features(self, text: str) -> Tensor:
        """(characters, W). Text that exceeds the network's positions is read in parts of equal length."""
        device = self.network.device
        ids = self.tokens.encode_characters(text)
        if not ids:
            return torch.zeros(0, self.network.config.width, device=device)
        framed = (torch.tensor([self.tokens.framed(part)], device=device) for part in self._parts(ids))
        return torch.cat([self.network(part)[0, 1:-1] for part in framed])

    def phone_features(self, text: str, word2ph: Sequence[int]) -> Tensor:
        """(W, phones): the features of character i of the normalised `text`, `word2ph[i]` times.

        Raises ValueError if the two are not equally long.
        """
        if len(text) != len(word2ph):
            raise ValueError(f"{len(text)} characters but {len(word2ph)} counts of phones")
        return spread(self.character_features(text), word2ph)

    def _parts(self, ids: Sequence[int]) -> Iterator[Sequence[int]]:
        most = self.network.config.positions - 2  # the marks at start and end
        count = -(-len(ids) // most)
        size = -(-len(ids) // count)
        return (ids[start : start + size] for start in range(0, len(ids), size))


def spread(features: Tensor, word2ph: Sequence[int]) -> Tensor:
    """(characters, W) -> (W, phones), each character's as often as it has phones."""
    return features.repeat_interleave(torch.tensor(word2ph, dtype=torch.long, device=features.device), dim=0).T
