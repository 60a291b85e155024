"""Commands for users of avatars: reconstruct an avatar from photos, animate it, export it and view it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from flows.cli.options import PACK, PERSONALIZE_STEPS


@click.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE[:N]...")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Default the small model that comes with the code.")
@click.option(
    "--personalize",
    metavar="N",
    default=PERSONALIZE_STEPS,
    show_default=True,
    type=click.IntRange(0),
    help="First fit the person's own Gaussians to the photos, in N steps (500 are the paper's).",
)
@click.option("--fast", is_flag=True, help="Leave that out: seconds instead of minutes, and less like the person.")
@click.option("--face", type=click.IntRange(1), help="Which face of a photo with several, from the left; also IMAGE:N.")
@click.option("--force", is_flag=True, help="Also of photos that seem to show different people.")
@PACK
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The avatar file, .safetensors.")
def reconstruct(
    images: Sequence[str],
    checkpoint: Path | None,
    personalize: int,
    fast: bool,
    face: int | None,
    force: bool,
    pack: str | None,
    out: Path,
) -> None:
    """Reconstruct an avatar from IMAGES of one person; IMAGE:2 is the second face from the left."""
    from flows.avatar.reconstruct import reconstruct_command

    reconstruct_command(images, checkpoint, 0 if fast else personalize, face, pack, force, out)


@click.command()
@click.argument("avatar", type=click.Path(path_type=Path))
@click.option(
    "--driver",
    required=True,
    metavar="VIDEO|INDEX|-",
    help="A video of a face, a camera's index, or - for raw frames on standard input (y4m).",
)
@click.option("--driver-face", "face", type=click.IntRange(1), help="Who drives, from the left; default the largest.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Estimator; default the avatar's own checkpoint.")
@click.option("--smooth", is_flag=True, help="Smooth the estimator's parameters (a one-euro filter).")
@PACK
@click.option(
    "-o", "--out", required=True, metavar="FILE|-", help="An mp4, webm or gif, driver | avatar; - is raw frames."
)
def animate(
    avatar: Path, driver: str, face: int | None, checkpoint: Path | None, smooth: bool, pack: str | None, out: str
) -> None:
    """Drive AVATAR by a face, frame by frame."""
    from flows.avatar.animate import animate_command

    animate_command(avatar, driver, face, checkpoint, pack, smooth, out)


@click.command()
@click.argument("avatar", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="A .ply file; with --driver a folder of them.")
@click.option(
    "--html", "page", type=click.Path(path_type=Path), help="One page that animates the avatar in any browser."
)
@click.option("--driver", metavar="VIDEO", help="Write the avatar as this video drives it.")
@click.option("--y-up", is_flag=True, help="Write .ply files with y up; most viewers expect y down (docs/avatars.md).")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Estimator; default the avatar's own checkpoint.")
@PACK
def export(
    avatar: Path,
    out: Path | None,
    page: Path | None,
    driver: str | None,
    y_up: bool,
    checkpoint: Path | None,
    pack: str | None,
) -> None:
    """Write AVATAR for 3D Gaussian viewers, at rest or one file a frame, or as a page that animates it."""
    from flows.avatar.export import export_command

    export_command(avatar, out, page, driver, checkpoint, pack, y_up)


@click.command()
@click.argument("avatar", type=click.Path(path_type=Path))
@click.option("--driver", metavar="VIDEO|INDEX|-", help="A face that drives it, as for animate.")
@click.option("--smooth", is_flag=True, help="Smooth the estimator's parameters (a one-euro filter).")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Estimator; default the avatar's own checkpoint.")
@PACK
@click.option("--port", default=0, show_default=True, type=click.IntRange(0, 65535), help="0: any that is free.")
def view(avatar: Path, driver: str | None, smooth: bool, checkpoint: Path | None, pack: str | None, port: int) -> None:
    """Show AVATAR in a browser: a page on 127.0.0.1 with sliders and, if given, a driver."""
    from flows.avatar.view import view_command

    view_command(avatar, driver, smooth, checkpoint, pack, port)


COMMANDS = (reconstruct, animate, export, view)
"""Commands that ``flows.cli`` adds to the group."""
