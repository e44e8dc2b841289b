"""Random items of the domain for property-based tests."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation

from eifer_ros import types as t

stamps = st.integers(0, (2**31 - 1) * t.NS)
words = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=12)


def floats(
    shape: Any, low: float = -1e3, high: float = 1e3, dtype: type = np.float32, nan: bool = False
) -> st.SearchStrategy[Any]:
    width = 32 if dtype is np.float32 else 64
    low, high = float(np.float32(low)), float(np.float32(high))
    numbers = st.floats(low, high, width=width, allow_subnormal=False)
    return hnp.arrays(dtype, shape, elements=st.one_of(numbers, st.just(float("nan"))) if nan else numbers)


@st.composite
def chunks(draw: st.DrawFn) -> t.EmgChunk:
    count, channels = draw(st.integers(0, 12)), draw(st.lists(words, min_size=1, max_size=6))
    return t.EmgChunk(
        draw(stamps),
        draw(st.floats(1.0, 20000.0)),
        tuple(channels),
        draw(floats((count, len(channels)), -0.1, 0.1)),
        draw(st.integers(0, 2**40)),
        draw(st.integers(0, 2**20)),
        draw(floats(count if draw(st.booleans()) else 0, 0, 1e6, np.float64)),
    )


@st.composite
def channel_infos(draw: st.DrawFn) -> t.EmgChannelInfo:
    count = draw(st.integers(1, 30))
    names = draw(st.lists(words, min_size=count, max_size=count))
    return t.EmgChannelInfo(
        draw(stamps),
        tuple(names),
        tuple(reversed(names)),
        draw(words),
        draw(words),
        draw(st.floats(1.0, 20000.0)),
        draw(floats((count, 2), -100, 100, nan=True)),
    )


@st.composite
def activities(draw: st.DrawFn) -> t.MuscleActivity:
    count = draw(st.integers(0, 30))
    return t.MuscleActivity(
        draw(stamps),
        draw(words),
        tuple(draw(st.lists(words, min_size=count, max_size=count))),
        draw(floats(count, 0, 0.01, nan=True)),
        draw(floats(count, 0, 1, nan=True)),
        draw(floats(count, 0, 1, nan=True)),
        draw(st.sampled_from(t.MuscleOrigin)),
        draw(words),
    )


@st.composite
def poses(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    if draw(st.booleans()):
        return np.full((4, 4), np.nan)
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec(draw(floats(3, -3.0, 3.0, np.float64))).as_matrix()
    pose[:3, 3] = draw(floats(3, -5, 5, np.float64))
    return pose


@st.composite
def faces(draw: st.DrawFn) -> t.FaceState:
    shape, expression = draw(st.integers(0, 300)), draw(st.integers(0, 100))
    if draw(st.integers(0, 9)) == 0:
        return t.FaceState.lost(
            draw(stamps), draw(words), draw(st.sampled_from(t.FaceOrigin)), shape, expression
        )
    kept = [status for status in t.FaceStatus if status != t.FaceStatus.LOST]
    return t.FaceState(
        draw(stamps),
        draw(words),
        draw(st.sampled_from(t.FaceOrigin)),
        draw(floats(shape, -5, 5)),
        draw(floats(expression, -3, 3)),
        draw(floats(expression, 0, 3, nan=True)),
        draw(floats(3, -1, 1)),
        draw(floats(3, -1, 1)),
        draw(floats((2, 3), -1, 1)),
        draw(floats(2, 0, 1)),
        draw(poses()),
        draw(st.floats(0, 1, width=32)),
        draw(st.sampled_from(kept)),
    )


@st.composite
def blendshapes(draw: st.DrawFn) -> t.Blendshapes:
    return t.Blendshapes(draw(stamps), draw(floats(52, 0, 1)))


@st.composite
def head_infos(draw: st.DrawFn) -> t.HeadModelInfo:
    count = draw(st.integers(0, 100))
    lower = draw(floats(count, -3, 0))
    return t.HeadModelInfo(
        draw(stamps),
        draw(words),
        draw(st.integers(0, 300)),
        tuple(draw(st.lists(words, min_size=count, max_size=count))),
        lower,
        lower + draw(floats(count, 0, 3)),
        draw(st.integers(0, 2**31)),
        draw(st.integers(0, 2**31)),
        draw(words),
        draw(words),
    )


@st.composite
def joints(draw: st.DrawFn) -> t.JointTargets:
    names = draw(st.lists(words, min_size=1, max_size=24))
    return t.JointTargets(
        draw(stamps), tuple(names), draw(floats(len(names), -3, 3, np.float64)), np.full(len(names), np.nan)
    )


@st.composite
def markers(draw: st.DrawFn) -> t.Marker:
    return t.Marker(
        draw(stamps),
        draw(words),
        draw(st.sampled_from(t.MARKER_PHASES)),
        draw(st.text(max_size=20).filter(lambda s: "\0" not in s)),
    )


@st.composite
def frames(draw: st.DrawFn) -> t.Frame:
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 24))
    matrix = np.array(
        [
            [draw(st.floats(10, 2000)), 0, draw(st.floats(0, 500))],
            [0, draw(st.floats(10, 2000)), draw(st.floats(0, 500))],
            [0, 0, 1],
        ]
    )
    return t.Frame(
        draw(stamps),
        draw(hnp.arrays(np.uint8, (height, width, 3))),
        matrix if draw(st.booleans()) else None,
        draw(floats((height, width), 0, 9)) if draw(st.booleans()) else None,
        draw(words),
    )


@st.composite
def displacements(draw: st.DrawFn) -> t.FaceDisplacement:
    counts = draw(hnp.arrays(np.int16, (draw(st.integers(0, 20)), 3), elements=st.integers(-32767, 32767)))
    return t.FaceDisplacement(
        draw(stamps),
        draw(words),
        draw(st.sampled_from(t.FaceOrigin)),
        (counts * 1e-5).astype(np.float32),
        draw(st.floats(0, 1, width=32)),
    )


@st.composite
def events(draw: st.DrawFn) -> t.FaceEvent:
    onset, apex, offset = sorted(draw(st.lists(stamps, min_size=3, max_size=3)))
    regions = tuple(draw(st.lists(st.sampled_from(t.EVENT_REGIONS), unique=True)))
    classes = tuple(draw(st.lists(words, max_size=32, unique=True)))
    number = st.floats(-1e3, 1e3, width=32, allow_subnormal=False)
    return t.FaceEvent(
        apex,
        onset,
        offset,
        regions[0] if regions else "",
        regions,
        draw(st.sampled_from((*classes, t.UNKNOWN_LABEL))),
        classes,
        draw(floats(len(classes), 0, 1)),
        draw(number),
        draw(st.sampled_from(t.FaceOrigin)),
        draw(st.one_of(number, st.just(float("nan")))),
    )


items = st.one_of(
    chunks(),
    channel_infos(),
    activities(),
    faces(),
    blendshapes(),
    head_infos(),
    joints(),
    markers(),
    displacements(),
    events(),
)
