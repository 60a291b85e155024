"""``ffavatar demo``: the whole loop, thin and real, on embedded defaults."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infra.console import SOME_FAILED, CallError, out, say, table
from infra.peak_memory import PeakMemory
from infra.settings import Settings, load_settings
from mfhq.ids import digest
from pipelines.mining.source_listing import list_sources

if TYPE_CHECKING:
    from flows.curriculum import Curriculum

CAPTURES = {"identities": 6, "cameras": 5, "moments": 2, "size": 160}
"""What the studio renders for the multiview stage: 60 calibrated views."""
SOURCES = 4
"""Photos that the avatar is made from."""
LONG = ["steps=100000"]
"""The stages end by the clock."""
NO_GATE = -100.0
"""dB: a minute of training on a handful of people need not help those held out."""
STEPS_A_SECOND = 0.8
"""Personalization steps of the avatar for each second that a stage trains: 60 by default. Four photos that are much
alike are learned by heart after that: at 150 cheeks and eyes tear where the head turns away from them."""

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


@dataclass(frozen=True)
class _Places:
    """Where the demo keeps what. Clips of the user's own have a corpus of their own, one for each folder of clips."""

    folder: Path
    videos: Path
    corpus: str
    captures: str
    home: str


def demo(folder: Path, videos: Path | None, seconds: float) -> int:
    """Videos → corpus → SQL → pretrain, multiview, personalize → avatar → video → report, all below ``folder``.

    Returns the exit status: 1 when videos failed.
    """
    folder = folder.resolve()
    own = videos.resolve() if videos is not None else None
    if own is not None:
        if not own.is_dir():
            raise CallError(f"--videos {videos}: no such folder; name a folder of videos, or leave it out for samples")
        list_sources(own)
    name = "corpus" if own is None else f"corpus-{own.name}-{digest(str(own), 6)}"
    settings = load_settings(folder / "runs")
    places = _Places(
        folder, own or folder / "samples", (folder / name).as_uri(), (folder / "captures").as_uri(), str(settings.home)
    )
    began = time.monotonic()
    times: list[tuple[str, float, float | None]] = []
    with PeakMemory() as memory, _services(settings, times):
        failed = _loop(places, own is None, seconds, times)
    rows = [(part, round(spent), None if share is None else f"{share:.0%}") for part, spent, share in times]
    table("time", ("part", "seconds", "in training steps"), rows)
    spent = (time.monotonic() - began) / 60
    say(f"the whole loop took {spent:.1f} minutes and at most {memory.gib:.1f} GiB of memory, all processes together")
    _where(places, settings)
    return SOME_FAILED if failed else 0


def _loop(places: _Places, samples: bool, seconds: float, times: list[tuple[str, float, float | None]]) -> int:
    """Every part in turn; returns how many videos failed."""
    from ffavatar_model.pretrained import STUDIO
    from flows.avatar.animate import animate_video
    from flows.avatar.export import export_ply
    from flows.avatar.heads import head_file
    from flows.avatar.reconstruct import reconstruct_photos
    from flows.captures import render_captures
    from flows.cli.demo_cast import choose_cast, write_photos, write_strip
    from flows.corpus.report import report
    from flows.corpus.sql import sql
    from flows.curriculum import curriculum
    from flows.mine import mine
    from pipelines.samples.make import make_samples

    folder, corpus = places.folder, places.corpus
    with _part("head model", times):
        head_file(None)
    if samples:
        with _part("sample clips", times):
            n = len(make_samples(places.videos, quick=True))
            say("  {n} clips: photographs that move, rendered heads that talk, in {where}", n=n, where=places.videos)
    with _part("mining", times):
        mined = mine(source=str(places.videos), corpus=corpus, home=places.home)
    for question, query in QUESTIONS:
        out.print(f"{question}  ffavatar sql --corpus '{corpus}' \"{query}\"", markup=False)
        sql(corpus, query, None, "table")
    cast = choose_cast(corpus, places.videos)
    with _part("captures", times):
        render_captures(out=places.captures, home=places.home, seed=0, **CAPTURES)
    with _part("curriculum", times) as steps:
        ended = curriculum(asdict(demo_curriculum(folder, corpus, places.home, cast.identity, seconds)))
        steps += [stage["metrics"]["seconds/step"] for stage in ended.values()]
    with _part("avatar", times):
        photos = write_photos(corpus, cast.identity, folder / "photos", SOURCES)
        n = max(1, round(STEPS_A_SECOND * seconds))
        avatar = reconstruct_photos(photos, STUDIO, folder / "avatar.safetensors", steps=n)
        export_ply(avatar, folder / "avatar.ply")
    with _part("video", times):
        animate_video(avatar, cast.driver, folder / "avatar.mp4")
        write_strip(photos, folder / "avatar.mp4", folder / "strip.png")
    with _part("report", times):
        report(corpus, None, folder / "report")
    for item, reason in mined["failures"].items():
        say("failed: {item}: {reason}", item=item, reason=reason)
    return len(mined["failures"])


def demo_curriculum(folder: Path, corpus: str, home: str, identity: str, seconds: float) -> Curriculum:
    """The three stages as the demo in ``folder`` runs them, each for ``seconds``."""
    from ffavatar_model.training import RECIPES
    from flows.curriculum import Curriculum

    return Curriculum(
        corpus=corpus,
        captures=(folder / "captures").as_uri(),
        identity=identity,
        out=str(folder / "checkpoints"),
        home=home,
        gain=NO_GATE,
        overrides={stage: [*LONG, f"max_seconds={seconds}"] for stage in RECIPES},
    )


@contextmanager
def _services(settings: Settings, times: list[tuple[str, float, float | None]]) -> Iterator[None]:
    """Ray and Prefect's server, once for the whole demo."""
    from prefect import flow

    from infra.ray_session import ray_session

    @flow(name="demo")
    def whole() -> None:
        """The first flow of a process starts Prefect's embedded server."""

    began = time.monotonic()
    with ray_session(settings):
        whole()
        times.append(("starting Ray and Prefect", time.monotonic() - began, None))
        yield


@contextmanager
def _part(name: str, times: list[tuple[str, float, float | None]]) -> Iterator[list[float]]:
    """Announce a part and note how long it took; of what the body appends, the share of that time is shown."""
    out.rule(f"[bold]{name}", align="left")
    began = time.monotonic()
    inside: list[float] = []
    yield inside
    spent = time.monotonic() - began
    times.append((name, spent, sum(inside) / spent if inside else None))


def _where(places: _Places, settings: Settings) -> None:
    """Where everything is, and the command that shows it."""
    out.rule("[bold]what there is now, and how to look at it", align="left")
    folder = places.folder
    for what, command in {
        "corpus": f"ffavatar sql --corpus '{places.corpus}' 'SELECT * FROM identities'",
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
        "and from steps on the person's photos. The three stages are those of long runs on large corpora; only the "
        "numbers are small."
    )
