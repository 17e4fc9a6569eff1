"""Korean: pronunciation across syllables, numbers, Latin letters, spans."""

from __future__ import annotations

import subprocess
import sys

import pytest
from appliance_plugins.text_ko.frontend import KoreanFrontend


@pytest.fixture(scope="module")
def frontend() -> KoreanFrontend:
    return KoreanFrontend()


@pytest.mark.parametrize(
    ("text", "phones"),
    [
        ("국물", "ㄱㅜㅇㅁㅜㄹ."),  # nasal before ㅁ
        ("같이", "ㄱㅏㅊㅣ."),  # ㅌ before 이
        ("신라,", "ㅅㅣㄹㄹㅏ,"),
        ("왜?", "ㅇㅗㅐ?"),
        ("3시 5분", "ㅅㅔㅅㅣ空ㅇㅗㅂㅜㄴ."),  # hours are counted in Korean, minutes in Chinese
        ("고양이 20마리.", "ㄱㅗㅇㅣㅏㅇㅇㅣ空ㅅㅡㅁㅜㅁㅏㄹㅣ."),
        ("11시와 1시.", "ㅇㅣㅓㄹㅎㅏㄴㅅㅣㅇㅗㅏ空ㅎㅏㄴㅅㅣ."),
        ("TV", "ㅌㅣㅂㅡㅇㅣ."),
        ("「네」", "停ㄴㅔ停"),
        ("", ""),
    ],
)
def test_sentences(frontend: KoreanFrontend, text: str, phones: str) -> None:
    assert "".join(frontend.analyse(text, "gpt_sovits_v2").phones) == phones


def test_words_have_their_spans(frontend: KoreanFrontend) -> None:
    utterance = frontend.analyse("오늘은 날씨가 좋네요.", "gpt_sovits_v2")
    assert [word.text for word in utterance.words] == ["오늘은", "날씨가", "좋네요."]
    assert utterance.phones[utterance.words[0].end - 1] == "空"


def test_two_processes_read_alike() -> None:
    """g2pk2 replaces numbers in the order of a set; ours does not depend on the seed of hashes."""
    script = (
        "from appliance_plugins.text_ko.frontend import KoreanFrontend as F;"
        "print(F().analyse('11시 1시 21시 111개 11개 1개 열차', 'gpt_sovits_v2').phones)"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1 and "空" in found.pop()
