"""Data card of a snapshot as Croissant 1.0 (JSON-LD), with the properties for responsible AI of its extension."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from mfhq.manifest import TableEntry
from mfhq.paths import PRIVATE_TABLES
from mfhq.schema import TABLES, key_of
from mfhq.views import describe_column
from pipelines.sharing.card_facts import CardFacts
from pipelines.sharing.rights import NOT_STATED

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataBiases": "cr:dataBiases",
    "dataCollection": "cr:dataCollection",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "personalSensitiveInformation": "cr:personalSensitiveInformation",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""Context of Croissant 1.0; readers compare it with theirs."""

_TYPES = {
    pa.string(): "sc:Text",
    pa.bool_(): "sc:Boolean",
    pa.int32(): "sc:Integer",
    pa.int64(): "sc:Integer",
    pa.float32(): "sc:Float",
    pa.float64(): "sc:Float",
    pa.timestamp("us", tz="UTC"): "sc:DateTime",
}

_LICENCES = {
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "public domain": "https://creativecommons.org/publicdomain/mark/1.0/",
    "MIT": "https://spdx.org/licenses/MIT",
    "Apache-2.0": "https://spdx.org/licenses/Apache-2.0",
}

_NOT_DESCRIBED = PRIVATE_TABLES | {"decisions", "runs", "attempts", "participants"}
"""Tables that a card does not offer: biometric data, words of reviewers, machines, and words on single people."""


def card_croissant(facts: CardFacts) -> str:
    """Return the card as a JSON-LD document; it describes the tables, not the packed files of images.

    Args:
        facts: Facts of the snapshot.
    """
    snapshot, manifest = facts.snapshot, facts.snapshot.manifest
    tables = {
        name: entry
        for name in TABLES
        if name not in _NOT_DESCRIBED and (entry := manifest.tables.get(name)) is not None and entry.rows
    }
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": f"face-corpus-{manifest.name}",
        "description": (
            f"Faces of {facts.counts['people']} people in videos and multi-view captures, grouped into people by their "
            f"similarity: {facts.counts['chosen_faces']} chosen faces. Digest of the rows: {snapshot.digest}."
        ),
        "version": f"{manifest.version}.0.0",
        "datePublished": manifest.created_at[:10],
        "url": f"urn:sha256:{snapshot.digest}",
        "license": sorted({_licence_url(row.licence) for row in facts.rights}) or ["not stated"],
        "isLiveDataset": False,
        **_responsible_ai(facts),
        "distribution": [item for name, entry in tables.items() for item in _distribution(name, entry)],
        "recordSet": [_record_set(name, entry) for name, entry in tables.items()],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _licence_url(name: str) -> str:
    if name.startswith("CC-BY"):
        *terms, version = name.removeprefix("CC-").split("-")
        terms, version = (terms, version) if version[0].isdigit() else ([*terms, version], "4.0")
        return f"https://creativecommons.org/licenses/{'-'.join(terms).lower()}/{version}/"
    return _LICENCES.get(name, name)


def _responsible_ai(facts: CardFacts) -> dict[str, Any]:
    unstated = sum(row.videos for row in facts.rights if row.consent == NOT_STATED)
    refused = sum(row.faces for row in facts.rights if row.refusal)
    if facts.declared:
        demographics = "; ".join(f"{row['name']} {row['value']}: {row['people']} people" for row in facts.declared)
        demographics = f"Declared by the data sets, not measured: {demographics}."
    else:
        demographics = "Age, sex, origin and skin tone of people are neither measured nor declared."
    rejected = ", ".join(f"{row['stage']} {row['reason']} {100 * row['share']:.1f} %" for row in facts.rejected)
    return {
        "rai:dataCollection": (
            f"Detected, tracked and measured in {facts.counts['videos']} videos, of which "
            f"{facts.counts['videos_used']} are used, and {facts.counts['captures']} multi-view captures."
        ),
        "rai:dataBiases": f"{demographics} Faces that thresholds reject are missing ({rejected or 'none'}).",
        "rai:dataLimitations": "People are found by similarity: one person can be two, and two people one.",
        "rai:personalSensitiveInformation": (
            f"Images of people. Consent is not stated for {unstated} of {facts.counts['videos']} videos; "
            f"{refused} chosen faces may not be exported. Embeddings are not offered."
        ),
        "rai:dataUseCases": "Training and evaluation of models of heads and faces; not for identifying people.",
    }


def _distribution(name: str, entry: TableEntry) -> Iterator[dict[str, Any]]:
    """Yield the files of a table, by paths relative to the card, and the set of them if there are several."""
    for number, file in enumerate(entry.files):
        yield {
            "@type": "cr:FileObject",
            "@id": name if len(entry.files) == 1 else f"{name}/{number}",
            "name": name if len(entry.files) == 1 else f"{name}/{number}",
            "contentUrl": f"../{file.path}",
            "contentSize": f"{file.n_bytes} B",
            "encodingFormat": "application/x-parquet",
            "sha256": file.sha256,
        }
    if len(entry.files) > 1:
        yield {
            "@type": "cr:FileSet",
            "@id": name,
            "name": name,
            "encodingFormat": "application/x-parquet",
            "includes": f"../tables/{name}/*.parquet",
        }


def _record_set(name: str, entry: TableEntry) -> dict[str, Any]:
    kind = "fileObject" if len(entry.files) == 1 else "fileSet"
    schema = entry.schema(name)
    described = [f for f in schema if f.type in _TYPES]
    return {
        "@type": "cr:RecordSet",
        "@id": f"{name}-rows",
        "name": f"{name}-rows",
        "description": f"One row is {(TABLES[name].metadata or {})[b'description'].decode()}.",
        "key": [{"@id": f"{name}-rows/{column}"} for column in key_of(TABLES[name])],
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}-rows/{f.name}",
                "name": f"{name}-rows/{f.name}",
                "description": describe_column(f),
                "dataType": _TYPES[f.type],
                "source": {kind: {"@id": name}, "extract": {"column": f.name}},
            }
            for f in described
        ],
    }
