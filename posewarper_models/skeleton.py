"""The 17 joints of PoseTrack: names, order, symmetry, limbs, groups of the evaluation, colours.

The order is that of PoseTrack's COCO-style annotations. Everything that has a joint axis follows it.
"""

from __future__ import annotations

JOINTS = (
    "nose",
    "head_bottom",
    "head_top",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
NUM_JOINTS = len(JOINTS)
JOINT = {name: index for index, name in enumerate(JOINTS)}

# Joints that change places when the image is mirrored.
FLIP_PAIRS = tuple(
    (index, JOINT[name.replace("left_", "right_")]) for index, name in enumerate(JOINTS) if name.startswith("left_")
)
_PARTNER = {joint: other for pair in FLIP_PAIRS for joint, other in (pair, pair[::-1])}
# MIRRORED[j] is the joint that j becomes in the mirrored image.
MIRRORED = tuple(_PARTNER.get(joint, joint) for joint in range(NUM_JOINTS))

# Half-body augmentation chooses between these two.
UPPER_BODY = tuple(range(JOINT["right_wrist"] + 1))
LOWER_BODY = tuple(range(JOINT["left_hip"], NUM_JOINTS))

LIMBS = tuple(
    (JOINT[start], JOINT[end])
    for start, end in (
        ("head_top", "nose"),
        ("nose", "head_bottom"),
        ("head_bottom", "left_shoulder"),
        ("head_bottom", "right_shoulder"),
        ("left_shoulder", "left_elbow"),
        ("left_elbow", "left_wrist"),
        ("right_shoulder", "right_elbow"),
        ("right_elbow", "right_wrist"),
        ("left_shoulder", "left_hip"),
        ("right_shoulder", "right_hip"),
        ("left_hip", "right_hip"),
        ("left_hip", "left_knee"),
        ("left_knee", "left_ankle"),
        ("right_hip", "right_knee"),
        ("right_knee", "right_ankle"),
    )
)

# PoseTrack evaluates all joints but the ears, and reports them in the columns of the paper's tables.
EVALUATED_JOINTS = tuple(index for index, name in enumerate(JOINTS) if not name.endswith("_ear"))
JOINT_GROUPS = {
    "Head": (JOINT["head_top"], JOINT["head_bottom"], JOINT["nose"]),
    **{
        part.capitalize(): (JOINT[f"right_{part}"], JOINT[f"left_{part}"])
        for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    },
}

_LEFT, _RIGHT, _MIDDLE = (255, 138, 61), (64, 156, 255), (120, 214, 90)
# RGB of every joint, by side; a limb has the colour of its far end.
COLOURS = tuple(
    _LEFT if name.startswith("left_") else _RIGHT if name.startswith("right_") else _MIDDLE for name in JOINTS
)
