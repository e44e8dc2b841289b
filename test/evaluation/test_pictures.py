import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eifer_ros.errors import InputError
from eifer_ros.evaluation.pictures import FaceFinder, face_mask, psnr_db, ssim, ssim_map


def noise(seed, shape=(48, 40, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(seed, shape=(48, 40, 3)):
    return cv2.GaussianBlur(noise(seed, shape), (0, 0), 3.0)


def test_psnr_is_that_of_a_known_error():
    truth = np.full((16, 16, 3), 100, np.uint8)
    assert psnr_db(truth + np.uint8(10), truth) == pytest.approx(10 * np.log10(255**2 / 100))
    assert psnr_db(truth, truth) == np.inf


def test_ssim_of_flat_pictures_is_the_term_of_their_means():
    # without variance the second factor is 1, and what is left is (2 a b + C1) / (a^2 + b^2 + C1), C1 = (0.01
    # * 255)^2
    first, second = np.full((32, 32), 80, np.uint8), np.full((32, 32), 120, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim(first, second) == pytest.approx((2 * 80 * 120 + c1) / (80**2 + 120**2 + c1), rel=1e-9)


def test_ssim_at_one_pixel_is_the_formula_summed_by_hand():
    first, second = noise(1, (11, 11)), smooth(2, (11, 11))
    x = np.arange(11) - 5.0
    window = np.exp(-(x[:, None] ** 2 + x[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    a, b = first.astype(float), second.astype(float)
    ma, mb = (window * a).sum(), (window * b).sum()
    va, vb, cov = (
        (window * (a - ma) ** 2).sum(),
        (window * (b - mb) ** 2).sum(),
        (window * (a - ma) * (b - mb)).sum(),
    )
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = (2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    assert ssim_map(first, second)[5, 5] == pytest.approx(expected, rel=1e-9)
    assert ssim(first, second) == pytest.approx(expected, rel=1e-9)  # the only window that fits


def test_ssim_and_psnr_agree_with_scikit_image():
    metrics = pytest.importorskip("skimage.metrics", reason="scikit-image is in the extra 'test'")
    truth = smooth(3, (64, 72))
    estimate = np.clip(truth + np.random.default_rng(4).normal(0, 12, truth.shape), 0, 255).astype(np.uint8)
    mean, plane = metrics.structural_similarity(
        estimate,
        truth,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        full=True,
    )
    np.testing.assert_allclose(ssim_map(estimate, truth), plane, atol=1e-7)
    assert ssim(estimate, truth) == pytest.approx(mean, abs=1e-7)
    assert psnr_db(estimate, truth) == pytest.approx(
        metrics.peak_signal_noise_ratio(truth, estimate), abs=1e-9
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 10_000), st.floats(0.0, 60.0))
def test_both_measures_are_symmetric_and_best_for_equal_pictures(seed, other, amount):
    truth = smooth(seed)
    changed = np.clip(truth + np.random.default_rng(other).normal(0, 1, truth.shape) * amount, 0, 255).astype(
        np.uint8
    )
    assert ssim(truth, truth) == pytest.approx(1.0, abs=1e-9)
    assert ssim(changed, truth) == pytest.approx(ssim(truth, changed), abs=1e-12)
    assert -1.0 <= ssim(changed, truth) <= 1.0 + 1e-9
    assert psnr_db(changed, truth) == psnr_db(truth, changed)


def test_only_the_masked_pixels_count():
    truth = smooth(5)
    changed = truth.copy()
    changed[:, :10] = 255 - changed[:, :10]
    far = np.zeros(truth.shape[:2], bool)
    far[:, 20:] = True  # further than half a window from the change
    assert psnr_db(changed, truth, far) == np.inf
    assert ssim(changed, truth, far) == pytest.approx(1.0, abs=1e-9)
    assert psnr_db(changed, truth) < psnr_db(changed, truth, ~far) + 10
    assert ssim(changed, truth, ~far) < ssim(changed, truth) < 1.0


def test_a_face_mask_holds_the_hull_of_the_points():
    mask = face_mask([[10, 5], [30, 5], [30, 25], [10, 25], [20, 15]], (40, 32))
    assert mask.shape == (32, 40)
    assert mask[5:26, 10:31].all()
    assert mask.sum() == 21 * 21


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: psnr_db(noise(0), noise(0)[:, 1:]), "one size"),
        (lambda: psnr_db(noise(0).astype(np.float32), noise(0)), "uint8"),
        (lambda: ssim(noise(0), noise(0), np.zeros((48, 40), bool)), "empty"),
        (lambda: ssim(noise(0), noise(0), np.ones((4, 4), bool)), "mask"),
        (lambda: ssim(noise(0, (9, 9)), noise(1, (9, 9))), "border"),
        (lambda: face_mask([[0, 0], [1, np.nan], [2, 2]], (8, 8)), "finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_a_face_is_found_in_a_photograph_and_none_in_noise():
    data = pytest.importorskip("skimage.data", reason="scikit-image is in the extra 'test'")
    finder = FaceFinder()
    face = np.ascontiguousarray(data.astronaut()[:300, 80:380])
    assert finder(face)
    assert not finder(noise(6, (300, 300, 3)))
