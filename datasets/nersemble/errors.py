"""The error of NeRSemble folders and files."""

from __future__ import annotations


class NersembleError(ValueError):
    """Data that violates the format; the message is one line that names the file, the value and the expectation."""
