"""What holds the whole together: profiles, catalogues, error codes, imports, entry points, settings page, units."""

from __future__ import annotations

import ast
import re
import shutil
import string
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from pydantic import BaseModel

from appliance import errors
from appliance.messages import LANGUAGES, catalogue
from appliance.settings import Settings, load_settings

ROOT = Path(__file__).parents[1]
PROFILES = sorted(path.stem for path in (ROOT / "firmware-configs").glob("*.toml"))
SOURCES = sorted([*(ROOT / "appliance").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")])
ERROR_CLASSES = {
    name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.VoicedError)
}


class TestProfiles:
    def test_there_are_the_promised_ones(self):
        assert {"generic-cpu", "n100-openvino", "jetson-orin-tensorrt", "dgpu-cuda", "kiosk"} <= set(PROFILES)

    @pytest.mark.parametrize("name", PROFILES)
    def test_each_loads_and_changes_something(self, name, tmp_path):
        settings = load_settings(name, site_file=tmp_path / "absent.toml")
        assert settings.profile == name
        written = tomllib.loads((ROOT / "firmware-configs" / f"{name}.toml").read_text(encoding="utf-8"))
        assert written
        assert name in (ROOT / "firmware-configs" / "README.md").read_text(encoding="utf-8")

    @pytest.mark.parametrize("name", PROFILES)
    def test_each_leaves_the_site_alone(self, name):
        written = tomllib.loads((ROOT / "firmware-configs" / f"{name}.toml").read_text(encoding="utf-8"))
        assert not {"state_dir", "admin_token", "tenant"} & set(written)


def placeholders(template: str) -> set[tuple[str, str]]:
    return {(name, spec or "") for _, name, spec, _ in string.Formatter().parse(template) if name is not None}


# `read_checkpoint` gives every error of these the name of its file (tests/engine/gpt_sovits/test_checkpoint.py looks)
FILLED_BY_READ_CHECKPOINT = tuple(
    f"appliance/engine/gpt_sovits/{name}.py" for name in ("archives", "checkpoint", "pickles")
)


class TestCatalogue:
    def test_both_languages_have_the_same_sentences(self):
        english, chinese = (set(catalogue(language)) for language in LANGUAGES)
        assert english == chinese

    def test_no_two_rooms_claim_one_sentence(self):
        for language in LANGUAGES:
            owners: dict[str, str] = {}
            for path in sorted((ROOT / "appliance/locale" / language).glob("*.toml")):
                for key in flat(tomllib.loads(path.read_text(encoding="utf-8"))):
                    assert key not in owners, f"{key} stands in {owners[key]} and in {path.name}"
                    owners[key] = path.name

    def test_placeholders_are_the_same_in_both_languages(self):
        english, chinese = (catalogue(language) for language in LANGUAGES)
        different = {
            key: (english[key], chinese[key])
            for key in english
            if placeholders(english[key]) != placeholders(chinese[key])
        }
        assert not different

    def test_chinese_is_chinese(self):
        same = {key for key, words in catalogue("zh").items() if words == catalogue("en")[key]}
        assert not {key for key in same if re.search(r"[a-z]{3,} [a-z]{3,} [a-z]{3,}", catalogue("zh")[key])}

    def test_every_code_that_is_raised_has_a_message_and_a_remedy(self):
        missing = {
            f"{raised.place} {raised.code}"
            for raised in all_raised()
            for part in ("message", "remedy")
            if f"{raised.code}.{part}" not in catalogue("en")
        }
        assert not missing

    def test_every_placeholder_is_filled_where_the_error_is_raised(self):
        blank = {
            f"{raised.place} {raised.code}: {{{name}}}"
            for raised in all_raised()
            for part in ("message", "remedy")
            for name, _ in placeholders(catalogue("en").get(f"{raised.code}.{part}", ""))
            if raised.measured is not None and re.split(r"[.\[]", name)[0] not in raised.measured
            if not (name == "file" and raised.place.startswith(FILLED_BY_READ_CHECKPOINT))
        }
        assert not blank

    def test_the_search_for_codes_finds_them(self):
        """The tests above must not pass because they see nothing."""
        found = {raised.code: raised for raised in all_raised()}
        assert {"daemon_unreachable", "state_dir_locked", "plugin_duplicate"} <= set(found)
        assert found["plugin_duplicate"].measured == {"kind", "name", "first", "second"}
        assert len(found) > 100


def flat(table: dict, prefix: str = "") -> list[str]:
    rows: list[str] = []
    for key, value in table.items():
        rows += flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
    return rows


@dataclass(frozen=True)
class Raised:
    """A place where an error or a reason is built with a code that is written out."""

    place: str
    code: str
    measured: frozenset[str] | None  # names that are given; None where they are not written out


@cache
def all_raised() -> tuple[Raised, ...]:
    return tuple(
        Raised(f"{path.relative_to(ROOT)}:{node.lineno}", code, measured_names(node))
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and node.args and called_name(node) in ERROR_CLASSES | {"Reason"}
        for code in literals(node.args[0])
    )


def called_name(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def measured_names(node: ast.Call) -> frozenset[str] | None:
    """Keyword names of an error; for a `Reason` the keys of its dictionary."""
    if called_name(node) != "Reason":
        names = [keyword.arg for keyword in node.keywords]
    elif len(node.args) < 2:
        names = []
    elif isinstance(node.args[1], ast.Dict):
        names = [key.value if isinstance(key, ast.Constant) else None for key in node.args[1].keys]
    else:
        return None
    return None if None in names else frozenset(names)


def literals(node: ast.expr) -> list[str]:
    """The strings that an expression can be, as far as they are written out."""
    if isinstance(node, ast.IfExp):
        return literals(node.body) + literals(node.orelse)
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def test_imports_go_down_only():
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("import-linter is not installed (make lint installs it)")
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr


class TestPlugins:
    def test_every_entry_point_can_be_imported(self):
        mine = {entry.name: entry for entry in entry_points(group="voiced") if entry.value.startswith("appliance_")}
        assert {"backend_onnxruntime", "text_zh", "text_en", "text_ja", "asr_whisper"} <= set(mine)
        for entry in mine.values():
            assert import_module(entry.value).VOICED_API == 1

    def test_importing_the_daemon_loads_no_model_library(self):
        heavy = ("torch", "onnxruntime", "jieba", "pypinyin", "faster_whisper", "onnx", "pyopenjtalk")
        code = f"import appliance.daemon, sys; print([name for name in {heavy!r} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.strip() == "[]"


class TestSettingsPage:
    def test_names_and_defaults_are_those_of_the_code(self):
        page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
        rows = dict(re.findall(r"^\| `([a-z_.]+)` \| `([^`]*)` \| .+ \|$", page, flags=re.MULTILINE))
        assert rows == {name: shown(default) for name, default in leaves(Settings, "")}


def leaves(model: type[BaseModel], prefix: str) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            rows += leaves(field.annotation, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", field.get_default(call_default_factory=True)))
    return rows


def shown(value: object) -> str:
    """A default as the page writes it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{part}"' for part in value) + "]"
    return '""' if value == "" else str(value)


class TestUnits:
    @pytest.fixture(autouse=True)
    def analyse(self, tmp_path):
        if shutil.which("systemd-analyze") is None:
            pytest.skip("systemd-analyze is not installed (apt-get install systemd)")
        self.folder = tmp_path
        program = str(Path(sys.executable))  # the real one lies under /opt/voiced
        for unit in (ROOT / "systemd").glob("voiced*"):
            text = unit.read_text(encoding="utf-8")
            (tmp_path / unit.name).write_text(re.sub(r"/opt/voiced/bin/\w+", program, text), encoding="utf-8")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=60)

    def test_units_are_valid(self):
        units = sorted(str(path) for path in self.folder.iterdir())
        done = self.run("verify", "--man=no", *units)
        assert done.returncode == 0, done.stderr
        assert done.stderr.strip() == ""

    def test_the_daemon_is_sandboxed(self):
        done = self.run("security", "--offline=true", "--threshold=18", str(self.folder / "voiced.service"))
        assert done.returncode == 0, done.stdout  # exposure 1.8 of 10 or less

    def test_the_daemon_reports_and_is_watched(self):
        unit = (ROOT / "systemd" / "voiced.service").read_text(encoding="utf-8")
        for line in (
            "Type=notify",
            "WatchdogSec=30s",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "IPAddressDeny=any",
        ):
            assert f"\n{line}\n" in unit


def test_the_licences_are_there():
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    for name in ("Kokoro-82M", "Whisper", "Silero", "DNSMOS", "hibari", "Resemblyzer", "moonshine-voice"):
        assert name in notice
