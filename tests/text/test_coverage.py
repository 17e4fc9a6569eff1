"""Prompt sheets hold the sounds of their languages, measured by the front ends that engines read with."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.collecting.prompts import LANGUAGES, prompt_sheet
from appliance.contracts import TextFrontend
from appliance.errors import InvalidInput
from appliance.plugin_manager import load_plugins
from appliance.settings import PluginSettings
from appliance.text.coverage import cover


@pytest.fixture(scope="module")
def frontends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TextFrontend]:
    plugins = load_plugins(PluginSettings(), Path(tmp_path_factory.mktemp("none")))
    return {name: plugins.frontends[name]() for name in ("zh", "en")}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_sheet_takes_about_a_minute_and_has_the_sounds(language: str, frontends: dict[str, TextFrontend]) -> None:
    sheet = prompt_sheet(language)
    assert 60 <= sum(prompt.seconds for prompt in sheet.prompts) <= 95
    assert len({prompt.text for prompt in sheet.prompts}) == len(sheet.prompts)
    coverage = cover([prompt.text for prompt in sheet.prompts], language, frontends)
    for part in ("zh", "en") if language == "mixed" else (language,):
        least = 0.95 if language == "mixed" else 1.0
        assert coverage[part].share >= least, (part, coverage[part].missing)


def test_what_is_missing_is_named(frontends: dict[str, TextFrontend]) -> None:
    found = cover(["妈妈。", "A cat."], "zh", frontends)
    assert found["zh"].counts["m"] == 2 and "zh" in found["zh"].missing and 0 < found["zh"].share < 0.1
    assert set(found["en"].counts) >= {"K", "AE", "T"}
    assert cover([], "en", frontends) == {} and cover(["…"], "zh", frontends) == {}


def test_an_unknown_sheet_is_refused() -> None:
    with pytest.raises(InvalidInput) as refused:
        prompt_sheet("tlh")
    assert refused.value.code == "prompt_language_unknown" and refused.value.remedy("zh")
