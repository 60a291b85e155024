"""The checkpoint that comes with the code, trained on rendered people of CC0 data alone (docs/experiments.md)."""

from __future__ import annotations

from pathlib import Path

STUDIO = Path(__file__).with_name("studio.safetensors")
"""Weights of preset ``small`` on the open head, in half precision, after stages 1 and 2 of training (2026-11-28).

The images of stage 2 include portraits.
"""
