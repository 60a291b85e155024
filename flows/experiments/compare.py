"""Studio experiments side by side: ``python -m flows.experiments.compare NAME=FOLDER…``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

METRICS_FILE = "metrics.json"


def iterate_figures(report: dict[str, Any]) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the figures of a report that are compared, by name, with their intervals.

    They are the model's PSNR (dB), and the estimator's median error of rotation (degrees).
    """
    after = report["after"]
    for row in after.get("self", ()):
        if row["method"] == "ours" and row["views"] in (1, 4):
            yield f"portraits, {row['views']} view{'s' * (row['views'] > 1)} (dB)", row["psnr"]
    for row in after.get("around", ()):
        if row["method"] == "ours" and row["views"] in (1, 4):
            yield f"all round, {row['views']} view{'s' * (row['views'] > 1)} (dB)", row["psnr"]
    for row in after.get("around_by_azimuth", ()):
        if row["views"] == 4:
            yield f"{row['sector']} (dB)", row["psnr"]
    if "estimator" in after:
        yield "head rotation (°)", after["estimator"]["rotation_deg"]


def compare_reports(reports: dict[str, dict[str, Any]]) -> str:
    """Return a Markdown table: a column a report, a row a figure.

    Each cell is value (low to high), and empty where a report has no such figure.
    """
    found = {name: dict(iterate_figures(report)) for name, report in reports.items()}
    rows = list(dict.fromkeys(figure for each in found.values() for figure in each))
    lines = [f"| | {' | '.join(found)} |", "|---" * (1 + len(found)) + "|"]
    lines.append(f"| steps | {' | '.join(str(report['steps']) for report in reports.values())} |")
    for row in rows:
        lines.append(f"| {row} | {' | '.join(_cell(each.get(row)) for each in found.values())} |")
    return "\n".join(lines)


def _cell(interval: dict[str, float] | None) -> str:
    return "" if interval is None else f"{interval['value']:.2f} ({interval['low']:.2f} to {interval['high']:.2f})"


@click.command()
@click.argument("named", nargs=-1, required=True, metavar="NAME=FOLDER...")
def main(named: Sequence[str]) -> None:
    """Print a table of the reports that ``flows.experiments.train_on_studio`` wrote, one in each FOLDER."""
    reports: dict[str, dict[str, Any]] = {}
    for text in named:
        name, equals, folder = text.partition("=")
        path = Path(folder) / METRICS_FILE
        if not equals or not path.is_file():
            raise click.UsageError(f"{text!r}: NAME=FOLDER is expected, a folder that holds {METRICS_FILE}")
        reports[name] = json.loads(path.read_text())
        if "after" not in reports[name]:
            raise click.UsageError(f"{path}: the run was not evaluated to its end")
    click.echo(compare_reports(reports))


if __name__ == "__main__":
    main()
