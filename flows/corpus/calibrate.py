"""``ffavatar calibrate``: measure the threshold of a face pack on labelled pairs, and store it with the pack."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from flows.corpus.stills import embed_stills, stills_by_person
from infra.console import CallError, say
from pipelines.faces.analysis import FaceAnalyzer
from pipelines.faces.pack import face_pack, write_calibration
from pipelines.identity.calibration import Calibration, Scores, calibrate, labelled_pairs

TRUE, FALSE = ("1", "true", "same", "yes"), ("0", "false", "different", "no")


def calibrate_command(pairs: Path, pack: str | None, people: int) -> None:
    """``ffavatar calibrate``."""
    found = face_pack(pack)
    analyzer = FaceAnalyzer(found)
    if pairs.is_dir():
        same, other = _of_folder(analyzer, pairs)
    elif pairs.is_file():
        same, other = _of_table(analyzer, pairs)
    else:
        raise CallError(f"{pairs}: not there; give a folder a person, or a csv with the columns a, b, same")
    result = calibrate(same, other, people)
    path = write_calibration(found, result.to_dict())
    _tell(found.name, result, path)


def _of_folder(analyzer: FaceAnalyzer, folder: Path) -> tuple[Scores, Scores]:
    """(same, other) similarities of all pairs of stills."""
    people = stills_by_person(folder)
    files = [path for stills in people.values() for path in stills]
    rows, vectors = embed_stills(analyzer, files)
    who = np.asarray([person for person, stills in people.items() for path in stills if path in rows])
    return labelled_pairs(vectors, who)


def _of_table(analyzer: FaceAnalyzer, table: Path) -> tuple[Scores, Scores]:
    """(same, other) similarities of the pairs that a csv lists; paths are relative to it."""
    with table.open(newline="", encoding="utf-8") as opened:
        reader = csv.DictReader(opened)
        if not {"a", "b", "same"} <= set(reader.fieldnames or ()):
            raise CallError(f"{table}: has the columns {reader.fieldnames}; it needs a, b (files) and same (1 or 0)")
        listed = list(reader)
    for number, row in enumerate(listed, 2):
        if (row["same"] or "").strip().lower() not in TRUE + FALSE:
            raise CallError(f"{table}, line {number}: same is {row['same']!r}; it must be 1 or 0")
    pairs = [(table.parent / row["a"], table.parent / row["b"], row["same"].strip().lower() in TRUE) for row in listed]
    rows, vectors = embed_stills(analyzer, sorted({path for a, b, _ in pairs for path in (a, b)}))
    seen = [(vectors[rows[a]] @ vectors[rows[b]], same) for a, b, same in pairs if a in rows and b in rows]
    scores, labels = np.asarray([s for s, _ in seen], np.float64), np.asarray([same for _, same in seen], bool)
    return scores[labels], scores[~labels]


def _tell(pack: str, result: Calibration, path: Path) -> None:
    say(
        "face pack {pack}: threshold {threshold} (cosine distance) for {people} people, from {same} pairs of one "
        "person ({sm} ± {ss} alike) and {other} of different people ({om} ± {os})",
        pack=pack,
        threshold=result.threshold,
        people=result.people,
        same=result.same_pairs,
        other=result.other_pairs,
        sm=result.same_mean,
        ss=result.same_spread,
        om=result.other_mean,
        os=result.other_spread,
    )
    say(
        "  beyond it lie {missed} of one person's pairs; a picture is expected to match {false} others; equal error "
        "{eer}; stored in {path}",
        missed=result.missed,
        false=result.false_per_track,
        eer=result.equal_error,
        path=path,
    )
    if result.missed > 0.1 or result.false_per_track > 0.1:
        say("  so many people cannot be told apart by single pictures of this kind; a track's mean does better")


def clustering_threshold(pack: str) -> float:
    """The pack's calibrated cosine distance.

    Raises:
        CallError: it has none.
        WeightsError: there is no such pack.
    """
    threshold = face_pack(pack or None).threshold
    if threshold is None:
        way_out = f"measure it: ffavatar calibrate PAIRS --pack {pack} (a folder a person, or a csv of pairs)"
        raise CallError(f"face pack {pack}: no clustering threshold; {way_out}")
    return threshold
