"""What strangers upload and draw: taken as the model's data, or refused with a reason."""

import numpy as np
import pytest
from PIL import Image

from keras_vae import models
from keras_vae.distributions import ContinuousBernoulli
from keras_vae.explore import image_from_drawing, image_from_file, inputs


def make(event_shape, **changes):
    return models.DenseVAE(event_shape, 2, hidden_units=(4,), **changes)


@pytest.fixture(scope="module")
def gray():
    return make((8, 8, 1), likelihood=ContinuousBernoulli())


@pytest.fixture(scope="module")
def binary():
    return make((8, 8, 1))


def test_a_file_becomes_the_means_over_areas(gray, tmp_path):
    levels = np.repeat(np.repeat(np.arange(64).reshape(8, 8) * 4, 3, axis=0), 3, axis=1)
    Image.fromarray(np.uint8(levels)).save(tmp_path / "image.png")
    x = image_from_file(tmp_path / "image.png", gray)
    np.testing.assert_allclose(x[0, ..., 0], np.arange(64).reshape(8, 8) * 4 / 255, atol=1e-6)
    assert x.dtype == np.float32


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "gif", "bmp"])
def test_every_format_is_read_in_color_and_in_gray(gray, tmp_path, kind):
    path = tmp_path / f"image.{kind}"
    Image.new("RGB", (20, 30), (255, 0, 0)).save(path)
    red = image_from_file(path, make((8, 8, 3), likelihood=ContinuousBernoulli()))
    np.testing.assert_allclose(red[0, 4, 4], [1.0, 0.0, 0.0], atol=0.02)
    assert image_from_file(path, gray)[0, 4, 4, 0] == pytest.approx(0.299, abs=0.02)


def test_sixteen_bits_are_read_as_eight(gray, tmp_path):
    levels = np.uint16(np.arange(64).reshape(8, 8) * 1024)
    Image.fromarray(levels).save(tmp_path / "image.png")
    x = image_from_file(tmp_path / "image.png", gray)
    np.testing.assert_allclose(x[0, ..., 0], np.arange(64).reshape(8, 8) * 4 / 255, atol=1e-6)


def test_behind_what_is_transparent_it_is_white(gray, tmp_path):
    opacity = np.zeros((8, 8, 4), np.uint8)
    opacity[2:4, 2:4, 3] = 255  # black, in the middle of nothing
    Image.fromarray(opacity).save(tmp_path / "image.png")
    x = image_from_file(tmp_path / "image.png", gray)
    assert x[0, 2:4, 2:4].max() == 0.0
    assert x.sum() == 60.0


def test_bernoulli_models_get_black_and_white(binary, tmp_path):
    Image.fromarray(np.uint8([[100, 200]])).save(tmp_path / "image.png")
    assert set(np.unique(image_from_file(tmp_path / "image.png", binary))) == {0.0, 1.0}


def test_a_file_that_is_no_image_is_refused(binary, tmp_path):
    path = tmp_path / "image.png"
    path.write_text("<svg onload=alert(1)>")
    with pytest.raises(ValueError, match="should be an image: PNG, JPEG"):
        image_from_file(path, binary)
    Image.new("L", (8, 8)).save(tmp_path / "image.tiff")
    with pytest.raises(ValueError, match="should be an image"):
        image_from_file(tmp_path / "image.tiff", binary)


def test_a_damaged_image_is_refused(binary, tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="image is damaged"):
        image_from_file(path, binary)


def test_a_large_file_is_refused_unread(binary, tmp_path):
    path = tmp_path / "image.png"
    with path.open("wb") as file:
        file.truncate(inputs.MAX_BYTES + 1)
    with pytest.raises(ValueError, match="should be at most 5 MB"):
        image_from_file(path, binary)


@pytest.mark.parametrize("size", [(5001, 5000), (20000, 20000)])
def test_a_small_file_of_many_pixels_is_refused(binary, tmp_path, size):
    path = tmp_path / "bomb.png"
    Image.new("1", size).save(path)
    assert path.stat().st_size < inputs.MAX_BYTES
    with pytest.raises(ValueError, match="should have at most 25 megapixels|should be an image"):
        image_from_file(path, binary)


def test_strokes_are_centred_and_bright_on_black():
    vae = make((28, 28, 1))
    canvas = np.zeros((280, 280, 4), np.uint8)  # transparent
    canvas[10:50, 20:30] = (0, 0, 0, 255)  # a bar in a corner
    x = image_from_drawing(canvas, vae)[0, ..., 0]
    rows, columns = np.nonzero(x)
    assert (rows.min(), rows.max()) == (4, 23)  # 20 of 28 pixels, as in MNIST
    assert columns.min() + columns.max() in (26, 27, 28)
    on_white = canvas.copy()
    on_white[canvas[..., 3] == 0] = 255
    np.testing.assert_array_equal(image_from_drawing(on_white, vae)[0, ..., 0], x)


@pytest.mark.parametrize("canvas", [None, np.zeros((9, 9, 4), np.uint8)])
def test_nothing_drawn_is_told(binary, canvas):
    with pytest.raises(ValueError, match="Draw something first"):
        image_from_drawing(canvas, binary)


@pytest.mark.parametrize("canvas", [np.zeros((9, 9), np.uint8), np.ones((9, 9, 4))])
def test_a_canvas_of_another_kind_is_refused(binary, canvas):
    with pytest.raises(ValueError, match=r"should be of shape \(height, width, 4\)"):
        image_from_drawing(canvas, binary)
