from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from orchestrator.errors import DataCorrupt, DataNotFound, UserError
from orchestrator.spec.options.datasets import TextOptions
from orchestrator.trial.data.text import load

# 200 characters: the first 180 are the training part, ten and ten follow.
MINE = "abcd efgh\n" * 18 + "abcé\nzabcd" + "hgfe dcba\n"


def options(**more: Any) -> TextOptions:
    return TextOptions.model_validate({"name": "text", "batch_size": 8, **more})


@pytest.fixture
def root(tmp_path: Path) -> str:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "mine.txt").write_text(MINE, encoding="utf-8")
    return str(tmp_path)


def decoded(tokens: torch.Tensor, known: str) -> str:
    return "".join(known[token] if token < len(known) else "?" for token in tokens.tolist())


def test_windows_follow_one_another_and_targets_are_the_next_characters(root: str) -> None:
    data = load(options(file="mine", context=4, root=root))
    known = "".join(sorted(set(MINE[:180])))
    assert data.num_classes == len(known) + 1 == 11
    assert len(data.train) == options(file="mine", context=4, root=root).train_size == 44
    assert "".join(decoded(window, known) for window in data.train.inputs) == MINE[: 4 * 44]
    assert "".join(decoded(window, known) for window in data.train.targets) == MINE[1 : 4 * 44 + 1]
    assert (len(data.validation), len(data.test)) == (2, 2)
    assert decoded(data.test.inputs.reshape(-1), known) == "hgfe dcb"


def test_no_split_sees_another_and_unknown_characters_have_one_number(root: str) -> None:
    data = load(options(file="mine", context=9, root=root))
    known = "".join(sorted(set(MINE[:180])))
    assert decoded(data.validation.inputs[0], known) == "abc?\n?abc"
    assert decoded(data.validation.targets[0], known) == "bc?\n?abcd"


def test_windows_may_overlap_and_may_be_fewer(root: str) -> None:
    data = load(options(file="mine", context=4, stride=1, root=root))
    assert len(data.train) == options(file="mine", context=4, stride=1, root=root).train_size == 176
    assert torch.equal(data.train.inputs[1], data.train.targets[0])
    few = load(options(file="mine", context=4, num_train=3, root=root))
    assert (len(few.train), len(few.validation)) == (3, 2)


def test_the_embedded_text_is_real_and_needs_nothing() -> None:
    data = load(options())
    assert data.train.inputs.shape == (options().train_size, 64) == (5_624, 64)
    assert "topics.py (400,000 characters, sha256 " in data.found
    assert 60 < data.num_classes < 300


def test_a_text_that_is_not_there_says_where_to_put_it(root: str) -> None:
    with pytest.raises(DataNotFound, match=r"text: .*other\.txt does not exist; put a UTF-8 text there"):
        load(options(file="other", root=root))
    with pytest.raises(DataNotFound, match=r"other\.txt does not exist"):
        options(file="other", root=root).train_size  # noqa: B018 - counting reads the file
    assert options(file="other", root=root, num_train=7).train_size == 7
    with pytest.raises(DataNotFound, match=r"data\.root .*missing does not exist"):
        load(options(file="mine", root=f"{root}/missing"))


def test_a_text_in_another_encoding_is_named(root: str) -> None:
    path = Path(root, "text", "mine.txt")
    path.write_bytes("é".encode("latin1") * 300)
    with pytest.raises(DataCorrupt, match=r"mine\.txt: expected UTF-8, found byte 0xe9 at 0"):
        load(options(file="mine", root=root))
    path.unlink()
    path.mkdir()
    with pytest.raises(DataCorrupt, match=r"mine\.txt: expected a text file and cannot read this one"):
        load(options(file="mine", root=root))


def test_a_text_too_short_for_a_window_in_each_part_is_told(root: str) -> None:
    with pytest.raises(UserError, match=r"data\.context: .* its validation part has 10 characters"):
        load(options(file="mine", context=10, root=root))
    with pytest.raises(UserError, match=r"data\.num_train: 45 is more than the 44 training windows"):
        load(options(file="mine", context=4, num_train=45, root=root))
    Path(root, "text", "mine.txt").write_text("")
    with pytest.raises(UserError, match="its training part has 0 characters"):
        load(options(file="mine", context=4, root=root))


def test_an_embedded_text_that_is_shorter_than_it_was_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from pydoc_data import topics

    monkeypatch.setattr(topics, "topics", {"if": "The if statement"})
    with pytest.raises(DataCorrupt, match=r"topics\.py: expected 400,000 characters, found 16"):
        load(options())


@pytest.mark.parametrize("file", ["../secret", "a/b", "", ".hidden"])
def test_a_name_is_no_path(file: str) -> None:
    with pytest.raises(ValidationError, match="should match pattern"):
        options(file=file)


def test_a_window_longer_than_the_embedded_text_is_refused_before_it_runs() -> None:
    with pytest.raises(ValidationError, match="context must be below 20,000"):
        options(context=20_000)
