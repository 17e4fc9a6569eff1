"""Fine-tuning of GPT-SoVITS: what is minimised (`losses`), by what (`optimisers`), one step of it (`token_steps` for
s1, `sound_steps` for s2), and how much of it a recording deserves (`plans`). Nothing here reads files.

All of it needs torch; import the modules inside the job that trains.
"""
