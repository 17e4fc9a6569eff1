"""voiced: the voice appliance.

Plugin authors import from `appliance.contracts`, `appliance.errors` and `appliance.hookspecs`.
"""

__version__ = "0.1.0"
