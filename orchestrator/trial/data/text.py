"""Text for language models: each character is predicted from those before it."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from orchestrator.errors import DataCorrupt, DataNotFound, Fault, UserError
from orchestrator.spec.options import EMBEDDED_CHARACTERS, EMBEDDED_TEXT, TextOptions, read_text
from orchestrator.trial.data.dataset import DataSet, Split
from orchestrator.trial.data.locations import embedded_text, locate_for
from orchestrator.trial.data.shared import shared


def load(options: TextOptions) -> DataSet:
    """Split a text by position, 90 % train, 5 % validation, 5 % test, and cut each part into windows.

    Windows are ``[n, context]``, int64; their targets are the characters one place on, and none reaches into the next
    split. Characters are numbered in the order of their code points in the training part; one number more, the last,
    stands for every other character.

    Raises:
        DataNotFound: there is no such text.
    """
    place = locate_for(options)
    if not place.is_found:
        raise DataNotFound(f"text: {place.reason}")
    path = embedded_text() if options.file == EMBEDDED_TEXT else Path(str(place))
    if path is None:
        raise DataNotFound(f"text: {place}")
    return shared(options, [path], lambda: _cut(options, path, _read(options, path)))


def _read(options: TextOptions, path: Path) -> str:
    if options.file != EMBEDDED_TEXT:
        return read_text(path)
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    text = "\n\n".join(topics[name] for name in sorted(topics))[:EMBEDDED_CHARACTERS]
    if len(text) < EMBEDDED_CHARACTERS:
        message = f"expected {EMBEDDED_CHARACTERS:,} characters, found {len(text):,}; install Python again"
        raise DataCorrupt(Fault(str(path), message))
    return text


def _cut(options: TextOptions, path: Path, text: str) -> DataSet:
    codes = np.frombuffer(text.encode("utf-32-le"), "<u4")
    first, second = len(codes) * 9 // 10, len(codes) * 19 // 20
    parts = {"training": codes[:first], "validation": codes[first:second], "test": codes[second:]}
    for name, part in parts.items():
        if not options.num_windows(len(part)):
            needed = f"a window of {options.context:,} and the character after it"
            message = f"{path}: expected {needed} in each part, but its {name} part has {len(part):,} characters"
            raise UserError(Fault("data.context", message))
    known = np.unique(parts["training"])
    train, validation, test = (_windows(options, known, part) for part in parts.values())
    num_train = options.num_train or len(train)
    if num_train > len(train):
        message = f"{num_train:,} is more than the {len(train):,} training windows in {path}"
        raise UserError(Fault("data.num_train", message))
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    name = f"{EMBEDDED_TEXT} in " if options.file == EMBEDDED_TEXT else ""
    return DataSet(
        train=train.select(torch.arange(num_train)),
        validation=validation,
        test=test,
        input_shape=(options.context,),
        num_classes=len(known) + 1,
        found=f"{name}{path} ({len(text):,} characters, sha256 {digest})",
    )


def _windows(options: TextOptions, known: npt.NDArray[np.uint32], part: npt.NDArray[np.uint32]) -> Split:
    places = np.searchsorted(known, part)
    is_known = known[np.minimum(places, len(known) - 1)] == part
    tokens = torch.from_numpy(np.where(is_known, places, len(known)).astype(np.int64))
    windows = tokens.unfold(0, options.context + 1, options.stride or options.context)
    return Split(windows[:, :-1].contiguous(), windows[:, 1:].contiguous())
