"""Reason codes that a published table can hold, with their meaning and the remedy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """A reason code with its meaning and the remedy, as the report shows them."""

    code: str
    meaning: str
    what_to_do: str


TAKEN_DOWN = "taken_down"
"""Reason: a take-down names the file or somebody in it; the file is not mined again."""

DUPLICATE = "duplicate"
"""Reason: the video's shots with usable faces are copies of other videos' shots, and the preset does not count them."""

_THRESHOLD = "publish with a preset that asks for less, if such faces are good enough"

REASONS: tuple[Reason, ...] = (
    Reason(
        TAKEN_DOWN,
        "a take-down named the file, or somebody in it: it is not mined (again), and published only as far as it was",
        "nothing: it is to stay away",
    ),
    Reason("unreachable", "the source list names a file that could not be read", "check the path and the rights"),
    Reason(
        "not_a_file",
        "the name is that of a pipe, a socket, a device or a file of the kernel; it is never opened",
        "leave it out",
    ),
    Reason("source_changed", "the file was replaced under its name after its id was computed", "mine the source again"),
    Reason("frame_missing", "a face's frame is not in the file any more at its time", "mine the source again"),
    Reason("sparse_file", "the file says that it is large, and nearly nothing of it is stored", "fetch it again"),
    Reason("empty_file", "the file has no bytes", "fetch it again"),
    Reason("not_a_video", "no container that the decoder knows", "leave it out, or convert it"),
    Reason("playlist", "the file names other files instead of holding frames; none was opened", "list those files"),
    Reason("frame_too_large", "a frame has more pixels, or takes more memory, than a file may", "make it smaller"),
    Reason("no_index", "the container lacks its index: cut off while it was written or copied", "fetch it again"),
    Reason("no_video_stream", "the container holds no images", "leave it out"),
    Reason("no_frame_decoded", "the container opens, and not one frame decodes", "fetch it again"),
    Reason(
        "decoded_in_part",
        "fewer frames decode than the container promises; they are used",
        "fetch it again for the rest",
    ),
    Reason("no_face", "no face in the sampled frames", "nothing, or lower the detector's threshold and mine again"),
    Reason("too_brief", "the face was found in too few of the sampled frames", _THRESHOLD),
    Reason("no_candidate", "the track has no candidate face", "mine again with more candidates a track"),
    Reason("cut_by_border", "the frame ends inside the face", "nothing: such embeddings match nobody"),
    Reason("low_score", "the detector is not sure that it is a face", _THRESHOLD),
    Reason("too_small", "the face has too few pixels", _THRESHOLD),
    Reason("blurred", "the aligned crop has too little detail", _THRESHOLD),
    Reason("badly_exposed", "the face is too dark, or too much of it is clipped", _THRESHOLD),
    Reason("mesh_unsure", "the mesh model does not take the crop for a face", "nothing: it often is none"),
    Reason("turned_away", "the head is turned further than the preset allows", _THRESHOLD),
    Reason("occluded", "too much of the face is covered", _THRESHOLD),
    Reason("compressed", "the codec's blocks show", _THRESHOLD),
    Reason("disagrees", "the face's embedding is unlike the others of its track", "look: two people in one track?"),
    Reason(
        DUPLICATE,
        "each of its shots with a usable face is a copy of a shot of another video, which `duplicate_of` names",
        "nothing, or publish with count_duplicates",
    ),
    Reason("not_selected", "the condition of `publish --where` leaves it out", "publish without, or with another one"),
    Reason("not_scored", "the step that scores it did not get that far", "run the same mine command again"),
    Reason("not_finished", "a step has not worked on it yet", "run the same mine command again"),
    Reason("frame_absent", "the data set lists the frame, and its image is not there", "nothing, or fetch it again"),
    Reason("matte_absent", "the view has no segmentation; it is used without a matte", "fetch the segmentation"),
    Reason("pose_absent", "the head's pose at this frame is not there", "fetch the poses, or nothing"),
    Reason("pose_invalid", "the head's pose is no rotation and a shift, or a metre off", "look: another data set?"),
    Reason("head_out_of_picture", "the head is outside of this camera's image", "nothing"),
    Reason("picture_damaged", "the image does not decode", "fetch it again"),
    Reason("value_damaged", "a file of numbers (a mesh, keypoints) is not what it should be", "fetch it again"),
    Reason("size_unexpected", "the image is of another shape than its camera", "fetch it again"),
    Reason("archive_damaged", "the zip cannot be read: cut off while it was copied, most likely", "fetch it again"),
    Reason("unsafe_member", "the zip names a path that leads out of its folder; not read", "do not trust its source"),
    Reason("too_large", "it would unpack to more than such a file can hold; not read", "do not trust its source"),
    Reason("head_not_found", "fewer than two of the timestep's images show a face, or not one head", "nothing"),
    Reason("video_ends_early", "the video has fewer frames than the others of its sequence", "fetch it again"),
    Reason("video_damaged", "the frame does not decode, by either decoder", "fetch the video again"),
    Reason("video_hangs", "the decoder gave nothing within its time limit, or died", "fetch the video again"),
    Reason("camera_absent", "the calibration has the camera, and its images are not there", "fetch them"),
    Reason("camera_uncalibrated", "there are images, and the calibration lacks the camera", "fetch the calibration"),
    Reason("capture_absent", "the list of captures has it, and its folder is not there", "fetch it, or nothing"),
    Reason("capture_incomplete", "the capture lacks its calibration or its list of frames", "fetch them"),
    Reason("capture_damaged", "its calibration or its list of frames cannot be read", "fetch it again"),
    Reason("mesh_absent", "the mean mesh, which says where the head is, is not there", "fetch kinematic_tracking"),
    Reason("calibration_invalid", "the camera's calibration is no camera", "fetch the calibration again"),
    Reason(
        "few_faces",
        "the person has fewer chosen faces than the preset wants; listed all the same",
        "add videos of them",
    ),
)
"""Every reason code, in the order of the checks.

Any other reason belongs to status ``failed`` and is the class of the error that a step raised at every attempt (three
by default). The traceback is in ``attempts.error``; `ffavatar replay` runs the step once more.
"""
