"""Plugins that fail in every way there is: each is quarantined with a reason, the others work."""

from __future__ import annotations

import time

import pytest

from appliance.errors import Conflict
from appliance.messages import LANGUAGES
from appliance.plugin_manager import load_plugins
from appliance.settings import PluginSettings

GOOD = """
from appliance.hookspecs import hookimpl
@hookimpl
def register_frontends(register):
    register("xx", lambda: None)
"""
BAD = {
    "plugin_import_failed": "import no_such_library_anywhere",
    "plugin_raised": "raise RuntimeError('no licence')",
    "plugin_hangs": "import time; time.sleep(60)",
    "plugin_api_version": "VOICED_API = 99",
    "plugin_unknown_hook": "from appliance.hookspecs import hookimpl\n@hookimpl\ndef register_frontend(register): pass",
}


def load(folder, **settings):
    plugins = load_plugins(PluginSettings(load_timeout_s=1.0, **settings), folder)
    return plugins, {info.name: info for info in plugins.report()}


@pytest.mark.parametrize("code", BAD)
def test_a_bad_plugin_is_quarantined_with_its_reason_in_both_languages_and_the_good_one_works(tmp_path, code):
    (tmp_path / "bad.py").write_text(BAD[code])
    (tmp_path / "good.py").write_text(GOOD)
    plugins, infos = load(tmp_path)
    assert (infos["bad"].state, infos["bad"].reason) == ("quarantined", code)
    assert infos["good"].provides == ("frontends:xx",)
    assert "xx" in plugins.frontends
    sentences = [infos["bad"].as_json(language) for language in LANGUAGES]
    assert all(row["reason"] and row["remedy"] and "{" not in row["reason"] + row["remedy"] for row in sentences)
    assert sentences[0]["reason"] != sentences[1]["reason"]


def test_a_plugin_that_exits_does_not_end_the_box(tmp_path):
    (tmp_path / "bad.py").write_text("import sys; sys.exit(3)")
    _, infos = load(tmp_path)
    assert infos["bad"].reason == "plugin_raised"
    assert "SystemExit" in infos["bad"].detail


def test_a_hanging_plugin_costs_its_time_limit_and_no_more(tmp_path):
    (tmp_path / "bad.py").write_text(BAD["plugin_hangs"])
    started = time.monotonic()
    load(tmp_path)
    assert time.monotonic() - started < 8


def test_a_blocked_plugin_is_not_imported(tmp_path):
    (tmp_path / "bad.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    _, infos = load(tmp_path, blocked=("bad",))
    assert infos["bad"].state == "blocked"
    assert not (tmp_path / "ran").exists()


def test_a_file_that_everybody_may_write_is_not_run(tmp_path):
    (tmp_path / "bad.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (tmp_path / "bad.py").chmod(0o666)
    _, infos = load(tmp_path)
    assert infos["bad"].reason == "plugin_insecure"
    assert not (tmp_path / "ran").exists()


def test_two_plugins_with_one_name_stop_the_boot_and_both_are_named(tmp_path):
    (tmp_path / "first.py").write_text(GOOD)
    (tmp_path / "second.py").write_text(GOOD)
    with pytest.raises(Conflict) as caught:
        load(tmp_path)
    assert caught.value.measured == {"kind": "frontends", "name": "xx", "first": "first", "second": "second"}


def test_a_plugin_may_be_a_folder_with_files_of_its_own(tmp_path):
    (tmp_path / "choir").mkdir()
    (tmp_path / "choir/names.py").write_text("LANGUAGE = 'yy'")
    (tmp_path / "choir/__init__.py").write_text("from .names import LANGUAGE\n" + GOOD.replace('"xx"', "LANGUAGE"))
    plugins, _ = load(tmp_path)
    assert "yy" in plugins.frontends


def test_what_ships_with_the_box_enters_by_the_same_door():
    plugins, infos = load(None)
    assert {"embedded", "backend_onnxruntime", "text_zh", "text_en", "text_ja", "asr_whisper"} <= set(infos)
    assert all(info.state == "active" for info in infos.values()), infos
    assert {"zh", "en", "ja"} <= set(plugins.frontends)
    assert "onnxruntime" in plugins.backends
    assert "embedded" in plugins.engines
    assert "whisper" in plugins.transcribers
