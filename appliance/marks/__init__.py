"""What every piece of speech carries when it leaves: labels, metadata, watermark, provenance; and how they are found again."""
