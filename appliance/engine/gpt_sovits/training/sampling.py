"""Sounds of a voice as it learns, for people to listen to."""

from __future__ import annotations

import json
import wave
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from appliance.engine.gpt_sovits.generation import generate_tokens, most_tokens
from appliance.engine.gpt_sovits.sampling import seeded_noise
from appliance.engine.gpt_sovits.sovits import Synthesizer
from appliance.engine.gpt_sovits.spectrogram import SAMPLE_RATE, spectrogram
from appliance.engine.gpt_sovits.t2s import TextPrompt
from appliance.engine.gpt_sovits.training.clips import read_features
from appliance.engine.gpt_sovits.training.courses import SoundCourse, TokenCourse, without_dropout
from appliance.engine.gpt_sovits.training.tuning import SOUND, Advance, Tuning, best_of

TEXT = ("phones", "bert", "tokens")


@dataclass
class Sampler:
    """Writes STAGE-STEP.wav into `folder`, `count` times per course: the words of one clip, asked for by another."""

    tuning: Tuning
    folder: Path
    count: int = 4
    _voiced_by: list[Synthesizer] = field(default_factory=list)  # s2 as it came out of its course, once read

    def hear(self, advance: Advance) -> None:
        """At most once per quarter of the course; does not disturb the training."""
        standing = advance.report.standing
        every = -(-advance.report.updates // self.count)
        if standing.done % every and not standing.is_over:
            return
        sound = self._sound(advance) if advance.stage == SOUND else self._speech(advance)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_sound(self.folder / f"{advance.stage}-{standing.done}.wav", sound)

    def _sound(self, advance: Advance) -> Tensor:
        """s2 voices the recorded tokens of a clip."""
        network = cast(SoundCourse, advance.course).learners.network
        target = self._target()
        return self._decode(network, read_features(target, TEXT)["tokens"], target)

    def _speech(self, advance: Advance) -> Tensor:
        """s1 says the words of one clip as another begins; s2 as it came out of its course voices them."""
        network = cast(TokenCourse, advance.course).network
        if not self._voiced_by:
            self._voiced_by.append(self._read_s2())
        prompt, target = (read_features(path, TEXT) for path in (self._prompt(), self._target()))
        asked = TextPrompt(
            phones=torch.cat((prompt["phones"], target["phones"])).to(self.tuning.device),
            bert=torch.cat((prompt["bert"], target["bert"]), dim=1).to(self.tuning.device),
            tokens=prompt["tokens"].to(self.tuning.device),
        )
        noise, most = seeded_noise(self.tuning.plan.seed), most_tokens(len(target["phones"]))
        tokens = list(generate_tokens(network, asked, noise, most=most))
        return self._decode(self._voiced_by[0], torch.tensor(tokens), self._target())

    def _decode(self, network: Synthesizer, tokens: Tensor, target: Path) -> Tensor:
        device = self.tuning.device
        found = read_features(self._prompt(), ("waveform", *(("speaker",) if network.config.is_pro else ())))
        spectra = [spectrogram(found["waveform"][None].to(device))]
        speakers = [found["speaker"][None].to(device)] if network.config.is_pro else None
        phones = read_features(target, ("phones",))["phones"][None].to(device)
        generator = torch.Generator().manual_seed(self.tuning.plan.seed)
        noise = torch.randn(1, network.config.inter_channels, network.frames(len(tokens)), generator=generator)
        with without_dropout(network), torch.inference_mode():
            ge = network.timbre(spectra, speakers)
            return network.decode(tokens[None, None].to(device), phones, ge, noise.to(device))[0, 0].cpu()

    def _target(self) -> Path:
        taught, held_out = self.tuning.split()
        return (held_out or taught)[0]

    def _prompt(self) -> Path:
        return self.tuning.split()[0][-1]

    def _read_s2(self) -> Synthesizer:
        config = json.loads(self.tuning.base["s2_config"].read_text("utf-8"))
        network = Synthesizer.from_tensors(best_of(self.tuning, "s2"), config)
        return network.folded().to(self.tuning.device)


def write_sound(path: Path, samples: Tensor) -> None:
    """(S,) at 32 kHz -> mono WAV of 16 bits; the file is there whole or not at all. Raises OSError."""
    loud = samples.clamp(-1.0, 1.0).nan_to_num().numpy()
    partial = path.with_name(path.name + ".part")
    with partial.open("wb") as file, wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE)
        out.writeframes(np.round(loud * 32767.0).astype("<i2").tobytes())
    partial.replace(path)
