"""The operator's files, read by the parsers of those who will read them."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)
from tensorflow_serving.config import model_server_config_pb2

from keras_vae.export.serving import Batching, ServedModel, write_serving_config

NAMES = ["conv_mnist@1,2", "beta_mnist"]


@pytest.fixture
def folder(tmp_path):
    return write_serving_config(tmp_path / "serving", NAMES, batching=Batching())


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def models_config(folder):
    text = (folder / "config" / "models.config").read_text()
    parsed = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    return parsed.model_config_list.config


def compose(folder):
    return yaml.safe_load((folder / "compose.yaml").read_text())


def kubernetes(folder):
    documents = yaml.safe_load_all((folder / "kubernetes.yaml").read_text())
    return {document["kind"]: document for document in documents}


def container(folder):
    (found,) = kubernetes(folder)["Deployment"]["spec"]["template"]["spec"]["containers"]
    return found


def test_labelled_models_serve_their_labelled_versions_and_no_other(folder):
    labelled, _ = models_config(folder)
    assert (labelled.name, labelled.base_path) == ("conv_mnist", "/models/conv_mnist")
    assert labelled.model_platform == "tensorflow"
    assert dict(labelled.version_labels) == {"stable": 1, "canary": 2}
    assert list(labelled.model_version_policy.specific.versions) == [1, 2]


def test_models_without_labels_serve_the_newest_version(folder):
    _, plain = models_config(folder)
    assert (plain.name, dict(plain.version_labels)) == ("beta_mnist", {})
    assert plain.model_version_policy.latest.num_versions == 1


def message_of(name, file):
    """Returns an empty message of a .proto of TF Serving that its API package lacks."""
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))()


def batching_parameters(fields):
    """Returns `BatchingParameters`, of session_bundle_config.proto."""
    file = descriptor_pb2.FileDescriptorProto(name="batching.proto", syntax="proto3")
    file.dependency.append(wrappers_pb2.DESCRIPTOR.name)
    message = file.message_type.add(name="BatchingParameters")
    for number, (name, kind) in enumerate(fields.items(), 1):
        type_name = f".google.protobuf.{kind}"
        message.field.add(name=name, number=number, type=11, label=1, type_name=type_name)
    return message_of("BatchingParameters", file)


def monitoring_config():
    """Returns `MonitoringConfig`, of monitoring_config.proto."""
    file = descriptor_pb2.FileDescriptorProto(name="monitoring.proto", syntax="proto3")
    inner = file.message_type.add(name="PrometheusConfig")
    inner.field.add(name="enable", number=1, type=8, label=1)
    inner.field.add(name="path", number=2, type=9, label=1)
    outer = file.message_type.add(name="MonitoringConfig")
    field = {"name": "prometheus_config", "number": 1, "type": 11, "label": 1}
    outer.field.add(**field, type_name=".PrometheusConfig")
    return message_of("MonitoringConfig", file)


def test_batching_parameters_are_those_of_the_settings(folder):
    int64 = (
        "max_batch_size",
        "max_execution_batch_size",
        "batch_timeout_micros",
        "num_batch_threads",
        "max_enqueued_batches",
    )
    fields = dict.fromkeys(int64, "Int64Value") | {"enable_large_batch_splitting": "BoolValue"}
    text = (folder / "config" / "batching.config").read_text()
    parsed = text_format.Parse(text, batching_parameters(fields))
    assert {name: getattr(parsed, name).value for name in fields} == {
        "max_batch_size": 1024,
        "max_execution_batch_size": 64,
        "batch_timeout_micros": 1000,
        "num_batch_threads": 4,
        "max_enqueued_batches": 100,
        "enable_large_batch_splitting": True,
    }


def test_compose_mounts_what_its_flags_name(folder):
    server = compose(folder)["services"]["tensorflow-serving"]
    mounts = {mount["target"]: mount for mount in server["volumes"]}
    assert all(mount["read_only"] for mount in mounts.values())
    source = folder / mounts["/config"]["source"]
    files = [flag.split("=")[1] for flag in server["command"] if "_file=" in flag]
    assert len(files) == 3
    for path in files:
        assert (source / Path(path).relative_to("/config")).is_file()
    assert "--enable_batching=true" in server["command"]
    assert mounts["/models"]["source"] == "${MODELS_DIR:-./models}"


def test_compose_listens_on_this_machine_only_and_asks_for_every_model(folder):
    server = compose(folder)["services"]["tensorflow-serving"]
    assert server["image"] == "tensorflow/serving:2.21.0"
    assert server["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    probe = ["CMD", "bash", "/config/probe.sh", "conv_mnist", "beta_mnist"]
    assert server["healthcheck"]["test"] == probe


def test_kubernetes_carries_the_same_configuration_as_compose(folder):
    written = {
        name.removeprefix("config/"): text
        for name, text in contents(folder).items()
        if name.startswith("config/")
    }
    assert kubernetes(folder)["ConfigMap"]["data"] == written
    server = compose(folder)["services"]["tensorflow-serving"]
    assert container(folder)["args"] == server["command"]
    assert container(folder)["image"] == server["image"]
    assert container(folder)["startupProbe"]["exec"]["command"] == server["healthcheck"]["test"][1:]


def test_kubernetes_is_ready_by_the_status_of_a_model(folder):
    probe = container(folder)["readinessProbe"]["httpGet"]
    assert probe == {"path": "/v1/models/conv_mnist", "port": "rest"}


def test_kubernetes_names_agree_across_its_objects(folder):
    found = kubernetes(folder)
    spec = found["Deployment"]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels == found["Service"]["spec"]["selector"]
    ports = {port["name"]: port["containerPort"] for port in container(folder)["ports"]}
    offered = {port["targetPort"]: port["port"] for port in found["Service"]["spec"]["ports"]}
    assert ports == offered == {"grpc": 8500, "rest": 8501}
    volumes = {volume["name"] for volume in spec["template"]["spec"]["volumes"]}
    assert volumes == {mount["name"] for mount in container(folder)["volumeMounts"]}
    (source,) = (v["configMap"] for v in spec["template"]["spec"]["volumes"] if "configMap" in v)
    assert source["name"] == found["ConfigMap"]["metadata"]["name"]


def test_prometheus_reads_where_the_server_writes(folder):
    (job,) = yaml.safe_load((folder / "prometheus.yaml").read_text())["scrape_configs"]
    text = (folder / "config" / "monitoring.config").read_text()
    monitoring = text_format.Parse(text, monitoring_config()).prometheus_config
    assert monitoring.enable
    assert job["metrics_path"] == monitoring.path
    pod = kubernetes(folder)["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert pod["prometheus.io/path"] == monitoring.path
    assert job["static_configs"] == [{"targets": ["tensorflow-serving:8501"]}]


def test_without_batching_nothing_speaks_of_it(tmp_path):
    folder = write_serving_config(tmp_path / "serving", NAMES)
    assert not (folder / "config" / "batching.config").exists()
    assert not [name for name, text in contents(folder).items() if "batching" in text]


def test_the_probe_is_a_script_that_bash_reads(folder):
    script = folder / "config" / "probe.sh"
    subprocess.run(["bash", "-n", script], check=True)
    assert "curl" not in shlex.split(script.read_text(), comments=True)


def test_an_existing_folder_is_refused_and_left_alone(folder):
    before = contents(folder)
    with pytest.raises(FileExistsError, match="overwrite"):
        write_serving_config(folder, ["dense_mnist"])
    assert contents(folder) == before


def test_replacing_keeps_the_folders_that_a_server_has_mounted(folder):
    inode = (folder / "config").stat().st_ino
    (folder / "notes.txt").write_text("mine")
    write_serving_config(folder, ["conv_mnist@2"], overwrite=True)
    assert (folder / "config").stat().st_ino == inode
    assert (folder / "notes.txt").read_text() == "mine"
    (model,) = models_config(folder)
    assert dict(model.version_labels) == {"stable": 2}
    # A server that was started with it reads it again when it starts again.
    assert (folder / "config" / "batching.config").exists()


def test_a_failure_half_way_leaves_nothing(tmp_path, monkeypatch):
    write_text = Path.write_text

    def fill_up(path, text, **kwargs):
        if path.name == "kubernetes.yaml":
            raise OSError(28, "No space left on device")
        return write_text(path, text, **kwargs)

    monkeypatch.setattr(Path, "write_text", fill_up)
    with pytest.raises(OSError, match="No space left"):
        write_serving_config(tmp_path / "new" / "serving", NAMES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "Received: none"),
        (["conv_mnist", "conv_mnist@2"], "Received: conv_mnist, conv_mnist"),
        (["conv mnist"], "Received: 'conv mnist'"),
        (["../secrets"], "Received: '../secrets'"),
        (["conv_mnist@2,2"], "Received: stable=2, canary=2"),
        (["conv_mnist@"], "NAME@STABLE"),
        (["conv_mnist@-1"], "NAME@STABLE"),
    ],
)
def test_models_that_cannot_be_served_are_refused(tmp_path, names, message):
    with pytest.raises(ValueError, match=message):
        write_serving_config(tmp_path / "serving", names)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stable": -1}, "Received: stable=-1"),
        ({"stable": "1"}, "Received: stable='1'"),
        ({"canary": 1}, "Received: stable=None, canary=1"),
    ],
)
def test_versions_that_are_none_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ServedModel("conv_mnist", **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_threads": 0}, "Received: num_threads=0"),
        ({"timeout_micros": -1}, "Received: timeout_micros=-1"),
        ({"max_request_size": 32}, "max_batch_size=64. Received: max_request_size=32"),
        # Smaller than the requests that warm a version up.
        ({"max_batch_size": 32, "max_request_size": 63}, ">= 64.*Received: max_request_size=63"),
        (
            {"max_batch_size": 9, "max_enqueued_batches": 7},
            ">= 64.*Received: max_batch_size=9, max_enqueued_batches=7",
        ),
    ],
)
def test_batching_that_cannot_work_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Batching(**settings)


def test_the_smallest_batching_takes_the_requests_that_warm_a_version_up(tmp_path):
    batching = Batching(max_batch_size=1, max_request_size=64, max_enqueued_batches=64)
    folder = write_serving_config(tmp_path / "serving", NAMES, batching=batching)
    text = (folder / "config" / "batching.config").read_text()
    assert "may be below 64" in " ".join(re.findall("^#(.*)", text, re.MULTILINE))


def test_edited_numbers_of_batching_stay(tmp_path):
    folder = write_serving_config(tmp_path / "serving", "tiny", batching=True)
    batching = folder / "config" / "batching.config"
    fresh = batching.read_text()
    edited = fresh.replace("num_batch_threads { value: 4 }", "num_batch_threads { value: 16 }")
    assert edited != fresh
    batching.write_text(edited)
    write_serving_config(folder, "tiny@1,2", batching=True, overwrite=True)
    assert batching.read_text() == edited
    assert "num_batch_threads { value: 16 }" in (folder / "kubernetes.yaml").read_text()
    write_serving_config(folder, "tiny@1,2", batching=Batching(), overwrite=True)
    assert batching.read_text() == fresh


def test_one_model_may_be_given_by_itself(tmp_path):
    for number, model in enumerate(["tiny@1,2", ServedModel("tiny", 1, 2)]):
        folder = write_serving_config(tmp_path / f"{number}", model)
        text = (folder / "config" / "models.config").read_text()
        assert re.findall('name: "(.*)"', text) == ["tiny"]


@pytest.mark.parametrize("address", ["gs://bucket/serving", Path("s3://bucket/serving")])
def test_a_bucket_is_refused(tmp_path, monkeypatch, address):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="local folder"):
        write_serving_config(address, NAMES)
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_is_no_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Docker image"):
        write_serving_config(tmp_path / "serving", NAMES, image="tensorflow/serving\nprivileged: x")


def test_configuration_is_written_without_tensorflow(tmp_path, run_python):
    run_python(
        "import sys\n"
        "from keras_vae.export.serving import write_serving_config\n"
        "write_serving_config(sys.argv[1], ['conv_mnist'])\n"
        "assert not {'tensorflow', 'keras', 'numpy'} & {*sys.modules}",
        tmp_path / "serving",
    )
