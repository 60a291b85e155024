"""What is wrong with a NeRSemble folder or file."""

from __future__ import annotations


class NersembleError(ValueError):
    """Data that is not what the format says: one line that names the file, the value and what was expected."""
