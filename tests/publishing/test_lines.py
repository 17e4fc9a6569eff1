"""Lines, variables, subtitles and files of scripts."""

from __future__ import annotations

import json

import pytest

from appliance.errors import InvalidInput, TooLarge
from appliance.publishing.exchange import export_revision, import_script
from appliance.publishing.lines import check_revision, difference, spoken_lines
from appliance.publishing.records import Line, NewRevision, Revision
from appliance.publishing.subtitles import Cue, read_subtitles, write_srt, write_vtt


def revision(*lines: Line, number: int = 1, **more) -> Revision:
    given = {"variables": {}, "voice": "anna", "language": "auto", "comment": "", "author": "", **more}
    return Revision("shop", number, lines, created_at="", **given)


def test_a_line_is_spoken_once_for_every_value_of_its_variables():
    found = spoken_lines(
        revision(
            Line("call", "柜台{counter}，请{who}。"),
            Line("open", "We open at {time}.", voice="bea", language="en", speed=1.2),
            variables={"counter": ("1", "2"), "who": ("张先生", "李女士"), "time": ("9:00",)},
        )
    )
    assert len({one.name for one in found}) == 5 and found[0].name.startswith("call-1-u5f20")
    assert found[0].text == "柜台1，请张先生。" and found[0].voice == "anna"
    assert (found[-1].text, found[-1].voice, found[-1].language, found[-1].speed) == (
        "We open at 9:00.",
        "bea",
        "en",
        1.2,
    )
    assert found[-1].name == "open" and found[0].values == {"counter": "1", "who": "张先生"}


def test_values_that_would_be_called_alike_are_not():
    """A file per sound: one that is overwritten says something else."""
    values = (
        "3号柜台",
        "3号窗口",
        "北京市朝阳区第一大街",
        "北京市朝阳区第一小街",
        "A B",
        "a-b",
        "A-B",
        "x" * 50,
        "x" * 60,
        "9",
        "9",
    )
    found = spoken_lines(revision(Line("go", "请到{where}。"), variables={"where": values}))
    assert len({one.name for one in found}) == len({one.text for one in found}) == len(set(values)) == len(found)
    turned = spoken_lines(revision(Line("go", "请到{where}。"), variables={"where": values[::-1]}))
    assert {one.name: one.text for one in turned} == {one.name: one.text for one in found}  # whatever their order
    assert {one.name for one in found if one.values["where"] in ("9", "a-b")} == {"go-9", "go-a-b"}
    many = dict.fromkeys("xyz", ("a" * 40, "b" * 40))
    assert {len(one.name) for one in spoken_lines(revision(Line("go", "{x} {y} {z}"), variables=many))} == {80}


@pytest.mark.parametrize(
    ("new", "code"),
    [
        (NewRevision((Line("a b", "x"),)), "line_name_invalid"),
        (NewRevision((Line("a", "{n}"), Line("a-1", "x")), {"n": ("1", "2")}), "line_name_twice"),
        (NewRevision((Line("../up", "x"),)), "line_name_invalid"),
        (NewRevision((Line("a", "x"), Line("a", "y"))), "line_name_twice"),
        (NewRevision((Line("a", "x" * 5_001),)), "line_too_long"),
        (NewRevision((Line("a", "x", speed=9.0),)), "line_speed"),
        (NewRevision((Line("a", "x", language="klingon"),)), "language_unknown"),
        (NewRevision((Line("a", "{counter} {when}"),), {"counter": ("1",)}), "variable_missing"),
        (NewRevision((Line("a", "x"),), {"no good": ("1",)}), "variable_invalid"),
        (NewRevision((Line("a", "{n}"),), {"n": ()}), "variable_invalid"),
    ],
)
def test_what_cannot_be_a_script_is_refused_with_its_reason(new, code):
    with pytest.raises(InvalidInput) as refused:
        check_revision(new)
    assert refused.value.code == code and refused.value.remedy("zh")


def test_a_missing_variable_is_named():
    with pytest.raises(InvalidInput) as refused:
        check_revision(NewRevision((Line("a", "{counter} {when}"), Line("b", "{who}")), {"counter": ("1",)}))
    assert refused.value.measured == {"lines": 2, "line": "a", "names": "when"}


def test_too_many_lines_are_refused():
    with pytest.raises(TooLarge):
        check_revision(NewRevision(tuple(Line(f"l{number}", "x") for number in range(20_001))))
    many = tuple(str(number) for number in range(300))
    with pytest.raises(TooLarge):
        spoken_lines(revision(Line("a", "{x} {y}"), variables={"x": many, "y": many}))


@pytest.mark.parametrize("format", ["csv", "json"])
def test_a_script_comes_back_from_a_file_as_it_went(format):
    source = revision(
        Line("welcome", 'Welcome, "dear" guests,\nto {shop}; 欢迎。', comment="with, commas"),
        Line("bye", "再见", voice="bea", language="zh", speed=0.9),
        variables={"shop": ("A", "B")},
    )
    back = import_script(export_revision(source, format).encode(), format, source)
    assert back.lines == source.lines
    assert dict(back.variables) == dict(source.variables) and back.voice == "anna"


def test_a_spreadsheet_with_a_byte_order_mark_is_read():
    new = import_script("\ufeffname,text\nwelcome,你好\n".encode(), "csv")
    assert new.lines == (Line("welcome", "你好"),)


@pytest.mark.parametrize(
    ("content", "format"),
    [
        (b"\xff\xfe\x00", "csv"),
        (b"one,two\n1,2\n", "csv"),
        (b"{", "json"),
        (b"[]", "json"),
        (b'{"lines": [{"name": "a", "text": "b", "speed": "fast"}]}', "json"),
        (b'{"lines": [{"name": "a", "text": "b", "speed": %s}]}' % (b"9" * 400), "json"),
        (b'{"lines": [{"name": "a", "text": "\\ud800"}]}', "json"),
        (b'{"lines": [], "voice": "\\ud800"}', "json"),
        (b'{"lines": ' + b"[" * 5_000, "json"),
        (b"x", "docx"),
    ],
)
def test_what_is_no_script_file_is_refused(content, format):
    with pytest.raises(InvalidInput) as refused:
        import_script(content, format)
    assert refused.value.code in {"script_unreadable", "script_format_unknown"}


SRT = (
    "1\r\n00:00:01,500 --> 00:00:03,000\r\n<i>Hello</i>\r\nthere.\r\n\r\n"
    "2\n00:01:00,000 --> 00:01:02,250\n{\\an8}你好。\n"
)


def test_subtitles_are_read_and_written():
    cues = read_subtitles(SRT)
    assert cues == (Cue(1.5, 3.0, "Hello there."), Cue(60.0, 62.25, "你好。"))
    assert read_subtitles(write_srt(cues)) == cues and read_subtitles(write_vtt(cues)) == cues
    assert write_vtt(cues).startswith("WEBVTT\n\n00:00:01.500 --> 00:00:03.000\n")
    vtt = "WEBVTT\nKind: captions\n\nNOTE a note\n\nid-1\n01.000 --> 02.000\nwrong\n"
    with pytest.raises(InvalidInput) as refused:
        read_subtitles(vtt)
    assert refused.value.measured["line"] == 7
    assert read_subtitles("WEBVTT\n\n00:01.000 --> 00:02.000 align:start\n<v Anna>Hi.")[0] == Cue(1.0, 2.0, "Hi.")


def test_cues_without_a_blank_line_between_are_still_two():
    packed = "1\n00:00:01,000 --> 00:00:02,000\nOne.\n2\n00:00:03,000 --> 00:00:04,000\nTwo of\n2\n"
    assert [cue.text for cue in read_subtitles(packed)] == ["One.", "Two of 2"]


def test_webvtt_writes_signs_of_markup_as_names():
    vtt = "WEBVTT\n\n00:01.000 --> 00:02.000\n<b>Fish &amp; chips</b>, 1 &lt; 2\n"
    cues = read_subtitles(vtt)
    assert cues[0].text == "Fish & chips, 1 < 2"
    assert "Fish &amp; chips, 1 &lt; 2" in write_vtt(cues) and read_subtitles(write_vtt(cues)) == cues
    assert read_subtitles(vtt.removeprefix("WEBVTT"))[0].text == "Fish &amp; chips, 1 &lt; 2"  # SubRip has no names


@pytest.mark.parametrize("content", ["", "hello", "1\n00:00:02,000 --> 00:00:01,000\nback\n"])
def test_what_is_no_subtitle_file_is_refused(content):
    with pytest.raises(InvalidInput):
        read_subtitles(content)


@pytest.mark.parametrize("cue", ["[1e999, NaN]", "[5, 1]", "[-1, 2]", "[0, 1e9]"])
def test_times_that_are_none_are_refused(cue):
    new = import_script(f'{{"lines": [{{"name": "a", "text": "b", "cue": {cue}}}]}}'.encode(), "json")
    with pytest.raises(InvalidInput, match="cue_invalid"):
        check_revision(new)


def test_a_line_of_several_lines_is_one_cue():
    kept = revision(Line("a", "one\n\ntwo", cue=(1.0, 2.0)))
    assert [cue.text for cue in read_subtitles(export_revision(kept, "srt"))] == ["one two"]


def test_subtitles_become_lines_with_their_times():
    new = import_script(SRT.encode(), "srt")
    assert [line.name for line in new.lines] == ["cue-0001", "cue-0002"] and new.lines[1].cue == (60.0, 62.25)
    kept = revision(*new.lines)
    assert read_subtitles(export_revision(kept, "srt")) == read_subtitles(SRT)
    with pytest.raises(InvalidInput, match="cue_missing"):
        export_revision(revision(Line("a", "b")), "vtt")


def test_the_difference_names_what_changed():
    old = revision(Line("a", "one"), Line("b", "two"), Line("c", "three"))
    new = revision(Line("c", "three"), Line("a", "uno", comment="Italian"), Line("d", "four"), number=2, voice="bea")
    found = difference(old, new)
    assert [line["name"] for line in found["added"]] == ["d"]
    assert [line["name"] for line in found["removed"]] == ["b"]
    assert found["changed"] == [
        {"line": "a", "fields": {"text": {"from": "one", "to": "uno"}, "comment": {"from": "", "to": "Italian"}}}
    ]
    assert found["settings"] == {"voice": {"from": "anna", "to": "bea"}} and found["is_reordered"]
    assert json.loads(json.dumps(found)) == found
