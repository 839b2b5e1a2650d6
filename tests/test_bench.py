"The benchmark's own numbers: each library against the engine, shapes without weights, and a model in another process."
import json
import pytest, torch
from bizzaroworld import bench, cli, peers
from bizzaroworld.engine import patch_all
from bizzaroworld.network import Network
from bizzaroworld.patching import Patch


@pytest.mark.parametrize("name", peers.PEERS)
@pytest.mark.parametrize("kind", ["gemma3", "llama"])
def test_a_peer_says_what_the_engine_says(tiny_folders, tiny_models, name, kind):
    "In this process, to save imports; `bench` gives each library one of its own."
    package, make = peers.PEERS[name]
    if peers.installed(package) is None: pytest.skip(f"{package} is not installed (pip install -e '.[bench]')")
    model = tiny_models[kind]
    pair = bench.random_pairs([(7, 2, 4)], vocab=100)[0]
    patches = [Patch("resid_pre", 0, "entity_last"), Patch("resid_pre", 2, "final"), Patch("z", 1, "entity_last", 3), Patch("z", 3, "final", 0)]
    job = peers.make_job(pair, patches, model=str(tiny_folders[kind]))
    wanted = patch_all(Network(model), [pair], patches, directions=("noising",)).ld[0, 0].tolist()
    with torch.no_grad(): got = make(job)([tuple(p) for p in job["patches"]])
    assert any(v is not None for v in got)
    for a, b in zip(got, wanted): assert a is None or abs(a - b) < 1e-3


def test_a_shape_is_measured_on_the_command_line(tmp_path, capsys):
    shape = bench.read_shape("google/gemma-2b")
    shape["config"].update(num_hidden_layers=3, hidden_size=32, intermediate_size=64, vocab_size=300, head_dim=8)
    (tmp_path/"small.json").write_text(json.dumps(shape))
    out = tmp_path/"new"/"figures.json"
    assert cli.main(["bench", "--shape", str(tmp_path/"small.json"), "--device", "cpu", "--pairs", "3", "--sample", "4", "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads(out.read_text())
    assert {"model", "patches", "reference_seconds", "engine_seconds", "speedup", "max_abs_difference", "roofline_fraction", "peak_memory_bytes", "versions", "machine", "date", "command"} <= set(found)
    assert found["dtype"] == "bfloat16" and found["weights"] == "random"


def test_noise_is_measured_in_a_process_of_its_own(tiny_folders):
    found = bench.ask_worker(str(tiny_folders["gemma3"]), bench.random_pairs([(6, 2, 3)], vocab=100), dtype="bfloat16", device="cpu", sample=3)
    floor = max(found["floor"], found["floor_against_reference"])
    assert found["dtype"] == "bfloat16" and found["holds"] == (found["max_abs_difference"] <= floor)
    assert 0 < found["step_of_largest_ld"] and max(floor, found["max_abs_difference"]) <= 4 * found["step_of_largest_ld"], found
