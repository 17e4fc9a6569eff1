"""Collecting speech that a voice can be made from: prompt sheets, sessions of reading, long recordings, datasets."""
