"The independent recomputation, checked by itself: what must hold in each family if its record is right."
import pytest, torch
import zoo
from plain_hooks import RECORDS, columns, flat, forward, heads_of, hook, layer_of, patched_logits, place, read, sites_of

NAMES = [*zoo.FAMILIES, *zoo.UNLISTED]
CLOSE = dict(atol=2e-5, rtol=0)

@pytest.fixture(scope="module", params=NAMES)
def case(request):
    "A model and two prompts that differ in two tokens, longer than each window."
    ids = torch.randint(4, zoo.TOKENS["vocab_size"], (9,), generator=torch.Generator().manual_seed(1)).tolist()
    other = [*ids[:3], *[(t + 7) % 60 + 4 for t in ids[3:5]], *ids[5:]]
    model = zoo.tiny(request.param)
    return model, request.param, ids, other, read(model, request.param, ids), read(model, request.param, other)

def same(a, b): torch.testing.assert_close(a, b, **CLOSE)

def test_no_record_is_of_a_family_that_is_not_there(): assert set(RECORDS) <= set(NAMES)

def test_parts_add_up(case):
    model, family, ids, other, mine, theirs = case
    if not RECORDS[family].additive: pytest.skip("the family norms or scales the sum")
    for layer in range(4):
        parts = mine[("resid_pre", layer)] + mine[("attn_out", layer)] + mine[("mlp_out", layer)]
        same(parts, mine[("resid_post", layer)])
        if layer < 3: same(mine[("resid_post", layer)], mine[("resid_pre", layer + 1)])

def test_what_is_done_with_the_sum(case):
    "The families that norm or scale the sum: their last step, by hand, gives `resid_post`."
    model, family, ids, other, mine, theirs = case
    if RECORDS[family].additive: pytest.skip("the sum is the stream")
    for layer in range(4):
        block, mid, mlp, post = layer_of(model, family, layer), *(mine[(site, layer)] for site in ("resid_mid", "mlp_out", "resid_post"))
        with torch.no_grad():
            if family == "opt_350m": same(block.final_layer_norm(block.self_attn_layer_norm(mid) + mlp), post)
            elif family in ("gemma4", "gemma4_moe"): same((mid + mlp) * block.layer_scalar, post)
            else:
                assert family == "gemma4_small"
                seen = {}
                forward(model, ids, lambda: [hook(block.per_layer_input_gate, "in", lambda x: seen.update(sum=flat(x, 9).clone()))])
                same(mid + mlp, seen["sum"])

@pytest.mark.parametrize("site", ["resid_pre", "resid_mid", "resid_post"])
def test_the_whole_stream_is_the_other_run(case, site):
    model, family, ids, other, mine, theirs = case
    if site not in sites_of(family): pytest.skip("parallel blocks")
    if RECORDS[family].own_token: pytest.skip("the token's own embedding enters each layer")
    for layer in range(4): same(patched_logits(model, family, ids, other, site, layer, range(9), source=theirs), theirs["logits"])

def test_a_run_patched_with_itself_is_unchanged(case):
    model, family, ids, other, mine, theirs = case
    for site in sites_of(family):
        if site == "knockout": continue
        for layer in range(4):
            heads = heads_of(model, family, site, layer) if site in ("z", "q", "k", "v") else None
            if heads == 0: continue   # it reads another layer's
            same(patched_logits(model, family, ids, ids, site, layer, [2, 3, 8], heads and heads - 1, source=mine), mine["logits"])

def test_attention_is_its_heads(case):
    "All heads' z at all tokens is `attn_out` at all tokens; all q, k, v of a layer give its attention on the other run."
    model, family, ids, other, mine, theirs = case
    for layer in range(4):
        one = patched_logits(model, family, ids, other, "attn_out", layer, range(9), source=theirs)
        width, count = theirs[("z", layer)].shape[1], heads_of(model, family, "z", layer)
        cuts = [columns(model, family, "z", layer, h, width) for h in range(count)]
        assert [c.start for c in cuts] == list(range(0, width, width // count))
        same(whole(model, family, ids, "z", layer, theirs), one)

def whole(model, family, ids, site, layer, source):
    "All heads of a site at once: the module's input or output as it is in the other run."
    def edit(x): return source[(site, layer)].reshape(x.shape).clone()
    return forward(model, ids, lambda: [hook(*place(model, family, site, layer), edit)])

def test_heads_do_not_overlap_and_cover_all(case):
    model, family, ids, other, mine, theirs = case
    record = RECORDS[family]
    for module in {record.q, record.k, record.v} - {""}:
        width, seen = None, []
        for site in "qkv":
            if getattr(record, site) != module or site not in sites_of(family): continue
            width = mine[(site, 1)].shape[-1]
            seen += [c for h in range(heads_of(model, family, site, 1)) for c in range(*columns(model, family, site, 1, h, width).indices(width))]
        if width is not None: assert sorted(seen) == list(range(width)), (family, module)

def test_patched_queries_keys_and_values_are_attention_of_the_other_run(case):
    "The final token's z of a head is the other run's once its query, its keys and its values are: layer 0, where nothing else differs."
    model, family, ids, other, mine, theirs = case
    if "q" not in sites_of(family): pytest.skip("no heads of its own")
    # keys and values of all heads at the two tokens that differ; the final query is the same in both runs at layer 0
    got = {}
    def hooks():
        handles = []
        for site in set("kv") & set(sites_of(family)):
            for h in range(heads_of(model, family, site, 0)):
                cut = columns(model, family, site, 0, h, theirs[(site, 0)].shape[1])
                def edit(x, site=site, cut=cut):
                    y = x.clone(); flat(y, 9)[[3, 4], cut] = theirs[(site, 0)][[3, 4], cut]; return y
                handles.append(hook(*place(model, family, site, 0), edit))
        handles.append(hook(*place(model, family, "z", 0), lambda x: got.update(z=flat(x, 9).clone())))
        return handles
    forward(model, ids, hooks)
    same(got["z"][8], theirs[("z", 0)][8])

def test_each_head_moves_something_else(case):
    "In some layer (windows and shared keys hide others), patching one head of z, q, k or v gives as many different results as there are heads."
    model, family, ids, other, mine, theirs = case
    for site in ("z", "q", "k", "v"):
        if site not in sites_of(family): continue
        def apart(layer):
            found = [mine["logits"]] + [patched_logits(model, family, ids, other, site, layer, [3, 4, 8], h, source=theirs)
                for h in range(heads_of(model, family, site, layer))]
            return min(float((a - b).abs().max()) for i, a in enumerate(found) for b in found[:i])
        assert any(apart(layer) > 1e-4 for layer in (1, 3, 0, 2) if heads_of(model, family, site, layer)), site

def weights_of(model, family, layer, call):
    "The attention weights `[head, query, key]` of a layer while `call` runs."
    seen = {}
    handle = layer_of(model, family, layer).get_submodule(RECORDS[family].attention).register_forward_hook(lambda m, args, out: seen.update(w=out[1][0].clone()))
    call(); handle.remove()
    return seen["w"]

def test_which_attention_weights_move(case):
    "A query moves its own head's weights at its token, a key those of its group's heads, a value and a z none in their own layer."
    model, family, ids, other, mine, theirs = case
    if family == "falcon_alibi": pytest.skip("sdpa keeps no weights")
    if "q" not in sites_of(family): pytest.skip("no heads of its own")
    layer, heads = 1, heads_of(model, family, "q", 1)
    base = weights_of(model, family, layer, lambda: patched_logits(model, family, ids, ids, "resid_pre", 0, [0], source=mine))
    for site in ("z", "q", "k", "v"):
        if site not in sites_of(family): continue
        count = heads_of(model, family, site, layer)
        for head in range(count):
            now = weights_of(model, family, layer, lambda: patched_logits(model, family, ids, other, site, layer, [4], head, source=theirs))
            moved = (now - base).abs()
            own = {"q": [head], "k": [h for h in range(heads) if h // (heads // count) == head]}.get(site, [])
            assert moved.amax((1, 2)).gt(1e-5).nonzero().flatten().tolist() == own, (site, head)
            if site == "q": assert moved[head].amax(-1).gt(1e-5).nonzero().flatten().tolist() == [4]

def test_a_knockout_hides_the_tokens(case):
    "Where the final query cannot see the differing tokens, its z at layer 0 is the same on both runs; where it can, it is not (unless a window hides them)."
    model, family, ids, other, mine, theirs = case
    z = [first_z(model, family, run) for run in (ids, other)]
    assert (z[0] - z[1]).abs().max() < 1e-6
    if (mine[("z", 0)][8] - theirs[("z", 0)][8]).abs().max() > 0: assert (z[0] - mine[("z", 0)][8]).abs().max() > 1e-4
    for window in (1, 3):   # something moves when it sees only itself
        moved = patched_logits(model, family, ids, other, "knockout", 1, range(8), window=window, source=theirs) - mine["logits"]
        assert moved.abs().max() > 1e-3

def first_z(model, family, ids):
    "The final token's z at layer 0 after a knock-out of tokens 3 and 4 there."
    seen = {}
    see = hook(*place(model, family, "z", 0), lambda x: seen.update(z=flat(x, 9)[8].clone()))
    patched_logits(model, family, ids, ids, "knockout", 0, [3, 4], source={0: 0})
    see.remove()
    return seen["z"]

def test_falcons_alibi_is_added_once():
    "sdpa agrees with a softmax by hand; eager attention of the transformers at hand adds ALiBi twice (then the model must not be run so)."
    model = zoo.tiny("falcon_alibi")
    attention = model.transformer.h[0].self_attention
    seen = {}
    handles = [hook(attention.query_key_value, "out", lambda x: seen.update(qkv=x.clone())), hook(attention.dense, "in", lambda x: seen.update(z=x.clone()))]
    ids = list(range(4, 13))
    forward(model, ids, lambda: handles)
    q, k, v = seen["qkv"][0].reshape(9, 4, 3, 8).permute(2, 1, 0, 3)
    slope = torch.tensor([2.0 ** (-2 * (h + 1)) for h in range(4)])   # Press et al. 2022: 2^(-8/heads), its square, …
    scores = (q @ k.mT + slope[:, None, None] * torch.arange(9.0)) / 8 ** 0.5
    weights = scores.masked_fill(~torch.ones(9, 9).tril().bool(), float("-inf")).softmax(-1)
    same((weights @ v).permute(1, 0, 2).reshape(9, 32), seen["z"][0])
