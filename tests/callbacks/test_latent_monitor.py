"""The monitor of the latents, on models that collapse and on models that do not."""

import logging

import keras
import numpy as np
import pytest

from keras_vae import metrics
from keras_vae.callbacks import LatentMonitor
from keras_vae.objectives import ELBO


def fit(vae, images, monitor, epochs, *others):
    vae.compile(keras.optimizers.Adam(0.02))
    callbacks = [monitor, *others]
    return vae.fit(images, epochs=epochs, batch_size=8, callbacks=callbacks, verbose=0).history


def test_each_epoch_is_measured_and_logged(make_vae, images, tmp_path):
    vae, monitor = make_vae(), LatentMonitor(images)
    file = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    history = fit(vae, images, monitor, 3, file)
    assert [kl.shape for kl in monitor.kl_per_latent] == [(2,)] * 3
    expected = metrics.kl_per_latent(vae, images).mean(axis=0)
    np.testing.assert_allclose(monitor.kl_per_latent[-1], expected, rtol=1e-5)
    assert history["active_units"][-1] == metrics.active_units(vae, images)
    assert "active_units" in (tmp_path / "log.csv").read_text().splitlines()[0]


def test_the_data_is_encoded_once_an_epoch(make_vae, images, monkeypatch):
    vae, encoded = make_vae(), []
    encode = vae.encode
    monkeypatch.setattr(vae, "encode", lambda x: encoded.append(len(x)) or encode(x))
    fit(vae, images, LatentMonitor(images), 2)
    assert encoded == [len(images)] * 2


def test_a_code_that_collapses_is_warned_of_once_with_evidence_and_mends(make_vae, images, caplog):
    vae = make_vae(objective=ELBO(beta=100.0))
    with caplog.at_level(logging.WARNING):
        fit(vae, images, LatentMonitor(images, patience=2), 12)
    (message,) = [record.message for record in caplog.records if "collapsed" in record.message]
    assert "0 of 2 are active" in message
    for mend in ("warm up", "free_bits", "beta", "smaller decoder"):
        assert mend in message


def test_a_code_that_is_used_is_not_warned_of(make_vae, images, caplog):
    vae = make_vae(objective=ELBO(beta=0.1), hidden_units=(32,))
    fit(vae, images, keras.callbacks.Callback(), 40)  # a fresh code tells next to nothing
    with caplog.at_level(logging.WARNING):
        fit(vae, images, LatentMonitor(images, patience=2), 4)
    assert "collapsed" not in caplog.text


@pytest.mark.parametrize("wrong", [{"patience": 0}, {"min_nats": -1.0}])
def test_settings_out_of_range_are_refused(images, wrong):
    with pytest.raises(ValueError, match=f"Received: {next(iter(wrong))}"):
        LatentMonitor(images, **wrong)
