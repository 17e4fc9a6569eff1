"""Checking lines and filling in their variables."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from appliance.contracts import JsonDict
from appliance.errors import InvalidInput, TooLarge
from appliance.publishing.records import Line, NewRevision, Revision, SpokenLine
from appliance.text.segments import CODES

MOST_LINES = 20_000
MOST_SPOKEN = 50_000  # lines times values of their variables
MOST_CHARACTERS = 5_000  # of one line
MOST_VALUES = 1_000  # of one variable
LATEST_CUE_S = 360_000  # a hundred hours
LONGEST_NAME = 80  # of a line, also with the values of its variables
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
_VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]{0,39})\}")
_IN_A_NAME = re.compile(r"[^A-Za-z0-9]+")


def check_revision(new: NewRevision) -> None:
    """Raises InvalidInput (line_name_invalid, line_name_twice, line_too_long, line_speed, cue_invalid,
    language_unknown, variable_invalid, variable_missing), TooLarge("script_too_long").
    """
    if len(new.lines) > MOST_LINES:
        raise TooLarge("script_too_long", lines=len(new.lines), limit=MOST_LINES)
    _check_variables(new.variables)
    seen: set[str] = set()
    for line in new.lines:
        if not _NAME.fullmatch(line.name):
            raise InvalidInput("line_name_invalid", line=line.name[:80])
        if line.name in seen:
            raise InvalidInput("line_name_twice", line=line.name)
        seen.add(line.name)
        if len(line.text) > MOST_CHARACTERS:
            raise InvalidInput("line_too_long", line=line.name, characters=len(line.text), limit=MOST_CHARACTERS)
        if not 0.5 <= line.speed <= 2.0:
            raise InvalidInput("line_speed", line=line.name, speed=line.speed)
        if line.cue is not None and not 0 <= line.cue[0] < line.cue[1] <= LATEST_CUE_S:
            raise InvalidInput("cue_invalid", line=line.name, limit_s=LATEST_CUE_S)
        for language in {line.language or new.language}:
            if language not in CODES:
                raise InvalidInput("language_unknown", language=language[:20], known=", ".join(CODES))
    missing = missing_variables(new.lines, new.variables)
    if missing:
        first, names = next(iter(missing.items()))
        raise InvalidInput("variable_missing", lines=len(missing), line=first, names=", ".join(names))
    _check_names(new)


def _check_names(new: NewRevision) -> None:
    """A line with a value of its variable may be called like another line: one would take the other's file."""
    seen: set[str] = set()
    for name, _ in itertools.islice(_choices(new.lines, new.variables), MOST_SPOKEN):
        if name in seen:
            raise InvalidInput("line_name_twice", line=name)
        seen.add(name)


def _check_variables(variables: Mapping[str, Sequence[str]]) -> None:
    for name, values in variables.items():
        is_named = _VARIABLE.fullmatch(f"{{{name}}}") is not None
        if not is_named or not 1 <= len(values) <= MOST_VALUES or any(len(value) > 200 for value in values):
            raise InvalidInput("variable_invalid", name=name[:40], values=len(values), limit=MOST_VALUES)


def missing_variables(lines: Sequence[Line], variables: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Line name -> variables that its text uses and nobody gives a value."""
    wanted = {line.name: [name for name in variables_of(line.text) if name not in variables] for line in lines}
    return {line: names for line, names in wanted.items() if names}


def variables_of(text: str) -> list[str]:
    """The variables in a text, in order, each once."""
    return list(dict.fromkeys(_VARIABLE.findall(text)))


def fill(text: str, values: Mapping[str, str]) -> str:
    """`text` with the values in their places; what has no value stays as it is written."""
    return _VARIABLE.sub(lambda match: values.get(match[1], match[0]), text)


def spoken_lines(revision: Revision) -> tuple[SpokenLine, ...]:
    """Every line as often as the values of its variables ask for. Raises TooLarge("script_too_long")."""
    found = tuple(itertools.islice(_spoken(revision), MOST_SPOKEN + 1))
    if len(found) > MOST_SPOKEN:
        raise TooLarge("script_too_long", lines=len(found), limit=MOST_SPOKEN)
    return found


def _spoken(revision: Revision) -> Iterator[SpokenLine]:
    lines = {line.name: line for line in revision.lines}
    for name, (line_name, chosen) in _choices(revision.lines, revision.variables):
        line = lines[line_name]
        yield SpokenLine(
            name=name,
            line=line.name,
            text=fill(line.text, chosen),
            voice=line.voice or revision.voice,
            language=line.language or revision.language,
            speed=line.speed,
            values=chosen,
        )


def _choices(
    lines: Sequence[Line], variables: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, tuple[str, dict[str, str]]]]:
    """Every name under which something is spoken, with its line's and the values that are chosen."""
    distinct = {name: tuple(dict.fromkeys(values)) for name, values in variables.items()}
    parts = {name: _name_parts(values) for name, values in distinct.items() if len(values) > 1}
    for line in lines:
        names = variables_of(line.text)
        for values in itertools.product(*(distinct[name] for name in names)):
            chosen = dict(zip(names, values, strict=True))
            varied = (parts[name][chosen[name]] for name in names if name in parts)
            yield _short("-".join((line.name, *varied))), (line.name, chosen)


def _name_parts(values: Sequence[str]) -> dict[str, str]:
    """By value: how it is called in the names of files. Values that would be called alike get a mark of their own,
    which does not depend on the others or on their order.
    """
    plain = {value: _name_part(value) for value in values}
    shared = {part for part, count in Counter(plain.values()).items() if count > 1}
    return {value: f"{part}-{_mark(value)}" if part in shared else part for value, part in plain.items()}


def _short(name: str) -> str:
    """At most `LONGEST_NAME` characters, different for different names."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 7]}-{_mark(name)}"


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]


def _name_part(value: str) -> str:
    """A value as part of a file name; what has no Latin letters or digits is spelt as its code points."""
    plain = _IN_A_NAME.sub("-", value).strip("-")
    return plain[:40] if plain else "u" + "".join(f"{ord(character):x}" for character in value[:8])


def difference(old: Revision | None, new: Revision) -> JsonDict:
    """What `new` changes: lines added, removed, changed (which fields, from and to), and the order."""
    before = {line.name: line for line in old.lines} if old else {}
    after = {line.name: line for line in new.lines}
    changed = [
        {"line": name, "fields": _fields(before[name], after[name])}
        for name in after
        if name in before and before[name] != after[name]
    ]
    common = [name for name in before if name in after]
    settings = {
        key: {"from": getattr(old, key, None) if old else None, "to": getattr(new, key)}
        for key in ("voice", "language", "variables")
        if old is None or getattr(old, key) != getattr(new, key)
    }
    return {
        "from": old.number if old else None,
        "to": new.number,
        "added": [after[name].as_json() for name in after if name not in before],
        "removed": [before[name].as_json() for name in before if name not in after],
        "changed": changed,
        "settings": settings if old else {},
        "is_reordered": common != [name for name in after if name in before],
    }


def _fields(old: Line, new: Line) -> JsonDict:
    before, after = old.as_json(), new.as_json()
    return {key: {"from": before[key], "to": after[key]} for key in after if before[key] != after[key]}
