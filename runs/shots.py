"""The number of shots in words."""


def shots_text(shots: int) -> str:
    """`shots=N` as titles and tables name it: "16 shots", "1 shot", and "all images" below 0."""
    return "all images" if shots < 0 else f"{shots} shot{'s' * (shots != 1)}"
