"""Trained model as one that MLflow loads and serves: photos of people in, an avatar of each person out."""

from __future__ import annotations

import base64
import importlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import pyfunc
from mlflow.models import ModelSignature
from mlflow.pyfunc.model import PythonModel
from mlflow.types import ColSpec, DataType, Schema

SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.string, "person"), ColSpec(DataType.binary, "photo")]),
    outputs=Schema([ColSpec(DataType.string, "person"), ColSpec(DataType.binary, "avatar")]),
)
"""Input: a row for each photo (``person`` groups the photos, ``photo`` is an image file). Output: a row for each
person, whose ``avatar`` is an avatar file."""
_CHECKPOINT = "checkpoint"
_CODE = """from mlflow.models import set_model

from infra.tracking_model import AvatarModel

set_model(AvatarModel({function!r}))
"""

Reconstruct = Callable[[Sequence[bytes], Path], bytes]
"""Function from the image files of one person and the path of a checkpoint to the bytes of an avatar file."""


class AvatarModel(PythonModel):
    """Model in MLflow's generic format; it needs this package where it is loaded."""

    def __init__(self, function: str) -> None:
        self.function = function
        self._checkpoint = Path()

    def load_context(self, context: Any) -> None:
        """Find the checkpoint among the model's files."""
        self._checkpoint = Path(context.artifacts[_CHECKPOINT])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Reconstruct an avatar for each person of a table of photos (``SIGNATURE``)."""
        module, _, name = self.function.partition(":")
        reconstruct: Reconstruct = getattr(importlib.import_module(module), name)
        photos: dict[str, list[bytes]] = {}
        for person, photo in zip(model_input["person"], model_input["photo"], strict=True):
            photos.setdefault(person, []).append(base64.b64decode(photo) if isinstance(photo, str) else bytes(photo))
        avatars = [reconstruct(images, self._checkpoint) for images in photos.values()]
        return pd.DataFrame({"person": list(photos), "avatar": avatars})


def save_model(folder: Path, checkpoint: Path, function: str, example: Mapping[str, Sequence[Any]]) -> None:
    """Write a checkpoint as a model that MLflow loads.

    Args:
        folder: The model's folder, which must not exist.
        checkpoint: The checkpoint's file, which is copied.
        function: A ``Reconstruct`` of this project, written ``module:function``.
        example: Input example, a list for each column of ``SIGNATURE``'s inputs.
    """
    with tempfile.TemporaryDirectory(prefix="ffavatar-model-") as scratch:
        code = Path(scratch) / "avatar_model.py"  # and no pickle, which would run whatever is in it
        code.write_text(_CODE.format(function=function))
        pyfunc.save_model(
            folder,
            python_model=str(code),
            artifacts={_CHECKPOINT: str(checkpoint)},
            signature=SIGNATURE,
            input_example=pd.DataFrame(dict(example)),
            pip_requirements=["ffavatar"],
        )
