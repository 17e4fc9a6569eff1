"""The channel `folder`: files for players, telephone systems and everything else that reads a directory.

    FOLDER/releases/SCRIPT-7/…   all lines of publication 7 and manifest.json
    FOLDER/SCRIPT -> releases/SCRIPT-7

Readers go through the link, which is moved in one step; older releases stay until three newer ones are there.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path, PurePosixPath

from appliance.audio.files import read_audio, to_mono
from appliance.audio.tags import read_tags
from appliance.contracts import Channel, ChannelHost, DeliveredLine, Delivery, JsonDict, StagedDelivery
from appliance.disk import flush_folder, free_mb
from appliance.errors import Forbidden, InvalidInput, StorageFull
from appliance.publishing.prompts import FORMATS, encode_prompt
from appliance.publishing.provenance import Provenance

RELEASES = "releases"
MANIFEST = "manifest.json"
KEPT = 3
LONGEST_LINE_S = 3_600.0
_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


class FolderChannel(Channel):
    """Settings: `path` (a name below the box's own export folder, or an absolute path below a folder that
    `publishing.folders` allows), `formats` (see `prompts.FORMATS`) and `provenance` (whether files are signed; default:
    as the site says).
    """

    kind = "folder"

    def check(self, settings: JsonDict, host: ChannelHost) -> JsonDict:
        """Raises InvalidInput("channel_settings_invalid"), Forbidden("channel_folder_not_allowed")."""
        formats = settings.get("formats", ["wav"])
        unknown = [str(one)[:20] for one in formats if one not in FORMATS] if isinstance(formats, list) else ["?"]
        if unknown or not formats:
            problem = f"formats: {', '.join(unknown) or 'none'}; known are {', '.join(FORMATS)}"
            raise InvalidInput("channel_settings_invalid", kind=self.kind, problem=problem)
        path, wanted = str(settings.get("path", "")), settings.get("provenance")
        _folder(path, host)
        if wanted not in (None, True, False):
            raise InvalidInput("channel_settings_invalid", kind=self.kind, problem="provenance: true or false")
        signing = {} if wanted is None else {"provenance": bool(wanted)}
        return {"path": path, "formats": list(dict.fromkeys(formats)), **signing}

    def prepare(self, delivery: Delivery, settings: JsonDict, host: ChannelHost) -> StagedDelivery:
        """Write a new release beside the present one. Raises VoicedError."""
        folder = _folder(str(settings["path"]), host)
        if delivery.script == RELEASES:
            problem = f"a script called {RELEASES} cannot lie in a folder"
            raise InvalidInput("channel_settings_invalid", kind=self.kind, problem=problem)
        release = folder / RELEASES / f"{delivery.script}-{delivery.number}"
        try:
            is_signed = settings.get("provenance", host.signs_all)
            _write_release(release, delivery, settings["formats"], Provenance(host.sign if is_signed else None))
        except OSError as error:
            raise StorageFull("storage_full", path=str(folder), free_mb=free_mb(folder)) from error
        return _StagedRelease(folder / delivery.script, release)


class _StagedRelease(StagedDelivery):
    def __init__(self, link: Path, release: Path) -> None:
        self._link = link
        self._release = release
        self._before = _target(link)

    def commit(self) -> None:
        try:
            _point(self._link, self._release.name)
            _sweep(self._release)
        except OSError as error:
            raise StorageFull("storage_full", path=str(self._link), free_mb=free_mb(self._link.parent)) from error

    def revert(self) -> None:
        if _target(self._link) == self._release.name:
            if self._before is None:
                self._link.unlink(missing_ok=True)
            elif self._before != self._release.name:
                _point(self._link, self._before)
        if self._before != self._release.name:
            shutil.rmtree(self._release, ignore_errors=True)


def manifest_of(delivery: Delivery, files: dict[str, list[str]]) -> JsonDict:
    """What a release says of itself; `files` are the paths of each line."""
    return {**delivery.told(), "lines": [{**line.told(), "files": files[line.name]} for line in delivery.lines]}


def line_files(line: DeliveredLine, formats: list[str], provenance: Provenance) -> dict[PurePosixPath, bytes]:
    """The files of one line. Raises Unavailable("codec_missing"), Corrupt."""
    content = line.path.read_bytes()
    decoded, tags = read_audio(content, max_duration_s=LONGEST_LINE_S), read_tags(content)
    samples = to_mono(decoded.samples)
    files: dict[PurePosixPath, bytes] = {}
    for format in formats:
        files |= encode_prompt(samples, decoded.sample_rate, format, line.name, tags)
    return {path: provenance.put(path, encoded, line) for path, encoded in files.items()}


def _write_release(release: Path, delivery: Delivery, formats: list[str], provenance: Provenance) -> None:
    """A whole folder appears at once: half of one is never taken for a release."""
    if _is_written(release, delivery):
        return
    building = release.with_name(f".{release.name}")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    names: dict[str, list[str]] = {}
    for line in delivery.lines:
        names[line.name] = []
        for path, content in line_files(line, formats, provenance).items():
            target = building / path
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(content)
            names[line.name].append(str(path))
    manifest = json.dumps(manifest_of(delivery, names) | provenance.told(), ensure_ascii=False, indent=1)
    (building / MANIFEST).write_text(manifest, encoding="utf-8")
    flush_folder(building)
    shutil.rmtree(release, ignore_errors=True)
    building.replace(release)


def _is_written(release: Path, delivery: Delivery) -> bool:
    """Whether the release holds these very lines: a box that is set up anew counts its publications from 1 again."""
    try:
        manifest = json.loads((release / MANIFEST).read_bytes())
        there = [(line["name"], line["rendition"]) for line in manifest["lines"]]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return there == [(line.name, line.rendition) for line in delivery.lines]


def _folder(path: str, host: ChannelHost) -> Path:
    """Where a channel's files lie. Raises InvalidInput, Forbidden."""
    if _FOLDER_NAME.fullmatch(path):
        return host.exports / path
    wanted = Path(path)
    try:
        resolved = wanted.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, NUL, half a character
        raise InvalidInput("channel_settings_invalid", kind="folder", problem=f"path: {str(error)!a}") from error
    if not path or not wanted.is_absolute():
        raise InvalidInput("channel_settings_invalid", kind="folder", problem="path: a plain name or an absolute path")
    if not any(resolved.is_relative_to(allowed.resolve()) for allowed in host.folders):
        allowed = ", ".join(str(folder) for folder in host.folders) or "–"
        raise Forbidden("channel_folder_not_allowed", path=path[:200], allowed=allowed)
    return resolved


def _target(link: Path) -> str | None:
    return link.readlink().name if link.is_symlink() else None


def _point(link: Path, release: str) -> None:
    """Move the link in one step."""
    temporary = link.with_name(f".{link.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(Path(RELEASES) / release)
    temporary.replace(link)
    flush_folder(link.parent)


def _sweep(release: Path) -> None:
    """Old releases of the same script go once `KEPT` newer ones are there; what others lay there stays."""
    script, _, number = release.name.rpartition("-")
    for path in release.parent.glob(f"{script}-*"):
        name, _, older = path.name.rpartition("-")
        if name == script and re.fullmatch(r"[0-9]+", older) and int(older) <= int(number) - KEPT:
            shutil.rmtree(path, ignore_errors=True)
