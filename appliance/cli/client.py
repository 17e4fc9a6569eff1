"""The daemon as seen from the command line: HTTP with the standard library, answers as JSON, refusals as errors."""

from __future__ import annotations

import http.client
import json
import secrets
import ssl
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from appliance.contracts import JsonDict
from appliance.errors import InvalidInput, Unavailable, VoicedError

RECONNECT_S = 1.0
RESTART_S = 60.0  # a daemon that is restarted is back by then; its jobs go on where they were
JOB_ENDED = ("done", "failed", "cancelled")


class Refused(VoicedError):
    """The daemon's own problem document; its sentences come from there, in the language that was asked for."""

    def __init__(self, status: int, problem: JsonDict) -> None:
        measured = problem.get("measured")
        super().__init__(
            str(problem.get("code") or f"http_{status}"), **(measured if isinstance(measured, dict) else {})
        )
        self.status = status
        self.problem = problem

    def message(self, language: str = "en") -> str:
        return str(self.problem.get("detail") or self.problem.get("title") or super().message(language))

    def remedy(self, language: str = "en") -> str:
        return str(self.problem.get("remedy") or "")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        """The body as JSON. Raises Unavailable("daemon_answer_unreadable") for anything else."""
        try:
            return json.loads(self.body or b"null")
        except ValueError as error:
            raise Unavailable("daemon_answer_unreadable", status=self.status) from error


@dataclass(frozen=True)
class Client:
    """One daemon. Every call opens its own connection: commands are short, and daemons restart between them."""

    url: str
    token: str = field(default="", repr=False)
    language: str = "en"
    timeout_s: float = 300.0  # the longest silence that is waited for
    authority: Path | None = None  # whose certificates are believed over https; None: those of the system

    def get(self, path: str, **query: Any) -> Any:
        """The JSON document at `path`."""
        return self.call("GET", path, query=query).json()

    def post(self, path: str, body: Any = None) -> Any:
        """Send a JSON document, receive one."""
        return self.call("POST", path, json.dumps(body or {}).encode(), {"Content-Type": "application/json"}).json()

    def put(self, path: str, body: Any) -> Any:
        """Send a JSON document to be kept at `path`, receive it as it is kept."""
        return self.call("PUT", path, json.dumps(body).encode(), {"Content-Type": "application/json"}).json()

    def patch(self, path: str, body: Any) -> Any:
        """Change what is at `path`, receive it as it is then."""
        return self.call("PATCH", path, json.dumps(body).encode(), {"Content-Type": "application/json"}).json()

    def delete(self, path: str) -> Any:
        """Delete what is at `path`; None when there is nothing to say."""
        return self.call("DELETE", path).json()

    def items(self, path: str, **query: Any) -> Iterator[JsonDict]:
        """Every item of a collection, page by page."""
        cursor = None
        while True:
            page = self.get(path, **query, cursor=cursor)
            yield from page["items"]
            cursor = page.get("next")
            if not cursor:
                return

    def upload(self, path: str, file: Path, fields: Mapping[str, str | None]) -> Any:
        """Send a file as multipart form data, without fields that are None. Raises InvalidInput("file_unreadable")."""
        try:
            content = file.read_bytes()
        except OSError as error:
            raise InvalidInput("file_unreadable", path=str(file), problem=error.strerror or str(error)) from error
        boundary = secrets.token_hex(16)
        body = _multipart(boundary, file.name, content, {k: v for k, v in fields.items() if v is not None})
        return self.call("POST", path, body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}).json()

    def upload_files(self, path: str, files: Sequence[tuple[str, Path]], fields: Mapping[str, str]) -> Any:
        """Send files of any size as multipart form data, piece by piece. Raises InvalidInput("file_unreadable")."""
        boundary = secrets.token_hex(16)
        try:
            heads = [(_part_head(boundary, name), file, file.stat().st_size) for name, file in files]
        except OSError as error:
            raise InvalidInput("file_unreadable", path=str(error.filename), problem=error.strerror or "") from error
        first, last = _part_fields(boundary, fields), f"--{boundary}--\r\n".encode()
        length = len(first) + sum(len(head) + size + 2 for head, _, size in heads) + len(last)

        def pieces() -> Iterator[bytes]:
            yield first
            for head, file, _ in heads:
                yield head
                with file.open("rb") as source:
                    while piece := source.read(1 << 20):
                        yield piece
                yield b"\r\n"
            yield last

        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Content-Length": str(length)}
        return self.call("POST", path, pieces(), headers).json()

    def speak(self, text: str, voice: str, **options: Any) -> Answer:
        """`POST /tts`: audio of `text`, and the headers that say which voice version spoke."""
        body = json.dumps({"text": text, "speaker": voice} | {k: v for k, v in options.items() if v is not None})
        return self.call("POST", "/tts", body.encode(), {"Content-Type": "application/json"})

    def watch_job(self, job_id: str) -> Iterator[JsonDict]:
        """The job's row after every change until it has ended; the last one yielded is the end."""
        yield from self.watch(f"/v1/jobs/{quote(job_id)}", JOB_ENDED)

    def watch(self, path: str, ended: Container[str]) -> Iterator[JsonDict]:
        """The row at `path` after every change (`PATH/events`), the last time when its state is one of `ended`."""
        while True:
            for row in self.events(f"{path}/events"):
                yield row
                if row["state"] in ended:
                    return
            row = self._get_patiently(path)  # the stream was cut: the daemon may be restarting, and the work goes on
            yield row
            if row["state"] in ended:
                return
            time.sleep(RECONNECT_S)

    def _get_patiently(self, path: str) -> JsonDict:
        """The document at `path`, from a daemon that may need RESTART_S to come back."""
        gives_up_at = time.monotonic() + RESTART_S
        while True:
            try:
                answer: JsonDict = self.get(path)
                return answer
            except Unavailable as error:
                if error.code != "daemon_unreachable" or time.monotonic() > gives_up_at:
                    raise
            time.sleep(RECONNECT_S)

    def events(self, path: str) -> Iterator[JsonDict]:
        """The JSON documents of a stream of server-sent events, until it ends or is cut."""
        with closing(self._connect()) as connection:
            try:
                connection.request("GET", self._prefix + path, headers=self._headers({"Accept": "text/event-stream"}))
                response = connection.getresponse()
                if response.status >= 400:
                    raise _refusal(Answer(response.status, {}, response.read()))
                for line in response:
                    if line.startswith(b"data:"):
                        yield json.loads(line[5:])
            except (OSError, http.client.HTTPException, ValueError):
                return

    def call(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> Answer:
        """One exchange. Raises Unavailable("daemon_unreachable") and Refused."""
        given = {key: str(value) for key, value in (query or {}).items() if value is not None}
        target = path + (f"?{urlencode(given)}" if given else "")
        with closing(self._connect()) as connection:
            try:
                connection.request(method, self._prefix + target, body, self._headers(headers or {}))
                response = connection.getresponse()
                received = {name.lower(): value for name, value in response.getheaders()}
                answer = Answer(response.status, received, response.read())
            except (OSError, http.client.HTTPException) as error:
                raise Unavailable("daemon_unreachable", url=self.url, problem=_why(error)) from error
        if answer.status >= 400:
            raise _refusal(answer)
        return answer

    def _connect(self) -> http.client.HTTPConnection:
        """A connection that is not open yet. Raises InvalidInput("daemon_url_invalid")."""
        try:
            address = urlsplit(self.url)
            scheme, host, port = address.scheme, address.hostname or "", address.port
        except ValueError as error:
            raise InvalidInput("daemon_url_invalid", url=self.url) from error
        if scheme not in {"http", "https"} or not host:
            raise InvalidInput("daemon_url_invalid", url=self.url)
        if scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=self.timeout_s)
        try:
            context = ssl.create_default_context(cafile=self.authority)
        except OSError as error:
            raise InvalidInput("file_unreadable", path=str(self.authority), problem=str(error)) from error
        return http.client.HTTPSConnection(host, port, timeout=self.timeout_s, context=context)

    @property
    def _prefix(self) -> str:
        return urlsplit(self.url).path.rstrip("/")

    def _headers(self, more: Mapping[str, str]) -> dict[str, str]:
        credential = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return {"Accept-Language": self.language, "Connection": "close", **credential, **more}


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _refusal(answer: Answer) -> Refused:
    return Refused(answer.status, _problem_of(answer))


def _problem_of(answer: Answer) -> JsonDict:
    """The problem document of a refusal, also when it comes in the OpenAI shape or is no JSON at all."""
    try:
        document = json.loads(answer.body)
    except ValueError:
        return {"detail": answer.body.decode(errors="replace")[:500] or f"HTTP {answer.status}"}
    if isinstance(document, dict) and isinstance(document.get("error"), dict):
        inner = document["error"]
        return {**inner, "detail": inner.get("message")}
    return document if isinstance(document, dict) else {"detail": str(document)}


def _multipart(boundary: str, filename: str, content: bytes, fields: Mapping[str, str]) -> bytes:
    parts = (
        _part_fields(boundary, fields),
        _part_head(boundary, filename),
        content,
        f"\r\n--{boundary}--\r\n".encode(),
    )
    return b"".join(parts)


def _part_fields(boundary: str, fields: Mapping[str, str]) -> bytes:
    return b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    )


def _part_head(boundary: str, filename: str) -> bytes:
    safe = filename.replace('"', "%22").replace("\r", "").replace("\n", "")
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{safe}"\r\n'
    return f"{head}Content-Type: application/octet-stream\r\n\r\n".encode()
