"""The transport over HTTP, with tensors in JSON."""

import base64
import urllib.parse
from collections.abc import Mapping

import numpy as np

from keras_vae.export.client.protocol import (
    Servable,
    ServingError,
    SignatureInfo,
    TensorInfo,
    VersionStatus,
    signatures_of,
)
from keras_vae.export.client.transport_common import BACKOFF_SECONDS, check_patience, import_extra

_RETRIED = (429, 502, 503)


class Rest:
    """Speaks with a server over HTTP, its port 8501.

    Numbers travel as JSON. Floats survive it exactly; at some size of batch `Grpc` is faster.
    Failed connections and the statuses 429, 502 and 503 are tried again by urllib3's `Retry`: at
    once, then after 0.2 s, then after twice as long each time, whatever a `Retry-After` says. An
    answer that takes longer than the timeout is not asked for again, since the server is at work.

    Args:
        url: Scheme, host and port, and what a proxy wants before `/v1`.
        timeout: Seconds for the connection, in each try, and then between bytes of the answer.
        retries: How often to try again.
        rows: Whether inputs that share a batch axis go one row each, as `instances`, instead of one
            column for each input, as `inputs`. Answers are the same; columns are shorter.
        headers: Sent with each request, such as an `Authorization` that a proxy wants.

    Raises:
        ImportError: If the serving extra is not installed.
        ValueError: If the URL is none, `timeout` is not above 0, or `retries` is below 0.

    Example:

    >>> Rest("http://models.example:8501", timeout=2.0).url
    'http://models.example:8501'
    """

    def __init__(
        self,
        url: str = "http://localhost:8501",
        *,
        timeout: float = 10.0,
        retries: int = 3,
        rows: bool = False,
        headers: Mapping[str, str] | None = None,
    ):
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"`url` should begin with http:// or https://. Received: url={url!r}.")
        check_patience(timeout, retries)
        self.url = url.rstrip("/")
        self.timeout = timeout
        self.rows = rows
        self._requests = import_extra("requests")
        policy = _policy(retries)
        self._session = self._requests.Session()
        self._session.headers.update(headers or {})
        for scheme in ("http://", "https://"):
            adapter = self._requests.adapters.HTTPAdapter(max_retries=policy)
            self._session.mount(scheme, adapter)

    def predict(
        self,
        servable: Servable,
        signature: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Mapping[str, TensorInfo],
    ) -> dict[str, np.ndarray]:
        """Returns the named outputs of a signature.

        Args:
            servable: The model.
            signature: Name of the signature.
            inputs: Every input by name, in the dtype that the server wants.
            outputs: What is expected of it.

        Raises:
            ServingError: If the server refuses, or does not answer.
        """
        body = {"signature_name": signature}
        in_rows = self.rows and all(value.ndim for value in inputs.values())
        if in_rows:
            columns = [_plain(value) for value in inputs.values()]
            rows = zip(*columns, strict=True)
            body["instances"] = [dict(zip(inputs, row, strict=True)) for row in rows]
            answer = self._ask("POST", servable, ":predict", "predictions", body)
        else:
            body["inputs"] = {name: _plain(value) for name, value in inputs.items()}
            answer = self._ask("POST", servable, ":predict", "outputs", body)
        # A single output comes without its name.
        has_names = isinstance(answer[0] if in_rows else answer, dict)
        if has_names != (len(outputs) > 1):
            # Another version answers than the one that said what it offers.
            outputs = self.signatures(servable)[signature].outputs
        if not has_names:
            columns = dict.fromkeys(outputs, answer)
        elif in_rows:
            columns = {name: [row[name] for row in answer] for name in outputs}
        else:
            columns = answer
        return {name: np.asarray(columns[name], info.dtype) for name, info in outputs.items()}

    def signatures(self, servable: Servable) -> dict[str, SignatureInfo]:
        """Returns what the server says that the model offers.

        Args:
            servable: The model.

        Raises:
            ServingError: If the server refuses, or does not answer.
        """
        metadata = self._ask("GET", servable, "/metadata", "metadata")
        return signatures_of(metadata["signature_def"])

    def version(self, servable: Servable) -> int:
        """Returns the version that answers for a model: the newest one, or that of the label.

        Args:
            servable: The model.

        Raises:
            ServingError: If the server refuses, or does not answer.
        """
        return int(self._ask("GET", servable, "/metadata", "model_spec")["version"])

    def status(self, servable: Servable) -> list[VersionStatus]:
        """Returns the versions that the server knows; a label is passed over.

        Args:
            servable: The model.

        Raises:
            ServingError: If the server refuses, or does not answer.
        """
        found = self._ask("GET", servable, "", "model_version_status")
        return [
            VersionStatus(
                int(version["version"]), version["state"], version["status"]["error_message"]
            )
            for version in found
        ]

    def close(self) -> None:
        """Closes its connections."""
        self._session.close()

    def _ask(self, method, servable, what, key, body=None):
        url = f"{self.url}/v1/models/{urllib.parse.quote(servable.name, safe='')}"
        if servable.version is not None:
            url += f"/versions/{servable.version}"
        elif servable.label is not None:
            url += f"/labels/{servable.label}"
        url += what
        try:
            response = self._session.request(method, url, json=body, timeout=self.timeout)
        except self._requests.RequestException as error:
            raise ServingError(f"{url} does not answer: {error}") from error
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if response.ok and isinstance(answer, dict) and key in answer:
            return answer[key]
        # Not each answer comes from TF Serving: proxies have pages of their own.
        is_error = isinstance(answer, dict) and "error" in answer
        said = answer["error"] if is_error else response.text.strip()
        message = f"{url} answers {response.status_code} {response.reason}: {said}"
        raise ServingError(message, said=said, status=response.status_code)


def _policy(retries):
    urllib3 = import_extra("urllib3")

    class Retry(urllib3.Retry):
        def increment(self, method=None, url=None, response=None, error=None, *args, **kwargs):
            # Not `read=0`, which would also give up a connection that was closed while idle.
            if isinstance(error, urllib3.exceptions.ReadTimeoutError):
                raise error
            return super().increment(method, url, response, error, *args, **kwargs)

    return Retry(
        total=retries,
        backoff_factor=BACKOFF_SECONDS,
        status_forcelist=_RETRIED,
        allowed_methods=("GET", "POST"),
        raise_on_status=False,
        respect_retry_after_header=False,
    )


def _plain(value):
    """Returns what JSON can hold of an array; bytes as TF Serving wants them, in base64."""
    if value.dtype != object:
        return value.tolist()
    if value.ndim:
        return [_plain(np.asarray(row, object)) for row in value]
    return {"b64": base64.b64encode(value.item()).decode()}
