"""kill -9 of the announcing process at random moments: none lost, none doubled beyond the one marked repetition."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
from announcer_stage import RATE, SoundCard

KILLS = 4
MESSAGES = [f"{n} 0.4" for n in range(1, 7)]
WHOLE = round(0.4 * RATE)


def start(state_dir: Path) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("box_process.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(state_dir), *MESSAGES], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def runs(samples: np.ndarray) -> list[tuple[int, int]]:
    """(level, samples) of every message that was heard, however short."""
    steps = np.rint(samples * 64).astype(int)
    edges = np.flatnonzero(np.diff(steps, prepend=-1, append=-1))
    return [(int(steps[a]), b - a) for a, b in pairwise(edges) if steps[a] > 0 and samples[a] == steps[a] / 64]


def until_quiet(card: SoundCard) -> np.ndarray:
    """What the orphaned player still wrote before it went, too."""
    size = -1
    while (now := len(card.played())) != size:
        size = now
        time.sleep(0.3)
    return card.played()


def test_a_killed_box_says_every_message_and_repeats_only_what_it_marks(tmp_path, sound_card, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    chance = random.Random(7)
    heard: list[tuple[int, int]] = []
    for _ in range(KILLS):
        process = start(tmp_path)
        time.sleep(chance.uniform(0.2, 1.3))
        process.kill()
        process.wait()
        heard += runs(until_quiet(sound_card))
        sound_card.path.unlink(missing_ok=True)
    process = start(tmp_path)
    assert process.communicate(timeout=30)[0] == "over\n"
    heard += runs(until_quiet(sound_card))
    with sqlite3.connect(tmp_path / "voiced.db") as db:
        rows = db.execute("SELECT text, state, reason, repeated FROM announcements ORDER BY rowid").fetchall()
    begun = Counter(level for level, length in heard if length > RATE // 50)
    whole = Counter(level for level, length in heard if length >= WHOLE)
    assert [row[0] for row in rows] == MESSAGES
    for text, state, reason, repeated in rows:
        level = int(text.split()[0])
        assert begun[level] <= 1 + repeated <= 2, (text, state, heard)
        if state == "done":
            assert whole[level] >= 1, (text, heard)
        else:
            assert (state, reason, repeated) == ("failed", "interrupted", 1)
    firsts = list(dict.fromkeys(level for level, _ in heard))
    assert firsts == sorted(firsts)
