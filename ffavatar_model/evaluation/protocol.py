"""The evaluation protocol: a description of each metric, written together with the results."""

from __future__ import annotations

from ffavatar_model.camera import CROP_EYE_LEVEL, CROP_EYE_SPAN
from ffavatar_model.data.images import BACKGROUND, NECK_END, NECK_START

PROTOCOL: dict[str, str] = {
    "crop": f"aligned by five landmarks, eyes {CROP_EYE_SPAN} of the side apart, {CROP_EYE_LEVEL} from the top; square",
    "background": f"RGB {BACKGROUND} behind every image, rendered and real",
    "mask": "errors are weighted by the target's matte (ground truth where it is rendered), the body faded out from "
    f"{NECK_START} to {NECK_END} forehead-to-chin lengths below the chin; SSIM by the matte at a window's middle",
    "psnr": "dB of RGB in 0 to 1, sRGB values as stored, one value an image, averaged over a person, then over people",
    "ssim": "Gaussian window 11, sigma 1.5, K1 0.01, K2 0.03, population covariance, mean of three channels",
    "ms_ssim": "five scales, 2 x 2 means between them, exponents of Wang, Simoncelli and Bovik 2003",
    "lpips": "version 0.1, of the whole aligned crop over the background",
    "csim": "cosine similarity of face embeddings of the rendering and the target (cross: the first source)",
    "akd": "mean distance of the face mesh's points found in the rendering and in the driver, in image widths",
    "aed": "mean absolute difference of the estimator's expression coefficients of the rendering and the driver",
    "apd": "angle between the estimator's head rotations of the rendering and the driver, degrees",
    "nearest": "the source image with the highest PSNR to the target, as it is: chosen knowing the answer",
    "mean_head": "the mean of the avatars of all people of the evaluation, driven as ours",
    "mean_of_views": "the mean of the avatars of each source by itself",
    "intervals": "95 %, percentile bootstrap over people, 2,000 resamples",
}
