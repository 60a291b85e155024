"""The report on a corpus, one HTML page with images."""

from pipelines.report.render import render_report

__all__ = ["render_report"]
