"""``python -m flows.experiments.clip_images CLIP… -o FOLDER``: pictures of whoever each clip shows, a file a clip.

``flows.experiments.personal`` reads them where no video and no face can be read. They show people: nothing of them is
published.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image

from ffavatar_model.camera import virtual_intrinsics
from ffavatar_model.data.dataset import Face

TAKEN = 24
"""Pictures taken of a clip, at even distances."""
QUALITY = 95
"""Of the pictures in a file (WebP); mattes are kept as they are."""


class TooFewError(ValueError):
    """A clip shows its face too rarely."""


def pictures_of(clip: Path, size: int) -> list[Face]:
    """Up to ``TAKEN`` pictures of the clip's largest face, in time; of a file that ``keep`` wrote, those in it.

    Raises:
        TooFewError: fewer than half of the frames looked at show it.
    """
    return kept(clip) if clip.suffix == ".npz" else _found(clip, size)


def _found(clip: Path, size: int) -> list[Face]:
    from flows.avatar.photos import FaceAligner, follow
    from flows.avatar.reconstruct import face_of
    from pipelines.faces.analysis import Detection
    from pipelines.media.decoder import ProcessDecoder

    decoder, maker = ProcessDecoder(), FaceAligner()
    try:
        frames = [frame.rgb for frame in decoder.frames(clip)]
    finally:
        decoder.close()
    face: Detection | None = None
    found: list[Face] = []
    for index in np.linspace(0, len(frames) - 1, TAKEN).round().astype(int):
        seen = follow(maker.find(frames[index]), face)
        if seen is not None:
            face = seen
            found.append(replace(face_of(maker.take(frames[index], face), size, f"frame {index}"), moment=int(index)))
    if len(found) < TAKEN // 2:
        raise TooFewError(f"{len(found)} of {TAKEN} frames show a face")
    return found


def keep(pictures: Sequence[Face], path: Path) -> None:
    """Write N square pictures of one size: one tall WebP of them all with mattes as its alpha, and their landmarks."""
    encoded = io.BytesIO()
    rgba = torch.cat([face.pixels for face in pictures], 1).permute(1, 2, 0).numpy()
    Image.fromarray(rgba, "RGBA").save(encoded, "WEBP", quality=QUALITY, method=6)
    points = [face.landmarks for face in pictures if face.landmarks is not None]
    np.savez(
        path,
        rgba=np.frombuffer(encoded.getvalue(), np.uint8),
        landmarks=torch.stack(points).numpy(),
        moment=np.array([face.moment for face in pictures]),
    )


def kept(path: Path) -> list[Face]:
    """What ``keep`` wrote."""
    with np.load(path) as file:
        rgba = np.array(Image.open(io.BytesIO(file["rgba"].tobytes())).convert("RGBA"))
        landmarks, moments = torch.from_numpy(file["landmarks"]), file["moment"].tolist()
    size = rgba.shape[1]
    tall = torch.from_numpy(rgba).permute(2, 0, 1)
    return [
        Face(
            id=f"frame {moment}",
            pixels=picture,
            landmarks=points,
            K=virtual_intrinsics(size),
            head_to_camera=None,
            moment=moment,
        )
        for picture, points, moment in zip(tall.split(size, 1), landmarks, moments, strict=True)
    ]


@click.command(context_settings={"show_default": True})
@click.argument("clips", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--size", default=256, help="Pixels along an edge: the model's.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path))
def main(clips: Sequence[Path], size: int, out: Path) -> None:
    """Take pictures of each of CLIPS into OUT, numbered in the clips' order; one that shows too little is left out."""
    out.mkdir(parents=True, exist_ok=True)
    for number, clip in enumerate(clips):
        try:
            pictures = pictures_of(clip, size)
        except TooFewError as error:
            click.echo(f"clip {number}: {error}")
            continue
        keep(pictures, out / f"{number:03}.npz")
        click.echo(f"clip {number}: {len(pictures)} pictures")


if __name__ == "__main__":
    main()
