"""The cache of compiled plans: one folder per card, TensorRT version and graph, with the digest of every file in it.

A plan fits one kind of card and one version only, and TensorRT runs a foreign or damaged one with any result; so the
folder's name says what it is for, and a folder whose files are not those that were written is emptied and built anew.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

FOLDER = "tensorrt"
LIST = "digests.json"


def plan_folder(cache_dir: Path, card: str, version: str, graph_sha256: str) -> Path:
    """Where the plans of one graph for one card and version lie; changes whenever one of them does."""
    key = hashlib.sha256("\n".join((card, version, graph_sha256)).encode()).hexdigest()[:16]
    return cache_dir / FOLDER / f"{re.sub(r'[^A-Za-z0-9]+', '-', card).strip('-')}-{key}"


def prepare(folder: Path) -> str:
    """Make `folder` ready to be used; returns why what lay there was thrown away, "" if it was not."""
    reason = _problem(folder)
    if reason:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return reason


def seal(folder: Path) -> None:
    """Write down the digests of all plans, once they have been written."""
    temporary = folder / f".{LIST}"
    temporary.write_text(json.dumps(_digests(folder), indent=1), encoding="utf-8")
    temporary.replace(folder / LIST)


def _problem(folder: Path) -> str:
    """What is wrong with a folder of plans; "" for an empty or absent one."""
    found = _digests(folder) if folder.is_dir() else {}
    if not found:
        return ""
    try:
        sealed = json.loads((folder / LIST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "plans without a list of digests: their building was interrupted"
    changed = sorted(name for name in found.keys() | sealed.keys() if found.get(name) != sealed.get(name))
    return f"{changed[0]} is not what was written" if changed else ""


def _digests(folder: Path) -> dict[str, str]:
    plans = (path for path in folder.iterdir() if path.is_file() and not path.name.endswith(LIST))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(plans)}
