"""Warm-up records: the requests that TF Serving sends to itself before a version takes traffic."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_vae.export.proof import Case
from keras_vae.export.runtimes import WARM_UP, WARM_UP_BATCH_SIZES
from keras_vae.export.verification import extra


def write_warm_up(folder: Path, name: str, cases: Iterable[Case]) -> None:
    """Writes one request of each batch size for each signature, as `PredictionLog` records.

    A signature's first call plans its graph and takes about fifty times as long as later ones. TF
    Serving replays these records while it loads the version, and refuses the version if one fails.
    So `sample` has none: it takes a number, not a batch, and a server that joins requests into
    batches refuses it.

    Args:
        folder: The version.
        name: Of the model on the server.
        cases: Calls, of which the first of each signature gives the inputs.

    Raises:
        ImportError: If tensorflow-serving-api is not installed.
    """
    predict_pb2 = extra("tensorflow_serving.apis.predict_pb2")
    prediction_log_pb2 = extra("tensorflow_serving.apis.prediction_log_pb2")
    first = {}
    for case in cases:
        if all(np.ndim(value) for value in case.inputs.values()):
            first.setdefault(case.signature, case.inputs)
    path = folder / WARM_UP
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in first.items():
            for size in WARM_UP_BATCH_SIZES:
                request = predict_pb2.PredictRequest()
                request.model_spec.name = name
                request.model_spec.signature_name = signature
                for key, value in inputs.items():
                    batch = np.resize(value, (size, *value.shape[1:]))
                    request.inputs[key].CopyFrom(tf.make_tensor_proto(batch))
                predict_log = prediction_log_pb2.PredictLog(request=request)
                log = prediction_log_pb2.PredictionLog(predict_log=predict_log)
                writer.write(log.SerializeToString())
