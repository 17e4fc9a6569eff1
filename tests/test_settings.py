"""Layers of settings, each over the one before, and mistakes that are named."""

from __future__ import annotations

import os

import pytest

from appliance.environment import player_environment, read_service_manager
from appliance.errors import InvalidInput, NotFound
from appliance.settings import load_settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith("VOICED_"):
            monkeypatch.delenv(name)


def test_command_line_over_environment_over_site_over_profile_over_defaults(tmp_path, monkeypatch):
    site = tmp_path / "voiced.toml"
    site.write_text('[http]\nhost = "192.0.2.7"\nport = 1111\nkeepalive_s = 7\n[speech]\nmax_waiting = 3\n')
    monkeypatch.setenv("VOICED_HTTP__PORT", "2222")
    monkeypatch.setenv("VOICED_SPEECH__MAX_WAITING", "4")
    settings = load_settings("kiosk", {"speech": {"max_waiting": 5}}, site)
    assert (settings.http.host, settings.http.port, settings.http.keepalive_s) == ("192.0.2.7", 2222, 7)
    assert settings.speech.max_waiting == 5
    assert settings.speech.peak_dbfs == -1.0
    assert settings.profile == "kiosk"


def test_the_environment_can_choose_the_profile(monkeypatch, tmp_path):
    monkeypatch.setenv("VOICED_PROFILE", "kiosk")
    assert load_settings(site_file=tmp_path / "none").profile == "kiosk"


@pytest.mark.parametrize(
    ("content", "code", "named"),
    [
        ("[http]\nprot = 1\n", "settings_invalid", "http.prot"),
        ("[http]\nport = 70000\n", "settings_invalid", "http.port"),
        ("unheard_of = 1\n", "settings_invalid", "unheard_of"),
        ("[http\n", "settings_unreadable", "voiced.toml"),
    ],
)
def test_a_mistake_in_the_site_file_is_named(tmp_path, content, code, named):
    site = tmp_path / "voiced.toml"
    site.write_text(content)
    with pytest.raises(InvalidInput) as caught:
        load_settings(site_file=site)
    assert caught.value.code == code
    assert named in str(caught.value)


def test_a_misspelt_variable_is_an_error_and_not_a_silence(monkeypatch):
    monkeypatch.setenv("VOICED_HTPP__PORT", "1")
    with pytest.raises(InvalidInput) as caught:
        load_settings()
    assert caught.value.measured == {"name": "VOICED_HTPP__PORT"}


def test_an_unknown_profile_names_the_known_ones():
    with pytest.raises(NotFound) as caught:
        load_settings("toaster")
    assert "generic-cpu" in str(caught.value.remedy())


def test_a_token_is_never_shown(monkeypatch):
    monkeypatch.setenv("VOICED_ADMIN_TOKEN", "very-secret")
    settings = load_settings()
    assert settings.admin_token.get_secret_value() == "very-secret"
    assert "very-secret" not in repr(settings) + settings.model_dump_json()


def test_no_child_process_can_answer_for_us(monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "@here")
    monkeypatch.setenv("WATCHDOG_USEC", "20000000")
    manager = read_service_manager()
    assert (manager.notify_socket, manager.watchdog_s) == ("@here", 20.0)
    assert "NOTIFY_SOCKET" not in os.environ


@pytest.mark.parametrize(("days", "is_fine"), [(0, True), (183, False), (184, True), (1, False)])
def test_who_delivers_without_a_label_keeps_the_log_of_it_for_six_months(monkeypatch, tmp_path, days, is_fine):
    unlabelled = {"marks": {"profile": "off-by-agreement", "agreement": "contract 7"}}
    settings = {**unlabelled, "audit": {"retention_days": days}}
    if is_fine:
        assert load_settings(None, settings, tmp_path / "none.toml").audit.retention_days == days
    else:
        with pytest.raises(InvalidInput, match="settings_invalid"):
            load_settings(None, settings, tmp_path / "none.toml")
    assert load_settings(None, {"audit": {"retention_days": days}}, tmp_path / "none.toml").marks.profile == "eu"


def test_a_player_hears_what_sound_systems_want_and_no_setting(monkeypatch):
    monkeypatch.setenv("VOICED_ADMIN_TOKEN", "a secret")
    monkeypatch.setenv("PULSE_SERVER", "unix:/run/pulse")
    told = player_environment()
    assert told["PULSE_SERVER"] == "unix:/run/pulse" and "a secret" not in told.values()
