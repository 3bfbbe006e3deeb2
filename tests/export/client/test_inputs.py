"""Inputs that the server's model takes, and those that are refused before they are sent."""

import base64
import json

import numpy as np
import pytest
import tensorflow as tf

from tests.export.client.stand_in import EXACT


def test_a_latent_of_the_wrong_width_is_answered_with_the_server_s_and_not_sent(server, connect):
    message = r"`z` of `decode` should be float32 of shape \(batch, 3\).*shape=\(2, 8\)"
    with pytest.raises(ValueError, match=message):
        connect("dense").decode(np.zeros((2, 8)))
    assert server.asked == []


def test_a_signature_that_is_not_offered_is_answered_with_those_that_are(connect):
    offered = "'decode', 'encode', 'reconstruct', 'sample', 'score', 'serving_default'"
    with pytest.raises(ValueError, match=f"{offered}. Received: signature='draw'"):
        connect("dense").predict("draw", z=[[0.0]])


def test_inputs_of_other_names_are_answered_with_the_names(connect):
    with pytest.raises(ValueError, match="inputs num_samples, seed.*Received: seed"):
        connect("dense").predict("sample", seed=(1, 0))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 9, 7, 1), np.uint8), "Received: uint8. Scale it"),
        (np.full((2, 9, 7, 1), 200), "Received: int64. Scale it"),
        (np.full((2, 9, 7, 1), np.nan), "finite"),
        (np.full((2, 9, 7, 1), 1e300), "do not fit"),
        (np.zeros((2, 9, 7, 1), complex), "Received: complex128"),
        (np.zeros((0, 9, 7, 1)), r"Received: shape=\(0, 9, 7, 1\)"),
        (np.zeros((9, 7, 1)), r"Received: shape=\(9, 7, 1\)"),
        (np.zeros((2, 7, 9, 1)), r"\(batch, 9, 7, 1\)"),
    ],
)
def test_images_that_the_model_cannot_take_are_refused(server, connect, images, message):
    with pytest.raises(ValueError, match=message):
        connect("dense").encode(images)
    assert server.asked == []


@pytest.mark.parametrize("value", [1, -3, 1000])
def test_whole_numbers_that_are_no_pixels_are_taken(connect, value):
    whole = np.full((2, 9, 7, 1), value)
    client = connect("dense")
    np.testing.assert_array_equal(
        client.encode(whole)["loc"], client.encode(np.float32(whole))["loc"]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "num_samples=0"),
        ((2.5,), "int32"),
        ((2, (2**40, 0)), "do not fit"),
        ((2, (1, 2, 3)), r"shape \(2,\)"),
    ],
)
def test_samples_that_cannot_be_drawn_are_refused(server, connect, arguments, message):
    with pytest.raises(ValueError, match=message):
        connect("dense").sample(*arguments)
    assert server.asked == []


class Pictures(tf.Module):
    """Takes pixels as they come from a camera: as integers, and as bytes."""

    @tf.function(input_signature=[tf.TensorSpec((None, 2, 2), tf.uint8, "pixels")])
    def scale(self, pixels):
        return {"image": tf.cast(pixels, tf.float32) / 255}

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "raw")])
    def read(self, raw):
        pixels = tf.reshape(tf.io.decode_raw(raw, tf.uint8), (-1, 2, 2))
        return {"image": tf.cast(pixels, tf.float32) / 255}


@pytest.fixture
def pictures(server, tmp_path):
    module = Pictures()
    offered = {"scale": module.scale, "read": module.read}
    tf.saved_model.save(module, tmp_path / "pictures" / "1", offered)
    server.load("pictures", tmp_path / "pictures" / "1")


@pytest.mark.usefixtures("pictures")
def test_pixels_go_as_integers_and_bytes_in_base64(server, connect):
    pixels = np.random.default_rng(2).integers(0, 256, (3, 2, 2)).astype(np.uint8)
    client = connect("pictures")
    expected = pixels.astype(np.float32) / 255
    np.testing.assert_allclose(client.predict("scale", pixels=pixels)["image"], expected, **EXACT)
    raw = [image.tobytes() for image in pixels]
    np.testing.assert_allclose(client.predict("read", raw=raw)["image"], expected, **EXACT)
    _, body = server.asked[-1]
    if isinstance(body, dict):
        assert base64.b64encode(raw[0]).decode() in json.dumps(body)


@pytest.mark.usefixtures("pictures")
def test_pixels_and_bytes_that_are_none_are_refused(connect):
    client = connect("pictures")
    with pytest.raises(ValueError, match=r"uint8.*from 0 to 256, which do not fit"):
        client.predict("scale", pixels=[[[0, 1], [2, 256]]])
    with pytest.raises(ValueError, match="uint8.*Received: float64"):
        client.predict("scale", pixels=[[[0.0, 1.0], [0.5, 1.0]]])
    with pytest.raises(ValueError, match="should be bytes"):
        client.predict("read", raw=["text"])
