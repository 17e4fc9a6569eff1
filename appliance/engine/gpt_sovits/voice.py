"""One voice version, prepared: what its files and settings say, and everything its reference clips tell the networks.

Files (roles of `VoiceAssets.files`): "s1" and "s2" with "s1_config" and "s2_config"; "reference", the clip whose words
are the prompt, and "reference_2", "reference_3", … that add to the timbre only; "hubert"; "bert" to speak Chinese; "sv"
for v2Pro and v2ProPlus; each network also with "<role>_config" where it needs one.
Settings: "transcript" and "language" of the first reference (without a transcript only its timbre is used), "sampling"
{top_k, top_p, temperature, repetition_penalty}, "interval_s" of silence after a piece, "is_streaming", "cut_method".
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from appliance.contracts import JsonDict, VoiceAssets
from appliance.engine.gpt_sovits.joints import PAUSE_S
from appliance.engine.gpt_sovits.networks import Networks
from appliance.engine.gpt_sovits.pairing import check_pair
from appliance.engine.gpt_sovits.reading import Reader, Reading, close_sentence
from appliance.engine.gpt_sovits.reference import SPEECH_RATE, ReferenceClip, read_reference
from appliance.engine.gpt_sovits.sampling import SamplingSettings
from appliance.engine.gpt_sovits.sovits import Synthesizer
from appliance.engine.gpt_sovits.spectrogram import SAMPLE_RATE, reference_spectrogram, reference_waveform, resample
from appliance.errors import Corrupt, Unavailable
from appliance.text.cutting import METHODS
from appliance.text.gpt_sovits_symbols import GPT_SOVITS_SYMBOLS, GPT_SOVITS_V1, GPT_SOVITS_V2

SILENCE_AFTER_PROMPT = 9600  # samples at 16 kHz: 0.6 s, as the networks were trained
V1_SYMBOLS = len(GPT_SOVITS_SYMBOLS[GPT_SOVITS_V1])


@dataclass(frozen=True)
class VoiceSettings:
    """`VoiceAssets.settings`, checked."""

    transcript: str
    language: str
    sampling: SamplingSettings
    interval_s: float
    is_streaming: bool  # False voices a piece at once, with upstream's numbers
    cut_method: str  # one of GPT-SoVITS' own; empty: the text comes in clauses already

    @classmethod
    def read(cls, settings: JsonDict) -> VoiceSettings:
        """Raises Corrupt("voice_files_corrupt")."""
        try:
            return cls(
                transcript=str(settings.get("transcript") or "").strip(),
                language=str(settings.get("language") or "auto"),
                sampling=_read_sampling(settings.get("sampling") or {}),
                interval_s=_within(settings.get("interval_s", PAUSE_S), 0.0, 5.0),
                is_streaming=bool(settings.get("is_streaming", True)),
                cut_method=_one_of(settings.get("cut_method") or "", ("", *METHODS)),
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise Corrupt("voice_files_corrupt", file="settings", reason=str(error)) from error


def _read_sampling(values: JsonDict) -> SamplingSettings:
    unknown = sorted(set(values) - {field.name for field in fields(SamplingSettings)})
    if unknown:
        raise ValueError(f"sampling knows no {unknown[0]}")
    return SamplingSettings(
        top_k=int(_within(values.get("top_k", 15), 0, 1025)),
        top_p=_within(values.get("top_p", 1.0), 0.0, 1.0),
        temperature=_within(values.get("temperature", 1.0), 0.0, 10.0),
        repetition_penalty=_within(values.get("repetition_penalty", 1.35), 0.1, 10.0),
    )


def _within(value: Any, lowest: float, highest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest:
        raise ValueError(f"{value!r} is not between {lowest} and {highest}")
    return float(value)


def _one_of(value: Any, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"{value!r} is not one of {', '.join(known[1:])}")
    return str(value)


@dataclass(frozen=True)
class PreparedVoice:
    """What can be computed before a text is known. Small: the networks are not in it."""

    settings: VoiceSettings
    inventory: str  # of phones
    timbre: Tensor  # (1, G, 1)
    prompt: Reading  # the transcript of the first reference, read; empty without one
    tokens: Tensor  # (y,) speech tokens of the first reference; empty without a transcript


def prepare_voice(voice: VoiceAssets, networks: Networks, reader: Reader) -> PreparedVoice:
    """Listen to the references and read the transcript; costs about a second.

    `reader` is one for the inventory `inventory_of(networks.s2_rest(voice))`. Raises InvalidInput (reference_…),
    InvalidInput("model_pair_wrong"), Unavailable("model_file_missing"), Corrupt.
    """
    settings = VoiceSettings.read(voice.settings)
    s2 = networks.s2_rest(voice)
    require_pair(networks.s1_config(voice).phonemes, s2.config.symbols)
    clips = _read_clips(voice, has_prompt=bool(settings.transcript))
    with torch.inference_mode():
        timbre = _timbre(voice, networks, s2, clips)
        prompt, tokens = Reading.nothing(), torch.zeros(0, dtype=torch.long)
        if settings.transcript:
            prompt = reader.read(close_sentence(settings.transcript, settings.language), settings.language)
            tokens = s2.encode_codes(networks.hubert(voice).features(_padded(clips[0])))[0, 0]
    return PreparedVoice(settings, reader.inventory, timbre, prompt, tokens)


def inventory_of(s2: Synthesizer) -> str:
    """The phones that these weights were trained on."""
    return GPT_SOVITS_V1 if s2.config.symbols == V1_SYMBOLS else GPT_SOVITS_V2


def require_pair(s1_symbols: int, s2_symbols: int) -> None:
    """Raises InvalidInput("model_pair_wrong"). The table of v1's s1 has 512 rows, of which 322 are used."""
    latest = len(GPT_SOVITS_SYMBOLS[GPT_SOVITS_V2])
    check_pair(*("v1" if symbols < latest else "v2" for symbols in (s1_symbols, s2_symbols)))


def _read_clips(voice: VoiceAssets, has_prompt: bool) -> list[ReferenceClip]:
    roles = ["reference", *sorted(role for role in voice.files if role.startswith("reference_"))]
    if "reference" not in voice.files:
        raise Unavailable("model_file_missing", role="reference", title="reference")
    return [read_reference(voice.files[role], is_prompt=has_prompt and role == "reference") for role in roles]


def _timbre(voice: VoiceAssets, networks: Networks, s2: Synthesizer, clips: list[ReferenceClip]) -> Tensor:
    sounds = [reference_waveform(torch.from_numpy(clip.samples)[None], clip.sample_rate) for clip in clips]
    speakers = None
    if s2.config.is_pro:
        network = networks.speaker(voice)
        speakers = [network.embed(resample(sound, SAMPLE_RATE, SPEECH_RATE)) for sound in sounds]
    return s2.timbre([reference_spectrogram(sound) for sound in sounds], speakers)  # (1, G, 1)


def _padded(clip: ReferenceClip) -> Tensor:
    speech = torch.from_numpy(clip.speech)
    return torch.nn.functional.pad(speech, (0, SILENCE_AFTER_PROMPT))[None]  # (1, n)
