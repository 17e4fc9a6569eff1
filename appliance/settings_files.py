"""Files that settings are read from: hardware profiles and the site's own, one laid over the other."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appliance.errors import InvalidInput, NotFound

PROFILE_DIRS = (
    Path(__file__).resolve().parents[1] / "firmware-configs",  # a checkout
    Path(__file__).resolve().parent / "profiles",  # an installed wheel
    Path("/usr/share/voiced/firmware-configs"),
)


def profile_path(name: str) -> Path:
    """The TOML file of a hardware profile. Raises NotFound("profile_not_found") with the names there are."""
    for folder in PROFILE_DIRS:
        if (folder / f"{name}.toml").is_file() and Path(name).name == name:
            return folder / f"{name}.toml"
    known = sorted({path.stem for folder in PROFILE_DIRS for path in folder.glob("*.toml")})
    raise NotFound("profile_not_found", profile=name, known=", ".join(known))


def read_toml(path: Path) -> dict[str, Any]:
    """Raises InvalidInput("settings_unreadable")."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput("settings_unreadable", path=str(path), problem=str(error)) from error


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` where it says something, else `under`; tables are merged key by key."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
