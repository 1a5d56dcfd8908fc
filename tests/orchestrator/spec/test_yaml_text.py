"""YAML in: every scalar as people expect it, every trap refused with its place."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.errors import SpecError
from orchestrator.spec.yaml_text import MAX_BYTES, MAX_NODES, KeyPath, _NodeReader, read_file, read_text, read_value


def fault(text: str) -> str:
    with pytest.raises(SpecError, match=r".+") as caught:
        read_text(text, "f.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("1.", 1.0),
        (".5", 0.5),
        ("-2", -2),
        ("0x10", 16),
        ("on", "on"),
        ("no", "no"),
        ("yes", "yes"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("'1e-3'", "1e-3"),
        ("2026-11-23", "2026-11-23"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("-.inf", -math.inf),
        ("=", "="),
    ],
)
def test_scalars_are_read_as_yaml_1_2_reads_them(text: str, value: object) -> None:
    read = read_text(f"a: {text}").data["a"]
    assert read == value
    assert type(read) is type(value)


def test_nan_is_a_number() -> None:
    assert math.isnan(read_value(".nan"))


def test_lines_and_paths_name_the_place() -> None:
    document = read_text("a:\n  b:\n  - 1\n  - {c: 2}\n", "f.yaml")
    assert document.place(("a", "b", 1, "c")) == "f.yaml:4: a.b[1].c"
    assert document.place(("a", "b", 7, "x")) == "f.yaml:2: a.b[7].x"
    assert document.place(()) == "f.yaml:1"


def test_duplicate_keys_are_all_told() -> None:
    message = fault("a: 1\nb: {c: 1, c: 2}\na: 3\n")
    assert "f.yaml:2: b.c: duplicate key; first set on line 2" in message
    assert "f.yaml:3: a: duplicate key; first set on line 1" in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("- 1\n- 2\n", "must be a YAML mapping of keys to values, is a list"),
        ("word", "is text"),
        ("a: [1", "is not YAML"),
        ("a: 1\n b: 2", "f.yaml:2: is not YAML"),
        ("a: *nowhere", "undefined alias"),
        ("a: !!python/object/apply:os.system ['true']", "tag"),
        ("a: !!python/name:os.system", "tag"),
        ("a: !mine 3", "tag"),
        ("a: !!binary aGk=", "tag"),
        ("[1, 2]: 3", "a key must be a plain word"),
        ("a: 1\n---\nb: 2\n", "is not YAML"),
        ("a: \x00", "is not YAML"),
        ("[" * 5000, "nested deeper"),
    ],
)
def test_what_is_no_spec_is_refused_with_the_reason(text: str, part: str) -> None:
    assert part in fault(text)


def test_python_tags_execute_nothing(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    fault(f"a: !!python/object/apply:os.system ['touch {witness}']")
    assert not witness.exists()


def test_anchors_work_and_do_not_explode(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_text("a: &x [1, 2]\nb: *x\n").data == {"a": [1, 2], "b": [1, 2]}
    levels = "\n".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]" for i in range(1, 12))
    num_read = 0
    real = _NodeReader.convert

    def counted(self: _NodeReader, node: yaml.Node, path: KeyPath) -> Any:
        nonlocal num_read
        num_read += 1
        return real(self, node, path)

    monkeypatch.setattr(_NodeReader, "convert", counted)
    assert "more than 20000 values" in fault(f"l0: &l0 [x, x]\n{levels}\n")
    assert MAX_NODES < num_read < 2 * MAX_NODES, "of 2e11 values once the aliases are expanded"


def test_an_alias_of_itself_is_refused() -> None:
    assert "nested deeper" in fault("a: &x [*x]")


def test_a_huge_scalar_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_text(f"name: {'x' * MAX_BYTES}\n")
    with pytest.raises(SpecError, match="is larger than 256 KiB"):
        read_file(path)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n\x00\xff", b"\xff\xfe\x00\x01"])
def test_binary_rubbish_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "image.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError, match="is not UTF-8 text"):
        read_file(path)


def test_unreadable_paths_are_told(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"missing\.yaml: cannot be read: No such file"):
        read_file(tmp_path / "missing.yaml")
    with pytest.raises(SpecError, match="is a directory"):
        read_file(tmp_path)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_file(path).data == {"a": 1}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1", 0.1),
        ("[0, 1]", [0, 1]),
        ("{uniform: [0, 1]}", {"uniform": [0, 1]}),
        ("a: b: c", "a: b: c"),
        ("", None),
    ],
)
def test_command_line_values_are_yaml(text: str, value: object) -> None:
    assert read_value(text) == value


def test_command_line_values_execute_nothing() -> None:
    with pytest.raises(SpecError, match="tag"):
        read_value("!!python/object/apply:os.system ['true']")
