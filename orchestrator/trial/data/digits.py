"""scikit-learn's handwritten digits: 1,797 images of 8 × 8 pixels, 0 .. 16, ten classes; embedded.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test set), as
scikit-learn ships it.
"""

from __future__ import annotations

import numpy as np
import torch

from orchestrator.spec.options import DigitsOptions
from orchestrator.trial.data.dataset import DataSet, Split, normalised
from orchestrator.trial.data.locations import locate
from orchestrator.trial.data.sklearn_table import folder_of, read_table

NUM_SAMPLES = 1797
NUM_TEST = 360
NUM_VALIDATION = 180


def load(options: DigitsOptions) -> DataSet:
    """Load and split by one fixed permutation: the first 360 are test, the next 180 validation, the other 1,257 train.

    The file runs writer by writer; the permutation mixes them. It comes from numpy's ``RandomState``, whose stream is
    frozen (NEP 19), so no upgrade moves a sample from one split to another. Inputs are ``[n, 1, 8, 8]``, normalised by
    the training split.

    Raises:
        DataNotFound: scikit-learn is not installed.
        DataCorrupt: scikit-learn's file is damaged.
    """
    place = locate("digits", options.root)
    file = folder_of(place) / "digits.csv.gz"
    table = read_table(file, (NUM_SAMPLES, 65), delimiter=",", dtype=np.uint8)
    order = np.random.RandomState(0).permutation(NUM_SAMPLES)
    images = table[order, :64].reshape(-1, 1, 8, 8)
    labels = torch.from_numpy(table[order, 64].astype(np.int64))
    first_train = NUM_TEST + NUM_VALIDATION
    train, validation, test = normalised(images[first_train:], images[NUM_TEST:first_train], images[:NUM_TEST])
    return DataSet(
        train=Split(train, labels[first_train:]),
        validation=Split(validation, labels[NUM_TEST:first_train]),
        test=Split(test, labels[:NUM_TEST]),
        input_shape=(1, 8, 8),
        num_classes=10,
        found=str(place),
    )
