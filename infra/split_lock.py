"""Splits a resolved list of packages into requirements.lock and those for torch and CUDA: ``infra/lock.sh`` runs it.

torch has builds for CPU and CUDA under one version number, on different indexes. Its lock accepts the files of all:
those that uv found, those that the lock had at the same version, and those in the folder of ``--find-links``.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

LEFT_OUT = re.compile(r"opencv-python==")
CUDA = re.compile(r"(triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==")
HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")


def read_entries(text: str) -> list[str]:
    """Return the entries of a lock: a line that does not begin with a space, and those after it that do."""
    return [entry.strip() for entry in re.split(r"\n(?=\S)", text) if "==" in entry]


def with_all_builds(entry: str, before: list[str], folder: str) -> str:
    """Return torch's entry with the hashes of every build of this version.

    Args:
        entry: Its entry in the resolved list.
        before: Entries of the lock so far.
        folder: Folder of wheels; empty for none.
    """
    requirement = entry.split(" \\\n")[0]
    version = requirement.split("==")[1].split()[0]
    hashes = set(HASH.findall(entry))
    hashes |= {found for old in before if old.startswith(f"torch=={version} ") for found in HASH.findall(old)}
    for wheel in Path(folder).glob(f"torch-{version}+*.whl") if folder else ():
        hashes.add("sha256:" + hashlib.sha256(wheel.read_bytes()).hexdigest())
    return " \\\n    ".join([requirement, *(f"--hash={found}" for found in sorted(hashes))])


def main(resolved: Path, folder: str) -> None:
    """Write the three locks.

    Args:
        resolved: The resolved list.
        folder: Folder of wheels beside the index; empty for none.
    """
    torch_lock = Path("requirements.torch.lock")
    before = read_entries(torch_lock.read_text()) if torch_lock.exists() else []
    kept = [entry for entry in read_entries(resolved.read_text()) if not LEFT_OUT.match(entry)]
    torch = [with_all_builds(entry, before, folder) for entry in kept if entry.startswith("torch==")]
    cuda = [entry for entry in kept if CUDA.match(entry)]
    others = [entry for entry in kept if not CUDA.match(entry) and not entry.startswith("torch==")]
    for name, entries in {"": others, ".torch": torch, ".cuda": cuda}.items():
        Path(f"requirements{name}.lock").write_text("\n".join(entries) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
