"""`voiced demo`: the whole loop, unasked: record → check → label → clone → examine → speak → announce.

What happened is kept as a `DemoRecord` (`demo.json`), the sounds as files, and both become one HTML report.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.cli import add_common
from appliance.cli.client import Client
from appliance.cli.clone import examination_of, record_consent, upload
from appliance.cli.daemon_child import DaemonChild, free_port
from appliance.cli.find import browse
from appliance.cli.jobs import follow
from appliance.cli.machine import describe_machine
from appliance.cli.speech import default_voice
from appliance.contracts import JsonDict
from appliance.errors import Conflict, Unavailable, VoicedError

if TYPE_CHECKING:
    from appliance.cli.terminal import Terminal

VOICE = "demo-reader"
SENTENCES = {  # name -> (language, text)
    "zh": ("zh", "欢迎光临，本店今天营业到晚上九点。请保管好随身物品，祝您购物愉快。"),
    "en": ("en", "Welcome to our store. We are open until nine o'clock this evening."),
    "mixed": ("auto", "各位顾客，请到二楼的 service center 办理会员卡，谢谢。"),
}
READY_TIMEOUT_S = 300.0  # the first start prepares graphs
PLAY_TIMEOUT_S = 60.0
BROWSE_S = 4.0


@dataclass
class Step:
    """One thing the demo did; `error` holds the problem when it failed."""

    name: str
    wall_s: float = 0.0
    error: JsonDict | None = None


@dataclass
class Spoken:
    """One sentence, the file it became, and what the recogniser of the box heard in it."""

    name: str
    text: str
    language: str
    voice: str  # version that spoke, e.g. demo-reader@1
    file: str  # below the output folder
    wall_s: float
    audio_s: float
    heard: str = ""
    errors: JsonDict = field(default_factory=dict)  # measure -> share, 0 is perfect


@dataclass
class DemoRecord:
    """Everything the report says."""

    started_at: str
    machine: JsonDict
    steps: list[Step] = field(default_factory=list)
    first_speech_s: float | None = None  # since the command was given
    recording: JsonDict = field(default_factory=dict)
    true_transcript: str = ""
    label_error: float | None = None  # share of its words that the recogniser wrote down otherwise
    job: JsonDict = field(default_factory=dict)
    spoken: list[Spoken] = field(default_factory=list)
    boxes: list[JsonDict] = field(default_factory=list)
    announcements: list[JsonDict] = field(default_factory=list)
    system: JsonDict = field(default_factory=dict)
    url: str = ""
    total_s: float = 0.0

    @property
    def has_failed(self) -> bool:
        return any(step.error for step in self.steps)


def configure(name: str, command: argparse.ArgumentParser) -> None:
    add_common(command)
    command.add_argument(
        "--once", action="store_true", help="stop the daemon afterwards and exit 0, or 1 when a step failed"
    )
    command.add_argument(
        "--out", default="demo-out", metavar="DIR", help="where sounds and report go (default demo-out)"
    )
    command.add_argument("--steps", type=int, help="how long to train (default: clone.steps)")
    command.add_argument(
        "--port", type=int, default=8790, help="port of the daemon (default 8790, a free one when taken)"
    )
    command.set_defaults(command=demo)


def demo(terminal: Terminal) -> int:
    """Run the loop, write the report, and serve until Ctrl-C (or exit, with --once)."""
    given = terminal.arguments
    began = time.monotonic()
    out = Path(given.out)
    (out / "audio").mkdir(parents=True, exist_ok=True)
    if not given.state_dir:
        given.state_dir = str(out / "state")
    with DaemonChild(Path(given.state_dir), free_port(given.port), out / "daemon.log") as daemon:
        run = _Demo(terminal, daemon, out, began)
        run.run()
        report = run.write_report()
        if terminal.as_json:
            terminal.document(asdict(run.record) | {"report": str(report)})
        terminal.tell("demo.finished", seconds=round(run.record.total_s), report=report.resolve(), folder=out)
        if not given.once and run.record.url:
            terminal.tell("demo.serving", url=run.record.url)
            try:
                daemon.wait()
            except KeyboardInterrupt:
                terminal.tell("demo.stopping")
    return 1 if run.record.has_failed else 0


class _Demo:
    """The steps, in order. Each one is timed and may fail on its own; those that need it are then left out."""

    def __init__(self, terminal: Terminal, daemon: DaemonChild, out: Path, began: float) -> None:
        self._terminal = terminal
        self._daemon = daemon
        self._out = out
        self._began = began
        self.record = DemoRecord(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), describe_machine())

    @property
    def _client(self) -> Client:
        return self._terminal.client

    @property
    def _cloned(self) -> str:
        """The new version by its number: it is heard in the report also when its examination did not promote it."""
        return str(self.record.job["result"]["spec"])

    def run(self) -> None:
        """All steps; never raises a VoicedError (the record holds it)."""
        try:
            with self._step("start"):
                self.record.url = self._daemon.wait_ready(READY_TIMEOUT_S)
            with self._step("first_speech"):
                self._speak_first()
            with self._step("check"):
                recording = self._add_recording()
            with self._step("clone"):
                self._clone(recording)
            self._attempt("examine", self._require_passed)
            self._attempt("speak", self._speak_all)
        except VoicedError:
            pass  # recorded by the step that raised it
        if self.record.url:
            self._attempt("discover", self._discover)
            self._attempt("announce", self._announce)
            if self.record.spoken:
                self._attempt("judge", self._judge)
        self.record.total_s = time.monotonic() - self._began

    def _attempt(self, name: str, work: Any) -> None:
        try:
            with self._step(name):
                work()
        except VoicedError:
            pass  # recorded by the step; what follows does not need it

    @contextmanager
    def _step(self, name: str) -> Iterator[Step]:
        """Time one step, tell the person watching, and keep its error."""
        terminal, step = self._terminal, Step(name)
        self.record.steps.append(step)
        terminal.tell(f"demo.{name}")
        began = time.monotonic()
        try:
            yield step
        except VoicedError as error:
            from appliance.cli.terminal import as_problem

            step.error = as_problem(error, terminal.language)
            terminal.fail(error, is_document=False)
            raise
        finally:
            step.wall_s = time.monotonic() - began
        if not terminal.as_json:
            terminal.err.print(f"  [green]✓[/] [dim]{step.wall_s:.1f} s[/]")

    # ------------------------------------------------------------ the loop

    def _speak_first(self) -> None:
        voice = default_voice(self._client)
        self._speak("starter", "en", SENTENCES["en"][1], voice)
        self.record.first_speech_s = time.monotonic() - self._began
        self._terminal.tell("demo.first_sound", seconds=round(self.record.first_speech_s, 1))

    def _add_recording(self) -> JsonDict:
        folder = resources.files("appliance") / "data" / "demo"
        self.record.true_transcript = (folder / "two_cities.txt").read_text(encoding="utf-8").strip()
        with resources.as_file(folder / "two_cities.flac") as clip:
            (self._out / "audio" / "recording.flac").write_bytes(clip.read_bytes())
            self.record.recording = upload(self._client, clip, None, speaker="two-cities reader")
        return self.record.recording

    def _clone(self, recording: JsonDict) -> None:
        record_consent(
            self._client, VOICE, "two-cities reader", self._terminal.sentence("demo.consent"), recording["id"]
        )
        order = {
            "kind": "clone",
            "voice": VOICE,
            "recordings": [recording["id"]],
            "language": "en",
            "title": "Demo reader",
        }
        if self._terminal.arguments.steps:
            order["steps"] = self._terminal.arguments.steps
        self.record.job = follow(self._terminal, self._client.post("/v1/jobs", order)["id"])
        if self.record.job["state"] != "done":
            error = self.record.job.get("error") or {}
            raise Unavailable(
                "demo_clone_failed",
                log=str(self._out / "daemon.log"),
                state=self.record.job["state"],
                problem=error.get("message") or error.get("code") or "–",
            )

    def _require_passed(self) -> None:
        """The examination is part of the job; a clone that did not pass is heard all the same, by its number."""
        result = self.record.job["result"]
        if not result["passed"]:
            reasons = [reason["message"] for reason in examination_of(self.record.job).get("reasons") or []]
            raise Conflict("demo_exam_not_passed", verdict=result["verdict"], reasons=" ".join(reasons) or "–")

    def _speak_all(self) -> None:
        for name, (language, text) in SENTENCES.items():
            self._speak(name, language, text, self._cloned)

    def _speak(self, name: str, language: str, text: str, voice: str) -> None:
        from appliance.audio.files import read_audio

        began = time.monotonic()
        answer = self._client.speak(text, voice, lang=language, format="wav", seed=1)
        wall_s = time.monotonic() - began
        file = f"audio/{name}.wav"
        (self._out / file).write_bytes(answer.body)
        version = answer.headers.get("x-voice-version", voice)
        audio_s = read_audio(self._out / file).duration_s
        self.record.spoken.append(Spoken(name, text, language, version, file, wall_s, audio_s))

    def _discover(self) -> None:
        self.record.system = self._client.get("/v1/system")
        uuid = self.record.system["box"]["uuid"]
        self.record.boxes = [box | {"is_this": box["uuid"] == uuid} for box in browse(BROWSE_S)]
        if not any(box["is_this"] for box in self.record.boxes):
            raise Unavailable("demo_not_on_lan", seconds=BROWSE_S)

    def _announce(self) -> None:
        """Aloud when the box has a loudspeaker; without one that is said, and nothing is wrong."""
        loudspeaker = self._client.get("/v1/system")["loudspeaker"]
        self.record.system["loudspeaker"] = loudspeaker
        if loudspeaker.get("state") != "open":
            self._terminal.tell("demo.silent", reason=loudspeaker.get("message") or loudspeaker.get("state"))
            return
        voice = self._cloned if self.record.job.get("state") == "done" else default_voice(self._client)
        orders = [
            self._client.post("/v1/announcements", {"text": text, "voice": voice, "language": language})
            for language, text in SENTENCES.values()
        ]
        self.record.announcements = [self._until_over(order["id"]) for order in orders]

    def _until_over(self, announcement_id: str) -> JsonDict:
        until = time.monotonic() + PLAY_TIMEOUT_S
        while True:
            row: JsonDict = self._client.get(f"/v1/announcements/{announcement_id}")
            if row["state"] in {"done", "failed", "cancelled", "expired"} or time.monotonic() > until:
                return row
            threading.Event().wait(0.3)

    def _judge(self) -> None:
        """Let the recogniser of the box write down every sentence, and count what it misheard."""
        from appliance.cli.judging import judge

        judge(self._terminal.settings, self.record, self._out)

    # ------------------------------------------------------------ the end

    def write_report(self) -> Path:
        """`demo.json` and `report.html` in the output folder; the path of the latter."""
        from appliance.cli.report import render_report

        (self._out / "demo.json").write_text(
            json.dumps(asdict(self.record), ensure_ascii=False, indent=2), encoding="utf-8"
        )
        report = self._out / "report.html"
        report.write_text(render_report(asdict(self.record), self._out, self._terminal.language), encoding="utf-8")
        return report
