"""Head models with one interface: an open head made from CC0 data, and FLAME from the user's own file."""

from ffavatar_model.head.actions import actions_to_parameters
from ffavatar_model.head.head_file import load_head, save_head
from ffavatar_model.head.interface import JOINT_NAMES, N_JOINTS, PARENTS, HeadModel
from ffavatar_model.head.landmarks import iris_vertices, landmark_points, with_landmarks
from ffavatar_model.head.posing import PosedHead, blend_shapes, joint_positions, pose_head, pose_head_numpy
from ffavatar_model.head.skinning import axis_angle_to_matrix, axis_angle_to_quaternion, linear_blend_skinning
from ffavatar_model.head.subdivision import subdivide

__all__ = [
    "JOINT_NAMES",
    "N_JOINTS",
    "PARENTS",
    "HeadModel",
    "PosedHead",
    "actions_to_parameters",
    "axis_angle_to_matrix",
    "axis_angle_to_quaternion",
    "blend_shapes",
    "iris_vertices",
    "joint_positions",
    "landmark_points",
    "linear_blend_skinning",
    "load_head",
    "pose_head",
    "pose_head_numpy",
    "save_head",
    "subdivide",
    "with_landmarks",
]
