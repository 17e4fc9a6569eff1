"""voiced: the voice appliance.

Plugin authors import from `appliance.contracts`, `appliance.errors` and `appliance.hookspecs`.
"""

import os

# ONNX Runtime 1.32 reports to its maker from the moment it is imported (and writes a device id under HOME) unless this
# is set before. Nothing leaves the premises, so it is set here, above every import of it in every process of voiced.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.1.0"
