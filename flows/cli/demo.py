"""Demo of the complete loop with the default weights: videos, corpus, three training stages, avatar, video, report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.console import SOME_FAILED, CallError, out, print_table, say
from infra.peak_memory import PeakMemory
from infra.settings import Settings, load_settings
from mfhq.ids import digest
from pipelines.mining.source_listing import list_sources

if TYPE_CHECKING:
    from flows.curriculum import Curriculum

CAPTURES: dict[str, Any] = {"identities": 6, "cameras": 5, "timesteps": 2, "size": 160}
"""Captures that the studio renders for the multiview stage: 60 calibrated views."""
N_PHOTOS = 4
"""Number of photos that the avatar is made from."""
ENDLESS = ["steps=100000"]
"""Settings of each stage: so many steps that its time limit ends it."""
NO_GATE = -100.0
"""Least gain of each stage, dB: so low that every stage passes.

A minute of training on a few people may not improve the images of held-out people."""
STEPS_A_SECOND = 0.8
"""Personalization steps of the avatar per second of a stage's training time: 60 steps by default.

More steps overfit to four similar photos: after 150 steps, cheeks and eyes tear when the head turns away from the
poses of the photos."""

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
"""Title and SQL query of each table that is printed after mining."""


@dataclass(frozen=True)
class _Timing:
    """Time that one part of the demo took."""

    part: str
    seconds: float
    share: float | None
    """Share of ``seconds`` that was spent in training steps; None for a part without training."""


@dataclass(frozen=True)
class _Paths:
    """Paths and URIs of the demo; each folder of the user's own clips gets its own corpus."""

    folder: Path
    videos: Path
    corpus: str
    captures: str
    home: str


def demo_command(folder: Path, videos: Path | None, seconds: float) -> int:
    """Run ``ffavatar demo``: videos → corpus → SQL → pretrain, multiview, personalize → avatar → video → report.

    Args:
        folder: Folder of all results.
        videos: Folder of the user's own videos; None for sample clips, which the demo makes.
        seconds: Training time of each stage, seconds.

    Returns:
        The exit status: 1 if videos failed, otherwise 0.

    Raises:
        CallError: The folder of videos does not exist, or the videos show no usable person.
    """
    folder = folder.resolve()
    own = videos.resolve() if videos is not None else None
    if own is not None:
        if not own.is_dir():
            raise CallError(f"--videos {videos}: no such folder; name a folder of videos, or leave it out for samples")
        list_sources(own)
    name = "corpus" if own is None else f"corpus-{own.name}-{digest(str(own), 6)}"
    settings = load_settings(folder / "runs")
    paths = _Paths(
        folder, own or folder / "samples", (folder / name).as_uri(), (folder / "captures").as_uri(), str(settings.home)
    )
    began = time.monotonic()
    times: list[_Timing] = []
    with PeakMemory() as memory, _services(settings, times):
        failed = _run_parts(paths, own is None, seconds, times)
    rows = [(t.part, round(t.seconds), None if t.share is None else f"{t.share:.0%}") for t in times]
    print_table("time", ("part", "seconds", "in training steps"), rows)
    minutes = (time.monotonic() - began) / 60
    say(f"the whole loop took {minutes:.1f} minutes and at most {memory.gib:.1f} GiB of memory, all processes together")
    _show_results(paths, settings)
    return SOME_FAILED if failed else 0


def _run_parts(paths: _Paths, samples: bool, seconds: float, times: list[_Timing]) -> int:
    """Run every part of the demo in turn, and return the number of videos that failed."""
    from ffavatar_model.pretrained import STUDIO
    from flows.avatar.animate import animate_video
    from flows.avatar.export import export_ply
    from flows.avatar.heads import prepare_head_file
    from flows.avatar.reconstruct import reconstruct_photos
    from flows.captures import render_capture_corpus
    from flows.cli.demo_cast import choose_cast, write_photos, write_strip
    from flows.corpus.report import report_command
    from flows.curriculum import curriculum
    from flows.mine import mine
    from flows.sql.sql_command import sql_command
    from flows.sql.sql_requests import SqlRequest
    from pipelines.samples.make import make_samples

    folder, corpus = paths.folder, paths.corpus
    with _part("head model", times):
        prepare_head_file(None)
    if samples:
        with _part("sample clips", times):
            n = len(make_samples(paths.videos, quick=True))
            say("  {n} clips: photographs that move, rendered heads that talk, in {where}", n=n, where=paths.videos)
    with _part("mining", times):
        mined = mine(source=str(paths.videos), corpus=corpus, home=paths.home)
    for question, query in QUESTIONS:
        out.print(f"{question}  ffavatar sql --corpus '{corpus}' \"{query}\"", markup=False)
        sql_command(SqlRequest(corpus, None), query)
    cast = choose_cast(corpus, paths.videos)
    with _part("captures", times):
        render_capture_corpus(out=paths.captures, home=paths.home, seed=0, **CAPTURES)
    with _part("curriculum", times) as steps:
        results = curriculum(demo_curriculum(folder, corpus, cast.identity, seconds), home=paths.home)
        steps += [result["metrics"]["seconds/step"] for result in results.values()]
    with _part("avatar", times):
        photos = write_photos(corpus, cast.identity, folder / "photos", N_PHOTOS)
        n = max(1, round(STEPS_A_SECOND * seconds))
        avatar = reconstruct_photos(photos, STUDIO, folder / "avatar.safetensors", steps=n, force=True)
        export_ply(avatar, folder / "avatar.ply")
    with _part("video", times):
        animate_video(avatar, cast.driver, folder / "avatar.mp4")
        write_strip(photos, folder / "avatar.mp4", folder / "strip.png")
    with _part("report", times):
        report_command(corpus, None, folder / "report")
    for item, reason in mined["failures"].items():
        say("failed: {item}: {reason}", item=item, reason=reason)
    return len(mined["failures"])


def demo_curriculum(folder: Path, corpus: str, identity: str, seconds: float) -> Curriculum:
    """Return the demo's configuration of the three stages.

    Args:
        folder: Folder of the demo.
        corpus: URI of the mined corpus.
        identity: Id of the person to personalize for.
        seconds: Training time of each stage, seconds.
    """
    from ffavatar_model.training import RECIPES
    from flows.curriculum import Curriculum

    return Curriculum(
        corpus=corpus,
        captures=(folder / "captures").as_uri(),
        identity=identity,
        out=str(folder / "checkpoints"),
        gain=NO_GATE,
        overrides={stage: [*ENDLESS, f"max_seconds={seconds}"] for stage in RECIPES},
    )


@contextmanager
def _services(settings: Settings, times: list[_Timing]) -> Iterator[None]:
    """Keep Ray and Prefect's server running for the complete demo."""
    from prefect import flow

    from infra.ray_session import ray_session

    @flow(name="demo")
    def start_server() -> None:
        """Do nothing: the first flow of a process starts Prefect's embedded server."""

    began = time.monotonic()
    with ray_session(settings):
        start_server()
        times.append(_Timing("starting Ray and Prefect", time.monotonic() - began, None))
        yield


@contextmanager
def _part(name: str, times: list[_Timing]) -> Iterator[list[float]]:
    """Print the name of a part and record its time; the block appends its seconds of training to the yielded list."""
    out.rule(f"[bold]{name}", align="left")
    began = time.monotonic()
    inside: list[float] = []
    yield inside
    spent = time.monotonic() - began
    times.append(_Timing(name, spent, sum(inside) / spent if inside else None))


def _show_results(paths: _Paths, settings: Settings) -> None:
    """Print the command that shows each result."""
    out.rule("[bold]the results, and how to look at them", align="left")
    folder = paths.folder
    for what, command in {
        "corpus": f"ffavatar sql --corpus '{paths.corpus}' 'SELECT * FROM identities'",
        "report": f"xdg-open '{folder / 'report' / 'report.html'}'",
        "runs": f"mlflow ui --backend-store-uri '{settings.tracking_uri}'",
        "checkpoints": f"ls '{folder / 'checkpoints'}'",
        "avatar": f"ffavatar animate '{folder / 'avatar.safetensors'}' --driver VIDEO -o OUT.mp4",
        "viewer file": f"ls '{folder / 'avatar.ply'}'",
        "video": f"xdg-open '{folder / 'avatar.mp4'}'",
        "strip": f"xdg-open '{folder / 'strip.png'}'",
    }.items():
        out.print(f"{what:12} {command}", markup=False)
    say(
        "The avatar comes from the small model that the project brings, trained for minutes on rendered people alone, "
        "and from steps on the person's photos. The three stages are those of long runs on large corpora, with fewer "
        "people and steps."
    )
