"""Makes three splits of an image set's files, by one rule for all sets with a train and a test file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch

from orchestrator.errors import DataCorrupt, DataNotFound, Fault, UserError
from orchestrator.spec.options import download_root
from orchestrator.trial.data.dataset import DataSet, Split, normalised, normalised_by_channel
from orchestrator.trial.data.download import download
from orchestrator.trial.data.idx import Bytes
from orchestrator.trial.data.locations import DEBIAN_FOLDER, locate


@final
@dataclass(frozen=True)
class Labelled:
    """Images of one file, or of several joined, as they were read.

    Args:
        images: ``[n, C, H, W]``, uint8.
        labels: ``[n]``, uint8.
    """

    images: Bytes
    labels: Bytes


def find(name: str, root: str | None = None) -> Path:
    """Return the folder that holds a data set's files, after a download where no place has them.

    Raises:
        DataNotFound: the data root does not exist; or no place has the files and the download failed.
    """
    place = locate(name, root)
    if place.folder is not None:
        return place.folder
    if place.is_mistake:
        raise DataNotFound(f"{name}: {place.reason}")
    try:
        return download(name, download_root(root))
    except DataNotFound as error:
        raise DataNotFound(f"{name} is nowhere: {place.reason}. torchvision's source: {error}") from error


def mend(name: str, folder: Path) -> str:
    """Return the clause that tells the user how to mend a damaged file in ``folder``."""
    if folder == DEBIAN_FOLDER:
        return "mend it by apt-get install --reinstall dataset-fashion-mnist"
    return f"mend it by removing {folder} and getting it again: teleport data fetch {name}"


def split(
    train: Labelled,
    test: Labelled,
    *,
    validation_share: int,
    num_train: int | None,
    num_classes: int,
    folder: Path,
    cure: str,
) -> DataSet:
    """Split and normalise: the test file is test, the end of the training file validation, the rest train.

    Inputs are ``[n, C, H, W]``, each channel normalised by the training split in use.

    Args:
        train: what the training file holds.
        test: what the test file holds.
        validation_share: one in how many training images is for validation.
        num_train: how many training images to use, from the first; None: all that are not in the validation split.
        num_classes: how many different labels there are.
        folder: where the files lay.
        cure: tells the user how to mend a damaged file.

    Raises:
        DataCorrupt: there are too few images to split.
        UserError: more training images are asked for than there are.
    """
    if len(train.images) < 2:
        raise DataCorrupt(Fault(str(folder), f"expected at least 2 training images, found 1; {cure}"))
    num_left = len(train.images) - max(1, len(train.images) // validation_share)
    num_train = num_train or num_left
    if num_train > num_left:
        message = f"{num_train} is more than the {num_left} training images in {folder}"
        raise UserError(Fault("data.num_train", message))
    parts = (train.images[:num_train], train.images[num_left:], test.images)
    scale = normalised if train.images.shape[1] == 1 else normalised_by_channel
    inputs = scale(*parts)
    labels = (train.labels[:num_train], train.labels[num_left:], test.labels)
    splits = (Split(x, torch.from_numpy(y.astype(np.int64))) for x, y in zip(inputs, labels, strict=True))
    of_train, of_validation, of_test = splits
    return DataSet(
        train=of_train,
        validation=of_validation,
        test=of_test,
        input_shape=tuple(train.images.shape[1:]),
        num_classes=num_classes,
        found=str(folder),
    )
