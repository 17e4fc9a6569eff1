"""kill -9 of the box or of its player at random moments: none lost, none doubled beyond the one marked repetition."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from announcer_stage import RATE, SoundCard

from appliance.announcer.zone import LOST_TAIL_S

KILLS = 4
ROUNDS = int(os.environ.get("KILL_ROUNDS", "1"))  # of four kills each; 50 in the long form
FIRST = int(os.environ.get("KILL_SEED", "7"))
MESSAGES = [f"{n} 0.4" for n in range(1, 7)]
WHOLE = round(0.4 * RATE)
TAIL = round(LOST_TAIL_S * RATE)  # what a player may leave out that is killed at the very end


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


def player_of(process: subprocess.Popen[str]) -> int | None:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(children[0]) if children else None


def kill_something(process: subprocess.Popen[str], chance: random.Random, card: SoundCard) -> subprocess.Popen[str]:
    """The box, or only its player; returns the box that lives then."""
    time.sleep(chance.uniform(0.2, 1.3))
    player = player_of(process)
    if chance.random() < 0.4 and player is not None and process.poll() is None:
        os.kill(player, signal.SIGKILL)
        return process
    process.kill()
    process.wait()
    until_quiet(card)
    return start(card.config.parent)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + ROUNDS))
def test_a_killed_box_says_every_message_and_repeats_only_what_it_marks(tmp_path, sound_card, monkeypatch, seed):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    sound_card.keep_everything()
    chance = random.Random(seed)
    process = start(tmp_path)
    for _ in range(KILLS):
        process = kill_something(process, chance, sound_card)
    assert process.communicate(timeout=60)[0] == "over\n"
    heard = runs(until_quiet(sound_card))
    with sqlite3.connect(tmp_path / "voiced.db") as db:
        rows = db.execute(
            "SELECT text, deliveries.state, deliveries.reason, repeated FROM announcements"
            " JOIN deliveries ON announcement = id ORDER BY place"
        ).fetchall()
    begun = Counter(level for level, length in heard if length > RATE // 50)
    whole = Counter(level for level, length in heard if length >= WHOLE - TAIL)
    assert [row[0] for row in rows] == MESSAGES
    for text, state, reason, repeated in rows:
        level = int(text.split()[0])
        assert begun[level] <= 1 + repeated <= 2, (text, state, heard)
        if state == "done":
            assert whole[level] >= 1, (text, heard)
        else:
            assert (state, repeated) == ("failed", 1)
            assert reason in ("interrupted", "player_lost")
    firsts = list(dict.fromkeys(level for level, _ in heard))
    assert firsts == sorted(firsts)
