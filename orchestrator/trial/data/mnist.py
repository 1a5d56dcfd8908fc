"""MNIST and FashionMNIST: 60,000 + 10,000 grey images of 28 × 28 pixels, ten classes, in IDX files.

Sources: Y. LeCun, C. Cortes and C. Burges, The MNIST database, 1998; H. Xiao, K. Rasul and R. Vollgraf,
Fashion-MNIST, 2017. Looked for in the data root, in the Debian package's folder (FashionMNIST alone), and then
downloaded from where torchvision has it, in that order.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from orchestrator.spec.options import FashionMnistOptions, MnistOptions
from orchestrator.trial.data.dataset import DataSet
from orchestrator.trial.data.idx import read_pair
from orchestrator.trial.data.images import Labelled, find, mend, split
from orchestrator.trial.data.locations import IDX_FILES
from orchestrator.trial.data.shared import shared

NUM_CLASSES = 10
IMAGE_SHAPE = (28, 28)
# The last twelfth of the training file is the validation split: 5,000 of 60,000. The published order is random.
VALIDATION_SHARE = 12


def load(options: MnistOptions | FashionMnistOptions) -> DataSet:
    """Load and split: the test file is test, the last twelfth of the training file validation, the rest train.

    Inputs are ``[n, 1, 28, 28]``, normalised by the training split in use, which is the first ``num_train`` images.
    """
    folder = find(options.name, options.root)
    sources = [folder / f"{name}{end}" for name in IDX_FILES for end in ("", ".gz")]
    return shared(options, sources, lambda: _read(options, folder))


def _read(options: MnistOptions | FashionMnistOptions, folder: Path) -> DataSet:
    cure = mend(options.name, folder)
    return split(
        _pair(folder, "train", cure),
        _pair(folder, "t10k", cure),
        validation_share=VALIDATION_SHARE,
        num_train=options.num_train,
        num_classes=NUM_CLASSES,
        folder=folder,
        cure=cure,
    )


def _pair(folder: Path, prefix: str, cure: str) -> Labelled:
    images, labels = read_pair(folder, prefix, IMAGE_SHAPE, NUM_CLASSES, cure)
    return Labelled(images[:, np.newaxis], labels)
