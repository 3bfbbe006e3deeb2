"""What both transports do alike: retries, timeouts, and a missing extra."""

import sys
import time

import numpy as np
import pytest

from keras_vae.export.client import Grpc, Rest, ServingClient, ServingError
from tests.export.client.stand_in import TRANSPORTS, Refusal, free_port


def test_json_carries_floats_to_the_bit(server, z):
    received = [ServingClient("dense", build(server)).decode(z) for build in TRANSPORTS.values()]
    for other in received[1:]:
        np.testing.assert_array_equal(other["image"], received[0]["image"])


# Below and above the 256 KiB of which gRPC by itself keeps a copy.
@pytest.mark.parametrize("size", [5, 1200])
def test_a_busy_server_is_asked_again(server, connect, images, size):
    server.failures = [Refusal("UNAVAILABLE", "The batch scheduling queue is full")] * 2
    assert connect("dense").encode(np.resize(images, (size, 9, 7, 1)))["kl"].shape == (size,)
    assert len(server.asked) == 3


def test_a_server_that_stays_busy_is_quoted(server, connect, z):
    server.failures = [Refusal("UNAVAILABLE", "The batch scheduling queue is full")] * 2
    with pytest.raises(ServingError, match="queue is full") as refused:
        connect("dense", retries=1).decode(z)
    assert refused.value.status in (503, "UNAVAILABLE")
    assert len(server.asked) == 2


def test_without_retries_a_busy_server_is_asked_once(server, connect, z):
    server.failures = [Refusal("UNAVAILABLE", "The batch scheduling queue is full")]
    with pytest.raises(ServingError, match="queue is full"):
        connect("dense", retries=0).decode(z)
    assert len(server.asked) == 1


@pytest.mark.parametrize("retries", [0, 3])
def test_a_slow_server_is_given_up_after_the_timeout(server, connect, z, retries):
    client = connect("dense", timeout=0.5, retries=retries)
    client.decode(z)
    server.delay = 1.5
    start = time.monotonic()
    with pytest.raises(ServingError, match=r"timed out|DEADLINE_EXCEEDED"):
        client.decode(z)
    assert time.monotonic() - start < 1.4
    assert len(server.asked) == 2  # the slow one once


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_a_server_that_is_not_there_is_named(kind):
    address = f"127.0.0.1:{free_port()}"
    transport = Grpc if kind == "grpc" else lambda address, **o: Rest(f"http://{address}", **o)
    with (
        ServingClient("dense", transport(address, retries=0)) as client,
        pytest.raises(ServingError, match=address) as refused,
    ):
        client.status()
    assert refused.value.status in (None, "UNAVAILABLE")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Rest(timeout=0), "timeout=0"),
        (lambda: Rest(retries=-1), "retries=-1"),
        (lambda: Grpc(timeout=float("nan")), "timeout=nan"),
        (lambda: Grpc(retries=5), "between 0 and 4. Received: retries=5"),
    ],
)
def test_settings_that_cannot_work_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("build", "module", "package"),
    [
        (Rest, "requests", "requests"),
        (Grpc, "tensorflow_serving.apis.predict_pb2", "tensorflow-serving-api"),
    ],
)
def test_a_missing_extra_names_the_install_command(monkeypatch, build, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf'{package}.*pip install "keras-vae\[serving\]"'):
        build()
