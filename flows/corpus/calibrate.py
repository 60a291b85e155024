"""Calibration of a face pack: measure the clustering threshold on labelled pairs, and store it with the pack."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from flows.corpus.stills import embed_stills, stills_by_person
from infra.console import CallError, say
from pipelines.faces.analysis import FaceAnalyzer
from pipelines.faces.pack import face_pack, write_pack_calibration
from pipelines.identity.calibration import Calibration, Scores, calibrate, labelled_pairs

TRUE, FALSE = ("1", "true", "same", "yes"), ("0", "false", "different", "no")
"""Accepted values of the column ``same`` in a csv of pairs: for one person, and for two people."""
MAX_SHARE = 0.1
"""Share of missed pairs, or number of false matches per image, above which a warning is printed."""


def calibrate_command(pairs: Path, pack: str | None, people: int) -> None:
    """Run ``ffavatar calibrate``.

    Args:
        pairs: A folder with one folder per person, or a csv with the columns ``a``, ``b`` (files) and ``same``.
        pack: Name or folder of the face pack; None for the embedded pack.
        people: Number of people in the corpus that will be clustered with the threshold.

    Raises:
        CallError: ``pairs`` is missing, or a row of the csv cannot be used.
        WeightsError: There is no such pack.
    """
    used_pack = face_pack(pack)
    analyzer = FaceAnalyzer(used_pack)
    if pairs.is_dir():
        same, other = _score_folder(analyzer, pairs)
    elif pairs.is_file():
        same, other = _score_csv(analyzer, pairs)
    else:
        raise CallError(f"{pairs}: not there; give a folder a person, or a csv with the columns a, b, same")
    result = calibrate(same, other, people)
    path = write_pack_calibration(used_pack, result.to_dict())
    _show_calibration(used_pack.name, result, path)


def _score_folder(analyzer: FaceAnalyzer, folder: Path) -> tuple[Scores, Scores]:
    """Return the similarities of all pairs of stills of one person, and of all pairs of two people."""
    people = stills_by_person(folder)
    files = [path for stills in people.values() for path in stills]
    rows, vectors = embed_stills(analyzer, files)
    owners = np.asarray([person for person, stills in people.items() for path in stills if path in rows])
    return labelled_pairs(vectors, owners)


def _score_csv(analyzer: FaceAnalyzer, table: Path) -> tuple[Scores, Scores]:
    """Return the similarities of a csv's pairs of one person, and of its pairs of two people.

    Paths in the csv are relative to the csv's folder.
    """
    way_out = "it needs a, b (files) and same (1 or 0); or give a folder a person"
    try:
        with table.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened)
            if not {"a", "b", "same"} <= set(reader.fieldnames or ()):
                raise CallError(f"{table}: has the columns {str(reader.fieldnames)[:200]}; {way_out}")
            listed = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise CallError(f"{table}: is no csv of pairs, {way_out}") from error
    for number, row in enumerate(listed, 2):
        if (row["same"] or "").strip().lower() not in TRUE + FALSE:
            raise CallError(f"{table}, line {number}: same is {row['same']!r}; it must be 1 or 0")
        if not row["a"] or not row["b"]:
            raise CallError(f"{table}, line {number}: names no two files; {way_out}")
    pairs = [(table.parent / row["a"], table.parent / row["b"], row["same"].strip().lower() in TRUE) for row in listed]
    rows, vectors = embed_stills(analyzer, sorted({path for a, b, _ in pairs for path in (a, b)}))
    scored = [(vectors[rows[a]] @ vectors[rows[b]], same) for a, b, same in pairs if a in rows and b in rows]
    scores, labels = np.asarray([s for s, _ in scored], np.float64), np.asarray([same for _, same in scored], bool)
    return scores[labels], scores[~labels]


def _show_calibration(pack: str, result: Calibration, path: Path) -> None:
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
        "  {missed} of one person's pairs lie beyond it; an image is expected to match {false} other people; "
        "equal error {eer}; stored in {path}",
        missed=result.missed,
        false=result.false_per_track,
        eer=result.equal_error,
        path=path,
    )
    if result.missed > MAX_SHARE or result.false_per_track > MAX_SHARE:
        say("  single images of this kind cannot separate so many people; the mean of a track does better")


def clustering_threshold(pack: str) -> float:
    """Return the calibrated threshold (cosine distance) of a face pack.

    Args:
        pack: Name or folder of the face pack; empty for the embedded pack.

    Raises:
        CallError: The pack has no calibrated threshold.
        WeightsError: There is no such pack.
    """
    threshold = face_pack(pack or None).threshold
    if threshold is None:
        way_out = f"measure it: ffavatar calibrate PAIRS --pack {pack} (a folder a person, or a csv of pairs)"
        raise CallError(f"face pack {pack}: no clustering threshold; {way_out}")
    return threshold
