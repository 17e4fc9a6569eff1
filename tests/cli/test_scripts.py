"""`voiced script`, `channels`, `peers` and `dub` against a real daemon."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import soundfile

from appliance.cli.dub import mux


def test_a_script_is_written_published_changed_and_rolled_back(box, tmp_path):
    edit = ("script", "edit", "closing", "--json")
    first = box(
        *edit, "--line", "soon", "--text", "We close at {time}.", "--set", "time=nine,ten", "--voice", "sine-440"
    )
    assert first.code == 0, first.err
    assert first.document["lines"][0]["voice"] == "sine-440"
    bye = ("--line", "bye", "--text", "Good bye.", "--voice", "sine-440")
    assert box(*edit, *bye, "--comment", "politer").document["number"] == 2
    plan = box("script", "plan", "closing", "--json").document
    assert (len(plan["lines"]), plan["to_render"]) == (3, 3)
    published = box("script", "publish", "closing", "--json")
    assert published.code == 0 and published.document["state"] == "published"
    assert box("script", "edit", "closing", "--remove", "bye").code == 0
    assert "Publication 2" in box("script", "publish", "closing").err
    back = box("script", "rollback", "closing", "--json").document
    assert [line["name"] for line in back["lines"]] == ["soon-nine", "soon-ten", "bye"]
    told = box("script", "history", "closing")
    assert told.code == 0 and "politer" in told.out and "rollback" in told.out
    assert "bye" in box("script", "diff", "closing", "1", "2").out
    assert "closing" in box("script").out
    nowhere = box("script", "export", "closing", "--file", str(tmp_path / "no" / "folder.csv"))
    assert nowhere.code == 1 and "[file_not_writable]" in nowhere.err
    given_up = box("script", "edit", "closing", EDITOR="false")
    assert given_up.code == 1 and "[editor_failed]" in given_up.err
    target = tmp_path / "closing.zip"
    assert box("script", "archive", "closing", "--format", "ulaw", "--file", str(target)).code == 0
    assert "bye.ulaw" in zipfile.ZipFile(target).namelist()


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_a_script_travels_as_a_file(box, tmp_path, suffix):
    name = f"file-{suffix}"
    assert box("script", "edit", name, "--line", "a", "--text", "One.").code == 0
    target = tmp_path / f"lines.{suffix}"
    assert box("script", "export", name, "--file", str(target)).code == 0
    target.write_text(target.read_text().replace("One.", "二。"))
    saved = box("script", "import", name, str(target), "--json")
    assert saved.document["number"] == 2 and saved.document["lines"][0]["text"] == "二。"
    wrong = box("script", "import", name, str(tmp_path / "lines.docx"), "--json")
    assert wrong.code == 1 and wrong.document["error"]["code"] in {"script_format_unknown", "file_unreadable"}


def test_a_missing_variable_is_told_in_both_languages(box):
    for language, words in (("en", "no value"), ("zh", "没有取值")):
        refused = box("script", "edit", "vars", "--line", "a", "--text", "At {time}.", "--lang", language)
        assert refused.code == 1 and words in refused.err and "[variable_missing]" in refused.err


def test_channels_and_invitations_are_shown(box):
    made = box("channels", "set", "pbx", "folder", "path=prompts", "formats=ulaw,wav", "--script", "ivr", "--json")
    assert made.document["settings"] == {"path": "prompts", "formats": ["ulaw", "wav"]}
    assert "pbx" in box("channels").out
    assert box("channels", "remove", "pbx").code == 0
    assert box("channels", "set", "x", "folder", "path=/etc").code == 1
    code = box("peers", "invite", "--json").document["code"]
    assert len(code) == 11 and code[5] == "-"
    assert box("peers", "list", "--json").document["items"] == []
    assert box("peers", "pair", "http://127.0.0.1:9", code).code == 1


def test_subtitles_become_a_track_and_go_into_a_video(box, tmp_path):
    subtitles = tmp_path / "film.srt"
    subtitles.write_text("1\n00:00:00,500 --> 00:00:02,000\nHello.\n\n2\n00:00:03,000 --> 00:00:05,000\nGood bye.\n")
    track, cues = tmp_path / "film.wav", tmp_path / "cues"
    order = ("dub", str(subtitles), "--voice", "sine-440", "--file", str(track), "--cues", str(cues), "--json")
    told = box(*order)
    assert told.code == 0 and told.document["counts"]["fits"] == 2, told.err
    samples, rate = soundfile.read(track)
    assert len(samples) / rate > 3 and len(list(cues.glob("*.flac"))) == 2
    av = pytest.importorskip("av")
    film, target = tmp_path / "film.mkv", tmp_path / "dubbed.mkv"
    _film(av, film)
    mux(film, track, target)
    with av.open(str(target)) as result:
        assert len(result.streams.video) == 1 and len(result.streams.audio) == 1
        assert sum(1 for _ in result.decode(video=0)) == 50
    refused = box(*order[:-1], "--video", str(subtitles), "--mux", str(target), "--json")
    assert refused.code == 1 and json.loads(refused.out)["error"]["code"] == "video_unreadable"


def _film(av, path: Path) -> None:
    import numpy as np

    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(50):
            picture = np.full((64, 64, 3), 5 * number, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))
