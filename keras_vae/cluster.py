"""Files that start a training on a cluster: the same settings for Kubeflow and for Slurm."""

import dataclasses
import errno
import json
import math
import re
import shlex
from pathlib import Path

from keras_vae.files import atomic_file, local_path

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,50}[a-z0-9])?")
_SECONDS_TO_SAVE = 120
_PORT = 2222


@dataclasses.dataclass(frozen=True)
class ClusterJob:
    """One training on several workers.

    Attributes:
        recipe: What `keras-vae train` takes: a recipe.toml in the shared folder, or a model's name.
        out: Folder for the finished model, in a folder that all workers share: the checkpoints
            lie beside it.
        workers: How many.
        name: Of the job: lower-case letters, digits and dashes, a letter first.
        cpus: Cores of each worker.
        memory: Of each worker, gigabytes.
        gpus: Of each worker.
        hours: Time limit of one run under Slurm, which then saves and queues again.
        every_steps: Optimizer steps between checkpoints.
        image: Container image with keras_vae, for Kubeflow.
        claim: Persistent volume claim that is mounted as /shared, for Kubeflow.

    Raises:
        ValueError: If a value is out of its range, or `out` is the address of a bucket.
    """

    recipe: str
    out: str
    workers: int = 2
    name: str = "keras-vae"
    cpus: int = 4
    memory: int = 16
    gpus: int = 0
    hours: float = 24.0
    every_steps: int = 1000
    image: str = "keras-vae:latest"
    claim: str = "shared"

    def __post_init__(self):
        local_path(self.out)
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                "`name` should be a lower-case letter and at most 51 letters, digits and dashes. "
                f"Received: name={self.name!r}."
            )
        for field in ("workers", "cpus", "memory", "every_steps"):
            if getattr(self, field) < 1:
                raise ValueError(
                    f"`{field}` should be at least 1. Received: {field}={getattr(self, field)}."
                )
        if self.gpus < 0:
            raise ValueError(f"`gpus` should be at least 0. Received: gpus={self.gpus}.")
        if not (math.isfinite(self.hours) and 60 * self.hours >= 5):
            raise ValueError(f"`hours` should be at least 5 minutes. Received: hours={self.hours}.")

    @property
    def command(self) -> list[str]:
        """What every worker runs, once it has its `TF_CONFIG`."""
        return [
            *("keras-vae", "train", self.recipe, "--out", self.out),
            *("--strategy", "multi-worker", "--every-steps", str(self.every_steps)),
        ]


def write_cluster_config(
    job: ClusterJob, folder: str | Path, *, overwrite: bool = False
) -> list[Path]:
    """Writes `tfjob.yaml` for Kubeflow and `train.sbatch` for Slurm.

    Args:
        job: What to run.
        folder: Where.
        overwrite: Whether files of these names may be replaced.

    Returns:
        The paths of the two.

    Raises:
        FileExistsError: If one of them exists and `overwrite` is not set.
        OSError: If they cannot be written.
    """
    texts = {"tfjob.yaml": kubeflow_manifest(job), "train.sbatch": slurm_script(job)}
    for path in (Path(folder, name) for name in texts):
        if path.exists() and not overwrite:
            raise FileExistsError(errno.EEXIST, "It exists already", str(path))
    for name, text in texts.items():
        with atomic_file(Path(folder, name)) as draft:
            draft.write_text(text, encoding="utf-8")
    return [Path(folder, name) for name in texts]


def kubeflow_manifest(job: ClusterJob) -> str:
    """Returns a `TFJob` of Kubeflow's training operator, which sets `TF_CONFIG` by itself.

    References:
        https://www.kubeflow.org/docs/components/trainer/legacy-v1/user-guides/tensorflow/
    """
    # JSON's lists and strings are YAML's.
    resources = {"cpu": str(job.cpus), "memory": f"{job.memory}Gi"}
    if job.gpus:
        resources["nvidia.com/gpu"] = job.gpus
    return f"""\
# Written by `keras-vae cluster-config`: kubectl apply --filename tfjob.yaml
apiVersion: kubeflow.org/v1
kind: TFJob
metadata:
  name: {json.dumps(job.name)}
spec:
  runPolicy:
    cleanPodPolicy: Running
    backoffLimit: 20
  tfReplicaSpecs:
    Worker:
      replicas: {job.workers}
      # Starts again from status 128 on: 138, which says "saved on request", and signals.
      restartPolicy: ExitCode
      template:
        spec:
          terminationGracePeriodSeconds: {_SECONDS_TO_SAVE}
          containers:
            - name: tensorflow
              image: {json.dumps(job.image)}
              command: {json.dumps(job.command)}
              workingDir: /shared
              resources:
                requests: {json.dumps(resources)}
                limits: {json.dumps(resources)}
              volumeMounts:
                - {{name: shared, mountPath: /shared}}
          volumes:
            - name: shared
              persistentVolumeClaim: {{claimName: {json.dumps(job.claim)}}}
"""


def slurm_script(job: ClusterJob) -> str:
    """Returns a batch script for Slurm, one worker to a node.

    References:
        https://slurm.schedmd.com/sbatch.html
    """
    minutes = round(60 * job.hours)
    gpus = f"#SBATCH --gpus-per-node={job.gpus}\n" if job.gpus else ""
    return f"""\
#!/bin/bash
# Written by `keras-vae cluster-config`: sbatch train.sbatch
#SBATCH --job-name={job.name}
#SBATCH --nodes={job.workers}
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task={job.cpus}
#SBATCH --mem={job.memory}G
{gpus}#SBATCH --time={minutes // 60:02d}:{minutes % 60:02d}:00
#SBATCH --signal=TERM@{_SECONDS_TO_SAVE}
#SBATCH --requeue
#SBATCH --open-mode=append

workers=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed 's/.*/"&:{_PORT}"/' | paste -sd,)
export CLUSTER="{{\\"worker\\": [$workers]}}"

# shellcheck disable=SC2016  # each task has an index of its own
srun --kill-on-bad-exit=1 bash -c '
    task="{{\\"type\\": \\"worker\\", \\"index\\": $SLURM_PROCID}}"
    export TF_CONFIG="{{\\"cluster\\": $CLUSTER, \\"task\\": $task}}"
    exec "$@"
' worker {shlex.join(job.command)}
status=$?

# 138: asked to stop, and saved; 143: asked between two saves. Going on takes the same command.
case "$status" in
138 | 143)
    [ "${{SLURM_RESTART_COUNT:-0}}" -ge 20 ] || scontrol requeue "$SLURM_JOB_ID"
    ;;
esac
exit "$status"
"""
