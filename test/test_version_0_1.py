"""Recordings and mappings that version 0.1 wrote are still read, and say the same.

`v0_1/` was written by version 0.1.0 itself: a second of a simulated session with an item of every topic, a
mapping fitted to one, and what that mapping predicted for random rows.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from eifer_ros.emg.montage import FRIDLUND
from eifer_ros.mapping.mapping import Mapping
from eifer_ros.pipeline import Pipeline
from eifer_ros.recording.reader import Bag, read
from eifer_ros.recording.streams import PORTS

FILES = Path(__file__).parent / "v0_1"


def test_every_item_of_a_recording_is_read() -> None:
    counts = Counter(topic for _, topic, _ in read(FILES / "recording"))
    assert counts == {
        "head_model": 1,
        "emg/raw_channels": 1,
        "emg/raw": 8,
        "truth/muscles": 100,
        "truth/face": 30,
        "face/vision": 30,
        "face/vision_fine": 30,
        "face/emg": 30,
        "face/fused": 30,
        "truth/movement": 1,
        "camera/image_raw": 1,
        "face/blendshapes": 1,
        "face/displacement": 1,
        "face/events": 1,
        "animatronic/joint_trajectory": 1,
        "markers": 1,
    }
    assert set(counts) <= {port.name for port in PORTS}
    with Bag(FILES / "recording") as bag:
        assert bag.session["participant"] == "simulated 7"
        assert not bag.foreign


def test_a_mapping_predicts_what_it_predicted() -> None:
    mapping = Mapping.load(FILES / "mapping.npz")
    assert mapping.muscles == FRIDLUND.muscles and mapping.head_model == "open_head"
    expected = np.load(FILES / "predictions.npz")
    np.testing.assert_allclose(
        mapping.emg2exp.predict(expected["activations"]), expected["expression"], atol=1e-6
    )
    np.testing.assert_allclose(mapping.exp2emg.predict(expected["faces"]), expected["muscles"], atol=1e-6)


def test_its_recording_and_its_mapping_run_together_today() -> None:
    built = Pipeline.from_config(
        components=("replay", "emg"),
        values={"replay": {"path": str(FILES / "recording"), "topics": ["emg/raw"]}},
    )
    activity = []
    built.host.tap(lambda port, item: activity.append(item), "emg/activity")
    built.setup()
    built.run()
    built.close()
    assert len(activity) > 50
    assert activity[-1].muscles == FRIDLUND.muscles
