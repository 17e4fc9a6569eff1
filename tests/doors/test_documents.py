"""`docs/http.md` and the code say the same."""

from __future__ import annotations

import re
from pathlib import Path

from appliance.doors.http.app import BUILT_IN
from appliance.doors.http.problems import STATUS, STATUS_OF_CODE
from appliance.messages import catalogue

DOCUMENT = (Path(__file__).parents[2] / "docs/http.md").read_text(encoding="utf-8")


def test_every_door_is_in_the_table_and_every_row_is_a_door():
    rows = {tuple(row) for row in re.findall(r"^\| `(GET|POST|PUT|PATCH|DELETE) ([^`]+)` \|", DOCUMENT, re.MULTILINE)}
    assert rows == {(route.method, route.path) for route in BUILT_IN if route.is_documented}


def test_every_status_is_explained_there_and_named_in_both_languages():
    statuses = {status for _, status in STATUS} | set(STATUS_OF_CODE.values()) | {429}
    explained = {int(row) for row in re.findall(r"^\| (\d{3}) \|", DOCUMENT, re.MULTILINE)}
    assert explained == statuses - {499}  # nobody is left to read that one
    for language in ("en", "zh"):
        assert {f"status.{status}" for status in statuses} <= set(catalogue(language))


def test_every_code_that_the_doors_raise_has_its_sentences_in_both_languages():
    folder = Path(__file__).parents[2] / "appliance/doors"
    source = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.py"))
    kinds = (
        "InvalidInput|NotFound|Forbidden|TooLarge|UnsupportedMedia|Unavailable|DeadlineExceeded|StorageFull|VoicedError"
    )
    codes = set(re.findall(rf"(?:{kinds})\(\s*\"([a-z_]+)\"", source)) | {"token_missing", "token_wrong"}
    assert len(codes) > 15
    for language in ("en", "zh"):
        for code in codes:
            assert {f"{code}.message", f"{code}.remedy"} <= set(catalogue(language)), code
