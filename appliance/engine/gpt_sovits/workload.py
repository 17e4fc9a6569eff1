"""Fixed workloads for measuring: so many phones and tokens, whatever the text, with every stage timed by itself.

The reference is cached (125 speech tokens, 40 phones) and the text front end left out; BERT reads as many characters as
the text would have. The sizes are those that other measurements of GPT-SoVITS use, so that figures can be compared.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from appliance.contracts import VoiceAssets
from appliance.engine.gpt_sovits.networks import Networks
from appliance.engine.gpt_sovits.reading import Reading
from appliance.engine.gpt_sovits.speaking import Clock, RequestNoise, Speaker, Turn
from appliance.engine.gpt_sovits.spectrogram import SAMPLE_RATE
from appliance.engine.gpt_sovits.t2s import BERT_WIDTH
from appliance.engine.gpt_sovits.turns import READ, Work
from appliance.engine.gpt_sovits.voice import PreparedVoice, VoiceSettings

PROMPT_PHONES, PROMPT_TOKENS = 40, 125  # of a reference of five seconds
CHARACTER = "今"


@dataclass(frozen=True)
class Workload:
    characters: int
    phones: int
    tokens: int


WORKLOADS: Mapping[str, Workload] = {"SHORT": Workload(10, 22, 45), "LONG": Workload(60, 130, 300)}


@dataclass(frozen=True)
class Measured:
    """One workload spoken once. Times in ms since the text was handed over."""

    first_sound_ms: float
    total_ms: float
    audio_s: float
    gaps_ms: float  # silence that a listener hears because a part came too late
    stages: Mapping[str, float]  # bert, prefill, tokens, sound


class Workbench:
    """One set of weights, on backends or on the networks themselves."""

    def __init__(self, networks: Networks, voice: VoiceAssets) -> None:
        self._networks = networks
        self._voice = voice
        networks.expect(voice, "bert", "s1", "s2")
        networks.bert(voice), networks.sound(voice), networks.decoder(voice).open()

    def speak(self, workload: Workload, *, is_streaming: bool, user: int = 0) -> Measured:
        """Speak as user number `user`, who has a voice of their own."""
        began, clock = time.perf_counter(), Clock()
        arrived: list[tuple[float, float]] = []
        with self._networks.turns.listener(threading.Event()) as listener:
            turn = Turn(self._networks.turns, listener, clock)
            reading = self._read(workload, turn)
            speaker = self._speaker(user, is_streaming, turn, workload.tokens)
            for samples, _ in speaker.speak(reading, RequestNoise(user)):
                arrived.append((1000 * (time.perf_counter() - began), len(samples) / SAMPLE_RATE))
        audio_s = sum(seconds for _, seconds in arrived)
        return Measured(arrived[0][0], arrived[-1][0], audio_s, gaps(arrived), clock.milliseconds())

    def _read(self, workload: Workload, turn: Turn) -> Reading:
        bert = self._networks.bert(self._voice)
        work = Work(READ, workload.characters)
        with turn.turns.turn(turn.listener, work), turn.clock.time("bert"), torch.inference_mode():
            read = bert.character_features(CHARACTER * workload.characters)
        spread = torch.arange(workload.phones) * workload.characters // workload.phones
        phones = torch.arange(workload.phones) % 300 + 10
        return Reading(phones, read[spread].T)

    def speak_together(self, workload: Workload, users: int) -> list[Measured]:
        """As many at once, each with their own voice, streaming."""
        done: list[Measured | None] = [None] * users

        def work(user: int) -> None:
            done[user] = self.speak(workload, is_streaming=True, user=user)

        threads = [threading.Thread(target=work, args=(user,)) for user in range(users)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [one for one in done if one is not None]

    def _speaker(self, user: int, is_streaming: bool, turn: Turn, tokens: int) -> Speaker:
        sound = self._networks.sound(self._voice)
        generator = torch.Generator().manual_seed(user)
        settings = VoiceSettings.read({"transcript": "–", "is_streaming": is_streaming, "interval_s": 0.0})
        prompt = Reading(torch.arange(PROMPT_PHONES) + 10, torch.zeros(BERT_WIDTH, PROMPT_PHONES))
        voice = PreparedVoice(
            settings=settings,
            inventory="gpt_sovits_v2",
            timbre=0.3 * torch.randn(1, sound.config.gin_channels, 1, generator=generator),
            prompt=prompt,
            tokens=torch.randint(0, 1024, (PROMPT_TOKENS,), generator=generator),
        )
        loop = self._networks.decoder(self._voice)
        return Speaker(loop, sound, voice, 1.0, turn, most=tokens)


def gaps(arrived: list[tuple[float, float]]) -> float:
    """Parts as (arrival in ms, seconds of sound) -> ms of silence for somebody who plays the first one at once."""
    silent = 0.0
    ready = arrived[0][0]
    for at, seconds in arrived:
        silent += max(0.0, at - ready)
        ready = max(ready, at) + 1000 * seconds
    return silent
