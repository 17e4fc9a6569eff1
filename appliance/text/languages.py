"""Mixed text -> runs of one language each, by script. Pure and linear in the length.

Ideographs are Chinese, or Japanese in a sentence that holds kana; Latin letters are English; digits and signs belong
to a neighbour: glued to letters they are English ("MP3", "B2B"), next to an ideograph or with a metric unit in a
Chinese or Japanese sentence they are read in that language ("共 5kg", "iPhone 15 上市"). Scripts nobody here reads stay
with their neighbour, and its front end drops them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SENTENCE = re.compile(r"[^。！？!?\n]*[。！？!?\n]*(?:[”’」』）)\"']+)?")
_TOKEN = re.compile(
    r"(?P<kana>[ぁ-ゖゝゞァ-ヺヽヾㇰ-ㇿｦ-ﾟ][ぁ-ゖゝゞァ-ヺー・ヽヾㇰ-ㇿｦ-ﾟ]*)"
    r"|(?P<han>[々〆〇㐀-䶿一-鿿豈-﫿𠀀-𯨟]+)"
    r"|(?P<measure>(?<![A-Za-z0-9])[$€£¥￥]?\d[\d,.]*\s?(?:kg|mg|km|cm|mm|ml|mL|kWh|kW|GHz|MHz|KB|MB|GB|TB|g|m|L|W|V|Hz|km/h|m/s)(?![A-Za-z0-9/]))"
    r"|(?P<latin>(?:\d[\d.,:/-]*)?[A-Za-zÀ-ɏḀ-ỿ](?:[.@:/_'’&+#?=%~-]*[A-Za-zÀ-ɏḀ-ỿ0-9])*[+#]{0,2})"
    r"|(?P<number>[-+]?[$€£¥￥]?[\d０-９](?:[,.:/~×x*-]*[\d０-９])*\s?[%％‰℃℉°]*)"
    r"|(?P<opening>[“‘「『（(《〈【\[<$€£¥￥#@]+)"
    r"|(?P<other>.[^\d０-９A-Za-zÀ-ɏḀ-ỿぁ-ヿㇰ-ㇿｦ-ﾟ々〆〇㐀-䶿一-鿿豈-﫿𠀀-𯨟+“‘「『（(《〈【\[<$€£¥￥#@-]*)",
    re.DOTALL,
)


@dataclass
class _Token:
    text: str
    kind: str
    language: str = ""


def split_languages(text: str, hint: str = "auto") -> list[tuple[str, str]]:
    """Runs of (language, piece) in order; the pieces together are `text`, unchanged.

    `hint` is "auto", "zh", "en" or "ja" (or a tag such as "zh-CN"): it decides what ideographs are ("zh" and "ja") and
    who reads digits that stand alone. Latin letters are English and kana Japanese under any hint; any other hint means
    "auto".
    """
    hint = hint.replace("_", "-").lower().split("-")[0]
    tokens: list[_Token] = []
    for sentence in _SENTENCE.findall(text):
        tokens += _sentence_tokens(sentence, hint)
    return _merge(tokens, hint)


def _sentence_tokens(sentence: str, hint: str) -> list[_Token]:
    tokens = [_Token(m.group(), str(m.lastgroup)) for m in _TOKEN.finditer(sentence)]
    kinds = {token.kind for token in tokens}
    ideographs = hint if hint in ("zh", "ja") else ("ja" if "kana" in kinds else "zh")
    is_east_asian = "han" in kinds or "kana" in kinds
    fixed = {"kana": "ja", "han": ideographs, "latin": "en", "measure": ideographs if is_east_asian else ""}
    for token in tokens:
        token.language = fixed.get(token.kind, "")
    _give_numbers(tokens)
    return tokens


def _give_numbers(tokens: list[_Token]) -> None:
    """A number goes to an East Asian neighbour if it has one, else to the neighbour it has."""
    following = [""] * len(tokens)
    ahead = ""
    for index in range(len(tokens) - 1, -1, -1):
        following[index] = ahead
        is_pause = tokens[index].kind == "other" and tokens[index].text[0] in ",，;；"
        ahead = tokens[index].language or ("" if is_pause else ahead)
    behind = ""
    for token, after in zip(tokens, following, strict=True):
        if token.kind == "number" and not token.language:
            near = [language for language in (behind, after) if language]
            token.language = next((language for language in near if language != "en"), near[0] if near else "")
        behind = token.language or behind


def _merge(tokens: list[_Token], hint: str) -> list[tuple[str, str]]:
    """Give what has no language yet to its neighbour and join equal ones."""
    default = hint if hint in ("zh", "en", "ja") else "en"
    ahead = ""
    for token in reversed(tokens):  # brackets and currency signs open what follows
        if token.kind == "opening":
            token.language = ahead
        ahead = token.language or (ahead if token.text.isspace() else "")
    leading = default if hint in ("zh", "ja") else next((t.language for t in tokens if t.language), default)
    runs: list[tuple[str, list[str]]] = []
    for token in tokens:
        language = token.language or (runs[-1][0] if runs else leading)
        if runs and runs[-1][0] == language:
            runs[-1][1].append(token.text)
        else:
            runs.append((language, [token.text]))
    return [(language, "".join(parts)) for language, parts in runs]
