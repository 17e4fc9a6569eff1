"""The demo's report: one HTML file that needs nothing else, in English and Chinese, light and dark."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from pathlib import Path

from appliance.audio.files import read_audio, to_mono
from appliance.audio.pictures import spectrogram_png, waveform_svg
from appliance.cli.clone import examination_of, examination_rows
from appliance.contracts import Audio, JsonDict
from appliance.errors import VoicedError
from appliance.messages import LANGUAGES, text

FAINT_PEAK = 0.5  # the waveform of a quieter recording is drawn as if its peak were here
SOUND_TYPES = {".wav": "audio/wav", ".flac": "audio/flac"}
SWITCH = """
const root = document.documentElement;
document.getElementById("switch").onclick = () => {
  root.dataset.lang = root.lang = root.dataset.lang === "zh" ? "en" : "zh";
};
"""


def render_report(record: JsonDict, folder: Path, language: str) -> str:
    """The whole page. `record` is a `DemoRecord` as JSON, `folder` holds its sounds; `language` is shown first."""
    css = (resources.files("appliance") / "data" / "demo" / "report.css").read_text(encoding="utf-8")
    parts = [
        _head(record),
        _figures(record),
        _section("voice", _spoken(record, folder)),
        _section("clone", _examination(record)),
        _section("recording", _recording(record, folder)),
        _section("box", _box(record)),
        _section("time", _times(record)),
        _section("try", _commands(record)),
    ]
    return (
        f'<!doctype html>\n<html lang="{language}" data-lang="{language}">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>voiced</title><style>{css}</style></head>\n<body><main>\n{''.join(parts)}\n"
        f"</main><script>{SWITCH}</script></body></html>\n"
    )


def both(key: str, **values: object) -> str:
    """A sentence in every language; the page shows one of them. Values are escaped."""
    safe = {name: escape(value) if isinstance(value, str) else value for name, value in values.items()}
    return "".join(
        f'<span lang="{language}">{text(f"report.{key}", language, **safe)}</span>' for language in LANGUAGES
    )


def _section(name: str, body: str) -> str:
    return f"<section><h2>{both(f'{name}_title')}</h2>\n{body}</section>" if body else ""


# ---------------------------------------------------------------- head


def _head(record: JsonDict) -> str:
    machine = record["machine"]
    facts = f"{escape(record['started_at'])} · {escape(machine['cpu'])} · {both('cores', count=machine['cores'])}"
    failed = [step for step in record["steps"] if step["error"]]
    verdict = both("some_failed", count=len(failed)) if failed else both("all_done")
    return (
        f'<header><div><h1>{both("title")}</h1><p class="{"bad" if failed else "good"}">{verdict}</p>'
        f'<p class="soft">{facts}</p></div>'
        f'<button id="switch" type="button"><span lang="en">中文</span><span lang="zh">English</span></button></header>'
    )


def _figures(record: JsonDict) -> str:
    spoken = [row for row in record["spoken"] if row["name"] != "starter"]
    rows: list[tuple[str, str]] = [("figure_total", _seconds(record["total_s"]))]
    if record["first_speech_s"] is not None:
        rows.append(("figure_first", _seconds(record["first_speech_s"])))
    if spoken:
        rate = sum(row["wall_s"] for row in spoken) / sum(row["audio_s"] for row in spoken)
        rows.append(("figure_rtf", f"{rate:.2f}"))
    for row in spoken:
        rows += [(f"figure_{name}", f"{share:.0%}") for name, share in row["errors"].items()]
    items = "".join(f"<li><b>{value}</b><span>{both(key)}</span></li>" for key, value in rows)
    return f'<ul class="figures">{items}</ul>'


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 100 else f"{value // 60:.0f} min {value % 60:.0f} s"


# ---------------------------------------------------------------- sounds


def _spoken(record: JsonDict, folder: Path) -> str:
    return "".join(_sentence(row, folder) for row in record["spoken"])


def _sentence(row: JsonDict, folder: Path) -> str:
    facts = both(
        "spoken_facts", voice=row["voice"], wall=row["wall_s"], audio=row["audio_s"], rtf=row["wall_s"] / row["audio_s"]
    )
    heard = f"<p>{both('heard', heard=row['heard'])}</p>" if row["heard"] else ""
    errors = "".join(f" · {both('figure_' + name)} {share:.1%}" for name, share in row["errors"].items())
    return (
        f'<div class="card"><h3>{both("sentence_" + row["name"])}</h3><p>{escape(row["text"])}</p>'
        f'{_sound(folder / row["file"])}{heard}<p class="soft">{facts}{errors}</p></div>'
    )


def _sound(path: Path) -> str:
    """Waveform, spectrogram and player of one file."""
    content = path.read_bytes()
    try:
        decoded = read_audio(content)
    except VoicedError as error:  # shown, not hidden: the report is about what really happened
        return f'<p class="bad">{escape(str(error))}</p>'
    audio = Audio(to_mono(decoded.samples), decoded.sample_rate)
    peak = float(abs(audio.samples).max(initial=0.0))
    wave = waveform_svg(audio, gain=FAINT_PEAK / peak if 0 < peak < FAINT_PEAK else 1.0)
    picture = base64.b64encode(spectrogram_png(audio)).decode()
    source = f"data:{SOUND_TYPES[path.suffix]};base64,{base64.b64encode(content).decode()}"
    return (
        f'<div class="sound">{wave}<img alt="" src="data:image/png;base64,{picture}">'
        f'<audio controls preload="metadata" src="{source}"></audio></div>'
    )


def _recording(record: JsonDict, folder: Path) -> str:
    row = record["recording"]
    if not row:
        return ""
    measures = row["report"]["measures"]
    figures = [
        (escape(name), _number(value)) for name, value in measures.items() if isinstance(value, int | float | str)
    ]
    figures += [
        (escape(f"{name}.{part}"), _number(value))
        for name, inner in measures.items()
        if isinstance(inner, dict)
        for part, value in inner.items()
    ]
    notes = "".join(f"<p>! {escape(str(note.get('message')))}</p>" for note in row["report"].get("warnings") or [])
    label = both("label", source=row["transcript_source"], language=row["language"])
    error = record["label_error"]
    checked = "" if error is None else f'<p class="soft">{both("label_error", share=error)}</p>'
    return (
        f'<div class="card"><p class="good">{both("accepted")}</p>{notes}{_sound(folder / "audio" / "recording.flac")}'
        f"<p><b>{label}</b> {escape(row['transcript'])}</p>{checked}</div>"
        f'<div class="card scroll">{_table(("measure", "value"), figures)}</div>'
    )


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))


# ---------------------------------------------------------------- tables


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML already."""
    names = [[text(f"column.{column}", language) for language in LANGUAGES] for column in columns]
    head = "".join(f"<th>{_spans(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _spans(versions: Sequence[str]) -> str:
    """The same cell in every language; one that does not differ is written once."""
    if len(set(versions)) == 1:
        return escape(versions[0])
    return "".join(f'<span lang="{lang}">{escape(cell)}</span>' for lang, cell in zip(LANGUAGES, versions, strict=True))


def _examination(record: JsonDict) -> str:
    job = record["job"]
    if not job:
        return ""
    if job.get("error"):
        return f'<div class="card bad">{escape(str(job["error"].get("message") or job["error"].get("code")))}</div>'
    in_each = [examination_rows(examination_of(job), language) for language in LANGUAGES]
    rows = [[_spans(cells) for cells in zip(*versions, strict=True)] for versions in zip(*in_each, strict=True)]
    table = _table(("measure", "before", "after", "better"), rows)
    passed = job["result"]["passed"]
    verdict = f'<p class="{"good" if passed else "bad"}">{both("passed" if passed else "not_passed")}</p>'
    facts = both("clone_facts", **{"steps": "–", **job["result"]["adaptation"]}, base=job["result"]["base"])
    return (
        f'<div class="card scroll">{verdict}{_reasons(job)}<p>{both("clone_says")}</p>{table}'
        f'<p class="soft">{facts}</p></div>'
    )


def _reasons(job: JsonDict) -> str:
    rows = examination_of(job).get("reasons") or []
    said = ([text(f"{row['code']}.message", language, **row["measured"]) for language in LANGUAGES] for row in rows)
    return "".join(f"<p>! {_spans(sentences)}</p>" for sentences in said)


def _box(record: JsonDict) -> str:
    system = record["system"]
    if not system:
        return ""
    seen = "".join(
        f"<li>{escape(box['name'])} <code>{escape(box['url'])}</code> {both('this_box') * box['is_this']}</li>"
        for box in record["boxes"]
    )
    speaker = system["loudspeaker"]
    played = sum(row["state"] == "done" for row in record["announcements"])
    sound = (
        both("played", count=played)
        if record["announcements"]
        else both("not_played", reason=str(speaker.get("message") or speaker.get("state")))
    )
    return f'<div class="card"><p>{both("on_lan")}</p><ul>{seen or both("none_seen")}</ul><p>{sound}</p></div>'


def _times(record: JsonDict) -> str:
    longest = max((step["wall_s"] for step in record["steps"]), default=0) or 1
    rows = []
    for step in record["steps"]:
        error = step["error"]
        note = f'<br><span class="bad">{escape(error["message"])}</span> {escape(error["remedy"])}' if error else ""
        bar = f'<div class="bar" style="width:{100 * step["wall_s"] / longest:.1f}%"></div>'
        rows.append((both(f"step_{step['name']}") + note, _seconds(step["wall_s"]), bar))
    body = "".join(
        f'<tr><td>{name}</td><td class="number">{wall}</td><td style="width:40%">{bar}</td></tr>'
        for name, wall, bar in rows
    )
    return f'<div class="card scroll"><table><tbody>{body}</tbody></table></div>'


def _commands(record: JsonDict) -> str:
    url = record["url"]
    if not url:
        return ""
    voice = next((row["voice"].split("@")[0] for row in record["spoken"] if row["name"] != "starter"), "")
    lines = (
        f"curl -o hello.wav '{url}/tts?speaker={voice}&text=Hello'",
        f'voiced say "各位顾客请注意" --voice {voice}',
        'voiced clone anna clip.wav --consent "…"',
        f"{url}/        {url}/docs",
    )
    return f'<div class="card"><p>{both("try_says")}</p><pre>{escape(chr(10).join(lines))}</pre></div>'
