"""The samplers that propose trials; all of them are Optuna's."""

from __future__ import annotations

from orchestrator.catalog.entry import Entry, NamedOptions


class SamplerOptions(NamedOptions):
    """A sampler by its name, with Optuna's own defaults."""


SAMPLERS: dict[str, Entry] = {
    "tpe": Entry(SamplerOptions, "orchestrator.space:tpe"),
    "random": Entry(SamplerOptions, "orchestrator.space:random"),
}
