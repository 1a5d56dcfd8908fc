"""The tables of settings away from the workload that they were tuned on."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.report.schema import LeftOutWorkload, OwnBest, Sensitivity, SensitivityBand, Transfer, TransferCell
from orchestrator.report.sections.section import Rows, Section
from orchestrator.report.wording import MISSING, interval_text, number, p_text, percent, ratio_change, unit_of
from orchestrator.spec import ALL

# A search may have run hundreds of settings everywhere; report.json has all of them.
MAX_SHARED = 10
EVIDENCE = {"confirmed": "confirmed", "exploratory": "exploratory: on the search's own seeds"}
AGGREGATES = {None: "geometric mean", "geometric_mean": "geometric mean", "worst": "worst ratio"}


def transfer_sections(transfer: Transfer) -> list[Section]:
    """Make the tables of an arm: matrix, each workload, one setting for all, rank stability, sensitivity bands."""
    made = (
        _matrix_section(transfer),
        _workload_section(transfer),
        _shared_section(transfer),
        _stability_section(transfer),
        _band_section(transfer),
    )
    return [section for section in made if section is not None]


def _has_travelled(transfer: Transfer) -> bool:
    return any(not cell.is_own for cell in transfer.cells)


def _matrix_section(transfer: Transfer) -> Section | None:
    """Regret of each setting on each workload."""
    if not _has_travelled(transfer):
        return None
    rows: Rows = [
        (each.label, *(cell_text(transfer.cell(each.key, workload)) for workload in transfer.workloads))
        for each in transfer.rows
    ]
    training = "both with the training values tuned for that workload's baseline"
    if transfer.aggregate is not None:
        training += ", unless they are part of the setting"
    note = (
        f"Regret in {unit_of(transfer.metric)}: how much more the setting of a row costs on the workload of a column "
        f"than the setting tuned there, {training}, on the same seeds. Hodges-Lehmann estimate and exact 95 % "
        "interval, not adjusted for several comparisons. A cell without an interval is exploratory: it rests on the "
        "search's own seeds, which flatter the setting tuned there. Below zero, the search there missed the best."
    )
    header = ("setting", *(f"on {workload}" for workload in transfer.workloads))
    return Section("transfer-matrix", "transfer", "Transfer matrix", note, header, rows)


def _workload_section(transfer: Transfer) -> Section | None:
    """The setting tuned on each workload, beside the one that is chosen without having seen that workload."""
    choices = {each.workload: each for each in transfer.left_out}
    if not choices and not _has_travelled(transfer):
        return None
    own: tuple[str, ...] = ("tuned there", "with its own training values", "with the baseline's")
    own = ("tuned there", "against the baseline") if transfer.aggregate is not None else own
    chosen = ("chosen without it", "chosen from", "value elsewhere", "regret", "against the baseline", "seeds")
    header = ("workload", *own, *(chosen if choices else ()))
    rows: Rows = [
        (
            *(_name(each.workload, choices.get(each.workload)), *_own_texts(transfer, each)),
            *(_choice_texts(transfer, choices.get(each.workload)) if choices else ()),
        )
        for each in transfer.own
    ]
    title = "Tuned on each workload, or chosen without it"
    return Section("transfer-workloads", "transfer", title, _note(transfer), header, rows)


def _name(workload: str, choice: LeftOutWorkload | None) -> str:
    """Name a workload, and in brackets those that are left out with it."""
    return ", ".join((workload, *(f"({other})" for other in (choice.beside if choice else ()))))


def _own_texts(transfer: Transfer, own: OwnBest) -> tuple[str, ...]:
    told = (transfer.label(own.setting), _change(own.tuned))
    if transfer.aggregate is not None:
        return told
    return (*told, "the same values" if own.is_same_training else _change(own.alone))


def _choice_texts(transfer: Transfer, choice: LeftOutWorkload | None) -> tuple[str, ...]:
    if choice is None:
        return (MISSING,) * 6
    cell = choice.cell
    return (
        *(transfer.label(choice.setting), str(choice.num_candidates)),
        *(f"{ratio_change(choice.others)} ({choice.chosen_on})", cell_text(cell)),
        *((MISSING, MISSING) if cell is None else (_change(cell.against_baseline), EVIDENCE[cell.evidence])),
    )


def _change(ratio: float | None) -> str:
    return MISSING if ratio is None else ratio_change(ratio)


def _note(transfer: Transfer) -> str:
    unit = unit_of(transfer.metric)
    own = (
        "The factor of the learning rate that a shared search found is part of the setting."
        if transfer.aggregate is not None
        else "Where a setting is worse with the baseline's training values than with its own, the matrix speaks of the "
        "setting alone. The two columns rest on different seeds."
    )
    told = [f"Changes in {unit} from the tuned baseline are geometric means over confirm seeds. {own}"]
    if transfer.left_out:
        unseen = ", nor any other of its architecture" if transfer.leave == "architecture" else ""
        told.append(
            f"The setting chosen without a workload has never seen it{unseen}: of all candidates it has the smallest "
            f"{AGGREGATES[transfer.aggregate]} over the others, against their baselines."
        )
        if transfer.aggregate is None:
            told.append("A setting that only the workloads left out brought up is no candidate.")
        if any(each.beside for each in transfer.left_out):
            told.append("Workloads in brackets share the architecture and had no say either.")
        told.append("Its regret is against the setting tuned there.")
    return " ".join(told)


def _shared_section(transfer: Transfer) -> Section | None:
    """Each setting as the one for all workloads."""
    if not transfer.shared or not _has_travelled(transfer):
        return None
    rows: Rows = [
        (
            *(transfer.label(each.setting), ratio_change(each.geometric_mean)),
            *(f"{ratio_change(each.worst)} ({each.worst_on})", _change(each.regret)),
            MISSING if each.worst_regret is None else f"{ratio_change(each.worst_regret)} ({each.worst_regret_on})",
            EVIDENCE[each.evidence],
        )
        for each in transfer.shared[:MAX_SHARED]
    ]
    note = (
        f"Change in {unit_of(transfer.metric)} from the tuned baselines, and regret against each workload's own "
        "setting. Both are geometric means in which a miss counts as twice its budget. Whoever picks the best row "
        "chooses on these very seeds, so that what it says of itself flatters."
    )
    if len(transfer.shared) > MAX_SHARED:
        note += f" The table has the best {MAX_SHARED} of {len(transfer.shared)}."
    header = ("setting", "mean over workloads", "worst", "mean regret", "worst regret", "seeds")
    return Section("transfer-shared", "transfer", "One setting for all", note, header, rows)


def _stability_section(transfer: Transfer) -> Section | None:
    """How alike the workloads rank the settings; needs three settings that ran on every workload."""
    found = transfer.stability
    if found is None:
        return None
    rows: Rows = [
        (
            *(f"{each.one}, {each.other}", number(each.tau, 2)),
            MISSING if each.low is None or each.high is None else f"[{number(each.low, 2)}, {number(each.high, 2)}]",
        )
        for each in found.pairs
    ]
    how = "over all arrangements" if found.method == "exact" else "by permutation"
    note = (
        f"Kendall's W over {found.num_settings} settings is {number(found.w, 2)} (0: no agreement, 1: the same order), "
        f"{p_text(found.p)} {how}. The table has Kendall's tau of each two workloads, with an interval from 20 "
        f"settings on. Seeds: {EVIDENCE[found.evidence]}."
    )
    header = ("workloads", "tau", "95 % interval")
    return Section("transfer-ranks", "transfer", "Are settings ranked alike?", note, header, rows)


def _band_section(transfer: Transfer) -> Section | None:
    """Over which values of each numeric parameter the searches were close to their best."""
    rows = [row for each in transfer.sensitivity for row in _band_rows(each)]
    if not rows:
        return None
    what = unit_of(transfer.metric)
    if transfer.aggregate is not None:
        what += ", as the aggregate over all workloads against their baselines,"
    note = (
        f"Values whose {what} are within {percent(transfer.sensitivity[0].tolerance)} of the best. The other "
        "parameters differ from trial to trial, so the lower quartile of the trials in each stretch of the searched "
        "range counts; a stretch with fewer than five trials says nothing. An arrow says that the band may go on, "
        "since the range ends or too few trials lie there. Exploratory: on the search's own seeds."
    )
    header = ("parameter", "workload", "band", "trials")
    return Section("transfer-bands", "transfer", "Sensitivity bands", note, header, rows)


def _band_rows(found: Sensitivity) -> Iterator[tuple[str, ...]]:
    for band in found.bands:
        yield found.parameter, band_name(band), band_text(band), str(band.num_trials)
    if sum(band.low is not None for band in found.bands) > 1:
        is_common = found.common_low is not None and found.common_high is not None
        common = _stretch(found.common_low or 0.0, found.common_high or 0.0) if is_common else "none"
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
    """Write a cell of the matrix: a change with its interval, or what stands in its place."""
    ends = "" if cell is None or cell.interval is None else f" {interval_text(cell.interval, 'ratio')}"
    return short_text(cell) + ends


def short_text(cell: TransferCell | None) -> str:
    """Write a cell of the matrix without its interval; what rests on the search's seeds says so."""
    if cell is None:
        return MISSING
    if cell.is_own:
        return "own"
    return _regret(cell.estimate) + " (search)" * (cell.evidence == "exploratory")


def _regret(estimate: float) -> str:
    return "own misses" if estimate == 0.0 else "misses" if estimate == float("inf") else ratio_change(estimate)
