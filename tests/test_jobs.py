"The sample job files: shells and clusters read them, and every command in them is one of ours."
import re, shlex, subprocess
from pathlib import Path

import pytest, yaml

from bizzaroworld import cli
from bizzaroworld.planning import reckoned

JOBS = Path(__file__).resolve().parent.parent / "data/jobs"
FILES = sorted(JOBS.iterdir())
SHELLS = [p for p in FILES if p.suffix in (".sh", ".sbatch")]


def commands(text):
    "Every line that calls us, in comments too."
    return [c for line in text.splitlines() if (c := line.strip().removeprefix("#").strip()).startswith("bizzaroworld ")]


def text_of(path): return path.read_text(encoding="utf-8")
def documents(): return list(yaml.safe_load_all(text_of(JOBS / "kubernetes.yaml")))


def faulty(command):
    "Whether the parser refuses a command."
    try: cli.parser().parse_args(shlex.split(command)[1:])
    except SystemExit: return True
    return False


def test_there_is_one_for_each():
    assert {p.name for p in FILES} == {"slurm.sbatch", "eight-gpus.sh", "kubernetes.yaml"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_it_begins_with_the_two_lines_that_start_it(path):
    lines = [l for l in text_of(path).splitlines() if not l.startswith("#!")]
    assert lines[0].startswith("# Two lines start it") and all(l.startswith("#   ") for l in lines[1:3]) and lines[3] == "#"
    assert path.name in " ".join(lines[1:3])   # one of them names the file


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_every_command_parses(path):
    found = commands(text_of(path))
    assert any(c.startswith("bizzaroworld study ") for c in found) and not [c for c in found if faulty(c)]


def test_a_word_that_is_none_is_seen():
    assert faulty("bizzaroworld study --model a --nodes 3") and faulty("bizzaroworld plan --model a --price much")


@pytest.mark.parametrize("path", SHELLS, ids=lambda p: p.name)
def test_bash_reads_it(path):
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr
    assert text_of(path).startswith("#!/bin/bash\n") and "\nset -euo pipefail\n" in text_of(path)


def test_slurm_reads_its_options_before_the_first_command():
    lines = text_of(JOBS / "slurm.sbatch").splitlines()
    options, first = [i for i, l in enumerate(lines) if l.startswith("#SBATCH")], next(i for i, l in enumerate(lines) if l and not l.startswith("#"))
    assert options and max(options) < first and all(re.fullmatch(r"#SBATCH --[a-z-]+=\S+", lines[i]) for i in options)
    study = cli.parser().parse_args(shlex.split(next(c for c in commands("\n".join(lines)) if " study " in c))[1:])
    assert (study.cluster, study.gpus, study.partition) == ("slurm", 1, "gpu")


def test_the_kubernetes_kinds():
    assert [(d["apiVersion"], d["kind"]) for d in documents()] == [
        ("v1", "PersistentVolumeClaim"), ("kubernetes.dask.org/v1", "DaskCluster"), ("batch/v1", "Job")]


def test_all_pods_have_the_same_package_and_the_same_disk():
    claim, cluster, job = documents()
    worker, scheduler, study = (cluster["spec"]["worker"]["spec"], cluster["spec"]["scheduler"]["spec"], job["spec"]["template"]["spec"])
    assert len({c["image"] for pod in (worker, scheduler, study) for c in pod["containers"]}) == 1
    for pod in (worker, study):   # results have one path for whoever measures and whoever joins
        assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert pod["containers"][0]["volumeMounts"] == [{"name": pod["volumes"][0]["name"], "mountPath": "/shared"}]
    assert worker["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_the_study_calls_the_scheduler_by_its_name():
    _, cluster, job = documents()
    line, = commands(job["spec"]["template"]["spec"]["containers"][0]["args"][0])
    args, service = cli.parser().parse_args(shlex.split(line)[1:]), cluster["spec"]["scheduler"]["service"]
    assert args.cluster == f"dask://{cluster['metadata']['name']}-scheduler:{service['ports'][0]['port']}"
    assert service["selector"]["dask.org/cluster-name"] == cluster["metadata"]["name"]


# ---------------------------------------------------------------- the calculator

@pytest.mark.parametrize("model,gpus", [("google/gemma-3-12b-it", 8), ("google/gemma-2b", 1)])
def test_a_gated_model_is_planned_from_its_shape(model, gpus, capsys):
    assert cli.main(["plan", "--model", model, "--pairs", "2000", "--gpus", str(gpus), "--price", "2.5"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [l.split()[0] for l in said] == [model + ",", "time", "memory", "disk", "money"]


def test_more_of_anything_is_never_cheaper():
    found = {(p, g): reckoned("google/gemma-2b", p, gpus=g, price=1) for p in (60, 600) for g in (1, 4)}
    assert all(found[600, g][k] > found[60, g][k] for g in (1, 4) for k in ("seconds", "money", "disk_bytes"))
    assert found[600, 4]["seconds"] < found[600, 1]["seconds"] and found[600, 4]["money"] > found[600, 1]["money"]


@pytest.mark.parametrize("words,said", [("--model nobody", "unknown model"), ("--model google/gemma-2b --price 2", "say --gpus too"),
    ("--model google/gemma-2b --gpus 0", "no count"), ("--model google/gemma-2b --gpus 1 --price -1", "no price"),
    ("--model google/gemma-2b --gpus 1 --price nan", "no price"), ("--model google/gemma-2b --gpus 1 --pairs 1000000000", "at most")])
def test_what_it_does_not_know_is_one_line(words, said, capsys):
    assert cli.main(["plan", *words.split()]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and said in lines[0]


def test_json_is_one_object(capsys):
    import json
    assert cli.main(["plan", "--model", "google/gemma-2b", "--gpus", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"] == "google/gemma-2b" and found["seconds"] > 0 and "money" not in found
    assert {"memory_bytes", "disk_bytes", "saturates", "workers"} <= set(found)
