"""The checkpoint that comes with the code: trained on rendered studio people alone (docs/experiments.md), CC0 data."""

from __future__ import annotations

from pathlib import Path

STUDIO = Path(__file__).with_name("studio.safetensors")
"""Preset ``small`` on the open head, half precision: stages 1 and 2, the latter with portraits among its images."""
