"An engine that is not its model is refused before a study begins, and what differs is named."
import json
from types import SimpleNamespace
import pandas as pd
import pytest, torch, transformers as T
from bizzaroworld import cli, study as study_module
from bizzaroworld.battery import read_battery
from bizzaroworld.engine import Network, in_blocks, patch_all
from bizzaroworld.models import load
from bizzaroworld.patching import Patch
from bizzaroworld.proof import ENOUGH, ProofError, first_fault, plain_twin, prove
from bizzaroworld.study import study
from conftest import KINDS, SHAPE, tiny_tokenizer

PAIRS = """category,clean_prompt,corrupt_prompt,clean_target,corrupt_target
capitals,The capital of France is,The capital of Japan is, Paris, Tokyo
capitals,The capital of Spain is,The capital of Italy is, Madrid, Rome
opposites,The opposite of hot is,The opposite of big is, cold, small
opposites,The opposite of big is,The opposite of long is, small, short
"""
# what stands in the config and not in the layer: a window shorter than the prompt, layers without rotation
WRONG = {
    "mistral": lambda: T.MistralForCausalLM(T.MistralConfig(**SHAPE, sliding_window=3)),
    "smollm3": lambda: T.SmolLM3ForCausalLM(T.SmolLM3Config(**SHAPE, no_rope_layers=[1, 0, 1, 0])),
}


def jittered(model):
    "Weights large enough that each layer and position matters."
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 2: p.normal_(0, 1.5 / p.shape[1] ** 0.5)
            elif "norm" in name: p.add_(0.2 * torch.randn_like(p))
    return model


@pytest.fixture(scope="module")
def battery(tmp_path_factory):
    path = tmp_path_factory.mktemp("battery")/"few.csv"
    path.write_text(PAIRS)
    return path


@pytest.fixture(scope="module")
def wrong(tmp_path_factory):
    "Folders of models that the engine computes wrongly."
    root = tmp_path_factory.mktemp("wrong")
    for name, make in WRONG.items():
        torch.manual_seed(0)
        jittered(make()).save_pretrained(root/name)
        tiny_tokenizer(False).save_pretrained(root/name)
    return root


@pytest.mark.parametrize("kind, layer", [("mistral", 0), ("smollm3", 1)])
def test_a_model_that_the_engine_computes_wrongly_is_refused(wrong, battery, tmp_path, kind, layer):
    "It loads, since the wrapper is right; the study names where the engine goes wrong, and writes nothing."
    status, said = cli.typed(f"study --model {wrong/kind} --battery {battery} --experiments 1,3 --out {tmp_path/'out'} --device cpu")
    assert status == 1 and len(said.splitlines()) == 1, said
    assert f"attention of layer {layer} differs" in said and kind in said
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_window_that_no_prompt_reaches_is_no_fault(wrong, battery, tmp_path):
    "The same Mistral, with prompts as short as its window, is computed rightly and taken."
    model = load(str(wrong/"mistral"), device="cpu", self_test=False)
    model.original_model.config.sliding_window = 64
    done = study(model, read_battery(battery), out=tmp_path/"out", experiments=("1",))
    proof = done.run["proof"]
    assert proof["patches"] >= ENOUGH and proof["largest"] < 2e-3 and proof["logits"] < 2e-3 and proof["floor"] < 1e-3 and proof["prompts"] == 7


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


def unscaled(net): net.layers[2].scaling *= 1.5
def norm_without_one(net): net.layers[1].ln2.weight = net.layers[1].ln2.weight - 1
def no_query_norm(net): net.layers[0].q_norm = lambda q: q
def window_ignored(net):
    for layer in net.layers: layer.window = None
def other_activation(net): net.layers[3].act = torch.nn.functional.relu
def no_post_norm(net): net.layers[2].ln1_post = None
def other_rotation(net): net.layers[1].kind = "full_attention" if net.layers[1].kind != "full_attention" else "sliding_attention"
def other_readout(net): net.norm.weight = net.norm.weight * 1.5

FAULTS = [(unscaled, "attention of layer 2"), (norm_without_one, "the MLP of layer 1"), (no_query_norm, "attention of layer 0"), (window_ignored, "attention of layer 0"),
          (other_activation, "the MLP of layer 3"), (no_post_norm, "attention of layer 2"), (other_rotation, "attention of layer 1"), (other_readout, "the final norm or the unembedding")]


@pytest.mark.parametrize("fault, named", FAULTS, ids=[f.__name__ for f, _ in FAULTS])
def test_a_broken_engine_is_named(tiny_models, battery, fault, named):
    model = tiny_models["gemma3_window"]
    net = Network(model); fault(net)
    with pytest.raises(ProofError, match=named): prove(model, net, pairs_of(model, battery))


def test_patches_are_held_too(tiny_models, battery, monkeypatch):
    "Runs may be right and patches wrong: rows that enter one layer late."
    from bizzaroworld import engine
    model, right = tiny_models["llama"], engine.state_of
    monkeypatch.setattr(engine, "state_of", lambda p, n: right(Patch(p.site, min(p.layer + 1, n - 1), p.position, p.head, p.window), n))
    with pytest.raises(ProofError, match=r"of layer 0 at \w+.* differs by .* logits from the reference"): prove(model, Network(model), pairs_of(model, battery))


def test_nothing_that_is_not_a_number_passes(tiny_models, battery):
    model = tiny_models["llama"]
    net = Network(model); net.layers[2].ln2.eps = float("nan")
    with pytest.raises(ProofError, match="MLP of layer 2 differs by inf"): prove(model, net, pairs_of(model, battery))


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
    assert done.patches[~still].effect.notna().all() and set(done.tables) == {"patterns", "attention", "attribution", "paths", "circuit", "lens"}
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
