"""The work of an import job, in its child: find files of weights, read them without running their code, convert them.

All or nothing: the first file that is refused ends the job, and nothing has been filed. In a folder, files that are no
models for this box (other versions, vocoders, training states) are passed over with their reasons; one that carries
code or is damaged is not.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appliance.contracts import JsonDict
from appliance.engine.gpt_sovits.checkpoint import OFFICIAL, Checkpoint, read_checkpoint
from appliance.engine.gpt_sovits.conversion import convert
from appliance.engine.gpt_sovits.pairing import check_pair
from appliance.errors import InvalidInput, error_record
from appliance.jobs.records import ChildSpec, ImportTask
from appliance.jobs.reporting import Reporter

ENDINGS = frozenset({".ckpt", ".pth", ".safetensors"})
FOLDER_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # of a Hugging Face folder; the first one counts
COMPANIONS = frozenset(  # lie beside the weights of a folder and are read with them
    {
        *("config.json", "generation_config.json", "preprocessor_config.json", "README.md"),
        *("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json", "added_tokens.json"),
    }
)
PASSED_OVER = frozenset(
    {"model_kind_unknown", "model_version_not_yet", "checkpoint_is_training_state", "checkpoint_not_torch"}
)
MAX_FILES = 500
LICENCE_OF_OFFICIAL = "MIT"


@dataclass(frozen=True)
class Source:
    """One file of weights to be read."""

    path: Path
    name: str  # for people
    is_named: bool  # by the operator, not found in a folder


def run(spec: ChildSpec, reporter: Reporter) -> JsonDict:
    """The `done` message: `models`, each as a `NewModel` with paths as text, and what was `skipped`.

    Raises InvalidInput and TooLarge as `read_checkpoint` does, and InvalidInput (model_nothing_found,
    model_pair_wrong, model_too_many_files).
    """
    sources = find_sources([Path(path) for path in ImportTask.from_json(spec.task).paths])
    folder = Path(spec.job_dir) / "models"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    models: list[JsonDict] = []
    skipped: list[JsonDict] = []
    for number, source in enumerate(sources):
        reporter.progress("import", 0.98 * number / len(sources))
        try:
            checkpoint = read_checkpoint(source.path)
        except InvalidInput as error:
            if source.is_named or error.code not in PASSED_OVER:
                raise
            skipped.append(error_record(error))
            continue
        models.append(_converted(source, checkpoint, folder / f"{number:03d}"))
        del checkpoint  # the numbers of two models are not held at once
    if not models:
        raise InvalidInput("model_nothing_found", skipped=len(skipped))
    if all(source.is_named for source in sources):
        _refuse_wrong_pair(models)
    return {"models": models, "skipped": skipped}


def find_sources(paths: list[Path]) -> list[Source]:
    """Files of weights among `paths`, which are files, each meant as one, and folders to be looked through."""
    sources: dict[Path, Source] = {}
    for path in paths:
        if path.is_dir():
            for found in _weights_under(path):
                sources.setdefault(found, Source(found, _name(found), is_named=False))
        elif path.name not in COMPANIONS or len(paths) == 1:
            sources[path] = Source(path, _name(path), is_named=True)
        if len(sources) > MAX_FILES:
            raise InvalidInput("model_too_many_files", limit=MAX_FILES)
    return list(sources.values())


def _weights_under(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders.sort()
        whole = next((name for name in FOLDER_WEIGHTS if name in names), None)
        for name in sorted(names):
            path = Path(root, name)
            is_wanted = name == whole if name in FOLDER_WEIGHTS else path.suffix.lower() in ENDINGS
            if is_wanted and path.is_file():
                yield path


def _name(path: Path) -> str:
    """What people will know the model by: the file's name, or its folder's where every such file is called alike."""
    return path.absolute().parent.name if path.name in FOLDER_WEIGHTS else path.stem


def _converted(source: Source, checkpoint: Checkpoint, stem: Path) -> JsonDict:
    files = convert(checkpoint, stem)
    official = checkpoint.report["official"]
    with source.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "name": source.name,
        "kind": checkpoint.kind,
        "version": checkpoint.version,
        "files": {"weights": str(files.weights), "config": str(files.config)},
        "source_name": source.path.name,
        "source_sha256": digest,
        "source_bytes": source.path.stat().st_size,
        "licence": LICENCE_OF_OFFICIAL if official in {name for name, _ in OFFICIAL.values()} else "",
        "info": checkpoint.info,
        "report": checkpoint.report,
    }


def _refuse_wrong_pair(models: list[JsonDict]) -> None:
    """One s1 and one s2 that are named together are meant to speak together."""
    versions = {kind: [row["version"] for row in models if row["kind"] == kind] for kind in ("s1", "s2")}
    if len(versions["s1"]) == 1 and len(versions["s2"]) == 1:
        check_pair(versions["s1"][0], versions["s2"][0])
