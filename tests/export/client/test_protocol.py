"""What a server says of its models and of requests that fail, over each transport."""

import re

import pytest

from keras_vae.export.client import ServingError, VersionStatus
from tests.export.client.stand_in import Refusal


def test_status_lists_the_versions_newest_first(server, exported, connect):
    server.load("dense", exported[0] / "dense" / "2")
    assert connect("dense").status() == [
        VersionStatus(2, "AVAILABLE", ""),
        VersionStatus(1, "AVAILABLE", ""),
    ]
    assert connect("dense", version=1).status() == [VersionStatus(1, "AVAILABLE", "")]


def test_status_of_a_label_is_that_of_the_version_that_bears_it(server, exported, connect):
    server.load("dense", exported[0] / "dense" / "2")
    server.labels = {"dense": {"stable": 1, "canary": 2}}
    assert connect("dense", label="stable").status() == [VersionStatus(1, "AVAILABLE", "")]
    assert connect("dense", label="canary").status() == [VersionStatus(2, "AVAILABLE", "")]
    with pytest.raises(ServingError, match="Unrecognized servable version label: cannery"):
        connect("dense", label="cannery").status()


@pytest.mark.parametrize(
    ("where", "statuses", "said"),
    [
        ({"name": "dance"}, (404, "NOT_FOUND"), "Servable not found for request: Latest(dance)"),
        ({"name": "dense", "version": 9}, (404, "NOT_FOUND"), "Specific(dense, 9)"),
        (
            {"name": "dense", "label": "stable"},
            (400, "INVALID_ARGUMENT"),
            "Unrecognized servable version label: stable",
        ),
    ],
)
def test_what_the_server_does_not_know_is_answered_in_its_words(connect, z, where, statuses, said):
    with pytest.raises(ServingError, match=re.escape(said)) as refused:
        connect(**where).decode(z)
    assert said in refused.value.said
    assert refused.value.status in statuses


def test_an_error_in_the_model_is_reported_at_once(server, connect, z):
    server.failures = [Refusal("INTERNAL", "out of cheese")]
    with pytest.raises(ServingError, match="out of cheese") as refused:
        connect("dense").decode(z)
    assert refused.value.status in (500, "INTERNAL")
    assert len(server.asked) == 1
