"""``ffavatar demo``: the whole loop, thin and real, on embedded defaults."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.console import CallError, out, say, table
from infra.settings import Settings, load_settings, quiet_services

CAPTURES = {"identities": 6, "cameras": 5, "moments": 2, "size": 160}
"""What the studio renders for the multiview stage: 60 calibrated views."""
SOURCES = 4
"""Photos that the avatar is made from."""

QUESTIONS = (
    (
        "What became of the videos?",
        "SELECT stage, reason, items, round(share, 2) AS share FROM funnel ORDER BY stage, items DESC",
    ),
    (
        "Who is in the corpus?",
        "SELECT left(identity_id, 8) AS person, n_videos, n_tracks, n_faces, round(cohesion, 2) AS cohesion, split "
        "FROM identities ORDER BY n_faces DESC, identity_id LIMIT 8",
    ),
    (
        "Who turns the head most?",
        "SELECT left(identity_id, 8) AS person, round(max(yaw_deg) - min(yaw_deg)) AS yaw_range "
        "FROM faces JOIN assignments USING (track_id) WHERE status = 'ok' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 3",
    ),
)


def demo(folder: Path, videos: Path | None, seconds: float) -> None:
    """Videos → corpus → SQL → pretrain → multiview → personalize → avatar → video → report, all below ``folder``."""
    if videos is not None and not videos.is_dir():
        raise CallError(f"--videos {videos}: no such folder; name a folder of videos, or leave it out for samples")
    began = time.monotonic()
    folder = folder.resolve()
    settings = load_settings(folder / "runs")
    quiet_services(settings)
    times: list[tuple[str, float]] = []
    with _services(settings, times):
        page = _loop(folder, settings, videos, seconds, times)
    table("time", ("part", "seconds"), [(name, round(spent)) for name, spent in times])
    say(f"the whole loop took {(time.monotonic() - began) / 60:.1f} minutes")
    _where(folder, settings, page)


def _loop(
    folder: Path, settings: Settings, videos: Path | None, seconds: float, times: list[tuple[str, float]]
) -> Path:
    from flows.avatars import animate_video, export_ply, reconstruct_photos
    from flows.demo_cast import choose_cast, write_photos, write_strip
    from flows.heads import head_file
    from flows.mine import mine
    from flows.report import report
    from flows.sql import sql
    from flows.studio import render_captures
    from flows.train import show, train

    corpus, captures, home = (folder / "corpus").as_uri(), (folder / "captures").as_uri(), str(settings.home)
    with _part("head model", times):
        head_file(None)
    if videos is None:
        from pipelines.samples.make import make_samples

        videos = folder / "samples"
        with _part("sample clips", times):
            clips = make_samples(videos, quick=True)
            say(
                "  {n} clips of photographs that move, and of rendered heads that talk, in {where}",
                n=len(clips),
                where=videos,
            )
    with _part("mining", times):
        mine(source=str(videos), corpus=corpus, home=home)
    for question, query in QUESTIONS:
        say(f'[bold]{question}[/bold]  ffavatar sql "…"')
        sql(corpus, query, None, "table")
    with _part("captures", times):
        render_captures(out=captures, home=home, seed=0, **CAPTURES)
    cast = choose_cast(corpus, videos)
    person = cast.identity
    init, ended = "", {}
    for stage, where in (("pretrain", corpus), ("multiview", captures), ("personalize", corpus)):
        with _part(stage, times):
            ended = train(
                stage=stage, corpus=where, init=init, identity=person if stage == "personalize" else "", home=home,
                out=str(folder / "checkpoints" / stage), overrides=[f"max_seconds={seconds}", "steps=100000"],
            )  # fmt: skip
            show(stage, ended)
            init = ended["checkpoint"]
    with _part("avatar and video", times):
        photos = write_photos(corpus, person, folder / "photos", SOURCES)
        avatar = reconstruct_photos(photos, Path(init), folder / "avatar.safetensors")
        export_ply(avatar, folder / "avatar.ply")
        animate_video(avatar, cast.driver, folder / "avatar.mp4")
        write_strip(photos, folder / "avatar.mp4", folder / "strip.png")
    with _part("report", times):
        page = report(corpus, None, folder / "report")
    return page


@contextmanager
def _services(settings: Settings, times: list[tuple[str, float]]) -> Iterator[None]:
    """Ray and Prefect's server, once for the whole demo."""
    from prefect import flow

    from infra.ray_session import ray_session

    @flow(name="demo")
    def whole() -> None:
        """The first flow of a process starts Prefect's embedded server."""

    began = time.monotonic()
    with ray_session(settings):
        whole()
        times.append(("starting Ray and Prefect", time.monotonic() - began))
        yield


@contextmanager
def _part(name: str, times: list[tuple[str, float]]) -> Iterator[None]:
    """Announce a part of the demo and note how long it took."""
    out.rule(f"[bold]{name}", align="left")
    began = time.monotonic()
    yield
    times.append((name, time.monotonic() - began))


def _where(folder: Path, settings: Settings, page: Path) -> None:
    """Where everything is, and the command that shows it."""
    out.rule("[bold]what there is now, and how to look at it", align="left")
    corpus, avatar = folder / "corpus", folder / "avatar.safetensors"
    for what, command in {
        "corpus": f"ffavatar sql --corpus '{corpus}' 'SELECT * FROM identities'",
        "report": f"xdg-open '{page}'",
        "runs": f"mlflow ui --backend-store-uri '{settings.tracking_uri}'",
        "checkpoints": f"ls '{folder / 'checkpoints'}'",
        "avatar": f"ffavatar animate '{avatar}' --driver VIDEO -o OUT.mp4",
        "viewer file": f"ls '{folder / 'avatar.ply'}'",
        "video": f"xdg-open '{folder / 'avatar.mp4'}'",
        "strip": f"xdg-open '{folder / 'strip.png'}'",
    }.items():
        out.print(f"{what:12} {command}", markup=False)
    say(
        "The avatar is blurred: it comes from a few minutes of training, from random weights, on a few people. "
        "The stages are those of long runs on large corpora; only the numbers are small."
    )
