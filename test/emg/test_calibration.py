import dataclasses
import itertools

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from eifer_ros.emg.calibration import Calibration, calibrate_recording
from eifer_ros.emg.calibration_session import CalibrationSession
from eifer_ros.emg.emg_processing import EmgProcessing
from eifer_ros.emg.montage import FRIDLUND, KURAMOTO, plain_scheme
from eifer_ros.emg.protocol import PROTOCOL, REST, Span, expected_channels, movement_named, spans
from eifer_ros.emg.takes import Take
from eifer_ros.errors import InputError
from eifer_ros.types import EmgChunk, Marker, MuscleActivity

NS = 1_000_000_000
T0 = 1_800_000_000 * NS
STEP = 20_000_000
REST_V = 5e-6
ACTIVE_V = 80e-6


def activity(stamp, movement, muscles=FRIDLUND.muscles, scheme=FRIDLUND, *, rng, weak=(), dead=()):
    """One instant of a face that makes `movement` (None: at rest)."""
    level = np.full(len(muscles), REST_V)
    if movement is not None and movement not in weak:
        level[expected_channels(movement_named(movement), scheme, muscles)] = ACTIVE_V
    level = level * rng.uniform(0.9, 1.1, len(muscles))
    quality = np.where([muscle in dead for muscle in muscles], 0.1, 1.0)
    nan = np.full(len(muscles), np.nan)
    return MuscleActivity(stamp, scheme.name, tuple(muscles), level, nan, quality)


def recording(names=tuple(movement.name for movement in PROTOCOL), seed=0, **options):
    """Items and markers of a protocol with 3 s per movement and 2 s between."""
    rng = np.random.default_rng(seed)
    items, markers, stamp = [], [], T0
    for name in names:
        for seconds, what in ((2.0, None), (3.0, name)):
            start = stamp
            while stamp < start + seconds * NS:
                items.append(activity(stamp, what, rng=rng, **options))
                stamp += STEP
            if what:
                markers.append(Span(name, start, stamp))
    return items, markers


def run(
    session,
    react=lambda prompt: prompt.movement if prompt.phase == "perform" else None,
    limit_s=600,
    **options,
):
    """Play a participant who does what `react` says, in simulated time; returns all phases seen."""
    rng = np.random.default_rng(1)
    prompts, now = [], T0
    prompt = session.update(now)
    while not session.finished and now < T0 + limit_s * NS:
        doing = react(prompt)
        # items reach the session 60 ms after their instant
        items = [activity(now - 60_000_000, doing, rng=rng, **options)] if doing != "silence" else []
        now += STEP
        prompt = session.update(now, items)
        if not prompts or (prompt.movement, prompt.phase) != (prompts[-1].movement, prompts[-1].phase):
            prompts.append(prompt)
    return prompts


def test_the_protocol_is_the_eleven_functional_movements_in_order():
    assert [movement.name for movement in PROTOCOL] == [
        "Face-At-Rest",
        "Forehead",
        "Eye-Gentle",
        "Eye-Tight",
        "Nose-Pucker",
        "Smile-Closed",
        "Smile-Open",
        "Lip-Pucker",
        "Cheeks",
        "Snarl",
        "Depress-Lip",
    ]
    known = {muscle.rsplit("_", 1)[0] for muscle in FRIDLUND.muscles}
    assert all(set(movement.muscles) <= known for movement in PROTOCOL)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("-Smile-Closed", "Smile-Closed"),
        ("Inflate-Cheeks", "Cheeks"),
        ("eye_tight", "Eye-Tight"),
        ("face at rest", REST),
        ("happy", None),
    ],
)
def test_movements_are_known_by_every_spelling_of_the_data_sets(word, name):
    found = movement_named(word)
    assert (found.name if found else None) == name


def test_channels_without_muscle_names_are_expected_by_place():
    forehead = movement_named("Forehead")
    named = [KURAMOTO.names[i] for i in expected_channels(forehead, KURAMOTO, KURAMOTO.names)]
    assert set(named) == {"K1", "K2", "K3", "K4"}
    assert expected_channels(forehead, plain_scheme(["a"]), ["a"]) == []


def test_a_recording_gives_rest_and_full_scale_of_each_channel():
    items, markers = recording()
    calibration = calibrate_recording(items, markers)
    assert calibration.rest == pytest.approx(np.full(22, REST_V), rel=0.05)
    moved = np.array(
        [any(i in expected_channels(m, FRIDLUND, FRIDLUND.muscles) for m in PROTOCOL) for i in range(22)]
    )
    # the 99th percentile of a level that varies by +-10 % lies just below its top
    assert calibration.p99[moved] == pytest.approx(
        np.full(moved.sum(), np.sqrt((1.1 * ACTIVE_V) ** 2 - REST_V**2)), rel=0.03
    )
    assert calibration.dead == ()
    assert all(take.accepted for take in calibration.takes)
    assert len(calibration.takes) == 11


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 1e-2), st.floats(0, 1e-4), st.floats(1e-6, 1e-3))
def test_activation_is_the_formula_and_stays_in_its_range(e, rest, p99):
    calibration = Calibration("plain", "live", ("a",), np.array([rest]), np.array([p99]), T0)
    got = float(calibration.activation(np.array([e]))[0])
    assert 0.0 <= got <= 1.0
    assert got == pytest.approx(min(np.sqrt(max(e * e - rest * rest, 0.0)) / p99, 1.0), rel=1e-9)


def test_rest_gives_nothing_and_the_strongest_movement_gives_one():
    items, markers = recording()
    calibration = calibrate_recording(items, markers)
    still = np.array([calibration.activation(item.envelope) for item in items[:200]])
    assert np.median(still) < 0.05
    smile = next(marker for marker in markers if marker.movement == "Smile-Open")
    moving = np.array(
        [calibration.activation(i.envelope) for i in items if smile.start <= i.stamp < smile.end]
    )
    assert np.nanpercentile(moving[:, FRIDLUND.index("F19")], 99) > 0.97


def test_an_unused_muscle_is_weak_and_its_noise_is_not_stretched():
    items, markers = recording([REST, "Forehead"])
    calibration = calibrate_recording(items, markers)
    assert "zygomaticus_major_left" in calibration.weak
    index = calibration.muscles.index("zygomaticus_major_left")
    assert calibration.p99[index] >= calibration.rest[index] > 0.9 * REST_V
    assert "medial_frontalis_left" not in calibration.weak


def test_a_calibration_survives_the_file_and_the_file_is_readable(tmp_path):
    items, markers = recording(dead=["masseter_left"])
    made = calibrate_recording(items, markers, participant="P07", mains_hz=60.0)
    path = tmp_path / "sub" / "p07.yaml"
    made.save(path)
    read = Calibration.load(path)
    assert read.muscles == made.muscles
    assert np.allclose(read.rest, made.rest, rtol=1e-6, equal_nan=True)
    assert np.allclose(read.p99, made.p99, rtol=1e-6, equal_nan=True)
    assert (read.takes, read.weak, read.dead) == (made.takes, made.weak, ("masseter_left",))
    assert (read.participant, read.mains_hz, read.profile, read.scheme, read.stamp) == (
        "P07",
        60.0,
        "live",
        "fridlund",
        made.stamp,
    )
    tree = yaml.safe_load(path.read_text())
    assert tree["channels"]["masseter_left"] == {"rest_v": None, "p99_v": None, "state": "dead"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.clear(), "not an eifer calibration"),
        (lambda t: t.update(eifer_calibration=9), "format 9; this version reads format 1"),
        (lambda t: t.pop("channels"), "lacks the entry 'channels'"),
        (lambda t: t["channels"]["masseter_left"].pop("p99_v"), "lacks the entry 'p99_v'"),
        (
            lambda t: t["channels"]["masseter_left"].update(p99_v=-1.0),
            "masseter_left has rest .* P99 above 0",
        ),
        (lambda t: t["channels"]["masseter_left"].update(rest_v="much"), "wrong kind"),
        (lambda t: t.update(profile="loud"), "'loud' is not known"),
        (lambda t: t.update(channels=[1, 2]), "wrong kind"),
    ],
)
def test_a_damaged_file_is_refused_with_its_name_and_entry(tmp_path, change, says):
    items, markers = recording([REST, "Forehead"])
    path = tmp_path / "c.yaml"
    calibrate_recording(items, markers).save(path)
    tree = yaml.safe_load(path.read_text())
    change(tree)
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(InputError, match=rf"c\.yaml: .*{says}"):
        Calibration.load(path)


def test_a_missing_or_unparsable_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        Calibration.load(tmp_path / "none.yaml")
    (tmp_path / "x.yaml").write_text("a: [")
    with pytest.raises(InputError, match="not valid YAML"):
        Calibration.load(tmp_path / "x.yaml")


def test_another_profile_scheme_or_channel_is_refused_by_name():
    calibration = Calibration(
        "fridlund", "live", ("a", "b"), np.array([1e-6, 2e-6]), np.array([1e-4, 2e-4]), T0
    )
    with pytest.raises(InputError, match="profile 'live'; the stream uses 'rms100'"):
        calibration.matched("fridlund", "rms100", ("a", "b"))
    with pytest.raises(InputError, match="scheme 'fridlund'; the stream uses 'kuramoto'"):
        calibration.matched("kuramoto", "live", ("a", "b"))
    with pytest.raises(InputError, match="does not know c and expects b"):
        calibration.matched("fridlund", "live", ("a", "c"))
    turned = calibration.matched("fridlund", "live", ("b", "a"))
    assert np.array_equal(turned.rest, [2e-6, 1e-6])


def test_a_willing_participant_gets_through_the_protocol_without_a_repeat():
    session = CalibrationSession("fridlund", FRIDLUND.muscles)
    prompts = run(session)
    assert session.finished
    assert [p.movement for p in prompts if p.phase == "perform"] == [movement.name for movement in PROTOCOL]
    assert {p.phase for p in prompts} == {"prepare", "perform", "relax", "done"}
    assert all(b.progress >= a.progress for a, b in itertools.pairwise(prompts))
    assert prompts[-1].progress == 1.0
    calibration = session.result()
    assert calibration.rest == pytest.approx(np.full(22, REST_V), rel=0.05)
    assert calibration.weak == ()


def test_the_live_session_and_the_recording_agree():
    session = CalibrationSession("fridlund", FRIDLUND.muscles)
    kept = []
    update = session.update
    session.update = lambda now, items=(): (kept.extend(items), update(now, items))[1]
    run(session)
    after = calibrate_recording(kept, session.markers)
    assert np.allclose(after.rest, session.result().rest)
    assert np.allclose(after.p99, session.result().p99)


def test_a_weak_take_is_repeated_with_advice_and_then_accepted():
    session = CalibrationSession("fridlund", FRIDLUND.muscles)
    tries = []

    def react(prompt):
        if prompt.phase != "perform":
            return None
        if prompt.movement == "Forehead":
            key = len([take for take in session.takes if take.movement == "Forehead"])
            tries.append(key)
            return prompt.movement if key >= 1 else None
        return prompt.movement

    prompts = run(session, react)
    repeat = next(p for p in prompts if p.phase == "repeat")
    assert repeat.movement == "Forehead"
    assert "too weak" in repeat.advice
    assert "medial_frontalis" in repeat.advice
    assert [take.accepted for take in session.takes if take.movement == "Forehead"] == [False, True]
    assert session.result().muscles == FRIDLUND.muscles


def test_a_movement_that_never_succeeds_is_left_out_after_three_attempts():
    session = CalibrationSession("fridlund", FRIDLUND.muscles)
    run(session, weak=["Snarl"])
    assert [take.accepted for take in session.takes if take.movement == "Snarl"] == [False] * 3
    assert session.result().dead == ()
    assert len(session.markers) == 2 * 10


def test_a_face_that_moves_at_rest_is_asked_again():
    session = CalibrationSession("fridlund", FRIDLUND.muscles)

    def react(prompt):
        if prompt.phase == "perform" and prompt.movement == REST:
            return "Smile-Open" if not session.takes and prompt.remaining_s < 2.0 else None
        return prompt.movement if prompt.phase == "perform" else None

    prompts = run(session, react)
    repeat = next(p for p in prompts if p.phase == "repeat")
    assert "not at rest" in repeat.advice
    assert "zygomaticus_major" in repeat.advice
    assert session.result().rest == pytest.approx(np.full(22, REST_V), rel=0.1)


def test_a_dead_channel_is_asked_about_and_then_left_out_by_name():
    session = CalibrationSession("fridlund", FRIDLUND.muscles)
    prompts = run(session, dead=["mentalis_left"])
    assert any("poor contact at mentalis_left" in p.advice for p in prompts if p.phase == "repeat")
    calibration = session.result()
    assert calibration.dead == ("mentalis_left",)
    assert "mentalis_left" in prompts[-1].text
    assert np.isnan(calibration.activation(np.full(22, 1e-4))[FRIDLUND.index("mentalis_left")])


def test_silence_or_a_face_without_contact_fails_and_says_why():
    session = CalibrationSession("fridlund", FRIDLUND.muscles)
    prompts = run(session, lambda prompt: "silence")
    assert prompts[-1].phase == "failed"
    with pytest.raises(InputError, match="no EMG arrived"):
        session.result()
    session = CalibrationSession("fridlund", FRIDLUND.muscles)
    run(session, dead=FRIDLUND.muscles)
    with pytest.raises(InputError, match="no channel has contact"):
        session.result()
    session = CalibrationSession("fridlund", FRIDLUND.muscles)
    run(session, dead=FRIDLUND.muscles[:15])
    with pytest.raises(InputError, match="15 of 22 channels have no contact"):
        session.result()


def test_a_session_can_be_cancelled_and_has_no_result_before_its_end():
    session = CalibrationSession("fridlund", FRIDLUND.muscles)
    session.update(T0)
    with pytest.raises(InputError, match="not finished"):
        session.result()
    session.cancel("stopped by the operator")
    assert session.update(T0).phase == "failed"
    with pytest.raises(InputError, match="stopped by the operator"):
        session.result()


def test_chosen_movements_and_repetitions_are_done_and_unknown_ones_refused():
    session = CalibrationSession(
        "fridlund", FRIDLUND.muscles, movements=["snarl", "Smile-Open"], repetitions=2
    )
    prompts = run(session)
    assert [p.movement for p in prompts if p.phase == "perform"] == [
        REST,
        "Snarl",
        "Snarl",
        "Smile-Open",
        "Smile-Open",
    ]
    with pytest.raises(InputError, match="did you mean 'Snarl'"):
        CalibrationSession("fridlund", FRIDLUND.muscles, movements=["Snarll"])
    with pytest.raises(InputError, match="besides rest"):
        CalibrationSession("fridlund", FRIDLUND.muscles, movements=[REST])
    with pytest.raises(InputError, match="at least one channel"):
        CalibrationSession("fridlund", [])


def test_channels_that_change_during_a_session_end_it():
    session = CalibrationSession("plain", ("a", "b"))
    item = MuscleActivity(T0, "plain", ("a",), np.zeros(1), np.zeros(1), np.zeros(1))
    with pytest.raises(InputError, match="channels changed"):
        session.update(T0, [item])


def test_the_logarithmic_profile_is_judged_by_the_same_ratios():
    items, markers = recording([REST, "Eye-Gentle", "Smile-Open"])
    log = [
        dataclasses.replace(item, envelope=(1e-6 * np.log1p(item.envelope / 1e-6)).astype(np.float32))
        for item in items
    ]
    calibration = calibrate_recording(log, markers, profile="emg2face")
    assert all(take.accepted for take in calibration.takes)
    weak, markers = recording([REST, "Eye-Gentle", "Smile-Open"], weak=["Smile-Open"])
    log = [
        dataclasses.replace(item, envelope=(1e-6 * np.log1p(item.envelope / 1e-6)).astype(np.float32))
        for item in weak
    ]
    calibration = calibrate_recording(log, markers, profile="emg2face")
    assert [take.movement for take in calibration.takes if not take.accepted] == ["Smile-Open"]


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda items, markers: ([], markers), "no muscle activity"),
        (lambda items, markers: (items, []), "no marker names a movement"),
        (lambda items, markers: (items, [Span("Happy", T0, T0 + NS)]), "no marker names a movement"),
        (
            lambda items, markers: (items, [m for m in markers if m.movement != REST]),
            "no usable take of Face-At-Rest",
        ),
        (lambda items, markers: (items, markers[:1]), "no usable take of any movement"),
        (
            lambda items, markers: (
                items,
                [m._replace(start=m.start + 10**15, end=m.end + 10**15) for m in markers],
            ),
            "no EMG arrived",
        ),
        (
            lambda items, markers: ([*items, dataclasses.replace(items[-1], scheme="other")], markers),
            "change within the recording",
        ),
    ],
)
def test_a_recording_that_cannot_be_calibrated_says_what_is_missing(edit, says):
    items, markers = edit(*recording([REST, "Forehead"]))
    with pytest.raises(InputError, match=says):
        calibrate_recording(items, markers)


def test_an_electrode_that_lifts_during_one_recorded_take_costs_only_that_channel_that_take():
    items, markers = recording()
    smile = next(marker for marker in markers if marker.movement == "Smile-Open")
    lifted = FRIDLUND.index("F20")
    for k, item in enumerate(items):
        if smile.start <= item.stamp < smile.end or item.stamp < markers[0].start + 2 * NS:
            envelope, quality = item.envelope.copy(), item.quality.copy()
            envelope[lifted], quality[lifted] = 3e-3, 0.0
            items[k] = dataclasses.replace(item, envelope=envelope, quality=quality)
    calibration = calibrate_recording(items, markers)
    assert all(take.accepted for take in calibration.takes)
    assert calibration.dead == ()
    assert calibration.rest[lifted] == pytest.approx(REST_V, rel=0.1)
    assert calibration.p99[lifted] == pytest.approx(1.1 * ACTIVE_V, rel=0.05)


def test_emotional_movements_in_a_recording_are_passed_over():
    items, markers = recording([REST, "Forehead"])
    calibration = calibrate_recording(items, [*markers, Span("Happy", T0, T0 + NS)])
    assert {take.movement for take in calibration.takes} == {REST, "Forehead"}
    assert isinstance(calibration.takes[0], Take)


def test_start_and_end_markers_pair_by_label_and_loose_ones_say_nothing():
    markers = [
        Marker(5, "A", "start"),
        Marker(6, "B", "start"),
        Marker(7, "A", "end"),
        Marker(8, "C", "end"),
        Marker(9, "B", "start"),
        Marker(10, "B", "note"),
        Marker(12, "B", "end"),
        Marker(13, "A", "start"),
    ]
    assert spans(markers) == [("A", 5, 7), ("B", 9, 12)]
    assert spans([("A", 3, 4), Span("B", 1, 2)]) == [("B", 1, 2), ("A", 3, 4)]


def test_a_simulated_participant_can_be_calibrated_and_activation_follows_the_muscles():
    from eifer_ros.simulation.participant import Participant

    participant = Participant(
        7, program="calibration", rate_hz=2048.0, artefacts=("white", "mains", "wander")
    )
    seconds = 60.0
    samples = participant.emg(0.0, seconds)
    info = participant.channel_info()
    component = EmgProcessing()
    component.setup()
    items = []
    for start in range(0, len(samples), 64):
        stamp = participant.stamp(start / 2048.0)
        chunk = EmgChunk(stamp, 2048.0, info.channels, samples[start : start + 64], start)
        items += [e.item for e in component.handle("emg/raw", chunk) if e.port == "emg/activity"]
    calibration = calibrate_recording(items, participant.markers(0.0, seconds))
    refused = [take for take in calibration.takes if not take.accepted]
    assert refused == []
    assert calibration.dead == ()
    truth = [participant.muscles_at(participant.time(item.stamp) - 0.035) for item in items[200::5]]
    want = np.array([item.activation[[item.muscles.index(m) for m in calibration.muscles]] for item in truth])
    got = calibration.activation(np.array([item.envelope for item in items[200::5]]))
    used = [i for i, muscle in enumerate(calibration.muscles) if muscle not in calibration.weak]
    agreement = [np.corrcoef(got[:, i], want[:, i])[0, 1] for i in used]
    assert np.median(agreement) > 0.9
