"The code for a GPU, on a machine without one: all tensors on one device, the same numbers, and no waiting inside a sweep."
import copy
from dataclasses import replace
from types import SimpleNamespace
import pandas as pd
import pytest, torch
from bizzaroworld import circuit, experiments, knowledge, lens, measuring, parts, routing
from bizzaroworld.bench import random_pairs, study_patches
from bizzaroworld.engine import patch_all
from bizzaroworld.network import Network
from bizzaroworld.results import BESIDE
from conftest import SHAPE, tiny_model
from pretend import There, gpu, move

KINDS = ("gemma2", "gemma3_window", "llama")   # soft-caps, windows, neither


def network(kind, *, there):
    model = tiny_model(kind).eval().requires_grad_(False)
    if there:
        Network(SimpleNamespace(original_model=model))   # what there is in it is looked for once, here
        with torch.inference_mode(): move(model)
    return Network(SimpleNamespace(original_model=model))


def some_pairs():
    pairs = random_pairs([(7, 2, 4), (9, 3, 4), (7, 2, 4), (8, 3, 4)], vocab=SHAPE["vocab_size"])
    return [replace(p, category="ab"[i % 2]) for i, p in enumerate(pairs)]


def all_numbers(net, pairs):
    "Every table of a study."
    every = parts.parts_of(pairs, pairs)
    tables = {p.name: experiments.run_experiments("m", net, list(p.pairs), p.ids, metrics=True, **(dict(control=p.control, pool=pairs) if p.control else {}))
        for p in every}
    patches, hands, beside = pd.concat(tables.values(), ignore_index=True), measuring.Loaded(SimpleNamespace(study_name="m"), net), {}
    for unit in parts.units_of(pairs, pairs, every, [t for t in BESIDE if t not in ("approximations", "tops")]):   # these go through the model itself
        with torch.inference_mode(): found, left_out = measuring.tables_of(hands, unit, patches)
        assert not left_out
        beside |= found
    return {**tables, **beside, "floor": pd.DataFrame([dict(floor=experiments.noise_floor(net, pairs[:2]))])}


@pytest.mark.parametrize("kind", KINDS)
def test_a_study_has_the_same_numbers(kind, monkeypatch):
    "All but the gradients of attribution patching, which the pretence does not follow."
    pairs, here = some_pairs(), network(kind, there=False)
    known = {len(some): circuit.attribution(here, some) for some in (pairs, pairs[:2])}
    monkeypatch.setattr(circuit, "attribution", lambda net, pairs, **k: known[len(pairs)])
    wanted = all_numbers(here, pairs)
    with gpu() as waits: got = all_numbers(network(kind, there=True), pairs)
    assert waits   # it was on the GPU
    for name, table in wanted.items(): pd.testing.assert_frame_equal(got[name], table, rtol=1e-3, atol=1e-4, obj=name)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_waited_for_inside_a_sweep(kind):
    "However many steps there are, the GPU is waited for equally often."
    pairs, found = some_pairs(), []
    with gpu(): net = network(kind, there=True)
    patches = study_patches(net) + [p for p in (*experiments.patches_for(net, "6"), *experiments.patches_for(net, "7"))]
    for budget, some in ((4, pairs), (32, pairs), (10_000, pairs), (10_000, pairs[:1])):
        with gpu() as waits: patch_all(net, some, patches, budget=budget)
        found.append(dict(waits))
    assert found[0] and all(f == found[0] for f in found), found
    assert sum(found[0].values()) < 10


@pytest.mark.parametrize("kind", KINDS)
def test_apples_gpu_is_asked_for_no_float64(kind, monkeypatch):
    "Patches, lens and the tables of routes on a device that refuses it: the same numbers."
    pairs, here = some_pairs(), network(kind, there=False)
    patches = study_patches(here) + [p for p in (*experiments.patches_for(here, "6"), *experiments.patches_for(here, "7"))]
    heads = [(0, 1), (1, 0)]
    def numbers(net):
        runs = routing.pair_runs(net, pairs)
        return dict(patches=pd.DataFrame(patch_all(net, pairs, patches).ld.flatten(0, -2).cpu().numpy()), baselines=knowledge.baselines(net, pairs),
            lens=lens.lens(net, pairs, name="m", runs=runs), attention=routing.attention_to_entity(net, pairs, runs=runs),
            attribution=routing.direct_logit_attribution(net, pairs, runs=runs), paths=routing.path_patching(net, pairs, heads, runs=runs).drop(columns="effect"))   # which is LD over a swing, small for some
    with torch.inference_mode(): wanted = numbers(here)
    with gpu("mps") as waits, torch.inference_mode():
        net = network(kind, there=True)
        assert net.device.type == "mps"
        got = numbers(net)
    assert waits
    for name, table in wanted.items(): pd.testing.assert_frame_equal(got[name], table, rtol=1e-3, atol=1e-4, obj=name)


def test_the_pretended_apple_gpu_refuses_float64():
    with gpu("mps"):
        there = torch.ones(3).to("mps")
        assert there.device.type == "mps" and there.is_mps and not there.is_cuda
        for wide in (lambda: there.double(), lambda: there.to(torch.float64), lambda: torch.zeros(2, dtype=torch.float64, device="mps"),
                lambda: torch.ones(2, dtype=torch.float64).to("mps"), lambda: torch.tensor([1.0], dtype=torch.double).to("mps")):
            with pytest.raises(TypeError, match="doesn't support float64"): wide()
        assert there.cpu().double().dtype == torch.float64


def test_the_pretence_can_fail():
    here = torch.ones(3)
    with gpu() as waits:
        there = here.to("cuda")
        assert isinstance(there, There) and there.device.type == "cuda" and torch.zeros(2, device="cuda").device.type == "cuda"
        assert torch.equal((there + 1).cpu(), here + 1) and waits
        with pytest.raises(RuntimeError, match="same device"): there + here
        with pytest.raises(TypeError, match="cpu"): there.numpy()
        with pytest.raises(RuntimeError, match="indexed by a GPU's"): here[torch.zeros(1, dtype=torch.long, device="cuda")]
        waits.clear(); there[[0, 1]]; assert waits
        waits.clear(); there.nonzero(); assert waits
