"""The pictures of a card show what the model gives, where the card says it."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.zoo.pictures import write_pictures


def tile(path, row, column, size=8):
    """Returns one image of a sheet, as intensities: twice the size, with a gap of one pixel."""
    pixels = tf.io.decode_png(path.read_bytes()).numpy() / 255
    whole = pixels[::2, ::2]
    step = size + 2
    return whole[row * step + 1 : (row + 1) * step - 1, column * step + 1 : (column + 1) * step - 1]


# A grey level is one of 256.
LEVEL = {"atol": 0.5 / 255 + 1e-6}


def test_samples_are_those_of_the_model(make_vae, tmp_path):
    vae = make_vae()
    write_pictures(tmp_path, vae)
    expected = vae.sample(48, seed=0)
    np.testing.assert_allclose(tile(tmp_path / "samples.png", 2, 5), expected[2 * 12 + 5], **LEVEL)
    assert not (tmp_path / "reconstructions.png").exists()


def test_reconstructions_stand_below_their_inputs(make_vae, images, tmp_path):
    vae = make_vae()
    write_pictures(tmp_path, vae, images)
    path = tmp_path / "reconstructions.png"
    np.testing.assert_allclose(tile(path, 0, 7), images[7], **LEVEL)
    np.testing.assert_allclose(tile(path, 1, 7), vae.reconstruct(images[7:8])[0], **LEVEL)


def test_the_grid_goes_right_with_the_first_latent_and_up_with_the_second(make_vae, tmp_path):
    vae = make_vae(latent_dim=2)
    write_pictures(tmp_path, vae)
    quantile = tfp.distributions.Normal(0.0, 1.0).quantile
    z = [[quantile((3 + 0.5) / 20), quantile((17 + 0.5) / 20)]]
    expected = vae.decode(z).mean()[0]
    np.testing.assert_allclose(tile(tmp_path / "grid.png", 19 - 17, 3), expected, **LEVEL)


def test_more_than_two_latents_have_no_grid(make_vae, tmp_path):
    write_pictures(tmp_path, make_vae(latent_dim=3))
    assert not (tmp_path / "grid.png").exists()


def test_what_is_no_image_has_no_picture(make_vae, tmp_path):
    write_pictures(tmp_path, make_vae(event_shape=(8,)))
    assert list(tmp_path.iterdir()) == []
