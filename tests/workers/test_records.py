"""What goes over the wire to a worker comes out as it went in."""

from __future__ import annotations

import json
from pathlib import Path

from appliance.contracts import Pronunciation, SpeakTask, VoiceAssets
from appliance.workers.records import speak_task_as_json, speak_task_from_json


def test_a_task_keeps_its_lexicon() -> None:
    lexicon = (Pronunciation("重庆", "chong2 qing4", "zh"), Pronunciation("单", "/sh an4/", occurrence=2))
    voice = VoiceAssets("sha256:1", "embedded", {"pack": Path("/x.npy")}, {"lufs": -20.0})
    for task in (SpeakTask("重庆", voice, "zh", 1.5, 7, lexicon), SpeakTask("hello", voice)):
        assert speak_task_from_json(json.loads(json.dumps(speak_task_as_json(task)))) == task
