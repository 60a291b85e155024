"""The viewer's page as one file: HTML, style, shaders, scripts and the avatar, without links to other files."""

from __future__ import annotations

import base64
import html
from importlib import resources

SCRIPTS = ("maths.js", "data.js", "rig.js", "sort.js", "renderer.js", "acting.js", "controls.js", "main.js")
"""Files of the page's script, in the order in which they are concatenated."""
SHADERS = ("shape.frag", "subdivide.frag", "pose.frag", "splat.vert", "splat.frag", "compose.frag", "square.vert")
"""Files of the page's shaders."""
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
"""Content Security Policy of the page: the browser loads nothing from outside the page."""


def avatar_page(packed: bytes, title: str, stream: str | None = None) -> str:
    """Build a page that shows and animates an avatar.

    Args:
        packed: Result of ``pack_avatar``.
        title: Title on the page.
        stream: Path on the page's own server that sends a driver's frames as server-sent events; the page may connect
            to that server only. None for a page that makes no connection.

    Returns:
        The page's HTML.
    """
    policy = page_policy(stream is not None)
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
    texts = [head]
    for part in rest:  # one pass, so that inserted text is not searched for names
        name, _, after = part.partition("}}")
        texts += [parts[name], after]
    return "".join(texts)


def page_policy(streams: bool, as_header: bool = False) -> str:
    """Return the page's Content Security Policy.

    Args:
        streams: True if the page may connect to its own server, for a driver's frames.
        as_header: True for the value of an HTTP header, which can also forbid that other pages frame this one.
    """
    policy = f"{POLICY}; connect-src 'self'" if streams else POLICY
    return f"{policy}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" if as_header else policy


def _read(name: str) -> str:
    return (resources.files("ffavatar_model.viewer") / "web" / name).read_text(encoding="utf-8")
