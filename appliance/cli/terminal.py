"""What a command is handed: its arguments, the settings, the daemon, and two ways to speak to whoever called it."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from appliance.cli.client import Client, Refused
from appliance.contracts import JsonDict
from appliance.environment import terminal_language
from appliance.errors import VoicedError
from appliance.messages import LANGUAGES, preferred_language, text
from appliance.settings import Settings, load_settings

PIPE_WIDTH = 2_000  # characters; one row of a table is one line for grep and awk


class Terminal:
    """One invocation of `voiced`: sentences go to stderr, tables to stdout; with --json one document to stdout."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.as_json: bool = getattr(arguments, "json", False)
        self.out = _console(is_error=False)
        self.err = _console(is_error=True)

    # ------------------------------------------------------------ settings and daemon

    @cached_property
    def settings(self) -> Settings:
        """All layers, with --state-dir, --host and --port on top. Raises InvalidInput, NotFound."""
        given = vars(self.arguments)
        overrides: dict[str, Any] = {}
        if given.get("state_dir"):
            overrides["state_dir"] = Path(given["state_dir"])
        http = {key: given[key] for key in ("host", "port") if given.get(key) is not None}
        if http:
            overrides["http"] = http
        return load_settings(given.get("profile"), overrides)

    @cached_property
    def language(self) -> str:
        """--lang, else a language that was set, else what the terminal speaks."""
        if self.arguments.lang in LANGUAGES:
            return str(self.arguments.lang)
        try:
            settings = self.settings
        except VoicedError:
            return preferred_language(terminal_language())
        chosen = settings.language if "language" in settings.model_fields_set else None
        return preferred_language(chosen, terminal_language())

    @cached_property
    def client(self) -> Client:
        """The daemon that was named by --url or --state-dir, else the one of the settings."""
        found = _running_daemon(self.settings.state_dir)
        url = self.arguments.url or found or _url_of(self.settings)
        return Client(
            url.rstrip("/"), self._token_for(url, found), self.language, authority=self._authority_for(url, found)
        )

    @property
    def works_alone(self) -> bool:
        """Whether --state-dir names a box whose daemon is not running: the command then works on it by itself."""
        given = self.arguments
        return bool(given.state_dir) and not given.url and _running_daemon(self.settings.state_dir) is None

    def _authority_for(self, url: str, found: str | None) -> Path | None:
        """Whom to believe over https: --ca, for this box its own authority, else those of the system."""
        if getattr(self.arguments, "ca", None):
            return Path(self.arguments.ca)
        own = self.settings.state_dir / "keys" / "tls-ca.pem"
        return own if own.is_file() and (url == found or _is_loopback(url)) else None

    def _token_for(self, url: str, found: str | None) -> str:
        if self.arguments.token:
            return str(self.arguments.token)
        if self.settings.admin_token is not None:
            return self.settings.admin_token.get_secret_value()
        if url != found and not _is_loopback(url):
            return ""  # the token of this box is not for another one
        return _read_text(self.settings.state_dir / "admin.token")

    # ------------------------------------------------------------ speaking

    def sentence(self, key: str, **values: Any) -> str:
        """The catalogue's sentence in the caller's language."""
        return text(key, self.language, **values)

    def tell(self, key: str, **values: Any) -> None:
        """A sentence for a person, on stderr; silent with --json."""
        if not self.as_json:
            self.err.print(escape(self.sentence(key, **values)))

    def document(self, data: Any) -> None:
        """The one document of --json."""
        print(json.dumps(data, ensure_ascii=False, indent=2, default=str))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
        """A table on stdout; `columns` are the ends of the catalogue's `column.` keys."""
        table = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
        for column in columns:
            table.add_column(self.sentence(f"column.{column}"), overflow="fold", no_wrap=column == "id")
        for row in rows:
            table.add_row(*("–" if cell is None or cell == "" else escape(str(cell)) for cell in row))
        self.out.print(table)

    @contextmanager
    def progress(self) -> Iterator[Callable[[str, float], None]]:
        """A bar on stderr while something is followed: call it with a sentence and the done share; none with --json."""
        bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), console=self.err
        )
        bar.disable = self.as_json or not self.err.is_terminal
        with bar:
            task = bar.add_task("", total=1.0)
            yield lambda words, share: bar.update(task, description=words, completed=share)

    def fail(self, error: VoicedError, *, is_document: bool = True) -> None:
        """An error with code, what was measured and the remedy: on stderr, and with --json as the document too."""
        problem = as_problem(error, self.language)
        if self.as_json and is_document:
            self.document({"error": problem})
        self.err.print(f"[bold red]{escape(problem['message'])}[/] [dim]\\[{escape(problem['code'])}][/]")
        figures = ", ".join(f"{name} = {_shown(value)}" for name, value in problem["measured"].items())
        if figures:
            self.err.print(f"  {escape(self.sentence('cli.measured', figures=figures))}", style="dim")
        if problem["remedy"]:
            self.err.print(f"  → {escape(problem['remedy'])}")
        for mark, name in (("[red]✗[/]", "reasons"), ("[yellow]![/]", "warnings")):
            for row in problem.get(name, ()):
                self.remark(mark, row)

    def remark(self, mark: str, row: JsonDict) -> None:
        """One reason or warning of a verdict, with its remedy, on stderr; `mark` is rich markup."""
        self.err.print(f"  {mark} {escape(str(row.get('message') or row.get('code')))}")
        if row.get("remedy"):
            self.err.print(f"    → {escape(str(row['remedy']))}")


def _console(is_error: bool) -> Console:
    """Wrapped at the width of a terminal; into a file or a pipe every sentence is one line."""
    console = Console(stderr=is_error, highlight=False)
    console.soft_wrap = not console.is_terminal
    if console.soft_wrap:
        console.width = PIPE_WIDTH  # for tables, which do not know soft wrapping
    return console


def _shown(value: object) -> str:
    """What was measured, for people."""
    if isinstance(value, dict):
        return " ".join(f"{key}={_shown(part)}" for key, part in value.items())
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def as_problem(error: VoicedError, language: str) -> JsonDict:
    """An error as `{"code", "message", "measured", "remedy"}`; a refused recording has "reasons" and "warnings" too."""
    problem = error.problem if isinstance(error, Refused) else {}
    return {
        "code": error.code,
        "message": error.message(language),
        "measured": error.measured,
        "remedy": error.remedy(language),
        **{name: problem[name] for name in ("reasons", "warnings") if problem.get(name)},
    }


def _running_daemon(state_dir: Path) -> str | None:
    """The address that a daemon left in its state directory; one that was killed left it too, and does not count."""
    try:
        left = json.loads((state_dir / "daemon.json").read_text(encoding="utf-8"))
        os.kill(int(left["pid"]), 0)
        return str(left["url"])
    except PermissionError:  # it lives, under another user
        return str(left["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _url_of(settings: Settings) -> str:
    host = settings.http.host
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104 (a comparison)
    return (
        f"http://[{reachable}]:{settings.http.port}" if ":" in reachable else f"http://{reachable}:{settings.http.port}"
    )


def _is_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
