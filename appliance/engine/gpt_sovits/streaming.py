"""s2 while the tokens are still being made: sound comes out in parts that join without a seam.

The encoder sees all tokens so far, so its frames change a little with every part; flow and vocoder see only their
neighbourhood. So frames once played stay as they were, the newest ones fade over into what the encoder says now, and
every part is voiced with played frames as context on the left and frames held back on the right. Parts are then cut
from what is one waveform, and no search for a joint is needed. (Upstream voices parts without context and
searches; see `Synthesizer.decode_stream` and `joints.Sola`.)

All state is passed in and out. Frames are 20 ms at speed 1; "slow" frames are those before the change of speed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from appliance.engine.gpt_sovits.prior import frames_at
from appliance.engine.gpt_sovits.sovits import SynthesizerConfig


class Sound(Protocol):
    """What turns tokens into sound: `Synthesizer` itself, or what it was exported to."""

    config: SynthesizerConfig

    def frames(self, tokens: int, speed: float = 1.0) -> int: ...

    def decode(
        self, codes: Tensor, phone_ids: Tensor, ge: Tensor, noise: Tensor | None = None, speed: float = 1.0
    ) -> Tensor: ...

    def features(self, codes: Tensor, phone_ids: Tensor, ge: Tensor) -> Tensor: ...

    def voice(self, features: Tensor, ge: Tensor, noise: Tensor | None, is_end: bool = True) -> Tensor: ...

    def first_frame(self, wanted: int, known: int) -> int: ...


@dataclass(frozen=True)
class StreamSizes:
    """Frames around a part. With 8 on both sides a part differs from the whole by less than 1e-3 of full scale."""

    context: int = 8  # played already, voiced again
    held_back: int = 8  # known already, not yet played
    fade: int = 4  # newest slow frames that turn into what the encoder says now


class Piece(NamedTuple):
    """One piece of text with the tokens that exist so far."""

    codes: Tensor  # (1, 1, Y)
    phone_ids: Tensor  # (1, N), of the whole piece
    ge: Tensor  # (1, G, 1)
    noise: Tensor | None = None  # standard normal (1, inter, at least `network.frames(Y)`), the same in every call
    speed: float = 1.0


class StreamState(NamedTuple):
    """What the next part needs to know."""

    features: Tensor  # (1, hidden, slow frames), used so far
    played: int  # frames
    tail: Tensor  # (1, 1, one frame of samples): the beginning of the next part as it sounded from here


@torch.inference_mode()
def decode_next(
    network: Sound,
    piece: Piece,
    state: StreamState | None,
    is_last: bool,
    sizes: StreamSizes | None = None,
) -> tuple[Tensor, StreamState]:
    """The sound that can be played now, (1, 1, S), S >= 0, and the state for the next call.

    Over all calls of a piece 640 * `network.frames(tokens, speed)` samples come out. In one call at speed 1 it
    equals `network.decode`; at other speeds the tempo is exact here, while `decode` stretches to whole frames.
    """
    sizes = sizes or StreamSizes()
    features = network.features(piece.codes, piece.phone_ids, piece.ge)
    if state is not None:
        features = _carry_on(state.features, features, min(sizes.fade, int(sizes.held_back * piece.speed)))
    known = frames_at(features.shape[2], piece.speed) if is_last else _known(features.shape[2], piece.speed)
    start = state.played if state is not None else 0
    end = known if is_last else max(start, known - sizes.held_back)
    if end == start:
        return features.new_zeros(1, 1, 0), _waiting(features, state, network.config.samples_per_frame)
    left = network.first_frame(max(0, start - sizes.context), known)
    stretched = _stretch(features, (left, known), piece.speed)
    noise = None if piece.noise is None else piece.noise[:, :, left:known]
    sound = network.voice(stretched, piece.ge, noise, is_last)[
        :, :, (start - left) * network.config.samples_per_frame :
    ]
    if state is not None:
        sound = _fade_in(state.tail, sound)
    cut = (end - start) * network.config.samples_per_frame
    return sound[:, :, :cut], StreamState(features, end, sound[:, :, cut : cut + network.config.samples_per_frame])


def _waiting(features: Tensor, state: StreamState | None, frame: int) -> StreamState:
    """Nothing could be played yet, or nothing new."""
    if state is None:
        return StreamState(features, 0, features.new_zeros(1, 1, 0))
    return state._replace(features=features)


def _carry_on(used: Tensor, fresh: Tensor, fade: int) -> Tensor:
    """Frames used already stay, but the last `fade` of them turn into the fresh ones; the rest is fresh."""
    count = used.shape[2]
    fade = min(fade, count)
    weight = (torch.arange(fade, dtype=used.dtype, device=used.device) + 0.5) / max(fade, 1)
    turning = torch.lerp(used[:, :, count - fade :], fresh[:, :, count - fade : count], weight)
    return torch.cat([used[:, :, : count - fade], turning, fresh[:, :, count:]], dim=2)


def _known(slow_frames: int, speed: float) -> int:
    """Frames that no later slow frame can change."""
    return slow_frames if speed == 1.0 else math.floor((slow_frames - 0.5) / speed + 0.5)


def _stretch(features: Tensor, part: tuple[int, int], speed: float) -> Tensor:
    """Slow frames (1, hidden, n) -> frames part[0] .. part[1] at `speed`, on lines between the slow ones."""
    if speed == 1.0:
        return features[:, :, part[0] : part[1]]
    at = (torch.arange(*part, dtype=torch.float64, device=features.device) + 0.5) * speed - 0.5
    at = at.clamp(0, features.shape[2] - 1)
    below = at.floor().long()
    above = (below + 1).clamp(max=features.shape[2] - 1)
    return torch.lerp(features[:, :, below], features[:, :, above], (at - below).to(features.dtype))


def _fade_in(tail: Tensor, sound: Tensor) -> Tensor:
    """The first frame turns from how it sounded in the part before to how it sounds now; both say nearly the same."""
    count = min(tail.shape[2], sound.shape[2])
    weight = (torch.arange(count, dtype=sound.dtype, device=sound.device) + 0.5) / max(count, 1)
    return torch.cat([torch.lerp(tail[:, :, :count], sound[:, :, :count], weight), sound[:, :, count:]], dim=2)
