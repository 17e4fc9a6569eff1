"""Loading HuBERT and BERT: the names that files use, what they may hold beside, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from appliance.engine.gpt_sovits import layouts
from appliance.engine.gpt_sovits.bert import Bert, BertConfig, ChineseBert
from appliance.engine.gpt_sovits.eres2net import SpeakerNet, SpeakerNetConfig
from appliance.engine.gpt_sovits.hubert import Hubert, HubertConfig

HUBERT: dict[str, Any] = {
    "conv_dim": [8] * 7,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_conv_pos_embeddings": 6,
    "num_conv_pos_embedding_groups": 2,
}
BERT: dict[str, Any] = {
    "vocab_size": 12,
    "max_position_embeddings": 8,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
}
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"你好吗。天地人"]
POSITION = "encoder.pos_conv_embed.conv"


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {name: torch.randn(tensor.shape, generator=generator) for name, tensor in network.state_dict().items()}


def hubert_tensors() -> dict[str, Tensor]:
    """By plain names, without weight norm."""
    return tensors_of(Hubert(HubertConfig.from_dict(HUBERT)))


def bert_tensors() -> dict[str, Tensor]:
    return {f"bert.{name}": tensor for name, tensor in tensors_of(Bert(BertConfig.from_dict(BERT))).items()}


def normed(tensors: dict[str, Tensor], length: str, direction: str) -> dict[str, Tensor]:
    """The positional convolution as a pair, the direction stored at another length than 1."""
    weight = tensors[f"{POSITION}.weight"]
    pair = {length: weight.norm(dim=(0, 1), keepdim=True), direction: 3.0 * weight}
    return {name: tensor for name, tensor in tensors.items() if name != f"{POSITION}.weight"} | pair


@pytest.fixture
def waveform() -> Tensor:
    return torch.randn(1, 3000, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("length", "direction"),
    [("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1")],
)
def test_both_namings_of_weight_norm(waveform: Tensor, length: str, direction: str) -> None:
    tensors = hubert_tensors()
    expected = Hubert.from_tensors(tensors, HUBERT).features(waveform)
    pair = normed(tensors, f"{POSITION}.{length}", f"{POSITION}.{direction}")
    torch.testing.assert_close(Hubert.from_tensors(pair, HUBERT).features(waveform), expected, rtol=1e-5, atol=1e-5)


def test_weight_norm_is_what_pytorch_computes(waveform: Tensor) -> None:
    convolution = nn.utils.parametrizations.weight_norm(nn.Conv1d(16, 16, 6, padding=3, groups=2), dim=2)
    with torch.no_grad():
        convolution.parametrizations.weight.original0.mul_(1.7)
    tensors = {name: tensor for name, tensor in hubert_tensors().items() if not name.startswith(POSITION)}
    tensors |= {f"{POSITION}.{name}": tensor for name, tensor in convolution.state_dict().items()}
    network = Hubert.from_tensors(tensors, HUBERT)
    torch.testing.assert_close(network.encoder.pos_conv_embed.conv.weight, convolution.weight.detach())


def test_hubert_with_prefix_heads_and_half_precision(waveform: Tensor) -> None:
    tensors = {name: tensor.half() for name, tensor in hubert_tensors().items()}
    expected = Hubert.from_tensors(tensors, HUBERT).features(waveform)
    assert expected.dtype == torch.float32
    prefixed = {f"hubert.{name}": tensor for name, tensor in tensors.items()}
    beside = {"hubert.masked_spec_embed": torch.ones(16), "lm_head.weight": torch.ones(3, 16)}
    found = Hubert.from_tensors(prefixed | beside, HUBERT).features(waveform)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_hubert_frames(waveform: Tensor) -> None:
    network = Hubert.from_tensors(hubert_tensors(), HUBERT)
    assert network.config.shortest == 400
    assert network.features(waveform[:, :400]).shape == (1, 16, 1)
    assert network.features(waveform[0]).shape == (1, 16, (3000 - 400) // 320 + 1)
    with pytest.raises(ValueError, match="399 samples"):
        network.features(waveform[:, :399])


@pytest.mark.parametrize("change", [{"do_stable_layer_norm": True}, {"feat_extract_norm": "layer"}])
def test_other_kinds_of_hubert_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not supported"):
        Hubert.from_tensors({}, HUBERT | change)


@pytest.mark.parametrize("missing", ["encoder.layers.1.attention.k_proj.bias", "feature_projection.projection.weight"])
def test_hubert_with_a_part_missing_or_unknown(missing: str) -> None:
    tensors = hubert_tensors()
    with pytest.raises(RuntimeError, match="something"):
        Hubert.from_tensors(tensors | {"encoder.something": torch.ones(1)}, HUBERT)
    del tensors[missing]
    with pytest.raises(RuntimeError, match=missing.replace(".", r"\.")):
        Hubert.from_tensors(tensors, HUBERT)


def make_bert(**more: Tensor) -> ChineseBert:
    return ChineseBert.from_tensors(bert_tensors() | more, BERT | {"vocabulary": VOCABULARY})


def test_bert_repeats_a_character_for_each_of_its_phones() -> None:
    bert = make_bert()
    characters = bert.character_features("你好。")
    found = bert.phone_features("你好。", [2, 0, 3])
    assert found.shape == (16, 5)
    torch.testing.assert_close(found.T, characters[[0, 0, 2, 2, 2]], rtol=0, atol=0)
    assert bert.phone_features("", []).shape == (16, 0)
    with pytest.raises(ValueError, match="3 characters but 2"):
        bert.phone_features("你好。", [2, 2])


def test_bert_skips_what_is_not_used() -> None:
    """Whatever the last two layers and the heads hold, even the wrong shapes."""
    beside = {
        "bert.encoder.layer.2.output.dense.weight": torch.ones(1),
        "bert.encoder.layer.3.attention.self.key.bias": torch.ones(1),
        "bert.embeddings.position_ids": torch.arange(8)[None],
        "bert.pooler.dense.bias": torch.ones(1),
        "cls.predictions.decoder.weight": torch.ones(1),
    }
    found, expected = (bert.character_features("天地人") for bert in (make_bert(**beside), make_bert()))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    with pytest.raises(RuntimeError, match=r"layer\.4"):
        make_bert(**{"bert.encoder.layer.4.output.dense.bias": torch.ones(1)})


def test_bert_with_old_names_of_the_norms() -> None:
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    tensors = bert_tensors()
    for new, name in old.items():
        tensors = {key.replace(new, name): tensor for key, tensor in tensors.items()}
    found = ChineseBert.from_tensors(tensors, BERT | {"vocabulary": VOCABULARY}).character_features("你好")
    torch.testing.assert_close(found, make_bert().character_features("你好"), rtol=0, atol=0)


def test_text_beyond_the_positions_is_read_in_parts() -> None:
    bert = make_bert()  # six characters at a time
    found = bert.character_features("你好吗天地人" + "。好")
    parts = torch.cat([bert.character_features("你好吗天"), bert.character_features("地人。好")])
    torch.testing.assert_close(found, parts, rtol=0, atol=0)


def test_a_vocabulary_that_is_too_large_for_the_network() -> None:
    with pytest.raises(ValueError, match="13 tokens"):
        ChineseBert.from_tensors(bert_tensors(), BERT | {"vocabulary": [*VOCABULARY, *"甲乙"]})


def test_speaker_network_of_another_size_and_a_clip_that_is_too_short() -> None:
    config = {"channels": 32, "blocks": [1, 1, 1, 1], "expansion": 1}
    network = SpeakerNet.from_tensors(tensors_of(SpeakerNet(SpeakerNetConfig.from_dict(config))), config)
    waveform = torch.randn(1, 1600, generator=torch.Generator().manual_seed(2))
    assert network.embed(waveform).shape == (1, network.config.embedding) == (1, 2560)
    with pytest.raises(ValueError, match="400"):
        network.embed(waveform[:, :399])


def test_what_an_import_keeps_is_what_the_networks_take() -> None:
    """The tensors that an import holds a file against, in official names, load as they are."""
    hubert, bert = layouts.hubert_layout(HUBERT), layouts.bert_layout(BERT)
    Hubert.from_tensors({name: torch.ones(shape) for name, shape in hubert.required.items()}, HUBERT)
    Bert.from_tensors({name: torch.ones(shape) for name, shape in bert.required.items()}, BERT)
    speaker = {name: torch.empty(shape, device="meta") for name, shape in layouts.speaker_layout().required.items()}
    SpeakerNet.from_tensors(speaker, {"version": ""})
