from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from orchestrator.errors import DataCorrupt, DataNotFound
from orchestrator.spec.options.datasets import DigitsOptions
from orchestrator.trial.data import digits
from orchestrator.trial.data.digits import load
from orchestrator.trial.data.locations import Location

OPTIONS = DigitsOptions(name="digits", batch_size=32)


def test_is_scikit_learns_data_and_no_sample_is_in_two_splits() -> None:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    data = load(OPTIONS)
    splits = (data.train, data.validation, data.test)
    assert [len(split) for split in splits] == [OPTIONS.train_size, 180, 360]
    scale = (data.train.inputs.max() - data.train.inputs.min()) / 16
    raw = torch.cat([(split.inputs - data.train.inputs.min()) / scale for split in splits]).round()
    ours = np.column_stack([raw.reshape(-1, 64).numpy(), torch.cat([split.targets for split in splits])])
    theirs = np.column_stack([images, labels])
    np.testing.assert_array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)])


def test_the_split_stays_as_it_is_published() -> None:
    data = load(OPTIONS)
    assert data.train.targets[:12].tolist() == TRAIN
    assert data.validation.targets[:12].tolist() == VALIDATION
    assert data.test.targets[:12].tolist() == TEST
    assert min(data.test.targets.bincount()) >= 25
    assert min(data.validation.targets.bincount()) >= 10


TRAIN = [9, 3, 6, 1, 5, 1, 8, 9, 8, 4, 1, 7]
VALIDATION = [6, 5, 3, 4, 4, 4, 8, 8, 7, 0, 9, 6]
TEST = [2, 8, 2, 6, 6, 7, 1, 9, 8, 5, 2, 8]

DAMAGED = {
    "no gz": (b"1,2,3", "cannot be read"),
    "short": (gzip.compress(b"1,2,3\n4,5,6\n"), r"expected 1797 rows of 65 numbers, found \(2, 3\)"),
    "no numbers": (gzip.compress(b"a,b\n"), "cannot be read"),
    "cut off": (gzip.compress(b"1,2,3\n" * 900)[:-12], "cannot be read"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    content, expected = DAMAGED[name]
    (tmp_path / "digits.csv.gz").write_bytes(content)
    monkeypatch.setattr(digits, "locate", lambda name, root: Location(name, tmp_path))
    with pytest.raises(DataCorrupt, match=rf"digits\.csv\.gz: {expected}.*; install scikit-learn again"):
        load(OPTIONS)


def test_without_scikit_learn_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "locate", lambda name, root: Location(name, None, "it is part of scikit-learn"))
    with pytest.raises(DataNotFound, match="digits: it is part of scikit-learn"):
        load(OPTIONS)
