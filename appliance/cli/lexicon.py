"""`voiced lexicon`: how words are read."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from appliance.cli import add_action

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal

LANGUAGES = ("zh", "en", "ja", "ko", "yue")
COLUMNS = ("language", "word", "reading", "created_at")


def configure(name: str, command: argparse.ArgumentParser) -> None:
    actions = command.add_subparsers(metavar="ACTION", required=True)
    listed = add_action(actions, "list", "words with a reading of their own", list_words)
    listed.add_argument("--language", default="", choices=LANGUAGES, help="only words of this language")
    put = add_action(actions, "set", "say how a word is read", set_word)
    put.add_argument("word", help="as it is written, e.g. 重庆")
    put.add_argument(
        "reading", help="zh: pinyin (chong2 qing4); yue: Jyutping; others: a word that sounds like it; or /phones/"
    )
    put.add_argument("--language", required=True, choices=LANGUAGES, help="of the text that the word stands in")
    remove = add_action(actions, "remove", "let a word be read as before", remove_word)
    remove.add_argument("word")
    remove.add_argument("--language", required=True, choices=LANGUAGES)


def list_words(terminal: Terminal) -> int:
    rows = list(terminal.client.items("/v1/lexicon", language=terminal.arguments.language or None))
    if terminal.as_json:
        terminal.document({"items": rows, "next": None})
        return 0
    terminal.table(COLUMNS, [[row[column] for column in COLUMNS] for row in rows])
    return 0


def set_word(terminal: Terminal) -> int:
    given = terminal.arguments
    entry = terminal.client.put(
        "/v1/lexicon", {"language": given.language, "word": given.word, "reading": given.reading}
    )
    if terminal.as_json:
        terminal.document(entry)
    terminal.tell("cli.lexicon_set", **{key: entry[key] for key in ("word", "language", "reading")})
    return 0


def remove_word(terminal: Terminal) -> int:
    given = terminal.arguments
    which = {"language": given.language, "word": given.word}
    terminal.client.call("DELETE", "/v1/lexicon", query=which)
    if terminal.as_json:
        terminal.document({"deleted": which})
    terminal.tell("cli.lexicon_removed", **which)
    return 0
