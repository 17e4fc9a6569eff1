"""Runs under the Python that genie-tts is installed in, and times its networks there; see `bench_peer`.

    python -I genie_peer.py FOLDER

FOLDER has a voice in official files, "s1.ckpt" and "s2.pth". Its own converter and loader make networks of them; the
first line on stdout says what was loaded, or why nothing was. Then each line of JSON on stdin, {"phones", "tokens",
"prompt_phones", "prompt_tokens"}, is answered by one with the milliseconds of each stage. Text is left out, and so are
BERT and HuBERT, which genie-tts downloads apart from its package: their places are taken by random numbers.

Imports nothing of voiced: that Python need not have it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

PACKAGE = "genie_tts"
WIDTH, CONTENT_WIDTH = 1024, 768  # of BERT's and HuBERT's features
SPOKEN = 1024  # speech tokens; the one after them ends an answer
RATE, TOKENS_PER_SECOND = 32_000, 25  # of the reference


def open_package(folder: Path) -> None:
    """Make its modules importable without running its `__init__`, which asks at the terminal for a download.

    Raises ModuleNotFoundError.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None:
        raise ModuleNotFoundError(f"genie-tts is not installed for {sys.executable}")
    sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    data = folder / "data"  # it looks whether these exist, and opens them for what is not timed here only
    (data / "chinese-hubert-base").mkdir(parents=True)
    (data / "speaker_encoder.onnx").touch()
    os.environ["GENIE_DATA_DIR"] = str(data)
    os.chdir(folder)  # it writes a cache beside


def load(folder: Path) -> Any:
    """Its sessions of the voice in `folder`, made the way it makes them for anybody."""
    open_package(folder)
    converter = importlib.import_module(f"{PACKAGE}.Converter.Converter")
    made = folder / "model"
    converter.convert(str(folder / "s1.ckpt"), str(folder / "s2.pth"), str(made))
    if not made.is_dir():  # it logs what went wrong, and goes on
        raise ValueError("its converter did not take the weights")
    manager = importlib.import_module(f"{PACKAGE}.ModelManager").ModelManager()
    if not manager.load_character("bench", str(made), "Chinese"):
        raise ValueError("it did not load what its converter had made")
    return manager.get("bench")


def speak(model: Any, order: dict[str, int]) -> dict[str, float]:
    """One answer of exactly so many tokens, computed as its own loop does it. Milliseconds per stage."""
    import numpy as np

    draw = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return draw.standard_normal(shape, dtype=np.float32)

    phones, prompt = (draw.integers(0, 700, (1, order[kind])) for kind in ("phones", "prompt_phones"))
    feeds = {"ref_seq": prompt, "text_seq": phones, "ref_bert": normal(prompt.shape[1], WIDTH)}
    heard = order["prompt_tokens"]
    feeds |= {"text_bert": normal(phones.shape[1], WIDTH), "ssl_content": normal(1, CONTENT_WIDTH, 2 * heard)}
    timbre = {"ref_audio": 0.1 * normal(1, RATE // TOKENS_PER_SECOND * heard)}
    if model.PROMPT_ENCODER is not None:  # v2ProPlus
        timbre = {"ge": normal(1, 1024, 1), "ge_advanced": normal(1, 512, 1)}
    began = time.perf_counter()
    rows, prompts = model.T2S_ENCODER.run(None, feeds)
    tokens, embedded, *cache = model.T2S_FIRST_STAGE_DECODER.run(None, {"x": rows, "prompts": prompts})
    filled = time.perf_counter()
    step = model.T2S_STAGE_DECODER
    names = [one.name for one in step.get_inputs()]
    for _ in range(order["tokens"] - 1):
        tokens, embedded, _, *cache = step.run(None, dict(zip(names, [tokens, embedded, *cache])))  # noqa: B905 - 3.9
    drawn = time.perf_counter()
    codes = np.minimum(tokens[:, -order["tokens"] :], SPOKEN - 1)[None]
    model.VITS.run(None, {"text_seq": phones, "pred_semantic": codes, **timbre})
    over = time.perf_counter()
    return {
        "prefill": 1000 * (filled - began),
        "tokens": 1000 * (drawn - filled),
        "sound": 1000 * (over - drawn),
    }


def main(argv: list[str]) -> int:
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # what it prints is none of ours
    try:
        model = load(Path(argv[0]))
        versions = {name: importlib.metadata.version(name) for name in ("genie-tts", "onnxruntime")}
    except Exception as error:  # noqa: BLE001 - of a program that we do not know
        answers.write(json.dumps({"reason": f"{type(error).__name__}: {error}"[:300]}) + "\n")
        return 1
    answers.write(json.dumps({"versions": versions}) + "\n")
    for line in sys.stdin:
        answers.write(json.dumps(speak(model, json.loads(line))) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
