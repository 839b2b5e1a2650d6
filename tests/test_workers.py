"""Workers: processes, a real Dask cluster, submitit's local jobs, and what goes wrong with them, with the fault really made."""
import itertools, json, os, random, resource, shutil, signal, subprocess, sys, time
from pathlib import Path
import pandas as pd
import pytest, torch
from bizzaroworld import status, study
from bizzaroworld.battery import COLUMNS, align, read_battery
import lost_workers as lost

TOOL = lost.TOOL
WORDS = "france japan spain italy paris tokyo madrid rome hot cold big small".split()   # the tiny models have these


REAL = [("France", "Japan", " Paris", " Tokyo"), ("Italy", "Spain", " Rome", " Madrid"), ("Germany", "Russia", " Berlin", " Moscow"), ("Egypt", "Greece", " Cairo", " Athens")]


def battery(path, pairs=4):
    "So many pairs, none like another."
    subjects = list(itertools.permutations([w.capitalize() for w in WORDS], 2))[:pairs]
    rows = [f"{'co'[i % 2]},The capital of {a} is,The capital of {b} is, {WORDS[i % 5]}, {WORDS[5 + i % 7]}" for i, (a, b) in enumerate(subjects)]
    path.write_text("\n".join(["category,clean_prompt,corrupt_prompt,clean_target,corrupt_target", *rows]) + "\n")
    return path


def tool(*words, **options):
    return subprocess.run([TOOL, *map(str, words)], capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}, **options)


@pytest.fixture(scope="module")
def whole(tiny_folders, tmp_path_factory):
    "A battery of some pairs, and what one process makes of it."
    folder = tmp_path_factory.mktemp("whole")
    words = ["--model", str(tiny_folders["gemma3"]), "--battery", str(battery(folder/"many.csv", 100))]
    assert (done := tool("study", *words, "--out", folder/"out")).returncode == 0, done.stderr
    return words, folder/"out"


def begun(process, out, event="done", count=1):
    "Wait until workers have said something so often."
    until = time.time() + 300
    while time.time() < until and process.poll() is None:
        if sum(row["event"] == event for row in status.words_left(out/".parts") if out.is_dir()) >= count: return
        time.sleep(.05)
    raise AssertionError(process.communicate())


@pytest.mark.parametrize("kind", ["processes", "local", "dask"])
def test_workers_change_no_byte(kind, whole, tmp_path):
    words, out = whole
    if kind == "dask":
        with lost.cluster(tmp_path) as (_, address, nannies): process = lost.study(kind, words, tmp_path/"out", nannies, address); said = process.communicate()
    else: process = lost.study(kind, words, tmp_path/"out"); said = process.communicate()
    assert process.returncode == 0, said
    assert not lost.differing(tmp_path/"out", out)
    run = json.loads((tmp_path/"out/run.json").read_text())
    assert all(p["seconds"] > 0 and p["by"] for p in run["parts"]) and not (tmp_path/"out/.parts").exists()


@pytest.mark.parametrize("kind", ["processes", "local", "dask"])
def test_killed_workers_cost_only_what_was_lost(kind, whole, tmp_path):
    words, out = whole
    options = dict(every=(.3, 1.5))
    if kind == "dask":
        with lost.cluster(tmp_path) as (_, address, nannies): typed, said, kills = lost.disturb(kind, words, tmp_path/"out", 3, random.Random(1), nannies, address, **options)
    else: typed, said, kills = lost.disturb(kind, words, tmp_path/"out", 3, random.Random(1), **options)
    assert kills and not lost.differing(tmp_path/"out", out), said
    found = lost.counted(tmp_path/"out")
    assert not found["twice"] and found["begun"] - found["finished"] <= kills, found
    assert all("Traceback" not in text for text in said)


def test_cores_change_no_byte(tiny_models, tmp_path):
    "The plan of batches is the part's, not the machine's."
    table, before = read_battery(battery(tmp_path/"some.csv", 40)), torch.get_num_threads()
    try:
        for cores in (1, 2, 3):
            torch.set_num_threads(cores)
            study.study(tiny_models["gemma3"], table, out=tmp_path/str(cores), source="some")
    finally: torch.set_num_threads(before)
    assert not lost.differing(tmp_path/"2", tmp_path/"1") and not lost.differing(tmp_path/"3", tmp_path/"1")


@pytest.mark.real
def test_cores_change_no_byte_where_few_tokens_are_computed(real_models):
    "Gradients and single edges of a real model: matrices large enough to be shared out, and few rows."
    from bizzaroworld.approximations import approximate
    from bizzaroworld.engine import Network
    from bizzaroworld.routing import path_patching
    model, before = real_models["smollm2-135m"], torch.get_num_threads()
    pairs = list(align(pd.DataFrame([("capitals", f"Everybody knows that the capital of {a} is", f"Everybody knows that the capital of {b} is", c, d) for a, b, c, d in REAL], columns=COLUMNS), model.tokenizer).pairs)
    net, found = Network(model), []
    try:
        for cores in (1, 2):
            torch.set_num_threads(cores)
            found.append((approximate(model, pairs, name="smollm2-135m", methods=("atp",)), path_patching(net, pairs, [(23, 5), (11, 2)])))
    finally: torch.set_num_threads(before)
    for one, two in zip(*found): pd.testing.assert_frame_equal(one, two, check_exact=True)


FAULTS = """
import resource, sys, torch
from bizzaroworld import executors
def work():
    for _ in range(200): (torch.ones(512, 1024) * 2).sum()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
executors._keeping(work) if sys.argv[1] == "kept" else work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="an allocator of Linux")
def test_a_dask_worker_keeps_its_memory():
    "What Dask's nanny tells the allocator makes each tensor a page fault for every 4 kB; a task of ours takes it back."
    faults = {how: int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True,
        env={**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}).stdout) for how in ("given back", "kept")}
    assert faults["kept"] < faults["given back"] / 5, faults


def test_a_scheduler_that_goes_away(whole, tmp_path):
    "One line, and what was measured stays."
    words, out = whole
    with lost.cluster(tmp_path) as (scheduler, address, nannies):
        process = lost.study("dask", words, tmp_path/"out", nannies, address)
        begun(process, tmp_path/"out")
        for p in [*lost.children(scheduler.pid), scheduler]: p.kill()
        said = process.communicate(timeout=120)[1].strip().splitlines()
    assert process.returncode == 1 and "is gone" in said[-1] and "Traceback" not in "".join(said), said
    assert list((tmp_path/"out/.parts").glob("*.parquet"))
    again = tool("study", *words, "--out", tmp_path/"out", "--workers", "2")
    assert again.returncode == 0, again.stderr
    assert not lost.differing(tmp_path/"out", out)


def test_a_worker_of_another_version_is_refused(whole, tmp_path):
    words, _ = whole
    other = tmp_path/"other"; shutil.copytree(Path(study.__file__).parent, other/"bizzaroworld", ignore=shutil.ignore_patterns("__pycache__"))
    with open(other/"bizzaroworld/engine.py", "a") as f: f.write("\n# another version\n")
    for name in ("data", "nbs"): (other/name).symlink_to(Path(study.__file__).resolve().parent.parent/name)
    with lost.cluster(tmp_path, env=dict(PYTHONPATH=str(other))) as (_, address, nannies):
        done = tool("study", *words, "--out", tmp_path/"out", "--cluster", address)
    assert done.returncode == 2 and "install one version" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not (tmp_path/"out/run.json").exists()


def test_a_full_disk_stops_with_one_line(whole, tmp_path):
    "Files over a size cannot be written, as on a disk that is full; later they can."
    words, out = whole
    small = 60_000
    def narrow(): signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (small, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    done = tool("study", *words, "--out", tmp_path/"out", "--workers", "2", preexec_fn=narrow)
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1 and "File too large" in done.stderr, done.stderr
    assert not [p for p in (tmp_path/"out").rglob("*") if p.is_file() and p.name.endswith(".bizzaroworld")]
    failed = status.study_status(tmp_path/"out")
    assert failed["state"] == "failed" and any("too large" in why for why in failed["why"].values()), failed
    assert tool("study", *words, "--out", tmp_path/"out").returncode == 0
    assert not lost.differing(tmp_path/"out", out)


def test_two_commands_on_one_study(whole, tmp_path):
    words, out = whole
    first = lost.study("processes", words, tmp_path/"out")
    begun(first, tmp_path/"out", "began")
    second = tool("study", *words, "--out", tmp_path/"out", "--workers", "2")
    assert second.returncode == 2 and "is in use by process" in second.stderr
    told = tool("status", "--results", tmp_path, "--json")
    assert first.wait() == 0 and not lost.differing(tmp_path/"out", out)
    there = json.loads(told.stdout)["studies"]
    assert [s["state"] for s in there] in (["running"], ["finished"]), there


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_command_leaves_no_worker(how, whole, tmp_path):
    "Ctrl-C, or killed at once: the workers end, what is measured stays."
    words, out = whole
    for again in range(5):   # on a busy machine a study may end before it is stopped
        process = lost.study("processes", words, tmp_path/f"out-{again}")
        begun(process, tmp_path/f"out-{again}")
        workers = lost.workers_of("processes", process, [])
        process.send_signal(how)
        said = process.communicate(timeout=60)[1].strip().splitlines()
        if process.returncode: break
        shutil.rmtree(tmp_path/f"out-{again}")
    if how == signal.SIGINT: assert process.returncode == 1 and said == ["bizzaroworld: stopped; type the command again to go on where it was"], said
    else: assert process.returncode == -how, said
    until = time.time() + 20
    while any(w.is_running() and w.status() != "zombie" for w in workers) and time.time() < until: time.sleep(.1)
    assert workers and not any(w.is_running() and w.status() != "zombie" for w in workers)
    assert "parts done" in tool("status", "--results", tmp_path).stdout


def test_a_queue_goes_on_beside_a_broken_model(tiny_folders, tmp_path):
    "Two models and a broken one, two batteries, by a plan: four studies are finished, two say why."
    broken = tmp_path/"broken"; shutil.copytree(tiny_folders["llama"], broken)
    weights = next(broken.glob("*.safetensors")); weights.write_bytes(weights.read_bytes()[:-100])
    a, b = battery(tmp_path/"a.csv", 3), battery(tmp_path/"b.csv", 2)
    models = [tiny_folders["llama"], broken, tiny_folders["gemma3"]]
    plan = tmp_path/"plan.yaml"; plan.write_text(json.dumps(dict(model=list(map(str, models)), battery=[str(a), str(b)], quick=True)))
    done = tool("study", "--plan", plan, "--workers", "2", "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    # 2: what was asked could not be read; what could be studied was
    assert done.returncode == 2 and len(found["studies"]) == 4 and len(found["failed"]) == 2, done.stderr
    assert all("broken" in f["study"] and f["why"] for f in found["failed"]) and "Traceback" not in done.stderr
    states = [s["state"] for s in json.loads(tool("status", "--results", "results", "--json", cwd=tmp_path).stdout)["studies"]]
    assert sorted(states) == ["failed"] * 2 + ["finished"] * 4, states
    again = tool("study", "--plan", plan, "--workers", "2", cwd=tmp_path)
    assert again.returncode == 2 and len(again.stdout.strip().splitlines()) == 4


@pytest.mark.parametrize("words, said", [
    (["--model", "gemma-3-270m", "--plan", "x.csv"], "either --model or --plan"),
    (["--plan", "nowhere.yaml"], "nowhere.yaml"),
    (["--model", "gemma-3-270m", "--workers", "0"], "at least 1"),
    (["--model", "gemma-3-270m", "--cluster", "kubernetes"], "no such scheduler file"),
    (["--model", "gemma-3-270m", "--cluster", "dask://nowhere"], "give dask://HOST:PORT"),
    (["--model", "gemma-3-270m", "--cluster", "dask://127.0.0.1:9"], "no Dask scheduler answers"),
    (["--model", "gemma-3-270m", "--partition", "p"], "go with --cluster slurm"),
    (["--model", "gemma-3-270m", "--cluster", "slurm"], "--cluster slurm")])
def test_wrong_words_in_one_line(words, said, tmp_path):
    done = tool("study", *words, cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not list(tmp_path.iterdir())


def test_what_is_not_installed_is_said(monkeypatch):
    from bizzaroworld import executors
    from bizzaroworld.facts import InputError
    monkeypatch.setattr(executors, "find_spec", lambda name: None)
    for cluster, extra in (("dask://1.2.3.4:5", "dask"), ("slurm", "slurm")):
        with pytest.raises(InputError, match=rf"bizzaroworld\[{extra}\]"): executors.executor_of(cluster=cluster)
