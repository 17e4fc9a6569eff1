"""Files of weights made for tests: archives as torch writes them, and broken or malicious ones."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np

from appliance.engine.gpt_sovits.layouts import Shapes, bert_layout, hubert_layout, s1_layout, s2_layout

S1_SIZES = {"hidden_dim": 16, "embedding_dim": 16, "head": 2, "n_layer": 2, "vocab_size": 1025, "EOS": 1024}
S2_SIZES = {
    "inter_channels": 8,
    "hidden_channels": 8,
    "filter_channels": 8,
    "n_heads": 2,
    "n_layers": 2,
    "kernel_size": 3,
    "resblock": "1",
    "resblock_kernel_sizes": [3],
    "resblock_dilation_sizes": [[1, 3, 5]],
    "upsample_rates": [10, 8, 2, 2, 2],
    "upsample_kernel_sizes": [16, 16, 8, 2, 2],
    "upsample_initial_channel": 32,
    "gin_channels": 8,
}
BERT_SIZES = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
BERT_SIZES |= {"vocab_size": 8, "max_position_embeddings": 16, "type_vocab_size": 2}
HUBERT_SIZES = {"hidden_size": 768, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
HUBERT_SIZES |= {"conv_dim": [8] * 7, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 64}
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "你", "好", "们"]


def s1_config(symbols: int = 732) -> dict:
    return {"model": S1_SIZES | {"phoneme_vocab_size": symbols}, "data": {"max_sec": 54}, "inference": {"top_k": 15}}


def s1_content(symbols: int = 732, **changes) -> dict:
    return {"weight": zeros(s1_layout(s1_config(symbols)).required), "config": s1_config(symbols), "info": "GPT-e1"}


def s2_content(version: str = "v2", *, posterior: bool = False) -> dict:
    config = {"model": dict(S2_SIZES), "data": {"sampling_rate": 32000}, "train": {"seed": 1}}
    found = {"enc_p.mrte.c_pre.weight": (8,), "ge_to512.weight": (8,)}
    if version == "v2ProPlus":
        config["model"]["upsample_initial_channel"] = 768
    layout = s2_layout(config, version, found)
    shapes = layout.required | (layout.optional if posterior else {})
    return {"weight": zeros(shapes), "config": config, "info": "1epoch"}


def bert_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(BERT_SIZES))
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    write(folder / "pytorch_model.bin", zeros(bert_layout(BERT_SIZES).required))
    return folder


def hubert_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(HUBERT_SIZES))
    write(folder / "pytorch_model.bin", zeros(hubert_layout(HUBERT_SIZES).required))
    return folder


def pretrained(folder: Path) -> Path:
    """As official files lie, with others that voiced does not speak among them."""
    hubert_folder(folder / "chinese-hubert-base")
    bert_folder(folder / "chinese-roberta-wwm-ext-large")
    (folder / "gsv-v2final-pretrained").mkdir()
    write(folder / "gsv-v2final-pretrained" / "s2G2333k.pth", s2_content(posterior=True))
    write(folder / "s1v3.ckpt", s1_content())
    v3 = {"weight": {"cfm.estimator.x": np.zeros(4, np.float16)}, "config": {}, "info": ""}
    write(folder / "s2Gv3.pth", v3)
    (folder / "notes.txt").write_text("not a model")
    return folder


def zeros(shapes: Shapes) -> OrderedDict:
    """Half precision, cheap, and not all equal: row-major ramps."""
    return OrderedDict(
        (name, (np.arange(int(np.prod(shape)), dtype=np.float32) % 7 / 8).astype(np.float16).reshape(shape))
        for name, shape in shapes.items()
    )


class _Named:
    """Pickles as a reference to a global that need not exist here."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class _Call:
    """Pickles as a call of a global."""

    def __init__(self, target: _Named, *arguments: object) -> None:
        self.target, self.arguments = target, arguments


class HParams:
    """Pickles as `utils.HParams` does: an object with a `__dict__`."""

    def __init__(self, **attributes: object) -> None:
        self.attributes = attributes


class _Writer:
    """Writes protocol 2 as torch's own pickler does; knows only what such files hold."""

    def __init__(self) -> None:
        self.out = bytearray(b"\x80\x02")
        self.storages: list[bytes] = []

    def write(self, value: object) -> None:
        if isinstance(value, np.ndarray):
            self._tensor(value)
        elif isinstance(value, _Named):
            self.out += f"c{value.module}\n{value.name}\n".encode()
        elif isinstance(value, _Call):
            self.write(value.target)
            self.write(tuple(value.arguments))
            self.out += b"R"
        elif isinstance(value, HParams):
            self.out += b"cutils\nHParams\n)\x81"
            self.write(value.attributes)
            self.out += b"b"
        elif isinstance(value, tuple):
            self.out += b"("
            for part in value:
                self.write(part)
            self.out += b"t"
        elif isinstance(value, dict):
            if isinstance(value, OrderedDict):
                self.out += b"ccollections\nOrderedDict\n)R("
            else:
                self.out += b"}("
            for key, part in value.items():
                self.write(key)
                self.write(part)
            self.out += b"u"
        elif isinstance(value, list):
            self.out += b"]("
            for part in value:
                self.write(part)
            self.out += b"e"
        else:
            self.out += pickle.dumps(value, 2)[2:-1]

    def _tensor(self, array: np.ndarray) -> None:
        kinds = {"float16": "HalfStorage", "float32": "FloatStorage", "int64": "LongStorage"}
        key, kind = str(len(self.storages)), _Named("torch", kinds[array.dtype.name])
        self.storages.append(array.tobytes())
        strides = tuple(step // array.itemsize for step in array.strides)
        self.out += b"ctorch._utils\n_rebuild_tensor_v2\n("
        self.write(("storage", kind, key, "cpu", array.size))
        self.out += b"Q"
        for part in (0, array.shape, strides, False, _Call(_Named("collections", "OrderedDict"))):
            self.write(part)
        self.out += b"tR"


def write(path: Path, content: object, *, header: str = "") -> Path:
    """An archive as torch.save writes it, its first two bytes replaced by `header`."""
    writer = _Writer()
    writer.write(content)
    return write_raw(path, bytes(writer.out) + b".", writer.storages, header=header)


def write_raw(path: Path, data: bytes, storages: list[bytes] = [], *, header: str = "", packed: bool = False) -> Path:
    """An archive around a pickle that is given as bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", b"little")
        for key, content in enumerate(storages):
            archive.writestr(f"archive/data/{key}", content)
    whole = bytearray(file.getvalue())
    if header:
        whole[:2] = header.encode()
    path.write_bytes(whole)
    return path


def overlapping_bomb(path: Path, copies: int = 500, size: int = 1 << 16) -> Path:
    """Many names for one stretch of the file: stored, so that the ratio of each member is 1."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0", b"\0" * size)
        first = archive.getinfo("archive/data/0")
        for number in range(1, copies):
            twin = zipfile.ZipInfo(f"archive/data/{number}")
            twin.file_size = twin.compress_size = size
            twin.CRC, twin.header_offset = first.CRC, first.header_offset
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
        archive._didModify = True
    path.write_bytes(file.getvalue())
    return path


def legacy(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    """As torch wrote before 1.6: pickles one after the other, then the numbers."""
    writer = _Writer()
    writer.write(OrderedDict(tensors))
    parts = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    keys = [str(number) for number in range(len(writer.storages))]
    parts += [bytes(writer.out) + b".", pickle.dumps(keys, 2)]
    widths = [array.itemsize for array in tensors.values()]
    for content, width in zip(writer.storages, widths, strict=True):
        parts.append(struct.pack("<q", len(content) // width) + content)
    path.write_bytes(b"".join(parts))
    return path


def malicious(flag: Path) -> dict[str, bytes]:
    """Pickles that would each create `flag` if anything of them ran."""
    command = f"touch {flag}"

    def calling(module: str, name: str, *arguments: object) -> bytes:
        writer = _Writer()
        writer.write({"weight": _Call(_Named(module, name), *arguments)})
        return bytes(writer.out) + b"."

    inner = _Call(_Named("builtins", "getattr"), _Call(_Named("builtins", "__import__"), "os"), "system")
    writer = _Writer()
    writer.write({"weight": OrderedDict(), "config": HParams(model=inner)})
    nested = bytes(writer.out) + b"."
    stacked = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c" + bytes([len(command)]) + command.encode() + b"\x85R."
    return {
        "os.system": calling("os", "system", command),
        "posix.system": calling("posix", "system", command),
        "eval": calling("builtins", "eval", f"open({str(flag)!r}, 'w')"),
        "exec": calling("__builtin__", "execfile", str(flag)),
        "nested": nested,
        "stack global": stacked,
        "torch.load": calling("torch.serialization", "load", str(flag)),
        "hparams lookalike": calling("utils", "HParamsX", command),
        "instance": f"(S'{command}'\nios\nsystem\n.".encode(),
        "extension": b"\x80\x02\x82\x01)R.",
        "bag with a call": calling("functools", "partial", _Named("os", "system"), command),
    }
