"The reference of each kind of family: by TransformerLens where its hooks do what they say, by hooks on the model's own modules elsewhere; held to plain hooks."
import random
import pytest, torch
import plain_hooks, zoo
from bizzaroworld import models as M
from bizzaroworld.battery import Pair
from bizzaroworld.facts import InputError
from bizzaroworld.hooked import Hooked
from bizzaroworld.patching import DIRECTIONS, Patch, self_patched, patch_one, patch_rows, readout, target_ids, token_indices

BRIDGE, OWN = "TransformerLens's bridge", "module hooks"
# who reads a family, and why not the bridge
READ = {
    "gpt2": "", "gpt_neox": "", "bloom": "", "llama3": "", "mistral": "", "smollm3": "", "granite": "", "cohere": "", "mixtral": "", "gpt_oss": "", "gemma2": "",
    "gpt_neo": "attn_scores written at layer 0 does not do what it does in the plain model",   # a knock-out that hides nothing
    "gptj": "attn_scores written at layer", "llama4": "attn_scores written at layer",
    "opt": "is left behind", "xglm": "is left behind",
    "phi": "does not run", "falcon_new": "does not run", "gpt_bigcode": "does not run",
    "olmo2": "written at layer",   # its norm of queries and keys sees all heads, and stands after the bridge's hook
    "deepseek_v3": "one latent key", "biogpt": "does not wrap BioGptForCausalLM", "helium": "does not wrap HeliumForCausalLM",
    "gemma4": "has no blocks.1.attn.hook_v", "gemma4_small": "fails check", "gemma4_moe": "fails check",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "The folder of a family's tiny model, saved when it is asked for."
    root = tmp_path_factory.mktemp("families")
    return lambda family: root/family if (root/family).exists() else zoo.save(family, root/family)


@pytest.fixture(scope="module")
def read_by(folder):
    "Families, loaded as a user would load them."
    class Loaded(dict):
        def __missing__(self, family): self[family] = M.load(str(folder(family)), device="cpu"); return self[family]
    return Loaded()


def a_pair(entity=(3, 5), length=9):
    draw = random.Random(0)
    clean = [draw.randrange(4, zoo.TOKENS["vocab_size"]) for _ in range(length)]
    corrupt = [4 + (t + 11) % 60 if entity[0] <= i < entity[1] else t for i, t in enumerate(clean)]
    return Pair(battery_idx=0, category="", clean_prompt="", corrupt_prompt="", clean_target="", corrupt_target="",
        clean_tokens=tuple(clean), corrupt_tokens=tuple(corrupt), clean_target_id=17, corrupt_target_id=40, entity_span=entity)


@pytest.mark.parametrize("family", READ)
def test_who_reads_a_family(read_by, family):
    model, why = read_by[family], READ[family]
    assert model.checks.passed.all() and set(model.checks.number) == set(range(1, 11))
    assert (model.reference_by, isinstance(model, Hooked)) == ((OWN, True) if why else (BRIDGE, False)), model.reference_why
    assert why in model.reference_why and bool(why) == bool(model.reference_why) and "\n" not in model.reference_why
    assert model.plain is not model.original_model or why


def patches_of(model, family):
    "Each site at two layers, at the entity and at the end; each head of two layers."
    found = []
    for site in (*M.prepared_of(model).anatomy.sites, "knockout"):
        if family == "falcon_new" and site in ("k", "v"): continue   # its cache holds a copy of each key for every query head: a copy is patched
        for layer in (0, 3) if site == "knockout" else (1, 3):
            heads = range(plain_hooks.heads_of(model.plain, family, site, layer)) if site in ("z", "q", "k", "v") else [None]
            found += [Patch(site, layer, p, h, 3 if site == "knockout" else 1) for p in (("entity",) if site == "knockout" else ("entity", "final")) for h in heads]
    return found


@pytest.mark.parametrize("family", READ)
def test_the_reference_is_what_plain_hooks_say(read_by, family):
    model, plain, pair = read_by[family], zoo.tiny(family), a_pair()
    patches, worst = patches_of(model, family), 0
    for direction in DIRECTIONS:
        giving = pair.corrupt_tokens if direction == "noising" else pair.clean_tokens
        source, got = plain_hooks.read(plain, family, giving), patch_rows(model, pair, patches, direction=direction)
        for p, ours in zip(patches, got.tolist()):
            want = plain_hooks.patched_ld(plain, family, pair.clean_tokens, pair.corrupt_tokens, direction, p.site, p.layer,
                token_indices(p.position, pair), p.head, target_ids(pair), p.window, source)
            worst = max(worst, abs(ours - want))
    assert worst < 1e-3 and self_patched(model, pair, layers=[1]) < 1e-3


@pytest.mark.parametrize("family", ["granite", "cohere", "gemma2", "gemma4", "gpt_neox", "olmo2", "biogpt", "gptj"])
def test_what_a_model_makes_of_its_logits_is_read(read_by, family):
    "Soft-caps, factors and biases of the readout, through the bridge and without it."
    model, ids = read_by[family], torch.tensor([[3, 17, 40, 9]])
    tokens = a_pair().clean_tokens
    with torch.inference_mode():
        plain = zoo.tiny(family)(torch.tensor([tokens])).logits[0, -1]
        final = M.run_final(model, [tokens])
        torch.testing.assert_close(readout(model, final, ids)[0], plain[ids[0]], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(M.read_logits(model, final, ids[0])[0], plain[ids[0]], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(model(torch.tensor([tokens]))[0, -1], plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["gpt_neox", "falcon_new", "phi"])
def test_parallel_blocks_have_no_middle(read_by, family):
    model, pair = read_by[family], a_pair()
    name = type(model.plain).__name__
    assert not [key for key in M.read_sites(model, pair.clean_tokens) if key[0] == "resid_mid"]
    with pytest.raises(InputError, match=f"layer 1 of {name} has no resid_mid: attention and MLP read the same stream"): patch_one(model, pair, Patch("resid_mid", 1, "entity"))
    assert "without resid_mid" in model.checks.note[model.checks.number == 3].item()


def test_what_a_layer_reads_of_another_is_not_its_own(read_by):
    model, pair = read_by["gemma4_small"], a_pair()
    with pytest.raises(InputError, match="layer 3 of Gemma4ForCausalLM has no k: it reads another layer's keys and values"): patch_one(model, pair, Patch("k", 3, "entity", 0))
    with pytest.raises(InputError, match="layer 1 of Gemma4ForCausalLM has 2 heads at v: there is no head 2"): patch_one(model, pair, Patch("v", 1, "entity", 2))
    with pytest.raises(InputError, match="has no v: keys and values are made of one latent key, patched as k"): patch_one(read_by["deepseek_v3"], pair, Patch("v", 1, "entity", 0))
    notes = dict(zip(model.checks.check, model.checks.note))
    assert notes["all positions of a layer give the other run"] == "not applicable: each layer is handed something of the token's own, past the stream"


@pytest.mark.parametrize("family", [f for f in READ if f != "falcon_alibi"])
def test_hidden_tokens_are_not_attended_to(folder, family):
    "And every other weight stays what it was."
    model, tokens = Hooked(zoo.tiny(family)), torch.tensor([a_pair().clean_tokens])
    def weights(hooks=()):
        seen = {}
        def keep(x, hook): seen[hook.name] = x.clone()
        model.run_with_hooks(tokens, fwd_hooks=[*hooks, *((f"blocks.{l}.attn.hook_pattern", keep) for l in range(4))])
        return seen
    before, after = weights(), weights([(M.hook_name("attn_scores", l), M.hide([6, 7])) for l in range(4)])   # inside each window
    assert len(after) == 4
    assert max(float(w[:, :, -1, 6:8].abs().max()) for w in after.values()) == 0 < max(float(w[:, :, -1, 6:8].abs().max()) for w in before.values())
    name = "blocks.0.attn.hook_pattern"
    torch.testing.assert_close(after[name][:, :, :-1], before[name][:, :, :-1])


# ---------------------------------------------------------------- falling back

def refused(*args): raise ValueError("Could not determine supported architecture from config.")

def test_both_references_say_the_same(read_by, folder, monkeypatch):
    "A model that the bridge reads, read without it."
    monkeypatch.setattr(M, "_wrap", refused)
    for family in ("llama3", "gemma2", "gpt_neox", "bloom"):
        one, other, pair = read_by[family], M.load(str(folder(family)), device="cpu"), a_pair()
        assert (one.reference_by, other.reference_by) == (BRIDGE, OWN) and other.reference_why == f"TransformerLens does not wrap {type(one.plain).__name__}"
        patches = patches_of(one, family)
        for d in DIRECTIONS: torch.testing.assert_close(patch_rows(one, pair, patches, direction=d), patch_rows(other, pair, patches, direction=d), atol=1e-3, rtol=1e-4)


def test_a_bridge_with_a_wrong_hook_is_not_used(folder, monkeypatch):
    "Its layers are the plain model's, and it fires all hooks, but what is written into the scores of one layer is lost."
    wrap = M._wrap
    def lost(f):
        def fn(x, hook): f(x, hook)
        return fn
    def odd(*args):
        model = wrap(*args)
        run = model.run_with_hooks
        def run_with_hooks(tokens, fwd_hooks=()):
            return run(tokens, fwd_hooks=[(n, lost(f) if n == "blocks.2.attn.hook_attn_scores" else f) for n, f in fwd_hooks])
        vars(model)["run_with_hooks"] = run_with_hooks
        return model
    monkeypatch.setattr(M, "_wrap", odd)
    model = M.load(str(folder("llama3")), device="cpu")
    assert model.reference_by == OWN and "check 9" in model.reference_why and "layer 2" in model.reference_why


@pytest.mark.parametrize("fault, named", [("layer", "hook off by one layer"), ("position", "state before a block"), ("middle", "resid_mid written at all positions")])
def test_module_hooks_are_held_to_the_same_checks(folder, monkeypatch, fault, named):
    "Where they are wrong, too, the model is not handed over."
    from bizzaroworld import hooked
    place, through, writer = hooked.place_of, hooked.through, M.writer
    def later(name): site, l = place(name); return site, l and min(l + 1, 3)
    def rolled(fns, x): return through(fns, x.roll(1, 1)).roll(-1, 1) if fns and fns[0][1].name.endswith("resid_pre") else through(fns, x)
    def larger(m, site, layer, at, source, **rest): return writer(m, site, layer, at, source * 1.1 if site == "resid_mid" else source, **rest)
    monkeypatch.setattr(*dict(layer=(hooked, "place_of", later), position=(hooked, "through", rolled), middle=(M, "writer", larger))[fault])
    monkeypatch.setattr(M, "_wrap", refused)
    with pytest.raises(InputError, match=f"^LlamaForCausalLM cannot be studied with this version: check . fails on its own modules, too: .*{named}"): M.load(str(folder("llama3")), device="cpu")


def test_a_model_of_an_unknown_kind_is_refused_before_it_is_wrapped(folder, monkeypatch):
    def never(*args): raise AssertionError("wrapped")
    monkeypatch.setattr(M, "_wrap", never)
    for family, said in (("gemma3n", "Gemma3nForCausalLM cannot be studied with this version: its layers pass on 3 residual streams"), ("bert", "reads ahead")):
        with pytest.raises(InputError, match=said) as e: M.load(str(folder(family)), device="cpu")
        assert "\n" not in str(e.value)


def test_a_fault_of_the_tokenizer_is_nobodys_hooks(folder, monkeypatch):
    "Checks 7 and 6 are about the model and its tokenizer: no other reference is tried."
    def fault(probes, tolerance): return 1, 0, "BOS missing"
    monkeypatch.setattr(M, "_CHECKS", ((7, "exactly one BOS", fault),))
    monkeypatch.setattr(M.Hooked, "__init__", refused)
    with pytest.raises(M.SelfTestError, match="check 7"): M.load(str(folder("llama3")), device="cpu")
