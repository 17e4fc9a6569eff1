"""English for GPT-SoVITS: its own normaliser, then ARPAbet by dictionary, word parts and a small network."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appliance_plugins.text_en.gpt_sovits_normalisation import NumberWords, normalise
from appliance_plugins.text_en.predictor import Predictor
from appliance_plugins.text_en.pronunciation import Pronouncer, load_dictionary, load_names, parse_homographs

from appliance.text.frontends import LibraryFrontend, Reading, Spoken
from appliance.text.gpt_sovits_symbols import GPT_SOVITS_V1, GPT_SOVITS_V2

_FEWEST_PHONES = 4  # shorter texts get a pause in front, even "℃", of which nothing is spoken
_LONGEST_TOKEN = 100  # letters; the search for word parts calls itself


@dataclass(frozen=True)
class EnglishReader:
    """The libraries, loaded."""

    numbers: NumberWords
    tokenize: Callable[[str], list[str]]
    tag: Callable[[list[str]], list[str]]
    pronouncer: Pronouncer


class GptSovitsEnglish(LibraryFrontend):
    """American English in ARPAbet with stress; no borders between words. One word span per token."""

    language = "en"
    inventories = (GPT_SOVITS_V1, GPT_SOVITS_V2)
    library = "g2p-en, wordsegment, nltk, inflect, hibari-tts"

    def load_library(self) -> EnglishReader:
        """About 2 s. g2p-en itself is not imported (that would download); its data files are read."""
        import inflect
        import wordsegment
        from nltk.tokenize.casual import TweetTokenizer

        wordsegment.load()
        data = _find_package("g2p_en")
        homographs = parse_homographs((data / "homographs.en").read_text(encoding="utf-8"))
        predictor = Predictor(data / "checkpoint20.npz")
        pronouncer = Pronouncer(load_dictionary(), load_names(), homographs, wordsegment.segment, predictor.predict)
        return EnglishReader(inflect.engine(), TweetTokenizer().tokenize, _load_tagger(), pronouncer)

    def read(self, library: EnglishReader, text: str, inventory: str) -> Reading:
        normalized = normalise(text, library.numbers)
        tokens = [
            token[start : start + _LONGEST_TOKEN]
            for token in library.tokenize(normalized)
            for start in range(0, len(token), _LONGEST_TOKEN)
        ]
        tags = library.tag(tokens) if tokens else []
        units = [
            Spoken(token, tuple("-" if phone == "'" else phone for phone in library.pronouncer.read(token, tag)))
            for token, tag in zip(tokens, tags, strict=True)
        ]
        is_short = bool(text.strip()) and sum(len(unit.phones) for unit in units) < _FEWEST_PHONES
        return Reading(normalized, [Spoken(",", (",",)), *units] if is_short else units)


def _find_package(name: str) -> Path:
    """Folder of an installed package, without running it; ImportError when it is not there."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"no package {name}")
    return Path(next(iter(spec.submodule_search_locations)))


def _load_tagger() -> Callable[[list[str]], list[str]]:
    """hibari's perceptron, Penn Treebank tags."""
    import gzip
    import json

    from hibari.g2p.tagger import Tagger

    packed = (_find_package("hibari") / "assets" / "tagger.json.gz").read_bytes()
    tagger: Callable[[list[str]], list[str]] = Tagger(json.loads(gzip.decompress(packed)))
    return tagger
