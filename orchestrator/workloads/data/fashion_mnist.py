"""FashionMNIST: 60,000 + 10,000 grey images of 28 × 28 pixels, ten classes (Xiao, Rasul, Vollgraf 2017).

Looked for in the data root, in the Debian package's folder, and then downloaded by torchvision, in that order.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from orchestrator.catalog.datasets import FashionMnistOptions
from orchestrator.errors import DataCorrupt, DataNotFound, Fault, UserError
from orchestrator.workloads.data.dataset import DataSet, Split, normalised
from orchestrator.workloads.data.download import Fetch, download_fashion_mnist
from orchestrator.workloads.data.idx import Bytes, read_pair
from orchestrator.workloads.data.locate import DEBIAN_FOLDER, download_root, locate

NUM_CLASSES = 10
IMAGE_SHAPE = (28, 28)
# The last twelfth of the training file is the validation split: 5,000 of 60,000. The published order is random.
VALIDATION_SHARE = 12


def load(options: FashionMnistOptions) -> DataSet:
    """Load and split: the test file is test, the last twelfth of the training file validation, the rest train.

    Args:
        options: where to look first, and how many training images to use: the first ``num_train``.

    Returns:
        Inputs ``[n, 1, 28, 28]``, normalised by the training split in use.

    Raises:
        DataNotFound: the data root does not exist; or no place has the files and the download failed.
        DataCorrupt: a file is missing from a place that has others, or is damaged.
        UserError: more training images are asked for than there are.
    """
    folder = find(options.root)
    mend = _cure(folder)
    images, labels = read_pair(folder, "train", IMAGE_SHAPE, NUM_CLASSES, mend)
    test_images, test_labels = read_pair(folder, "t10k", IMAGE_SHAPE, NUM_CLASSES, mend)
    if len(images) < 2:
        raise DataCorrupt(Fault(str(folder), f"expected at least 2 training images, found 1; {mend}"))
    num_left = len(images) - max(1, len(images) // VALIDATION_SHARE)
    num_train = options.num_train or num_left
    if num_train > num_left:
        message = f"{num_train} is more than the {num_left} training images in {folder}"
        raise UserError(Fault("data.num_train", message))
    train, validation, test = normalised(
        _with_channel(images[:num_train]), _with_channel(images[num_left:]), _with_channel(test_images)
    )
    return DataSet(
        train=Split(train, _targets(labels[:num_train])),
        validation=Split(validation, _targets(labels[num_left:])),
        test=Split(test, _targets(test_labels)),
        input_shape=(1, *IMAGE_SHAPE),
        num_classes=NUM_CLASSES,
        found=str(folder),
    )


def find(root: str | None = None, fetch: Fetch | None = None) -> Path:
    """Find the files, or download them.

    Args:
        root: the spec's ``data.root``.
        fetch: how to download; None: through torchvision.

    Returns:
        The folder that holds the files.

    Raises:
        DataNotFound: the data root does not exist; or no place has the files and the download failed.
    """
    place = locate("fashion_mnist", root)
    if place.folder is not None:
        return place.folder
    if place.is_mistake:
        raise DataNotFound(f"fashion_mnist: {place.reason}")
    try:
        return download_fashion_mnist(download_root(root), fetch)
    except DataNotFound as error:
        raise DataNotFound(f"fashion_mnist is nowhere: {place.reason}. torchvision: {error}") from error


def _cure(folder: Path) -> str:
    if folder == DEBIAN_FOLDER:
        return "mend it by apt-get install --reinstall dataset-fashion-mnist"
    return f"mend it by removing {folder} and getting it again: teleport data fetch fashion_mnist"


def _with_channel(images: Bytes) -> Bytes:
    return images[:, np.newaxis]


def _targets(labels: Bytes) -> torch.Tensor:
    return torch.from_numpy(labels.astype(np.int64))
