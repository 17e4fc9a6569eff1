"""What a voice swallowed or said twice is told from what a recogniser merely misheard."""

from __future__ import annotations

import numpy as np
import pytest

from appliance.audio.speaking_rate import count_syllables, speaking_rate
from appliance.audio.word_faults import find_faults
from appliance.contracts import Audio


@pytest.mark.parametrize(
    ("said", "heard", "dropped", "repeated"),
    [
        ("Please keep your ticket until you leave.", "please keep your ticket until you leave", 0, 0),
        ("Please keep your ticket until you leave.", "please keep your chicken until you leave", 0, 0),
        ("Please keep your ticket until you leave.", "please keep you leave", 3, 0),
        ("Please keep your ticket until you leave.", "please keep your ticket your ticket until you leave", 0, 2),
        ("请各位顾客注意，停车场即将关闭。", "请各位顾客主意停车场即将关闭", 0, 0),
        ("请各位顾客注意，停车场即将关闭。", "请各位顾客即将关闭", 5, 0),
        ("请各位顾客注意，停车场即将关闭。", "请各位各位顾客注意停车场即将关闭", 0, 2),
        ("请打开手机上的 Bluetooth。", "", 8, 0),
        ("Hello.", "", 0, 0),
    ],
)
def test_gaps_and_echoes_are_counted(said: str, heard: str, dropped: int, repeated: int) -> None:
    faults = find_faults(said, heard)
    assert (faults.dropped, faults.repeated) == (dropped, repeated)


def test_syllables_and_rate() -> None:
    assert [count_syllables(text) for text in ("你好，世界", "the table is large", "请 open 门", "")] == [4, 5, 4, 0]
    assert speaking_rate(Audio(np.zeros(16_000, np.float32), 16_000), "hello") is None
