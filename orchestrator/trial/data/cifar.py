"""CIFAR-10 and CIFAR-100: 50,000 + 10,000 colour images of 32 × 32 pixels.

Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009. Looked for in the data root, as
torchvision lays it out or in the binary version, and then downloaded from where torchvision has it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from orchestrator.spec.options import Cifar10Options, Cifar100Options
from orchestrator.trial.data.cifar_file import read_batch, read_records
from orchestrator.trial.data.dataset import DataSet
from orchestrator.trial.data.images import Labelled, find, mend, split
from orchestrator.trial.data.locations import layout_of
from orchestrator.trial.data.shared import shared

# The last tenth of the training file is the validation split: 5,000 of 50,000. The published order is random.
VALIDATION_SHARE = 10
NUM_CLASSES = {"cifar10": 10, "cifar100": 100}


def load(options: Cifar10Options | Cifar100Options) -> DataSet:
    """Load and split: the test batch is test, the last tenth of the training batches validation, the rest train.

    Inputs are ``[n, 3, 32, 32]``, each channel normalised by the training split in use: the first ``num_train`` images.
    """
    folder = find(options.name, options.root)
    sources = [folder / file for file in layout_of(options.name, folder).files]
    return shared(options, sources, lambda: _read(options, folder))


def _read(options: Cifar10Options | Cifar100Options, folder: Path) -> DataSet:
    layout = layout_of(options.name, folder)
    cure = mend(options.name, folder)
    train, test = (
        _joined([_read_file(options.name, folder / file, cure) for file in files])
        for files in (layout.train, layout.test)
    )
    return split(
        train,
        test,
        validation_share=VALIDATION_SHARE,
        num_train=options.num_train,
        num_classes=NUM_CLASSES[options.name],
        folder=folder,
        cure=cure,
    )


def _read_file(name: str, path: Path, cure: str) -> Labelled:
    if path.suffix == ".bin":
        return read_records(path, 1 if name == "cifar10" else 2, NUM_CLASSES[name], cure)
    return read_batch(path, "labels" if name == "cifar10" else "fine_labels", NUM_CLASSES[name], cure)


def _joined(parts: list[Labelled]) -> Labelled:
    return Labelled(np.concatenate([p.images for p in parts]), np.concatenate([p.labels for p in parts]))
