"""Which confirm runs did not keep what they reached, so that a verdict on times to target is not the whole story."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from orchestrator.home import SeedResult
from orchestrator.report.schema import ConfirmSeed, Lapse
from orchestrator.spec import BASELINE, Target

# A loss that is this close to that of guessing is no better than guessing: no classifier stops so near to it.
CHANCE_SHARE = 0.98


def lapse_of(result: SeedResult, target: Target) -> Lapse | None:
    """Tell what went wrong with a run by its end; None where nothing did, or it only missed its target."""
    if result.outcome == "diverged":
        return "not finite"
    loss, value = result.metrics.get("train_loss"), result.metrics.get(target.metric)
    if result.chance_loss is not None and loss is not None and loss >= CHANCE_SHARE * result.chance_loss:
        return "at chance"
    is_lost = result.steps_to_target is not None and value is not None and not target.is_reached(value)
    return "lost" if is_lost else None


def short_health(runs: Sequence[ConfirmSeed]) -> str:
    """Say in a few words how many runs had lost their target, stood at chance or diverged; empty where none had."""
    answers = [run for run in runs if run.is_answer]
    lapses = Counter(run.lapse for run in answers)
    words: dict[Lapse, str] = {"lost": "lost the target again", "at chance": "end at chance", "not finite": "diverge"}
    told = [f"{lapses[lapse]} of {len(answers)} {text}" for lapse, text in words.items() if lapses[lapse]]
    return ", ".join(told)


def health_of(arm: str, runs: Sequence[ConfirmSeed]) -> str:
    """Say how an arm's runs stood at their end, where some of them had lost their target; else empty.

    >>> runs = [ConfirmSeed(trial_id="a", seed=seed, outcome="reached") for seed in range(7)]
    >>> health_of("teleport", [*runs, ConfirmSeed(trial_id="b", seed=7, outcome="reached", lapse="lost")])
    'teleport reached its target on 8 of 8 seeds, and 1 had lost it at the end'
    >>> health_of("teleport", runs)
    ''
    """
    answers = [run for run in runs if run.is_answer]
    lapses = Counter(run.lapse for run in answers)
    words: dict[Lapse, str] = {
        "lost": "had lost it at the end",
        "at chance": "ended at chance level",
        "not finite": "ended with a loss that was not finite",
    }
    told = ", ".join(f"{lapses[lapse]} {text}" for lapse, text in words.items() if lapses[lapse])
    num_reached = sum(run.outcome == "reached" for run in answers)
    name = "the baseline" if arm == BASELINE else arm
    return f"{name} reached its target on {num_reached} of {len(answers)} seeds, and {told}" if told else ""
