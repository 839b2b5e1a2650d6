"Routing against the bridge's own hooks and TransformerLens's own tools, on random tiny models of every architecture."
import random, warnings
import numpy as np
import pytest, torch
from bizzaroworld import routing
from bizzaroworld.network import Network, Runs
from bizzaroworld.facts import InputError
from bizzaroworld.models import read_sites
from bizzaroworld.patching import DIRECTIONS, hooked_ld, runs as of_pair, target_ids
from conftest import KINDS, SHAPE, tiny_model, tiny_tokenizer
from test_engine import random_pair


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    "Tensors of 32 numbers: more threads only wait for each other."
    before = torch.get_num_threads(); torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def some_pairs(model, seed=5, n=3):
    draw = random.Random(seed)
    return [random_pair(draw, model.cfg.d_vocab, i) for i in range(n)]


@pytest.mark.parametrize("kind", KINDS)
def test_attention_equals_the_bridges_pattern(tiny_models, kind):
    model = tiny_models[kind]
    pairs = some_pairs(model)
    table = routing.attention_to_entity(Network(model), pairs).set_index(["run", "battery_idx", "layer", "head"]).weight
    assert len(table) == 2 * 3 * 4 * 4
    for pair in pairs:
        for run, tokens in (("clean", pair.clean_tokens), ("corrupt", pair.corrupt_tokens)):
            _, cache = model.run_with_cache(torch.tensor([list(tokens)]))
            for layer in range(4):
                theirs = cache[f"blocks.{layer}.attn.hook_pattern"][0, :, -1, slice(*pair.entity_span)].sum(-1)
                np.testing.assert_allclose(table[run, pair.battery_idx, layer].to_numpy(), theirs.detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_parts_sum_to_ld(tiny_models, kind):
    "Exactly LD; before the final soft-cap where there is one, which is inverted here."
    model = tiny_models[kind]
    pairs, net = some_pairs(model, seed=6), Network(model)
    table = routing.direct_logit_attribution(net, pairs)
    total = table.groupby(["run", "battery_idx"]).contribution.sum()
    for run, tokens in (("clean", "clean_tokens"), ("corrupt", "corrupt_tokens")):
        final = Runs(net, [getattr(p, tokens) for p in pairs]).final()
        logits = net.readout(final, torch.tensor([target_ids(p) for p in pairs])).double()
        cap = getattr(model.original_model.config, "final_logit_softcapping", None)
        if cap: logits = cap * torch.atanh(logits / cap)
        np.testing.assert_allclose(total[run].to_numpy(), (logits[:, 0] - logits[:, 1]).detach().numpy(), atol=1e-3)


@pytest.mark.parametrize("kind", ["gemma1", "gemma3_window", "llama"])
def test_a_heads_part_is_what_its_removal_takes(tiny_models, kind):
    "With both scales held, taking a head's reading of one token out of the bridge's own `attn_out` takes its contribution out of LD."
    model, net = tiny_models[kind], Network(tiny_models[kind])
    pair = some_pairs(model, seed=8, n=1)[0]
    table = routing.direct_logit_attribution(net, [pair]).query("run == 'clean' and component == 'head'")
    _, cache = model.run_with_cache(torch.tensor([list(pair.clean_tokens)]))
    layer, one = net.layers[2], kind.startswith("gemma")   # Gemma's norms scale by 1 + weight
    v = cache["blocks.2.attn.hook_v"][0].reshape(len(pair.clean_tokens), -1, 8)
    group = 4 // v.shape[1]
    u = (net.unembed.weight[pair.clean_target_id] - net.unembed.weight[pair.corrupt_target_id]) * (net.prepared.tops[0].weight + one) / cache["ln_final.hook_scale"][0, -1]
    if kind.startswith("gemma3"): u = u * (layer.post_attention_layernorm.weight + one) / cache["blocks.2.ln1_post.hook_scale"][0, -1]
    for head in range(4):
        weight = cache["blocks.2.attn.hook_pattern"][0, head, -1, slice(*pair.entity_span)]
        wrote = layer.self_attn.o_proj.weight[:, head * 8:(head + 1) * 8] @ (weight @ v[slice(*pair.entity_span), head // group])
        ours = float(table.query(f"layer == 2 and head == {head} and source == 'entity'").contribution.iloc[0])
        assert abs(float(u @ wrote) - ours) < 1e-3, (kind, head)


def fresh(kind, tmp_path, **config):
    "A tiny model of its own, since compatibility mode changes the weights of the one it is given."
    import transformers
    from bizzaroworld.models import load
    if config:
        torch.manual_seed(0)
        plain = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**SHAPE, **config}))
        with torch.no_grad():
            for p in plain.parameters():
                if p.ndim == 2: p.normal_(0, 1.5 / p.shape[1] ** 0.5)
    else: plain = tiny_model(kind)
    plain.save_pretrained(tmp_path); tiny_tokenizer(kind.startswith("gemma")).save_pretrained(tmp_path)
    return load(str(tmp_path), device="cpu", self_test=False)


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_transformer_lens_attributes_the_same(kind, tmp_path):
    "`tools.analysis.direct_logit_attribution`: attention and MLP of each layer; and each head, where nothing stands between a head and the stream."
    from transformer_lens.tools.analysis import direct_logit_attribution
    model = fresh(kind, tmp_path)
    pair = some_pairs(model, seed=9, n=1)[0]
    ours = routing.direct_logit_attribution(Network(model), [pair]).query("run == 'clean'")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore"); model.enable_compatibility_mode(disable_warnings=True)
    a, b = target_ids(pair)
    ask = lambda unit: direct_logit_attribution(model, torch.tensor([list(pair.clean_tokens)]), a, b, unit=unit)
    theirs = ask("component")
    theirs = dict(zip(theirs.labels, theirs.attribution.flatten().tolist()))
    for layer in range(4):
        of = ours[ours.layer == layer]
        assert abs(of[of.component == "head"].contribution.sum() - theirs[f"{layer}_attn_out"]) < 2e-3, (kind, layer)
        assert abs(of[of.component == "mlp"].contribution.sum() - theirs[f"{layer}_mlp_out"]) < 2e-3, (kind, layer)
    if kind == "gemma3": return   # a post-norm: their heads are read before it, and do not sum to the layer
    by_head = ask("head")
    by_head = dict(zip(by_head.labels, by_head.attribution.flatten().tolist()))
    for (layer, head), part in ours[ours.component == "head"].groupby(["layer", "head"]).contribution.sum().items():
        assert abs(part - by_head[f"L{layer}H{head}"]) < 2e-3, (kind, layer, head)


# --- paths

HOOK = dict(q="hook_q", k="hook_k", v="hook_v")

def write(position, value, head=None):
    "A hook that writes `value` at tokens `position`, of one head."
    def fn(x, hook):
        x = x.clone()
        if head is None: x[0, list(position)] = value
        else: x[0, list(position), head] = value
        return x
    return fn

def read(model, tokens, name, hooks=()):
    got = {}
    def keep(x, hook): got["x"] = x[0].clone()
    hooked_ld(model, tokens, (0, 1), [*hooks, (name, keep)])
    return got["x"]

def by_hooks(model, pair, direction, sender, receiver, position, layer=None, head=None):
    "One path, by three hooked forward passes: the sender's change, the receiver's reading of it, the run with that reading."
    tokens, other = of_pair(pair, direction)
    own, source, (l, h) = read_sites(model, tokens), read_sites(model, other), sender
    at = range(*pair.entity_span) if position == "entity" else [pair.n_tokens - 1]
    z = [(f"blocks.{l}.attn.hook_z", write(at, source["z", l][list(at), h], h))]
    change = (read(model, tokens, f"blocks.{l}.hook_attn_out", z) - own["attn_out", l])[list(at)]
    if receiver == "final":
        last = read(model, tokens, "ln_final.hook_in")
        return hooked_ld(model, tokens, target_ids(pair), [("ln_final.hook_in", write(at, last[list(at)] + change))])
    name = f"blocks.{layer}.attn.{HOOK[receiver]}"
    reading = read(model, tokens, name, [(f"blocks.{layer}.hook_resid_pre", write(at, own["resid_pre", layer][list(at)] + change))])
    return hooked_ld(model, tokens, target_ids(pair), [(name, write(at, reading[list(at), head], head))])


@pytest.mark.parametrize("kind", KINDS)
def test_paths_equal_hooks(tiny_models, kind):
    model, net = tiny_models[kind], Network(tiny_models[kind])
    pairs = some_pairs(model, seed=11, n=2)
    table = routing.path_patching(net, pairs, [(0, 1), (2, 3)], budget=7)
    kv = net.kv_heads[0]
    assert len(table) == 2 * 2 * 2 * (2 * 1 + (3 + 1) * (4 + 4 * kv))   # pair, direction, named or random; final, then later layers' receivers
    worst = 0
    for row in random.Random(0).sample(list(table.itertuples()), 50):
        slow = by_hooks(model, pairs[row.battery_idx], row.direction, (row.sender_layer, row.sender_head), row.receiver, row.position, *((None, None) if row.receiver == "final" else (row.layer, row.head)))
        assert abs(slow - row.ld_patched) < 1e-3, (kind, row)
        worst = max(worst, abs(slow - hooked_ld(model, of_pair(pairs[row.battery_idx], row.direction)[0], target_ids(pairs[row.battery_idx]))))
    assert worst > 0.05   # something moved: the comparison can fail


@pytest.mark.parametrize("receiver,position", [("q", "final"), ("k", "entity"), ("v", "entity"), ("v", "final")])
def test_transformer_lens_patches_the_same_paths(tmp_path, receiver, position):
    "`patching.get_act_patch_direct_path`, which takes no shared key/value heads for k and v, and no post-norm: a Llama without either."
    from transformer_lens.patching import get_act_patch_direct_path
    model = fresh("llama", tmp_path, num_key_value_heads=4)
    pair, sender = some_pairs(model, seed=12, n=1)[0], (1, 2)
    clean, corrupt = torch.tensor([list(pair.clean_tokens)]), torch.tensor([list(pair.corrupt_tokens)])
    name = f"blocks.{sender[0]}.attn.hook_z"
    own, source = (model.run_with_cache(t)[1][name] for t in (corrupt, clean))   # they write the clean run into the corrupt one: denoising
    at = slice(*pair.entity_span) if position == "entity" else slice(-1, None)
    given = own.clone(); given[:, at] = source[:, at]   # they patch the sender at every token: give them a change at ours only
    a, b = target_ids(pair)
    with torch.no_grad():
        theirs = get_act_patch_direct_path(model, corrupt, {name: given}, {name: own}, lambda logits: logits[0, -1, a] - logits[0, -1, b], *sender, component=receiver, verbose=False)
    ours = routing.path_patching(Network(model), [pair], [sender], receivers=(receiver,), random=0, directions=("denoising",)).query(f"position == '{position}'")
    assert len(ours) == 2 * 4
    for row in ours.itertuples(): assert abs(float(theirs[row.layer, row.head]) - row.ld_patched) < 1e-3, row


def test_a_path_from_nothing_moves_nothing_and_the_scale_is_that_of_effects(tiny_models):
    model = tiny_models["gemma2"]
    pairs, net = some_pairs(model, seed=13), Network(model)
    same = [p.__class__(**{**p.__dict__, "corrupt_tokens": p.clean_tokens}) for p in pairs]
    with np.errstate(all="ignore"): table = routing.path_patching(net, same, [(1, 0)])
    base = [hooked_ld(model, p.clean_tokens, target_ids(p)) for p in same]
    assert np.abs(table.ld_patched - np.array(base)[table.battery_idx]).max() < 1e-4
    table = routing.path_patching(net, pairs, [(1, 0)])
    row = table.iloc[len(table) // 2]
    run, other = (hooked_ld(model, t, target_ids(pairs[row.battery_idx])) for t in of_pair(pairs[row.battery_idx], row.direction))
    assert abs((row.ld_patched - run) / (other - run) - row.effect) < 1e-3


def test_random_senders_are_of_the_same_layer_seeded_and_never_named(tiny_models):
    net, pairs = Network(tiny_models["llama"]), some_pairs(tiny_models["llama"], n=8)
    who = routing.senders(pairs, [(1, 2), (1, 3), (3, 0)], 4, seed=1)
    drawn = who[who.control == "random"]
    assert set(drawn.layer) == {1, 3} and not set(zip(drawn.layer, drawn["head"])) & {(1, 2), (1, 3), (3, 0)}
    assert len(set(zip(drawn.layer, drawn["head"]))) > 2                               # not one head for all pairs
    assert who.equals(routing.senders(pairs, [(1, 2), (1, 3), (3, 0)], 4, seed=1))
    assert not who.equals(routing.senders(pairs, [(1, 2), (1, 3), (3, 0)], 4, seed=2))
    both = [drawn[drawn.direction == d].set_index("pair")[["layer", "head"]] for d in DIRECTIONS]
    assert both[0].equals(both[1])
    all_named = routing.senders(pairs, [(1, h) for h in range(4)], 4)
    assert set(all_named[all_named.control == "random"].layer) == {1}


def test_wrong_senders_and_receivers_are_refused(tiny_models):
    net, pairs = Network(tiny_models["llama"]), some_pairs(tiny_models["llama"], n=1)
    with pytest.raises(InputError, match=r"no such sender \(4, 0\)"): routing.path_patching(net, pairs, [(4, 0)])
    with pytest.raises(InputError, match="no such sender"): routing.path_patching(net, pairs, [])
    with pytest.raises(InputError, match="unknown receiver 'z'"): routing.path_patching(net, pairs, [(1, 0)], receivers=("z",))
    last = routing.path_patching(net, pairs, [(3, 0)])
    assert set(last.receiver) == {"final"}   # nothing comes later


def test_a_change_read_one_token_off_is_seen(tiny_models, monkeypatch):
    "The comparison with hooks can fail: a receiver that reads the change at the wrong token gives another number."
    model = tiny_models["gemma3_window"]
    pair, net = some_pairs(model, seed=14, n=1)[0], Network(model)
    right = routing.path_patching(net, [pair], [(0, 1)], receivers=("v",), random=0).ld_patched
    sent = routing.sent
    monkeypatch.setattr(routing, "sent", lambda *a, **k: sent(*a, **k).roll(1, 1))
    assert (routing.path_patching(net, [pair], [(0, 1)], receivers=("v",), random=0).ld_patched - right).abs().max() > 1e-3
