"""What a user starts by hand: `python -m tools.doctor`, `tools.prompt_bank`, `tools.tiny_clip`."""
