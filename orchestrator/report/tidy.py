"""The report as tidy CSV tables: one row per thing, numbers in full, for pandas, R or a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence

from orchestrator.report.schema import Comparison, JointReport, Part, Report, StudyReport, Transfer, reports_of

Row = dict[str, object]

# A spreadsheet takes a cell that begins with one of these for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def render_csv(report: Report | JointReport) -> dict[str, str]:
    """Write the report's tables as CSV files (RFC 4180, UTF-8), by name; one without rows is left out.

    There are ``studies.csv``, ``trials.csv`` (a row per search trial), ``confirm.csv`` (a row per confirm run),
    ``comparisons.csv``, ``arrivals.csv`` (a row per time at which a run arrived), ``tuning.csv`` (a row per number of
    trials or time), ``profiles.csv`` (a row per workload), ``transfer.csv`` (a row per setting and workload) and
    ``sensitivity.csv`` (a row per stretch of a parameter). Each has a ``sweep`` column, with a plus between sweeps that
    are evaluated together. A value that is not there is empty, a miss is ``inf``. Text that a spreadsheet would take
    for a formula begins with an apostrophe.
    """
    return {f"{name}.csv": _written(rows) for name, rows in tidy_tables(report).items() if rows}


def tidy_tables(report: Report | JointReport) -> dict[str, list[Row]]:
    """Make the report's tables: name -> rows, as ``pandas.DataFrame`` takes them."""
    reports = reports_of(report)
    return {
        "studies": [_study(each, study) for each in reports for study in each.studies],
        "trials": [row for each in reports for study in each.studies for row in _trials(each, study)],
        "confirm": [row for each in reports for study in each.studies for row in _confirm(each, study)],
        "comparisons": [_comparison(each, found) for each in reports for found in each.comparisons],
        "rates": [row for each in reports for study in each.studies for row in _rates(each, study)],
        "arrivals": [row for each in reports for study in each.studies for row in _arrivals(each, study)],
        "tuning": [row for each in reports for study in each.studies for row in _tuning(each, study)],
        "profiles": [row for each in reports for row in _profiles(each)],
        "transfer": [row for each in report.transfers for row in _transfer(each)],
        "sensitivity": [row for each in report.transfers for row in _sensitivity(each)],
    }


def _labels(report: Report, study: StudyReport | Comparison) -> Row:
    return {"sweep": report.sweep.name, "workload": study.workload, "arm": study.arm}


def _study(report: Report, study: StudyReport) -> Row:
    best, price = study.best, study.price
    failures = ("num_diverged", "num_timeout", "num_undefined", "num_crashed")
    counts = ("num_planned", "num_trials", "num_complete", "num_pruned", *failures)
    costs = (
        "seconds",
        "teleport_seconds",
        "teleport_share",
        "gradient_evaluations",
        "num_teleports",
        "gain",
        "max_loss_drift",
        "max_probe_drift",
        "seconds_per_teleport",
    )
    return {
        **_labels(report, study),
        "kind": study.kind,
        "tau": study.tau,
        **{name: getattr(study, name) for name in counts},
        "num_replaced": study.num_replaced,
        "best_trial_id": best and best.trial_id,
        "best_value": best and best.value,
        "median_steps_to_target": best and best.median_steps_to_target,
        "median_seconds_to_target": best and best.median_seconds_to_target,
        **{name: price and getattr(price, name) for name in costs},
    }


def _trials(report: Report, study: StudyReport) -> Iterator[Row]:
    metrics = [objective.metric for objective in report.sweep.also]
    ranks = {candidate.trial_id: candidate.rank for candidate in study.candidates}
    for trial in study.search:
        others = dict(zip(metrics, trial.objectives[1:], strict=False))
        yield {
            **_labels(report, study),
            **trial.model_dump(exclude={"values", "objectives"}),
            **{f"value.{metric}": others.get(metric) for metric in metrics},
            "rank": ranks.get(trial.trial_id),
            **{f"param.{name}": value for name, value in trial.values.items()},
        }


def _confirm(report: Report, study: StudyReport) -> Iterator[Row]:
    for candidate in study.candidates:
        for run in candidate.confirm:
            yield {
                **_labels(report, study),
                "candidate": candidate.trial_id,
                "rank": candidate.rank,
                **run.model_dump(exclude={"metrics"}),
                **{f"metric.{name}": value for name, value in run.metrics.items()},
            }


def _rates(report: Report, study: StudyReport) -> Iterator[Row]:
    for point in study.grid:
        for run in point.confirm:
            yield {
                **_labels(report, study),
                **point.model_dump(include={"parameter", "rate", "is_best", "mean_steps"}),
                **run.model_dump(exclude={"metrics"}),
                **{f"metric.{name}": value for name, value in run.metrics.items()},
            }


def _comparison(report: Report, found: Comparison) -> Row:
    row = found.model_dump(mode="python", exclude={"effect", "interval", "pairs", "at_points"})
    for name in ("effect", "interval"):
        row |= _prefixed(name, getattr(found, name))
    return {"sweep": report.sweep.name} | row


def _prefixed(name: str, part: Part | None) -> Row:
    row: Row = {}
    for key, value in part or ():
        row |= _prefixed(f"{name}.{key}", value) if isinstance(value, Part) else {f"{name}.{key}": value}
    return row


def _arrivals(report: Report, study: StudyReport) -> Iterator[Row]:
    columns = ("x", "share", "low", "high", "num_waiting")
    for curve in study.arrivals:
        for point in zip(*(getattr(curve, column) for column in columns), strict=True):
            labels = _labels(report, study) | {"metric": curve.metric, "num_runs": curve.num_runs}
            yield labels | dict(zip(columns, point, strict=True))


def _tuning(report: Report, study: StudyReport) -> Iterator[Row]:
    if study.tuning is None:
        return
    for best, dodge in zip(study.tuning.by_trials, study.tuning.with_replacement, strict=True):
        yield _labels(report, study) | {"by": "trials"} | best.model_dump() | {"mean_with_replacement": dodge}
    for best in study.tuning.by_seconds:
        yield _labels(report, study) | {"by": "seconds"} | best.model_dump()


def _profiles(report: Report) -> Iterator[Row]:
    for profile in report.profiles:
        for workload, ratio in zip(profile.workloads, profile.ratios, strict=True):
            labels: Row = {"sweep": report.sweep.name, "workload": workload, "arm": profile.arm}
            yield labels | {"metric": profile.metric, "ratio": ratio, "score": profile.score}


def _transfer(found: Transfer) -> Iterator[Row]:
    for cell in found.cells:
        row: Row = {"sweep": "+".join(found.sweeps), "arm": found.arm, "metric": found.metric}
        row |= {"setting_label": found.label(cell.setting)} | cell.model_dump(exclude={"interval"})
        yield row | _prefixed("interval", cell.interval)


def _sensitivity(found: Transfer) -> Iterator[Row]:
    for each in found.sensitivity:
        for band in each.bands:
            for stretch in band.bins:
                yield {
                    "sweep": "+".join(found.sweeps),
                    "arm": found.arm,
                    "metric": found.metric,
                    "parameter": each.parameter,
                    "workload": band.workload,
                    "band_low": band.low,
                    "band_high": band.high,
                    **stretch.model_dump(),
                }


def _written(rows: Sequence[Mapping[str, object]]) -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(map(safe_cell, columns))
    writer.writerows([safe_cell(row.get(column)) for column in columns] for row in rows)
    return file.getvalue()


def safe_cell(value: object) -> str:
    """Write a cell that no spreadsheet runs; plain data becomes JSON.

    >>> safe_cell("=1+1"), safe_cell(-0.5), safe_cell(float("inf")), safe_cell(None), safe_cell((1, 2))
    ("'=1+1", '-0.5', 'inf', '', '[1, 2]')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return "" if math.isnan(value) else repr(value)
    text = str(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{text}" if text.startswith(_FORMULA) else text
