"""Wyoming: Home Assistant and other voice assistants speak with the box's voices over TCP (docs/wyoming.md)."""
