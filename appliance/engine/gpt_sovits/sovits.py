"""s2 of GPT-SoVITS v1, v2, v2Pro and v2ProPlus: sound tokens, phones and a timbre -> waveform (a VITS with tokens).

Read the parts first: `attentions`, `prior` (text side), `timbre` (reference side), `flow`, `generator`; this file has
the sizes, the quantiser and the whole. Attribute names are the official tensor names, so strict loading needs no
renames. Nothing here reads files, draws random numbers or knows devices: noise is an argument.
Axes: B batch, Y tokens of 40 ms, T frames of 20 ms (2 per token), N phones, G timbre width, S samples at 32 kHz.
"""

# torch types the call of a module as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from appliance.engine.gpt_sovits.attentions import EncoderSizes, masked
from appliance.engine.gpt_sovits.convolutions import fold_all
from appliance.engine.gpt_sovits.flow import Flow, PosteriorEncoder, WaveNetSizes
from appliance.engine.gpt_sovits.generator import Generator, GeneratorSizes
from appliance.engine.gpt_sovits.loading import without_numbers
from appliance.engine.gpt_sovits.prior import PriorEncoder, PriorSizes, change_speed, frames_at
from appliance.engine.gpt_sovits.timbre import ReferenceEncoder
from appliance.errors import Corrupt

# What is computed once per voice, and what lies between the networks that are exported. With no weights but these a
# network knows its sizes, encodes codes, hears a timbre and gives latents.
REST = ("ssl_proj.", "quantizer.", "ref_enc.", "sv_emb.", "ge_to512.", "prelu.", "enc_p.proj.")
NOISE_SCALE = 0.5  # how much of the prior's deviation is drawn; upstream never changes it
STYLE_HEADS = 2
MIXER_HEADS = 4

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class SynthesizerConfig:
    """Sizes of the network; the defaults are those of the official v2."""

    inter_channels: int = 192
    hidden_channels: int = 192
    filter_channels: int = 768
    n_heads: int = 2
    n_layers: int = 6
    kernel_size: int = 3
    p_dropout: float = 0.1
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5),) * 3
    upsample_rates: tuple[int, ...] = (10, 8, 2, 2, 2)
    upsample_initial_channel: int = 512
    upsample_kernel_sizes: tuple[int, ...] = (16, 16, 8, 2, 2)
    gin_channels: int = 512
    # from here on: not in the official configuration files
    symbols: int = 732
    ssl_width: int = 768
    ssl_stride: int = 2  # HuBERT frames per token
    codes: int = 1024
    style_bins: int = 704  # v1 hears all 1025
    style_width: int = 128
    mixer_width: int = 512
    window: int = 4
    flow_couplings: int = 4
    flow_layers: int = 4
    wave_kernel: int = 5
    posterior_layers: int = 16
    spectrum_bins: int = 1025
    speaker_width: int = 0  # v2Pro, v2ProPlus: 20480 numbers of the speaker network; 0 = none
    has_posterior: bool = False  # training only

    @classmethod
    def from_dict(cls, config: Mapping[str, Any], shapes: Shapes | None = None) -> SynthesizerConfig:
        """From an official configuration ("model" is read, unknown keys are ignored).

        `shapes` (tensor name -> shape) corrects every size that can be seen in the tensors.
        """
        model = dict(config.get("model", config))
        own = cls.__dataclass_fields__
        sizes = cls(**{key: _frozen(value) for key, value in model.items() if key in own})
        version = str(model.get("version") or config.get("version") or "v2")
        if version == "v1":
            sizes = replace(sizes, symbols=322, style_bins=sizes.spectrum_bins)
        elif version.startswith("v2Pro"):
            sizes = replace(sizes, speaker_width=20480)
        return sizes.fitted(shapes) if shapes else sizes

    def fitted(self, shapes: Shapes) -> SynthesizerConfig:
        """These sizes, corrected by what the tensors show."""
        seen: dict[str, Any] = {field: shapes[name][axis] for field, (name, axis) in _SEEN_IN.items() if name in shapes}
        rows = shapes.get("enc_p.encoder_text.attn_layers.0.emb_rel_k")
        if rows is not None:
            seen |= {"window": rows[1] // 2, "n_heads": seen["hidden_channels"] // rows[2]}
        return replace(
            self,
            **seen,
            speaker_width=shapes["sv_emb.weight"][1] if "sv_emb.weight" in shapes else 0,
            has_posterior="enc_q.pre.weight" in shapes,
        )

    @property
    def is_pro(self) -> bool:
        return self.speaker_width > 0

    @property
    def samples_per_frame(self) -> int:
        return math.prod(self.upsample_rates)  # 640

    @property
    def frames_per_token(self) -> int:
        return self.ssl_stride  # HuBERT and s2 both have 50 frames per second


_SEEN_IN = {
    "inter_channels": ("dec.conv_pre.weight", 1),
    "hidden_channels": ("enc_p.ssl_proj.weight", 0),
    "filter_channels": ("enc_p.encoder_text.ffn_layers.0.conv_1.weight", 0),
    "kernel_size": ("enc_p.encoder_text.ffn_layers.0.conv_1.weight", 2),
    "upsample_initial_channel": ("dec.conv_pre.weight", 0),
    "gin_channels": ("ref_enc.fc.fc.weight", 0),
    "symbols": ("enc_p.text_embedding.weight", 0),
    "ssl_width": ("ssl_proj.weight", 0),
    "ssl_stride": ("ssl_proj.weight", 2),
    "codes": ("quantizer.vq.layers.0._codebook.embed", 0),
    "style_bins": ("ref_enc.spectral.0.fc.weight", 1),
    "style_width": ("ref_enc.spectral.0.fc.weight", 0),
    "mixer_width": ("enc_p.mrte.c_pre.weight", 0),
    "spectrum_bins": ("enc_q.pre.weight", 1),
}


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value


class Codebook(nn.Module):
    """1024 points in the space of the projected HuBERT features; frozen, also in training."""

    embed: Tensor

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("inited", torch.ones(1))
        self.register_buffer("cluster_size", torch.zeros(codes))
        self.register_buffer("embed", torch.zeros(codes, width))
        self.register_buffer("embed_avg", torch.zeros(codes, width))  # kept so that files can be written back whole

    def nearest(self, x: Tensor) -> Tensor:
        """(…, width) -> (…) ids, by squared distance."""
        distance = x.square().sum(dim=-1, keepdim=True) - 2 * x @ self.embed.T + self.embed.square().sum(dim=1)
        return distance.argmin(dim=-1)


class Quantizer(nn.Module):
    """One codebook, nested as the official tensor names are."""

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        layer = nn.ModuleDict({"_codebook": Codebook(codes, width)})
        self.vq = nn.ModuleDict({"layers": nn.ModuleList([layer])})

    @property
    def codebook(self) -> Codebook:
        return cast(Codebook, self.get_submodule("vq.layers.0._codebook"))

    def encode(self, x: Tensor) -> Tensor:
        """(B, width, Y) -> (B, 1, Y) ids."""
        return self.codebook.nearest(x.transpose(1, 2)).unsqueeze(1)

    def decode(self, codes: Tensor) -> Tensor:
        """(B, 1, Y) -> (B, width, Y)."""
        return self.codebook.embed[codes[:, 0]].transpose(1, 2)


class Lesson(NamedTuple):
    """One batch to learn from; lengths are counted in frames and phones, shorter items end in zeros."""

    ssl: Tensor  # (B, ssl_width, T)
    spectrogram: Tensor  # (B, bins, T)
    frames: Tensor  # (B,)
    phone_ids: Tensor  # (B, N)
    phones: Tensor  # (B,)
    speakers: Tensor | None = None  # (B, speaker_width), Pro only


class Learned(NamedTuple):
    """What the losses of s2 compare. (B, inter, T) each but `ge` (B, G, 1) and `mask` (B, 1, T)."""

    z: Tensor
    z_prior: Tensor  # z sent through the flow
    mean_prior: Tensor
    log_deviation_prior: Tensor
    mean: Tensor
    log_deviation: Tensor
    mask: Tensor
    ge: Tensor


class StreamPart(NamedTuple):
    """What upstream's way of streaming hands from one part to the next."""

    waveform: Tensor  # (1, 1, S)
    features: Tensor  # (1, hidden, T) before any change of speed; its last frames overlap the next part


class Synthesizer(nn.Module):
    """The whole of s2. `encode_codes` and `timbre` once per voice, `decode` per piece of text."""

    def __init__(self, config: SynthesizerConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or SynthesizerConfig()
        wave = WaveNetSizes(c.hidden_channels, c.wave_kernel, c.flow_layers, c.gin_channels)
        self.ssl_proj = nn.Conv1d(c.ssl_width, c.ssl_width, c.ssl_stride, stride=c.ssl_stride)
        self.quantizer = Quantizer(c.codes, c.ssl_width)
        self.ref_enc = ReferenceEncoder(c.style_bins, c.style_width, STYLE_HEADS, c.gin_channels)
        if c.is_pro:
            self.sv_emb = nn.Linear(c.speaker_width, c.gin_channels)
            self.ge_to512 = nn.Linear(c.gin_channels, c.mixer_width)
            self.prelu = nn.PReLU(c.gin_channels)
        self.enc_p = PriorEncoder(_prior_sizes(c))
        if c.has_posterior:
            deep = replace(wave, layers=c.posterior_layers)
            self.enc_q = PosteriorEncoder(c.spectrum_bins, c.inter_channels, deep)
        self.flow = Flow(c.inter_channels, c.flow_couplings, wave)
        self.dec = Generator(_generator_sizes(c))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Synthesizer:
        """The network with its weights in float32, in evaluation mode, not folded.

        Tensors that are float32 already are not copied: they belong to the network from then on.

        Raises Corrupt("s2_tensors_wrong") naming tensors that are missing, left over or of the wrong shape.
        """
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        with without_numbers():
            network = cls(SynthesizerConfig.from_dict(config, shapes))
        wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        wrong = sorted(name for name in wanted.keys() | shapes.keys() if wanted.get(name) != shapes.get(name))
        if wrong:
            raise Corrupt("s2_tensors_wrong", count=len(wrong), first=wrong[0])
        network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
        return network.eval()

    def folded(self) -> Synthesizer:
        """Itself, made ready for serving: weight norms multiplied out, gradients off. Cannot be undone."""
        fold_all(self)
        return self.requires_grad_(False).eval()

    # ------------------------------------------------------------ once per voice

    @torch.inference_mode()
    def encode_codes(self, ssl: Tensor) -> Tensor:
        """HuBERT features (B, ssl_width, T) -> tokens (B, 1, T // 2); an odd last frame is dropped."""
        return self.quantizer.encode(self.ssl_proj(ssl))

    @torch.inference_mode()
    def timbre(self, spectrograms: Sequence[Tensor], speakers: Sequence[Tensor] | None = None) -> Tensor:
        """Reference spectrograms (1, bins, T), for Pro as many speaker vectors (1, speaker_width) -> ge (1, G, 1).

        Several references are averaged.
        """
        if self.config.is_pro:
            if speakers is None or len(speakers) != len(spectrograms):
                raise ValueError("a Pro model needs one speaker vector per reference")
            pairs = zip(spectrograms, speakers, strict=True)
            return torch.stack([self._timbre(spec, None, speaker) for spec, speaker in pairs]).mean(dim=0)
        return torch.stack([self._timbre(spec, None, None) for spec in spectrograms]).mean(dim=0)

    def _timbre(self, spectrogram: Tensor, mask: Tensor | None, speaker: Tensor | None) -> Tensor:
        ge = self.ref_enc(spectrogram, mask)  # (B, G, 1)
        if speaker is None:
            return ge
        return self.prelu(ge + self.sv_emb(speaker).unsqueeze(2))

    def mixer_timbre(self, ge: Tensor) -> Tensor:
        """The timbre as the mixer hears it: narrower for Pro, the same otherwise."""
        return self.ge_to512(ge.squeeze(2)).unsqueeze(2) if self.config.is_pro else ge  # (B, M, 1)

    # ------------------------------------------------------------ per piece of text

    def frames(self, tokens: int, speed: float = 1.0) -> int:
        """How many frames, and so columns of noise, `tokens` become."""
        return frames_at(tokens * self.config.frames_per_token, speed)

    @torch.inference_mode()
    def decode(
        self, codes: Tensor, phone_ids: Tensor, ge: Tensor, noise: Tensor | None = None, speed: float = 1.0
    ) -> Tensor:
        """Tokens (1, 1, Y), phones of the text alone (1, N), ge -> (1, 1, S), S = 640 * frames(Y, speed).

        `noise`: standard normal (1, inter, at least that many frames), or None for the most likely sound.
        """
        features = change_speed(self.features(codes, phone_ids, ge), speed)
        return self.voice(features, ge, noise)

    @torch.inference_mode()
    def features(self, codes: Tensor, phone_ids: Tensor, ge: Tensor) -> Tensor:
        """The part that sees everything at once: (1, 1, Y), (1, N), (1, G, 1) -> (1, hidden, 2Y)."""
        quantised = self.quantizer.decode(codes).repeat_interleave(self.config.frames_per_token, dim=2)
        return self.enc_p.features(quantised, phone_ids, self.mixer_timbre(ge))

    @torch.inference_mode()
    def voice(self, features: Tensor, ge: Tensor, noise: Tensor | None, is_end: bool = True) -> Tensor:
        """The part that sees only its neighbourhood: (1, hidden, T), noise (1, inter, >= T) -> (1, 1, 640 T).

        Unless `is_end`, the sound of the last few frames is not going to be used.
        """
        return self.dec(self.flow(self.latent(features, noise), None, ge, is_inverse=True), ge)

    def latent(self, features: Tensor, noise: Tensor | None) -> Tensor:
        """What the flow is given: (1, hidden, T), noise (1, inter, >= T) -> (1, inter, T)."""
        mean, log_deviation = self.enc_p.project(features)
        if noise is not None:
            mean = mean + noise[:, :, : mean.shape[2]] * torch.exp(log_deviation) * NOISE_SCALE
        return mean

    def first_frame(self, wanted: int, known: int) -> int:
        """From where to voice `wanted` .. `known`: any length is as good as another here."""
        return wanted

    @torch.inference_mode()
    def decode_stream(
        self,
        codes: Tensor,
        phone_ids: Tensor,
        ge: Tensor,
        *,
        noise: Tensor | None = None,
        speed: float = 1.0,
        last_tokens: int | None = None,
        overlap: Tensor | None = None,
    ) -> StreamPart:
        """Upstream's streaming: all tokens so far are encoded, the frames of the `last_tokens` are voiced.

        `overlap` (1, hidden, L), the tail of the part before, is faded into the first L frames by sin and cos, whose
        sum is above 1 in between, as upstream's is. The parts' waveforms overlap too; see `joints.Sola`. `streaming`
        has a way without seams.
        """
        features = self.features(codes, phone_ids, ge)
        if last_tokens is not None:
            features = features[:, :, -last_tokens * self.config.frames_per_token :]
        if overlap is not None:
            length = overlap.shape[2]
            angle = torch.arange(length, dtype=features.dtype, device=features.device) * (math.pi / (2 * length))
            head = features[:, :, :length] * torch.sin(angle) + overlap * torch.cos(angle)
            features = torch.cat([head, features[:, :, length:]], dim=2)
        return StreamPart(self.voice(change_speed(features, speed), ge, noise), features)

    # ------------------------------------------------------------ learning

    def learn(self, lesson: Lesson, noise: Tensor) -> Learned:
        """One pass with gradients; `noise` is standard normal (B, inter, T). The caller slices `z` and calls `dec`.

        The timbre comes from each item's own spectrogram and is not taught by the posterior encoder.
        """
        mask = _length_mask(lesson.frames, lesson.spectrogram.shape[2])  # (B, 1, T)
        text_mask = _length_mask(lesson.phones, lesson.phone_ids.shape[1])
        ge = self._timbre(lesson.spectrogram * mask, mask, lesson.speakers)
        with torch.no_grad():
            quantised = self.quantizer.decode(self.quantizer.encode(self.ssl_proj(lesson.ssl)))
            quantised = quantised.repeat_interleave(self.config.frames_per_token, dim=2)
        features = self.enc_p.features(quantised, lesson.phone_ids, self.mixer_timbre(ge), (mask, text_mask))
        mean_prior, log_deviation_prior = self.enc_p.project(features, mask)
        mean, log_deviation = self.enc_q(lesson.spectrogram, mask, ge.detach())
        z = masked(mean + noise * torch.exp(log_deviation), mask)
        z_prior = self.flow(z, mask, ge)
        return Learned(z, z_prior, mean_prior, log_deviation_prior, mean, log_deviation, mask, ge)


def _length_mask(lengths: Tensor, longest: int) -> Tensor:
    """(B,) -> (B, 1, longest), 1 before each length."""
    return (torch.arange(longest, device=lengths.device) < lengths[:, None]).unsqueeze(1).float()


def _prior_sizes(c: SynthesizerConfig) -> PriorSizes:
    return PriorSizes(
        encoder=EncoderSizes(c.hidden_channels, c.filter_channels, c.n_heads, c.kernel_size, c.window, c.p_dropout),
        ssl_layers=c.n_layers // 2,
        text_layers=c.n_layers,
        last_layers=c.n_layers // 2,
        ssl_width=c.ssl_width,
        symbols=c.symbols,
        mixer_width=c.mixer_width,
        mixer_heads=MIXER_HEADS,
        latent=c.inter_channels,
    )


def _generator_sizes(c: SynthesizerConfig) -> GeneratorSizes:
    return GeneratorSizes(
        latent=c.inter_channels,
        timbre=c.gin_channels,
        initial=c.upsample_initial_channel,
        rates=c.upsample_rates,
        kernels=c.upsample_kernel_sizes,
        block_kernels=c.resblock_kernel_sizes,
        block_dilations=c.resblock_dilation_sizes,
    )
