"""`voiced dub`: subtitles in, a narration track out; into a video as well, where PyAV is installed."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.cli.files import save
from appliance.contracts import JsonDict
from appliance.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal

POLL_S = 0.5


def configure(name: str, command: argparse.ArgumentParser) -> None:
    from appliance.cli import add_common

    command.add_argument("subtitles", type=Path, help="an SRT or WebVTT file")
    command.add_argument("--voice", default="", help="voice id or `anna@3` (default: the box's)")
    command.add_argument("--language", default="auto")
    command.add_argument("--max-speed", type=float, default=1.3, help="fastest that a cue may be spoken (1 to 1.6)")
    command.add_argument("--file", type=Path, required=True, help="the track: .wav or .flac")
    command.add_argument("--cues", type=Path, metavar="DIR", help="also every cue as a FLAC file")
    command.add_argument("--video", type=Path, help="put the track into this video …")
    command.add_argument("--mux", type=Path, metavar="OUT", help="… and write it here (.mkv, .mp4, .mov)")
    add_common(command)
    command.set_defaults(command=dub)


def dub(terminal: Terminal) -> int:
    """Exit status 1 when it failed; cues that do not fit are told and do not fail it."""
    given = terminal.arguments
    format = given.file.suffix.lstrip(".").lower()
    if format not in ("wav", "flac"):
        raise InvalidInput("format_unknown", format=format, known="wav, flac")
    if (given.video is None) != (given.mux is None):
        raise InvalidInput("dub_video_half")
    fields = {"voice": given.voice, "language": given.language, "max_speed": str(given.max_speed), "format": format}
    row = terminal.client.upload("/v1/dubbings", given.subtitles, {**fields, "filename": given.subtitles.name})
    row = _follow(terminal, row)
    if row["state"] == "failed":
        if terminal.as_json:
            terminal.document(row)
        terminal.tell("cli.dub_failed", reason=row["error"]["message"])
        return 1
    path = f"/v1/dubbings/{row['id']}"
    save(given.file, terminal.client.call("GET", f"{path}/track").body)
    if given.cues is not None:
        _save_cues(terminal, path, len(row["cues"]), given.cues)
    if given.video is not None:
        mux(given.video, given.file, given.mux)
    if terminal.as_json:
        terminal.document(row)
        return 0
    _tell(terminal, row)
    return 0


def _follow(terminal: Terminal, row: JsonDict) -> JsonDict:
    with terminal.progress() as show:
        while row["state"] == "running":
            show(terminal.sentence("cli.dub_running"), row["spoken"] / max(1, row["to_speak"]))
            time.sleep(POLL_S)
            row = terminal.client.get(f"/v1/dubbings/{row['id']}")
    return row


def _save_cues(terminal: Terminal, path: str, count: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        content = terminal.client.call("GET", f"{path}/cues/{number}/audio").body
        save(folder / f"cue-{number:04d}.flac", content)


def _tell(terminal: Terminal, row: JsonDict) -> None:
    odd = [cue for cue in row["cues"] if cue["state"] in ("overruns", "cut")]
    columns = ("start", "end", "speed", "duration_s", "state", "cut_s", "text")
    if odd:
        terminal.table(columns, [[cue[column] for column in columns] for cue in odd])
    terminal.tell("cli.dub_done", cues=len(row["cues"]), odd=len(odd), file=str(terminal.arguments.file))


def mux(video: Path, track: Path, target: Path) -> None:
    """`video` with the narration as its first sound track; pictures are copied as they are.

    Raises Unavailable("codec_missing") without PyAV, InvalidInput("video_unreadable").
    """
    try:
        import av
    except ImportError as error:
        raise Unavailable("codec_missing", format="video") from error
    try:
        with av.open(str(video)) as pictures, av.open(str(track)) as sound, av.open(str(target), "w") as out:
            source = pictures.streams.video[0]
            copied = out.add_stream_from_template(source)
            spoken = out.add_stream("aac", rate=48_000)
            for packet in pictures.demux(source):
                if packet.dts is not None:
                    packet.stream = copied
                    out.mux(packet)
            resampler = av.AudioResampler(format="fltp", layout="mono", rate=48_000)
            for frame in sound.decode(audio=0):
                for part in resampler.resample(frame):
                    out.mux(spoken.encode(part))
            out.mux(spoken.encode(None))
    except (av.FFmpegError, IndexError, OSError) as error:
        raise InvalidInput("video_unreadable", path=str(video), problem=str(error)) from error
