"A model split over several devices: on a machine without them, the same numbers, and nothing that mixes two devices."
import contextlib, itertools
from dataclasses import replace
from types import SimpleNamespace
import pandas as pd
import pytest, torch
from accelerate import dispatch_model
from bizzaroworld import circuit, experiments, hub, knowledge, measuring, memory, models, parts, plain, proof, tokens
from bizzaroworld.bench import random_pairs, study_patches
from bizzaroworld.cli import typed
from bizzaroworld.engine import Climb, patch_all
from bizzaroworld.families import layers_of
from bizzaroworld.network import Network
from bizzaroworld.results import BESIDE
from conftest import SHAPE, tiny_model
from pretend import gpu, split
from zoo import tiny, tiny_tokenizer

KINDS = ("gemma2", "gemma3_window", "llama")   # soft-caps, windows, neither


def some_pairs():
    pairs = random_pairs([(7, 2, 4), (9, 3, 4), (7, 2, 4), (8, 3, 4)], vocab=SHAPE["vocab_size"])
    return [replace(p, category="ab"[i % 2]) for i, p in enumerate(pairs)]


def all_numbers(net, pairs, mode=contextlib.nullcontext):
    "Every table of a study."
    every = parts.parts_of(pairs, pairs)
    tables = {p.name: experiments.run_experiments("m", net, list(p.pairs), p.ids, metrics=True, **(dict(control=p.control, pool=pairs) if p.control else {}))
        for p in every}
    patches, hands, beside = pd.concat(tables.values(), ignore_index=True), measuring.Loaded(SimpleNamespace(study_name="m"), net), {}
    for unit in parts.units_of(pairs, pairs, every, [t for t in BESIDE if t not in ("approximations", "tops")]):   # these go through the model itself
        with mode(): found, left_out = measuring.tables_of(hands, unit, patches)
        assert not left_out
        beside |= found
    return {**tables, **beside, "floor": pd.DataFrame([dict(floor=experiments.noise_floor(net, pairs[:2]))]), "baselines": knowledge.baselines(net, pairs)}


def same(got, wanted):
    assert set(got) == set(wanted)
    for name, table in wanted.items(): pd.testing.assert_frame_equal(got[name], table, check_exact=True, obj=name)


def model_of(kind): return tiny_model(kind).eval().requires_grad_(False)
def network(model): return Network(SimpleNamespace(original_model=model))


WAYS = {"all on one": lambda n: [0] * n, "halves": lambda n: [i * 2 // n for i in range(n)], "in turn": lambda n: [(i + 1) % 2 for i in range(n)]}


def there(kind, way, mode):
    "The engine of a tiny model whose layers lie on GPUs that are not there; its weights are made in a mode of gradients."
    model = model_of(kind)
    network(model)   # what there is in it is looked for once, here
    where, layers = layers_of(model)
    devices = WAYS[way](len(layers))
    with mode(): net = network(split(model, where, devices))
    assert [d.index for d in net.devices] == devices and net.device.index == 0
    return net


@pytest.mark.parametrize("kind", KINDS)
def test_a_split_study_has_the_same_numbers(kind, monkeypatch):
    "Two GPUs that are not there: the numbers of one, to the bit."
    pairs, found = some_pairs(), []
    known = {len(some): circuit.attribution(network(model_of(kind)), some) for some in (pairs, pairs[:2])}
    monkeypatch.setattr(circuit, "attribution", lambda net, pairs, **k: known[len(pairs)])   # its gradients have a test of their own
    for way in WAYS:
        with gpu(): found.append(all_numbers(there(kind, way, torch.inference_mode), pairs, torch.inference_mode))
    same(found[1], found[0]); same(found[2], found[0])


@pytest.mark.parametrize("kind", KINDS)
def test_layers_that_wait_elsewhere_give_the_same_numbers(kind, tmp_path, monkeypatch):
    "Weights on disk, fetched by accelerate for each call: what looks into a layer finds them, gradients too."
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)   # as on a GPU, where one thread asks: two would take them from each other
    pairs, model = some_pairs(), model_of(kind)
    wanted = all_numbers(network(model), pairs)
    where, layers = layers_of(model)
    far = model_of(kind)
    rest = {n: "cpu" for n, m in far.named_modules() if n and not where.startswith(n) and not n.startswith(where + ".")}
    dispatch_model(far, {**rest, **{f"{where}.{l}": "disk" if l % 2 else "cpu" for l in range(len(layers))}}, offload_dir=tmp_path)
    assert {p.device.type for p in layers_of(far)[1][1].parameters()} == {"meta"}
    same(all_numbers(network(far), pairs), wanted)


def test_the_pretence_refuses_two_devices():
    with gpu():
        a, b = torch.ones(3).to("cuda:0"), torch.ones(3).to("cuda:1")
        assert (a.device.index, b.device.index) == (0, 1) and (b + 1).device.index == 1 and torch.zeros(2, device="cuda:1").device.index == 1
        with pytest.raises(RuntimeError, match="two of them, cuda:0 and cuda:1"): a + b
        with pytest.raises(RuntimeError, match="two of them"): a[torch.zeros(1, dtype=torch.long, device="cuda:1")]
        assert torch.equal((a + b.to("cuda:0")).cpu(), torch.full((3,), 2.0)) and a.to("cuda:0") is a


def test_a_move_that_is_left_out_is_seen(monkeypatch):
    "Rows that are not brought to the next layer's device end in the pretence's refusal."
    pairs = some_pairs()
    with gpu():
        net = there("llama", "halves", torch.inference_mode)
        patch_all(net, pairs, study_patches(net))
        monkeypatch.setattr(Climb, "to", lambda self, level: None)
        with pytest.raises(RuntimeError, match="device"): patch_all(net, pairs, study_patches(net))


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_a_split_model_is_loaded_tested_and_proven(family, tmp_path, monkeypatch):
    "The whole way of `--device split`, by transformers and accelerate themselves: the processor stands for the GPU, the file for what waits."
    tiny(family).save_pretrained(tmp_path/"m"); tiny_tokenizer(True).save_pretrained(tmp_path/"m")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    whole = models.load(tmp_path/"m", device="cpu", self_test="always")
    def where(name, empty, device, **how):
        places = dict(enumerate(["cpu", "disk"]))
        return {n: "cpu" if p == 0 else p for n, p in memory.device_map_of(empty, [places[l % 2] for l in range(len(layers_of(empty)[1]))]).items()}
    monkeypatch.setattr(plain, "_where", where); monkeypatch.setattr(models, "pick_device", lambda device: device)
    model = models.load(tmp_path/"m", device="split", self_test="always")
    assert any(p.device.type == "meta" for p in model.plain.parameters())
    nets, pairs = (Network(whole), Network(model)), some_pairs()
    assert proof.prove(model, nets[1], pairs)["largest"] < 1e-4
    ours, theirs = (patch_all(net, pairs, study_patches(net)).ld for net in nets)
    assert torch.equal(ours, theirs)
    assert measuring.about(model, nets[1])["devices"] == ["cpu"]


def test_what_cannot_fit_is_refused_in_one_line(tmp_path, monkeypatch):
    tiny("llama").save_pretrained(tmp_path/"m"); tiny_tokenizer(True).save_pretrained(tmp_path/"m")
    monkeypatch.setattr(plain, "memory_there", lambda device="cpu": 1000)
    status, said = typed(f"study --model {tmp_path}/m --out {tmp_path}/out --device cpu")
    assert status == 2 and "needs about" in said and "are free: use" in said and said.count("\n") == 0
    assert not (tmp_path/"out"/"run.json").exists()
    monkeypatch.undo()
    assert typed("study --model gemma-3-270m --device split")[0] == 2 or torch.cuda.is_available()


def test_eight_gigabytes_are_enough_for_the_embedded_models():
    "The default study of each, whole, with two gigabytes for the rest of the machine."
    for name, device in itertools.product(("gemma-3-270m", "smollm2-135m"), ("cpu", "cuda")):
        shape = memory.shape_of(memory.empty_model(tokens.sound_config(str(hub.model_folder(name)))))
        assert memory.memory_needed(shape, pairs=60, device=device, threads=4)["total"] < 6e9
        memory.check_memory(name, shape, 4 * 10**9, device, pairs=60, tokens=32)
