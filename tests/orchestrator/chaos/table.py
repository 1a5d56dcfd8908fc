"""The table of kills and outcomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tests.orchestrator.chaos.campaign import Story
from tests.orchestrator.chaos.killer import Kill
from tests.orchestrator.chaos.log import Event, read_events

HEADINGS = ("sweep", "at", "victim", "phase", "under way", "what happened up to the next kill")


def table(stories: Sequence[Story]) -> str:
    """Write the kills of some sweeps as a Markdown table.

    Args:
        stories: of the sweeps.

    Returns:
        A line for each kill.
    """
    rows = [row for story in stories for row in _rows(story)]
    widths = [max(len(row[i]) for row in (HEADINGS, *rows)) for i in range(len(HEADINGS))]
    lines = [HEADINGS, tuple("-" * width for width in widths), *rows]
    return "\n".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines)


def _rows(story: Story) -> Iterator[tuple[str, ...]]:
    events = read_events(story.paths)
    ends = [kill.at for kill in story.kills[1:]] + [float("inf")]
    for kill, end in zip(story.kills, ends, strict=True):
        yield (
            story.paths.name,
            f"{kill.at - story.began_at:.1f} s",
            kill.order.victim,
            kill.order.phase,
            ", ".join(kill.running) or "no trial",
            "; ".join(_happened(kill, events, end)),
        )


def _happened(kill: Kill, events: Sequence[Event], end: float) -> Iterator[str]:
    if kill.order.victim == "driver":
        yield "run again, nothing was on file" if kill.is_before_spec else "resumed"
    elif kill.order.victim == "server":
        yield f"started again after {kill.order.pause:.1f} s"
    elif kill.order.victim == "raylet":
        yield f"a fresh node after {kill.order.pause:.1f} s"
    counts: Counter[str] = Counter()
    for event in events:
        if not kill.at <= event.at < end:
            continue
        is_again = any(other.is_begin and other.trial_id == event.trial_id for other in events if other.at < event.at)
        if event.verb == "lost":
            counts["lost"] += 1
        elif event.verb == "going on with":
            counts["went on from a checkpoint"] += 1
        elif event.is_begin:
            counts["began anew" if is_again else "began"] += 1
        elif event.is_end:
            counts["ended"] += 1
    yield from (f"{number} {what}" for what, number in counts.items())
