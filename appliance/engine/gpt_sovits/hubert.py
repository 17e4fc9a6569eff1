"""HuBERT (base), the content encoder: speech -> what is said, 50 vectors a second.

The layout of `chinese-hubert-base`: convolutions of which only the first is normalised (per channel, over time), and a
transformer that normalises after each half of a layer. Axes: B batch, S samples at 16 kHz, T frames, C channels,
W width. Parameters keep the names of the official file, except that the weight norm of the positional convolution is
folded at loading. Nothing here depends on what was heard before.
"""

# torch types the call of a module as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from appliance.engine.gpt_sovits.loading import fold_weight_norm, load_strictly, without_numbers, without_prefix

# What files hold beside the encoder: the vector that training puts in place of hidden frames, and the heads that
# predict clusters or letters.
UNUSED = ("masked_spec_embed", "final_proj.", "label_embs_concat", "lm_head.", "projector.", "classifier.")
NAME_PREFIX = "hubert."  # before every tensor in files of a network with a head


@dataclass(frozen=True)
class HubertConfig:
    """Sizes of the network; the defaults are those of the base model."""

    channels: tuple[int, ...] = (512,) * 7
    kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)  # 320 samples = 20 ms together
    has_bias: bool = False  # in the convolutions
    width: int = 768
    inner: int = 3072
    heads: int = 12
    layers: int = 12
    position_kernel: int = 128
    position_groups: int = 16
    epsilon: float = 1e-5

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> HubertConfig:
        """From a `config.json`; what it does not say is as in the base model. Raises ValueError for other layouts."""
        _require(config, "feat_extract_norm", "group")
        _require(config, "do_stable_layer_norm", False)
        _require(config, "feat_proj_layer_norm", True)
        _require(config, "conv_pos_batch_norm", False)
        _require(config, "feat_extract_activation", "gelu")
        _require(config, "hidden_act", "gelu")
        return cls(
            channels=tuple(config.get("conv_dim", cls.channels)),
            kernels=tuple(config.get("conv_kernel", cls.kernels)),
            strides=tuple(config.get("conv_stride", cls.strides)),
            has_bias=bool(config.get("conv_bias", cls.has_bias)),
            width=int(config.get("hidden_size", cls.width)),
            inner=int(config.get("intermediate_size", cls.inner)),
            heads=int(config.get("num_attention_heads", cls.heads)),
            layers=int(config.get("num_hidden_layers", cls.layers)),
            position_kernel=int(config.get("num_conv_pos_embeddings", cls.position_kernel)),
            position_groups=int(config.get("num_conv_pos_embedding_groups", cls.position_groups)),
            epsilon=float(config.get("layer_norm_eps", cls.epsilon)),
        )

    @property
    def shortest(self) -> int:
        """Samples that make one frame (400)."""
        samples = 1
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples


def _require(config: Mapping[str, Any], name: str, value: Any) -> None:
    found = config.get(name, value)
    if found != value:
        raise ValueError(f"this kind of HuBERT is not supported: {name} is {found!r}, not {value!r}")


class Convolution(nn.Module):
    """One step of the waveform's way down to frames."""

    def __init__(self, config: HubertConfig, number: int) -> None:
        super().__init__()
        inside = config.channels[number - 1] if number else 1
        outside = config.channels[number]
        self.conv = nn.Conv1d(
            inside, outside, config.kernels[number], stride=config.strides[number], bias=config.has_bias
        )
        # Statistics over the whole clip, per channel: after it, loudness hardly matters.
        self.layer_norm = nn.GroupNorm(outside, outside) if number == 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.layer_norm(self.conv(x)))  # (B, C, T)


class Convolutions(nn.Module):
    """Waveform (B, S) -> frames (B, C, T)."""

    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList(Convolution(config, number) for number in range(len(config.channels)))

    def forward(self, waveform: Tensor) -> Tensor:
        x = waveform[:, None]
        for layer in self.conv_layers:
            x = layer(x)
        return x  # (B, C, T)


class Projection(nn.Module):
    """Frames to the width of the transformer."""

    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(config.channels[-1], eps=config.epsilon)
        self.projection = nn.Linear(config.channels[-1], config.width)

    def forward(self, frames: Tensor) -> Tensor:
        return self.projection(self.layer_norm(frames.transpose(1, 2)))  # (B, T, W)


class Position(nn.Module):
    """Where a frame is, told by its neighbours: a wide grouped convolution."""

    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        kernel = config.position_kernel
        self.conv = nn.Conv1d(config.width, config.width, kernel, padding=kernel // 2, groups=config.position_groups)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x.transpose(1, 2))[..., : x.shape[1]]  # an even kernel makes one frame too many, at the end
        return F.gelu(y).transpose(1, 2)  # (B, T, W)


class Attention(nn.Module):
    """Self-attention of all frames with all frames."""

    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q_proj = nn.Linear(config.width, config.width)
        self.k_proj = nn.Linear(config.width, config.width)
        self.v_proj = nn.Linear(config.width, config.width)
        self.out_proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            project(x).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, W / heads)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))  # (B, T, W)


class FeedForward(nn.Module):
    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(config.width, config.inner)
        self.output_dense = nn.Linear(config.inner, config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.output_dense(F.gelu(self.intermediate_dense(x)))  # (B, T, W)


class Layer(nn.Module):
    """x = norm(x + attention(x)); x = norm(x + feed-forward(x))."""

    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.layer_norm = nn.LayerNorm(config.width, eps=config.epsilon)
        self.feed_forward = FeedForward(config)
        self.final_layer_norm = nn.LayerNorm(config.width, eps=config.epsilon)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer_norm(x + self.attention(x))
        return self.final_layer_norm(x + self.feed_forward(x))  # (B, T, W)


class Encoder(nn.Module):
    """The transformer."""

    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        self.pos_conv_embed = Position(config)
        self.layer_norm = nn.LayerNorm(config.width, eps=config.epsilon)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer_norm(x + self.pos_conv_embed(x))
        for layer in self.layers:
            x = layer(x)
        return x  # (B, T, W)


class Hubert(nn.Module):
    """The network. `forward` gives (B, T, W), `features` the same turned as the synthesizer wants it."""

    def __init__(self, config: HubertConfig) -> None:
        super().__init__()
        self.config = config
        self.feature_extractor = Convolutions(config)
        self.feature_projection = Projection(config)
        self.encoder = Encoder(config)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Hubert:
        """Ready to run in float32, from the tensors and the `config.json` of an official folder.

        Raises ValueError for another layout, KeyError or RuntimeError for tensors that are not this network's.
        """
        with without_numbers():
            network = cls(HubertConfig.from_dict(config))
        return load_strictly(network, fold_weight_norm(without_prefix(tensors, NAME_PREFIX)), UNUSED)

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform (B, S) at 16 kHz, as it is (no normalisation) -> (B, T, W), T = (S - 400) // 320 + 1."""
        return self.encoder(self.feature_projection(self.feature_extractor(waveform)))

    def features(self, waveform: Tensor) -> Tensor:
        """Waveform (B, S) or (S,) at 16 kHz -> (B, W, T). Raises ValueError if it is shorter than one frame."""
        if waveform.shape[-1] < self.config.shortest:
            raise ValueError(f"{waveform.shape[-1]} samples; one frame takes {self.config.shortest}")
        like = self.feature_projection.projection.weight
        return self(torch.atleast_2d(waveform).to(like)).transpose(1, 2)
