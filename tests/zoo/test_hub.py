"""Models on the hub: huggingface-hub itself, against a stand-in that answers as the hub does."""

import hashlib
import http.server
import json
import shutil
import socket
import threading
import urllib.parse
from types import SimpleNamespace

import numpy as np
import pytest

import keras_vae.zoo
from keras_vae import models
from keras_vae.zoo import hub

huggingface_hub = pytest.importorskip("huggingface_hub")
constants = pytest.importorskip("huggingface_hub.constants")

REPO = "org/tiny"


class StandIn(http.server.ThreadingHTTPServer):
    """Serves the files of folders, each as one commit, and notes what was asked for."""

    request_queue_size = 64  # files are fetched side by side; beyond the queue, seconds are waited

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.commits = {}  # commit -> folder
        self.refs = {}  # branch or tag -> commit
        self.asked = []
        self.breaks_off = set()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def commit(self, folder, ref="main"):
        sha = hashlib.sha1(str(len(self.commits)).encode()).hexdigest()
        self.commits[sha], self.refs[ref] = folder, sha
        return sha


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        path = urllib.parse.unquote(urllib.parse.urlparse(self.path).path)
        self.server.asked.append(path)
        if not path.removeprefix("/api/models").startswith(f"/{REPO}"):
            return self.send(404, b"", {"X-Error-Code": "RepoNotFound"}, with_body)
        _, _, rest = path.partition(REPO)
        action, _, revision = rest.strip("/").partition("/")
        revision, _, name = revision.partition("/")
        sha = self.server.refs.get(revision or "main", revision)
        folder = self.server.commits.get(sha)
        if folder is None:
            return self.send(404, b"", {"X-Error-Code": "RevisionNotFound"}, with_body)
        files = sorted(file for file in folder.iterdir() if file.is_file())
        if action in ("", "revision"):
            siblings = [{"rfilename": file.name} for file in files]
            return self.send_json({"id": REPO, "sha": sha, "siblings": siblings}, with_body)
        if action == "tree":
            entries = [
                {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": "0" * 40}
                for file in files
            ]
            return self.send_json(entries, with_body)
        content = (folder / name).read_bytes()
        etag = hashlib.sha256(content).hexdigest()
        self.send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": sha}, with_body, name)

    def send_json(self, value, with_body):
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"}, with_body)

    def send(self, status, body, headers, with_body, name=None):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            half = name in self.server.breaks_off
            self.wfile.write(body[: len(body) // 2] if half else body)
            self.close_connection = half

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    server = StandIn()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # The library reads its environment once, when it is imported.

    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        server.url + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def offline(monkeypatch):
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "tiny"
    return keras_vae.zoo.save(models.DenseVAE((4, 4, 1), 2, hidden_units=(8,)), folder)


def test_a_model_on_the_hub_is_the_one_that_was_saved(server, saved):
    sha = server.commit(saved)
    expected = keras_vae.zoo.load(saved).sample(3, seed=1)
    for address in (f"hf://{REPO}", f"hf://{REPO}@main", f"hf://{REPO}@{sha}"):
        np.testing.assert_array_equal(keras_vae.zoo.load(address).sample(3, seed=1), expected)
    assert keras_vae.zoo.info(f"hf://{REPO}").recipe.name == "tiny"


def test_what_is_no_part_of_a_model_folder_is_not_downloaded(server, saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "with_code")
    (folder / "evil.py").write_text("raise SystemExit")
    (folder / "weights.pickle").write_text("no")
    server.commit(folder)
    assert {file.name for file in hub.fetch(f"hf://{REPO}").iterdir()} == {
        file.name for file in saved.iterdir()
    }


def test_a_commit_that_is_cached_is_loaded_offline_and_others_are_not(server, saved, offline):
    sha = server.commit(saved)
    keras_vae.zoo.load(f"hf://{REPO}@{sha}")
    server.asked.clear()
    offline()
    keras_vae.zoo.load(f"hf://{REPO}@{sha}")
    assert server.asked == []
    with pytest.raises(ConnectionError, match="could not be downloaded, and the cache does not"):
        keras_vae.zoo.load(f"hf://{REPO}@{'0' * 40}")


def test_a_wrong_revision_or_repository_is_named(server, saved):
    server.commit(saved)
    with pytest.raises(ValueError, match=f"{REPO} on the hub has no revision 'v9'"):
        keras_vae.zoo.load(f"hf://{REPO}@v9")
    with pytest.raises(ValueError, match="no repository 'org/other' on the hub"):
        keras_vae.zoo.load("hf://org/other")


@pytest.mark.parametrize(
    "address", ["hf://", "hf://name", "hf://a/b/c", "hf://a/b@", "hf://a/b@x y"]
)
def test_what_is_no_address_is_told_the_form(address):
    with pytest.raises(ValueError, match="hf://org/name@revision"):
        keras_vae.zoo.load(address)


def test_weights_that_were_tampered_with_are_refused(server, saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "tampered")
    weights = bytearray((folder / "model.weights.h5").read_bytes())
    weights[-1] ^= 1
    (folder / "model.weights.h5").write_bytes(weights)
    server.commit(folder)
    with pytest.raises(ValueError, match="sha256"):
        keras_vae.zoo.load(f"hf://{REPO}")


def test_a_download_that_breaks_off_leaves_no_model_and_goes_on(server, saved):
    server.commit(saved)
    server.breaks_off.add("model.weights.h5")
    with pytest.raises(ConnectionError, match="could not be downloaded"):
        keras_vae.zoo.load(f"hf://{REPO}")
    server.breaks_off.clear()
    keras_vae.zoo.load(f"hf://{REPO}")


def test_push_uploads_the_files_of_the_folder_and_pins_the_commit(saved, tmp_path, monkeypatch):
    calls = []

    def create_repo(self, repo_id, **options):
        calls.append(("create_repo", repo_id, options))

    def create_commit(self, **options):
        calls.append(("create_commit", options["repo_id"], options))
        return SimpleNamespace(oid="c0ffee")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub.HfApi, "create_commit", create_commit)
    folder = shutil.copytree(saved, tmp_path / "tiny")
    for name in ("notes.txt", "code.py", "notes.png", "drafts/samples.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("at home")
    assert keras_vae.zoo.push(folder, "hf://org/tiny", private=True) == "hf://org/tiny@c0ffee"
    (_, repo, created), (_, _, committed) = calls
    assert (repo, created["private"], created["exist_ok"]) == ("org/tiny", True, True)
    sent = {operation.path_in_repo: operation for operation in committed["operations"]}
    assert sorted(sent) == sorted(file.name for file in saved.iterdir())
    for name, operation in sent.items():
        with operation.as_file() as file:
            content = file.read()
        if name == "README.md":
            assert b'zoo.load("hf://org/tiny")' in content
        else:
            assert content == (saved / name).read_bytes()


def test_push_without_a_network_says_so(saved, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(OSError, match="cannot be reached"):
            keras_vae.zoo.push(saved, "hf://org/tiny")


def test_a_damaged_folder_is_not_pushed(saved, tmp_path, monkeypatch):
    folder = shutil.copytree(saved, tmp_path / "tiny")
    (folder / "golden.npz").write_bytes(b"")
    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(ValueError, match="golden.npz is corrupt"):
        keras_vae.zoo.push(folder, "hf://org/tiny")


def test_without_the_library_the_answer_is_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r'pip install "keras-vae\[hub\]"'):
        keras_vae.zoo.load("hf://org/tiny")
