"""Command ``ffavatar view``: serve the exported page on 127.0.0.1, and send it a driver's parameters as they come."""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import cv2
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from ffavatar_model.animation.animator import Animator
from ffavatar_model.animation.smoothing import OneEuro
from ffavatar_model.viewer import avatar_page, page_policy
from ffavatar_model.viewer.packing import track_frame
from flows.avatar.animate import DriverFrame, open_animator, track_driver
from flows.avatar.drivers import CameraDriver, Driver, open_driver
from flows.avatar.export import pack_avatar_file
from flows.avatar.photos import FaceAligner
from infra.console import out, say
from infra.local_app import LocalApp, LocalServer, iterate_in_thread, opened_in_browser

STREAM = "driver"
"""Path of the driver's events, relative to the page."""
THUMBNAIL_PX = 128
"""Pixels per side of the driver's image on the page."""
MAX_LIVE_FRAMES = 2
"""Number of a camera's newest frames that are kept for a page that reads slowly."""

log = logging.getLogger(__name__)


def view_command(
    avatar: Path, driver: str | None, smooth: bool, checkpoint: Path | None, pack: str | None, port: int
) -> None:
    """Run ``ffavatar view``: serve the page until the command is interrupted.

    Args:
        avatar: The avatar's file.
        driver: A video file, a camera's index, or ``-`` for standard input, as in ``animate_video``; None for a page
            without a driver.
        smooth: True to smooth the driving parameters.
        checkpoint: Checkpoint of the model; by default the one that made the avatar.
        pack: Face pack of the detector.
        port: Port on 127.0.0.1; 0 for a free one.

    Raises:
        CallError: The avatar or the driver cannot be opened; this is raised before the page is served.
    """
    feed = open_feed(avatar, driver, smooth, checkpoint, pack) if driver is not None else None
    page = avatar_page(pack_avatar_file(avatar), avatar.stem, STREAM if feed else None)
    with LocalServer(view_app(page, feed), port) as server:
        say("{avatar}: open {url} in a browser of this machine, end with Ctrl-C", avatar=avatar, url=server.url)
        with opened_in_browser(server.url) if out.is_terminal else nullcontext():
            server.serve()
    if feed is not None:
        feed.close()


def open_feed(avatar: Path, driver: str, smooth: bool, checkpoint: Path | None, pack: str | None) -> DriverFeed:
    """Open a driver and start to estimate its driving parameters, for ``view_app``.

    Args:
        avatar: The avatar's file.
        driver: A video file, a camera's index, or ``-`` for standard input, as in ``animate_video``.
        smooth: True to smooth the driving parameters.
        checkpoint: Checkpoint of the model; by default the one that made the avatar.
        pack: Face pack of the detector.

    Returns:
        The running feed; the caller closes it.
    """
    animator = open_animator(avatar, checkpoint, OneEuro.Config() if smooth else None)
    return DriverFeed(animator, FaceAligner(pack), open_driver(driver))


class DriverFeed:
    """Driving parameters as server-sent events, estimated in a thread of its own.

    A page receives the events of a file or a pipe from the first frame on, those of a camera from the newest frame on.
    """

    def __init__(self, animator: Animator, aligner: FaceAligner, source: Driver) -> None:
        """Start the thread.

        Args:
            animator: Animator that estimates the parameters.
            aligner: Aligner that detects and aligns the face.
            source: The driver; ``close`` closes it.
        """
        self._source, self._is_live = source, isinstance(source, CameraDriver)
        self._events: list[str] = []
        self._dropped = 0
        self._end = ""
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(animator, aligner), name="driver", daemon=True)
        self._thread.start()

    def _run(self, animator: Animator, aligner: FaceAligner) -> None:
        end = "event: end\ndata: \n\n"
        try:
            for frame in track_driver(animator, aligner, self._source):
                event = f"data: {json.dumps(self._to_json(frame))}\n\n"
                with self._changed:
                    self._events.append(event)
                    if self._is_live and len(self._events) > MAX_LIVE_FRAMES:
                        self._dropped += 1
                        del self._events[0]
                    self._changed.notify_all()
        except Exception as error:  # the page shows every error
            log.exception("the driver %s", self._source.name)
            end = f"event: failed\ndata: {' '.join(str(error).split())}\n\n"
        finally:
            with self._changed:
                self._end = end
                self._changed.notify_all()

    def _to_json(self, frame: DriverFrame) -> dict[str, Any]:
        thumbnail = cv2.resize(frame.image, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
        _, jpeg = cv2.imencode(".jpg", thumbnail[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
        image = "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()
        time_s, values = round(frame.time_s, 4), track_frame(frame.parameters)
        return {"values": values, "time_s": time_s, "picture": image, "live": self._is_live}

    def events(self) -> Iterator[str]:
        """Yield one server-sent event per frame, and at last an event for the end or the error."""
        position = 0
        while True:
            with self._changed:
                while position >= self._dropped + len(self._events) and not self._end:
                    self._changed.wait()
                position = max(position, self._dropped)
                new, ended = self._events[position - self._dropped :], self._end
            yield from new
            position += len(new)
            if ended:
                yield ended
                return

    def close(self) -> None:
        """Close the driver, which ends the events."""
        self._source.close()


def view_app(page: str, feed: DriverFeed | None = None) -> LocalApp:
    """Return the viewer as an application, with the page at ``/`` and the driver's events at ``/driver``.

    Args:
        page: HTML of the page.
        feed: Events of a driver; None for a page without a driver.
    """

    def show_page(request: Request) -> Response:
        return HTMLResponse(page)

    def stream_driver(request: Request) -> Response:
        if feed is None:
            raise HTTPException(404, "no driver")
        return StreamingResponse(iterate_in_thread(feed.events()), headers={"Content-Type": "text/event-stream"})

    return LocalApp(
        routes=[Route("/", show_page), Route(f"/{STREAM}", stream_driver)],
        headers={
            "Content-Security-Policy": page_policy(feed is not None, as_header=True),
            "Cross-Origin-Opener-Policy": "same-origin",
        },
        wrong_host_status=403,
    )
