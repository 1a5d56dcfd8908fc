"""Getting a data set onto this machine before a sweep needs it."""

from __future__ import annotations

from pydantic import ValidationError

from orchestrator.errors import DataNotFound, UserError
from orchestrator.spec.options import DATASETS, SequenceOptions, download_root
from orchestrator.trial.data.download import DOWNLOADABLE, download, unwatched
from orchestrator.trial.data.http import Watch
from orchestrator.trial.data.locations import Location, locate


def fetch(name: str, root: str | None = None, watch: Watch = unwatched) -> Location:
    """Get a data set where it is not here yet, and read it once, so that a damaged file is known now.

    Args:
        name: of the data set.
        root: where to look first and to download to; None: as :func:`orchestrator.trial.data.locations.locate`.
        watch: is told how far each file is.

    Returns:
        Where it lies.

    Raises:
        UserError: no data set of that name.
        DataNotFound: it is not here and cannot be got.
        DataCorrupt: it is here, and damaged.
    """
    place = locate(name, root)
    entry = DATASETS[name]
    try:
        options = entry.options.model_validate({"name": name, "batch_size": 1, "root": root})
    except ValidationError as error:
        lacking = ", ".join(".".join(map(str, each["loc"])) for each in error.errors())
        raise UserError(f"{name} has settings without a default ({lacking}); a sweep that has them reads it") from None
    if not place.is_found:
        published = options.images.name if isinstance(options, SequenceOptions) else name
        if place.is_mistake or published not in DOWNLOADABLE:
            raise DataNotFound(f"{name}: {place.reason}")
        download(published, download_root(root), watch=watch)
        place = locate(name, root)
    entry.load()(options)
    return place
