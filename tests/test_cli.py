"Whole commands: bad input, the files of a study, and an independent implementation."
import json, os, subprocess, sys
import time, weakref
from pathlib import Path
from types import SimpleNamespace
import pandas as pd
import pytest
from bizzaroworld import cli
from bizzaroworld.facts import InputError

HERE = Path(__file__).resolve().parent
TOOL = Path(sys.executable).parent/"bizzaroworld"
PAIRS = """category,clean_prompt,corrupt_prompt,clean_target,corrupt_target
capitals,The capital city of France is,The capital city of Japan is, Paris, Tokyo
capitals,The capital city of South Korea is,The capital city of Saudi Arabia is, Seoul, Riyadh
opposites,"As everyone knows, the opposite of hot is","As everyone knows, the opposite of big is", cold, small
languages,People in Spain mostly speak,People in France mostly speak, Spanish, French
"""


def tool(*words, cwd):
    return subprocess.run([TOOL, *map(str, words)], cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, env={**os.environ, "HF_HUB_OFFLINE": "1"})


BAD = {
    "missing file": (None, "no-such.csv", []),
    "wrong columns": ("a,b\n1,2\n", "bad.csv", []),
    "truncated JSON": ('[{"category": "c", "clean_prompt": "x', "bad.json", []),
    "binary noise": (bytes(range(256)) * 8, "bad.csv", []),
    "binary noise as JSON": (bytes(range(255, -1, -1)) * 8, "bad.json", []),
    "empty file": ("", "bad.csv", []),
    "no pairs": ("category,clean_prompt,corrupt_prompt,clean_target,corrupt_target\n", "bad.csv", []),
    "empty list": ("[]", "bad.json", []),
    "a folder": ("DIR", "bad.csv", []),
    "unknown selection": (PAIRS, "good.csv", ["--selection", "D"]),
    "unknown dtype": (PAIRS, "good.csv", ["--dtype", "float12"]),
    "unknown device": (PAIRS, "good.csv", ["--device", "abacus"]),
    "seed below zero": (PAIRS, "good.csv", ["--seed", "-5"]),
    "no experiment": (PAIRS, "good.csv", ["--experiments", ""]),
    "half a character": ('[{"category": "c", "clean_prompt": "\\ud800 is", "corrupt_prompt": "b is", "clean_target": " a", "corrupt_target": " b"}]', "bad.json", []),
    "rows wider than the header": ("category,clean_prompt,corrupt_prompt,clean_target,corrupt_target\nc,The capital of France is,The capital of Japan is, Paris, Tokyo,more\n", "wide.csv", []),
    "results in a file": (PAIRS, "good.csv", ["--out", "good.csv/deep"]),
    "no valid pair": ("category,clean_prompt,corrupt_prompt,clean_target,corrupt_target\nc,The capital of France is,The capital of France is, Paris, Tokyo\n", "same.csv", []),
}


# a process of its own for those that get furthest or that a library could comment on; the others share this one, which saves its imports
WHOLE = ("missing file", "binary noise", "no valid pair", "seed below zero")


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line_and_nothing_written(tmp_path, monkeypatch, capfd, what):
    content, name, words = BAD[what]
    if content == "DIR": (tmp_path/name).mkdir()
    elif content is not None: (tmp_path/name).write_bytes(content if isinstance(content, bytes) else content.encode())
    before = sorted(tmp_path.rglob("*"))
    line = ["study", "--model", "gemma-3-270m", "--battery", name, "--out", "out", *words]
    if what in WHOLE: done = tool(*line, cwd=tmp_path); status, out, err = done.returncode, done.stdout, done.stderr
    else:
        monkeypatch.chdir(tmp_path)
        status, (out, err) = cli.main(line), capfd.readouterr()
    assert status == 2, err
    assert len(err.strip().splitlines()) == 1 and "Traceback" not in err, err
    assert out == "" and sorted(tmp_path.rglob("*")) == before


def test_a_battery_without_a_valid_pair_costs_no_model(tmp_path, monkeypatch):
    "The tokenizer says it; the weights are not loaded for that."
    from bizzaroworld import models
    monkeypatch.setattr(models, "load", lambda *a, **k: pytest.fail("the model was loaded"))
    (tmp_path/"same.csv").write_text(BAD["no valid pair"][0])
    status, said = cli.typed(f"study --model gemma-3-270m --battery {tmp_path/'same.csv'}")
    assert status == 2 and "no valid pair" in said


def test_several_models(tmp_path, monkeypatch, capsys):
    "Each is studied, then all on the shared battery, first the model that is still in memory."
    from bizzaroworld import queue, results
    studied = []
    def steps(at, asked, out, **words):
        asked = asked() if callable(asked) else asked
        studied.append((at.name, asked.source, "".join(asked.experiments), out.relative_to(tmp_path).as_posix()))
        yield []
        return SimpleNamespace(run=dict(counts=dict(pairs_patched=1, rows=2), noise_floor=0.0, seconds=1.0, peak_memory_bytes=3))
    monkeypatch.setattr(queue, "study_steps", steps)
    monkeypatch.setattr(results, "shared_table", lambda results: pd.DataFrame(dict(category=["c"])))
    both = ["study", "--model", "gemma-3-270m", "smollm2-135m", "gemma-3-270m", "--json", "--results", str(tmp_path)]
    assert cli.main(both) == 0
    assert studied == [("gemma-3-270m", "default", "12A2B344F", "gemma-3-270m"), ("smollm2-135m", "default", "12A2B344F", "smollm2-135m"),
                       ("smollm2-135m", "shared", "13", "shared/smollm2-135m"), ("gemma-3-270m", "shared", "13", "shared/gemma-3-270m")]
    assert len(json.loads(capsys.readouterr().out)["studies"]) == 4
    def none(results): raise InputError("no pair is known to both")
    monkeypatch.setattr(results, "shared_table", none)
    assert cli.main(both) == 0 and len(studied) == 6   # the studies stand
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "no pair is known to both" in said[0], said


def test_large_models_are_in_memory_one_at_a_time(monkeypatch):
    from bizzaroworld import measuring
    class Model: pass
    alive = []
    def load(name, **words):
        assert room or all(model() is None for model in alive), "the last one is still in memory"
        model = Model()
        model.name, model.circle = name, model   # as modules refer to each other
        alive.append(weakref.ref(model))
        return model
    monkeypatch.setattr(measuring, "load", load); monkeypatch.setattr(measuring, "Network", lambda model: None)
    monkeypatch.setattr(measuring, "_bytes", lambda loaded: 10)
    for room in (0, 100):
        monkeypatch.setattr(measuring, "ROOM", room); alive.clear(); measuring.let_go()
        for name in "abab": assert measuring.hands_at(measuring.Load(name)).model.name == name
        assert len(alive) == (2 if room else 4)
    measuring.let_go(); assert all(model() is None for model in alive)


def test_unknown_model(tmp_path):
    done = tool("check", "--model", "no-such-model", cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1 and "no-such-model" in done.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    (folder/"new.csv").write_text(PAIRS)
    done = tool("study", "--model", "gemma-3-270m", "--battery", "new.csv", "--selection", "C", "--out", "out", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_files_of_a_study(finished):
    folder, summary = finished
    patches, triage, run = pd.read_parquet(folder/"out/patches.parquet"), pd.read_csv(folder/"out/triage.csv"), json.loads((folder/"out/run.json").read_text())
    assert list(patches.columns) == "model battery_idx category direction experiment site layer head position token_index window control ld_clean ld_corrupt ld_patched delta effect log_probability probability kl_divergence rank top1".split()
    assert list(triage.columns[:14]) == "rank battery_idx category total_swing ld_clean ld_corrupt p_clean_target_on_clean p_corrupt_target_on_corrupt clean_prompt corrupt_prompt clean_target corrupt_target clean_target_id corrupt_target_id".split()
    own = patches[patches.control.isna()]
    assert set(patches.experiment) == {"1", "2A", "2B", "3", "4", "4F", "5", "6", "7"} and set(patches.direction) == {"noising", "denoising"}
    # no pair of a category here has an entity as long as another's, so nobody lends within one
    assert set(patches.control.dropna()) == {"null", "other_category", "random_vector", "wrong_position", "random_head"}
    assert [len(json.loads(t)) for t in triage.clean_tokens] == list(triage.n_tokens) and run["bos"] is True
    assert len(patches) == summary["rows"] and own.experiment.isin(["1", "2A", "2B", "3", "4", "4F"]).sum() == summary["pairs"] * 2 * 18 * (1 + 5 + 5 + 1 + 4 + 4)
    metrics = ["log_probability", "probability", "kl_divergence", "rank", "top1"]
    assert patches[metrics].notna().all(axis=None)   # on every patch, controls too
    assert not own.duplicated(["battery_idx", "direction", "experiment", "site", "layer", "head", "position", "token_index", "window"]).any()
    assert {p.name for p in (folder/"out").glob("*.parquet")} == {"patches.parquet", "patterns.parquet", "attention.parquet", "attribution.parquet", "paths.parquet", "circuit.parquet", "lens.parquet", "approximations.parquet", "maps.parquet", "tops.parquet"}
    assert {"model", "revision", "dtype", "device", "battery", "battery_sha256", "versions", "git_commit", "seed", "seconds", "peak_memory_bytes", "noise_floor", "counts"} <= set(run)
    assert not list((folder/"out").glob(".*"))
    # experiments that name one measurement hold one number
    wide = own[own.site.str.startswith("resid")].pivot_table(index=["battery_idx", "direction", "position", "layer"], columns=["experiment", "site"], values="ld_patched")
    assert (wide[("2A", "resid_pre")] - wide[("1", "resid_pre")]).abs().max() < 1e-4
    assert (wide[("2B", "resid_mid")] - wide[("2B", "resid_post")]).abs().max() < 1e-4


def test_equal_to_plain_hooks(finished):
    "Against an implementation that shares nothing with the package: plain Hugging Face modules and forward hooks, in a process of its own."
    folder, _ = finished
    done = subprocess.run([sys.executable, HERE/"independent.py", folder/"out"], capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["compared"] >= 200 and found["worst"] < 0.01, found


def tiny_battery(path, pairs):
    "Pairs in the words of the tiny models."
    rows = ["c,The capital of France is,The capital of Japan is, Paris, Tokyo", "c,The capital of Spain is,The capital of Italy is, Madrid, Rome", "o,The opposite of hot is,The opposite of big is, cold, small"]
    path.write_text("\n".join([PAIRS.splitlines()[0], *(rows[i % 3] for i in range(pairs))]) + "\n")


def test_a_stopped_study_goes_on(tiny_folders, tiny_models, tmp_path, monkeypatch):
    "Killed in the middle, and started again: the same table as in one go, and the finished part is not made twice."
    from bizzaroworld import measuring, study as module
    from bizzaroworld.battery import read_battery
    from bizzaroworld.schema import EVERY_PAIR
    tiny_battery(tmp_path/"many.csv", 160); monkeypatch.chdir(tmp_path)
    words = ["study", "--model", str(tiny_folders["gemma3"]), "--battery", "many.csv", "--out", "out"]
    process = subprocess.Popen([TOOL, *words], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    made = lambda: sorted((tmp_path/"out/.parts").glob("[!.]*.parquet"))
    until = time.time() + 300
    while not made() and process.poll() is None and time.time() < until: time.sleep(0.01)
    process.kill(); process.wait()
    assert made() and not (tmp_path/"out/run.json").exists()
    calls, run = [], measuring.run_experiments
    monkeypatch.setattr(measuring, "run_experiments", lambda *words, **options: (calls.extend([1] * (tuple(words[3]) == EVERY_PAIR and not options.get("control"))), run(*words, **options))[1])
    study = lambda out: module.study(tiny_models["gemma3"], read_battery("many.csv"), out=tmp_path/out, source="many.csv").patches
    again = study("out")
    assert not calls and not made()
    whole = study("whole")
    assert calls == [1]
    numbers = ["ld_clean", "ld_corrupt", "ld_patched", "delta"]
    same = [c for c in again if c not in ("model", "effect", "rank", "top1", "log_probability", "probability", "kl_divergence", *numbers)]
    pd.testing.assert_frame_equal(again[same], whole[same])
    assert (again[numbers] - whole[numbers]).abs().max().max() < 1e-3


def sixty(found):
    return (found["pairs"], found["valid"], found["categories"], found["dropped"]) == (60, 60, 20, [])


def test_check_has_sixty_pairs_in_twenty_categories(tmp_path):
    done = tool("check", "--model", "gemma-3-270m", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sixty(json.loads(done.stdout)), done.stdout


def test_check_of_the_second_model(real_models, monkeypatch, capsys):
    "The same command on the model that other tests have loaded."
    from bizzaroworld import models
    monkeypatch.setattr(models, "load", lambda name, **_: real_models[name])
    assert cli.main(["check", "--model", "smollm2-135m", "--json"]) == 0
    assert sixty(json.loads(capsys.readouterr().out))


def test_pairs_that_were_not_drawn_are_not_left_out(tiny_folders, tmp_path, monkeypatch, capsys):
    "`--pairs` draws from the valid ones; what a study says of its battery counts those."
    tiny_battery(tmp_path/"new.csv", 3); monkeypatch.chdir(tmp_path)
    (tmp_path/"new.csv").write_text((tmp_path/"new.csv").read_text() + "c,The same,The same, a, b\n")
    assert cli.main(["study", "--model", str(tiny_folders["gemma3"]), "--battery", "new.csv", "--quick", "--pairs", "2", "--out", "out"]) == 0
    assert "1 of 4 pairs left out" in capsys.readouterr().err
    counts = json.loads((tmp_path/"out/run.json").read_text())["counts"]
    assert (counts["pairs_given"], counts["pairs_valid"], counts["pairs_patched"]) == (4, 3, 2)


def test_bench_reports_the_contract(tiny_folders, tmp_path):
    tiny_battery(tmp_path/"new.csv", 3)
    done = tool("bench", "--model", tiny_folders["gemma3"], "--battery", "new.csv", "--pairs", 2, "--sample", 10, "--no-peers", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"model", "patches", "reference_seconds", "engine_seconds", "speedup", "max_abs_difference"} <= set(found)
    assert found["max_abs_difference"] < 2e-3
