"""Measures of a set of faces, the same for real and rendered ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.faces.align import transform_points
from pipelines.faces.mesh_detector import EYE_CORNERS, MeshDetector
from pipelines.studio.judging.blendshapes import BlendshapeScorer
from pipelines.studio.judging.classifier import features, separation, spectrum
from pipelines.studio.judging.face_sample import CROP, FaceJudge, FaceSample
from pipelines.studio.judging.judged_people import JudgedPeople
from pipelines.studio.people.figure import Pose

Image = NDArray[np.uint8]
DRIVEN: Mapping[str, tuple[tuple[str, ...], tuple[float, float], tuple[str, ...]]] = {
    "jaw": (("jawOpen",), (0, 0), ("jawOpen",)),
    "smile": (("mouthSmileLeft", "mouthSmileRight"), (0, 0), ("mouthSmileLeft", "mouthSmileRight")),
    "pucker": (("mouthPucker",), (0, 0), ("mouthPucker",)),
    "blink": (("eyeBlinkLeft", "eyeBlinkRight"), (0, 0), ("eyeBlinkLeft", "eyeBlinkRight")),
    "brows up": (("browInnerUp", "browOuterUpLeft", "browOuterUpRight"), (0, 0), ("browInnerUp", "browOuterUpLeft")),
    "brows down": (("browDownLeft", "browDownRight"), (0, 0), ("browDownLeft", "browDownRight")),
    "gaze left": ((), (0.5, 0), ("eyeLookOutLeft", "eyeLookInRight")),
    "gaze right": ((), (-0.5, 0), ("eyeLookOutRight", "eyeLookInLeft")),
    "gaze up": ((), (0, 0.4), ("eyeLookUpLeft", "eyeLookUpRight")),
    "gaze down": ((), (0, -0.4), ("eyeLookDownLeft", "eyeLookDownRight")),
}
"""Name → (actions driven, full gaze to the left and up in radians, outputs of the network whose mean is compared)."""
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Strengths at which an action is driven."""
SECOND_CROP = np.array([[0.89, 0.125, 0.0], [-0.125, 0.89, 0.13]]) * np.array([1, 1, CROP])
"""(2, 3) similarity to another crop of the same face: 8 degrees turned and a tenth smaller."""


def measure_faces(faces: Sequence[FaceSample], mesh: MeshDetector) -> dict[str, float]:
    """Return the measures of faces by name.

    Args:
        faces: Faces, at least two people.
        mesh: Mesh network, for the residual.

    Raises:
        ValueError: There are fewer than two people.
    """
    if len({f.person for f in faces}) < 2:
        raise ValueError(f"{len(faces)} usable faces of {len({f.person for f in faces})} people: two people are needed")
    pairs = [(float(a.embedding @ b.embedding), a.person == b.person) for a, b in combinations(faces, 2)]
    same, other = (np.array([s for s, is_same in pairs if is_same is kind]) for kind in (True, False))
    lab = np.concatenate([cv2.cvtColor(f.face[40:90, 30:82], cv2.COLOR_RGB2LAB).reshape(-1, 3) for f in faces])
    power = np.mean([spectrum(np.asarray(cv2.cvtColor(f.face, cv2.COLOR_RGB2GRAY), np.uint8)) for f in faces], axis=0)
    return {
        "faces": len(faces),
        "people": len({f.person for f in faces}),
        "detector score, median": float(np.median([f.score for f in faces])),
        "mesh confidence, median": float(np.median([f.mesh_score for f in faces])),
        "mesh residual, share of the eyes' distance, median": float(np.median([mesh_residual(f, mesh) for f in faces])),
        "similarity of the same person, 5th percentile": float(np.percentile(same, 5)) if len(same) else np.nan,
        "similarity of the same person, median": float(np.median(same)) if len(same) else np.nan,
        "similarity of other people, median": float(np.median(other)),
        "similarity of other people, 99.9th percentile": float(np.percentile(other, 99.9)),
        "skin L*, mean": float(lab[:, 0].mean() / 2.55),
        "skin a*, mean": float(lab[:, 1].mean() - 128),
        "skin b*, mean": float(lab[:, 2].mean() - 128),
        "skin a*, spread": float(lab[:, 1].std()),
        "skin b*, spread": float(lab[:, 2].std()),
        "sharpness, median": float(np.median([f.sharpness for f in faces])),
        "spectrum, log10 power at 1/16 cycles a pixel": float(power[1:3].mean()),
        "spectrum, log10 power at 1/4 cycles a pixel": float(power[7:9].mean()),
        "spectrum, log10 power at 2/5 cycles a pixel": float(power[12:14].mean()),
    }


def mesh_residual(face: FaceSample, mesh: MeshDetector) -> float:
    """Return the RMS distance of the meshes found in two crops of one image, as a share of the eyes' distance."""
    again, _ = mesh.detect(np.asarray(cv2.warpAffine(face.crop, SECOND_CROP, (CROP, CROP)), np.uint8))
    expected = transform_points(SECOND_CROP, face.mesh[:, :2])
    eyes = np.linalg.norm(np.subtract(*(expected[i] for i in EYE_CORNERS)))
    return float(np.sqrt(((again[:, :2] - expected) ** 2).sum(-1).mean()) / eyes)


def separations(real: Sequence[FaceSample], rendered: Sequence[FaceSample]) -> dict[str, dict[str, float]]:
    """Measure how well classifiers tell rendered from real: with all features, and with each group alone."""
    a, b = ([features(f.face) for f in faces] for faces in (real, rendered))
    people = [f.person for f in real], [f.person for f in rendered]
    result = {}
    for group in ("all", *a[0]):
        keys = list(a[0]) if group == "all" else [group]
        x, y = (np.array([np.concatenate([row[k] for k in keys]) for row in rows]) for rows in (a, b))
        found = separation(x, y, *people)
        result[group] = {"accuracy": found.accuracy, "low": found.low, "high": found.high}
    return result


def driven_correlations(
    people: JudgedPeople, ids: Sequence[str], judge: FaceJudge, scorer: BlendshapeScorer, size: int
) -> dict[str, float]:
    """Return the correlation of the driven strength and the network's score, by action.

    Each person's mean score is taken off first, as faces at rest differ.

    Args:
        people: The rendered people.
        ids: Ids of the people who act.
        judge: Face networks.
        scorer: Blendshape network.
        size: Side of an image, pixels.

    Returns:
        Action → Pearson correlation; NaN if no face was found or the score does not change.
    """
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in DRIVEN}
    for person in ids:
        poses = [pose_of(name, strength) for name in DRIVEN for strength in STRENGTHS]
        images = people.images(person, poses, size)
        for index, name in enumerate(DRIVEN):
            rows = []
            group = images[index * len(STRENGTHS) : (index + 1) * len(STRENGTHS)]
            for strength, image in zip(STRENGTHS, group, strict=True):
                face = judge.measure(image, person)
                if face is not None:
                    scores = scorer.score(face.crop, face.mesh)
                    rows.append((strength, float(np.mean([scores[k] for k in DRIVEN[name][2]]))))
            mean = np.mean(rows, axis=0).tolist() if rows else (0.0, 0.0)
            found[name] += [(s - mean[0], v - mean[1]) for s, v in rows]
    return {name: _correlation(np.array(rows).reshape(-1, 2)) for name, rows in found.items()}


def pose_of(name: str, strength: float) -> Pose:
    """Return the pose of a driven action.

    Args:
        name: A key of ``DRIVEN``.
        strength: 0 to 1.
    """
    actions, (across, up), _ = DRIVEN[name]
    look = (across * strength, up * strength)
    return Pose(actions=dict.fromkeys(actions, strength), gaze=(look, look))


def _correlation(rows: NDArray[np.float64]) -> float:
    if len(rows) < 3 or not rows.std(0).all():
        return float("nan")
    return float(np.asarray(np.corrcoef(rows.T))[0, 1])
