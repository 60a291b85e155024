"""The error for invalid folders and files of NeRSemble."""

from __future__ import annotations


class NersembleError(ValueError):
    """Error for data that violates the format; the message is one line with the file, the value and the expectation."""
