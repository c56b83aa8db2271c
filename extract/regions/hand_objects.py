"""The published hand-object detections of EPIC-KITCHENS-100: P01/P01_101.pkl, a pickled list of messages.

A message per frame, in order, in the format of Protocol Buffers. Frame n is at (n - 1) / rate seconds: they are the
frames of the published JPEG files, at 60 per second for P01_01 and 50 for P01_101. The pickle is read as data alone.

Source: Shan et al., "Understanding Human Hands in Contact at Internet Scale", CVPR 2020;
epic-kitchens/epic-kitchens-100-hand-object-bboxes, whose messages the schema below describes.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from extract.decode.sources import PUBLISHED_AT_60, published_fps
from extract.regions.boxes import Hands, Objects, VideoBoxes, held_objects, video_boxes
from features.errors import DataError
from features.pickles import read_list_of_bytes

# Message -> name, number and type of its fields; a type with a * is repeated. States and sides are enumerations there,
# which are the same bytes as integers.
_SCHEMA = {
    "Box": (("left", 1, "float"), ("top", 2, "float"), ("right", 3, "float"), ("bottom", 4, "float")),
    "Vector": (("x", 1, "float"), ("y", 2, "float")),
    "Hand": (
        ("box", 1, "Box"),
        ("score", 2, "float"),
        ("state", 3, "int32"),
        ("object_offset", 4, "Vector"),
        ("side", 5, "int32"),
    ),
    "Object": (("box", 1, "Box"), ("score", 2, "float")),
    "Frame": (
        ("video_id", 1, "string"),
        ("frame_number", 2, "int32"),
        ("hands", 3, "Hand*"),
        ("objects", 4, "Object*"),
    ),
}
_PACKAGE = "hand_objects"
_TYPES = {
    "float": descriptor_pb2.FieldDescriptorProto.TYPE_FLOAT,
    "int32": descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
}


@lru_cache(maxsize=1)
def _frame_class() -> Any:
    """Return the class of a frame's messages, from a schema that needs no compiler of its own."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            one = message.field.add(name=field, number=number, label=3 if kind.endswith("*") else 1)
            plain = kind.removesuffix("*")
            if plain in _TYPES:
                one.type = _TYPES[plain]
            else:
                one.type, one.type_name = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE, f".{_PACKAGE}.{plain}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Frame"))


def read_hand_objects(path: Path, video_id: str, *, min_score: float) -> VideoBoxes:
    """Read the published detections of a video.

    Args:
        min_score: the least score of a hand or an object that counts.

    Raises:
        DataError: the file is not a list of such messages, is of another video, or is one of the two that were
            published with faulty frame numbers.
    """
    fps = published_fps(video_id)
    if fps is None:
        raise DataError(
            f"{path}: its detections are numbered by the frames of EPIC-KITCHENS-100, and {video_id} is none of its "
            "videos; give boxes as CSV or JSON lines, with seconds."
        )
    messages = read_list_of_bytes(path)
    if not messages:
        raise DataError(f"{path}: holds no frames; fetch it again.")
    if PUBLISHED_AT_60.get(video_id) == len(messages):
        raise DataError(
            f"{path}: these detections were published for 60 frames per second by mistake; fetch them again "
            f"({len(messages)} frames, where the video has some {len(messages) * 5 // 6})."
        )
    numbers, hands, objects = _parsed(path, messages, video_id, min_score)
    return video_boxes((numbers - 1) / float(fps), hands, held_objects(hands, objects))


def _parsed(
    path: Path, messages: Sequence[bytes], video_id: str, min_score: float
) -> tuple[np.ndarray, Hands, Objects]:
    """Return the frame numbers of messages, (F,) int64 ascending, and the hands and objects with enough score."""
    numbers, of_hands, of_objects = array("q"), array("q"), array("q")
    hands, objects = array("f"), array("f")
    frame = _frame_class()()
    # A video of an hour has 216,000 messages: each step of this loop costs a tenth of a second.
    for index, message in enumerate(messages):
        try:
            frame.ParseFromString(message)
        except DecodeError as error:
            raise DataError(
                f"{path}: message {index} is not one of hands and objects; fetch the file again."
            ) from error
        if frame.video_id != video_id:
            raise DataError(f"{path}: message {index} is of video {frame.video_id!r}, not of {video_id}.")
        numbers.append(frame.frame_number)
        for hand in frame.hands:
            if (score := hand.score) >= min_score:
                box, shift = hand.box, hand.object_offset
                hands.extend((box.left, box.top, box.right, box.bottom, score, hand.side, hand.state, shift.x, shift.y))
                of_hands.append(index)
        for found in frame.objects:
            if found.score >= min_score:
                box = found.box
                objects.extend((box.left, box.top, box.right, box.bottom))
                of_objects.append(index)
    frame_numbers = np.array(numbers, np.int64)
    if frame_numbers[0] < 1 or (np.diff(frame_numbers) < 1).any():
        raise DataError(f"{path}: its frame numbers do not ascend from 1; fetch the file again.")
    rows = np.array(hands, np.float32).reshape(-1, 9)
    boxes = np.array(objects, np.float32).reshape(-1, 4)
    if not (np.isfinite(rows).all() and np.isfinite(boxes).all()):
        raise DataError(f"{path}: a box has a value that is no number; fetch the file again.")
    side, state = (rows[:, column].astype(np.int64) for column in (5, 6))
    return (
        frame_numbers,
        Hands(np.array(of_hands, np.int64), rows[:, :4].clip(0, 1), rows[:, 4], side, state, rows[:, 7:]),
        Objects(np.array(of_objects, np.int64), boxes.clip(0, 1)),
    )
