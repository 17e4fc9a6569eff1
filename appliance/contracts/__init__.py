"""The records and abstract classes that rooms and plugins share. Numpy and the standard library only.

Rooms and plugins import them from here; in which file of this package one is written is nobody else's business.
"""

from appliance.contracts.backends import Artifact, Backend, Device, Probe, Session, SessionOptions
from appliance.contracts.channels import Channel, ChannelHost, DeliveredLine, Delivery, StagedDelivery
from appliance.contracts.engines import UNTRIED, Engine, EngineHost
from appliance.contracts.hearing import QualityReport, Reason, Transcriber, Transcript
from appliance.contracts.peers import PeerGrant, PeerLink, PeerLinks
from appliance.contracts.sound import Audio, JsonDict, Samples
from appliance.contracts.text import TextFrontend, Utterance, WordSpan
from appliance.contracts.voices import (
    AdaptedVoice,
    AdaptTask,
    AudioChunk,
    Clip,
    Progress,
    Pronunciation,
    SpeakTask,
    StarterVoice,
    VoiceAssets,
)

__all__ = [
    "UNTRIED",
    "AdaptTask",
    "AdaptedVoice",
    "Artifact",
    "Audio",
    "AudioChunk",
    "Backend",
    "Channel",
    "ChannelHost",
    "Clip",
    "DeliveredLine",
    "Delivery",
    "Device",
    "Engine",
    "EngineHost",
    "JsonDict",
    "PeerGrant",
    "PeerLink",
    "PeerLinks",
    "Probe",
    "Progress",
    "Pronunciation",
    "QualityReport",
    "Reason",
    "Samples",
    "Session",
    "SessionOptions",
    "SpeakTask",
    "StagedDelivery",
    "StarterVoice",
    "TextFrontend",
    "Transcriber",
    "Transcript",
    "Utterance",
    "VoiceAssets",
    "WordSpan",
]
