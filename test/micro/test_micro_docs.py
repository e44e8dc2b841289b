"""The examples in docs/micro_expressions.md run as they stand."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from eifer_ros.micro.motion import MicroMotionEstimator, MicroResult
from eifer_ros.simulation.participant import Participant
from eifer_ros.types import FaceDisplacement, FaceOrigin

PAGE = Path(__file__).parents[2] / "docs" / "micro_expressions.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=[text.splitlines()[0] for text in EXAMPLES])
def test_an_example_runs_as_it_stands(example: str) -> None:
    person = Participant(290_060, program="rest", sensors=False, size=(240, 240))
    frame = person.frame_at(2.0)
    names = {
        "frame": frame,
        "face": replace(person.face_at(2.0), stamp=frame.stamp, origin=FaceOrigin.VISION),
    }
    exec(compile(example, PAGE.name, "exec"), names)
    if "MicroMotionEstimator" in example:
        motion, result = names["motion"], names["result"]
        assert isinstance(motion, MicroMotionEstimator) and isinstance(result, MicroResult)
        assert isinstance(result.field(motion.head), FaceDisplacement)


def test_the_page_shows_how_to_script_and_how_to_read_small_motion() -> None:
    assert len(EXAMPLES) >= 2
