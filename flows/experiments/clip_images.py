"""Images of the person in each clip, a file a clip: ``python -m flows.experiments.clip_images CLIP… -o FOLDER``.

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
from ffavatar_model.data.dataset import LoadedImage

N_IMAGES = 24
"""Images taken of a clip, at even distances."""
QUALITY = 95
"""WebP quality of the images in a file; mattes are stored without loss."""


class TooFewError(ValueError):
    """A clip shows its largest face too rarely."""


def read_clip(clip: Path, size: int) -> list[LoadedImage]:
    """Take up to ``N_IMAGES`` images of a clip's largest face, in the order of time.

    Args:
        clip: A video, or a file that ``save_images`` wrote, of which all images are returned.
        size: Pixels along the edge of an image.

    Raises:
        TooFewError: Fewer than half of the frames that were looked at show the face.
    """
    return load_images(clip) if clip.suffix == ".npz" else _find_images(clip, size)


def _find_images(clip: Path, size: int) -> list[LoadedImage]:
    from flows.avatar.photos import FaceAligner, follow_face
    from flows.avatar.reconstruct import to_loaded_image
    from pipelines.faces.analysis import Detection
    from pipelines.media.decoder import ProcessDecoder

    decoder, aligner = ProcessDecoder(), FaceAligner()
    try:
        frames = [frame.rgb for frame in decoder.frames(clip)]
    finally:
        decoder.close()
    last_face: Detection | None = None
    images: list[LoadedImage] = []
    for index in np.linspace(0, len(frames) - 1, N_IMAGES).round().astype(int):
        face = follow_face(aligner.detect_faces(frames[index]), last_face)
        if face is not None:
            last_face = face
            image = to_loaded_image(aligner.align(frames[index], face), size, f"frame {index}")
            images.append(replace(image, timestep=int(index)))
    if len(images) < N_IMAGES // 2:
        raise TooFewError(f"{len(images)} of {N_IMAGES} frames show a face")
    return images


def save_images(images: Sequence[LoadedImage], path: Path) -> None:
    """Write N square images of one size: one tall WebP of them all with mattes as its alpha, and their landmarks."""
    encoded = io.BytesIO()
    rgba = torch.cat([image.pixels for image in images], 1).permute(1, 2, 0).numpy()
    Image.fromarray(rgba, "RGBA").save(encoded, "WEBP", quality=QUALITY, method=6)
    points = [image.landmarks for image in images if image.landmarks is not None]
    np.savez(
        path,
        rgba=np.frombuffer(encoded.getvalue(), np.uint8),
        landmarks=torch.stack(points).numpy(),
        moment=np.array([image.timestep for image in images]),
    )


def load_images(path: Path) -> list[LoadedImage]:
    """Read the images of a file that ``save_images`` wrote."""
    with np.load(path) as file:
        rgba = np.array(Image.open(io.BytesIO(file["rgba"].tobytes())).convert("RGBA"))
        landmarks, frames = torch.from_numpy(file["landmarks"]), file["moment"].tolist()
    size = rgba.shape[1]
    tall = torch.from_numpy(rgba).permute(2, 0, 1)
    return [
        LoadedImage(
            id=f"frame {frame}",
            pixels=pixels,
            landmarks=points,
            K=virtual_intrinsics(size),
            head_to_camera=None,
            timestep=frame,
        )
        for pixels, points, frame in zip(tall.split(size, 1), landmarks, frames, strict=True)
    ]


@click.command(context_settings={"show_default": True})
@click.argument("clips", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--size", default=256, help="Pixels along an edge: the model's.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path))
def main(clips: Sequence[Path], size: int, out: Path) -> None:
    """Take images of each of CLIPS into OUT, numbered in the clips' order; one that shows too little is left out."""
    out.mkdir(parents=True, exist_ok=True)
    for number, clip in enumerate(clips):
        try:
            images = read_clip(clip, size)
        except TooFewError as error:
            click.echo(f"clip {number}: {error}")
            continue
        save_images(images, out / f"{number:03}.npz")
        click.echo(f"clip {number}: {len(images)} images")


if __name__ == "__main__":
    main()
