"""Real sequences to try heads on: hand joints of First-Person Hand Action (Garcia-Hernando et al., CVPR 2018).

    python tests/support/fpha.py FOLDER OUT      writes the feature set OUT from FOLDER/joints.npz

A step is a frame: the wrist in decimetres, in camera coordinates, and the 20 other joints as seen from it, D = 63.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from features.featureset import FeatureSet, Sampling, Weights, create_featureset
from features.files import sha256_of_file
from features.store import VideoFeatures, write_video

FPS = 30.0


def write_fpha(folder: Path, out: Path) -> Path:
    """Write the joints of all sequences as a feature set sampled by segment; return its folder."""
    joints = folder / "joints.npz"
    with np.load(joints) as content:
        names, offset = content["narration_id"], content["offset"]
        positions = content["joints_tenth_mm"].reshape(-1, 21, 3) / 1000
    steps = np.concatenate([positions[:, :1], positions[:, 1:] - positions[:, :1]], axis=1).reshape(-1, 1, 63)
    sampling = Sampling(kind="segment", clip_frames=1, steps_per_clip=1, num_frames=1)
    weights = Weights(str(joints.name), "none", sha256_of_file(joints))
    featureset = create_featureset(out, FeatureSet("hand_joints", weights, {}, "float32", sampling, dim=63))
    for index, name in enumerate(names):
        rows = slice(offset[index], offset[index + 1])
        frame = np.arange(offset[index + 1] - offset[index])
        stop_s = round(len(frame) / FPS, 2)  # as the annotations have it
        video = VideoFeatures(
            video_id=str(name).rpartition("_")[0],
            fps=FPS,
            features=steps[rows].astype(np.float16),
            seconds=(frame + 0.5) / FPS,
            frame=frame.astype(np.int32),
            narration_id=(str(name),),
            offset=np.array([0, len(frame)]),
            start_s=np.zeros(1),
            stop_s=np.array([stop_s]),
        )
        write_video(out, video, featureset)
    return out


if __name__ == "__main__":
    print(write_fpha(Path(sys.argv[1]), Path(sys.argv[2])))
