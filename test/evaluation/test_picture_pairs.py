import numpy as np
import pytest

from eifer_ros.evaluation.pictures import SAME_DB, psnr_db, ssim
from eifer_ros.evaluation.protocol import Protocol
from eifer_ros.recording.reader import Bag
from eifer_ros.recording.writer import BagWriter
from eifer_ros.types import Frame
from eifer_ros.workflows.evaluate import _picture_rows


def test_pictures_with_a_twin_in_the_reference_are_compared_with_it(tmp_path):
    rng = np.random.default_rng(0)
    bare = {
        stamp: rng.integers(0, 256, (32, 48, 3), dtype=np.uint8) for stamp in (10**9, 2 * 10**9, 3 * 10**9)
    }
    with BagWriter(tmp_path / "bag", wait=True) as writer:
        for stamp, image in bare.items():
            writer.write("camera/image_raw", Frame(stamp, image, np.eye(3)))
    with Bag(tmp_path / "bag") as bag:  # a bag keeps pictures as JPEG
        bare = {stamp: item.image for stamp, _, item in bag.items(topics=["camera/image_raw"])}
    changed = np.clip(bare[10**9].astype(int) + 9, 0, 255).astype(np.uint8)
    restored = {10**9: changed, 2 * 10**9: bare[2 * 10**9], 5 * 10**9: bare[10**9]}  # the last has no twin
    other = {10**9: bare[10**9][:16], 4 * 10**9: bare[10**9]}  # another size, another stamp
    asked = Protocol(area="face", reference=str(tmp_path / "bag"))
    first, second = _picture_rows("x", {"face/restored": restored, "other": other}, asked, {})
    assert first["pairs"] == 2
    assert first["psnr_db"] == pytest.approx((psnr_db(changed, bare[10**9]) + SAME_DB) / 2, abs=1e-6)
    assert first["ssim"] == pytest.approx((ssim(changed, bare[10**9]) + 1.0) / 2, abs=1e-6)
    assert "psnr_db" not in second
