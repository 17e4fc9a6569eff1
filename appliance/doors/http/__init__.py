"""The HTTP doors: protocol in, service call out; no business rule lives here."""
