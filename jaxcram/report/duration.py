"""Durations as text."""


def duration(seconds: float | None) -> str:
    """Hours, minutes and seconds, such as 1:02:03; "?" for None."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
