"An engine that is not its model is refused before a study begins, and what differs is named."
import pandas as pd
import plain_hooks, pytest, torch, zoo
from bizzaroworld import cli
from bizzaroworld.battery import read_battery
from bizzaroworld.engine import in_blocks, patch_all
from bizzaroworld.network import Network
from bizzaroworld.models import load
from bizzaroworld.patching import DIRECTIONS, OF_A_HEAD, Patch, target_ids, token_indices
from bizzaroworld.proof import ENOUGH, ProofError, plain_twin, proof_sample, prove
from bizzaroworld.study import study
from conftest import KINDS

PAIRS = """category,clean_prompt,corrupt_prompt,clean_target,corrupt_target
capitals,The capital of France is,The capital of Japan is, Paris, Tokyo
capitals,The capital of Spain is,The capital of Italy is, Madrid, Rome
opposites,The opposite of hot is,The opposite of big is, cold, small
opposites,The opposite of big is,The opposite of long is, small, short
"""
# what stands in the config and not in the layer: a window shorter than the prompt, layers without rotation
# an engine that had its own arithmetic computed these wrongly, without a word
CONFIGURED = ("mistral", "smollm3")


@pytest.fixture(scope="module")
def battery(tmp_path_factory):
    path = tmp_path_factory.mktemp("battery")/"few.csv"
    path.write_text(PAIRS)
    return path


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    "Models of the zoo, loaded as a user would load them."
    root = tmp_path_factory.mktemp("zoo")
    class Loaded(dict):
        def __missing__(self, name): self[name] = load(str(zoo.save(name, root/name)), device="cpu"); return self[name]
    return Loaded()


@pytest.mark.parametrize("kind", CONFIGURED)
def test_what_stands_in_the_config_is_computed_rightly(families, battery, kind):
    "Proven, and every patch is what plain hooks say."
    model, plain = families[kind], zoo.tiny(kind)
    net, pair = Network(model), pairs_of(model, battery)[0]
    proof = prove(model, net, pairs_of(model, battery))
    assert proof["patches"] >= ENOUGH and proof["largest"] < 2e-3 and proof["logits"] < 2e-3 and proof["floor"] < 1e-3 and proof["prompts"] == 7
    def heads(site, layer): return range(plain_hooks.heads_of(plain, kind, site, layer)) if site in OF_A_HEAD else [None]
    patches = [Patch(site, l, p, h) for site in plain_hooks.SITES for l in range(4) for p in ("entity", "final") for h in heads(site, l) if (site, p) != ("knockout", "final")]
    got = patch_all(net, [pair], patches).ld[:, 0]
    for d, direction in enumerate(DIRECTIONS):
        source = plain_hooks.read(plain, kind, pair.corrupt_tokens if direction == "noising" else pair.clean_tokens)
        want = [plain_hooks.patched_ld(plain, kind, pair.clean_tokens, pair.corrupt_tokens, direction, p.site, p.layer, token_indices(p.position, pair), p.head,
            target_ids(pair), p.window, source) for p in patches]
        assert (got[d] - torch.tensor(want)).abs().max() < 1e-3


def pairs_of(model, battery):
    from bizzaroworld.battery import align
    return align(read_battery(battery), model.tokenizer).pairs


@pytest.mark.parametrize("kind", KINDS)
def test_every_known_architecture_is_proven(tiny_models, battery, kind):
    model = tiny_models[kind]
    proof = prove(model, Network(model), pairs_of(model, battery))
    assert proof["largest"] < 1e-3 and proof["logits"] < 1e-3
    for tokens, logits in model.reference.logits.items():
        with torch.inference_mode(): assert torch.equal(plain_twin(model)(torch.tensor([tokens])).logits[0], logits)


# ---------------------------------------------------------------- engines broken by hand

def other_weight(norm, change): norm.weight = torch.nn.Parameter(change(norm.weight.detach()))
def unrotated(layer):
    "Its attention sees no positions."
    def hook(m, args, kwargs):
        cos, sin = kwargs["position_embeddings"]
        return args, {**kwargs, "position_embeddings": (torch.ones_like(cos), torch.zeros_like(sin))}
    layer.self_attn.register_forward_pre_hook(hook, with_kwargs=True)
def unwindowed(layer):
    "Its attention sees all that came before."
    def hook(m, args, kwargs):
        mask = kwargs["attention_mask"]
        return args, {**kwargs, "attention_mask": torch.full_like(mask, torch.finfo(mask.dtype).min).triu(1 + mask.shape[-1] - mask.shape[-2])}
    layer.self_attn.register_forward_pre_hook(hook, with_kwargs=True)

def rotation_skipped(net): unrotated(net.layers[1])
def window_ignored(net): unwindowed(net.layers[2])
def norm_without_one(net): other_weight(net.layers[1].pre_feedforward_layernorm, lambda w: w - 1)
def input_norm_without_one(net): other_weight(net.layers[3].input_layernorm, lambda w: w - 1)
def scale_wrong(net): net.layers[2].self_attn.scaling *= 1.5
def query_norm_skipped(net): net.layers[0].self_attn.q_norm.forward = lambda x: x
def key_norm_skipped(net): net.layers[3].self_attn.k_norm.forward = lambda x: x
def multiplier_ignored(net): net.layers[1].residual_multiplier = 1.0
def other_activation(net): net.layers[3].mlp.act_fn = torch.nn.ReLU()
def one_expert_less(net): net.layers[2].mlp.gate.top_k -= 1
def post_norm_skipped(net): net.layers[2].post_attention_layernorm.forward = lambda x: x
def soft_cap_forgotten(net): net.layers[1].self_attn.attn_logit_softcapping = None
def head_repeated(net): net.layers[1].self_attn.o_proj.register_forward_pre_hook(lambda m, args: (args[0].roll(8, -1),))
def alibi_lost(net):
    def hook(m, args, kwargs): return args, {**kwargs, "alibi": torch.zeros_like(kwargs["alibi"])}
    net.layers[1].self_attention.register_forward_pre_hook(hook, with_kwargs=True)
def sinks_ignored(net): net.layers[2].self_attn.sinks = torch.nn.Parameter(net.layers[2].self_attn.sinks.detach() - 30)
def other_embedding(net): net.prepared.model.get_input_embeddings().register_forward_hook(lambda m, args, x: x * 1.1)
def other_readout(net): other_weight(net.prepared.tops[0], lambda w: w * 1.5)

FAULTS = [("llama", rotation_skipped, "attention of layer 1"), ("mistral", window_ignored, "attention of layer 2"), ("gemma3", window_ignored, "attention of layer 2"),
    ("gemma3", norm_without_one, "the MLP of layer 1"), ("gemma3", input_norm_without_one, "attention of layer 3"), ("llama", scale_wrong, "attention of layer 2"),
    ("qwen3", query_norm_skipped, "attention of layer 0"), ("gemma3", key_norm_skipped, "attention of layer 3"), ("olmo2", query_norm_skipped, "attention of layer 0"),
    ("granite", multiplier_ignored, "the sum of layer 1"), ("llama", other_activation, "the MLP of layer 3"), ("mixtral", one_expert_less, "the MLP of layer 2"),
    ("gemma2", post_norm_skipped, "attention of layer 2"), ("gemma2", soft_cap_forgotten, "attention of layer 1"), ("smollm3", head_repeated, "attention of layer 1"),
    ("bloom", alibi_lost, "attention of layer 1"), ("gpt_oss", sinks_ignored, "attention of layer 2"), ("gemma4_small", other_activation, "the MLP of layer 3"),
    ("llama", other_embedding, "the embedding"), ("llama", other_readout, "the final norm or the unembedding")]


@pytest.mark.parametrize("kind, fault, named", FAULTS, ids=[f"{kind}-{f.__name__}" for kind, f, _ in FAULTS])
def test_a_broken_engine_is_named(families, battery, kind, fault, named):
    "With the layer, the part, and how large the difference is."
    model = families[kind]
    net = Network(model); fault(net)
    size = "" if "final norm" in named else r" differs by [\d.e-]+ of its length"
    with pytest.raises(ProofError, match=named + size) as e: prove(model, net, pairs_of(model, battery))
    assert "\n" not in str(e.value)
    prove(model, Network(model), pairs_of(model, battery))   # what was broken was the engine alone


def test_a_study_of_a_broken_engine_writes_nothing(tmp_path, battery, monkeypatch):
    "One line with the layer and the part, exit 1, no file."
    built = Network.__init__
    def broken(self, model): built(self, model); rotation_skipped(self)
    monkeypatch.setattr(Network, "__init__", broken)
    zoo.save("llama", tmp_path/"llama")
    status, said = cli.typed(f"study --model {tmp_path/'llama'} --battery {battery} --experiments 1,3 --out {tmp_path/'out'} --device cpu")
    assert status == 1 and len(said.splitlines()) == 1 and "llama: the engine is not this model: attention of layer 1 differs by" in said, said
    assert not (tmp_path/"out").exists() or not [p for p in (tmp_path/"out").rglob("*") if p.is_file()]


@pytest.mark.parametrize("kind", ["gpt_neox", "cohere", "deepseek_v3", "gemma4_small", "gpt2", "opt", "biogpt", "falcon"])
def test_what_a_family_lacks_is_not_asked_for(families, battery, kind):
    "No middle between parallel blocks, no values where one latent key holds them, no keys where another layer's are read."
    model = families[kind]
    net = Network(model)
    patches = [p for _, some in proof_sample(net, pairs_of(model, battery)) for p in some]
    assert {p.site for p in patches} == {*net.anatomy.sites, "knockout"} and 2 * len(patches) >= ENOUGH
    proof = prove(model, net, pairs_of(model, battery))
    assert proof["largest"] < 1e-3 and proof["logits"] < 1e-3 and proof["floor"] < 1e-3


def test_patches_are_held_too(tiny_models, battery, monkeypatch):
    "Runs may be right and patches wrong: rows that enter one layer late."
    from bizzaroworld import engine
    model, right = tiny_models["llama"], engine.state_of
    monkeypatch.setattr(engine, "state_of", lambda p, n, *more: right(Patch(p.site, min(p.layer + 1, n - 1), p.position, p.head, p.window), n, *more))
    with pytest.raises(ProofError, match=r"of layer 0 at \w+.* differs by .* logits from the reference"): prove(model, Network(model), pairs_of(model, battery))


def test_nothing_that_is_not_a_number_passes(tiny_models, battery):
    model = tiny_models["llama"]
    net = Network(model); net.layers[2].mlp.act_fn.forward = lambda x: x * float("nan")
    with pytest.raises(ProofError, match="the MLP of layer 2 differs by inf"): prove(model, net, pairs_of(model, battery))


@pytest.mark.parametrize("part, named", [("mlp.down_proj", "the MLP of layer 2"), ("self_attn.o_proj", "attention of layer 2"), ("input_layernorm", "attention of layer 2")])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_model_that_overflows_is_not_called_a_wrong_engine(families, battery, monkeypatch, part, named, value):
    "The model itself gives no numbers there: run, part and layer are named, and the engine is not blamed."
    model, pairs = families["llama"], pairs_of(families["llama"], battery)
    weight = model.plain.model.layers[2].get_submodule(part).weight
    kept = weight.clone()
    with torch.no_grad(): weight.view(-1)[0] = value
    try:
        with pytest.raises(OverflowError, match=f"the clean run of pair 0 overflows in {named}: .*; nothing was written") as e: prove(model, Network(model), pairs)
        assert "engine" not in str(e.value)
    finally:
        with torch.no_grad(): weight.copy_(kept)


def test_a_patch_that_overflows_is_not_called_a_wrong_engine(tiny_models, battery, monkeypatch):
    from bizzaroworld import proof
    model, right = tiny_models["llama"], proof.patch_rows
    def odd(model, pair, patches, **words):
        ld = right(model, pair, patches, **words).clone()
        ld[[p.site == "mlp_out" for p in patches]] = float("nan")
        return ld
    monkeypatch.setattr(proof, "patch_rows", odd)
    with pytest.raises(OverflowError, match=r"noising mlp_out of layer \d at \w+ on pair \d overflows in float32, in the model itself"): prove(model, Network(model), pairs_of(model, battery))


def test_a_pair_without_swing_has_no_effect_and_the_others_do(tiny_models, tmp_path, monkeypatch):
    "Two targets that the model cannot tell apart: LD is the same in both runs, and nothing is divided by it."
    model = tiny_models["llama"]
    table = pd.read_csv(__import__("io").StringIO(PAIRS))
    head = model.original_model.lm_head
    weight = (head.original_component if hasattr(head, "original_component") else head).weight
    ids = [model.tokenizer(t, add_special_tokens=False).input_ids[0] for t in (" Paris", " Tokyo")]
    kept = weight[ids[1]].clone()
    try:
        weight[ids[1]] = weight[ids[0]]
        done = study(model, table, out=tmp_path/"out")
        alone = study(model, table.head(1), out=tmp_path/"alone")
    finally: weight[ids[1]] = kept
    still = done.patches.battery_idx == 0
    assert done.patches[still].effect.isna().all() and (done.patches[still].delta.abs() < 1e-4).all()
    assert done.patches[~still].effect.notna().all() and set(done.tables) == {"patterns", "attention", "attribution", "paths", "circuit", "lens", "approximations", "maps", "tops"}
    assert len(alone.patches) and "no pair has a difference" in alone.run["left_out"]["paths"]
    for s in (done, alone):
        for t in (s.triage, s.patches, *s.tables.values()):
            assert not t.select_dtypes("number").isin([float("inf"), -float("inf")]).any(axis=None)


def test_a_long_prompt_does_not_make_the_others_as_long(tiny_models, battery, tmp_path):
    "Where not all runs fit, those of like length stand together; the numbers are the same."
    model = tiny_models["gemma2"]
    table = read_battery(battery)
    long = table.iloc[[0]].assign(clean_prompt="the capital of a big city " * 8 + "of France is", corrupt_prompt="the capital of a big city " * 8 + "of Japan is")
    table = pd.concat([table.iloc[:2], long, table.iloc[2:]], ignore_index=True)
    whole = study(model, table, out=tmp_path/"whole")
    built = Network.__init__
    def small(self, *words): built(self, *words); self.memory = self.bytes_of(4, 60); self.past = 20_000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Network, "__init__", small)
        from bizzaroworld.battery import align
        assert in_blocks(Network(model), align(table, model.tokenizer).pairs) != [[0, 1, 2, 3, 4]]
        parted = study(model, table, out=tmp_path/"parted")
    keys = ["battery_idx", "direction", "experiment", "site", "layer", "head", "token_index", "position", "window", "control"]
    both = [s.patches.sort_values(keys).reset_index(drop=True) for s in (whole, parted)]
    own = [t[t.control.isna()].reset_index(drop=True) for t in both]
    assert (own[0].ld_patched - own[1].ld_patched).abs().max() < 1e-3 and len(both[0]) == len(both[1])
    for name, value in (("lens", "ld"), ("attention", "weight"), ("attribution", "contribution"), ("circuit", "ld")):
        a, b = (s.tables[name] for s in (whole, parted))
        on = [c for c in a if c not in (value, "rank", "ld_full", "ld_empty")]
        a, b = (t.sort_values(on).reset_index(drop=True) for t in (a, b))
        # random circuits are drawn alike, and the ranking by gradient may turn equal neighbours about
        assert len(a) == len(b) and (a[value] - b[value]).abs().quantile(.9) < 1e-3, name
