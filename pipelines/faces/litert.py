"""Inference with LiteRT on a tflite file whose inputs and outputs have fixed shapes."""

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
    """A loaded tflite model. It holds native memory, so load it in each worker and never pickle it."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter  # takes 0.5 s, so it is imported only if a model is loaded

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

    def run(self, image: npt.NDArray[np.uint8]) -> list[Floats]:
        """Run the model on an RGB image (side, side, 3), scaled to 0 to 1; return the outputs in the file's order."""
        return self.run_tensor(np.asarray(image / np.float32(255), np.float32)[None])

    def run_tensor(self, tensor: Floats) -> list[Floats]:
        """Run the model on a tensor of its input's shape; return the outputs in the file's order."""
        self._interpreter.set_tensor(self._input["index"], tensor)
        self._interpreter.invoke()
        return [np.array(self._interpreter.get_tensor(output["index"]), np.float32) for output in self._outputs]


@contextlib.contextmanager
def _native_stderr_closed() -> Iterator[None]:
    """Silence the message that LiteRT writes to file descriptor 2 from C++ when it loads; no setting turns it off."""
    saved = os.dup(2)  # errors are raised as exceptions, so none is lost
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
