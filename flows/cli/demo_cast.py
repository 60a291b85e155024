"""Who plays in the demo: whose avatar is made, which clip drives it, and the picture of the two."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flows.avatar.photos import FaceAligner
from infra.console import CallError
from infra.storage import open_store
from mfhq.catalog import Catalog, Snapshot, read_blob
from pipelines.media.decoder import ProcessDecoder
from pipelines.media.image_codec import decode_picture, encode_png
from pipelines.samples.make import read_truth

STRIP_FRAMES, STRIP_PX = 3, 256


@dataclass(frozen=True)
class Cast:
    """Who plays."""

    identity: str
    """The person whose avatar is made."""
    driver: Path
    """A clip of somebody else."""


def choose_cast(corpus: str, videos: Path) -> Cast:
    """Among sample clips the person of the public-domain photograph, driven by a rendered head; otherwise whoever has
    the most pictures, of those seen in two videos if there are any, driven by the clip that moves most.

    Raises:
        CallError: nobody has two usable faces, or no clip shows one face alone.
    """
    snapshot = Catalog(open_store(corpus)).open()
    truth = read_truth(videos)
    star = next((videos / clip.file for clip in truth if clip.licence.startswith("public domain")), None)
    driver = next((videos / clip.file for clip in truth if clip.kind == "rendered"), None)
    identity = _most_pictures(snapshot, star)
    return Cast(identity, driver or _moves_most(snapshot, identity))


def _most_pictures(snapshot: Snapshot, video: Path | None) -> str:
    seen = "SELECT identity_id FROM assignments JOIN tracks USING (track_id) JOIN videos USING (video_id)"
    only = f"AND identity_id IN ({seen} WHERE uri = '{_sql(video)}')" if video else ""
    people = snapshot.query(
        f"SELECT identity_id FROM identities WHERE n_faces >= 2 {only} "
        "ORDER BY n_videos > 1 DESC, n_faces DESC, identity_id LIMIT 1"
    )
    if not len(people):
        raise CallError("nobody has two usable faces in these videos; add clips that show a face for a second or more")
    return str(people["identity_id"][0].as_py())


def _moves_most(snapshot: Snapshot, identity: str) -> Path:
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
    """The person's ``n`` best-ranked crops that show nobody else, as picture files."""
    store, maker = open_store(corpus), FaceAligner()
    rows = (
        Catalog(store)
        .open()
        .query(
            f"SELECT crop FROM identity_faces JOIN faces USING (face_id) WHERE identity_id = '{identity}' ORDER BY rank"
        )
    )
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for crop in rows["crop"].to_pylist():
        picture = decode_picture(read_blob(store, crop))
        if len(paths) < n and len(maker.find(picture)) == 1:
            paths.append(folder / f"{len(paths)}.png")
            paths[-1].write_bytes(encode_png(picture))
    if not paths:
        raise CallError(f"identity {identity}: no crop shows that person alone; choose other clips")
    return paths


def write_strip(photos: list[Path], video: Path, out: Path) -> None:
    """One picture: a source photo, then frames of the video (driver over avatar)."""
    import cv2

    decoder = ProcessDecoder()
    try:
        frames = [frame.rgb for frame in decoder.frames(video)]
    finally:
        decoder.close()
    at = np.linspace(0, len(frames) - 1, STRIP_FRAMES + 2).round().astype(int)[1:-1]
    source = np.asarray(cv2.resize(decode_picture(photos[0].read_bytes()), (STRIP_PX, STRIP_PX)), np.uint8)
    columns = [np.concatenate([source, np.full_like(source, 255)])]
    columns += [np.concatenate(np.split(frames[i], 2, axis=1)) for i in at]
    out.write_bytes(encode_png(np.concatenate(columns, 1)))


def _sql(path: Path | None) -> str:
    """A path inside a SQL string."""
    return str(path).replace("'", "''")
