"""JobSets as documents: what the cluster would be asked for, whatever the strings hold."""

from pathlib import Path, PurePosixPath

import pytest
import targets
from targets import Run, Start

from jaxcram.errors import UserError

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).resolve().parents[2]
TPU = "--image=eu.gcr.io/p/jaxcram:1 --claim=results --accelerator=tpu-v5-lite-podslice --devices=4"
GPU = "--image=i --claim=c --accelerator=nvidia-h200-141gb --devices=8"


def rendered(target_flags: str, *flags: str, out: str = "runs/it") -> dict:
    run = Run("it-full-lr0.5", ROOT / "configs" / "bundled.flags", flags, out)
    return yaml.safe_load(targets.jobset(run, Start(restarts=5, target_flags=target_flags)))


def pod(document: dict) -> dict:
    return document["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]


def test_a_tpu_slice():
    document = rendered(f"{TPU} --topology=4x4 --hosts=4 --spot", "--mode=full")
    assert (document["apiVersion"], document["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert document["metadata"] == {"name": "jaxcram-it-full-lr0-5"}
    assert document["spec"]["failurePolicy"] == {
        "maxRestarts": 5,
        "rules": [
            {
                "name": "notToBeResumed",
                "action": "FailJobSet",
                "onJobFailureReasons": ["PodFailurePolicy"],
            }
        ],
    }
    job = document["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert (job["completions"], job["parallelism"], job["completionMode"]) == (4, 4, "Indexed")
    assert job["backoffLimit"] == 0
    assert job["podFailurePolicy"]["rules"] == [
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": "jaxcram", "operator": "In", "values": [1, 2, 130]},
        }
    ]
    assert pod(document)["restartPolicy"] == "Never"
    assert pod(document)["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x4",
        "cloud.google.com/gke-spot": "true",
    }
    (container,) = pod(document)["containers"]
    assert container["name"] == "jaxcram"
    assert container["image"] == "eu.gcr.io/p/jaxcram:1"
    assert container["resources"] == {"limits": {"google.com/tpu": 4}}
    assert container["workingDir"] == container["volumeMounts"][0]["mountPath"] == "/results"
    assert container["command"] == [
        *("jaxcram", "cram", "--flagfile=/jaxcram/configs/bundled.flags", "--mode=full", "--out=runs/it")
    ]
    assert pod(document)["volumes"] == [
        {"name": "results", "persistentVolumeClaim": {"claimName": "results"}}
    ]


def test_gpus_of_several_hosts_get_the_coordinator_flags():
    document = rendered(f"{GPU} --hosts=2 --checkout=/src/it")
    (container,) = pod(document)["containers"]
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 8}}
    assert pod(document)["nodeSelector"] == {"cloud.google.com/gke-accelerator": "nvidia-h200-141gb"}
    assert container["command"] == [
        *("jaxcram", "cram", "--flagfile=/src/it/configs/bundled.flags", "--out=runs/it"),
        "--coordinator_address=jaxcram-it-full-lr0-5-cram-0-0.jaxcram-it-full-lr0-5:8476",
        *("--num_processes=2", "--process_id=$(JOB_COMPLETION_INDEX)"),
    ]


@pytest.mark.parametrize(
    "text", ["a b", "it's", 'say "hi"', "k: v # c", "[x]", "$name ${x}", "tab\tnew\nline"]
)
def test_values_are_quoted_safely(text):
    document = rendered(GPU, f"--texts={text}", out=f"runs/{text}")
    assert pod(document)["containers"][0]["command"][3:] == [f"--texts={text}", f"--out=runs/{text}"]


def test_kubernetes_expansion_is_escaped():
    assert pod(rendered(GPU, "--texts=$(HOME)"))["containers"][0]["command"][3] == "--texts=$$(HOME)"


def test_the_template_is_a_document_too():
    template = yaml.safe_load((ROOT / "launch" / "kubernetes" / "jobset.yaml").read_text())
    assert pod(template)["containers"][0]["image"] == "$image"


@pytest.mark.parametrize(
    ("target_flags", "complaint"),
    [
        (TPU, "--accelerator=tpu-v5-lite-podslice needs a --topology such as 4x4"),
        (f"{GPU} --topology=4x4", "--accelerator=nvidia-h200-141gb has no --topology"),
        (f"{GPU} --hosts=0", "--devices=8 --hosts=0 must be at least 1"),
        (GPU.replace("--claim=c", ""), "--claim is required; write --claim=VALUE"),
    ],
)
def test_invalid_pods_are_refused(target_flags, complaint):
    with pytest.raises(UserError, match=complaint):
        rendered(target_flags)


def test_a_flagfile_outside_the_checkout_is_refused(tmp_path):
    run = Run("it", tmp_path / "my.flags", (), "runs/it")
    with pytest.raises(UserError, match=r"my\.flags is not in the checkout, and nothing else is copied"):
        run.arguments(PurePosixPath("/jaxcram"))


def test_cloud_names_are_valid_and_unique():
    assert targets.dns_name("SmolLM2_1.7B-full-lr0.1") == "jaxcram-smollm2-1-7b-full-lr0-1"
    long = [targets.dns_name(f"model-progressive-lr0.01_0.1_0.5_1_5_{last}") for last in (10, 20)]
    assert [len(name) for name in long] == [45, 45]
    assert long[0] != long[1]


def test_manifests_are_written_and_applied(sweep_program, stub, tmp_path, monkeypatch):
    stub("kubectl", 'printf "%s\\n" "$@" >asked; cp "${2#*=}" applied')
    monkeypatch.chdir(tmp_path)
    assert (
        sweep_program("--target=kubernetes", "--root=my runs", f"--target_flags={GPU}", "--models=a/x") == 0
    )
    out = "my runs/x-progressive-lr0.01_0.1_0.5_1"
    assert (tmp_path / "asked").read_text().splitlines() == ["apply", f"--filename={out}.yaml"]
    applied = yaml.safe_load((tmp_path / "applied").read_text())
    assert pod(applied)["containers"][0]["command"] == [
        *("jaxcram", "cram", "--model=a/x", "--mode=progressive", "--learning_rates=0.01,0.1,0.5,1"),
        f"--out={out}",
    ]


def test_without_kubectl_the_manifests_are_still_written(sweep_program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    assert sweep_program("--target=kubernetes", "--root=k", f"--target_flags={GPU}", "--models=a/x") == 2
    assert capsys.readouterr().err == (
        "sweep.py: error: kubectl is not an executable on the PATH; install it, or use --dry_run to "
        "see the commands\n"
    )
    assert [path.name for path in (tmp_path / "k").iterdir()] == ["x-progressive-lr0.01_0.1_0.5_1.yaml"]
