"""An imported speaker network decides once it is on the scale of the one that ships, and goes when it breaks.

The network is drawn, not trained: what is shown here is that numbers go the right way, not how well they tell people
apart.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soxr

from appliance.audio.files import read_audio, to_mono
from appliance.audio.print_calibration import FEWEST_VOICES, calibrate
from appliance.audio.voiceprint import MODEL, PrintModel, centres, shipped_model, voiceprint
from appliance.contracts import Audio, QualityReport
from appliance.database import open_database
from appliance.errors import Corrupt, InvalidInput
from appliance.print_models import PrintModels, PrintRooms
from appliance.security.audit import append_entry
from appliance.settings import GateSettings
from appliance.voices.blobs import BlobStore
from appliance.voices.gate import GateRooms, VoiceGate
from appliance.voices.models import ModelStore, NewModel
from appliance.voices.recordings import RecordingStore
from appliance.voices.records import NewRecording, NewVoice
from appliance.voices.registry import VoiceRegistry
from appliance.voices.voiceprints import VoiceprintStore, joined

torch = pytest.importorskip("torch")
CONFTEST = Path(__file__).parent / "engine" / "gpt_sovits" / "conftest.py"
SIZES = {"channels": 8, "base_width": 8, "expansion": 4, "blocks": [1, 1, 1, 1]}
RATE = 16_000
VOICES = {"low": (110.0, 0.5), "middle": (170.0, 0.7), "high": (240.0, 0.8)}


def drawn_verifier():
    from appliance.engine.gpt_sovits.eres2net import SpeakerNet, SpeakerNetConfig
    from appliance.engine.gpt_sovits.verification import Verifier

    spec = importlib.util.spec_from_file_location("drawn_networks", CONFTEST)
    sys.modules["drawn_networks"] = tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    network = SpeakerNet(SpeakerNetConfig.from_dict(SIZES))
    width = 2 * network.config.embedding
    head = torch.randn(192, width, generator=torch.Generator().manual_seed(1)) / width**0.5
    tensors = {**tiny.random_weights(network, 0), "seg_1.weight": head, "seg_1.bias": torch.zeros(192)}
    return Verifier.from_tensors(tensors, SIZES)


@pytest.fixture(scope="module")
def verifier():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield drawn_verifier()
    torch.set_num_threads(threads)


def buzz(hz: float, brightness: float, seconds: float = 9.1) -> np.ndarray:
    """Ten harmonics, swelling four times a second."""
    time_s = np.arange(int(RATE * seconds)) / RATE
    tones = sum(brightness**n * np.sin(2 * np.pi * hz * (n + 1) * time_s) for n in range(10))
    noise = np.random.default_rng(int(hz)).standard_normal(len(time_s))
    return (0.1 * tones * (0.6 + 0.4 * np.sin(8 * np.pi * time_s)) + 0.003 * noise).astype(np.float32)


def test_an_embedding_has_length_one_and_does_not_hear_the_level(verifier):
    sound = buzz(*VOICES["middle"], seconds=2.0)
    one, louder = verifier.embed(sound), verifier.embed(2 * sound)
    assert one.shape == (192,) and np.linalg.norm(one) == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(one, louder, atol=1e-3)
    with pytest.raises(InvalidInput):
        verifier.embed(sound[:100])


def test_weights_without_the_head_are_none_to_compare_voices_by(tmp_path):
    from safetensors.torch import save_file

    from appliance.engine.gpt_sovits.verification import Verifier

    for content in ({"conv1.weight": torch.zeros(3)}, {"seg_1.weight": torch.zeros(2, 2), "seg_1.bias": torch.ones(2)}):
        save_file(content, tmp_path / "sv.safetensors")
        with pytest.raises(Corrupt):
            Verifier.from_file(tmp_path / "sv.safetensors")


def cloud(centre: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    """(3, 4, width): a voice around `centre`."""
    prints = centre + spread * rng.standard_normal((3, 4, len(centre)))
    return (prints / np.linalg.norm(prints, axis=-1, keepdims=True)).astype(np.float32)


def clouds(width: int, spread: float, common: float, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    shared = common * rng.standard_normal(width)
    return [cloud(shared + rng.standard_normal(width), spread, rng) for _ in range(FEWEST_VOICES)]


def test_another_network_is_brought_onto_the_scale_of_the_known_one():
    known_prints = clouds(64, 0.5, 0.3, 1)
    known = PrintModel("known", np.stack([centres(one) for one in known_prints], axis=1))
    prints = clouds(192, 0.4, 3.0, 2)  # everybody resembles everybody
    made = calibrate("other", prints, known, known_prints)
    for scores in zip(_same_and_other(known, known_prints), _same_and_other(made, prints), strict=True):
        assert scores[0] == pytest.approx(scores[1], abs=0.02)
    assert made.slope > 1
    with pytest.raises(InvalidInput, match="print_model_blind"):
        calibrate("blind", clouds(192, 50.0, 0.0, 3), known, known_prints)
    with pytest.raises(InvalidInput, match="print_cohort_too_small"):
        calibrate("few", prints[:-1], known, known_prints[:-1])


def _same_and_other(model: PrintModel, prints: list[np.ndarray]) -> tuple[float, float]:
    same = [model.likeness(one[:, :2], one[:, 2:]) for one in prints]
    other = [model.likeness(one[:, :2], two[:, :2]) for n, one in enumerate(prints) for two in prints[:n]]
    return float(np.mean(same)), float(np.mean(other))


class Synthesizer:
    """Speaks as the synthetic voices of this file do."""

    async def render(self, request):
        return SimpleNamespace(label_s=0.0), Audio(buzz(*VOICES[request.voice]), RATE)


class Box:
    """Real stores and a real gate; sounds are heard by the encoder that ships and by the drawn network."""

    def __init__(self, db, folder: Path, verifier) -> None:
        self.verifier, self.is_broken = verifier, False
        self.blobs = BlobStore(folder / "blobs")
        self.registry, self.models = VoiceRegistry(db, self.blobs), ModelStore(db, self.blobs)
        self.recordings, self.prints = RecordingStore(db, self.blobs), VoiceprintStore(db, append_entry)
        gate_rooms = GateRooms(db, self.prints, self.recordings, self.listen, append_entry)
        self.gate = VoiceGate(gate_rooms, GateSettings())
        rooms = PrintRooms(db, self.models, self.blobs, self.registry, self.recordings, Synthesizer(), self.gate)
        self.keeper = PrintModels(rooms, "main")
        self.db, self.folder = db, folder

    async def listen(self, path: Path, weights: Path | None = None) -> np.ndarray:
        decoded = read_audio(path)
        audio = Audio(to_mono(decoded.samples), decoded.sample_rate)
        if weights is None:
            return voiceprint(audio)
        if self.is_broken:
            raise Corrupt("voice_files_corrupt", file="sv", reason="zeros")
        return voiceprint(audio, self.verifier.embed)

    async def record(self, voice: str, speaker: str):
        import io

        import soundfile

        file = io.BytesIO()
        soundfile.write(file, buzz(*VOICES[voice]), RATE, format="WAV")
        quality = QualityReport(True, (), (), {})
        return await self.gate.admit(
            "main", NewRecording(file.getvalue(), "a.wav", 12.0, RATE, quality, speaker=speaker)
        )

    async def import_network(self, tenant: str = "main"):
        path = self.folder / f"{tenant}.safetensors"
        path.write_bytes(b"weights of " + tenant.encode())
        new = NewModel("sv", "sv", "", {"weights": path}, "sv.ckpt", "0" * 64, 10)
        return (await self.models.add_all(tenant, [new]))[0]

    async def deeds(self) -> list[str]:
        query = "SELECT json_extract(entry, '$.details.model') FROM audit WHERE action = 'gate.model' ORDER BY idx"
        return await self.db.read(lambda db: [row[0] for row in db.execute(query)])


@pytest.fixture
async def box(tmp_path, verifier):
    async with open_database(tmp_path / "voiced.db") as db:
        opened = Box(db, tmp_path, verifier)
        for voice in VOICES:
            await opened.registry.create_voice("main", NewVoice(voice, origin="starter", languages=("en",)))
        yield opened


async def test_the_network_that_was_imported_decides_and_what_was_there_is_heard_again(box):
    await box.keeper.look()
    before = await box.record("low", "anna")
    protected = await box.gate.protect("main", "The mayor", await box.recordings.path(before))
    await box.import_network("bakery")
    await box.keeper.look()
    assert box.gate.models == (shipped_model(),)  # another tenant's weights decide for nobody
    model = await box.import_network()
    await box.keeper.look()
    ours = f"eres2netv2:{model.files['weights'][:12]}"
    assert [one.id for one in box.gate.models] == [ours, MODEL] and await box.deeds() == [ours]
    heard = await box.prints.of_recordings("main", [before.id])
    assert set(heard[before.id]) == {ours, MODEL}
    assert set((await box.prints.all_protected())[protected.id]) == {MODEL}  # its sound was never kept
    later = await box.gate.protect("main", "The judge", await box.recordings.path(before))
    assert set((await box.prints.all_protected())[later.id]) == {ours, MODEL}
    match = await box.gate._nearest(heard[before.id], await box.prints.of_speakers("main"), "speaker")
    assert (match.other, match.model) == ("anna", ours)
    await box.prints.unprotect("main", later.id)
    assert later.id not in await box.prints.all_protected()


async def test_a_network_that_breaks_goes_and_the_shipped_one_decides(box):
    model = await box.import_network()
    await box.keeper.look()
    first = box.gate.models[0]
    box.is_broken = True
    recording = await box.record("low", "anna")
    assert box.gate.state() == {"model": MODEL, "problem": "voice_files_corrupt"}
    assert set((await box.prints.of_recordings("main", [recording.id]))[recording.id]) == {MODEL}
    assert await box.deeds() == [first.id, MODEL]
    again = PrintModels(box.keeper._rooms, "main")  # after a restart: what was found is kept, nothing is heard anew
    box.blobs.path(model.files["weights"]).write_bytes(b"other bytes")
    await again.look()
    assert box.gate.models == (shipped_model(),)


def test_a_model_that_has_not_heard_all_of_a_speaker_says_nothing_about_them():
    ours, theirs = np.zeros((3, 1, 4), np.float32), np.zeros((3, 1, 5), np.float32)
    assert set(joined([{"a": ours, "b": theirs}, {"a": ours}])) == {"a"}
    assert joined([{"a": ours, "b": theirs}, {"a": ours, "b": theirs}])["b"].shape == (3, 2, 5)
    assert joined([{"a": ours}, {"b": theirs}]) == {} and joined([]) == {}


async def test_prints_of_different_networks_never_meet(box):
    ours, theirs = np.ones((3, 1, 4), np.float32), np.ones((3, 1, 5), np.float32)
    assert await box.gate._nearest({"a": ours}, {"anna": {"b": theirs}}, "speaker") is None


def test_a_resampled_voice_is_another_voice():
    low = buzz(*VOICES["low"], seconds=6.0)
    higher = np.asarray(soxr.resample(low, RATE * 1.25, RATE), np.float32)
    one = voiceprint(Audio(low, RATE))
    same = shipped_model().likeness(one, voiceprint(Audio(low[RATE:], RATE)))
    assert shipped_model().likeness(one, voiceprint(Audio(higher, RATE))) < same
