"""What is REST's alone: its JSON, its headers, and that it needs no TensorFlow."""

import time

import pytest

from keras_vae.export.client import Rest, ServingClient, ServingError
from tests.export.client.stand_in import Handler, Refusal


def test_rows_are_instances_and_what_has_no_batch_goes_in_columns(server, z):
    client = ServingClient("dense", Rest(server.url, rows=True))
    client.decode(z[:2])
    client.sample(2)
    (_, decode), (_, sample) = server.asked
    assert decode == {
        "signature_name": "decode",
        "instances": [{"z": row} for row in z[:2].tolist()],
    }
    assert sample == {"signature_name": "sample", "inputs": {"num_samples": 2, "seed": [0, 0]}}


def test_a_page_in_the_place_of_json_is_quoted(server, z):
    server.failures = [Refusal("INTERNAL", "<html>Bad gateway</html>")]
    with pytest.raises(ServingError, match="<html>Bad gateway</html>") as refused:
        ServingClient("dense", Rest(server.url)).decode(z)
    assert refused.value.status == 500


@pytest.mark.parametrize("answer", [{"greeting": "hello"}, ["hello"], 5])
def test_another_kind_of_server_is_quoted(server, monkeypatch, answer):
    monkeypatch.setattr(server, "answer", lambda *_: answer)
    with pytest.raises(ServingError, match=r"(?s)200 OK: .*(hello|5)") as refused:
        ServingClient("dense", Rest(server.url)).status()
    assert refused.value.status == 200


def test_headers_reach_the_server(server, monkeypatch):
    seen = []
    answer = Handler.respond
    monkeypatch.setattr(
        Handler,
        "respond",
        lambda self, body: (seen.append(self.headers["Authorization"]), answer(self, body)),
    )
    rest = Rest(server.url + "/", headers={"Authorization": "Bearer token"})
    ServingClient("dense", rest).status()
    assert seen == ["Bearer token"]


def test_a_server_that_asks_for_hours_is_not_waited_for(server, monkeypatch, z):
    end_headers = Handler.end_headers

    def ask_to_wait(self):
        self.send_header("Retry-After", "5")
        end_headers(self)

    monkeypatch.setattr(Handler, "end_headers", ask_to_wait)
    server.failures = [Refusal("UNAVAILABLE", "The batch scheduling queue is full")]
    start = time.monotonic()
    ServingClient("dense", Rest(server.url)).decode(z)
    assert time.monotonic() - start < 4
    assert len(server.asked) == 2


def test_a_connection_that_is_dropped_is_made_again(server, monkeypatch):
    respond, drops = Handler.respond, iter([True])

    def drop_once(self, body):
        if next(drops, False):
            self.close_connection = True
        else:
            respond(self, body)

    monkeypatch.setattr(Handler, "respond", drop_once)
    assert ServingClient("dense", Rest(server.url)).status()


def test_a_url_without_a_scheme_is_refused():
    with pytest.raises(ValueError, match="url='localhost:8501'"):
        Rest("localhost:8501")


def test_over_rest_the_client_works_without_tensorflow(server, run_python):
    output = run_python(
        "import sys\n"
        "from keras_vae.export.client import Rest, ServingClient\n"
        "client = ServingClient('dense', Rest(sys.argv[1]))\n"
        "print(client.decode([[0.0, 1.0, 2.0]])['image'].shape)\n"
        "assert not {'tensorflow', 'keras', 'grpc'} & {*sys.modules}",
        server.url,
    )
    assert output.strip() == "(1, 9, 7, 1)"
