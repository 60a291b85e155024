"""Loading of insightface's ``FaceAnalysis``, the same way for every face pack."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
from insightface.app import FaceAnalysis

from pipelines.faces.device import CPU_PROVIDER, SETTING, providers_of
from pipelines.faces.weight_cache import WeightsError


def load_analysis(folder: Path, threads: int = 1, device: str = "cpu") -> FaceAnalysis:
    """Load the detector and the recogniser of a folder of ONNX files.

    Args:
        folder: The folder of ``.onnx`` files.
        threads: Number of onnxruntime's threads per operator.
        device: Device of the networks, ``cpu`` or ``cuda``; it is chosen once for a run (``device.choose_device``).

    Returns:
        The loaded analysis, not yet prepared (``FaceAnalysis.prepare``).

    Raises:
        WeightsError: The folder lacks one of the two models or holds a file that does not load, or the detector finds
            no landmarks.
        RuntimeError: onnxruntime cannot run the networks on the device.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    modules, providers = ["detection", "recognition"], providers_of(device)
    try:
        analysis = FaceAnalysis(str(folder), allowed_modules=modules, providers=providers, sess_options=options)
    except AssertionError as error:  # FaceAnalysis found no detector
        raise WeightsError(
            f"face pack {folder}: no detector among {_onnx_names(folder)}; an SCRFD model (.onnx) is needed"
        ) from error
    except Exception as error:
        why = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
        raise WeightsError(f"face pack {folder}: insightface cannot load it ({why}); fetch the pack again") from error
    if "recognition" not in analysis.models:
        raise WeightsError(
            f"face pack {folder}: no recogniser among {_onnx_names(folder)}; an ArcFace model (.onnx) is needed"
        )
    if not getattr(analysis.det_model, "use_kps", False):
        raise WeightsError(f"face pack {folder}: the detector gives no landmarks; use an SCRFD with five (`kps`)")
    for model in analysis.models.values():
        used = model.session.get_providers()[0]  # onnxruntime goes on without CUDA if it cannot start it
        if used != providers[0]:
            others = f"onnxruntime has {CPU_PROVIDER} only" if used == CPU_PROVIDER else f"onnxruntime took {used}"
            raise RuntimeError(f"{providers[0]} does not start: {others}; mend CUDA, or set {SETTING}=cpu")
    return analysis


def _onnx_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.onnx"))
