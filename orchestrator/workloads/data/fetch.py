"""Getting a data set onto this machine before a sweep needs it."""

from __future__ import annotations

from orchestrator.catalog import DATASETS
from orchestrator.errors import DataNotFound
from orchestrator.workloads.data.download import download_fashion_mnist
from orchestrator.workloads.data.locate import Location, download_root, locate

DOWNLOADS = {"fashion_mnist": download_fashion_mnist}


def fetch(name: str, root: str | None = None) -> Location:
    """Get a data set where it is not here yet, and read it once, so that a damaged file is known now.

    Args:
        name: of the data set.
        root: where to look first and to download to; None: as :func:`orchestrator.workloads.data.locate.locate`.

    Returns:
        Where it lies.

    Raises:
        UserError: no data set of that name.
        DataNotFound: it is not here and cannot be got.
        DataCorrupt: it is here, and damaged.
    """
    place = locate(name, root)
    if not place.is_found:
        if place.is_mistake or name not in DOWNLOADS:
            raise DataNotFound(f"{name}: {place.reason}")
        DOWNLOADS[name](download_root(root))
        place = locate(name, root)
    entry = DATASETS[name]
    entry.load()(entry.options.model_validate({"name": name, "batch_size": 1, "root": root}))
    return place
