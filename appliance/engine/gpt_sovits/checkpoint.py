"""What an operator's file of weights is: kind and version by content, every tensor held against the layout.

Reading runs no code of the file (see `pickles`). The version of a file is what its tensors say; its size and name say
nothing, and its header only what tensors cannot (v3 and v4 have equal shapes).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from appliance.contracts import JsonDict
from appliance.engine.gpt_sovits import layouts
from appliance.engine.gpt_sovits.archives import HEADERS, Archive, Tensor, open_archive
from appliance.engine.gpt_sovits.layouts import Layout, Shape
from appliance.engine.gpt_sovits.pickles import Bag, TensorRecord
from appliance.engine.gpt_sovits.wordpiece import tokenizer_config
from appliance.errors import InvalidInput, VoicedError

KINDS = ("s1", "s2", "s2d", "hubert", "bert", "sv")
VERSIONS = ("v1", "v2", "v2Pro", "v2ProPlus")
OFFICIAL = {  # MD5 of the first 8192 bytes -> (file, version)
    "dc3c97e17592963677a4a1681f30c653": ("s2G488k.pth", "v1"),
    "43797be674a37c1c83ee81081941ed0f": ("s2Gv3.pth", "v3"),
    "6642b37f3dbb1f76882b69937c95a5f3": ("s2G2333k.pth", "v2"),
    "4f26b9476d0c5033e04162c486074374": ("s2Gv4.pth", "v4"),
    "c7e9fce2223f3db685cdfa1e6368728a": ("s2Gv2Pro.pth", "v2Pro"),
    "66b313e39455b57ab1b0bc0b239c9d0a": ("s2Gv2ProPlus.pth", "v2ProPlus"),
}
MAX_CONFIG_ITEMS = 200_000  # a BERT vocabulary has 21 128 words
MAX_CONFIG_DEPTH = 20
MAX_LAYERS = 200
MAX_JSON_BYTES = 64 << 20
NAMES_TOLD = 12  # of missing or unexpected tensors, in a message


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights, read and found complete."""

    kind: str  # one of KINDS; "s2d" is the discriminator, for training only
    version: str  # one of VERSIONS; "v1" or "v2" for s1 (by its symbols); empty for hubert, bert, sv
    tensors: Mapping[str, Tensor]  # official names; only those that the layout knows
    config: JsonDict  # the official configuration as plain JSON, with "version"; a helper's config.json
    info: str  # what training wrote down, e.g. "GPT-e15"
    report: JsonDict  # header, official, missing, unexpected, left_out, warnings, parameters


def read_checkpoint(path: Path) -> Checkpoint:
    """Read, identify and check one file; a helper's `config.json` and vocabulary are looked for beside it.

    Raises what `open_archive` raises, and InvalidInput: model_kind_unknown, model_version_not_yet,
    checkpoint_is_training_state, model_config_missing, model_config_incomplete, model_keys_missing, model_shape_wrong,
    model_symbols_unknown, model_not_finite, model_vocabulary_missing, model_vocabulary_wrong. Each names the file.
    """
    try:
        return _read(path)
    except VoicedError as error:
        error.measured.setdefault("file", path.name)
        raise


def _read(path: Path) -> Checkpoint:
    archive = open_archive(path)
    content = archive.content
    official, official_version = OFFICIAL.get(_start_digest(path), ("", ""))
    records = _records(content)
    kind = _kind_of(content, records, official_version or HEADERS.get(archive.header, ""))
    records = _renamed(kind, records)
    shapes = {name: record.shape for name, record in records.items()}
    version = _version_of(kind, shapes, archive.header)
    config = _config_of(kind, version, shapes, content, path)
    layout = _layout_of(kind, version, config, shapes)
    report = _compare(layout, shapes)
    report |= {"header": archive.header, "official": official}
    said = official_version or HEADERS.get(archive.header, "")
    if kind == "s2" and said and said != version:
        report["warnings"].append({"code": "model_header_differs", "measured": {"said": said, "found": version}})
    tensors = _tensors(archive, records, layout)
    report["parameters"] = sum(tensor.size for tensor in tensors.values())
    info = content.get("info", "") if isinstance(content, dict) else ""
    return Checkpoint(kind, version, tensors, config, info if isinstance(info, str) else "", report)


def _start_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.md5(file.read(8192), usedforsecurity=False).hexdigest()


# ---------------------------------------------------------------- what it is


def _records(content: Any) -> dict[str, TensorRecord]:
    """The tensors: under `weight`, or the whole dictionary. Raises for training states and for anything else."""
    if not isinstance(content, dict):
        raise InvalidInput("model_kind_unknown")
    if "optimizer" in content or "optimizer_states" in content:
        raise InvalidInput("checkpoint_is_training_state")
    inner = content.get("weight")
    table = inner if isinstance(inner, dict) else content
    found = {name: record for name, record in table.items() if isinstance(record, TensorRecord)}
    return {name: record for name, record in found.items() if isinstance(name, str)}


def _kind_of(content: Mapping[str, Any], records: Mapping[str, TensorRecord], said: str) -> str:
    names = set(records)
    if "lora_rank" in content or any(name.startswith("cfm.") for name in names):
        raise InvalidInput("model_version_not_yet", version=said if said in {"v3", "v4"} else "v3 / v4")
    for kind, signs in _SIGNS.items():
        if all(any(name == sign or name.endswith(f".{sign}") for name in names) for sign in signs):
            return kind
    raise InvalidInput("model_kind_unknown")


_SIGNS = {  # tensors that only this kind has
    "s1": ("model.ar_predict_layer.weight", "model.bert_proj.weight"),
    "s2": ("enc_p.text_embedding.weight", "dec.conv_pre.weight"),
    "s2d": ("discriminators.0.conv_post.weight_v",),
    "hubert": ("encoder.pos_conv_embed.conv.bias", "feature_projection.projection.weight"),
    "bert": ("embeddings.word_embeddings.weight", "encoder.layer.0.attention.self.query.weight"),
    "sv": ("layer3_ds.weight", "fuse34.local_att.0.weight"),
}
_OLD_NORM = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


def _renamed(kind: str, records: dict[str, TensorRecord]) -> dict[str, TensorRecord]:
    """The names that our layouts use, for the writings that helpers come in."""
    if kind == "hubert":
        pairs = {name.removeprefix("hubert."): record for name, record in records.items()}
        for new, old in _OLD_NORM.items():
            pairs = {name.replace(new, old): record for name, record in pairs.items()}
        return pairs
    if kind == "bert":
        bare = not any(name.startswith("bert.") for name in records)
        pairs = {f"bert.{name}" if bare else name: record for name, record in records.items()}
        for new, old in {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}.items():
            pairs = {name.replace(new, old): record for name, record in pairs.items()}
        return pairs
    return records


def _version_of(kind: str, shapes: Mapping[str, Shape], header: str) -> str:
    """By content. Raises InvalidInput("model_symbols_unknown") for another number of symbols."""
    if kind == "s2d":
        judges = {name.split(".")[1] for name in shapes if name.startswith("discriminators.")}
        return "v2" if len(judges) <= 6 else "v2Pro"
    if kind == "s1":
        return _by_rows({512: "v1", 732: "v2"}, shapes["model.ar_text_embedding.word_embeddings.weight"])
    if kind != "s2":
        return ""
    version = _by_rows({322: "v1", 732: "v2"}, shapes["enc_p.text_embedding.weight"])
    if "sv_emb.weight" not in shapes:
        return version
    width = shapes["dec.conv_pre.weight"][0]
    is_plus = width == 768 or (width != 512 and HEADERS.get(header) == "v2ProPlus")  # reduced models: as they say
    return "v2ProPlus" if is_plus else "v2Pro"


def _by_rows(known: Mapping[int, str], shape: Shape) -> str:
    rows = shape[0] if shape else 0
    if rows not in known:
        raise InvalidInput("model_symbols_unknown", symbols=rows, known=", ".join(map(str, known)))
    return known[rows]


# ---------------------------------------------------------------- its configuration


_WORDS = "bert.embeddings.word_embeddings.weight"


def _config_of(
    kind: str, version: str, shapes: Mapping[str, Shape], content: Mapping[str, Any], path: Path
) -> JsonDict:
    if kind in {"s2d", "sv"}:
        return {"version": version} if version else {}
    if kind in {"s1", "s2"}:
        if "config" not in content:
            raise InvalidInput("model_config_missing", wanted="config")
        config = _plain_object(content["config"])
        if kind == "s2" and isinstance(config.get("model"), dict):
            config["model"]["version"] = version
        return config | {"version": version}
    if not path.with_name("config.json").is_file():
        raise InvalidInput("model_config_missing", wanted="config.json")
    try:
        config = _plain_object(json.loads(_read_text(path.with_name("config.json"))))
    except (ValueError, RecursionError) as error:
        raise InvalidInput("model_config_incomplete", problem=f"config.json: {error}"[:120]) from error
    return config | _tokenizer(path.parent, shapes[_WORDS][0]) if kind == "bert" else config


def _read_text(path: Path) -> str:
    """A text beside the weights. Raises InvalidInput("model_config_incomplete") unless it is UTF-8 of sane size."""
    if path.stat().st_size > MAX_JSON_BYTES:
        raise InvalidInput("model_config_incomplete", problem=f"{path.name} is too large")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput("model_config_incomplete", problem=f"{path.name} is not UTF-8") from error


def _tokenizer(folder: Path, rows: int) -> JsonDict:
    """The pieces of a BERT by id, and whether it lowers letters. Raises InvalidInput (model_vocabulary_…)."""
    names = ("tokenizer.json", "vocab.txt", "tokenizer_config.json")
    files = {name: _read_text(folder / name) for name in names if (folder / name).is_file()}
    if not files.keys() & {"tokenizer.json", "vocab.txt"}:
        raise InvalidInput("model_vocabulary_missing")
    try:
        made = tokenizer_config(files)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInput("model_vocabulary_wrong", problem=f"{type(error).__name__}: {error}"[:120]) from error
    count = len(made["vocabulary"])
    if not 0 < count <= rows:
        raise InvalidInput("model_vocabulary_wrong", problem=f"{count} pieces for {rows} rows")
    return _plain_object(made)


def _plain_object(value: Any) -> JsonDict:
    counter = [0]
    plain = _plain(value, counter, 0)
    if not isinstance(plain, dict):
        raise InvalidInput("model_config_incomplete", problem="the configuration is no table")
    return plain


def _plain(value: Any, counter: list[int], depth: int) -> Any:
    """JSON values only, of bounded size: what is nothing of the kind becomes null."""
    counter[0] += 1
    if counter[0] > MAX_CONFIG_ITEMS or depth > MAX_CONFIG_DEPTH:
        raise InvalidInput("model_config_incomplete", problem="the configuration is too large")
    if isinstance(value, Bag):
        value = value.attributes
    if isinstance(value, dict):
        return {str(key)[:200]: _plain(part, counter, depth + 1) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, counter, depth + 1) for part in value]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, int):  # also True and False
        return value if abs(value) < 1 << 53 else None
    return value[:4096].encode("utf-8", "replace").decode() if isinstance(value, str) else None


# ---------------------------------------------------------------- is it complete


def _layout_of(kind: str, version: str, config: JsonDict, shapes: Mapping[str, Shape]) -> Layout:
    sizes = config.get("model", config)
    try:
        layers = [int(sizes[key]) for key in ("n_layer", "n_layers", "num_hidden_layers") if key in sizes]
        if max(layers, default=0) > MAX_LAYERS:
            raise ValueError(f"{max(layers)} layers")
        if kind == "s1":
            return layouts.s1_layout(config)
        if kind == "s2":
            return layouts.s2_layout(config, version, shapes)
        if kind == "hubert":
            return layouts.hubert_layout(config)
        if kind == "bert":
            return layouts.bert_layout(config)
        return layouts.speaker_layout() if kind == "sv" else Layout(dict(shapes), {})
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, ZeroDivisionError) as error:
        raise InvalidInput("model_config_incomplete", problem=f"{type(error).__name__}: {error}"[:120]) from error


_KNOWN_HEADS = (  # of helpers: what they were trained with and nobody needs here
    *("cls.", "bert.cls.", "bert.pooler.", "bert.embeddings.position_ids", "pool.", "seg_"),
    *("final_proj.", "label_embs_concat", "lm_head.", "projector.", "classifier."),
)


def _compare(layout: Layout, shapes: Mapping[str, Shape]) -> JsonDict:
    """What differs harmlessly, as a report. Raises InvalidInput (model_keys_missing, model_shape_wrong)."""
    known = layout.required | layout.optional
    missing = sorted(set(layout.required) - set(shapes))
    if missing:
        raise InvalidInput("model_keys_missing", count=len(missing), names=", ".join(missing[:NAMES_TOLD]))
    for name in known.keys() & shapes.keys():
        if known[name] != shapes[name]:
            found, wanted = list(shapes[name]), list(known[name])
            raise InvalidInput("model_shape_wrong", name=name, found=str(found), wanted=str(wanted))
    strangers = sorted(set(shapes) - set(known))
    unexpected = [name for name in strangers if not name.startswith(_KNOWN_HEADS)]
    absent = sorted(set(layout.optional) - set(shapes))
    warnings: list[JsonDict] = []
    if unexpected:
        measured = {"count": len(unexpected), "names": ", ".join(unexpected[:NAMES_TOLD])}
        warnings.append({"code": "model_keys_unexpected", "measured": measured})
    if 0 < len(absent) < len(layout.optional):
        measured = {"count": len(absent), "names": ", ".join(absent[:NAMES_TOLD])}
        warnings.append({"code": "model_training_part_incomplete", "measured": measured})
    return {
        "missing": absent,
        "unexpected": unexpected,
        "left_out": [name for name in strangers if name not in unexpected],
        "warnings": warnings,
    }


def _tensors(archive: Archive, records: Mapping[str, TensorRecord], layout: Layout) -> dict[str, Tensor]:
    optional = layout.optional if layout.optional.keys() <= records.keys() else {}
    tensors: dict[str, Tensor] = {}
    for name in sorted(layout.required | optional):
        tensor = archive.tensor(records[name])
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise InvalidInput("model_not_finite", name=name)
        tensors[name] = tensor.astype(np.float32) if tensor.dtype == np.float64 else tensor
    return tensors
