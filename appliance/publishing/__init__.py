"""Scripts, and what is made of them: publications on channels, and narration along subtitles."""
