"""The networks as the rest of the engine sees them, computed by backends.

Most backends prepare themselves for every length that they meet, which costs up to a tenth of a second. So frames and
phones are padded to a few lengths: masks keep the prior's numbers the same, and sound is made in windows of fixed
sizes that overlap by what a frame can hear (`CONTEXT`), so that it is the sound of the whole. A backend that takes any
length gets what there is (`Session.prepares_lengths`). Where every backend has failed, the network itself computes.
"""

# torch types the call of a module as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from appliance.contracts import Session
from appliance.engine.gpt_sovits.bert import BertConfig
from appliance.engine.gpt_sovits.hubert import HubertConfig
from appliance.engine.gpt_sovits.prior import change_speed
from appliance.engine.gpt_sovits.sovits import Synthesizer, SynthesizerConfig

log = logging.getLogger(__name__)

CONTEXT = 8  # frames on each side that a frame hears, to 1e-3 of full scale
WINDOWS = (20, 24, 36, 48, 64, 112, 208)  # frames that are voiced at once
LONGEST = 320  # frames at once on a backend that takes any length: what bounds its memory
KNOWN = (24, 48, 80, 128, 224, 416)  # frames that the prior sees; beyond, multiples of the last one's half
PHONES = 32  # phones are padded to multiples
TEXTS_KEPT = 8
QUIET_S = 5.0  # after a request, before another length is met

Arrays = dict[str, NDArray[Any]]


class PlacedBert:
    """Reads ids on a backend."""

    device = torch.device("cpu")

    def __init__(self, config: BertConfig, session: Session) -> None:
        self.config = config
        self._session = session

    def __call__(self, ids: Tensor) -> Tensor:
        return torch.from_numpy(self._session.run({"ids": ids.numpy()})["features"])

    def close(self) -> None:
        self._session.close()


class PlacedHubert:
    """Hears on a backend."""

    def __init__(self, config: HubertConfig, session: Session) -> None:
        self.config = config
        self._session = session

    def features(self, waveform: Tensor) -> Tensor:
        """Waveform (B, S) or (S,) at 16 kHz -> (B, W, T). Raises ValueError if it is shorter than one frame."""
        if waveform.shape[-1] < self.config.shortest:
            raise ValueError(f"{waveform.shape[-1]} samples; one frame takes {self.config.shortest}")
        heard = self._session.run({"waveform": torch.atleast_2d(waveform).numpy()})["content"]
        return torch.from_numpy(heard).transpose(1, 2)

    def close(self) -> None:
        self._session.close()


class Window(NamedTuple):
    """Frames that are voiced at once, and which of them count."""

    start: int
    size: int
    kept: tuple[int, int]


def windows(frames: int, sizes: tuple[int, ...] = WINDOWS, context: int = CONTEXT) -> list[Window]:
    """Windows of `sizes` that cover `frames`, each with `context` beside what is kept except at the very ends.

    Fewer frames than the smallest size are a window of their own.
    """
    found: list[Window] = []
    done = 0
    while done < frames:
        left = max(0, done - context)
        missing = frames - left
        fitting = [size for size in sizes if missing <= size <= frames]
        if fitting:
            found.append(Window(frames - fitting[0], fitting[0], (done, frames)))
            break
        size = max((size for size in sizes if size <= missing), default=missing)
        end = left + size if size == missing else left + size - context
        found.append(Window(left, size, (done, end)))
        done = end
    return found


def even_windows(frames: int, longest: int = LONGEST, context: int = CONTEXT) -> list[Window]:
    """Windows of at most `longest` frames that cover `frames`, of about one length."""
    count = 1 if frames <= longest else -(-frames // (longest - 2 * context))
    ends = [frames * i // count for i in range(count + 1)]
    starts = [max(0, first - context) for first in ends[:-1]]
    sizes = [min(frames, last + context) - start for start, last in zip(starts, ends[1:], strict=True)]
    return [Window(*row) for row in zip(starts, sizes, itertools.pairwise(ends), strict=True)]


class PlacedSound:
    """s2 on backends; see `Synthesizer` for what the methods compute."""

    def __init__(self, rest: Synthesizer, sessions: Mapping[str, Session], whole: Callable[[], Synthesizer]) -> None:
        """`rest` need not have more weights than `sovits.REST` names; `whole` is asked for when backends fail."""
        self.config: SynthesizerConfig = rest.config
        self._rest = rest
        self._whole = whole
        self._sessions = dict(sessions)
        self._texts: dict[bytes, NDArray[Any]] = {}
        self._used_at = 0.0  # when a request computed last

    def frames(self, tokens: int, speed: float = 1.0) -> int:
        return self._rest.frames(tokens, speed)

    @torch.inference_mode()
    def decode(
        self, codes: Tensor, phone_ids: Tensor, ge: Tensor, noise: Tensor | None = None, speed: float = 1.0
    ) -> Tensor:
        features = change_speed(self.features(codes, phone_ids, ge), speed)
        return self.voice(features, ge, noise)

    @torch.inference_mode()
    def features(self, codes: Tensor, phone_ids: Tensor, ge: Tensor) -> Tensor:
        self._used_at = time.monotonic()
        if not self._sessions:
            return self._whole().features(codes, phone_ids, ge)
        frames = codes.shape[2] * self.config.frames_per_token
        try:
            found = self._sessions["s2.frames"].run(self._prior_feeds(codes, phone_ids, ge))["features"]
        except Exception as error:  # noqa: BLE001 - whatever all backends raised, the network itself can do it
            self._give_up(error)
            return self._whole().features(codes, phone_ids, ge)
        return torch.from_numpy(found[:, :, :frames])

    @torch.inference_mode()
    def voice(self, features: Tensor, ge: Tensor, noise: Tensor | None, is_end: bool = True) -> Tensor:
        self._used_at = time.monotonic()
        if not self._sessions:
            return self._whole().voice(features, ge, noise)
        latent, timbre = self._rest.latent(features, noise).numpy(), ge.numpy()
        frames = latent.shape[2]
        if not is_end and self._prepares_lengths():
            longer = min((size for size in WINDOWS if size >= frames), default=frames)
            latent = np.pad(latent, ((0, 0), (0, 0), (0, longer - frames)))
        try:
            sound = self._voiced(latent, timbre)
        except Exception as error:  # noqa: BLE001 - as above
            self._give_up(error)
            return self._whole().voice(features, ge, noise)
        return torch.from_numpy(sound[:, :, : frames * self.config.samples_per_frame])

    def first_frame(self, wanted: int, known: int) -> int:
        """Earlier, where that gives a length that the backends are ready for."""
        if not self._prepares_lengths():
            return wanted
        fitting = (known - size for size in WINDOWS if known - wanted <= size <= known)
        return next(fitting, wanted)

    def warm_up(self) -> None:
        """Meet what a first part of sound needs now, and all other lengths while nobody speaks."""
        self._meet(KNOWN[:1], WINDOWS[:2])  # `speaking.PARTS` begin with the one, `WIDE_PARTS` with the other
        self._used_at = time.monotonic()  # a request may be what it is opened for
        threading.Thread(target=self._meet_later, name="lengths", daemon=True).start()

    def _meet_later(self) -> None:
        try:
            sizes = WINDOWS[1:] if self._prepares_lengths() else ()
            for frames, size in itertools.zip_longest(KNOWN[1:], sizes):
                while time.monotonic() - self._used_at < QUIET_S:
                    time.sleep(QUIET_S)
                self._meet((frames,) if frames else (), (size,) if size else ())
        except Exception as error:  # noqa: BLE001 - closed meanwhile, say; a request would find out by itself
            log.info("not all lengths were met beforehand: %s", error)

    @torch.inference_mode()
    def _meet(self, known: Sequence[int], sizes: Sequence[int]) -> None:
        ge = torch.zeros(1, self.config.gin_channels, 1)
        for frames in known:
            codes = torch.zeros(1, 1, frames // self.config.frames_per_token, dtype=torch.long)
            phones = torch.zeros(1, PHONES, dtype=torch.long)
            self._sessions["s2.frames"].run(self._prior_feeds(codes, phones, ge))
        for size in sizes:
            latent = np.zeros((1, self.config.inter_channels, size), np.float32)
            self._sessions["s2.voice"].run({"latent": latent, "timbre": ge.numpy()})

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()

    def _prior_feeds(self, codes: Tensor, phone_ids: Tensor, ge: Tensor) -> Arrays:
        """What "s2.frames" takes, padded to lengths that it has met."""
        frames, phones = codes.shape[2] * self.config.frames_per_token, phone_ids.shape[1]
        known, wide = padded_frames(frames), -(-phones // PHONES) * PHONES
        by_frame = codes[0].repeat_interleave(self.config.frames_per_token, dim=1)
        text_mask = _mask(phones, wide)
        return {
            "codes": functional.pad(by_frame, (0, known - frames)).numpy(),
            "text": self._text(functional.pad(phone_ids, (0, wide - phones)).numpy(), text_mask),
            "timbre": self._rest.mixer_timbre(ge).numpy(),
            "mask": _mask(frames, known),
            "text_mask": text_mask,
        }

    def _text(self, phones: NDArray[Any], mask: NDArray[np.float32]) -> NDArray[Any]:
        """Phones are the same for all parts of a piece: what they say is kept for a while."""
        key = phones.tobytes() + mask.tobytes()
        found = self._texts.pop(key, None)
        if found is None:
            found = self._sessions["s2.text"].run({"phones": phones, "text_mask": mask})["text"]
        self._texts[key] = found
        while len(self._texts) > TEXTS_KEPT:
            self._texts.pop(next(iter(self._texts)), None)
        return found

    def _voiced(self, latent: NDArray[Any], timbre: NDArray[Any]) -> NDArray[Any]:
        parts, each = [], self.config.samples_per_frame
        for window in (windows if self._prepares_lengths() else even_windows)(latent.shape[2]):
            piece = np.ascontiguousarray(latent[:, :, window.start : window.start + window.size])
            sound = self._sessions["s2.voice"].run({"latent": piece, "timbre": timbre})["sound"]
            first, last = (frame - window.start for frame in window.kept)
            parts.append(sound[:, :, first * each : last * each])
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)

    def _prepares_lengths(self) -> bool:
        return "s2.voice" in self._sessions and self._sessions["s2.voice"].prepares_lengths

    def _give_up(self, error: Exception) -> None:
        log.error("the exported s2 is not used any more: %s", error)
        self.close()


def padded_frames(frames: int) -> int:
    """The length that the prior is asked for."""
    step = KNOWN[-1] // 2
    return next((size for size in KNOWN if size >= frames), -(-frames // step) * step)


def _mask(count: int, length: int) -> NDArray[np.float32]:
    return (np.arange(length) < count).astype(np.float32)[None, None]
