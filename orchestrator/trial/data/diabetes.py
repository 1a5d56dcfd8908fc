"""scikit-learn's diabetes: ten measurements of 442 patients, and how far the disease had gone a year later; embedded.

Source: B. Efron, T. Hastie, I. Johnstone and R. Tibshirani, Least Angle Regression, 2004, as scikit-learn ships it.
"""

from __future__ import annotations

import numpy as np
import torch

from orchestrator.spec.options import DiabetesOptions
from orchestrator.trial.data.dataset import DataSet, Split
from orchestrator.trial.data.locations import locate
from orchestrator.trial.data.sklearn_table import folder_of, read_table

NUM_SAMPLES = 442
INPUTS, TARGETS = "diabetes_data_raw.csv.gz", "diabetes_target.csv.gz"


def load(options: DiabetesOptions) -> DataSet:
    """Load and split by one fixed permutation: the first 88 are test, the next 44 validation, the other 310 train.

    Inputs are ``[n, 1, 1, 10]``, each measurement scaled to mean 0 and standard deviation 1 over the training split.
    Targets are ``[n, 1]`` and scaled so too: an MSE of 1 is that of a model which always says the mean.

    Raises:
        DataNotFound: scikit-learn is not installed.
        DataCorrupt: scikit-learn's files are damaged.
    """
    place = locate("diabetes", options.root)
    folder = folder_of(place)
    inputs, targets = (
        torch.from_numpy(read_table(folder / name, (NUM_SAMPLES, width), dtype=np.float64))
        for name, width in ((INPUTS, 10), (TARGETS, 1))
    )
    made = DataSet.of(inputs.reshape(-1, 1, 1, 10), targets, found=str(place))
    deviation, mean = torch.std_mean(made.train.targets, correction=0)

    def scaled(split: Split) -> Split:
        return Split(split.inputs.float(), ((split.targets - mean) / deviation).float())

    train, validation, test = map(scaled, (made.train, made.validation, made.test))
    return DataSet(train, validation, test, made.input_shape, made.num_classes, made.found)
