"""A publication as one ZIP file, to be carried to where no network goes."""

from __future__ import annotations

import json
import secrets
import zipfile
from pathlib import Path

from appliance.contracts import Delivery
from appliance.errors import InvalidInput, StorageFull
from appliance.publishing.folders import MANIFEST, line_files, manifest_of
from appliance.publishing.prompts import FORMATS
from appliance.publishing.provenance import Provenance


def archive_of(delivery: Delivery, format: str, folder: Path, provenance: Provenance) -> Path:
    """Write the archive into `folder` under a name of its own; the caller removes it.

    Raises InvalidInput("format_unknown"), Unavailable("codec_missing"), StorageFull, Corrupt.
    """
    if format not in FORMATS:
        raise InvalidInput("format_unknown", format=format[:20], known=", ".join(FORMATS))
    path = folder / f"archive-{secrets.token_hex(8)}"
    names: dict[str, list[str]] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "x") as archive:  # sound does not get smaller
            for line in delivery.lines:
                files = line_files(line, [format], provenance)
                names[line.name] = [str(name) for name in files]
                for name, content in files.items():
                    archive.writestr(str(name), content)
            manifest = manifest_of(delivery, names) | provenance.told()
            archive.writestr(MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1))
    except OSError as error:
        path.unlink(missing_ok=True)
        raise StorageFull("storage_full", path=str(folder), free_mb=0) from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path
