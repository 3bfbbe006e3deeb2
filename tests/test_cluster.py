"""Files for cluster managers: what they say, and that the shell of one does what it should."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from keras_vae.cli import main
from keras_vae.cluster import ClusterJob, kubeflow_manifest, slurm_script, write_cluster_config

JOB = ClusterJob("/shared/recipe.toml", "/shared/it's a model", workers=3, gpus=2, hours=1.5)
SHIPPED = Path(__file__).parents[1] / "docs" / "distributed"


def test_kubeflow_gets_the_workers_and_starts_again_what_was_preempted():
    manifest = yaml.safe_load(kubeflow_manifest(JOB))
    assert (manifest["apiVersion"], manifest["kind"]) == ("kubeflow.org/v1", "TFJob")
    worker = manifest["spec"]["tfReplicaSpecs"]["Worker"]
    assert worker["replicas"] == 3
    assert worker["restartPolicy"] == "ExitCode"
    (container,) = worker["template"]["spec"]["containers"]
    assert container["name"] == "tensorflow"  # the one that the operator gives a TF_CONFIG
    assert container["command"] == JOB.command
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 2


def fake(folder, name, text):
    path = folder / name
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("status", "restarts", "is_queued_again"),
    [(0, 0, False), (1, 0, False), (138, 0, True), (143, 19, True), (138, 20, False)],
)
def test_slurm_gives_every_task_its_place_and_queues_again_what_was_preempted(
    tmp_path, status, restarts, is_queued_again
):
    fake(
        tmp_path,
        "scontrol",
        f'[ "$1" = show ] && printf "n%s\\n" 1 2 3; echo "$*" >> {tmp_path}/log',
    )
    # Runs the three tasks one by one.
    fake(
        tmp_path,
        "srun",
        'shift; for i in 0 1 2; do SLURM_PROCID=$i "$@"; status=$?; done; exit $status',
    )
    fake(tmp_path, "keras-vae", f'echo "$TF_CONFIG" "$#" "$4"; exit {status}')
    script = tmp_path / "train.sbatch"
    script.write_text(slurm_script(JOB))
    path = f"{tmp_path}:{os.environ['PATH']}"
    environment = {"PATH": path, "SLURM_JOB_NODELIST": "n[1-3]", "SLURM_JOB_ID": "7"}
    environment["SLURM_RESTART_COUNT"] = str(restarts)
    process = subprocess.run(
        ["bash", script], env=environment, capture_output=True, text=True, check=False
    )
    assert (process.returncode, process.stderr) == (status, "")
    lines = process.stdout.splitlines()
    assert len(lines) == 3
    for index, line in enumerate(lines):
        config, rest = json.JSONDecoder().raw_decode(line)
        assert config["cluster"] == {"worker": ["n1:2222", "n2:2222", "n3:2222"]}
        assert config["task"] == {"type": "worker", "index": index}
        assert line[rest:] == f" {len(JOB.command) - 1} /shared/it's a model"
    assert ("requeue 7" in (tmp_path / "log").read_text()) == is_queued_again
    assert "#SBATCH --time=01:30:00" in script.read_text()


def test_the_files_of_the_docs_are_what_the_command_writes(tmp_path):
    command = (SHIPPED / "README.md").read_text().partition("keras-vae ")[2].partition("\n")[0]
    result = CliRunner().invoke(main, [*command.split(), "--into", str(tmp_path)])
    assert result.exit_code == 0, result.output
    for name in ("tfjob.yaml", "train.sbatch"):
        assert (tmp_path / name).read_text() == (SHIPPED / name).read_text()


def test_files_that_are_there_are_replaced_only_on_demand(tmp_path):
    (tmp_path / "train.sbatch").write_text("mine")
    with pytest.raises(FileExistsError, match="train.sbatch"):
        write_cluster_config(JOB, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["train.sbatch"]
    assert (tmp_path / "train.sbatch").read_text() == "mine"
    write_cluster_config(JOB, tmp_path, overwrite=True)
    assert (tmp_path / "train.sbatch").read_text() != "mine"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"workers": 0}, "workers=0"),
        ({"name": "My Job"}, "name='My Job'"),
        ({"name": "2stage"}, "name='2stage'"),
        ({"gpus": -1}, "gpus=-1"),
        ({"hours": 0.01}, "at least 5 minutes"),
        ({"out": "gs://bucket/out"}, "local folder.*gs://bucket/out"),
    ],
)
def test_bad_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        ClusterJob(**{"recipe": "recipe.toml", "out": "out"} | setting)
