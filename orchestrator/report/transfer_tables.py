"""Whether one setting serves all, as tables: one source for the page, the Markdown, LaTeX and the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from orchestrator.report.schema import Sensitivity, SensitivityBand, Transfer, TransferCell
from orchestrator.report.tables import Header, Rows
from orchestrator.report.wording import MISSING, UNITS, interval_text, number, p_text, percent, ratio_change
from orchestrator.spec import ALL

# A search may have run hundreds of settings everywhere; report.json has all of them.
MAX_SHARED = 10
EVIDENCE = {"confirmed": "confirmed", "exploratory": "exploratory: on the search's own seeds"}


@final
@dataclass(frozen=True)
class Block:
    """A table with what has to be said of it.

    Args:
        title: of it.
        note: how to read it.
        header: names of the columns.
        rows: at least one.
    """

    title: str
    note: str
    header: Header
    rows: Rows


def transfer_blocks(transfer: Transfer) -> list[Block]:
    """Make every table that has rows.

    Args:
        transfer: of an arm.

    Returns:
        Transfer matrix, own bests, one setting for all, leaving one out, rank stability, sensitivity.
    """
    return [*matrix_blocks(transfer), *left_out_blocks(transfer), *stability_blocks(transfer), *band_blocks(transfer)]


def matrix_blocks(transfer: Transfer) -> list[Block]:
    """Make the tables of the settings that won on a workload, on all workloads.

    Args:
        transfer: of an arm.

    Returns:
        The transfer matrix, what was tuned on each workload, and each setting as the one for all; none while nothing
        has run away from its own workload.
    """
    unit = UNITS[transfer.metric]
    blocks = []
    if any(not cell.is_own for cell in transfer.cells):
        rows: Rows = [
            (each.label, *(cell_text(transfer.cell(each.key, workload)) for workload in transfer.workloads))
            for each in transfer.rows
        ]
        training = "both with the training values tuned for that workload's baseline"
        if transfer.aggregate is not None:
            training += ", as far as they are not themselves of the setting"
        note = (
            f"Regret in {unit}: how much more the setting of a row costs on the workload of a column than the setting "
            f"tuned there, {training}, on the same seeds; Hodges-Lehmann estimate and exact 95 % interval, not "
            "adjusted for several. Cells without an interval are exploratory: on the search's own seeds, which flatter "
            "the setting tuned there. Below zero: the search there had not brought up the best."
        )
        blocks.append(Block("Transfer matrix", note, ("setting", *(f"on {w}" for w in transfer.workloads)), rows))
        blocks.append(_own_block(transfer, unit))
    if transfer.shared and any(not cell.is_own for cell in transfer.cells):
        blocks.append(_shared_block(transfer, unit))
    return blocks


def _own_block(transfer: Transfer, unit: str) -> Block:
    rows: Rows = [
        (
            each.workload,
            transfer.label(each.setting),
            MISSING if each.tuned is None else ratio_change(each.tuned),
            "the same values" if each.is_same_training else MISSING if each.alone is None else ratio_change(each.alone),
        )
        for each in transfer.own
    ]
    note = (
        f"Change in {unit} from the tuned baseline, geometric mean over confirm seeds. Where the setting is worse with "
        "the baseline's training values than with its own, the matrix tells of the setting alone. The two columns "
        "are of different seeds."
    )
    header: Header = ("workload", "setting tuned there", "with its own training values", "with the baseline's")
    if transfer.aggregate is not None:
        rows = [row[:-1] for row in rows]
        header = ("workload", "setting that is best there", "against the baseline")
        note = (
            f"Change in {unit} from the tuned baseline, geometric mean over confirm seeds, of the setting that the one "
            "search over all workloads found best on this one; its factor of the learning rate is part of it."
        )
    return Block("What was tuned on each workload", note, header, rows)


def _shared_block(transfer: Transfer, unit: str) -> Block:
    rows: Rows = [
        (
            transfer.label(each.setting),
            ratio_change(each.geometric_mean),
            f"{ratio_change(each.worst)} ({each.worst_on})",
            MISSING if each.regret is None else ratio_change(each.regret),
            MISSING if each.worst_regret is None else f"{ratio_change(each.worst_regret)} ({each.worst_regret_on})",
            EVIDENCE[each.evidence],
        )
        for each in transfer.shared[:MAX_SHARED]
    ]
    note = (
        f"Change in {unit} from the tuned baselines, and regret against each workload's own setting; geometric "
        "means, a miss counting as twice its budget. To pick the best row is to choose on these very seeds: what "
        "it says of itself then flatters."
        + f" The best {MAX_SHARED} of {len(transfer.shared)} are shown."
        * (len(transfer.shared) > MAX_SHARED)
    )
    header = ("setting", "mean over workloads", "worst", "mean regret", "worst regret", "seeds")
    return Block("One setting for all", note, header, rows)


def left_out_blocks(transfer: Transfer) -> list[Block]:
    """Make the table of leaving one workload out.

    Args:
        transfer: of an arm.

    Returns:
        It, or nothing where no choice can be made.
    """
    rows: Rows = [
        (
            ", ".join((each.workload, *(f"({other})" for other in each.beside))),
            transfer.label(each.setting),
            str(each.num_candidates),
            f"{ratio_change(each.others)} ({each.chosen_on})",
            cell_text(each.cell),
            MISSING
            if each.cell is None or each.cell.against_baseline is None
            else ratio_change(each.cell.against_baseline),
            MISSING if each.cell is None else EVIDENCE[each.cell.evidence],
        )
        for each in transfer.left_out
    ]
    if transfer.aggregate is None:
        chosen = (
            "The setting with the smallest geometric mean over the other workloads, against their baselines; settings "
            "that only what is left out brought up are no candidates."
        )
    else:
        named = {"geometric_mean": "geometric mean", "worst": "worst ratio"}[transfer.aggregate]
        chosen = (
            f"Of the settings that ran in full in the one search over all workloads, that with the smallest {named} "
            "over the other workloads, against their baselines, by the search's objective."
        )
    note = (
        f"{chosen} Regret in {UNITS[transfer.metric]} against the setting tuned on it. A workload that is left out is "
        "one that the choice has never seen"
    )
    if transfer.leave == "architecture":
        note += ", nor any other of its architecture"
    if any(each.beside for each in transfer.left_out):
        note += ": those in brackets had no say either"
    note += "."
    header = (
        "left out",
        "chosen on the others",
        "of",
        "mean on the others",
        "regret on it",
        "against its baseline",
        "seeds",
    )
    return [Block(f"Leave one {transfer.leave} out", note, header, rows)] if rows else []


def stability_blocks(transfer: Transfer) -> list[Block]:
    """Make the table of how alike the workloads rank the settings.

    Args:
        transfer: of an arm.

    Returns:
        It, or nothing with fewer than three settings that ran everywhere.
    """
    found = transfer.stability
    if found is None:
        return []
    rows: Rows = [
        (
            f"{each.one}, {each.other}",
            number(each.tau, 2),
            MISSING if each.low is None or each.high is None else f"[{number(each.low, 2)}, {number(each.high, 2)}]",
        )
        for each in found.pairs
    ]
    how = "over all arrangements" if found.method == "exact" else "by permutation"
    note = (
        f"Kendall's W over {found.num_settings} settings: {number(found.w, 2)} (0: no agreement, 1: the same order), "
        f"{p_text(found.p)} {how}. Kendall's tau for each two workloads; an interval from 20 settings on. Seeds: "
        f"{EVIDENCE[found.evidence]}."
    )
    return [Block("Are settings ranked alike?", note, ("workloads", "tau", "95 % interval"), rows)]


def band_blocks(transfer: Transfer) -> list[Block]:
    """Make the table of sensitivity bands.

    Args:
        transfer: of an arm.

    Returns:
        It, or nothing where the arm has no numeric parameter.
    """
    rows = [row for each in transfer.sensitivity for row in _band_rows(each)]
    if not rows:
        return []
    what = UNITS[transfer.metric]
    if transfer.aggregate is not None:
        what += ", as the aggregate over all workloads against their baselines,"
    note = (
        f"Values whose {what} are within {percent(transfer.sensitivity[0].tolerance)} of the best: of the trials in "
        "each stretch of the searched range the lower quartile counts, as the other parameters differ from trial to "
        "trial; a stretch with fewer than five trials says nothing. An arrow: the band may go on, as the range ends or "
        "too few trials lie there. Exploratory: on the search's own seeds."
    )
    return [Block("Sensitivity bands", note, ("parameter", "workload", "band", "trials"), rows)]


def _band_rows(found: Sensitivity) -> Iterator[tuple[str, ...]]:
    for band in found.bands:
        yield found.parameter, band_name(band), band_text(band), str(band.num_trials)
    if sum(band.low is not None for band in found.bands) > 1:
        common = (
            "none"
            if found.common_low is None or found.common_high is None
            else _stretch(found.common_low, found.common_high)
        )
        yield found.parameter, "all of them", common, ""


def band_name(band: SensitivityBand) -> str:
    """Say of which workload a band is."""
    return "all together" if band.workload == ALL else band.workload


def band_text(band: SensitivityBand) -> str:
    """Write a band: ``← 1.2 to 1.5``, or why there is none."""
    if band.low is None or band.high is None:
        return "too few trials"
    left, right = "← " * band.is_low_open, " →" * band.is_high_open
    return f"{left}{_stretch(band.low, band.high)}{right}"


def _stretch(low: float, high: float) -> str:
    return number(low) if low == high else f"{number(low)} to {number(high)}"


def cell_text(cell: TransferCell | None) -> str:
    """Write a cell of the matrix: a change with its interval, or what stands in its place.

    Args:
        cell: None where there is nothing to compare.

    Returns:
        The text.
    """
    ends = "" if cell is None or cell.interval is None else f" {interval_text(cell.interval, 'ratio')}"
    return short_text(cell) + ends


def short_text(cell: TransferCell | None) -> str:
    """Write a cell of the matrix without its interval.

    Args:
        cell: None where there is nothing to compare.

    Returns:
        The text; what rests on the search's seeds says so.
    """
    if cell is None:
        return MISSING
    if cell.is_own:
        return "own"
    return _regret(cell.estimate) + " (search)" * (cell.evidence == "exploratory")


def _regret(estimate: float) -> str:
    return "own misses" if estimate == 0.0 else "misses" if estimate == float("inf") else ratio_change(estimate)
