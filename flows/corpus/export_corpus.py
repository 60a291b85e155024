"""Command ``ffavatar export-corpus``: write the chosen faces of a snapshot in the format of another library."""

from __future__ import annotations

import importlib.util
import uuid
from pathlib import Path

from infra.console import CallError, say
from infra.storage import open_store
from mfhq.catalog import Catalog, Snapshot, read_blob
from mfhq.corpus_tables import record_run
from pipelines.sharing.card_facts import collect_facts
from pipelines.sharing.card_markdown import card_markdown
from pipelines.sharing.export_snapshot import ExportRun, write_export
from pipelines.sharing.exported_faces import ExportCount, Selection
from pipelines.sharing.hf_shards import hf_front_matter


def export_corpus_command(corpus: str, version: str | None, form: str, out: Path, selection: Selection) -> None:
    """Run ``ffavatar export-corpus``.

    Args:
        corpus: URI of the corpus.
        version: Name of the snapshot; None for the newest.
        form: ``webdataset``, ``lance`` or ``hf``.
        out: Folder of the export.
        selection: Choice of faces and columns.

    Raises:
        CallError: The format's library is not installed.
        CatalogError: There is no such snapshot, or an image of it is missing or damaged.
        ExportError: The folder has files, or no face may be exported.
    """
    if form == "lance" and importlib.util.find_spec("lance") is None:
        raise CallError("--format lance: the package pylance is not installed; `pip install 'ffavatar[export]'`")
    store = open_store(corpus)
    snapshot = Catalog(store).open(version)
    run = ExportRun(f"export-{uuid.uuid4().hex[:16]}", snapshot.version, snapshot.digest)

    def finish(folder: Path, count: ExportCount) -> None:
        (folder / "README.md").write_text(_readme(snapshot, form, count), encoding="utf-8")
        record_run(store, run.run_id, "export", snapshot.version)

    with snapshot.connect(biometric=selection.biometric) as connection:
        done = write_export(connection, lambda ref: read_blob(store, ref), out, form, selection, run, finish)
    say("exported {n} faces of {people} people to {out}", n=done.faces.total(), people=done.people, out=out)
    if done.refused:
        reasons = ", ".join(f"{reason} {n}" for reason, n in done.refused.most_common())
        say("  not exported: {n} faces ({reasons})", n=done.refused.total(), reasons=reasons)
    if selection.biometric:
        say("  the export has embeddings, which identify people: keep it as the corpus's biometric/ folder")


def _readme(snapshot: Snapshot, form: str, count: ExportCount) -> str:
    facts = collect_facts(snapshot)
    licences = {row.licence for row in facts.rights if not row.refusal}
    licence = next(iter(licences)).lower() if len(licences) == 1 else ""
    known = licence if licence.startswith(("cc-by-", "cc0-")) and licence[-1].isdigit() else "other"
    front = hf_front_matter(list(count.faces), known) if form == "hf" else ""
    return front + card_markdown(facts)
