"""What the command line does without a daemon."""

from __future__ import annotations

import json
import socket
import wave
from pathlib import Path

import numpy as np
import pytest

COMMANDS = (
    *("run", "demo", "say", "clone", "voices", "models", "recordings", "jobs"),
    *("find", "doctor", "plugins", "check-config", "bench", "announce"),
)
DROP_INS = Path(__file__).parents[1] / "drop_ins"
READER = Path(__file__).parents[2] / "appliance/data/demo/two_cities.flac"


def write_wav(path: Path, samples: np.ndarray, rate: int = 48_000, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


@pytest.mark.parametrize(
    "words",
    [[], ["sing"], ["--sing"], ["jobs", "show"], ["clone", "x", "y", "--steps", "0"], ["run", "--port", "http"]],
)
def test_wrong_usage_exits_2(voiced, words):
    outcome = voiced(*words)
    assert outcome.code == 2
    assert "usage: voiced" in outcome.err


def test_help_names_every_command(voiced):
    words = voiced("--help").out
    for name in COMMANDS:
        assert f"\n    {name}" in words


def test_an_absent_daemon_is_an_error_with_remedy(voiced):
    with socket.socket() as sock:  # bound, never listening: nobody can answer there
        sock.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        outcome = voiced("voices", "list", "--url", url)
        assert outcome.code == 1
        assert outcome.out == ""
        assert "[daemon_unreachable]" in outcome.err
        assert url in outcome.err
        assert "voiced run" in outcome.err
        as_json = voiced("voices", "list", "--url", url, "--json")
        assert as_json.code == 1
        assert as_json.document["error"]["code"] == "daemon_unreachable"
        assert as_json.document["error"]["measured"]["url"] == url
        assert as_json.document["error"]["remedy"]


@pytest.mark.parametrize("url", ["http://[", "http://box:99999", "box:8790", "http://"])
def test_an_address_that_is_none_is_told(voiced, url):
    outcome = voiced("voices", "list", "--url", url)
    assert outcome.code == 1 and "[daemon_url_invalid]" in outcome.err


@pytest.mark.parametrize(
    "asked",
    [
        {"words": ["--lang", "zh"]},
        {"environment": {"VOICED_LANGUAGE": "zh"}},
        {"environment": {"LANG": "zh_CN.UTF-8"}},
        {"words": ["--profile", "kiosk"]},  # sets language = "zh"
    ],
)
def test_speaks_chinese_when_asked(voiced, asked):
    environment = {"VOICED_HTTP__HOST": "nowhere.invalid", **asked.get("environment", {})}
    words = asked.get("words", [])
    if "--profile" in words:
        outcome = voiced("check-config", *words)
        assert "设置有效" in outcome.err
        return
    outcome = voiced("jobs", "list", *words, **environment)
    assert "没有应答" in outcome.err


def test_lang_option_beats_the_settings(voiced):
    outcome = voiced("check-config", "--lang", "en", VOICED_LANGUAGE="zh")
    assert "settings are valid" in outcome.err


class TestCheckConfig:
    def test_shows_what_is_in_force(self, voiced):
        document = voiced("check-config", "--profile", "kiosk", "--json", VOICED_LOUDSPEAKER__VOLUME="0.25").document
        assert document["profile"] == "kiosk"
        assert document["loudspeaker"]["volume"] == 0.25  # environment over profile
        assert document["speech"]["max_characters"] == 500  # profile over default

    def test_hides_secrets(self, voiced):
        for form in ([], ["--json"]):
            outcome = voiced("check-config", *form, VOICED_ADMIN_TOKEN="hunter2hunter2hunter2")
            assert outcome.code == 0
            assert "hunter2" not in outcome.out + outcome.err

    def test_names_what_is_wrong(self, voiced):
        outcome = voiced("check-config", "--json", VOICED_HTTP__PORT="99999")
        assert outcome.code == 1
        assert outcome.document["error"]["code"] == "settings_invalid"
        assert "port" in outcome.document["error"]["message"]
        assert "setting_unknown" in voiced("check-config", VOICED_HTPP__PORT="1").err
        unknown = voiced("check-config", "--profile", "toaster", "--json").document["error"]
        assert unknown["code"] == "profile_not_found"
        assert "kiosk" in unknown["remedy"]


class TestRecordingsCheck:
    def test_accepts_a_good_reader(self, voiced):
        outcome = voiced("recordings", "check", str(READER), "--json")
        assert outcome.code == 0, outcome.document
        assert outcome.document["accepted"] is True
        assert outcome.document["reasons"] == []
        assert outcome.document["measures"]["duration_s"] == pytest.approx(44.37, abs=0.05)

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("silence.wav", np.zeros(48_000 * 5)),
            ("noise.wav", 0.1 * np.random.default_rng(1).standard_normal(48_000 * 5).clip(-3, 3)),
            ("text.wav", b"Dear shop, this is not a recording."),
            ("empty.wav", b""),
        ],
    )
    def test_refuses_with_reason_and_remedy(self, voiced, tmp_path, name, content):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            write_wav(path, content)
        outcome = voiced("recordings", "check", str(path), "--json")
        assert outcome.code == 1
        assert outcome.document["accepted"] is False
        for reason in outcome.document["reasons"]:
            assert set(reason) == {"code", "message", "measured", "remedy"}
            assert reason["message"] != f"{reason['code']}.message"
            assert reason["remedy"] != f"{reason['code']}.remedy"
        assert outcome.document["reasons"]

    def test_tells_a_person_to_read_again(self, voiced, tmp_path):
        path = write_wav(tmp_path / "still.wav", np.zeros(48_000 * 5))
        outcome = voiced("recordings", "check", str(path), "--lang", "zh")
        assert outcome.code == 1
        assert "请重新录一遍" in outcome.err
        assert "→" in outcome.err

    def test_an_absent_file_is_an_error(self, voiced, tmp_path):
        outcome = voiced("recordings", "check", str(tmp_path / "nothing.wav"), "--json")
        assert outcome.code == 1
        assert outcome.document["error"]["code"] == "file_unreadable"


def test_plugins_alone_names_the_quarantined_one(voiced, tmp_path):
    drop_in = tmp_path / "state" / "plugins"
    drop_in.mkdir(parents=True)
    (drop_in / "broken.py").write_text("raise RuntimeError('no such board')\n")
    outcome = voiced("plugins", "--alone", "--json")
    assert outcome.code == 1
    rows = {row["id"]: row for row in outcome.document["items"]}
    assert rows["broken"]["state"] == "quarantined"
    assert "no such board" in rows["broken"]["reason"]
    assert rows["broken"]["remedy"]
    assert rows["embedded"]["state"] == "active"


def test_a_plugin_brings_a_command(voiced, tmp_path):
    drop_in = tmp_path / "state" / "plugins"
    drop_in.mkdir(parents=True)
    (drop_in / "weather.py").write_text(
        "from appliance.hookspecs import hookimpl\n"
        "def configure(parser): parser.add_argument('town')\n"
        "def run(arguments): print('rain in', arguments.town); return 0\n"
        "@hookimpl\n"
        "def register_commands(register): register('weather', configure, run)\n"
    )
    outcome = voiced("weather", "Ulm")
    assert (outcome.code, outcome.out) == (0, "rain in Ulm\n")


def test_bench_measures_an_engine(voiced):
    outcome = voiced("bench", "--engine", "sine", "--runs", "2", "--json", VOICED_PLUGINS__DROP_IN_DIR=str(DROP_INS))
    assert outcome.code == 0, outcome.err
    document = outcome.document
    assert [row["name"] for row in document["workloads"]] == ["SHORT", "LONG", "EN"]
    for row in document["workloads"]:
        assert 0 < row["first_sound_ms"] <= row["total_ms"]
        assert row["rtf"] == pytest.approx(row["total_ms"] / 1000 / row["audio_s"], rel=0.5)
        assert row["stages"]["tone"] >= 1.0
    assert document["machine"]["cores"] >= 1
    assert document["peers"] == []


def test_bench_refuses_an_unknown_engine(voiced):
    outcome = voiced("bench", "--engine", "harmonium", "--json")
    assert outcome.code == 1
    assert outcome.document["error"]["code"] == "engine_missing"


def test_doctor_looks_at_everything(voiced):
    outcome = voiced("doctor", "--json", VOICED_HTTP__PORT="1")
    document = outcome.document
    rows = {row["name"]: row for row in document["checks"]}
    assert {"python", "clock", "settings", "disk", "plugins", "loudspeaker", "daemon"} <= set(rows)
    assert rows["daemon"]["code"] == "daemon_down"
    assert rows["daemon"]["remedy"]
    assert document["ok"] is (outcome.code == 0)
    assert all(row["message"] for row in document["checks"])


def test_doctor_finds_wrong_settings(voiced):
    outcome = voiced("doctor", "--json", VOICED_HTTP__PORT="many")
    assert outcome.code == 1
    assert [row["name"] for row in outcome.document["checks"] if row["state"] == "fault"] == ["settings"]


def test_find_sees_a_box_on_the_network(voiced):
    from zeroconf import ServiceInfo, Zeroconf

    uuid = "0b0e1f3a-test"
    info = ServiceInfo(
        "_voiced._tcp.local.",
        "back office._voiced._tcp.local.",
        port=8790,
        properties={"uuid": uuid, "version": "9.9"},
        server="back-office.local.",
        parsed_addresses=["127.0.0.1"],
    )
    zeroconf = Zeroconf(interfaces=["127.0.0.1"])
    try:
        zeroconf.register_service(info)
        outcome = voiced("find", "--seconds", "2", "--json")
    finally:
        zeroconf.unregister_all_services()
        zeroconf.close()
    assert outcome.code == 0
    row = next(row for row in outcome.document["items"] if row["uuid"] == uuid)
    assert row["url"] == "http://127.0.0.1:8790"
    assert row["version"] == "9.9"


def test_the_token_of_this_box_is_not_sent_elsewhere(tmp_path):
    from argparse import Namespace

    from appliance.cli.terminal import Terminal

    state = tmp_path / "state"
    state.mkdir()
    (state / "admin.token").write_text("secret\n")
    (state / "daemon.json").write_text(json.dumps({"url": "http://192.168.7.7:8790", "pid": 1}))

    def token_for(url: str | None) -> str:
        given = Namespace(url=url, token=None, state_dir=str(state), json=True, lang="en")
        return Terminal(given).client.token

    assert token_for(None) == "secret"
    assert token_for("http://192.168.7.7:8790") == "secret"
    assert token_for("http://127.0.0.1:8790") == "secret"
    assert token_for("http://192.168.7.8:8790") == ""
