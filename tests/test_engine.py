"The engine against the reference, on random tiny models of every architecture: random patches, batches, orders, lengths and entity spans."
import random
from types import SimpleNamespace
import pytest, torch
from hypothesis import HealthCheck, given, settings, strategies as st
from bizzaroworld import engine
from bizzaroworld.battery import Pair
from bizzaroworld.facts import InputError
from bizzaroworld.patching import DIRECTIONS, IN_WINDOWS, ROUTES, SITES, Patch, patch_one
from conftest import KINDS
import zoo

relaxed = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


def random_pair(draw, vocab, index=0):
    "Random tokens of random length; the two prompts differ in a span of one to three tokens before the last."
    n = draw.randint(4, 9)
    start = draw.randint(1, n - 2)
    stop = draw.randint(start + 1, min(start + 3, n - 1))
    clean = [draw.randrange(6, vocab) for _ in range(n)]
    corrupt = [6 + (t - 6 + 1 + draw.randrange(vocab - 8)) % (vocab - 6) if start <= i < stop else t for i, t in enumerate(clean)]
    a, b = draw.sample(range(6, vocab), 2)
    return Pair(battery_idx=index, category="random", clean_prompt="", corrupt_prompt="", clean_target="", corrupt_target="",
                clean_tokens=tuple(clean), corrupt_tokens=tuple(corrupt), clean_target_id=a, corrupt_target_id=b, entity_span=(start, stop))


def random_patch(draw, model):
    site = draw.choice(SITES + ROUTES)
    heads = dict(z=model.cfg.n_heads, q=model.cfg.n_heads, k=model.cfg.n_key_value_heads or model.cfg.n_heads, v=model.cfg.n_key_value_heads or model.cfg.n_heads)
    position = "entity" if site == "knockout" else draw.choice(["entity", "entity_last", "final", "elsewhere", draw.randrange(4)])
    return Patch(site, draw.randrange(model.cfg.n_layers), position, draw.randrange(heads[site]) if site in heads else None, draw.choice((1, 3, 5)) if site in IN_WINDOWS else 1)


@pytest.mark.parametrize("kind", KINDS)
@relaxed
@given(seed=st.integers(0, 10**6), budget=st.integers(1, 40))
def test_engine_equals_reference(tiny_models, kind, seed, budget):
    model, draw = tiny_models[kind], random.Random(seed)
    vocab = model.cfg.d_vocab
    pairs = [random_pair(draw, vocab, i) for i in range(draw.randint(1, 4))]
    patches = [random_patch(draw, model) for _ in range(draw.randint(1, 6))]
    result = engine.patch_all(model, pairs, patches, budget=budget)
    for d, direction in enumerate(DIRECTIONS):
        for i, pair in enumerate(pairs):
            for j, patch in enumerate(patches):
                slow = patch_one(model, pair, patch, direction=direction)
                assert abs(slow - float(result.ld[d, i, j])) < 1e-3, (kind, direction, pair, patch)


@pytest.mark.parametrize("kind", KINDS)
def test_runs_equal_the_bridge(tiny_models, kind):
    model, draw = tiny_models[kind], random.Random(1)
    pairs = [random_pair(draw, model.cfg.d_vocab) for _ in range(3)]
    net = engine.Network(model)
    with torch.inference_mode():
        final = engine.Runs(net, [p.clean_tokens for p in pairs]).final()
        for pair, row in zip(pairs, final):
            whole = model(torch.tensor([list(pair.clean_tokens)]))[0, -1]
            every = net.readout(row[None], torch.arange(model.cfg.d_vocab)[None])[0]
            torch.testing.assert_close(every, whole.float(), atol=1e-3, rtol=0)


def test_a_wrong_entry_layer_is_seen(tiny_models, monkeypatch):
    "The comparison can fail: an engine whose rows enter one layer late differs from the reference."
    model, draw = tiny_models["gemma3_window"], random.Random(3)
    pair, patch = random_pair(draw, model.cfg.d_vocab), Patch("resid_pre", 1, "entity")
    right = engine.state_of
    monkeypatch.setattr(engine, "state_of", lambda p, *more: right(Patch(p.site, p.layer + 1, p.position, p.head), *more))
    assert abs(float(engine.patch_all(model, [pair], [patch]).ld[0, 0, 0]) - patch_one(model, pair, patch)) > 1e-3


def test_memory_is_halved_and_nothing_lost(tiny_models, monkeypatch):
    model, draw = tiny_models["llama"], random.Random(4)
    pairs, patches = [random_pair(draw, model.cfg.d_vocab, i) for i in range(3)], [random_patch(draw, model) for _ in range(8)]
    whole = engine.patch_all(model, pairs, patches).ld
    right, refused = engine.advance, []
    def tight(runs, x, plan, level, carried):
        if len(x) > 2: refused.append(len(x)); raise torch.OutOfMemoryError("no room")
        return right(runs, x, plan, level, carried)
    monkeypatch.setattr(engine, "advance", tight)
    torch.testing.assert_close(engine.patch_all(model, pairs, patches).ld, whole, atol=1e-4, rtol=0)
    assert refused


def test_an_unknown_architecture_is_refused_by_name():
    with pytest.raises(InputError, match="MambaForCausalLM cannot be studied with this version: layer 0 keeps no keys"):
        engine.Network(SimpleNamespace(original_model=zoo.tiny("mamba")))
