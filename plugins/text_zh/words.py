"""jieba's words, with how often they occur and what they are: parsed once and at once.

jieba's own way reads the file twice, line by line (a second of a start), and would write, and later trust, a cache in
the shared temporary folder.
"""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any, NamedTuple


class Words(NamedTuple):
    """What jieba looks up."""

    frequencies: dict[str, int]  # of words, and 0 for the beginnings of words that are none themselves
    total: int
    tags: dict[str, str]  # parts of speech


def load_words() -> Words:
    """From the file in jieba's package. Raises ImportError, OSError, ValueError for a file of another kind."""
    import jieba

    fields = (Path(jieba.__file__).parent / "dict.txt").read_text(encoding="utf-8").split()
    words, counts = fields[0::3], list(map(int, fields[1::3]))
    beginnings: set[str] = set()
    longer = set(words)
    while longer:
        longer = {word[:-1] for word in longer if len(word) > 1} - beginnings
        beginnings |= longer
    frequencies = dict.fromkeys(beginnings, 0) | dict(zip(words, counts, strict=True))
    return Words(frequencies, sum(counts), dict(zip(words, fields[2::3], strict=True)))


def make_tokenizer(words: Words) -> Any:
    """A `jieba.Tokenizer`. The dictionary is its own from now on."""
    import jieba

    jieba.setLogLevel(logging.WARNING)
    tokenizer: Any = jieba.Tokenizer()
    tokenizer.FREQ, tokenizer.total, tokenizer.initialized = words.frequencies, words.total, True
    return tokenizer


def make_tagger(words: Words) -> Any:
    """A `jieba.posseg.POSTokenizer` over a tokenizer of the same words (`tokenizer` of it)."""
    import jieba.posseg

    tokenizer = make_tokenizer(words)
    tokenizer.get_dict_file = io.BytesIO  # instead of reading it once more
    tagger: Any = jieba.posseg.POSTokenizer(tokenizer)
    tagger.word_tag_tab = words.tags
    return tagger
