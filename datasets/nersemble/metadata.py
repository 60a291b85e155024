"""Reading and writing of ``metadata_participants.csv`` and ``metadata_sequences.csv``."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from nersemble.errors import NersembleError
from nersemble.layout import BACKGROUND, PARTICIPANTS_CSV, SEQUENCES, SEQUENCES_CSV

RECORDED = ("x", "m")
"""Marks of recorded sequences, from ``nersemble_data`` 0.0.6 (``util/metadata.py``)."""


def read_participants(root: Path) -> dict[int, dict[str, str]]:
    """Read the table of participants.

    Args:
        root: Folder of the data.

    Returns:
        Participant → name of the column in the file → value; empty if the file is missing.

    Raises:
        NersembleError: The file has no column ``ID`` of numbers.
    """
    return _read(root / PARTICIPANTS_CSV)


def read_sequences(root: Path) -> dict[int, tuple[str, ...]]:
    """Read the recorded sequences of each participant.

    Columns that are not in ``SEQUENCES`` are ignored. Sequence names become names of folders, so a table must not be
    able to name an arbitrary path.

    Args:
        root: Folder of the data.

    Returns:
        Participant → names of the recorded sequences, in the order of the table; empty if the file is missing.

    Raises:
        NersembleError: The file has no column ``ID`` of numbers.
    """
    rows = _read(root / SEQUENCES_CSV)
    return {
        participant: tuple(name for name, mark in row.items() if mark in RECORDED and name in SEQUENCES)
        for participant, row in rows.items()
    }


def write_tables(root: Path, people: Mapping[int, Mapping[str, str]], recorded: Mapping[int, Sequence[str]]) -> None:
    """Write the tables of participants and sequences.

    Args:
        root: Folder of the data.
        people: Participant → column → value.
        recorded: Participant → names of the recorded sequences.
    """
    columns = ["ID", *dict.fromkeys(name for facts in people.values() for name in facts)]
    with (root / PARTICIPANTS_CSV).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows({"ID": participant, **facts} for participant, facts in sorted(people.items()))
    names = (BACKGROUND, *SEQUENCES)
    with (root / SEQUENCES_CSV).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["ID", "wears_glasses", *names], restval="")
        writer.writeheader()
        for participant, sequences in sorted(recorded.items()):
            marks = {name: "x" for name in names if name in sequences or name == BACKGROUND}
            writer.writerow({"ID": participant, "wears_glasses": "", **marks})


def _read(path: Path) -> dict[int, dict[str, str]]:
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = [{k: v for k, v in row.items() if k} for row in csv.DictReader(stream)]
        return {int(row.pop("ID")): {k: v or "" for k, v in row.items()} for row in rows}
    except (OSError, ValueError, KeyError) as error:
        raise NersembleError(f"{path}: no table with a column ID ({type(error).__name__}: {error})") from error
