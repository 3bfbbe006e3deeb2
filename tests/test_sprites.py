"""Sprites: what each factor does to the image, against geometry."""

import itertools

import numpy as np
import pytest

from keras_vae import sprites

CENTRE = 16  # of x and y: the sprite's centre is pixel 32
AROUND = slice(32 - 15, 32 + 16)


def every(**fixed):
    """Returns all rows of factors that have the given values, and x and y in the centre."""
    fixed = {"x": CENTRE, "y": CENTRE} | fixed
    values = [
        [fixed[name]] if name in fixed else range(size)
        for name, size in zip(sprites.FACTORS, sprites.FACTOR_SIZES, strict=True)
    ]
    return np.array(list(itertools.product(*values)))


def draw(**fixed):
    return sprites.render(every(**fixed))[..., 0]


def count_distinct(images):
    return len(np.unique(images.reshape(len(images), -1), axis=0))


@pytest.mark.parametrize("image_size", [64, 32])
def test_images_are_float32_zeros_and_ones(image_size):
    images, factors = sprites.sample(200, seed=0, image_size=image_size)
    assert images.shape == (200, image_size, image_size, 1)
    assert images.dtype == np.float32
    assert np.unique(images).tolist() == [0.0, 1.0]
    np.testing.assert_array_equal(images, sprites.render(factors, image_size=image_size))


def test_same_seed_gives_same_sample():
    for first, second in zip(sprites.sample(50, seed=3), sprites.sample(50, seed=3), strict=True):
        np.testing.assert_array_equal(first, second)
    assert (sprites.sample_factors(50, seed=3) != sprites.sample_factors(50, seed=4)).any()


def test_sampled_factors_are_uniform():
    factors = sprites.sample_factors(20_000, seed=0)
    for values, size in zip(factors.T, sprites.FACTOR_SIZES, strict=True):
        shares = np.bincount(values, minlength=size) / len(values)
        # Five standard errors of a share.
        np.testing.assert_allclose(shares, 1 / size, atol=5 * np.sqrt(1 / size / len(values)))


@pytest.mark.parametrize(("x", "y"), [(0, 0), (0, 31), (31, 0), (31, 31)])
def test_every_sprite_is_whole_and_off_the_border_in_the_corners(x, y):
    images = draw(x=x, y=y)
    border = np.ones((64, 64), bool)
    border[1:-1, 1:-1] = False
    assert images[:, border].max() == 0
    np.testing.assert_array_equal(images.sum(axis=(1, 2)), draw().sum(axis=(1, 2)))


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ("square", 2.0),
        ("ellipse", np.pi / 2),
        ("heart", (2 + np.pi / 2) * (1.5 - np.sqrt(0.5)) ** 2),
    ],
)
def test_area_is_that_of_the_shape_in_its_circle(shape, area):
    pixels = draw(shape=sprites.SHAPES.index(shape)).sum(axis=(1, 2)).reshape(6, 40)
    expected = area * (14.7 * np.linspace(0.5, 1.0, 6)) ** 2
    # Over all orientations, what the grid adds and takes away nearly evens out.
    np.testing.assert_allclose(pixels.mean(axis=1), expected, rtol=0.02)


def test_area_grows_with_scale_in_every_orientation():
    areas = draw().sum(axis=(1, 2)).reshape(3, 6, 40)
    assert (np.diff(areas, axis=1) > 10).all()


def test_ten_orientations_are_a_quarter_turn_counterclockwise():
    images = draw()[:, AROUND, AROUND].reshape(3, 6, 40, 31, 31)
    turned = np.rot90(images, axes=(3, 4))
    np.testing.assert_array_equal(np.roll(images, -10, axis=2), turned)


@pytest.mark.parametrize(("shape", "distinct"), [("square", 10), ("ellipse", 20), ("heart", 40)])
def test_a_shape_shows_as_many_orientations_as_its_symmetry_leaves(shape, distinct):
    for scale in range(6):
        images = draw(shape=sprites.SHAPES.index(shape), scale=scale)
        assert count_distinct(images) == distinct
        assert count_distinct(images[:distinct]) == distinct


def test_a_heart_stands_on_its_tip():
    (heart,) = draw(shape=2, scale=5, orientation=0)
    np.testing.assert_array_equal(heart[:, 1:], heart[:, :0:-1])  # about the centre, pixel 32
    widths = heart.sum(axis=1)
    rows = np.flatnonzero(widths)
    assert widths[rows[-1]] == 1
    assert widths[rows[: len(rows) // 2]].mean() > 1.5 * widths[rows[len(rows) // 2 :]].mean()


def test_shapes_differ_in_a_sixth_of_their_pixels_at_any_scale_and_orientation():
    images = draw().reshape(3, -1, 64 * 64)
    for one, other in itertools.combinations(images, 2):
        both = one @ other.T
        either = one.sum(axis=1)[:, np.newaxis] + other.sum(axis=1) - both
        assert (both / either).max() < 5 / 6


@pytest.mark.parametrize(("factor", "axis"), [("x", 2), ("y", 1)])
def test_a_step_of_position_is_one_pixel_to_the_right_or_down(factor, axis):
    steps = np.arange(32)
    first = np.tile([2, 4, 3, 5, 7], (32, 1))
    first[:, sprites.FACTORS.index(factor)] = steps
    images = sprites.render(first)[..., 0]
    for step in steps:
        np.testing.assert_array_equal(images[step], np.roll(images[0], step, axis=axis - 1))


def test_positions_are_symmetric_about_the_middle_of_the_image():
    first, last = draw(x=0, y=0, shape=1, orientation=0), draw(x=31, y=31, shape=1, orientation=0)
    np.testing.assert_array_equal(first, last[:, ::-1, ::-1])


def test_half_the_size_is_every_second_pixel():
    images, factors = sprites.sample(100, seed=5)
    np.testing.assert_array_equal(sprites.render(factors, image_size=32), images[:, ::2, ::2])


def test_a_row_of_factors_is_drawn_alike_alone_and_among_others():
    images, factors = sprites.sample(20, seed=6)
    alone = [sprites.render(factors[[row]]) for row in range(20)]
    np.testing.assert_array_equal(np.concatenate(alone), images)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ([[3, 0, 0, 0, 0]], "shape should lie from 0 to 2. Received: shape=3."),
        ([[0, 0, 0, 0, 0], [0, 0, -1, 0, 0]], "orientation .* 0 to 39. Received: orientation=-1."),
        ([[0, 0, 0, 32, 0]], "x should lie from 0 to 31. Received: x=32."),
        ([0, 0, 0, 0, 0], r"shape \(num_examples, 5\). Received: int64 of shape \(5,\)."),
        ([[0, 0, 0, 0]], r"Received: int64 of shape \(1, 4\)."),
        ([[0.0, 0, 0, 0, 0]], "should be integers .* Received: float64"),
    ],
)
def test_wrong_factors_are_refused(factors, message):
    with pytest.raises(ValueError, match=message):
        sprites.render(factors)


def test_another_image_size_is_refused():
    with pytest.raises(ValueError, match="should be 64 or 32. Received: image_size=28."):
        sprites.sample(1, 0, image_size=28)


def test_a_sample_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1. Received: num_examples=0."):
        sprites.sample_factors(0, seed=0)
