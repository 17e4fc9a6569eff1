"""Randomness of training that depends on a seed and a step alone, so that a resumed run draws what an unbroken one
would have drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

STREAMS = ("order", "dropout", "noise", "slice", "spoil")


def generator_of(seed: int, step: int, stream: str) -> torch.Generator:
    """A CPU generator for one purpose of one step; `stream` is one of `STREAMS`."""
    return torch.Generator().manual_seed(_mixed(seed, step, stream))


@contextmanager
def drawing_from(seed: int, step: int, stream: str = "dropout") -> Iterator[None]:
    """Inside, torch's default generators draw from this stream; afterwards they are as before."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(_mixed(seed, step, stream))
        yield


def _mixed(seed: int, step: int, stream: str) -> int:
    """32 bits: torch's generator of the CPU looks at no more."""
    if stream not in STREAMS:
        raise ValueError(f"no stream {stream}")
    return int.from_bytes(hashlib.blake2b(f"{seed}/{step}/{stream}".encode(), digest_size=4).digest(), "big")
