"""Trains a tiny model again and again, each time in a process of its own that may kill itself.

It reads one JSON object per line: `folder`, and how to die: `step` (SIGKILL behind that optimizer
step), `write` (SIGKILL with half of a checkpoint written, at the first step from this on), `full`
(from this step on, the disk takes no more), `terminate` (SIGTERM behind that step). With `plateau`,
the learning rate is reduced on plateaus and follows no schedule. It answers with the exit status,
and the weights and the history of a training that came to its end. The processes are forked behind
the imports, which take longer than the training.
"""

import hashlib
import json
import os
import resource
import signal
import sys

import keras
import numpy as np
import tensorflow as tf

from keras_vae import DenseVAE, data
from keras_vae.averages import EvaluateAverages
from keras_vae.resume import ExactResume

EPOCHS, STEPS_PER_EPOCH = 4, 13


class Die(keras.callbacks.Callback):
    def __init__(self, plan, resume):
        super().__init__()
        self.plan, self.resume = plan, resume

    def on_train_batch_end(self, batch, logs=None):
        step = int(self.model.step)
        if step == self.plan.get("step"):
            os.kill(os.getpid(), signal.SIGKILL)
        if step == self.plan.get("terminate"):
            os.kill(os.getpid(), signal.SIGTERM)
        if step == self.plan.get("write"):
            np.savez = write_half_and_die
        if step == self.plan.get("full"):
            self.resume._finish_writing()  # what is on its way already finds room
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # EFBIG, as on a full disk
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


def write_half_and_die(file, **arrays):
    file.write(b"half of a checkpoint" * 100)
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def train(plan):
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.utils.set_random_seed(0)
    images = np.random.default_rng(0).random((50, 8, 8, 1), np.float32)
    epoch = tf.Variable(0, dtype=tf.int64)
    batches = data.batches(images, 4, binarization="dynamic", shuffle=True, epoch=epoch)
    vae = DenseVAE(event_shape=(8, 8, 1), latent_dim=2, hidden_units=(8,))
    stateful = [keras.callbacks.EarlyStopping("val_elbo", patience=3)]
    if plan.get("plateau"):
        learning_rate = 1e-2
        stateful.append(keras.callbacks.ReduceLROnPlateau("val_kl", patience=1))
    else:
        learning_rate = keras.optimizers.schedules.CosineDecay(1e-2, EPOCHS * STEPS_PER_EPOCH)
    vae.compile(keras.optimizers.Adam(learning_rate, use_ema=True, ema_momentum=0.9))
    resume = ExactResume(plan["folder"], epoch=epoch, every_steps=3, callbacks=stateful)
    callbacks = [*stateful, EvaluateAverages(), Die(plan, resume), resume]
    history = vae.fit(
        batches,
        epochs=EPOCHS,
        validation_data=images[:5].round(),
        callbacks=callbacks,
        verbose=0,
    )
    state = b"".join(np.asarray(v).tobytes() for v in (*vae.variables, *vae.optimizer.variables))
    return {
        "weights": hashlib.sha256(state).hexdigest(),
        "step": int(vae.step),
        "history": history.history,
    }


def in_process(plan):
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            result = json.dumps(train(plan)).encode()
            os.write(writer, result)
            status = 0
        except SystemExit as stop:
            status = stop.code
        except OSError as error:
            os.write(writer, json.dumps({"error": str(error)}).encode())
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {"status": status, **(json.loads(text) if text else {})}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(in_process(json.loads(line))), flush=True)
