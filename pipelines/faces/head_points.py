"""Positions on a head, in metres, of those points of the 468-point mesh that hardly move with expression.

The positions are our own measurement: the points of the face mesh on the open head (CC0 data), found by
``pipelines.studio.landmark_search`` and made symmetric. The axes are those of a head model: origin between the
eyeballs, +X to the head's left, +Y up, +Z out of the face. Use these positions with triangulated landmarks.
``canonical_face`` holds the same face with the depths that the mesh model predicts.
"""

from __future__ import annotations

HEAD_POINTS: dict[int, tuple[float, float, float]] = {
    1: (0.0000, -0.0409, 0.0468),
    2: (0.0000, -0.0488, 0.0386),
    4: (0.0000, -0.0350, 0.0442),
    5: (0.0000, -0.0268, 0.0379),
    6: (0.0000, -0.0050, 0.0260),
    8: (0.0000, 0.0113, 0.0275),
    9: (0.0000, 0.0212, 0.0288),
    10: (0.0000, 0.0555, 0.0196),
    33: (-0.0453, -0.0019, 0.0099),
    50: (-0.0470, -0.0368, 0.0119),
    67: (-0.0344, 0.0518, 0.0133),
    98: (-0.0154, -0.0479, 0.0262),
    103: (-0.0496, 0.0455, 0.0034),
    117: (-0.0508, -0.0203, 0.0073),
    118: (-0.0435, -0.0230, 0.0119),
    129: (-0.0190, -0.0404, 0.0246),
    133: (-0.0170, -0.0037, 0.0148),
    151: (0.0000, 0.0382, 0.0253),
    168: (0.0000, 0.0038, 0.0257),
    195: (0.0000, -0.0191, 0.0335),
    197: (0.0000, -0.0123, 0.0295),
    205: (-0.0378, -0.0453, 0.0169),
    263: (0.0453, -0.0019, 0.0099),
    280: (0.0470, -0.0368, 0.0119),
    297: (0.0344, 0.0518, 0.0133),
    327: (0.0154, -0.0479, 0.0262),
    332: (0.0496, 0.0455, 0.0034),
    346: (0.0508, -0.0203, 0.0073),
    347: (0.0435, -0.0230, 0.0119),
    358: (0.0190, -0.0404, 0.0246),
    362: (0.0170, -0.0037, 0.0148),
    425: (0.0378, -0.0453, 0.0169),
}
"""Index of the mesh point → (x, y, z), metres."""
