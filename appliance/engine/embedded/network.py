"""The PyTorch twin of the embedded engine's network (Kokoro-82M, a StyleTTS 2 with an iSTFTNet vocoder).

Read from top to bottom: sizes, layers, front half (phones -> durations, pitch, energy), back half (-> waveform), the
whole. Axes: B batch, N phones, T feature frames of 25 ms, 2T pitch frames of 12.5 ms, S samples at 24 kHz, C channels.
Attribute names follow the tensor names of the exported graph, so that `weights.py` needs few renames.
Nothing here reads files, draws random numbers or knows devices: the noise of the harmonic source is an argument.
"""

# torch types the call of a module as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the network; the defaults are those of Kokoro-82M."""

    symbols: int = 178
    hidden: int = 512
    style: int = 128  # numbers per style half: [:128] timbre (decoder), [128:] prosody (front half)
    duration_bins: int = 50
    bert_embedding: int = 128
    bert_hidden: int = 768
    bert_inner: int = 2048
    bert_heads: int = 12
    bert_layers: int = 12
    bert_positions: int = 512
    decoder_hidden: int = 1024
    generator_channels: int = 512
    upsample_rates: tuple[int, ...] = (10, 6)
    upsample_kernels: tuple[int, ...] = (20, 12)
    block_kernels: tuple[int, ...] = (3, 7, 11)
    block_dilations: tuple[int, ...] = (1, 3, 5)
    n_fft: int = 20
    hop: int = 5
    harmonics: int = 9  # the fundamental and eight overtones
    sample_rate: int = 24_000

    @property
    def samples_per_pitch_frame(self) -> int:
        return math.prod(self.upsample_rates) * self.hop  # 300


class Features(NamedTuple):
    """What the front half hands to the decoder."""

    phones: Tensor  # (B, hidden, T)
    f0_hz: Tensor  # (B, 2T); unvoiced frames sit near 0
    energy: Tensor  # (B, 2T)
    durations: Tensor  # (B, N) whole frames per phone, sum = T


# ---------------------------------------------------------------- layers with style


class StyledInstanceNorm(nn.Module):
    """Normalise each channel over time, then scale and shift it by a linear function of the style (AdaIN)."""

    def __init__(self, style: int, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(style, channels * 2)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        gain, shift = self.fc(style).unsqueeze(2).chunk(2, dim=1)  # (B, C, 1) each
        return (1 + gain) * F.instance_norm(x, eps=1e-5) + shift  # (B, C, T)


class StyledLayerNorm(nn.Module):
    """The same over the channels of one position (AdaLN)."""

    def __init__(self, style: int, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(style, channels * 2)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        gain, shift = self.fc(style).unsqueeze(1).chunk(2, dim=2)  # (B, 1, C) each
        return (1 + gain) * F.layer_norm(x, x.shape[-1:], eps=1e-5) + shift  # (B, N, C)


class ChannelNorm(nn.Module):
    """Layer norm over the channel axis of (B, C, N)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.transpose(1, 2), self.gamma.shape, self.gamma, self.beta, 1e-5).transpose(1, 2)


class StyledBlock(nn.Module):
    """Residual pair of convolutions with AdaIN; may double the number of frames."""

    def __init__(self, width: tuple[int, int], style: int, doubles: bool = False) -> None:
        super().__init__()
        inside, outside = width
        self.doubles = doubles
        self.norm1 = StyledInstanceNorm(style, inside)
        self.norm2 = StyledInstanceNorm(style, outside)
        self.conv1 = nn.Conv1d(inside, outside, 3, padding=1)
        self.conv2 = nn.Conv1d(outside, outside, 3, padding=1)
        self.conv1x1 = nn.Conv1d(inside, outside, 1, bias=False) if inside != outside else nn.Identity()
        self.pool = (
            nn.ConvTranspose1d(inside, inside, 3, stride=2, padding=1, output_padding=1, groups=inside)
            if doubles
            else nn.Identity()
        )

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        branch = self.pool(F.leaky_relu(self.norm1(x, style), 0.2))  # (B, inside, T or 2T)
        branch = self.conv2(F.leaky_relu(self.norm2(self.conv1(branch), style), 0.2))  # (B, outside, T or 2T)
        skip = self.conv1x1(x.repeat_interleave(2, dim=2) if self.doubles else x)
        return (branch + skip) * math.sqrt(0.5)


class SnakeBlock(nn.Module):
    """Three dilated residual steps with AdaIN and the periodic "snake" activation, one kernel size."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...], style: int) -> None:
        super().__init__()

        def convolution(dilation: int) -> nn.Conv1d:
            return nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=dilation * (kernel - 1) // 2)

        count = len(dilations)
        self.convs1 = nn.ModuleList(convolution(d) for d in dilations)
        self.convs2 = nn.ModuleList(convolution(1) for _ in dilations)
        self.adain1 = nn.ModuleList(StyledInstanceNorm(style, channels) for _ in dilations)
        self.adain2 = nn.ModuleList(StyledInstanceNorm(style, channels) for _ in dilations)
        self.alpha1 = nn.ParameterList(torch.ones(1, channels, 1) for _ in range(count))
        self.alpha2 = nn.ParameterList(torch.ones(1, channels, 1) for _ in range(count))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        for i in range(len(self.convs1)):
            y = self.convs1[i](_snake(self.adain1[i](x, style), self.alpha1[i]))
            x = x + self.convs2[i](_snake(self.adain2[i](y, style), self.alpha2[i]))
        return x  # (B, C, T)


def _snake(x: Tensor, alpha: Tensor) -> Tensor:
    return x + torch.sin(alpha * x).square() / alpha


# ---------------------------------------------------------------- front half: phones -> durations, pitch, energy


class AlbertAttention(nn.Module):
    """Self-attention of one phrase with the residual and layer norm after it."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(hidden, hidden) for _ in range(3))
        self.dense = nn.Linear(hidden, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, hidden = x.shape
        split = (batch, length, self.heads, hidden // self.heads)
        q, k, v = (
            part(x).view(split).transpose(1, 2) for part in (self.query, self.key, self.value)
        )  # (B, heads, N, .)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, hidden)
        return self.LayerNorm(x + self.dense(mixed))  # (B, N, hidden)


class AlbertLayer(nn.Module):
    """The one transformer layer that all twelve passes share."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.attention = AlbertAttention(config.bert_hidden, config.bert_heads)
        self.ffn = nn.Linear(config.bert_hidden, config.bert_inner)
        self.ffn_output = nn.Linear(config.bert_inner, config.bert_hidden)
        self.full_layer_layer_norm = nn.LayerNorm(config.bert_hidden, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(x)
        return self.full_layer_layer_norm(x + self.ffn_output(F.gelu(self.ffn(x), approximate="tanh")))


class PhoneBert(nn.Module):
    """ALBERT over phones: context of the whole phrase for prosody."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width = config.bert_embedding
        self.passes = config.bert_layers
        self.word_embeddings = nn.Embedding(config.symbols, width)
        self.position_embeddings = nn.Embedding(config.bert_positions, width)
        self.token_type_embeddings = nn.Embedding(2, width)
        self.LayerNorm = nn.LayerNorm(width, eps=1e-12)
        self.embedding_hidden_mapping_in = nn.Linear(width, config.bert_hidden)
        self.layer = AlbertLayer(config)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.word_embeddings(tokens) + self.position_embeddings(positions) + self.token_type_embeddings.weight[0]
        x = self.embedding_hidden_mapping_in(self.LayerNorm(x))  # (B, N, bert_hidden)
        for _ in range(self.passes):
            x = self.layer(x)
        return x


class PhoneEncoder(nn.Module):
    """Phones -> the features the decoder pronounces (convolutions, then an LSTM both ways)."""

    def __init__(self, config: NetworkConfig, depth: int = 3, kernel: int = 5) -> None:
        super().__init__()
        width = config.hidden
        self.embedding = nn.Embedding(config.symbols, width)
        self.cnn = nn.ModuleList(
            nn.Sequential(nn.Conv1d(width, width, kernel, padding=kernel // 2), ChannelNorm(width), nn.LeakyReLU(0.2))
            for _ in range(depth)
        )
        self.lstm = _both_ways(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens).transpose(1, 2)  # (B, hidden, N)
        for convolution in self.cnn:
            x = convolution(x)
        return self.lstm(x.transpose(1, 2))[0].transpose(1, 2)  # (B, hidden, N)


class StyledEncoder(nn.Module):
    """LSTMs both ways and AdaLN in turn, the style beside every input; the list alternates LSTM, norm, LSTM, …"""

    def __init__(self, config: NetworkConfig, depth: int = 3) -> None:
        super().__init__()
        self.lstms = nn.ModuleList()
        for _ in range(depth):
            self.lstms.append(_both_ways(config.hidden + config.style, config.hidden))
            self.lstms.append(StyledLayerNorm(config.style, config.hidden))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        beside = style.unsqueeze(1).expand(-1, x.shape[1], -1)  # (B, N, style)
        x = torch.cat([x, beside], dim=2)
        for recurrent, norm in zip(self.lstms[::2], self.lstms[1::2], strict=True):
            x = torch.cat([norm(recurrent(x)[0], style), beside], dim=2)
        return x  # (B, N, hidden + style)


class ProsodyPredictor(nn.Module):
    """Context and style -> frames per phone, pitch, energy."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width, style = config.hidden, config.style
        self.text_encoder = StyledEncoder(config)
        self.lstm = _both_ways(width + style, width)
        self.duration_proj = nn.Linear(width, config.duration_bins)
        self.shared = _both_ways(width + style, width)
        self.F0, self.N = (_curve_blocks(width, style) for _ in range(2))
        self.F0_proj, self.N_proj = (nn.Conv1d(width // 2, 1, 1) for _ in range(2))

    def durations(self, encoded: Tensor, speed: float) -> Tensor:
        """(B, N, hidden + style) -> (B, N) whole frames of 25 ms, at least one each."""
        raw = torch.sigmoid(self.duration_proj(self.lstm(encoded)[0])).sum(dim=2) / speed
        return raw.round().clamp(min=1).long()

    def curves(self, spread: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, hidden + style) -> pitch in Hz and energy, (B, 2T) each."""
        x = self.shared(spread)[0].transpose(1, 2)  # (B, hidden, T)
        pitch, energy = x, x
        for pitch_block, energy_block in zip(self.F0, self.N, strict=True):
            pitch, energy = pitch_block(pitch, style), energy_block(energy, style)
        return self.F0_proj(pitch).squeeze(1), self.N_proj(energy).squeeze(1)


def _both_ways(inside: int, outside: int) -> nn.LSTM:
    return nn.LSTM(inside, outside // 2, batch_first=True, bidirectional=True)


def _curve_blocks(width: int, style: int) -> nn.ModuleList:
    half = width // 2
    return nn.ModuleList(
        [
            StyledBlock((width, width), style),
            StyledBlock((width, half), style, doubles=True),
            StyledBlock((half, half), style),
        ]
    )


# ---------------------------------------------------------------- back half: features -> waveform


class HarmonicSource(nn.Module):
    """Pitch -> a buzz: a weighted sum of nine sines, silent where the frame is unvoiced."""

    VOICED_ABOVE_HZ = 10.0
    AMPLITUDE = 0.1

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.rate, self.step = config.sample_rate, config.samples_per_pitch_frame
        self.l_linear = nn.Linear(config.harmonics, 1)

    def forward(self, f0_hz: Tensor, noise: Tensor | None) -> Tensor:
        """(B, 2T) Hz, and noise (B, S, 1) added to the mixed sines or None for none -> (B, S)."""
        f0 = f0_hz.repeat_interleave(self.step, dim=1).unsqueeze(1)  # (B, 1, S)
        overtone = torch.arange(1, self.l_linear.in_features + 1, device=f0.device).view(1, -1, 1)
        cycles = (f0 * overtone / self.rate).frac()  # per sample
        # Summed once per pitch frame and drawn as a line between: a sum over samples would lose precision.
        frames = F.interpolate(cycles, scale_factor=1 / self.step, mode="linear")
        phase = torch.cumsum(frames, dim=2) * (2 * math.pi * self.step)
        phase = F.interpolate(phase, scale_factor=float(self.step), mode="linear")
        sines = torch.sin(phase) * self.AMPLITUDE * (f0 > self.VOICED_ABOVE_HZ)  # (B, harmonics, S)
        mixed = self.l_linear(sines.transpose(1, 2))  # (B, S, 1)
        return torch.tanh(mixed if noise is None else mixed + noise).squeeze(2)  # (B, S)


class ShortTime(nn.Module):
    """The vocoder's tiny Fourier transforms, forward to magnitude and phase, and back by overlap-add."""

    window: Tensor
    basis: Tensor

    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        window = torch.hann_window(n_fft)
        unit = torch.eye(n_fft // 2 + 1, dtype=torch.complex64)
        rows = torch.cat([torch.fft.irfft(unit, n_fft), torch.fft.irfft(unit * 1j, n_fft)])  # (n_fft + 2, n_fft)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("basis", (rows * window).unsqueeze(1), persistent=False)

    def analyse(self, x: Tensor) -> Tensor:
        """(B, S) -> (B, n_fft + 2, S / hop + 1): magnitudes above phases."""
        spectrum = torch.stft(x, self.n_fft, self.hop, self.n_fft, self.window, return_complex=True, pad_mode="reflect")
        return torch.cat([spectrum.abs(), spectrum.angle()], dim=1)

    def synthesise(self, magnitude: Tensor, phase: Tensor) -> Tensor:
        """(B, n_fft / 2 + 1, frames) each -> (B, S). The constant gain of the overlapping squared windows (1.5) stays
        in, as it does in the exported graph."""
        parts = torch.cat([magnitude * torch.cos(phase), magnitude * torch.sin(phase)], dim=1)
        edge = self.n_fft // 2
        return F.conv_transpose1d(parts, self.basis, stride=self.hop).squeeze(1)[:, edge:-edge]


class Generator(nn.Module):
    """Decoder features and pitch -> waveform: upsample, mix in the source's spectrum, predict a spectrum, invert it."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        style, rates, kernels = config.style, config.upsample_rates, config.block_kernels
        widths = [config.generator_channels >> level for level in range(len(rates) + 1)]
        bins = config.n_fft + 2
        self.m_source = HarmonicSource(config)
        self.spectrum = ShortTime(config.n_fft, config.hop)
        self.ups, self.noise_convs = nn.ModuleList(), nn.ModuleList()
        self.noise_res, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for level, (rate, kernel) in enumerate(zip(rates, config.upsample_kernels, strict=True)):
            wide, narrow = widths[level], widths[level + 1]
            is_last = level + 1 == len(rates)
            stride = math.prod(rates[level + 1 :])
            self.ups.append(nn.ConvTranspose1d(wide, narrow, kernel, stride=rate, padding=(kernel - rate) // 2))
            self.noise_convs.append(
                nn.Conv1d(bins, narrow, 1)
                if is_last
                else nn.Conv1d(bins, narrow, stride * 2, stride=stride, padding=(stride + 1) // 2)
            )
            self.noise_res.append(SnakeBlock(narrow, 11 if is_last else 7, config.block_dilations, style))
            self.resblocks.extend(SnakeBlock(narrow, size, config.block_dilations, style) for size in kernels)
        self.conv_post = nn.Conv1d(widths[-1], bins, 7, padding=3)

    def forward(self, x: Tensor, f0_hz: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        source = self.spectrum.analyse(self.m_source(f0_hz, noise))  # (B, bins, S / hop + 1)
        per_level = len(self.resblocks) // len(self.ups)
        for level, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, 0.1))
            if level + 1 == len(self.ups):
                x = F.pad(x, (1, 0), mode="reflect")  # the spectrum has one frame more than S / hop
            x = x + self.noise_res[level](self.noise_convs[level](source), style)
            blocks = self.resblocks[level * per_level : (level + 1) * per_level]
            x = torch.stack([block(x, style) for block in blocks]).mean(dim=0)
        log_magnitude, angle = self.conv_post(F.leaky_relu(x, 0.01)).chunk(2, dim=1)
        return self.spectrum.synthesise(log_magnitude.exp(), torch.sin(angle))  # (B, S)


class Decoder(nn.Module):
    """Phone features, pitch, energy and timbre style -> waveform."""

    def __init__(self, config: NetworkConfig, residual: int = 64) -> None:
        super().__init__()
        wide, style = config.decoder_hidden, config.style
        mixed = wide + residual + 2
        self.F0_conv, self.N_conv = (nn.Conv1d(1, 1, 3, stride=2, padding=1) for _ in range(2))
        self.asr_res = nn.Sequential(nn.Conv1d(config.hidden, residual, 1))
        self.encode = StyledBlock((config.hidden + 2, wide), style)
        self.decode = nn.ModuleList(StyledBlock((mixed, wide), style) for _ in range(3))
        self.decode.append(StyledBlock((mixed, config.generator_channels), style, doubles=True))
        self.generator = Generator(config)

    def forward(self, phones: Tensor, f0_hz: Tensor, energy: Tensor, style: Tensor, noise: Tensor | None) -> Tensor:
        curves = [self.F0_conv(f0_hz.unsqueeze(1)), self.N_conv(energy.unsqueeze(1))]  # (B, 1, T) each
        x = self.encode(torch.cat([phones, *curves], dim=1), style)  # (B, wide, T)
        beside = [self.asr_res(phones), *curves]
        for block in self.decode:
            x = block(torch.cat([x, *beside], dim=1), style)
        return self.generator(x, f0_hz, style, noise)  # (B, S) with S = 600 T


# ---------------------------------------------------------------- the whole


class Network(nn.Module):
    """Phones to waveform in two halves, so that pitch can be changed between them."""

    def __init__(self, config: NetworkConfig | None = None) -> None:
        super().__init__()
        self.config = config or NetworkConfig()
        self.bert = PhoneBert(self.config)
        self.bert_encoder = nn.Linear(self.config.bert_hidden, self.config.hidden)
        self.predictor = ProsodyPredictor(self.config)
        self.text_encoder = PhoneEncoder(self.config)
        self.decoder = Decoder(self.config)

    def front(self, tokens: Tensor, prosody_style: Tensor, speed: float = 1.0) -> Features:
        """(1, N) symbol ids with the blank 0 at both ends, (1, style) -> features. One phrase: durations are ragged."""
        encoded = self.predictor.text_encoder(self.bert_encoder(self.bert(tokens)), prosody_style)  # (1, N, .)
        durations = self.predictor.durations(encoded, speed)
        spread = durations[0]
        f0_hz, energy = self.predictor.curves(encoded.repeat_interleave(spread, dim=1), prosody_style)
        phones = self.text_encoder(tokens).repeat_interleave(spread, dim=2)
        return Features(phones, f0_hz, energy, durations)

    def decode(self, features: Features, timbre_style: Tensor, noise: Tensor | None = None) -> Tensor:
        """Features, (B, style), optional (B, S, 1) source noise -> (B, S) samples at 24 kHz.

        The exported graph adds no noise to the source, so None is what matches it.
        """
        return self.decoder(features.phones, features.f0_hz, features.energy, timbre_style, noise)
