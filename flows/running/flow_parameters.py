"""Types of the flows' parameters, from which Prefect makes the form of a deployment and refuses wrong values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from mfhq.masking import has_credentials

_NO_PASSWORD = r"^(?![A-Za-z][A-Za-z0-9+.-]*://[^/?#]*@)"


def _refuse_credentials(uri: str) -> str:
    if has_credentials(uri):
        raise ValueError("has a password in it, which Prefect would store; set AWS_ACCESS_KEY_ID for s3:// instead")
    return uri


Uri = Annotated[
    str,
    AfterValidator(_refuse_credentials),
    Field(min_length=1, json_schema_extra={"pattern": _NO_PASSWORD}),  # the server checks the schema before it stores
]
"""URI or path of a corpus or of sources, without a user name or a password."""

PresetName = Literal["small", "mfhq"]
"""Name of a preset of the publish thresholds."""
Decoder = Literal["pyav", "decord"]
"""Library that decodes videos."""
CaptureDataset = Literal["ava256", "nersemble"]
"""Data set of multi-view captures that can be converted."""
Stage = Literal["pretrain", "multiview", "personalize"]
"""Training stage."""
Count = Annotated[int, Field(ge=1)]
"""Number of things, at least 1."""
Limit = Annotated[int, Field(ge=0)]
"""Upper bound, at least 0."""
Pixels = Annotated[int, Field(ge=32, le=4096)]
"""Side of an image in pixels."""
Seconds = Annotated[float, Field(ge=1)]
"""Duration of at least a second, in seconds."""
