"""A sweep that does again what another did, proposal by proposal, whichever trial ends first this time."""

from __future__ import annotations

import difflib

from orchestrator.errors import Fault, SweepConflict, UserError
from orchestrator.home.paths import SweepPaths, find_sweep
from orchestrator.home.records import Replay
from orchestrator.order import Order, read_orders
from orchestrator.spec import SharedScope, SweepSpec, parse_spec, read_file


def begin_replay(spec: SweepSpec, paths: SweepPaths, name: str) -> None:
    """Put on file the order that a sweep is to follow, so that nothing depends on what becomes of the other.

    Args:
        spec: of the sweep that follows.
        paths: of its files.
        name: of the sweep of the same home that it follows.

    Raises:
        SweepNotFound: there is none of that name; the message has the nearest one.
        SweepConflict: that sweep's spec differs in more than its name.
        UserError: this sweep was begun without an order, or with another's, or its search is shared.
    """
    if isinstance(spec.search.scope, SharedScope):
        raise UserError(
            Fault(
                "--replay",
                "a shared search (search.scope) cannot be replayed: its race decides by what has ended at each pair of "
                "workload and seed, and no order of these is kept; with max_concurrent: 1 the same spec and seed give "
                "the same search",
            )
        )
    followed = paths.read_replay()
    if followed is not None:
        if followed.sweep != name:
            raise UserError(Fault("--replay", f"sweep {paths.name!r} follows {followed.sweep!r}, not {name!r}"))
        return
    if paths.exists():
        raise UserError(Fault("--replay", f"sweep {paths.name!r} was begun without it; choose another --name"))
    source = find_sweep(paths.home, name)
    _refuse_other_spec(spec, parse_spec(read_file(source.spec)), name)
    orders = {study: order.to_record() for study, order in read_orders(source.journal).items()}
    paths.write_replay(Replay(sweep=name, orders=orders))


def orders_of(paths: SweepPaths) -> dict[str, Order]:
    """Read the orders that the studies of a sweep follow; empty where it follows none.

    Args:
        paths: of its files.

    Returns:
        Name of each study -> its order.
    """
    followed = paths.read_replay()
    return {} if followed is None else {study: Order.of(order) for study, order in followed.orders.items()}


def _refuse_other_spec(spec: SweepSpec, followed: SweepSpec, name: str) -> None:
    if spec.model_copy(update={"name": name}).identity == followed.identity:
        return
    theirs, ours = (one.model_copy(update={"name": name}).to_yaml().splitlines() for one in (followed, spec))
    difference = difflib.unified_diff(theirs, ours, name, "given", lineterm="", n=1)
    told = "\n".join(f"  {line}" for line in difference)
    raise SweepConflict(f"--replay: sweep {name!r} has another spec, so its order says nothing here:\n{told}")
