"""What a run is told: the settings' models, where each value came from, and the checks before any work starts."""

from attcli.settings.distill import Distill
from attcli.settings.layers import Resolved, resolve
from attcli.settings.models import Buffer, Evaluate, Network, Prepare, Runtime, Settings

__all__ = [
    "Buffer",
    "Distill",
    "Evaluate",
    "Network",
    "Prepare",
    "Resolved",
    "Runtime",
    "Settings",
    "resolve",
]
