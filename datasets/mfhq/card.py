"""The data card: what a snapshot holds, and what each column means, as Markdown."""

from __future__ import annotations

from mfhq.catalog import Snapshot
from mfhq.schema import BLOB_REF, TABLES, key_of
from mfhq.views import sql_type


def data_card(snapshot: Snapshot) -> str:
    """A Markdown page with the snapshot's digest, origin and row counts, and every view's columns from the schema."""
    manifest = snapshot.manifest
    about = manifest.about
    lines = [
        f"# Corpus {snapshot.store.uri}, snapshot {snapshot.version}",
        "",
        f"Published {manifest.created_at}; digest `{manifest.digest}`.",
        "Face embeddings are biometric data and lie under a prefix of their own.",
        "",
    ]
    if preset := about.get("preset"):
        settings = ", ".join(f"{name} {value}" for name, value in preset.items() if name != "name")
        lines += [f"Faces were held against the preset `{preset['name']}`: {settings}.", ""]
    if steps := about.get("fingerprints"):
        lines += ["Steps: " + ", ".join(f"{step} `{fingerprint}`" for step, fingerprint in steps.items()) + ".", ""]
    lines += ["| view | one row is | rows |", "|---|---|---|"]
    for name, schema in TABLES.items():
        entry = manifest.tables.get(name)
        rows = snapshot.table(name).num_rows if name in ("attempts", "runs") else entry.rows if entry else 0
        lines.append(f"| `{name}` | {(schema.metadata or {})[b'description'].decode()} | {rows:,} |")
    for name, schema in TABLES.items():
        lines += ["", f"## {name}", "", f"Unique: {', '.join(key_of(schema))}.", ""]
        lines += ["| column | type | unit | meaning |", "|---|---|---|---|"]
        for f in schema:
            meta = f.metadata or {}
            kind = "place of a picture" if f.type == BLOB_REF else sql_type(f.type)
            unit, meaning = meta.get(b"unit", b"").decode(), meta.get(b"description", b"").decode()
            lines.append(f"| `{f.name}` | {kind}{'' if f.nullable else ', not null'} | {unit} | {meaning} |")
    return "\n".join(lines) + "\n"
