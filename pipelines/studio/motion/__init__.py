"""Facial motion as strengths of named actions: expressions, speech, blinks and gaze, for images and over time."""

from pipelines.studio.motion.blinking import blink_actions, blinks
from pipelines.studio.motion.curves import smooth_noise
from pipelines.studio.motion.expressions import EXPRESSIONS, random_expression
from pipelines.studio.motion.gazing import gaze, gaze_actions, random_gaze
from pipelines.studio.motion.motion_plan import MotionKind, MotionPlan, plan_motion
from pipelines.studio.motion.sides import expand_sides
from pipelines.studio.motion.single_images import action_shares, random_actions
from pipelines.studio.motion.speaking import VISEMES, speech

__all__ = [
    "EXPRESSIONS",
    "VISEMES",
    "MotionKind",
    "MotionPlan",
    "action_shares",
    "blink_actions",
    "blinks",
    "expand_sides",
    "gaze",
    "gaze_actions",
    "plan_motion",
    "random_actions",
    "random_expression",
    "random_gaze",
    "smooth_noise",
    "speech",
]
