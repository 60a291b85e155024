"""Command ``ffavatar studio --report``: rendered people judged by the face stack, against real videos."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from infra.console import CallError, ProgressBar, say
from mfhq.ids import digest, seed_of
from pipelines.faces.analysis import FaceAnalyzer
from pipelines.faces.mesh_detector import MeshDetector
from pipelines.faces.pack import embedded_pack
from pipelines.faces.weight_cache import cache_dir
from pipelines.media.decoder import ProcessDecoder
from pipelines.studio.judging.blendshapes import BlendshapeScorer
from pipelines.studio.judging.face_sample import FaceJudge, FaceSample, Image
from pipelines.studio.judging.judged_people import FigurePeople, JudgedPeople, PaintedPeople
from pipelines.studio.judging.measures import driven_correlations, measure_faces, separations
from pipelines.studio.judging.report_files import write_report
from pipelines.studio.looks.dressed_people import PeopleName, identity_ids, open_people
from pipelines.studio.people.attribute_counts import count_attributes
from pipelines.studio.rendering.choice import open_renderer
from pipelines.studio.rendering.draws import find_environments, random_scene
from pipelines.studio.studio_head import load_studio_head

JudgedName = PeopleName | Literal["painted"]
SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi")
"""Endings of video files."""
FRAME_STEP = 20
"""Distance of the frames that are measured in a video."""
SCENES = 24
"""Number of lights and backgrounds of the open source's people."""
FACES, SIZE, ACTORS = 6, 320, 4
"""Faces a person, side of a rendered image in pixels, and people who perform the driven actions."""


def report_command(
    out: Path, source: JudgedName, clips: Path | None, assets: Path | None, identities: int, seed: int
) -> None:
    """Run ``ffavatar studio --report``.

    Args:
        out: Folder of the report.
        source: People to judge: ``painted``, or the name of a source.
        clips: Folder of real videos; None measures the rendered people alone.
        assets: Kit with ``networks/``; None leaves out the blendshape scores.
        identities: Number of rendered people.
        seed: Seed of the people.

    Raises:
        CallError: A folder or a network is missing, or too few faces are usable.
    """
    try:
        scorer = BlendshapeScorer(assets / "networks") if assets else None
        mesh = MeshDetector.load()
        judge = FaceJudge(FaceAnalyzer(embedded_pack()), mesh)
        real = list(real_faces(clips, judge)) if clips else []
        people, ids = judged_people(source, assets, identities, seed)
        rendered = list(rendered_faces(people, ids, judge))
        figures: dict[str, Any] = {"Faces": _by_measure({people.name: rendered, "real": real}, mesh)}
        figures["Found"] = {people.name: {"share of images with one usable face": len(rendered) / (FACES * len(ids))}}
        if isinstance(people, FigurePeople):
            figures["People by attribute"] = _people_by_attribute(people)
        if real:
            figures["Classifier: accuracy, and 95 % interval over people"] = separations(real, rendered)
        if scorer:
            driven = driven_correlations(people, ids[:ACTORS], judge, scorer, SIZE)
            figures["Driven actions: correlation"] = {name: {people.name: value} for name, value in driven.items()}
    except ValueError as error:
        raise CallError(str(error)) from error
    write_report(out, {"rendered": [f.crop for f in rendered[::2]], "beside_real": _beside(rendered, real)}, figures)
    say("report {page}", page=out / "report.md")


def _people_by_attribute(people: FigurePeople) -> dict[str, dict[str, int]]:
    counts = count_attributes(people.attributes.values())
    return {f"{name}: {v}": {people.name: n} for name, values in counts.items() for v, n in values.items()}


def judged_people(source: JudgedName, assets: Path | None, count: int, seed: int) -> tuple[JudgedPeople, list[str]]:
    """Return the people that are judged, and their ids.

    Args:
        source: ``painted`` for the painted head, or the name of a source of people.
        assets: Kit of assets, or None.
        count: Number of people.
        seed: Seed of the people.
    """
    head = load_studio_head(cache_dir())
    if source == "painted":
        return PaintedPeople(head), [digest(["studio", seed, number]) for number in range(count)]
    people = open_people(source, cache_dir(), lambda _: head.model, assets)
    maps = find_environments(assets) if assets and (assets / "hdri").is_dir() else ()
    scenes = [random_scene(np.random.default_rng([32, number]), maps) for number in range(SCENES)]
    return FigurePeople(people, open_renderer("auto"), scenes, head), identity_ids(people, count, seed)


def rendered_faces(people: JudgedPeople, ids: list[str], judge: FaceJudge) -> Iterator[FaceSample]:
    """Yield the measured faces of rendered people, ``FACES`` images each."""
    with ProgressBar("rendering") as progress:
        for number, person in enumerate(ids, 1):
            g = np.random.default_rng([seed_of(person), 31])
            for image in people.images(person, [people.random_pose(g) for _ in range(FACES)], SIZE):
                if face := judge.measure(image, person):
                    yield face
            progress.update("people", number, len(ids))


def real_faces(folder: Path, judge: FaceJudge) -> Iterator[FaceSample]:
    """Yield measured faces of videos, ``FACES`` frames of each; each video is a person.

    A ``manifest.csv`` with the columns file, identities and kind changes that: people have its names, and videos that
    are not of kind ``real`` or show several people are left out.

    Raises:
        CallError: The folder has no videos.
    """
    videos = _videos(folder)
    decoder = ProcessDecoder()
    with ProgressBar("measuring") as progress, contextlib.closing(decoder):
        for number, (video, person) in enumerate(videos, 1):
            for frame in islice(decoder.frames(video, step=FRAME_STEP), FACES):
                if face := judge.measure(frame.rgb, person):
                    yield face
            progress.update("videos", number, len(videos))


def _videos(folder: Path) -> list[tuple[Path, str]]:
    manifest = folder / "manifest.csv"
    if manifest.is_file():
        with manifest.open(newline="") as stream:
            rows = [r for r in csv.DictReader(stream) if r["kind"] == "real" and r["identities"]]
        found = [(folder / r["file"], r["identities"]) for r in rows if ";" not in r["identities"]]
    else:
        found = [(path, path.stem) for path in sorted(folder.glob("*")) if path.suffix.lower() in SUFFIXES]
    if not found:
        raise CallError(f"{folder}: no videos in it; name a folder of {', '.join(SUFFIXES)} files with --clips")
    return found


def _by_measure(sets: Mapping[str, Sequence[FaceSample]], mesh: MeshDetector) -> dict[str, dict[str, float]]:
    """Return measure → name of the set → number; empty sets are left out."""
    measured = {name: measure_faces(faces, mesh) for name, faces in sets.items() if faces}
    return {m: {name: row[m] for name, row in measured.items()} for m in next(iter(measured.values()), {})}


def _beside(rendered: Sequence[FaceSample], real: Sequence[FaceSample]) -> list[Image]:
    """Return ten crops of rendered people, then ten of real ones; none without real ones."""
    first = [list({f.person: f.crop for f in faces}.values())[:10] for faces in (rendered, real)]
    return first[0] + first[1] if real else []
