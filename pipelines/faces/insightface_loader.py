"""Loading of insightface's ``FaceAnalysis``, the same way for every face pack."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
from insightface.app import FaceAnalysis

from pipelines.faces.weight_cache import WeightsError


def load_analysis(folder: Path, threads: int = 1) -> FaceAnalysis:
    """Load the detector and the recogniser of a folder of ONNX files, on CUDA if it is available.

    Args:
        folder: The folder of ``.onnx`` files.
        threads: Number of onnxruntime's threads per operator.

    Returns:
        The loaded analysis, not yet prepared (``FaceAnalysis.prepare``).

    Raises:
        WeightsError: The folder lacks one of the two models or holds a file that does not load, or the detector finds
            no landmarks.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    available = onnxruntime.get_available_providers()
    providers = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in available]
    modules = ["detection", "recognition"]
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
    return analysis


def _onnx_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.onnx"))
