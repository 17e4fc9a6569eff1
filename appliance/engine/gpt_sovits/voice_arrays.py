"""Flow and vocoder of s2 as plain arrays, for a runtime that knows the network itself ("s2_arrays", safetensors).

All weights are float32, folded, under the names of the network's parameters. Sizes follow from theirs; `rates` has how
many outputs each stage makes of one, `dilations` those of each block's convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from appliance.engine.gpt_sovits.convolutions import NormedConv1d, NormedConvTranspose1d

if TYPE_CHECKING:
    from appliance.engine.gpt_sovits.sovits import Synthesizer

VOICE = "s2_arrays"
BF16 = "bf16"  # `Artifact.precision`: products of bf16, sums in floats


def write_voice(s2: Synthesizer, path: Path) -> None:
    """Raises OSError."""
    from safetensors.numpy import save_file

    save_file(dict(_arrays(s2)), path, {"network": "gpt_sovits.s2.voice"})


def _arrays(s2: Synthesizer) -> Iterator[tuple[str, NDArray[Any]]]:
    yield "rates", np.array(s2.config.upsample_rates, np.int32)
    yield "dilations", np.array(s2.config.resblock_dilation_sizes, np.int32)
    for part in ("flow", "dec"):
        for name, module in s2.get_submodule(part).named_modules(prefix=part):
            if isinstance(module, NormedConv1d | NormedConvTranspose1d):
                yield f"{name}.weight", module.kernel().detach().contiguous().numpy()
            elif getattr(module, "weight", None) is not None:
                yield f"{name}.weight", module.weight.detach().contiguous().numpy()
            if getattr(module, "bias", None) is not None:
                yield f"{name}.bias", module.bias.detach().numpy()
