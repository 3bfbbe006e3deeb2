"""Model folders on the Hugging Face Hub: `hf://org/name@revision`."""

import re
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from keras_vae.extras import require
from keras_vae.zoo import store
from keras_vae.zoo.card import card_of

_SCHEME = "hf://"
_ADDRESS = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
# What a model folder holds: data. Whatever else a repository has is left there.
_FILES = ["recipe.toml", store.WEIGHTS, "results.json", "golden.npz", "README.md", "*.png"]


class Address(NamedTuple):
    """Where on the hub a model lies.

    Attributes:
        repo: "org/name".
        revision: A branch, tag or commit; the main branch if None.
    """

    repo: str
    revision: str | None


def parse(address: str) -> Address:
    """Returns the parts of an address.

    Raises:
        ValueError: If it is none.

    Example:

    >>> parse("hf://org/name@v1.0")
    Address(repo='org/name', revision='v1.0')
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise ValueError(
            f"An address on the hub is `hf://org/name@revision`. Received: {address!r}."
        )
    return Address(match["repo"], match["revision"])


def fetch(address: str) -> Path:
    """Returns the folder of a model on the hub, downloaded into the hub's cache if need be.

    The library writes each file beside its place and moves it there whole, so what breaks off
    leaves nothing that `load` would take for a model; the next call goes on. The cache is that of
    huggingface-hub (`HF_HOME`), and with `HF_HUB_OFFLINE=1` it is all that is looked at.

    Args:
        address: `hf://org/name@revision`. With a commit as the revision, it is the same model for
            ever; a branch may move.

    Raises:
        ImportError: If the hub extra is not installed.
        ConnectionError: If the hub cannot be reached and the cache does not have it.
        ValueError: If there is no such repository or revision, no access to it, or no model in it.
    """
    hub = _library()
    repo, revision = parse(address)
    try:
        folder = hub.snapshot_download(repo, revision=revision, allow_patterns=_FILES)
    except hub.errors.RevisionNotFoundError as error:
        raise ValueError(f"{repo} on the hub has no revision {revision!r}.") from error
    except hub.errors.GatedRepoError as error:
        raise ValueError(f"{repo} on the hub is gated: ask for access on its page.") from error
    except hub.errors.RepositoryNotFoundError as error:
        raise ValueError(
            f"There is no repository {repo!r} on the hub, or it is private and no token is set "
            "(`hf auth login`)."
        ) from error
    except (OSError, hub.errors.HTTPError) as error:
        raise ConnectionError(
            f"{address} could not be downloaded, and the cache does not hold all of it: {error}"
        ) from error
    folder = Path(folder)
    if not (folder / "recipe.toml").is_file():
        raise ValueError(f"{address} is no model folder: it holds no recipe.toml.")
    return folder


def push(folder: str | Path, address: str, *, private: bool = False) -> str:
    """Uploads a model folder to the hub, in one commit, and returns the address that pins it.

    Every file that results.json lists is checked against its sha256 first, and nothing but these,
    results.json and the card, which names the address, is uploaded. The repository is created if
    it is not there. The token is that of `hf auth login`, or of the environment variable
    `HF_TOKEN`.

    Args:
        folder: A model folder, or the name of a shipped model.
        address: `hf://org/name`, or `hf://org/name@branch` for a branch that exists.
        private: Whether a repository that is created should be private.

    Returns:
        `hf://org/name@commit`, which loads exactly this model.

    Raises:
        ImportError: If the hub extra is not installed.
        OSError: If the hub refuses, or cannot be reached; the message is the hub's.
        ValueError: If it is no model folder, a file is damaged, or the address is none.
    """
    repo, branch = parse(address)
    folder = store.find(folder)
    files = store.read_results(folder)["files"]
    store.check_files(folder, files)
    sent = {name: folder / name for name in [*files, "results.json"]}
    sent["README.md"] = card_of(folder, address).encode()
    hub = _library()
    api = hub.HfApi()
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        commit = api.create_commit(
            repo_id=repo,
            operations=[hub.CommitOperationAdd(name, content) for name, content in sent.items()],
            revision=branch,
            commit_message=f"Upload {folder.name}",
        )
    except hub.errors.HTTPError as error:
        if isinstance(error, OSError):  # the hub's answer
            raise
        raise ConnectionError(f"The hub cannot be reached: {error}") from error
    return f"{_SCHEME}{repo}@{commit.oid}"


def _library() -> ModuleType:
    require("huggingface_hub.errors", "hub", "The hub needs")
    return require("huggingface_hub", "hub", "The hub needs")
