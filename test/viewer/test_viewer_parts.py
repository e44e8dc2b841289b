"""What the page is made of: board, painter, heat, tape deck, controls."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stage import MUSCLES, T0, activity, face, micro, movement_level, picture

from eifer_ros.component import Emission
from eifer_ros.emg.montage import FRIDLUND
from eifer_ros.errors import InputError, RecordingError
from eifer_ros.head import projection
from eifer_ros.head.model import load_head, rotation_matrix
from eifer_ros.render import rasteriser as raster
from eifer_ros.types import NS, FaceState, Frame, Item, Marker, MuscleActivity
from eifer_ros.viewer import demonstrate, geometry, heat
from eifer_ros.viewer.board import HISTORY, Board, Trace
from eifer_ros.viewer.controls import ArmControl, CalibrateControl, RecordControl
from eifer_ros.viewer.paint import HeadPainter
from eifer_ros.viewer.pictures import Picture, Pictures
from eifer_ros.viewer.player import BagPlayer
from eifer_ros.viewer.server import Viewer
from eifer_ros.viewer.view_config import ViewConfig

TWO = ("masseter_right", "masseter_left")


@given(st.lists(st.integers(1, 400), min_size=1, max_size=12))
def test_a_trace_gives_each_reader_every_instant_once_however_it_asks(reads: list[int]) -> None:
    trace = Trace()
    epoch, cursor, number = -1, 0, 0
    for count in reads:
        fed = []
        for _ in range(count):
            number += 1
            fed.append(T0 + number * NS // 100)
            trace.add(activity(fed[-1], number * 1e-6, muscles=TWO))
        rows = trace.since(epoch, cursor)
        epoch, cursor = rows.epoch, rows.cursor
        assert rows.stamps.tolist() == fed
        np.testing.assert_allclose(
            rows.envelope[:, 0], np.arange(number - count + 1, number + 1) * 1e-6, rtol=1e-6
        )


def test_a_reader_that_comes_late_gets_what_is_kept_and_no_more() -> None:
    trace = Trace()
    for number in range(HISTORY + 37):
        trace.add(activity(T0 + number * NS // 100, 1e-6, muscles=TWO))
    rows = trace.since(-1, 0)
    assert len(rows.stamps) == HISTORY
    assert rows.stamps[0] == T0 + 37 * NS // 100


def test_time_going_back_or_other_channels_begin_a_trace_anew() -> None:
    trace = Trace()
    trace.add(activity(T0 + 5 * NS, muscles=TWO))
    first = trace.since(-1, 0)
    trace.add(activity(T0 + 5 * NS - 1000, muscles=TWO))  # merely late: left out
    assert len(trace.since(first.epoch, first.cursor).stamps) == 0
    trace.add(activity(T0, muscles=TWO))
    again = trace.since(first.epoch, first.cursor)
    assert again.epoch != first.epoch and again.stamps.tolist() == [T0]
    trace.add(activity(T0 + NS, muscles=TWO[:1]))
    assert trace.since(again.epoch, again.cursor).envelope.shape == (1, 1)


def test_rates_follow_the_last_seconds() -> None:
    now = [100.0]
    board = Board(monotonic=lambda: now[0], wall=lambda: T0 + 40_000_000)
    for _ in range(90):
        now[0] += 0.02
        board.take("emg/activity", activity(T0, muscles=TWO))
    assert board.rates()["emg/activity"] == pytest.approx(50.0, rel=0.02)
    assert board.age_ms("emg/activity") == pytest.approx(40.0)
    now[0] += 10
    assert board.rates()["emg/activity"] == 0.0
    assert board.newest("emg/activity", within_s=1.0) is None and board.newest("emg/activity") is not None


def test_every_reader_gets_each_micro_expression_once_and_true_ones_are_not_shown() -> None:
    board = Board()
    for number in range(3):
        board.take("face/events", micro(T0 + number * NS))
        board.take("truth/events", micro(T0 + number * NS))
    count, first = board.events(0)
    assert (count, [event.stamp for event in first]) == (3, [T0, T0 + NS, T0 + 2 * NS])
    board.take("face/events", micro(T0 + 9 * NS))
    assert [event.stamp for event in board.events(count)[1]] == [T0 + 9 * NS]
    assert board.events(4) == (4, [])
    board.clear()
    assert board.events(4) == (0, [])


def test_the_painter_draws_the_head_where_the_rasteriser_sees_it() -> None:
    head = load_head()
    painter = HeadPainter(head, (160, 160))
    vertices = head.vertices()
    image = painter.paint(vertices)
    pose = projection.facing_pose(0.9, centre=painter.centre)
    seen, _, _ = raster.rasterise(projection.project(vertices, pose, painter._K), head.faces, 160, 160)
    # skin is far from the backdrop in red minus blue; edges differ by a pixel of softening
    skin = image[:, :, 0].astype(int) - image[:, :, 2] > 18
    assert np.mean(skin == (seen >= 0)) > 0.97


def test_turning_the_head_moves_the_nose_to_that_side() -> None:
    head = load_head()
    painter = HeadPainter(head, (160, 160))
    front = painter.paint(head.vertices(), projection.FACING).astype(int)
    left = painter.paint(head.vertices(), projection.FACING @ rotation_matrix([0.0, 0.4, 0.0])).astype(int)
    again = painter.paint(head.vertices(), None).astype(int)
    assert np.abs(front - again).mean() < 12  # the same view, give or take where it turns
    assert np.abs(front - left).mean() > 4


def test_only_eyes_turned_is_the_same_as_skinning_the_whole_head() -> None:
    head = load_head()
    state = face(T0, mouthSmileLeft=0.7, jawOpen=0.3)
    values = {name: getattr(state, name) for name in state.__slots__}
    eyes = np.array([[0.1, 0.2, 0.0], [0.05, -0.1, 0.0]], np.float32)
    turned = FaceState(**(values | {"eyes": eyes}))
    np.testing.assert_allclose(
        HeadPainter(head, (16, 16)).vertices(turned), head.state_vertices(turned), atol=2e-4
    )


def test_bending_the_face_is_the_head_models_own_sum() -> None:
    head, rng = load_head(), np.random.default_rng(4)
    for _ in range(3):
        weights = dict(
            zip(head.expression_names, rng.uniform(0, 1, head.expression_size).tolist(), strict=True)
        )
        state = face(T0, **weights)
        # 52 coefficients, each of which may leave out two micrometres
        np.testing.assert_allclose(
            HeadPainter(head, (16, 16)).vertices(state), head.vertices(None, state.expression), atol=52 * 2e-6
        )


def test_a_picture_does_not_depend_on_the_one_before() -> None:
    head = load_head()
    used, fresh = HeadPainter(head, (120, 120)), HeadPainter(head, (120, 120))
    used.paint(head.vertices(), projection.FACING @ rotation_matrix([0.3, 1.2, 0.0]))
    state = face(T0, jawOpen=1.0)
    np.testing.assert_array_equal(used.paint(used.vertices(state)), fresh.paint(fresh.vertices(state)))


def test_two_pages_at_once_share_each_picture() -> None:
    board = Board()
    pictures = Pictures(board, "open_head", size=(64, 64))
    board.take("face/fused", face(T0))
    board.take("emg/activity", activity(T0))
    board.take("camera/image_raw", picture(T0))
    kinds = {"face": 0.0, "muscles": 0.0, "camera": 0.0, "restored": 0.0}

    async def look() -> tuple[dict[str, Picture], dict[str, Picture], dict[str, Picture]]:
        first, second = await asyncio.gather(pictures.get(kinds), pictures.get({"camera": 0.0, "face": 0.0}))
        board.take("camera/image_raw", picture(T0 + NS))
        return first, second, await pictures.get(kinds)

    try:
        first, second, later = asyncio.run(look())
    finally:
        pictures.close()
    assert set(first) == {"face", "muscles", "camera"}  # nothing restored has come
    assert {kind: p.number for kind, p in second.items()} == {kind: first[kind].number for kind in second}
    # what has not changed is not painted again
    assert later["face"].number == first["face"].number and later["camera"].number > first["camera"].number
    assert later["camera"].stamp == T0 + NS


def test_the_pipeline_wakes_a_page_only_where_one_waits() -> None:
    class Loop:
        woken = 0

        def call_soon_threadsafe(self, call: object) -> None:
            self.woken += 1

    viewer, loop = Viewer(ViewConfig(port=0)), Loop()
    viewer._loop = loop  # type: ignore[assignment]
    for step in range(5):
        viewer.take("face/fused", face(T0 + step))
    assert (loop.woken, viewer.version) == (0, 5)
    viewer.listeners = 1
    for step in range(5):
        viewer.take("face/fused", face(T0 + step))
    assert loop.woken == 1  # it is on its way; more would not make it faster


def test_a_lost_face_is_the_resting_head() -> None:
    head = load_head()
    state = face(T0)
    lost = FaceState.lost(T0, head.id, state.origin, head.shape_size, head.expression_size)
    np.testing.assert_array_equal(HeadPainter(head, (16, 16)).vertices(lost), head.template)


def test_each_muscle_warms_its_own_side_of_the_face() -> None:
    head = load_head()
    warmth = heat.weights(head, "fridlund", MUSCLES)
    assert warmth.max(axis=0).min() > 0.8  # every muscle reaches some skin
    assert (warmth[head.parts != 0] == 0).all()
    for index, muscle in enumerate(MUSCLES):
        place = np.average(head.template[:, 0], weights=warmth[:, index])
        assert (place > 0) == muscle.endswith("_left"), muscle


def test_heat_grows_brighter_with_activity_and_leaves_unknown_cold() -> None:
    levels = heat.ink(np.linspace(0, 1, 30)) @ [0.299, 0.587, 0.114]
    assert (np.diff(levels) > -0.012).all() and levels[-1] - levels[0] > 0.4
    np.testing.assert_array_equal(heat.ink(np.nan), heat.ink(0.0))
    assert (heat.weights(load_head(), "plain", ("ch 1",)) == 0).all()


def test_the_demonstration_of_a_smile_smiles_and_of_rest_rests() -> None:
    head = load_head()
    smile = dict(zip(head.expression_names, demonstrate.expression(head, "Smile-Open"), strict=True))
    assert smile["mouthSmileLeft"] > 0.5 and smile["mouthSmileRight"] > 0.5
    assert np.abs(demonstrate.expression(head, "Face-At-Rest")).max() < 1e-6
    assert demonstrate.picture(head, "Smile-Open", (60, 60))[:2] == b"\xff\xd8"


def test_the_packed_head_is_the_head() -> None:
    import json

    head = load_head()
    shape = np.linspace(-1, 1, head.shape_size).astype(np.float32)
    block = geometry.head_block(head, shape)
    length = int.from_bytes(block[:4], "little")
    header = json.loads(block[4 : 4 + length])
    at, arrays = 4 + length, {}
    for entry in header["arrays"]:
        dtype = np.dtype(f"<{entry['type']}")
        count = int(np.prod(entry["shape"]))
        assert at % 4 == 0
        arrays[entry["name"]] = np.frombuffer(block, dtype, count, at).reshape(entry["shape"])
        at += -(-count * dtype.itemsize // 4) * 4
    assert at == len(block)
    weights = np.random.default_rng(0).uniform(0, 1, head.expression_size).astype(np.float32)
    ours = arrays["vertices"] + 1e-4 * np.einsum("e,evk->vk", weights, arrays["basis"].astype(np.float32))
    np.testing.assert_allclose(ours, head.vertices(shape, weights), atol=2e-5)


# ---- tape deck -----------------------------------------------------------------------------------------------------------


class Deck:
    """A player in a thread; `seen` are the items."""

    def __init__(self, bag: Path, **options: bool) -> None:
        self.seen: list[tuple[str, object]] = []
        self.news = threading.Condition()
        self.player = BagPlayer(bag, **options)
        self.player.setup()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        for port, item in self.player.produce():
            with self.news:
                self.seen.append((port, item))
                self.news.notify_all()

    def until(self, condition) -> None:
        with self.news:
            assert self.news.wait_for(lambda: condition(self), 60)

    def last_s(self) -> float:
        return max((item.stamp - T0) / NS for _, item in self.seen[-20:]) if self.seen else -1.0

    def close(self) -> None:
        self.player.stop()
        self._thread.join(120)
        assert not self._thread.is_alive()


def test_a_paused_recording_shows_the_moment_it_is_wound_to(bag: Path) -> None:
    deck = Deck(bag, playing=False)
    try:
        deck.player.seek(5.0)
        deck.until(
            lambda d: any(isinstance(i, Frame) and abs((i.stamp - T0) / NS - 5) < 0.1 for _, i in d.seen)
        )
        faces = [i for _, i in deck.seen if isinstance(i, FaceState)]
        smile = load_head().expression_names.index("mouthSmileLeft")
        assert faces[-1].expression[smile] == 1.0
        frames = [i for _, i in deck.seen if isinstance(i, Frame) and (i.stamp - T0) / NS > 3]
        assert len(frames) == 1  # the pictures on the way are not shown
        deck.seen.clear()
        deck.player.seek(1.0)
        deck.until(
            lambda d: any(isinstance(i, Frame) and abs((i.stamp - T0) / NS - 1) < 0.1 for _, i in d.seen)
        )
        assert deck.last_s() < 1.05
    finally:
        deck.close()


def test_a_recording_plays_to_its_end_and_loops_when_told(bag: Path) -> None:
    deck = Deck(bag)
    try:
        deck.player.command("speed", {"factor": 8})
        deck.until(lambda d: d.last_s() > 7.98)
        with deck.news:
            deck.seen.clear()
        deck.player.command("loop", {"on": True})
        deck.player.play()
        deck.until(lambda d: d.seen and d.last_s() < 2.0)
        assert not deck.player.state()["ended"]
    finally:
        deck.close()


def test_the_deck_knows_what_is_recorded_and_refuses_nonsense(bag: Path, tmp_path: Path) -> None:
    player = BagPlayer(bag)
    player.setup()
    assert player.duration_s == pytest.approx(8.0, abs=0.05)
    assert [(m.label, m.phase) for m in player.markers] == [("Smile-Open", "start"), ("Smile-Open", "end")]
    for verb, values in (
        ("seek", {}),
        ("seek", {"position_s": "x"}),
        ("seek", {"position_s": float("nan")}),
        ("seek", {"position_s": True}),
        ("speed", {"factor": 0}),
        ("rewind", {}),
    ):
        with pytest.raises(InputError, match="player"):
            player.command(verb, values)
    with pytest.raises(RecordingError, match="no such recording"):
        BagPlayer(tmp_path / "none").setup()


# ---- controls ------------------------------------------------------------------------------------------------------------


def test_a_recording_from_the_page_begins_with_what_was_said_before_it(tmp_path: Path) -> None:
    from eifer_ros.recording.reader import read

    control = RecordControl(tmp_path, {"participant": "P2"}, clock=lambda: T0)
    control.take("head_model", load_head().info(T0 - NS))
    control.command("start", {})
    with pytest.raises(InputError, match="already"):
        control.command("start", {})
    control.take("face/fused", face(T0))
    control.command("mark", {"label": "x" * 900})
    control.command("stop", {})
    with pytest.raises(InputError, match="nothing"):
        control.command("stop", {})
    with pytest.raises(InputError, match="not a command"):
        control.command("pause", {})
    items = list(read(control.written[0]))
    assert {topic for _, topic, _ in items} == {"head_model", "face/fused", "markers"}
    assert max(len(item.label) for _, _, item in items if isinstance(item, Marker)) == 200
    control.command("start", {})  # a second one in the same second gets a name of its own
    control.close()
    assert len(set(control.written)) == 2


def test_a_calibration_from_the_page_is_saved_and_used(tmp_path: Path) -> None:
    now, rng = [T0], np.random.default_rng(3)
    control = CalibrateControl(tmp_path, clock=lambda: now[0])
    with pytest.raises(InputError, match="no EMG"):
        control.command("start", {})
    control.take("emg/activity", activity(T0))
    for bad in ({"movements": 5}, {"repetitions": 0}, {"repetitions": "x"}, {"movements": ["Dance"]}):
        with pytest.raises(InputError):
            control.command("start", bad)
    control.command("start", {"movements": ["Smile-Open", "Forehead"], "participant": "P9"})
    seen = set()
    while control.state()["running"]:
        now[0] += NS // 100
        state = control.state()
        seen.add((state["movement"], state["phase"]))
        control.take("emg/activity", activity(now[0], movement_level(state["movement"], state["phase"], rng)))
        control.turn()
    state = control.state()
    assert state["phase"] == "done", state
    assert ("Forehead", "perform") in seen and Path(state["file"]).is_file()
    assert [take["accepted"] for take in state["takes"]] == [True, True, True]


def test_arming_is_refused_unless_the_question_was_asked_just_before() -> None:
    class Robot:
        armed = 0

        def arm(self) -> tuple[bool, str]:
            self.armed += 1
            return True, "armed"

        def release(self) -> tuple[bool, str]:
            return True, "released"

        def stop(self) -> tuple[bool, str]:
            return True, "stopped"

        def clear_stop(self) -> tuple[bool, str]:
            return False, "not stopped"

    now, robot = [0.0], Robot()
    control = ArmControl(robot, "face", monotonic=lambda: now[0])
    with pytest.raises(InputError, match="confirmed"):
        control.command("arm", {})
    control.command("ask", {})
    now[0] += 60
    with pytest.raises(InputError, match="confirmed"):
        control.command("arm", {})
    control.command("ask", {})
    assert control.command("arm", {}) == "armed"
    with pytest.raises(InputError, match="confirmed"):
        control.command("arm", {})  # one answer arms once
    with pytest.raises(InputError, match="not stopped"):
        control.command("clear", {})
    assert robot.armed == 1


def test_everything_the_stage_makes_is_what_it_says() -> None:
    assert FRIDLUND.muscles == MUSCLES
    assert isinstance(activity(T0), MuscleActivity) and picture(T0).size == (160, 120)


# ---- the job -------------------------------------------------------------------------------------------------------------


def test_a_view_of_nothing_and_of_two_things_at_once_is_refused_in_words(bag: Path, tmp_path: Path) -> None:
    from eifer_ros.pipeline import Request
    from eifer_ros.workflows.view import view

    with pytest.raises(InputError, match="nothing to view"):
        view(None)
    with pytest.raises(InputError, match="no such recording"):
        view(str(tmp_path / "monday"))
    with pytest.raises(InputError, match="not both"):
        view(str(bag), Request(camera="webcam:0"))


def test_an_estimator_is_chosen_by_name_and_other_names_are_refused() -> None:
    from eifer_ros.reconstruction.face_reconstruction import Reconstruction, ReconstructionConfig
    from eifer_ros.viewer.live_page import SwitchableReconstruction

    estimator = SwitchableReconstruction()
    assert estimator.state()["chosen"] == ReconstructionConfig().estimator in estimator.choices
    for name in estimator.choices:  # every name on the page is one that the reconstruction takes
        assert ReconstructionConfig(estimator=name).estimator == name
    assert estimator.command("choose", {"name": estimator.choices[0]})
    for verb, values in (
        ("choose", {}),
        ("choose", {"name": "tarot"}),
        ("guess", {"name": estimator.choices[0]}),
    ):
        with pytest.raises(InputError, match="choose one of"):
            estimator.command(verb, values)
    assert (estimator.inputs, estimator.outputs) == (Reconstruction.inputs, Reconstruction.outputs)


def test_the_face_is_restored_only_while_a_page_is_open() -> None:
    from eifer_ros.reconstruction.face_reconstruction import Reconstruction
    from eifer_ros.viewer.live_page import SwitchableReconstruction

    class Counting(Reconstruction):
        wanted: frozenset[str] = frozenset()

        def set_subscribed(self, subscribed: frozenset[str]) -> None:
            self.wanted = subscribed

        def handle(self, port: str, item: Item) -> list[Emission]:
            return []

    inner = Counting()
    estimator = SwitchableReconstruction.around(inner)
    estimator.set_subscribed(frozenset({"face/vision"}))
    assert inner.wanted == {"face/vision"}
    seen = []
    for number, pages in enumerate((0, 1, 1, 1, 1, 2, 0)):
        estimator.set_page_count(pages)
        list(estimator.handle("camera/image_raw", picture(T0 + number * NS // 30)))
        seen.append("face/restored" in inner.wanted)
    # every third picture of 30 Hz: the page shows no more
    assert seen == [False, True, False, False, True, False, False]
