"""The speaker encoder of `appliance.audio.speaker_embedding` in PyTorch, so that a loss can reach through it."""

# torch types the call of a module as Any
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from appliance.audio import speaker_embedding as reference
from appliance.audio.spectra import mel_filters


class SpeakerEncoder(nn.Module):
    """Speech at 24 kHz -> embeddings of length 1, differentiable; equal to the reference on one window."""

    filters: Tensor
    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(reference.BANDS, reference.WIDTH, reference.LAYERS, batch_first=True)
        self.linear = nn.Linear(reference.WIDTH, reference.WIDTH)
        filters = mel_filters(reference.SAMPLE_RATE, reference.N_FFT, reference.BANDS, reference.SAMPLE_RATE / 2)
        self.register_buffer("filters", torch.from_numpy(filters.copy()), persistent=False)
        self.register_buffer("window", torch.hann_window(reference.N_FFT), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """(B, S) at 24 kHz, one window of speech each (1.6 s is best) -> (B, 256)."""
        return self.embed_mel(self.mel(to_16k(samples)))

    def mel(self, samples: Tensor) -> Tensor:
        """(B, S) at 16 kHz, any level -> (B, frames, 40) mel power at the encoder's level."""
        level = samples.square().mean(dim=1, keepdim=True).sqrt()
        levelled = samples * (10 ** (reference.LOUDNESS_DBFS / 20) / (level + 1e-6))
        spectrum = torch.stft(
            levelled,
            reference.N_FFT,
            reference.HOP,
            window=self.window,
            return_complex=True,
            pad_mode="constant",
        )
        return spectrum.abs().square().transpose(1, 2) @ self.filters

    def embed_mel(self, mel: Tensor) -> Tensor:
        """(B, frames, 40) -> (B, 256), each of length 1."""
        return self._project(self.lstm(mel)[0])

    def listen(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S) at 24 kHz -> embeddings (B, 256); mean and deviation of the top layer's states (B, 2, 256)."""
        return self.listen_16k(to_16k(samples))

    def listen_16k(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """The same for (B, S) at 16 kHz."""
        states = self.lstm(self.mel(samples))[0]  # (B, frames, 256)
        heard = states[:, states.shape[1] // 4 :]  # the first states still know too little
        return self._project(states), torch.stack([heard.mean(dim=1), heard.std(dim=1)], dim=1)

    def _project(self, states: Tensor) -> Tensor:
        return F.normalize(torch.relu(self.linear(states[:, -1])), dim=1, eps=1e-8)


def to_16k(samples: Tensor) -> Tensor:
    """(B, S) at 24 kHz -> (B, 2S/3) at 16 kHz: the spectrum above 8 kHz is cut off, exactly and differentiably."""
    whole = samples.shape[1] // 3 * 3
    spectrum = torch.fft.rfft(samples[:, :whole])
    kept = whole // 3 * 2
    return torch.fft.irfft(spectrum[:, : kept // 2 + 1], n=kept) * (2 / 3)


def load_speaker_encoder() -> SpeakerEncoder:
    """The encoder with its shipped weights, frozen. Raises Corrupt."""
    encoder = SpeakerEncoder().eval().requires_grad_(False)
    encoder.load_state_dict(read_weights(reference.read_graph()), strict=True)
    return encoder


def read_weights(graph: bytes) -> dict[str, Tensor]:
    """The state dict from the ONNX graph, which orders the gates input, output, forget, cell."""
    import onnx

    stored = onnx.load_model_from_string(graph).graph.initializer
    values = {t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).astype(np.float32)) for t in stored}
    state = {name: values[name] for name in ("linear.weight", "linear.bias")}
    for layer in range(reference.LAYERS):
        bias_in, bias_recurrent = values[f"lstm.{layer}.bias"][0].chunk(2)
        state[f"lstm.weight_ih_l{layer}"] = _reorder(values[f"lstm.{layer}.input"][0])
        state[f"lstm.weight_hh_l{layer}"] = _reorder(values[f"lstm.{layer}.recurrent"][0])
        state[f"lstm.bias_ih_l{layer}"] = _reorder(bias_in)
        state[f"lstm.bias_hh_l{layer}"] = _reorder(bias_recurrent)
    return state


def _reorder(gates: Tensor) -> Tensor:
    """(4H, …) input, output, forget, cell -> input, forget, cell, output."""
    i, o, f, c = gates.chunk(4)
    return torch.cat([i, f, c, o])
