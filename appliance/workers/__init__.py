"""Supervised worker processes: the only place where models run while the daemon serves."""

from appliance.workers.pool import SpeechTicket, WorkerPool
from appliance.workers.records import WorkerSpec

__all__ = ["SpeechTicket", "WorkerPool", "WorkerSpec"]
