import pytest

torch = pytest.importorskip("torch")

from eifer_ros.errors import InputError  # noqa: E402
from research.faces.generators import (  # noqa: E402
    FullGenerator,
    LiveGenerator,
    PatchDiscriminator,
    Translation,
    composite,
    multiply_accumulates,
)

GENERATORS = [
    lambda c: LiveGenerator(c, width=8),
    lambda c: LiveGenerator(c, width=4, dense=True),
    lambda c: FullGenerator(c, width=4, blocks=1),
]


def pictures(count=2, channels=3, side=32, seed=0):
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("make", GENERATORS)
@pytest.mark.parametrize("channels", [3, 6, 7])
def test_a_generator_gives_a_picture_and_a_mask_of_the_size_it_got(make, channels):
    made = make(channels)(pictures(channels=channels, side=48))
    assert made.picture.shape == (2, 3, 48, 48)
    assert made.mask.shape == made.logits.shape == (2, 1, 48, 48)
    for values in (made.picture, made.mask):
        assert values.min() >= 0.0
        assert values.max() <= 1.0
    assert torch.equal(made.mask, torch.sigmoid(made.logits))


@pytest.mark.parametrize("make", GENERATORS)
def test_where_the_mask_is_zero_the_base_is_left_untouched(make):
    generator, base = make(6), pictures(seed=1)
    with torch.no_grad():
        generator.out.weight.zero_()
        generator.out.bias.fill_(-200.0)  # every mask logit far below what single precision tells from 0
    made = generator(pictures(channels=6, seed=2), base)
    assert torch.equal(made.mask, torch.zeros_like(made.mask))
    assert torch.equal(made.picture, base)


def test_a_composite_changes_only_what_the_mask_holds():
    base, paint = pictures(seed=3), pictures(seed=4)
    mask = torch.zeros(2, 1, 32, 32)
    mask[:, :, 8:16, 4:20] = 1.0
    made = composite(base, paint, mask)
    inside = mask.bool().expand_as(base)
    assert torch.equal(made[~inside], base[~inside])
    torch.testing.assert_close(made[inside], paint[inside])


@pytest.mark.parametrize("make", GENERATORS)
def test_the_first_three_channels_are_changed_where_no_base_is_given(make):
    generator, features = make(6).eval(), pictures(channels=6, seed=5)
    torch.testing.assert_close(generator(features).picture, generator(features, features[:, :3]).picture)


@pytest.mark.parametrize("make", GENERATORS)
def test_every_weight_of_a_generator_gets_a_gradient_from_picture_and_mask(make):
    generator = make(6)
    made = generator(pictures(channels=6, seed=6), pictures(seed=7))
    ((made.picture - 0.3) ** 2).mean().add(made.mask.mean()).backward()
    for name, weight in generator.named_parameters():
        assert weight.grad is not None, name
        assert float(weight.grad.abs().max()) > 0.0, name


def test_a_generator_that_paints_the_whole_picture_ignores_the_base():
    generator = FullGenerator(6, width=4, blocks=1, whole=True).eval()
    features = pictures(channels=6, seed=8)
    first, second = generator(features, pictures(seed=9)), generator(features, pictures(seed=10))
    assert torch.equal(first.picture, second.picture)
    assert torch.equal(first.mask, torch.ones_like(first.mask))
    assert isinstance(first, Translation)


@pytest.mark.parametrize("dense", [False, True])
def test_a_live_generator_sees_the_whole_face_from_the_middle_of_it(dense):
    generator = LiveGenerator(3, width=8, dense=dense).double().eval()
    with torch.no_grad():
        for weight in generator.parameters():
            weight.abs_()  # every ReLU passes what it gets, so that the gradient shows all paths there are
    picture = pictures(count=1, side=128, seed=11).double().requires_grad_()
    generator.paint(picture)[1][0, 0, 64, 64].backward()
    seen = picture.grad.abs().sum(dim=(0, 1)) > 0
    assert seen.all()


def test_work_and_size_are_those_of_the_networks_they_follow():
    live = LiveGenerator(3)
    assert 0.05e9 < multiply_accumulates(live, pictures(1, 3, 128)) < 0.075e9
    assert 0.2e9 < multiply_accumulates(LiveGenerator(6), pictures(1, 6, 256)) < 0.3e9
    full = FullGenerator(6)  # SMIRK's: 31.4 M parameters, 13.9 GMAC at 224
    assert sum(p.numel() for p in full.parameters()) == pytest.approx(31.4e6, rel=0.01)
    assert multiply_accumulates(full, pictures(1, 6, 224)) == pytest.approx(13.9e9, rel=0.01)


def test_work_is_counted_by_hand_on_single_layers():
    picture = pictures(1, 4, 16)
    nn = torch.nn
    assert multiply_accumulates(nn.Conv2d(4, 8, 3, padding=1), picture) == 16 * 16 * 8 * 4 * 9
    assert multiply_accumulates(nn.Conv2d(4, 4, 3, 2, 1, groups=4), picture) == 8 * 8 * 4 * 9
    assert (
        multiply_accumulates(nn.ConvTranspose2d(4, 6, 2, 2), picture) == 32 * 32 * 6 * 4
    )  # each output comes from one input pixel
    assert multiply_accumulates(nn.Sequential(nn.Flatten(), nn.Linear(4 * 256, 5)), picture) == 4 * 256 * 5


@pytest.mark.parametrize(
    ("discriminator", "patch"), [(PatchDiscriminator.full(), 70), (PatchDiscriminator.live(), 34)]
)
def test_a_discriminator_judges_patches_of_the_size_it_says(discriminator, patch):
    assert discriminator.receptive_field == patch
    side = 144
    picture = pictures(1, 3, side, seed=12).requires_grad_()
    scores = discriminator(picture)
    middle = scores.shape[2] // 2
    scores[0, 0, middle, middle].backward()
    rows = picture.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert int(rows.max() - rows.min()) + 1 == patch


@pytest.mark.parametrize("spectral", [False, True])
def test_every_weight_of_a_discriminator_gets_a_gradient(spectral):
    discriminator = PatchDiscriminator(3, 8, 2, spectral=spectral)
    ((discriminator(pictures(seed=13)) - 1) ** 2).mean().backward()
    weights = dict(discriminator.named_parameters())
    assert weights
    assert all(weight.grad is not None for weight in weights.values())
    assert (
        sum(float(weight.grad.abs().max()) > 0 for weight in weights.values()) >= len(weights) - 2
    )  # a bias before a norm gets none


def test_spectral_normalisation_bounds_how_fast_scores_change():
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(3, 8, 1)
    for _ in range(30):  # the power iteration settles
        discriminator(pictures(seed=14))
    discriminator.eval()
    layers = [layer for layer in discriminator.body if hasattr(layer, "weight")]
    assert len(layers) >= 3
    for layer in layers:
        assert float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)) == pytest.approx(
            1.0, abs=0.05
        )


@pytest.mark.parametrize("make", GENERATORS)
def test_sizes_that_do_not_fit_are_refused_by_name(make):
    generator = make(6)
    with pytest.raises(InputError, match="multiples of 16"):
        generator(pictures(channels=6, side=40))
    with pytest.raises(InputError, match="picture to change"):
        generator(pictures(channels=6), pictures(side=48))
    with pytest.raises(InputError, match="must be positive"):
        LiveGenerator(0)
