"""Which imported models make a voice together."""

from __future__ import annotations

from appliance.errors import InvalidInput

ENGINE = "gpt_sovits"
SAMPLE_RATE = 32_000  # Hz
SHORTEST_S, LONGEST_S = 3.0, 10.0  # of a reference clip whose words are used; upstream refuses others
TRAINABLE = ("v2", "v2Pro", "v2ProPlus")  # versions of s2
LANGUAGES = ("zh", "en", "ja", "ko", "yue")
EXPORTED = {  # role of a file of weights -> networks that are made of it for backends; what sounds first comes first
    "s1": ("s1.prefill", "s1.step"),
    "s2": ("s2.text", "s2.frames", "s2.voice"),
    "bert": ("bert",),
    "hubert": ("hubert",),
}
TITLES = {
    "hubert": "chinese-hubert-base",
    "bert": "chinese-roberta-wwm-ext-large",
    "s2d": "s2D2333k.pth, s2Dv2Pro.pth or s2Dv2ProPlus.pth (discriminator)",
    "sv": "ERes2NetV2 (pretrained_eres2netv2w24s4ep4.ckpt)",
}

_PARTNER = {"v1": "v1", "v2": "v2", "v2Pro": "v2", "v2ProPlus": "v2"}  # version of s2 -> version of s1


def check_pair(s1: str, s2: str) -> None:
    """Refuse versions that do not share their tokens. Raises InvalidInput("model_pair_wrong").

    v1 and the later versions have other codebooks; every s1 with 732 symbols ("v2") drives every s2 with 732.
    """
    if _PARTNER.get(s2) != s1:
        raise InvalidInput("model_pair_wrong", s1=s1, s2=s2, wanted=_PARTNER.get(s2, "–"))


def helpers_of(s2: str) -> tuple[str, ...]:
    """The kinds of models that every voice of this version needs beside its own two."""
    return ("hubert", "bert", "sv") if s2.startswith("v2Pro") else ("hubert", "bert")
