"""What every piece of speech carries when it leaves (label, metadata, watermark, provenance), and how it is found."""
