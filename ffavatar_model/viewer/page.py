"""The page as one file: HTML, style, shaders, scripts and the avatar, with no address in it."""

from __future__ import annotations

import base64
import html
from importlib import resources

SCRIPTS = ("maths.js", "data.js", "rig.js", "sort.js", "renderer.js", "acting.js", "controls.js", "main.js")
"""In this order, as one script."""
SHADERS = ("shape.frag", "subdivide.frag", "pose.frag", "splat.vert", "splat.frag", "compose.frag", "square.vert")
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
"""Content Security Policy: the browser itself refuses whatever is not in the page."""


def avatar_page(packed: bytes, title: str, stream: str | None = None) -> str:
    """A page that shows and moves an avatar.

    Args:
        packed: what ``pack_avatar`` gives.
        title: shown on the page.
        stream: path of server-sent events with a driver's frames, for a page that is served; it may connect
            there and nowhere else. None: a file that connects to nothing.
    """
    policy = POLICY if stream is None else f"{POLICY}; connect-src 'self'"
    shaders = "\n".join(f'<script type="x-shader" id="{name}">{_read(name)}</script>' for name in SHADERS)
    parts = {
        "POLICY": html.escape(policy, quote=True),
        "TITLE": html.escape(title),
        "STREAM": html.escape(stream or "", quote=True),
        "STYLE": _read("page.css"),
        "SHADERS": shaders,
        "AVATAR": base64.b64encode(packed).decode("ascii"),
        "SCRIPT": '(() => {\n"use strict";\n' + "\n".join(_read(name) for name in SCRIPTS) + "\n})();",
    }
    head, *rest = _read("page.html").split("{{")
    pieces = [head]
    for part in rest:  # one pass: what is put in is never looked at again
        name, _, after = part.partition("}}")
        pieces += [parts[name], after]
    return "".join(pieces)


def _read(name: str) -> str:
    return (resources.files("ffavatar_model.viewer") / "web" / name).read_text(encoding="utf-8")
