"""The command line against a real daemon."""

from __future__ import annotations

import base64
import re
import socket
import wave
from pathlib import Path

import pytest
import soundfile

DROP_INS = Path(__file__).parents[1] / "drop_ins"
READER = Path(__file__).parents[2] / "appliance/data/demo/two_cities.flac"


def test_voices_are_listed_and_shown(box):
    rows = box("voices", "list", "--json").document["items"]
    assert {"sine-220", "sine-440"} <= {row["id"] for row in rows}
    assert "sine-440" in box("voices", "list").out
    shown = box("voices", "show", "sine-440", "--json").document
    assert shown["id"] == "sine-440"
    assert [row["number"] for row in shown["versions"]] == [1]


def test_say_saves_a_file_in_the_format_of_its_suffix(box, tmp_path):
    target = tmp_path / "hello.wav"
    outcome = box("say", "hello there", "--voice", "sine-440", "--file", str(target), "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.document["voice_version"] == "sine-440@1"
    with wave.open(str(target)) as sound:
        assert sound.getnframes() / sound.getframerate() > 0.1
    flac = tmp_path / "hello.flac"
    assert box("say", "hello there", "--voice", "sine-220", "--file", str(flac)).code == 0
    assert flac.read_bytes().startswith(b"fLaC")


def test_the_same_seed_says_the_same(box, tmp_path):
    sounds = []
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        target = tmp_path / f"{name}.wav"
        assert box("say", "hello there", "--voice", "sine-330", "--seed", seed, "--file", str(target)).code == 0
        sounds.append(target.read_bytes())
    assert sounds[0] == sounds[1] != sounds[2]


@pytest.mark.parametrize(("language", "words"), [("en", "voice"), ("zh", "音色")])
def test_a_refusal_keeps_the_words_of_the_box(box, tmp_path, language, words):
    target = tmp_path / "no.wav"
    outcome = box("say", "hello", "--voice", "nobody", "--file", str(target), "--lang", language)
    assert outcome.code == 1
    assert "[voice_not_found]" in outcome.err
    assert words in outcome.err
    assert not target.exists()
    problem = box("say", "hello", "--voice", "nobody", "--file", str(target), "--json").document["error"]
    assert problem["code"] == "voice_not_found"
    assert problem["measured"]["voice"] == "nobody"


def test_an_unwritable_file_is_an_error(box, tmp_path):
    outcome = box("say", "hello", "--file", str(tmp_path / "absent" / "x.wav"), "--json")
    assert outcome.code == 1
    assert outcome.document["error"]["code"] == "file_not_writable"


def test_a_wrong_token_is_refused(box, tones, voiced):
    outcome = box("voices", "list", "--token", "wrong", "--json")
    assert outcome.code == 1
    assert outcome.document["error"]["code"] == "token_wrong"
    assert voiced("voices", "list", "--url", tones.url).code == 1  # no state directory, no token


def test_recordings_are_added_and_listed(box):
    added = box("recordings", "add", str(READER), "--transcript", "It was the best of times.", "--json")
    assert added.code == 0, added.err
    assert added.document["transcript_source"] == "given"
    rows = box("recordings", "list", "--json").document["items"]
    assert added.document["id"] in {row["id"] for row in rows}


def test_a_refused_recording_says_why(box, tmp_path):
    path = tmp_path / "note.wav"
    path.write_text("not a sound")
    outcome = box("recordings", "add", str(path), "--lang", "zh")
    assert outcome.code == 1
    assert "[recording_refused]" in outcome.err
    assert "[" not in outcome.err.split("✗")[1] and "→" in outcome.err.split("✗")[1]  # each reason in words
    reasons = box("recordings", "add", str(path), "--json").document["error"]["reasons"]
    assert reasons and all({"code", "message", "measured", "remedy"} <= row.keys() for row in reasons)


@pytest.mark.parametrize("family", ["voices", "jobs", "recordings", "announce"])
def test_a_family_without_an_action_lists(box, family):
    outcome = box(family, "--json")
    assert outcome.code == 0, outcome.err
    assert set(outcome.document) == {"items", "next"}


def test_piped_tables_have_one_line_per_row(box):
    rows = box("recordings", "--json").document["items"]
    assert len(box("recordings", "list").out.splitlines()) == len(rows) + 1


def test_an_empty_text_is_called_empty(box):
    assert box("say", "", "--file", "never.wav", "--json").document["error"]["code"] == "text_empty"


def test_a_clone_without_consent_is_refused(box):
    before = box("recordings", "--json").document["items"]
    outcome = box("clone", "never-asked", str(READER), "--transcript", "It was the best of times.", "--json")
    assert outcome.code == 1
    assert outcome.document["error"]["code"] == "consent_missing"
    misnamed = box("clone", "Anna Li", str(READER), "--consent", "I agree.", "--json")
    assert misnamed.document["error"]["code"] == "voice_id_invalid"
    assert box("recordings", "--json").document["items"] == before  # refused before anything was sent


def test_a_job_is_followed_to_its_end(box):
    """The tone engine cannot clone: the job fails with its reason, and so does the command."""
    outcome = box(
        *("clone", "anna-two", str(READER), "--transcript", "It was the best of times."),
        *("--speaker", "Anna", "--consent", "I agree.", "--json"),
    )
    assert outcome.code == 1, outcome.err
    job = outcome.document["job"]
    assert job["state"] == "failed"
    assert job["error"]["code"] == "cloning_unavailable"
    assert job["error"]["remedy"]
    listed = box("jobs", "list", "--json").document["items"]
    assert job["id"] in {row["id"] for row in listed}
    assert box("jobs", "watch", job["id"]).code == 1
    assert box("jobs", "show", job["id"], "--json").document["state"] == "failed"


def test_consent_is_written_down(box):
    outcome = box("voices", "consent", "bruno", "--speaker", "Bruno", "--statement", "Yes.", "--json")
    assert outcome.code == 0
    assert outcome.document["voice"] == "bruno"
    assert outcome.document["purposes"] == ["announce", "clone", "speak"]


def test_announcements_of_a_box_without_loudspeaker(box):
    outcome = box("announce", "list", "--json")
    assert outcome.code == 0
    assert outcome.document["items"] == []
    stopped = box("announce", "stop", "--json")
    assert stopped.document["stopped"] == 0


def test_zones_schedules_and_music(box):
    (zone,) = box("zones", "--json").document["items"]
    assert (zone["id"], zone["state"]) == ("main", "disabled")
    wrong = box("zones", "volume", "garage", "0.5", "--json")
    assert (wrong.code, wrong.document["error"]["code"]) == (1, "zone_not_found")
    made = box("schedule", "add", "We close.", "--at", "17:45", "--on", "mon", "--zone", "main", "--json").document
    assert (made["rule"], made["name"]) == ({"times": ["17:45"], "weekdays": ["mon"]}, "We close.")
    assert [row["id"] for row in box("schedule", "--json").document["items"]] == [made["id"]]
    assert "17:45" in box("schedule", "list").out
    assert box("schedule", "runs", made["id"], "--json").document["items"] == []
    assert box("schedule", "remove", made["id"], "--json").code == 0
    assert box("music", "--json").document["items"] == []
    assert box("music", "play", "morning", "--json").document["error"]["code"] == "loudspeaker_disabled"


def test_plugins_come_from_the_daemon(box):
    rows = {row["id"]: row for row in box("plugins", "--json").document["items"]}
    assert rows["sine_engine"]["state"] == "active"
    assert "engines:sine" in rows["sine_engine"]["provides"]


def test_doctor_finds_the_daemon(box, tones):
    rows = {row["name"]: row for row in box("doctor", "--json").document["checks"]}
    assert rows["daemon"]["state"] == "ok"
    assert rows["daemon"]["measured"]["url"].rstrip("/") == tones.url
    assert rows["wyoming"]["state"] == "ok"  # closed, as this box asks for credentials and nobody bound the door
    assert "Wyoming" in rows["wyoming"]["message"]


def test_a_second_daemon_on_the_same_state_is_refused(tones, voiced):
    outcome = voiced("run", "--state-dir", str(tones.state_dir), "--port", "0")
    assert outcome.code == 1
    assert "[state_dir_locked]" in outcome.err


@pytest.mark.timeout(240)  # starts a daemon and two recognisers
def test_the_demo_reports_what_failed(tmp_path, voiced):
    """With an engine that speaks but cannot clone, every other step still happens, and the report says so."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        outcome = voiced(
            *("demo", "--once", "--out", str(tmp_path), "--port", str(taken.getsockname()[1]), "--json"),
            VOICED_ENGINE__DEFAULT="sine",
            VOICED_PLUGINS__DROP_IN_DIR=str(DROP_INS),
            VOICED_DISCOVERY__NAME="demo test",
            VOICED_LOUDSPEAKER__ENABLED="false",
        )
    assert outcome.code == 1
    record = outcome.document
    steps = {step["name"]: step for step in record["steps"]}
    assert [name for name, step in steps.items() if step["error"]] == ["clone"]
    assert steps["clone"]["error"]["code"] == "demo_clone_failed"
    assert any(found["is_this"] for found in record["boxes"])
    assert record["recording"]["transcript_source"] == "asr"
    assert "best of times" in record["recording"]["transcript"].lower()
    assert not (tmp_path / "state" / "daemon.json").exists()  # the daemon is gone
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert_stands_alone(page)
    assert 'lang="zh"' in page
    assert page.count("<audio") == 2  # the starter voice and the recording
    first = re.search(r"data:audio/wav;base64,([A-Za-z0-9+/=]+)", page)
    assert base64.b64decode(first.group(1)) == (tmp_path / "audio" / "starter.wav").read_bytes()


def assert_stands_alone(page: str) -> None:
    """Nothing is loaded from anywhere: no address in src, href, url() or import that is not data."""
    loads = re.findall(r"""(?:src|href)=["']([^"']+)|url\(([^)]+)\)|@import""", page)
    assert loads
    assert all(any(part.startswith("data:") for part in row) for row in loads)


def test_a_word_is_read_the_way_it_was_said(box):
    assert box("lexicon", "set", "Voiced", "voyst", "--language", "en").code == 0
    zh = box("lexicon", "set", "重庆", "chong2 qing4", "--language", "zh", "--lang", "zh")
    assert (zh.code, "重庆" in zh.err, "读作" in zh.err) == (0, True, True)
    rows = box("lexicon", "list", "--json").document["items"]
    assert [(row["language"], row["word"], row["reading"]) for row in rows] == [
        ("en", "Voiced", "voyst"),
        ("zh", "重庆", "chong2 qing4"),
    ]
    assert "voyst" in box("lexicon", "list", "--language", "en").out
    refused = box("lexicon", "set", "重庆", "chong2 qinq4", "--language", "zh")
    assert refused.code == 1 and "[reading_invalid]" in refused.err and "qinq4" in refused.err
    assert box("lexicon", "remove", "VOICED", "--language", "en").code == 0
    assert "[lexicon_entry_not_found]" in box("lexicon", "remove", "voiced", "--language", "en").err
    assert box("lexicon", "remove", "重庆", "--language", "zh").code == 0


def test_whoever_reads_something_else_is_asked_to_read_again_and_the_session_waits(box, tmp_path):
    """With the real recogniser: a novel is no line of the sheet."""
    samples, rate = soundfile.read(READER, dtype="float32")
    soundfile.write(tmp_path / "novel.wav", samples[: 7 * rate], rate)
    words = ("recordings", "session", "--speaker", "R", "--language", "en", "--files", str(tmp_path / "novel.wav"))
    told = box(*words)
    assert told.code == 1 and "best of times" in told.err and "Please read again, because" in told.err
    begun = box(*words, "--json")
    session = begun.document
    assert begun.code == 1 and session["recordings"] == [] and session["next"]["id"] == "en-1.01"
    again = box("recordings", "session", session["id"], "--files", str(tmp_path / "novel.wav"), "--lang", "zh")
    assert again.code == 1 and "请重新朗读，因为" in again.err
    node = box("voices", "lineage", session["id"], "--kind", "session", "--json").document
    assert node["made_into"] == [] and node["facts"]["speaker"] == "R"
    added = box("recordings", "add", str(tmp_path / "novel.wav"), "--transcript", "something else", "--json").document
    assert [warning["code"] for warning in added["report"]["warnings"]] == ["transcript_doubtful"]
    right = box(
        "recordings", "correct", added["id"], "It was the best of times.", "--language", "en", "--json"
    ).document
    assert (right["transcript"], right["transcript_source"]) == ("It was the best of times.", "given")
    missing = box("datasets", "show", "ds_0", "--lang", "zh")
    assert missing.code == 1 and "[dataset_not_found]" in missing.err


def test_versions_are_compared_and_their_changelog_is_shown(box, tmp_path):
    words = ("voices", "compare", "sine-220", "sine-440", "--text", "hello", "--out", str(tmp_path), "--json")
    answer = box(*words).document
    for side in ("first", "second"):
        with wave.open(answer[side]["file"]) as sound:
            assert sound.getnframes() > 0
    assert "came with the engine" in box("voices", "changelog", "sine-220").out
    refused = box("voices", "rollback", "sine-220", "--json")
    assert refused.code == 1 and refused.document["error"]["code"] == "nothing_to_roll_back"
    assert box("voices", "examination", "sine-220@1", "--json").document["error"]["code"] == "version_not_examined"
