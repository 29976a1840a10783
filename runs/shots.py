"""The number of shots in words."""


def shots_text(shots: int) -> str:
    """What `shots=N` trains on, as titles and tables say it: "16 shots", "all images" below 0, "0 shots" for nothing."""
    return "all images" if shots < 0 else f"{shots} shot{'s' * (shots != 1)}"
