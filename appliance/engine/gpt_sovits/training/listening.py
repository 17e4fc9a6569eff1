"""From a clip and its words to the features that both networks learn from.

As the official networks were prepared: half of the level is the clip's own, half is brought to its peak; HuBERT hears
the same mix, louder, at 16 kHz. Axes: S samples, T frames of 20 ms, n phones, y tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from appliance.contracts import Samples
from appliance.engine.gpt_sovits.eres2net import SpeakerNet
from appliance.engine.gpt_sovits.hubert import Hubert
from appliance.engine.gpt_sovits.reading import Reader
from appliance.engine.gpt_sovits.sovits import Synthesizer
from appliance.engine.gpt_sovits.spectrogram import SAMPLE_RATE, resample
from appliance.errors import InvalidInput
from appliance.text.languages import split_languages

SPEECH_RATE = 16_000  # Hz, of HuBERT and of the speaker network
LEVELLED, PEAK = 0.5, 0.95  # share that is brought to a peak of `PEAK`; the rest keeps its level
HEARING_GAIN = 1145.14  # what HuBERT's input was multiplied by when the official networks were trained
WRITTEN_LIKE_THIS = str.maketrans({"%": "-", "￥": ","})  # in texts that are trained on
IDEOGRAPHIC = {"zh": ("zh",), "yue": ("zh",), "ja": ("ja", "zh")}  # label -> scripts that its words may have


@dataclass(frozen=True)
class Ears:
    """The networks that prepare clips; none of them learns."""

    hubert: Hubert
    s2: Synthesizer  # the one that learning starts from: its tokens are learnt
    speaker: SpeakerNet | None  # Pro only
    reader: Reader

    def listen(self, samples: Samples, sample_rate: int, words: str, language: str) -> dict[str, Tensor]:
        """(S,) and what is said in it -> features as `clips.write_clip` takes them.

        Raises InvalidInput (clip_silent, clip_unlabelled, clip_language_differs, and what `Reader.read` raises).
        """
        require_words(words, language)
        mixed = _level(resample(torch.from_numpy(samples)[None], sample_rate, SAMPLE_RATE))  # (1, S)
        reading = self.reader.read(words.translate(WRITTEN_LIKE_THIS), language)
        ssl = self._hear(mixed)
        found = {
            "phones": reading.phones,
            "bert": reading.bert.half(),
            "tokens": self.s2.encode_codes(ssl)[0, 0].cpu(),
            "ssl": ssl[0].cpu(),
            "waveform": mixed[0],
        }
        if self.speaker is not None:
            speech = resample(mixed, SAMPLE_RATE, SPEECH_RATE)
            with torch.inference_mode():
                found["speaker"] = self.speaker.embed(speech)[0].cpu()
        return found

    def _hear(self, mixed: Tensor) -> Tensor:
        """(1, 768, T)."""
        device = self.s2.ssl_proj.weight.device
        speech = resample(mixed * HEARING_GAIN, SAMPLE_RATE, SPEECH_RATE)
        with torch.inference_mode():
            return self.hubert.features(speech.to(device))


def _level(samples: Tensor) -> Tensor:
    peak = float(samples.abs().max()) if samples.numel() else 0.0
    if not peak > 1e-4:
        raise InvalidInput("clip_silent", peak=peak)
    return samples / peak * (PEAK * LEVELLED) + samples * (1 - LEVELLED)


def require_words(words: str, language: str) -> None:
    """Raises InvalidInput (clip_unlabelled, clip_language_differs) where `language` is not written in such a script.

    Words of other languages in between are fine; English words alone under a Chinese label are not, nor the reverse.
    """
    if not words.strip():
        raise InvalidInput("clip_unlabelled")
    found = {code for code, _ in split_languages(words, language)}
    wanted = IDEOGRAPHIC.get(language, ())
    is_wrong = not found & set(wanted) if wanted else language == "en" and "en" not in found
    if found and is_wrong:
        raise InvalidInput("clip_language_differs", language=language, found=", ".join(sorted(found)))
