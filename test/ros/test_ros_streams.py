from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ros_peer import ACTIVATE, CONFIGURE, DEACTIVATE, wait_for
from ros_toys import Toy, ToySource, Watcher, chunk, frame

from eifer_ros.hosts.ros_part import Part
from eifer_ros.types import NS, EmgChunk, Frame
from eifer_ros.wire import conversions, messages

TOY = (Part("toy", Toy),)
RAW, ACTIVITY = "/eifer/emg/raw", "/eifer/emg/activity"
CHUNK_TYPE, ACTIVITY_TYPE = "eifer_msgs/msg/EmgChunk", "eifer_msgs/msg/MuscleActivity"


def wire(item: Any, port: str) -> bytes:
    return messages.serialise(conversions.to_wire(item, port)[0].message)


def active(peer: Any, name: str, parts: Any, **overrides: Any) -> Any:
    host = peer.host(name, parts, **overrides)
    assert peer.change(name, CONFIGURE) and peer.change(name, ACTIVATE)
    return host


def test_an_item_arrives_as_it_was_sent_and_what_it_leads_to_is_published(peer: Any) -> None:
    host = active(peer, "toy", TOY)
    heard = peer.listen(ACTIVITY, ACTIVITY_TYPE)
    wait_for(lambda: host.outlets.topics["emg/activity"].subscribed, "the subscriber is known")
    sent = chunk(3, time.time_ns())
    peer.publisher(RAW, CHUNK_TYPE).publish(wire(sent, "emg/raw"))
    wait_for(lambda: heard, "an activity")
    (got,) = host.components["toy"].got
    assert isinstance(got, EmgChunk)
    assert np.array_equal(got.samples, sent.samples)
    assert (got.stamp, got.rate_hz, got.channels, got.first_index) == (
        sent.stamp,
        sent.rate_hz,
        sent.channels,
        sent.first_index,
    )
    assert heard[0].header.stamp.sec * NS + heard[0].header.stamp.nanosec == sent.stamp


def test_no_emg_is_lost_in_a_burst(peer: Any) -> None:
    host = active(peer, "toy", TOY)
    publisher = peer.publisher(RAW, CHUNK_TYPE)
    start = time.time_ns()
    for index in range(190):
        publisher.publish(wire(chunk(index, start + index * 8_000_000), "emg/raw"))
    wait_for(
        lambda: len(host.components["toy"].got) == 190,
        lambda: f"190 chunks, {len(host.components['toy'].got)} came",
    )
    assert [item.first_index for item in host.components["toy"].got] == [8 * index for index in range(190)]
    assert host.host.timing["toy"].dropped == 0


def test_the_newest_picture_wins_where_a_component_is_slow_and_drops_are_counted(peer: Any) -> None:
    Watcher.gate.clear()
    host = active(peer, "watcher", (Part("watcher", Watcher),))
    publisher = peer.publisher("/eifer/camera/image_raw", "sensor_msgs/msg/Image")
    start = time.time_ns()
    handled = host.inlets.topics["camera/image_raw"][0].traffic
    try:
        for index in range(20):
            publisher.publish(
                messages.serialise(
                    conversions.frame_to_wire(frame(start + index, index), "camera/image_raw")[-1].message
                )
            )
            wait_for(lambda index=index: handled.count > index, f"picture {index}")
    finally:
        Watcher.gate.set()
    got = host.components["watcher"].got
    wait_for(lambda: len(got) == 3, "the one in hand and the two newest")
    assert [int(item.image[0, 0, 0]) for item in got] == [0, 18, 19]
    assert host.host.timing["watcher"].dropped == 17


def broken(kind: str) -> Any:
    """An EmgChunk that breaks its contract, made by rosidl's own class."""
    made = messages.ros_class(CHUNK_TYPE)(rate_hz=1000.0, channels=["A", "B"], frames=2, samples=[1e-6] * 4)
    if kind == "nan":
        made.samples[2] = float("nan")
    elif kind == "size":
        made.frames = 3
    elif kind == "rate":
        made.rate_hz = 0.0
    elif kind == "stamp":
        made.header.stamp.nanosec = 2_000_000_000
    return made


@pytest.mark.parametrize(
    ("kind", "word"),
    [("nan", "samples[2] is NaN"), ("size", "frames x channels"), ("rate", "rate_hz"), ("stamp", "nanosec")],
)
def test_a_message_that_breaks_its_contract_is_refused_counted_and_reported(
    peer: Any, capfd: pytest.CaptureFixture[str], kind: str, word: str
) -> None:
    host = active(peer, "toy", TOY)
    told = peer.diagnostics()
    publisher = peer.publisher(RAW, CHUNK_TYPE)
    publisher.publish(broken(kind))
    publisher.publish(wire(chunk(0, time.time_ns()), "emg/raw"))
    wait_for(lambda: host.components["toy"].got, "the good one after the bad one")
    assert len(host.components["toy"].got) == 1
    traffic = host.inlets.topics["emg/raw"][0].traffic
    assert traffic.rejected == 1 and word in traffic.problem
    assert word in capfd.readouterr().err
    status = wait_for(
        lambda: (s := told.get("eifer/toy")) and s.message.startswith("1 messages refused") and s,
        "diagnostics",
    )
    assert {value.key: value.value for value in status.values}[f"{RAW} rejected"] == "1"


@pytest.mark.parametrize(
    ("encoding", "word"),
    [("yuv422", "Image.encoding is 'yuv422'"), ("16UC3", "encoding"), ("rgb8 with half its bytes", "holds")],
)
def test_a_picture_of_a_wrong_encoding_or_size_is_refused(peer: Any, encoding: str, word: str) -> None:
    Watcher.gate.set()
    host = active(peer, "watcher", (Part("watcher", Watcher),))
    size = 24 * 32 * 3 // (2 if "half" in encoding else 1)
    image = messages.ros_class("sensor_msgs/msg/Image")(
        height=24, width=32, step=96, encoding=encoding.split()[0], data=bytes(size)
    )
    peer.publisher("/eifer/camera/image_raw", "sensor_msgs/msg/Image").publish(image)
    traffic = host.inlets.topics["camera/image_raw"][0].traffic
    wait_for(lambda: traffic.rejected, "the refusal")
    assert word in traffic.problem and not host.components["watcher"].got


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8"])
def test_pictures_of_other_drivers_are_taken_in_their_encodings(peer: Any, encoding: str) -> None:
    Watcher.gate.set()
    host = active(peer, "watcher", (Part("watcher", Watcher),))
    red = {
        "rgb8": [200, 20, 10],
        "bgr8": [10, 20, 200],
        "rgba8": [200, 20, 10, 255],
        "bgra8": [10, 20, 200, 255],
        "mono8": [99],
    }[encoding]
    row = np.tile(np.array(red, np.uint8), 5)
    padded = np.concatenate([row, np.zeros(3, np.uint8)])  # a driver may pad its rows
    image = messages.ros_class("sensor_msgs/msg/Image")(
        height=4, width=5, step=len(padded), encoding=encoding, data=np.tile(padded, 4).tobytes()
    )
    image.header.stamp.sec = 17
    image.header.frame_id = "other_optical"
    peer.publisher("/eifer/camera/image_raw", "sensor_msgs/msg/Image").publish(image)
    got = host.components["watcher"].got
    wait_for(lambda: got, "the picture")
    assert got[0].image.shape == (4, 5, 3)
    assert got[0].image[1, 2].tolist() == ([99] * 3 if encoding == "mono8" else [200, 20, 10])
    assert (got[0].stamp, got[0].frame_id) == (17 * NS, "other_optical")


def test_compressed_pictures_are_taken_from_the_topic_that_goes_with_the_picture(peer: Any) -> None:
    Watcher.gate.set()
    host = active(peer, "watcher", (Part("watcher", Watcher),), image_transport="compressed")
    message = conversions.frame_to_wire(frame(5, 90), "camera/image_raw", jpeg_quality=95)[-1].message
    peer.publisher("/eifer/camera/image_raw/compressed", "sensor_msgs/msg/CompressedImage").publish(
        messages.serialise(message)
    )
    wait_for(lambda: host.components["watcher"].got, "the picture")
    assert abs(int(host.components["watcher"].got[0].image[3, 3, 1]) - 90) <= 2


def test_a_publisher_of_incompatible_quality_of_service_is_reported_with_topic_and_cure(
    peer: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    host = active(peer, "toy", TOY)
    told = peer.diagnostics()
    peer.publisher(RAW, CHUNK_TYPE, reliable=False, matched=False)
    traffic = host.inlets.topics["emg/raw"][0].traffic
    wait_for(lambda: traffic.incompatible, "the event")
    wait_for(
        lambda: (s := told.get("eifer/toy")) and "incompatible QoS" in s.message and s.level == b"\x02",
        "diagnostics",
    )
    text = capfd.readouterr().err
    assert (
        RAW in text
        and "RELIABILITY" in text
        and "qos_overrides./eifer/emg/raw.subscription.reliability" in text
    )


def test_a_subscriber_of_incompatible_quality_of_service_is_reported_with_topic(
    peer: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    host = active(peer, "toy", TOY)
    peer.listen("/eifer/emg/activity", "eifer_msgs/msg/MuscleActivity", latched=True)
    wait_for(lambda: host.outlets.topics["emg/activity"].traffic.incompatible, "the event")
    text = capfd.readouterr().err
    assert "a subscriber of /eifer/emg/activity asks for a QoS (DURABILITY) that is not offered" in text


def test_an_input_that_stays_silent_is_reported_with_topic_quality_of_service_and_who_publishes(
    peer: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    active(peer, "toy", TOY, silence_s="0.2")
    told = peer.diagnostics()
    wait_for(
        lambda: (s := told.get("eifer/toy")) and s.message.startswith("no input for") and s.level == b"\x03",
        "diagnostics",
    )
    text = capfd.readouterr().err
    assert f"on {RAW} (reliable, volatile, keep last 200): nobody publishes it" in text


def test_nothing_is_converted_or_sent_while_nobody_listens(peer: Any) -> None:
    host = active(peer, "source", (Part("source", ToySource),))
    source = host.components["source"]
    for _ in range(5):
        source.step.release()
    wait_for(lambda: source.made == 5, "five items")
    assert all(outlet.traffic.count == 0 for outlet in host.outlets.topics.values())
    assert "camera/image_raw" not in source.wanted[-1]
    heard = peer.listen("/eifer/camera/image_raw/compressed", "sensor_msgs/msg/CompressedImage")
    wait_for(lambda: host.outlets.topics["camera/image_raw/compressed"].subscribed, "the subscriber is known")
    wait_for(lambda: "camera/image_raw" in source.wanted[-1], "the source is told")
    source.step.release()
    wait_for(lambda: heard, "a compressed picture")
    assert host.outlets.topics["camera/image_raw"].traffic.count == 0
    assert heard[0].header.frame_id == "toy_optical"


def test_pictures_leave_with_their_camera_info_of_the_same_stamp_and_frame(peer: Any) -> None:
    host = active(peer, "source", (Part("source", ToySource),))
    images = peer.listen("/eifer/camera/image_raw", "sensor_msgs/msg/Image")
    infos = peer.listen("/eifer/camera/camera_info", "sensor_msgs/msg/CameraInfo")
    wait_for(
        lambda: (
            host.outlets.topics["camera/image_raw"].subscribed
            and host.outlets.topics["camera/camera_info"].subscribed
        ),
        "both known",
    )
    host.components["source"].step.release()
    wait_for(lambda: images and infos, "picture and info")
    assert images[0].header == infos[0].header and images[0].header.frame_id == "toy_optical"
    assert (images[0].encoding, images[0].step, infos[0].k[0]) == ("rgb8", 96, 30.0)


def test_an_inactive_node_neither_takes_nor_sends(peer: Any) -> None:
    host = active(peer, "toy", TOY)
    publisher = peer.publisher(RAW, CHUNK_TYPE)
    publisher.publish(wire(chunk(0, time.time_ns()), "emg/raw"))
    toy = host.components["toy"]
    wait_for(lambda: len(toy.got) == 1, "the first")
    assert peer.change("toy", DEACTIVATE)
    before = host.inlets.topics["emg/raw"][0].traffic.count
    publisher.publish(wire(chunk(1, time.time_ns()), "emg/raw"))
    wait_for(lambda: host.inlets.topics["emg/raw"][0].traffic.count > before, "the second is received")
    assert len(toy.got) == 1
    assert peer.change("toy", ACTIVATE)
    publisher.publish(wire(chunk(2, time.time_ns()), "emg/raw"))
    wait_for(lambda: len(toy.got) == 2, "the third")
    assert toy.got[1].first_index == 16 and toy.resets == 1


def test_components_of_one_node_hand_items_to_each_other_without_a_topic(peer: Any) -> None:
    host = peer.host("both", (Part("source", ToySource), Part("toy", Toy)), ("source", "toy"))
    assert peer.change("both", CONFIGURE) and peer.change("both", ACTIVATE)
    assert not host.inlets.topics  # nothing is subscribed to
    host.components["source"].step.release()
    wait_for(lambda: host.components["toy"].got, "the chunk")
    assert host.outlets.topics["emg/raw"].traffic.count == 0


def test_a_picture_waits_for_the_depth_of_its_own_stamp_whichever_comes_first(eifer_msgs: None) -> None:
    from eifer_ros.hosts.ros_streams import DEPTH_WAIT_NS, DepthPairing

    got: list[Frame] = []
    pairing = DepthPairing(got.append, DEPTH_WAIT_NS)

    def parts(stamp: int) -> tuple[Any, Any]:
        _, depth, picture = conversions.frame_to_wire(
            replace(frame(stamp), depth=np.full((24, 32), 0.5, np.float32)), "camera/image_raw"
        )
        return depth.message, picture.message

    first_depth, first = parts(10_000_000)
    pairing.add(first)
    assert len(got) == 1 and got[0].depth is None  # depth does not flow yet
    pairing.add(first_depth)
    second_depth, second = parts(43_000_000)
    pairing.add(second)
    assert len(got) == 1
    pairing.add(second_depth)
    assert len(got) == 2 and got[1].depth is not None and got[1].depth[0, 0] == 0.5
    third_depth, third = parts(76_000_000)
    pairing.add(third_depth)
    pairing.add(third)
    assert got[2].depth is not None
    pairing.add(parts(109_000_000)[1])  # its depth is lost: it leaves with the next picture, without
    assert len(got) == 3
    pairing.add(parts(142_000_000)[1])
    assert len(got) == 4 and got[3].stamp == 109_000_000 and got[3].depth is None
