"""The prior of s2: sound tokens and phones -> the distribution of the latent, per frame.

Axes: B batch, C hidden channels, M channels of the mixer, T frames of 20 ms, N phones. Masks as in `attentions`.
"""

# torch types the call of a module as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from appliance.engine.gpt_sovits.attentions import Attention, Encoder, EncoderSizes, masked


@dataclass(frozen=True)
class PriorSizes:
    encoder: EncoderSizes
    ssl_layers: int
    text_layers: int
    last_layers: int
    ssl_width: int  # of the quantised features
    symbols: int
    mixer_width: int
    mixer_heads: int
    latent: int


class Mixer(nn.Module):
    """Lets the frames look at the phones, and adds the timbre (MRTE)."""

    def __init__(self, channels: int, width: int, heads: int) -> None:
        super().__init__()
        self.cross_attention = Attention(width, heads)
        self.c_pre = nn.Conv1d(channels, width, 1)
        self.text_pre = nn.Conv1d(channels, width, 1)
        self.c_post = nn.Conv1d(width, channels, 1)

    def forward(self, x: Tensor, text: Tensor, ge: Tensor, masks: tuple[Tensor | None, Tensor | None]) -> Tensor:
        """(B, C, T), (B, C, N), (B, M, 1), masks of both -> (B, C, T)."""
        mask, text_mask = masks
        pairs = None if mask is None or text_mask is None else mask.unsqueeze(3) * text_mask.unsqueeze(2)
        frames = self.c_pre(masked(x, mask))  # (B, M, T)
        phones = self.text_pre(masked(text, text_mask))  # (B, M, N)
        heard = self.cross_attention(masked(frames, mask), masked(phones, text_mask), pairs)
        return self.c_post(masked(heard + frames + ge, mask))


class PriorEncoder(nn.Module):
    """Encoders for frames and phones, the mixer, and one more encoder; `features` then `project`."""

    def __init__(self, sizes: PriorSizes) -> None:
        super().__init__()
        width = sizes.encoder.channels
        self.ssl_proj = nn.Conv1d(sizes.ssl_width, width, 1)
        self.encoder_ssl = Encoder(sizes.encoder, sizes.ssl_layers)
        self.text_embedding = nn.Embedding(sizes.symbols, width)
        self.encoder_text = Encoder(sizes.encoder, sizes.text_layers)
        self.mrte = Mixer(width, sizes.mixer_width, sizes.mixer_heads)
        self.encoder2 = Encoder(sizes.encoder, sizes.last_layers)
        self.proj = nn.Conv1d(width, 2 * sizes.latent, 1)

    def features(
        self,
        quantised: Tensor,
        phone_ids: Tensor,
        ge: Tensor,
        masks: tuple[Tensor | None, Tensor | None] = (None, None),
    ) -> Tensor:
        """(B, ssl_width, T), (B, N), (B, M, 1), masks of frames and phones -> (B, C, T)."""
        return self.frames(quantised, self.text(phone_ids, masks[1]), ge, masks)

    def text(self, phone_ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """What the phones say by themselves: (B, N) -> (B, C, N)."""
        return self.encoder_text(self.text_embedding(phone_ids).transpose(1, 2), mask)

    def frames(
        self,
        quantised: Tensor,
        text: Tensor,
        ge: Tensor,
        masks: tuple[Tensor | None, Tensor | None] = (None, None),
    ) -> Tensor:
        """What the frames say, given `text`: (B, ssl_width, T), (B, C, N), (B, M, 1) -> (B, C, T)."""
        mask = masks[0]
        x = masked(self.ssl_proj(masked(quantised, mask)), mask)
        return self.encoder2(self.mrte(self.encoder_ssl(x, mask), text, ge, masks), mask)

    def project(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, C, T) -> mean and log deviation, (B, latent, T) each."""
        mean, log_deviation = masked(self.proj(features), mask).chunk(2, dim=1)
        return mean, log_deviation


def change_speed(features: Tensor, speed: float) -> Tensor:
    """(B, C, T) -> (B, C, frames_at(T, speed)): lines drawn between frames."""
    if speed == 1.0:
        return features
    return F.interpolate(features, size=frames_at(features.shape[2], speed), mode="linear")


def frames_at(frames: int, speed: float) -> int:
    """Frames left of `frames` at `speed`; other speeds than 1 add one, as the official network does."""
    return frames if speed == 1.0 else int(frames / speed) + 1
