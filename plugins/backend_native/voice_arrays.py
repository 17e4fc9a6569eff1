"""The file of flow and vocoder: plain arrays by name (safetensors), as `voice_arrays` of the engine writes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import Kind, Malformed, check, parse
from .voice import MOST_KINDS, VoiceShape

Arrays = Mapping[str, NDArray[Any]]
Sizes = tuple[int, ...]
TOLD = ("rates", "dilations")  # numbers, which say sizes that the other arrays do not
ENDS = 7  # taps of the vocoder's first and last convolution


def read_voice(content: bytes) -> tuple[VoiceShape, list[NDArray[Any]]]:
    """The sizes, and the arrays in the order of `names`. Raises Malformed."""
    arrays = parse(content)
    shape = _shape(arrays)
    expected: dict[str, Kind] = {name: (np.float32, sizes) for name, sizes in names(shape)}
    return shape, check(arrays, expected, TOLD)


def _shape(arrays: Arrays) -> VoiceShape:
    try:
        rates, dilations = (_numbers(arrays[name]) for name in TOLD)
        initial, latent, _ = arrays["dec.conv_pre.weight"].shape
        gate = arrays["flow.flows.0.enc.in_layers.0.weight"].shape
        return VoiceShape(
            latent=latent,
            hidden=gate[1],
            timbre=arrays["dec.cond.weight"].shape[1],
            couplings=sum(name.startswith("flow.") and name.endswith(".pre.weight") for name in arrays),
            layers=sum(name.startswith("flow.flows.0.enc.in_layers.") for name in arrays) // 2,
            wave_taps=gate[2],
            initial=initial,
            rates=tuple(rates.reshape(-1).tolist()),
            kernels=tuple(arrays[f"dec.ups.{i}.weight"].shape[2] for i in range(rates.size)),
            taps=tuple(arrays[f"dec.resblocks.{i}.convs1.0.weight"].shape[2] for i in range(len(dilations))),
            dilations=tuple(map(tuple, dilations.tolist())),
        )
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise Malformed(f"its sizes cannot be told: {error}"[:80]) from error


def _numbers(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype != np.int32 or not 1 <= array.size <= MOST_KINDS**2 or max(array.shape, default=0) > MOST_KINDS:
        raise ValueError(f"{array.dtype}{list(array.shape)}")
    return array


def names(shape: VoiceShape) -> Iterator[tuple[str, Sizes]]:
    """Name and sizes of every array, in the order in which the kernel takes them."""
    for coupling in reversed(range(shape.couplings)):
        yield from _coupling_names(shape, f"flow.flows.{2 * coupling}")
    yield from _layer("dec.conv_pre", shape.initial, (shape.initial, shape.latent, ENDS))
    yield from _layer("dec.cond", shape.initial, (shape.initial, shape.timbre, 1))
    blocks = len(shape.taps)
    for stage, kernel in enumerate(shape.kernels):
        wide, narrow = shape.initial >> stage, shape.initial >> (stage + 1)
        yield from _layer(f"dec.ups.{stage}", narrow, (wide, narrow, kernel))
        for block, taps in enumerate(shape.taps):
            for kind in ("convs1", "convs2"):
                for pair in range(len(shape.dilations[block])):
                    at = f"dec.resblocks.{stage * blocks + block}.{kind}.{pair}"
                    yield from _layer(at, narrow, (narrow, narrow, taps))
    yield "dec.conv_post.weight", (1, shape.initial >> len(shape.kernels), ENDS)


def _coupling_names(shape: VoiceShape, at: str) -> Iterator[tuple[str, Sizes]]:
    half, hidden = shape.latent // 2, shape.hidden
    yield from _layer(f"{at}.pre", hidden, (hidden, half, 1))
    wide = 2 * hidden * shape.layers
    yield from _layer(f"{at}.enc.cond_layer", wide, (wide, shape.timbre, 1))
    for layer in range(shape.layers):
        outside = hidden if layer + 1 == shape.layers else 2 * hidden
        yield from _layer(f"{at}.enc.in_layers.{layer}", 2 * hidden, (2 * hidden, hidden, shape.wave_taps))
        yield from _layer(f"{at}.enc.res_skip_layers.{layer}", outside, (outside, hidden, 1))
    yield from _layer(f"{at}.post", half, (half, hidden, 1))


def _layer(name: str, outputs: int, sizes: Sizes) -> Iterator[tuple[str, Sizes]]:
    yield f"{name}.weight", sizes
    yield f"{name}.bias", (outputs,)
