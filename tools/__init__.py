"""Commands for users: `python -m tools.doctor`, `tools.predict`, `tools.features`, `tools.prompt_bank`, `tools.tiny_clip`."""
