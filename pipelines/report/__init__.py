"""The corpus in pictures: one HTML page."""

from pipelines.report.render import render_report

__all__ = ["render_report"]
