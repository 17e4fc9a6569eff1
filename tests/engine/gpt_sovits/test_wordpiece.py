"""WordPiece against the reference implementation, and the files it is read from."""

from __future__ import annotations

import json
import random

import pytest

from appliance.engine.gpt_sovits.wordpiece import WordPiece, tokenizer_config

MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "，。！？,.!?-…我们去吃饭0123abcdefg㐀豈ᄒ"
PIECES = [*LETTERS, "##b", "##c", "##bc", "abc", "##3", "12", "の", "##の", "é", "##é", "##"]
VOCABULARY = [*MARKS, *PIECES]
CONFIG = {"vocabulary": VOCABULARY, "lowercase": True}
ODD = "我们去吃饭，。！？…-,.abcABCéÉÀg0123 \t\n\u3000\u00a0\u2028\u200b\u0000\ufffd\x7f㐀豈の한ÅﬀΣß😀“”—·〇𠀀\u0301"


def tokenizer_json(lowercase: bool = True) -> str:
    """In the layout of the official folder's `tokenizer.json`."""
    rules = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": lowercase}
    model = {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": {piece: number for number, piece in enumerate(VOCABULARY)},
    }
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [],
            "normalizer": {"type": "BertNormalizer", **rules},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": None,
            "decoder": None,
            "model": model,
        }
    )


@pytest.mark.parametrize("lowercase", [True, False])
def test_equals_the_reference_implementation(lowercase: bool) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    reference = tokenizers.Tokenizer.from_str(tokenizer_json(lowercase))
    ours = WordPiece.from_config(tokenizer_config({"tokenizer.json": tokenizer_json(lowercase)}))
    draw = random.Random(5)
    texts = ["".join(draw.choices(ODD, k=draw.randrange(1, 24))) for _ in range(3000)]
    for text in [*texts, "a" * 100, "a" * 101, "", "abcabc12 3ABC"]:
        assert ours.encode(text) == reference.encode(text).ids, ascii(text)


def test_chinese_is_one_token_a_character() -> None:
    tokens = WordPiece.from_config(CONFIG)
    text = "我们去吃饭,吃…喵!"
    ids = tokens.encode_characters(text)
    assert ids == tokens.encode(text)
    assert [VOCABULARY[number] for number in ids] == [*"我们去吃饭,吃…", "[UNK]", "!"]


@pytest.mark.parametrize("text", ["abc我", "我 们", "12我", "A我", "…" * 3, "我\u200b们", "ab"])
def test_other_text_gives_one_id_a_character_all_the_same(text: str) -> None:
    tokens = WordPiece.from_config(CONFIG)
    assert len(tokens.encode_characters(text)) == len(text)
    assert tokens.framed([7]) == [2, 7, 3]


def test_the_files_of_a_folder() -> None:
    plain = "\n".join(VOCABULARY) + "\n"
    assert tokenizer_config({"tokenizer.json": tokenizer_json()}) == CONFIG
    assert tokenizer_config({"vocab.txt": plain}) == CONFIG
    assert tokenizer_config({"vocab.txt": plain.replace("\n", "\r\n")}) == CONFIG
    assert tokenizer_config({"vocab.txt": plain, "tokenizer_config.json": '{"do_lower_case": false}'}) == {
        **CONFIG,
        "lowercase": False,
    }


def test_refused_files() -> None:
    with pytest.raises(ValueError, match="neither"):
        tokenizer_config({"config.json": "{}"})
    with pytest.raises(ValueError, match="BPE"):
        tokenizer_config({"tokenizer.json": json.dumps({"model": {"type": "BPE", "vocab": {}}, "normalizer": None})})
    gap = json.loads(tokenizer_json())
    gap["model"]["vocab"]["far"] = 900
    with pytest.raises(ValueError, match="gaps"):
        tokenizer_config({"tokenizer.json": json.dumps(gap)})
    with pytest.raises(ValueError, match=r"\[SEP\]"):
        WordPiece.from_config({"vocabulary": ["[UNK]", "[CLS]"]})
