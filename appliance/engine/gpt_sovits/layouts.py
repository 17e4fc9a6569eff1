"""Which tensors each kind of model consists of, and their shapes: what an imported file is held against.

Sizes come from the file's own configuration; those that upstream fixes in code (MRTE, `ge_to512`) from the tensors,
because reduced models change them too. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]
Shapes = dict[str, Shape]

BERT_WIDTH = 1024  # of the features that s1 takes
SSL_WIDTH = 768
CODES = 1024
SPEAKER_WIDTH = 20480
HEARD_BINS = {"v1": 1025}  # spectrogram bins that the reference encoder looks at
DEFAULT_HEARD_BINS = 704
SPECTRUM_BINS = 1025
WINDOW_ROWS = 9  # relative positions -4 .. 4
STYLE_WIDTH = 128


@dataclass(frozen=True)
class Layout:
    """What must be there, and what may be absent (training only, or heads that nobody uses)."""

    required: Shapes
    optional: Shapes


def s1_layout(config: Mapping[str, Any]) -> Layout:
    """The text-to-semantic transformer. Raises KeyError for a configuration without its sizes."""
    model = config["model"]
    width, embedded = int(model["hidden_dim"]), int(model.get("embedding_dim", model["hidden_dim"]))
    shapes: Shapes = {
        "model.bert_proj.weight": (embedded, BERT_WIDTH),
        "model.bert_proj.bias": (embedded,),
        "model.ar_text_embedding.word_embeddings.weight": (int(model["phoneme_vocab_size"]), embedded),
        "model.ar_text_position.alpha": (1,),
        "model.ar_audio_embedding.word_embeddings.weight": (int(model["vocab_size"]), embedded),
        "model.ar_audio_position.alpha": (1,),
        "model.ar_predict_layer.weight": (int(model["vocab_size"]), width),
    }
    for i in range(int(model["n_layer"])):
        block = f"model.h.layers.{i}"
        shapes[f"{block}.self_attn.in_proj_weight"] = (3 * width, width)
        shapes[f"{block}.self_attn.in_proj_bias"] = (3 * width,)
        _linear(shapes, f"{block}.self_attn.out_proj", width, width)
        _linear(shapes, f"{block}.linear1", 4 * width, width)
        _linear(shapes, f"{block}.linear2", width, 4 * width)
        for norm in ("norm1", "norm2"):
            shapes |= {f"{block}.{norm}.weight": (width,), f"{block}.{norm}.bias": (width,)}
    return Layout(shapes, {})


def s2_layout(config: Mapping[str, Any], version: str, found: Mapping[str, Shape]) -> Layout:
    """The SoVITS network of `version`; `found` shapes give the sizes that no configuration has. Raises KeyError."""
    model = config["model"]
    hidden, gin, inter = (int(model[key]) for key in ("hidden_channels", "gin_channels", "inter_channels"))
    shapes: Shapes = {}
    _linear(shapes, "ssl_proj", SSL_WIDTH, SSL_WIDTH, 2)
    book = "quantizer.vq.layers.0._codebook"
    shapes |= {f"{book}.embed": (CODES, SSL_WIDTH), f"{book}.embed_avg": (CODES, SSL_WIDTH)}
    shapes |= {f"{book}.cluster_size": (CODES,), f"{book}.inited": (1,)}
    _prior(shapes, model, 322 if version == "v1" else 732, found)
    _style(shapes, HEARD_BINS.get(version, DEFAULT_HEARD_BINS), gin)
    for i in (0, 2, 4, 6):
        coupling = f"flow.flows.{i}"
        _linear(shapes, f"{coupling}.pre", hidden, inter // 2, 1)
        _wavenet(shapes, f"{coupling}.enc", hidden, 4, gin)
        _linear(shapes, f"{coupling}.post", inter // 2, hidden, 1)
    _generator(shapes, model, inter, gin)
    if version in {"v2Pro", "v2ProPlus"}:
        narrow = found.get("ge_to512.weight", (512,))[0]
        _linear(shapes, "sv_emb", gin, SPEAKER_WIDTH)
        _linear(shapes, "ge_to512", narrow, gin)
        shapes["prelu.weight"] = (gin,)
    posterior: Shapes = {}
    _linear(posterior, "enc_q.pre", hidden, SPECTRUM_BINS, 1)
    _wavenet(posterior, "enc_q.enc", hidden, 16, gin)
    _linear(posterior, "enc_q.proj", 2 * inter, hidden, 1)
    return Layout(shapes, posterior)


def _linear(shapes: Shapes, name: str, outside: int, inside: int, kernel: int | None = None) -> None:
    shapes[f"{name}.weight"] = (outside, inside) if kernel is None else (outside, inside, kernel)
    shapes[f"{name}.bias"] = (outside,)


def _normed(shapes: Shapes, name: str, shape: Shape, bias: int) -> None:
    shapes |= {f"{name}.weight_g": (shape[0], 1, 1), f"{name}.weight_v": shape, f"{name}.bias": (bias,)}


def _wavenet(shapes: Shapes, prefix: str, width: int, layers: int, gin: int) -> None:
    _normed(shapes, f"{prefix}.cond_layer", (2 * width * layers, gin, 1), 2 * width * layers)
    for i in range(layers):
        outside = width if i + 1 == layers else 2 * width
        _normed(shapes, f"{prefix}.in_layers.{i}", (2 * width, width, 5), 2 * width)
        _normed(shapes, f"{prefix}.res_skip_layers.{i}", (outside, width, 1), outside)


def _encoder(shapes: Shapes, prefix: str, model: Mapping[str, Any], layers: int) -> None:
    """Relative attention."""
    hidden, wide, kernel = (int(model[key]) for key in ("hidden_channels", "filter_channels", "kernel_size"))
    for i in range(layers):
        for letter in "qkvo":
            _linear(shapes, f"{prefix}.attn_layers.{i}.conv_{letter}", hidden, hidden, 1)
        for table in ("emb_rel_k", "emb_rel_v"):
            shapes[f"{prefix}.attn_layers.{i}.{table}"] = (1, WINDOW_ROWS, hidden // int(model["n_heads"]))
        for norm in ("norm_layers_1", "norm_layers_2"):
            shapes |= {f"{prefix}.{norm}.{i}.gamma": (hidden,), f"{prefix}.{norm}.{i}.beta": (hidden,)}
        _linear(shapes, f"{prefix}.ffn_layers.{i}.conv_1", wide, hidden, kernel)
        _linear(shapes, f"{prefix}.ffn_layers.{i}.conv_2", hidden, wide, kernel)


def _prior(shapes: Shapes, model: Mapping[str, Any], symbols: int, found: Mapping[str, Shape]) -> None:
    hidden, layers = int(model["hidden_channels"]), int(model["n_layers"])
    _linear(shapes, "enc_p.ssl_proj", hidden, SSL_WIDTH, 1)
    _encoder(shapes, "enc_p.encoder_ssl", model, layers // 2)
    shapes["enc_p.text_embedding.weight"] = (symbols, hidden)
    _encoder(shapes, "enc_p.encoder_text", model, layers)
    _encoder(shapes, "enc_p.encoder2", model, layers // 2)
    wide = found.get("enc_p.mrte.c_pre.weight", (512,))[0]
    for letter in "qkvo":
        _linear(shapes, f"enc_p.mrte.cross_attention.conv_{letter}", wide, wide, 1)
    _linear(shapes, "enc_p.mrte.c_pre", wide, hidden, 1)
    _linear(shapes, "enc_p.mrte.text_pre", wide, hidden, 1)
    _linear(shapes, "enc_p.mrte.c_post", hidden, wide, 1)
    _linear(shapes, "enc_p.proj", 2 * int(model["inter_channels"]), hidden, 1)


def _style(shapes: Shapes, bins: int, gin: int) -> None:
    _linear(shapes, "ref_enc.spectral.0.fc", STYLE_WIDTH, bins)
    _linear(shapes, "ref_enc.spectral.3.fc", STYLE_WIDTH, STYLE_WIDTH)
    for i in range(2):
        _linear(shapes, f"ref_enc.temporal.{i}.conv1.conv", 2 * STYLE_WIDTH, STYLE_WIDTH, 5)
    for part in ("w_qs", "w_ks", "w_vs", "fc"):
        _linear(shapes, f"ref_enc.slf_attn.{part}", STYLE_WIDTH, STYLE_WIDTH)
    _linear(shapes, "ref_enc.fc.fc", gin, STYLE_WIDTH)


def _generator(shapes: Shapes, model: Mapping[str, Any], inter: int, gin: int) -> None:
    width = int(model["upsample_initial_channel"])
    kernels, dilations = model["resblock_kernel_sizes"], model["resblock_dilation_sizes"]
    groups = ("convs1", "convs2") if str(model["resblock"]) == "1" else ("convs",)
    _linear(shapes, "dec.conv_pre", width, inter, 7)
    _linear(shapes, "dec.cond", width, gin, 1)
    for i, upsampling in enumerate(model["upsample_kernel_sizes"]):
        _normed(shapes, f"dec.ups.{i}", (width, width // 2, int(upsampling)), width // 2)
        width //= 2
        for j, kernel in enumerate(kernels):
            for group in groups:
                for k in range(len(dilations[j])):
                    name = f"dec.resblocks.{i * len(kernels) + j}.{group}.{k}"
                    _normed(shapes, name, (width, width, int(kernel)), width)
    shapes["dec.conv_post.weight"] = (1, width, 7)


# ---------------------------------------------------------------- helpers of the engine


_HUBERT_BASE = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "conv_dim": [512] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
}
_BERT_LARGE = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "vocab_size": 21_128,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}


def hubert_layout(config: Mapping[str, Any]) -> Layout:
    """A HuBERT of the base family (group norm in the first convolution, post-norm encoder)."""
    config = {**_HUBERT_BASE, **config}  # a config.json leaves out what is usual
    width, wide = int(config["hidden_size"]), int(config["intermediate_size"])
    channels, kernels = list(config["conv_dim"]), list(config["conv_kernel"])
    shapes: Shapes = {}
    for i, (outside, kernel) in enumerate(zip(channels, kernels, strict=True)):
        inside = 1 if i == 0 else channels[i - 1]
        shapes[f"feature_extractor.conv_layers.{i}.conv.weight"] = (outside, inside, kernel)
    _norm(shapes, "feature_extractor.conv_layers.0.layer_norm", channels[0])
    _norm(shapes, "feature_projection.layer_norm", channels[-1])
    _linear(shapes, "feature_projection.projection", width, channels[-1])
    reach, groups = int(config["num_conv_pos_embeddings"]), int(config["num_conv_pos_embedding_groups"])
    position = "encoder.pos_conv_embed.conv"
    shapes |= {f"{position}.bias": (width,), f"{position}.weight_g": (1, 1, reach)}
    shapes[f"{position}.weight_v"] = (width, width // groups, reach)
    _norm(shapes, "encoder.layer_norm", width)
    for i in range(int(config["num_hidden_layers"])):
        block = f"encoder.layers.{i}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            _linear(shapes, f"{block}.attention.{part}", width, width)
        _norm(shapes, f"{block}.layer_norm", width)
        _linear(shapes, f"{block}.feed_forward.intermediate_dense", wide, width)
        _linear(shapes, f"{block}.feed_forward.output_dense", width, wide)
        _norm(shapes, f"{block}.final_layer_norm", width)
    return Layout(shapes, {"masked_spec_embed": (width,)})


def bert_layout(config: Mapping[str, Any]) -> Layout:
    """A BERT encoder with its embeddings; pooler and language model head are not used."""
    config = _BERT_LARGE | dict(config)
    width, wide = int(config["hidden_size"]), int(config["intermediate_size"])
    tables = {
        "word": int(config["vocab_size"]),
        "position": int(config["max_position_embeddings"]),
        "token_type": int(config["type_vocab_size"]),
    }
    shapes: Shapes = {f"bert.embeddings.{name}_embeddings.weight": (rows, width) for name, rows in tables.items()}
    _norm(shapes, "bert.embeddings.LayerNorm", width)
    for i in range(int(config["num_hidden_layers"])):
        block = f"bert.encoder.layer.{i}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            _linear(shapes, f"{block}.attention.{part}", width, width)
        _norm(shapes, f"{block}.attention.output.LayerNorm", width)
        _linear(shapes, f"{block}.intermediate.dense", wide, width)
        _linear(shapes, f"{block}.output.dense", width, wide)
        _norm(shapes, f"{block}.output.LayerNorm", width)
    return Layout(shapes, {})


def _norm(shapes: Shapes, name: str, width: int) -> None:
    shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def speaker_layout() -> Layout:
    """ERes2NetV2 with base width 24, scale 4, expansion 4, blocks 3-4-6-3, 80 mel bins."""
    shapes: Shapes = {"conv1.weight": (64, 1, 3, 3)}
    _batch_norm(shapes, "bn1", 64)
    inside = 64
    for number, (planes, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=1):
        for i in range(blocks):
            _res2_block(shapes, f"layer{number}.{i}", inside, planes, is_fused=number > 2)
            inside = 4 * planes
    shapes["layer3_ds.weight"] = (2048, 1024, 3, 3)
    _fusion(shapes, "fuse34", 2048)
    head: Shapes = {}
    _linear(head, "seg_1", 192, 2 * SPEAKER_WIDTH)
    return Layout(shapes, head)


def _res2_block(shapes: Shapes, name: str, inside: int, planes: int, *, is_fused: bool) -> None:
    width, outside = planes * 24 // 64, 4 * planes
    shapes[f"{name}.conv1.weight"] = (4 * width, inside, 1, 1)
    _batch_norm(shapes, f"{name}.bn1", 4 * width)
    for j in range(4):
        shapes[f"{name}.convs.{j}.weight"] = (width, width, 3, 3)
        _batch_norm(shapes, f"{name}.bns.{j}", width)
    for j in range(3 if is_fused else 0):
        _fusion(shapes, f"{name}.fuse_models.{j}", width)
    shapes[f"{name}.conv3.weight"] = (outside, 4 * width, 1, 1)
    _batch_norm(shapes, f"{name}.bn3", outside)
    if inside != outside:
        shapes[f"{name}.shortcut.0.weight"] = (outside, inside, 1, 1)
        _batch_norm(shapes, f"{name}.shortcut.1", outside)


def _fusion(shapes: Shapes, name: str, width: int) -> None:
    narrow = width // 4
    for index, (outside, inside) in ((0, (narrow, 2 * width)), (3, (width, narrow))):
        shapes[f"{name}.local_att.{index}.weight"] = (outside, inside, 1, 1)
        shapes[f"{name}.local_att.{index}.bias"] = (outside,)
        _batch_norm(shapes, f"{name}.local_att.{index + 1}", outside)


def _batch_norm(shapes: Shapes, name: str, width: int) -> None:
    for part in ("weight", "bias", "running_mean", "running_var"):
        shapes[f"{name}.{part}"] = (width,)
    shapes[f"{name}.num_batches_tracked"] = ()
