"The Jacobian lens: TransformerLens's fit is held to a Jacobian written down with autograd on a plain model, and the reading to the plain model's own top."
import pandas as pd, pytest, torch
import zoo
from bizzaroworld import jacobian as J
from bizzaroworld.battery import Pair
from bizzaroworld.models import load
from bizzaroworld.network import Network

PROMPT = "The capital of france is paris"
LAYERS, WIDTH = 4, 32


@pytest.fixture(scope="module", params=["llama", "gemma2", "gpt2"])
def case(request, tmp_path_factory):
    model = load(str(zoo.save(request.param, tmp_path_factory.mktemp(request.param))), device="cpu", bos="on")
    return request.param, model, J.fit_jacobian(model, [PROMPT], rows=7)


def plain_states(family, ids, layer=None, state=None):
    "Outputs of all layers of a plain model; that of one layer may be given."
    model = zoo.tiny(family)
    [p.requires_grad_(False) for p in model.parameters()]
    blocks, kept = (model.transformer.h if family == "gpt2" else model.model.layers), {}
    def keep(l):
        def after(m, args, out):
            kept[l] = out[0] if isinstance(out, tuple) else out
            if l == layer:
                kept[l] = state
                return (state, *out[1:]) if isinstance(out, tuple) else state
        return after
    for l, block in enumerate(blocks): block.register_forward_hook(keep(l))
    model(torch.tensor([ids]), use_cache=False)
    return kept


def test_the_fit_is_the_mean_jacobian(case):
    "Summed over the tokens that are reached, averaged over those that send; the first and the final one are neither."
    family, model, fitted = case
    ids = model.to_tokens(PROMPT)[0].tolist()
    inner = slice(1, len(ids) - 1)
    assert len(ids) == 7 and fitted.source_layers == list(range(LAYERS - 1))
    states = {l: x.detach() for l, x in plain_states(family, ids).items()}
    for layer in fitted.source_layers:
        full = torch.autograd.functional.jacobian(lambda x: plain_states(family, ids, layer, x)[LAYERS - 1][0], states[layer])
        mean = full[inner, :, 0, inner].sum(0).mean(1)   # [to, row, from, column]
        torch.testing.assert_close(fitted.jacobians[layer], mean, atol=1e-3, rtol=1e-3)


def pairs(model):
    draw = torch.Generator().manual_seed(0)
    def ids(n): return torch.randint(4, zoo.TOKENS["vocab_size"], (n,), generator=draw).tolist()
    found = []
    for i, n in enumerate((6, 8)):
        clean = [2, *ids(n - 1)]
        corrupt = [*clean[:2], (clean[2] + 9) % 60 + 4, *clean[3:]]
        found.append(Pair(battery_idx=i, category="c", clean_prompt="", corrupt_prompt="", clean_target="", corrupt_target="", clean_tokens=tuple(clean),
            corrupt_tokens=tuple(corrupt), clean_target_id=20, corrupt_target_id=33, entity_span=(2, 3)))
    return found


def test_the_table_is_read_at_its_token_and_layer(case):
    "The last layer's row at the final token is the model's own LD; every other is the plain state, carried by hand."
    family, model, fitted = case
    plain, some = zoo.tiny(family), pairs(model)
    table = J.jacobian_lens_table(Network(model), some, name="m", fitted=fitted)
    assert list(table) == ["model", "battery_idx", "category", "run", "position", "layer", "lens", "ld"] and len(table) == 2 * 2 * 2 * 2 * LAYERS
    top = plain.transformer.ln_f if family == "gpt2" else plain.model.norm
    cap = getattr(plain.config, "final_logit_softcapping", None)
    for row in table.itertuples():
        ids = getattr(some[row.battery_idx], f"{row.run}_tokens")
        with torch.no_grad():
            state = plain_states(family, list(ids))[row.layer][0, -2 if row.position == "before_final" else -1]
            if row.lens == "jacobian" and row.layer < LAYERS - 1: state = fitted.jacobians[row.layer] @ state
            logits = plain.get_output_embeddings()(top(state[None]))[0]
            if cap: logits = cap * torch.tanh(logits / cap)
        assert abs(row.ld - float(logits[20] - logits[33])) < 1e-3, row


def test_where_a_curve_settles():
    assert J.settles(pd.Series([0, 1., .2, .9, 1])) == 3 and J.settles(pd.Series([1., 0])) is None and J.settles(pd.Series([float("nan"), 1.])) == 1
