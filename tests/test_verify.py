"""Known answers: the arithmetic, on tiny models with random weights, against plain Hugging Face hooks and TransformerLens's own folded weights; and the command.

The published numbers themselves need weights that are downloaded; nothing here measures them."""
import json
import pandas as pd, pytest, torch
import plain_hooks, zoo
from bizzaroworld import cli, verify as V
from bizzaroworld.facts import InputError
from bizzaroworld.models import load, writer

FAMILIES = ("gpt2", "llama", "gemma2")
QUANTITY = "KL, final token cannot see the first"
TOKENS = torch.tensor([[2, 9, 12, 30, 11, 7, 8, 40], [2, 9, 12, 31, 11, 7, 8, 41]])
NAMES = torch.tensor([[20, 33], [21, 34]])


@pytest.fixture(scope="module")
def folders(tmp_path_factory): return {f: str(zoo.save(f, tmp_path_factory.mktemp(f))) for f in FAMILIES}


@pytest.fixture(scope="module")
def models(folders): return {f: load(folder, device="cpu", bos="on") for f, folder in folders.items()}


def plain(family): return zoo.tiny(family)
def rows(): return TOKENS.tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_difference_of_two_names(models, family):
    found = V.name_difference(models[family], TOKENS, NAMES)
    theirs = [plain_hooks.ld(plain_hooks.read(plain(family), family, ids)["logits"], names) for ids, names in zip(rows(), NAMES.tolist())]
    torch.testing.assert_close(found, torch.tensor(theirs), atol=1e-4, rtol=0)


def test_exchanged_prompts_have_the_opposite_mean(models):
    pairs = torch.cat([TOKENS, TOKENS.flip(0)])
    names = torch.tensor([[20, 33], [33, 20]] * 2)
    clean, corrupted = (V.name_difference(models["gpt2"], p, names) for p in (pairs, V.exchanged(pairs)))
    torch.testing.assert_close(clean.mean(), -corrupted.mean(), atol=1e-5, rtol=0)
    assert V.exchanged(pairs).tolist() == [rows()[1], rows()[0], rows()[0], rows()[1]]


@pytest.mark.parametrize("layer, head", [(0, 0), (2, 3), (3, 1)])
def test_a_head_zeroed_is_what_folded_weights_give(models, folders, layer, head):
    "TransformerLens's own folding, under which the published number was made."
    from transformer_lens.model_bridge import TransformerBridge
    theirs = TransformerBridge.boot_transformers(folders["gpt2"], hf_model=plain("gpt2"), tokenizer=models["gpt2"].tokenizer, device="cpu", dtype=torch.float32)
    theirs.enable_compatibility_mode()
    def zero(z, hook): z = z.clone(); z[:, -1, head] = 0; return z
    with torch.no_grad(): logits = theirs.run_with_hooks(TOKENS, fwd_hooks=[(f"blocks.{layer}.attn.hook_z", zero)])[:, -1]
    found = V.without_head(models["gpt2"], TOKENS, NAMES, layer=layer, head=head)
    torch.testing.assert_close(found, logits.gather(1, NAMES) @ torch.tensor([1., -1.]), atol=1e-4, rtol=0)


def test_zero_in_the_raw_weights_is_another_number(models):
    "A plain hook that zeroes the head's columns agrees with a zero written at z, and neither is the folded zero."
    def hooked(ids, value):
        model = plain("gpt2")
        module, side = plain_hooks.place(model, "gpt2", "z", 2)
        cut = plain_hooks.columns(model, "gpt2", "z", 2, 3, 32)
        def edit(x): y = x.clone(); y[0, -1, cut] = value; return y
        return plain_hooks.forward(model, ids, lambda: [plain_hooks.hook(module, side, edit)])
    model = models["gpt2"]
    raw = V.name_difference(model, TOKENS, NAMES, writer(model, "z", 2, [7], torch.zeros(8, 4, 8), head=3))
    folded = V.without_head(model, TOKENS, NAMES, layer=2, head=3)
    for found, value in ((raw, 0.), (folded, V.constant_values(model, 2)[3])):
        theirs = torch.tensor([plain_hooks.ld(hooked(ids, value), names) for ids, names in zip(rows(), NAMES.tolist())])
        torch.testing.assert_close(found, theirs, atol=1e-4, rtol=0)
    assert (raw - folded).abs().min() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layer", [None, 0, 3])
def test_an_edge_cut(models, family, layer):
    "The divergence and its direction, in float64, of a plain forward with the mask changed."
    found = V.cut_divergence(models[family], TOKENS, layer=layer)
    for ids, ours in zip(rows(), found):
        cut = plain_hooks.patched_logits(plain(family), family, ids, ids, "knockout", 2 if layer is None else layer, [0])
        p, q = (logits.double().log_softmax(-1) for logits in (plain_hooks.read(plain(family), family, ids)["logits"], cut))
        forth, back = float((p.exp() * (p - q)).sum()), float((q.exp() * (q - p)).sum())
        assert abs(float(ours) - forth) < 1e-4
        if forth > .01: assert abs(float(ours) - back) > abs(float(ours) - forth)


@pytest.mark.parametrize("family", ("llama", "gemma2"))
def test_only_heads_of_gpt2_are_zeroed(models, family):
    with pytest.raises(InputError, match="no layers like GPT-2's"): V.without_head(models[family], TOKENS, NAMES, layer=1, head=1)


def known(folder, value, tolerance=1e-4):
    return pd.DataFrame([dict(id="T1", model=folder, quantity=QUANTITY, value=value, tolerance=tolerance, source="by hand"),
        dict(id="T2", model="nobody/nothing", quantity=QUANTITY, value=1., tolerance=.1, source="by hand")])


@pytest.mark.parametrize("off, verdict, status", [(0, "agrees", 0), (1e-2, "differs", 1)])
def test_the_command(models, folders, monkeypatch, capsys, off, verdict, status):
    "What agrees is status 0, what differs 1; what is not at hand is said and fails nothing."
    model = models["llama"]
    ids = V.encode(model.tokenizer, "The capital of France is")
    cut = plain_hooks.patched_logits(plain("llama"), "llama", ids, ids, "knockout", 2, [0])
    value = float(V.kl_divergence(cut[None], plain_hooks.read(plain("llama"), "llama", ids)["logits"][None])) + off
    monkeypatch.setattr(V, "known_answers", lambda: known(folders["llama"], value))
    assert cli.main(["verify", "--json"]) == status
    first, second = json.loads(capsys.readouterr().out)["numbers"]
    assert (first["verdict"], second["verdict"], second["ours"]) == (verdict, "not at hand", None)
    assert abs(first["difference"] + off) < 1e-4
    assert cli.main(["verify"]) == status
    said = capsys.readouterr()
    assert verdict in said.out and "not at hand" in said.out and "by hand" in said.out and "nobody/nothing" in said.err


def test_the_table_names_only_what_can_be_measured():
    table = V.known_answers()
    assert set(table.quantity) <= set(V.QUANTITIES) and table.id.is_unique and (table.tolerance > 0).all() and table.source.notna().all()
    assert sum(table.quantity.str.startswith("LD, prompt")) == 8
    eight = table[table.quantity.str.startswith("LD, prompt")].value.mean()
    assert abs(eight - float(table[table.quantity == "LD, clean prompts"].value.iloc[0])) < 1e-3   # the published numbers agree among themselves
