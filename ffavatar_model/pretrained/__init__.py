"""The checkpoint that comes with the code: trained on rendered studio people alone (docs/experiments.md), CC0 data."""

from __future__ import annotations

from pathlib import Path

STUDIO = Path(__file__).with_name("studio.safetensors")
"""Preset ``small`` on the open head, half precision: stage 1, then stage 2 with portraits of stage 1 among its pictures."""
