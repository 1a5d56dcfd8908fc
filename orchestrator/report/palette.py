"""Colours: one per arm, the same in every figure and table, for light and for dark."""

from __future__ import annotations

from collections.abc import Sequence

# Pairs (light, dark) of one hue, each legible on its own ground (contrast at least 4.5). The baseline is grey.
_BASELINE = ("#5a6472", "#a3adba")
_ARMS = (
    ("#1d5fd0", "#74abff"),
    ("#b4530f", "#f29b5f"),
    ("#1d7f54", "#5fcc9c"),
    ("#7a45b8", "#bb97f5"),
    ("#b02a6f", "#f287bb"),
    ("#0f7686", "#5cc6d8"),
    ("#806a00", "#d9bd4a"),
)
LAYERS = _ARMS
INK = ("#1b1f24", "#e7eaee")
MUTED = ("#667080", "#98a2b0")
GRID = ("#e4e7eb", "#2b313a")
PAPER = ("#ffffff", "#15181d")
# What a verdict says for the arm, as good and bad news: no arm has these colours.
GOOD = ("#12703f", "#4cd08a")
BAD = ("#b3261e", "#ff8a80")
# Parts of one whole, the first the strongest: no arm has these colours either.
PARTS = (("#31405a", "#dbe3ef"), ("#6c7c99", "#a3b1c8"), ("#9dabc4", "#73829d"), ("#cdd6e5", "#4b5972"))
# From best to worst: the best stands out most on either ground.
SHADES = (
    ("#0b3d91", "#d6e6ff"),
    ("#2f6fc4", "#9cc3f7"),
    ("#6f9fdc", "#6a97d3"),
    ("#aac6ec", "#44658f"),
    ("#dbe6f5", "#2a3a50"),
)
BAND_OPACITY = 0.16


def arm_colours(arms: Sequence[str]) -> dict[str, str]:
    """Give each arm its colour on a light ground, ``#rrggbb``, the baseline first; beyond seven arms colours repeat."""
    others = {arm: _ARMS[index % len(_ARMS)][0] for index, arm in enumerate(arms[1:])}
    return dict.fromkeys(arms[:1], _BASELINE[0]) | others


def band_colour(colour: str) -> str:
    """Make a colour ``#rrggbb`` transparent: ``rgba(...)``."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{BAND_OPACITY})"


def dark_of() -> dict[str, str]:
    """Map each light colour, also each transparent one, to its twin on a dark ground."""
    arms = dict([_BASELINE, *_ARMS])
    others = dict([*SHADES, *PARTS, GOOD, BAD, INK, MUTED, GRID, PAPER])
    return arms | {band_colour(a): band_colour(b) for a, b in arms.items()} | others
