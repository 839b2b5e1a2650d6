"Whole commands: bad input, the files of a study, and an independent implementation."
import json, os, subprocess, sys
from pathlib import Path
import pandas as pd
import pytest

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
    "no valid pair": ("category,clean_prompt,corrupt_prompt,clean_target,corrupt_target\nc,The capital of France is,The capital of France is, Paris, Tokyo\n", "same.csv", []),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line_and_nothing_written(tmp_path, what):
    content, name, words = BAD[what]
    if content == "DIR": (tmp_path/name).mkdir()
    elif content is not None: (tmp_path/name).write_bytes(content if isinstance(content, bytes) else content.encode())
    before = sorted(tmp_path.rglob("*"))
    done = tool("study", "--model", "gemma-3-270m", "--battery", name, "--out", "out", *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr, done.stderr
    assert done.stdout == "" and sorted(tmp_path.rglob("*")) == before


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
    assert list(patches.columns) == "model battery_idx category direction experiment site layer head position token_index window control ld_clean ld_corrupt ld_patched delta effect".split()
    assert list(triage.columns[:14]) == "rank battery_idx category total_swing ld_clean ld_corrupt p_clean_target_on_clean p_corrupt_target_on_corrupt clean_prompt corrupt_prompt clean_target corrupt_target clean_target_id corrupt_target_id".split()
    assert set(patches.experiment) == {"1", "2A", "2B", "3", "4", "4F"} and set(patches.direction) == {"noising", "denoising"}
    assert len(patches) == summary["rows"] == summary["pairs"] * 2 * 18 * (1 + 5 + 5 + 1 + 4 + 4)
    assert {"model", "revision", "dtype", "device", "battery", "battery_sha256", "versions", "git_commit", "seed", "seconds", "peak_memory_bytes", "noise_floor", "counts"} <= set(run)
    assert not list((folder/"out").glob(".*"))
    # experiments that name one measurement hold one number
    wide = patches[patches.site.str.startswith("resid")].pivot_table(index=["battery_idx", "direction", "position", "layer"], columns=["experiment", "site"], values="ld_patched")
    assert (wide[("2A", "resid_pre")] - wide[("1", "resid_pre")]).abs().max() < 1e-4
    assert (wide[("2B", "resid_mid")] - wide[("2B", "resid_post")]).abs().max() < 1e-4


def test_equal_to_plain_hooks(finished):
    "Against an implementation that shares nothing with the package: plain Hugging Face modules and forward hooks, in a process of its own."
    folder, _ = finished
    done = subprocess.run([sys.executable, HERE/"independent.py", folder/"out"], capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["compared"] > 200 and found["worst"] < 0.01, found


def test_a_stopped_study_goes_on(finished, tmp_path):
    "Killed in the middle, and started again: the same table."
    folder, _ = finished
    rows = PAIRS.splitlines()
    many = "\n".join([rows[0]] + [rows[1 + i % 4] for i in range(24)]) + "\n"
    (tmp_path/"many.csv").write_text(many)
    words = ["study", "--model", "gemma-3-270m", "--battery", "many.csv", "--out", "out"]
    process = subprocess.Popen([TOOL, *words], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    import time
    for _ in range(3000):
        if list((tmp_path/"out/.parts").glob("*-00000.parquet")) or process.poll() is not None: break
        time.sleep(0.1)
    process.kill(); process.wait()
    assert not (tmp_path/"out/run.json").exists()
    stamp = next((tmp_path/"out/.parts").glob("*-00000.parquet")).stat().st_mtime_ns
    assert stamp
    assert tool(*words, cwd=tmp_path).returncode == 0
    again = pd.read_parquet(tmp_path/"out/patches.parquet")
    first = pd.read_parquet(folder/"out/patches.parquet")
    key = ["battery_idx", "direction", "experiment", "site", "layer", "head", "position"]
    both = again[again.battery_idx < 4].merge(first, on=key)
    assert len(both) == len(first) and (both.ld_patched_x - both.ld_patched_y).abs().max() < 2e-3


@pytest.mark.parametrize("model", ["gemma-3-270m", "smollm2-135m"])
def test_check_has_sixty_pairs_in_twenty_categories(tmp_path, model):
    done = tool("check", "--model", model, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["pairs"], found["valid"], found["categories"], found["dropped"]) == (60, 60, 20, [])


def test_bench_reports_the_contract(tmp_path):
    (tmp_path/"new.csv").write_text(PAIRS)
    done = tool("bench", "--model", "gemma-3-270m", "--battery", "new.csv", "--pairs", 2, "--sample", 10, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"model", "patches", "reference_seconds", "engine_seconds", "speedup", "max_abs_difference"} <= set(found)
    assert found["max_abs_difference"] < 2e-3
