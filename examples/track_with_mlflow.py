"""Follows a training with MLflow, offline, and in a CSV file: numbers of every epoch.

    pip install -c constraints.txt ".[data,tracking]"             # from the clone
    python examples/track_with_mlflow.py --out tracked
    pip install mlflow                                            # mlflow-skinny lacks its `ui`
    mlflow ui --backend-store-uri sqlite:///tracked/mlflow.db     # to look at it

Keras' own callbacks do the work, here MLflow's; Weights & Biases has `wandb.integration.keras.
WandbMetricsLogger`, which takes the same place in the list. `LatentMonitor` stands before them, so
they find active units and mutual information in the logs.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when MLflow is imported

import keras
import mlflow
from mlflow.keras import MlflowCallback

import keras_vae


def main():
    """Trains a small model on scikit-learn's digits, and logs it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("tracked"), help="folder for all it makes")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)

    keras.utils.set_random_seed(0)
    splits = keras_vae.data.load("digits")
    train = keras_vae.data.batches(splits.train.images, 64, binarization="dynamic", shuffle=True)
    held_out = keras_vae.data.binarize(splits.validation.images, seed=777)
    vae = keras_vae.DenseVAE((8, 8, 1), latent_dim=8, hidden_units=(128, 128))
    vae.compile(keras.optimizers.Adam(1e-3))

    mlflow.set_tracking_uri(f"sqlite:///{out / 'mlflow.db'}")
    if mlflow.get_experiment_by_name("digits") is None:
        mlflow.create_experiment("digits", artifact_location=(out / "artifacts").as_uri())
    mlflow.set_experiment("digits")
    with mlflow.start_run():
        vae.fit(
            train,
            epochs=arguments.epochs,
            validation_data=held_out,
            verbose=0,
            callbacks=[
                keras_vae.callbacks.LatentMonitor(held_out),
                keras.callbacks.CSVLogger(out / "history.csv"),
                MlflowCallback(),
                keras_vae.callbacks.ProgressLine(),
            ],
        )
        folder = keras_vae.zoo.save(vae, out / "model", summary="Digits.", overwrite=True)
        mlflow.log_artifacts(folder, "model")


if __name__ == "__main__":
    main()
