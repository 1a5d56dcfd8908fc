"""Images read as sequences: the tokens are their rows, or their pixels one by one, top left to bottom right.

Source: Q. Le, N. Jaitly and G. Hinton, A Simple Way to Initialize Recurrent Networks of Rectified Linear Units,
arXiv 1504.00941 (pixels).
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.spec.options import DATASETS, SequenceOptions
from orchestrator.trial.data.dataset import DataSet, Split


def load(options: SequenceOptions) -> DataSet:
    """Load the set of images and read each as a sequence ``[T, d]``; samples and splits stay the same."""
    images = options.images
    data: DataSet = DATASETS[images.name].load()(images)
    shape = options.sample_shape

    def read(split: Split) -> Split:
        return Split(split.inputs.reshape(-1, *shape), split.targets)

    return replace(
        data, train=read(data.train), validation=read(data.validation), test=read(data.test), input_shape=shape
    )
