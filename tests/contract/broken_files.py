"""Files that were cut or scrambled, for readers that have to stand them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from appliance.errors import Corrupt, Unavailable


def stands_broken_files(path: Path, folder: Path, load: Callable[[Path], None], rounds: int) -> None:
    """`load` a safetensors file cut anywhere, and with letters changed in what says where its arrays are: it refuses
    by name, or the change meant nothing.
    """
    content, generator = path.read_bytes(), np.random.default_rng(0)
    header = 8 + int.from_bytes(content[:8], "little")
    for number in range(rounds):
        broken = bytearray(content)
        if number % 3 == 0:
            del broken[int(generator.integers(0, len(content))) :]
        else:
            for at in generator.integers(0, header, 1 + number % 4):
                broken[at] = int(generator.integers(0, 256))
        (folder / "a").write_bytes(broken)
        try:
            load(folder / "a")
        except (Corrupt, Unavailable):
            continue
        assert broken == content or number % 3  # a changed letter may leave a file that means the same
