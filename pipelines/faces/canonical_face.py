"""A frontal face: those points of the 468-point mesh that hardly move with expression.

The positions are our own measurement: the mean of the meshes that the mesh model finds on 16 rendered heads of the open
head model (CC0 data; the mean head and 15 random heads, frontal, seen from 5 m), made symmetric. The depths are
therefore those that the mesh model predicts.
"""

from __future__ import annotations

CANONICAL_FACE: dict[int, tuple[float, float, float]] = {
    1: (0.000, 0.485, -0.410),
    2: (0.000, 0.546, -0.221),
    4: (0.000, 0.411, -0.442),
    5: (0.000, 0.310, -0.428),
    6: (0.000, 0.062, -0.289),
    8: (0.000, -0.083, -0.276),
    9: (0.000, -0.173, -0.307),
    10: (0.000, -0.585, -0.286),
    33: (-0.500, 0.000, 0.000),
    50: (-0.527, 0.381, -0.014),
    54: (-0.667, -0.392, 0.089),
    67: (-0.392, -0.549, -0.193),
    93: (-0.760, 0.350, 0.663),
    98: (-0.186, 0.515, -0.135),
    103: (-0.557, -0.486, -0.065),
    117: (-0.578, 0.195, 0.028),
    118: (-0.489, 0.225, -0.029),
    127: (-0.779, 0.024, 0.552),
    129: (-0.228, 0.433, -0.102),
    133: (-0.198, 0.013, -0.053),
    151: (0.000, -0.391, -0.300),
    162: (-0.768, -0.144, 0.410),
    168: (0.000, -0.018, -0.254),
    195: (0.000, 0.225, -0.378),
    197: (0.000, 0.145, -0.331),
    205: (-0.435, 0.480, -0.051),
    234: (-0.770, 0.185, 0.630),
    263: (0.500, 0.000, 0.000),
    280: (0.527, 0.381, -0.014),
    284: (0.667, -0.392, 0.089),
    297: (0.392, -0.549, -0.193),
    323: (0.760, 0.350, 0.663),
    327: (0.186, 0.515, -0.135),
    332: (0.557, -0.486, -0.065),
    346: (0.578, 0.195, 0.028),
    347: (0.489, 0.225, -0.029),
    356: (0.779, 0.024, 0.552),
    358: (0.228, 0.433, -0.102),
    362: (0.198, 0.013, -0.053),
    389: (0.768, -0.144, 0.410),
    425: (0.435, 0.480, -0.051),
    454: (0.770, 0.185, 0.630),
}
"""Index of the mesh point → (x, y, z): x right, y down, z away from the camera.

The origin is the middle of the outer eye corners; the unit is the distance between them.
"""

MIRRORED_POINT: dict[int, int] = {
    33: 263,
    50: 280,
    54: 284,
    67: 297,
    93: 323,
    98: 327,
    103: 332,
    117: 346,
    118: 347,
    127: 356,
    129: 358,
    133: 362,
    162: 389,
    205: 425,
    234: 454,
}
"""Index of a mesh point on the image's left → its counterpart on the right. The other points lie in the middle."""

REST_NOD = 7.0
"""Downward pitch of the open head in its rest pose, in degrees.

Measured relative to ``CANONICAL_FACE``, people who look into the camera look up by 7 degrees (median of 20 talking-head
clips, one frame per clip).
"""
