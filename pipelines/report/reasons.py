"""What each machine-readable reason code means, in words."""

from __future__ import annotations

MEANINGS: dict[str, str] = {
    "ok": "used by the corpus",
    # files
    "empty_file": "the file has no bytes",
    "not_a_video": "no container that the decoder knows",
    "no_index": "an mp4 or mov without its index: cut off while it was written or copied",
    "no_video_stream": "the container holds sound or subtitles only",
}


def meaning_of(code: str) -> str:
    """The meaning of a reason code; a code that is not in the table is read as words."""
    return MEANINGS.get(code) or code.replace("_", " ")
