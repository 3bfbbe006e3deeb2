"""The health probe that the configuration brings along, against the stand-in."""

import subprocess
from importlib import resources

from tests.export.client.stand_in import free_port


def probe(server, *names):
    script = resources.files("keras_vae.export.serving") / "templates" / "probe.sh"
    environment = {"PATH": "/usr/bin:/bin", "REST_PORT": str(server.port)}
    command = ["bash", str(script), *names]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode


def test_the_health_probe_succeeds_if_every_model_is_available(server):
    assert probe(server, "dense", "full_covariance") == 0
    assert probe(server, "dense", "dance") != 0


def test_the_health_probe_fails_while_a_model_loads_and_without_a_server(server, monkeypatch):
    known = server.answer("GET", "/v1/models/dense", None)
    known["model_version_status"][0]["state"] = "LOADING"
    monkeypatch.setattr(server, "answer", lambda *_: known)
    assert probe(server, "dense") != 0
    monkeypatch.setattr(server, "port", free_port())
    assert probe(server, "dense") != 0
