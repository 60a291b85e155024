"""One tflite file, run on one thread by LiteRT: fixed shapes in, fixed shapes out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.faces.weight_cache import WeightsError

Floats = npt.NDArray[np.float32]


class LiteModel:
    """A loaded model. Holds native memory: make one a worker, never send it anywhere."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter  # 0.5 s to import: only where a model is run

        try:
            with _native_stderr_closed():
                self._interpreter: Any = Interpreter(str(path), num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise WeightsError(
                f"{path}: LiteRT cannot load it ({str(error).splitlines()[0][:160]}); delete it"
            ) from error
        self._input: dict[str, Any] = self._interpreter.get_input_details()[0]
        self._outputs: list[dict[str, Any]] = self._interpreter.get_output_details()

    @property
    def side(self) -> int:
        """Side of the square RGB input, in pixels."""
        return int(self._input["shape"][1])

    def run(self, picture: npt.NDArray[np.uint8]) -> list[Floats]:
        """Outputs, in the file's order, for an RGB picture (side, side, 3), which becomes 0 to 1."""
        self._interpreter.set_tensor(self._input["index"], (picture.astype(np.float32) / 255)[None])
        self._interpreter.invoke()
        return [np.array(self._interpreter.get_tensor(output["index"]), np.float32) for output in self._outputs]


@contextlib.contextmanager
def _native_stderr_closed() -> Iterator[None]:
    """LiteRT writes a greeting to file descriptor 2 from C++, which no setting turns off; errors come as exceptions."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
