"""Which network decides whose voice it is: the one that ships, or the speaker network that the operator imported.

An imported network hears the same synthetic voices as the shipped one first, so that the thresholds of the gate mean
the same (`audio.print_calibration`). Then it decides, and the recordings that are here already are heard again in the
background; until all of a speaker's are, that speaker is compared by the shipped network. Sounds of protected voices
were never kept: those that were enrolled before go on being compared by the shipped one.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soxr

from appliance.audio.files import write_wav
from appliance.audio.print_calibration import FEWEST_VOICES, calibrate
from appliance.audio.voiceprint import PrintModel, shipped_model
from appliance.contracts import Audio, Samples
from appliance.database import Database, insert_row, utc_now
from appliance.errors import InvalidInput, VoicedError
from appliance.synthesis import SpeechRequest, Synthesis
from appliance.voices.blobs import BlobStore
from appliance.voices.gate import ImportedModel, VoiceGate
from appliance.voices.models import Model, ModelStore
from appliance.voices.recordings import RecordingStore
from appliance.voices.records import Voice
from appliance.voices.registry import VoiceRegistry
from appliance.voices.voiceprints import Print

log = logging.getLogger(__name__)

KIND = "sv"  # of the imported model
LOOK_S = 30.0
PITCHES = (0.8, 0.9, 1.0, 1.12, 1.25)  # each voice is five: resampled, so that throat and tempo change with the pitch
MOST_VOICES = 8
BATCH = 20  # recordings heard again between two looks at the imported models
TEXTS = {
    "en": "The train to the coast leaves from platform nine this morning. Please keep your bags with you, and mind the"
    " gap when you get off. The restaurant car is in the middle, and it is open until we arrive.",
    "zh": "开往海边的列车今天上午从九号站台发车。请看管好您的行李物品，"
    "下车时请注意列车与站台之间的空隙。餐车位于列车中部，营业至到站为止。",
    "ja": "海岸行きの列車は、今朝九番ホームから出発いたします。お手回り品にご注意ください。"
    "食堂車は中ほどにあり、到着まで営業しております。",
}


@dataclass(frozen=True)
class PrintRooms:
    db: Database
    models: ModelStore
    blobs: BlobStore
    registry: VoiceRegistry
    recordings: RecordingStore
    synthesis: Synthesis
    gate: VoiceGate


class PrintModels:
    """Use as an async context manager: it looks for an imported network now and then, and puts it to work."""

    def __init__(self, rooms: PrintRooms, tenant: str) -> None:
        """`tenant`: the box's own, whose operator decides for all; what another one imports changes nothing here."""
        self._rooms = rooms
        self._tenant = tenant
        self._tried: tuple[str, int] | None = None  # model and number of voices, of what was refused
        self._present = ""  # id of the model that was looked at last
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> PrintModels:
        self._task = asyncio.create_task(self._keep_looking(), name="print models")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def look(self) -> None:
        """Put the speaker network that was imported last to work, or the shipped one where there is none."""
        model = await self._rooms.models.newest(self._tenant, KIND)
        if model is None:
            self._present = ""
            await self._rooms.gate.take(None)
        elif model.id != self._present:
            await self._adopt(model)
        if self._rooms.gate.models[0] is not shipped_model():
            await self._hear_again(self._rooms.gate.models[0].id)

    async def _keep_looking(self) -> None:
        while True:
            try:
                await self.look()
            except VoicedError as error:
                log.warning("the speaker network waits: %s", error)
            except Exception:
                log.exception("speaker network")
            await asyncio.sleep(LOOK_S)

    async def _adopt(self, model: Model) -> None:
        gate = self._rooms.gate
        voices = await self._starters()
        if self._tried == (model.id, len(voices)):
            return
        try:
            await asyncio.to_thread(self._rooms.blobs.verify, model.files["weights"])
            weights = self._rooms.blobs.path(model.files["weights"])
            made = await self._known(_id_of(model)) or await self._calibrated(model, weights, voices)
        except VoicedError as error:  # broken, blind, or not enough voices here to tell
            log.warning("the imported speaker network does not decide: %s", error)
            self._tried = (model.id, len(voices))
            await gate.take(None, error.code)
            return
        self._present = model.id
        log.info("voices are compared by %s", made.id)
        await gate.take(ImportedModel(made, weights))

    async def _hear_again(self, model: str) -> None:
        """The recordings that this model has not heard, a few at a time; speech goes first."""
        for tenant, recording in await self._rooms.gate.prints.unheard(model, BATCH):
            if self._rooms.gate.models[0].id != model:
                return
            await self._rooms.gate.learn(tenant, (await self._rooms.recordings.get(tenant, recording),))

    # ------------------------------------------------------------ the synthetic voices

    async def _starters(self) -> list[Voice]:
        page = await self._rooms.registry.list_voices(self._tenant, None, 200)
        return [voice for voice in page.items if voice.origin == "starter"][:MOST_VOICES]

    async def _calibrated(self, model: Model, weights: Path, voices: list[Voice]) -> PrintModel:
        """Raises InvalidInput (print_cohort_too_small, print_model_blind), Corrupt, Unavailable."""
        required = -(-FEWEST_VOICES // len(PITCHES))
        if len(voices) < required:
            raise InvalidInput("print_cohort_too_small", voices=len(voices), required=required)
        listen = self._rooms.gate.listen
        theirs: list[Print] = []
        ours: list[Print] = []
        async for path in self._cohort(voices):
            theirs.append(await listen(path, weights))
            ours.append(await listen(path))
        made = await asyncio.to_thread(calibrate, _id_of(model), theirs, shipped_model(), ours)
        await self._save(made, model.id)
        return made

    async def _cohort(self, voices: list[Voice]) -> AsyncIterator[Path]:
        """One file after the other: each voice at each pitch."""
        with TemporaryDirectory(prefix="voiced-cohort-") as folder:
            path = Path(folder) / "voice.wav"
            for voice in voices:
                audio = await self._say(voice)
                for pitch in PITCHES:
                    await asyncio.to_thread(_write, path, audio, pitch)
                    yield path

    async def _say(self, voice: Voice) -> Audio:
        language = next((one for one in voice.languages if one in TEXTS), "en")
        request = SpeechRequest(self._tenant, voice.id, TEXTS[language], language, client="voiceprints")
        speech, audio = await self._rooms.synthesis.render(request)
        return Audio(audio.samples[round(speech.label_s * audio.sample_rate) :], audio.sample_rate)

    # ------------------------------------------------------------ what was found before

    async def _known(self, model: str) -> PrintModel | None:
        query = "SELECT * FROM print_models WHERE id = ?"
        row = await self._rooms.db.read(lambda db: db.execute(query, (model,)).fetchone())
        if row is None:
            return None
        cohort = np.frombuffer(row["cohort"], "<f4").reshape(len(shipped_model().cohort), row["voices"], -1)
        return PrintModel(model, cohort, row["slope"], row["offset"])

    async def _save(self, made: PrintModel, weights: str) -> None:
        row = {"id": made.id, "weights": weights, "voices": made.cohort.shape[1], "slope": made.slope}
        row |= {"cohort": made.cohort.astype("<f4").tobytes(), "offset": made.offset, "created_at": utc_now()}

        def insert(db: sqlite3.Connection) -> None:
            insert_row(db, "print_models", row, or_ignore=True)

        await self._rooms.db.write(insert)


def _id_of(model: Model) -> str:
    return f"eres2netv2:{model.files['weights'][:12]}"


def _write(path: Path, audio: Audio, pitch: float) -> None:
    samples: Samples = np.asarray(
        soxr.resample(audio.samples, audio.sample_rate * pitch, audio.sample_rate), np.float32
    )
    write_wav(path, Audio(samples, audio.sample_rate))
