"""Chinese BERT's tokens: text -> ids, by the WordPiece rules and the vocabulary of a model folder.

Rules: control characters go; letters are lower-cased and lose their accents; ideographs and punctuation marks stand
alone; other runs between spaces are cut, from the left, into the longest pieces of the vocabulary, of which all but the
first carry the prefix "##"; a run that cannot be cut so is one unknown token.

Formula source: J. Devlin et al., "BERT" (2019), section 3, and the tokenizer.json format of such folders.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

UNKNOWN, START, END = "[UNK]", "[CLS]", "[SEP]"
CONTINUED = "##"
LONGEST_WORD = 100  # characters; a longer run is one unknown token

# Blocks of ideographs; kana and Hangul are not among them and run together like letters.
IDEOGRAPHS = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)
ASCII_MARKS = frozenset(r"""!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~""")


@dataclass(frozen=True)
class WordPiece:
    """A vocabulary with its rules."""

    vocabulary: Mapping[str, int]  # piece -> id
    is_lowercase: bool = True

    def __post_init__(self) -> None:
        missing = [token for token in (UNKNOWN, START, END) if token not in self.vocabulary]
        if missing:
            raise ValueError(f"the vocabulary lacks {', '.join(missing)}")

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> WordPiece:
        """From what `tokenizer_config` made. Raises KeyError, ValueError."""
        return cls(
            {token: number for number, token in enumerate(config["vocabulary"])}, bool(config.get("lowercase", True))
        )

    def encode(self, text: str) -> list[int]:
        """Ids of all pieces of `text`, without the marks at the start and the end."""
        return [number for word in self._words(text) for number in self._pieces(word)]

    def encode_characters(self, text: str) -> list[int]:
        """Exactly one id per character, as features that belong to characters need.

        Chinese without Latin words, digits and spaces has one piece per character by the rules; other text is looked
        up character by character.
        """
        ids = self.encode(text)
        if len(ids) == len(text):
            return ids
        unknown = self.vocabulary[UNKNOWN]
        return [next(iter(self.encode(character)), unknown) for character in text]

    def framed(self, ids: Sequence[int]) -> list[int]:
        """`ids` between the marks that the network expects."""
        return [self.vocabulary[START], *ids, self.vocabulary[END]]

    def _words(self, text: str) -> list[str]:
        spaced = "".join(_spaced(text))
        if self.is_lowercase:
            decomposed = unicodedata.normalize("NFD", spaced)
            spaced = "".join(c for c in decomposed if unicodedata.category(c) != "Mn").lower()
        return "".join(f" {c} " if _is_mark(c) else c for c in spaced).split()

    def _pieces(self, word: str) -> list[int]:
        unknown = [self.vocabulary[UNKNOWN]]
        if len(word) > LONGEST_WORD:
            return unknown
        pieces: list[int] = []
        start = 0
        while start < len(word):
            prefix = CONTINUED if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if prefix + word[start:end] in self.vocabulary), None)
            if end is None:
                return unknown
            pieces.append(self.vocabulary[prefix + word[start:end]])
            start = end
        return pieces


def _spaced(text: str) -> Iterator[str]:
    """Without control characters, every kind of space a plain one, spaces around ideographs."""
    for character in text:
        if character in "\t\n\r" or unicodedata.category(character).startswith("Z"):
            yield " "
        elif character == "\ufffd" or unicodedata.category(character).startswith("C"):
            continue
        elif _is_ideograph(character):
            yield f" {character} "
        else:
            yield character


def _is_ideograph(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in IDEOGRAPHS)


def _is_mark(character: str) -> bool:
    return character in ASCII_MARKS or unicodedata.category(character).startswith("P")


def tokenizer_config(files: Mapping[str, str]) -> dict[str, Any]:
    """What `WordPiece.from_config` takes, to be kept beside the weights: {"vocabulary": [piece, …], "lowercase": bool}.

    `files`: name -> text of the model folder's files; one of "tokenizer.json" and "vocab.txt" must be there, and
    "tokenizer_config.json" says with "vocab.txt" whether letters are lower-cased. Raises ValueError for none of them
    or another kind of tokenizer, KeyError for a part that is missing.
    """
    if "tokenizer.json" in files:
        return _from_tokenizer(json.loads(files["tokenizer.json"]))
    if "vocab.txt" in files:
        rules = json.loads(files.get("tokenizer_config.json", "{}"))
        pieces = [line.removesuffix("\r") for line in files["vocab.txt"].removesuffix("\n").split("\n")]
        return {"vocabulary": pieces, "lowercase": bool(rules.get("do_lower_case", True))}
    raise ValueError("neither tokenizer.json nor vocab.txt")


def _from_tokenizer(tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    model, rules = tokenizer["model"], tokenizer["normalizer"] or {}
    kinds = (model.get("type", "WordPiece"), model.get("continuing_subword_prefix", CONTINUED), rules.get("type"))
    if kinds != ("WordPiece", CONTINUED, "BertNormalizer") or not rules.get("handle_chinese_chars", True):
        raise ValueError(f"not the tokenizer of a Chinese BERT: {', '.join(map(str, kinds))}")
    numbers: dict[str, int] = dict(model["vocab"])
    numbers.update({token["content"]: token["id"] for token in tokenizer.get("added_tokens") or []})
    pieces = sorted(numbers, key=numbers.__getitem__)
    if [numbers[piece] for piece in pieces] != list(range(len(pieces))):
        raise ValueError("the ids of the vocabulary have gaps")
    return {"vocabulary": pieces, "lowercase": bool(rules.get("lowercase", True))}
