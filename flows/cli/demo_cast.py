"""Cast of the demo: the person whose avatar is made, the clip that drives it, and an image that shows both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flows.avatar.photos import FaceAligner
from infra.console import CallError
from infra.storage import open_store
from mfhq.catalog import Catalog, Snapshot, read_blob
from pipelines.media.decoder import ProcessDecoder
from pipelines.media.image_codec import decode_image, encode_png
from pipelines.samples.make import read_truth

STRIP_FRAMES, STRIP_PX = 3, 256
"""Number of video frames in the strip, and pixels per side of each."""


@dataclass(frozen=True)
class Cast:
    """Person and driver of the demo."""

    identity: str
    """Id of the person whose avatar is made."""
    driver: Path
    """Clip of another person, which drives the avatar."""


def choose_cast(corpus: str, videos: Path) -> Cast:
    """Choose the person whose avatar is made, and the clip that drives it.

    With the sample clips, the person is the one in the public-domain photograph, and the driver is a rendered head.
    With other clips, the person is the one with the most images (people who are in two videos come first), and the
    driver is the clip in which the head turns most.

    Args:
        corpus: URI of the mined corpus.
        videos: Folder of the clips.

    Raises:
        CallError: No person has two usable faces, or no clip shows a single face.
    """
    snapshot = Catalog(open_store(corpus)).open()
    truth = read_truth(videos)
    photographed = next((videos / clip.file for clip in truth if clip.licence.startswith("public domain")), None)
    driver = next((videos / clip.file for clip in truth if clip.kind == "rendered"), None)
    identity = _choose_person(snapshot, photographed)
    return Cast(identity, driver or _choose_driver(snapshot, identity))


def _choose_person(snapshot: Snapshot, video: Path | None) -> str:
    """Return the person with the most images; if ``video`` is given, only people in that video count."""
    in_videos = "SELECT identity_id FROM assignments JOIN tracks USING (track_id) JOIN videos USING (video_id)"
    only = f"AND identity_id IN ({in_videos} WHERE uri = '{_escape_sql(video)}')" if video else ""
    people = snapshot.query(
        f"SELECT identity_id FROM identities WHERE n_faces >= 2 {only} "
        "ORDER BY n_videos > 1 DESC, n_faces DESC, identity_id LIMIT 1"
    )
    if not len(people):
        raise CallError("nobody has two usable faces in these videos; add clips that show a face for a second or more")
    return str(people["identity_id"][0].as_py())


def _choose_driver(snapshot: Snapshot, identity: str) -> Path:
    """Return the single-face clip in which the head turns most; clips without ``identity`` come first."""
    rows = snapshot.query(
        "WITH one AS (SELECT video_id FROM tracks GROUP BY video_id HAVING count(*) = 1) "
        "SELECT v.uri FROM faces f JOIN assignments a USING (track_id) JOIN videos v USING (video_id) "
        "JOIN one USING (video_id) WHERE f.status = 'ok' AND v.reason = '' GROUP BY v.uri "
        f"ORDER BY bool_or(a.identity_id = '{identity}'), "
        "max(yaw_deg) - min(yaw_deg) + max(pitch_deg) - min(pitch_deg) DESC, v.uri LIMIT 1"
    )
    if not len(rows):
        raise CallError("no clip shows one face alone, so none can drive the avatar; add one to the folder")
    return Path(str(rows["uri"][0].as_py()))


def write_photos(corpus: str, identity: str, folder: Path, n: int) -> list[Path]:
    """Write a person's best-ranked crops that show a single face, as image files.

    Args:
        corpus: URI of the corpus.
        identity: Id of the person.
        folder: Folder of the files; created if missing.
        n: Number of crops, at most.

    Returns:
        Paths of the files, the best-ranked crop first.

    Raises:
        CallError: No crop shows a single face.
    """
    store, aligner = open_store(corpus), FaceAligner()
    query = f"SELECT crop FROM identity_faces JOIN faces USING (face_id) WHERE identity_id = '{identity}' ORDER BY rank"
    rows = Catalog(store).open().query(query)
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for crop in rows["crop"].to_pylist():
        if len(paths) == n:
            break
        path = folder / f"{len(paths)}.png"
        path.write_bytes(encode_png(decode_image(read_blob(store, crop))))
        try:
            aligner.align_photo(path)
        except CallError:  # several faces, or none that an avatar can be made of
            path.unlink()
        else:
            paths.append(path)
    if not paths:
        raise CallError(f"identity {identity}: no crop shows that person alone; choose other clips")
    return paths


def write_strip(photos: list[Path], video: Path, out: Path) -> None:
    """Write one image: a source photo, then frames of the video (the driver above the avatar).

    Args:
        photos: The source photos; the strip shows the first.
        video: Video of the driver (left half) and the avatar (right half).
        out: The PNG file to write.
    """
    import cv2

    decoder = ProcessDecoder()
    try:
        frames = [frame.rgb for frame in decoder.frames(video)]
    finally:
        decoder.close()
    indices = np.linspace(0, len(frames) - 1, STRIP_FRAMES + 2).round().astype(int)[1:-1]
    source = np.asarray(cv2.resize(decode_image(photos[0].read_bytes()), (STRIP_PX, STRIP_PX)), np.uint8)
    columns = [np.concatenate([source, np.full_like(source, 255)])]
    columns += [np.concatenate(np.split(frames[i], 2, axis=1)) for i in indices]
    out.write_bytes(encode_png(np.concatenate(columns, 1)))


def _escape_sql(path: Path | None) -> str:
    """Escape a path for use in a SQL string."""
    return str(path).replace("'", "''")
