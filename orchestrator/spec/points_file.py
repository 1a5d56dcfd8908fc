"""Reads the configurations that a search proposes first, where a spec names a CSV file of them."""

from __future__ import annotations

import csv
from pathlib import Path

from orchestrator.errors import Fault
from orchestrator.spec.yaml_text import Document, read_value

PLACE = ("search", "points")


def read_points(document: Document) -> list[Fault]:
    """Replace the name of a CSV file in ``search.points`` by its rows, so that the spec holds all that it means.

    Returns:
        What is wrong with the file.
    """
    search = document.data.get("search")
    if not isinstance(search, dict) or not isinstance(search.get("points"), str):
        return []
    path = Path(document.source).parent / search["points"]
    search["points"] = []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey="", strict=True)
            rows = list(reader)
    except OSError as error:
        return [Fault(document.place(PLACE), f"{path} cannot be read: {error.strerror or error}")]
    except (UnicodeDecodeError, csv.Error) as error:
        return [Fault(document.place(PLACE), f"{path} is no CSV file in UTF-8: {error}")]
    if not rows:
        return [Fault(document.place(PLACE), f"{path} holds no point: a line of names, then a line for each point")]
    long = [number for number, row in enumerate(rows, 2) if "" in row]
    if long:
        return [Fault(f"{path}:{long[0]}", "has more cells than the first line has names")]
    search["points"] = [{name: read_value(cell) for name, cell in row.items() if cell} for row in rows]
    return []
