"""Commands for users: `python -m tools.doctor`, `tools.prompt_bank`, `tools.tiny_clip`."""
