from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from orchestrator.spec.options.datasets import FashionMnistOptions, SeqDigitsOptions, SeqFashionMnistOptions
from orchestrator.trial.data import mnist, sequence
from tests.orchestrator.trial.data.idx_files import write


@pytest.mark.parametrize(("tokens", "shape"), [("rows", (28, 28)), ("pixels", (784, 1))])
def test_tokens_are_the_images_own_rows_or_pixels_in_the_same_splits(
    tmp_path: Path, tokens: Any, shape: tuple[int, int]
) -> None:
    write(tmp_path)
    data = sequence.load(
        SeqFashionMnistOptions(name="seq_fashion_mnist", batch_size=8, root=str(tmp_path), tokens=tokens, num_train=20)
    )
    images = mnist.load(FashionMnistOptions(name="fashion_mnist", batch_size=8, root=str(tmp_path), num_train=20))
    assert data.input_shape == shape
    assert data.train.inputs.shape == (20, *shape)
    first = images.train.inputs[0, 0]
    expected = first if tokens == "rows" else first.reshape(784, 1)
    assert torch.equal(data.train.inputs[0], expected)
    assert torch.equal(data.test.targets, images.test.targets)
    assert data.found == images.found


def test_rows_are_the_default_and_sizes_are_the_images_own() -> None:
    options = SeqDigitsOptions(name="seq_digits", batch_size=8)
    assert (options.tokens, options.train_size, options.input_kind) == ("rows", 1_257, "sequence")
    assert sequence.load(options).input_shape == (8, 8)


def test_an_unknown_kind_of_token_is_refused() -> None:
    with pytest.raises(ValidationError, match="'rows' or 'pixels'"):
        SeqDigitsOptions.model_validate({"name": "seq_digits", "batch_size": 8, "tokens": "columns"})
