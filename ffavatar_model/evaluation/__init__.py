"""Evaluation of avatars: renderings against images, and parameters against ground truth.

Results are means over people with confidence intervals.
"""

from ffavatar_model.evaluation.image_metrics import ms_ssim, psnr, sharpness_ratio, ssim
from ffavatar_model.evaluation.intervals import Interval, bootstrap, summarise
from ffavatar_model.evaluation.parameters import GroundTruth, evaluate_estimator
from ffavatar_model.evaluation.protocol import PROTOCOL
from ffavatar_model.evaluation.reenactment import (
    Embed,
    FindLandmarks,
    Judges,
    Lpips,
    Subject,
    cross_reenact,
    self_reenact,
)

__all__ = [
    "PROTOCOL",
    "Embed",
    "FindLandmarks",
    "GroundTruth",
    "Interval",
    "Judges",
    "Lpips",
    "Subject",
    "bootstrap",
    "cross_reenact",
    "evaluate_estimator",
    "ms_ssim",
    "psnr",
    "self_reenact",
    "sharpness_ratio",
    "ssim",
    "summarise",
]
