"Gradients in the place of patches: each is held to a plain model with autograd of its own, and to the patch where the two must agree."
from dataclasses import replace

import numpy as np, pandas as pd, pytest, torch
from scipy.stats import spearmanr
import zoo
from bizzaroworld import approximations as A
from bizzaroworld.battery import Pair
from bizzaroworld.facts import InputError
from bizzaroworld.models import load, read_sites, sites_of
from bizzaroworld.patching import Patch, hooked_ld, patch_one, target_ids
from bizzaroworld.schema import DIRECTIONS, GRADIENT_PLACES, by_hand, handed_over
from bizzaroworld.shortcuts import against

LAYERS, HEADS, WIDTH = 4, 4, 32
PLAIN = {   # where a plain model keeps its blocks, and in them what attention and the MLP add to the stream
    "llama": ("model.layers", "self_attn", "mlp"), "gpt2": ("transformer.h", "attn", "mlp"),
    "gemma2": ("model.layers", "post_attention_layernorm", "post_feedforward_layernorm"), "gptj": ("transformer.h", "attn", "mlp")}


@pytest.fixture(scope="module", params=["llama", "gemma2", "gpt2", "gptj"])
def case(request, tmp_path_factory):
    "Shared key/value heads, soft-caps and norms after each block, neither, and both blocks on one stream."
    return request.param, load(str(zoo.save(request.param, tmp_path_factory.mktemp(request.param))), device="cpu", bos="on")


def pairs(lengths=(6, 8, 6), width=1, category="c"):
    draw, found = torch.Generator().manual_seed(0), []
    for i, n in enumerate(lengths):
        clean = [2, *torch.randint(4, zoo.TOKENS["vocab_size"], (n - 1,), generator=draw).tolist()]
        corrupt = [*clean[:2], *((t + 9) % 60 + 4 for t in clean[2:2 + width]), *clean[2 + width:]]
        found.append(Pair(battery_idx=i, category=f"{category}{i}", clean_prompt="", corrupt_prompt="", clean_target="", corrupt_target="",
            clean_tokens=tuple(clean), corrupt_tokens=tuple(corrupt), clean_target_id=20, corrupt_target_id=33, entity_span=(2, 2 + width)))
    return found


def plain_gradient(family, pair, site, layer, without=None, embeddings=None):
    "The gradient of LD at what a plain model's block is given or adds, by hooks on its own modules; of the clean run."
    model, kept = zoo.tiny(family), {}
    [p.requires_grad_(False) for p in model.parameters()]
    blocks, *parts = PLAIN[family]
    first = lambda out: out[0] if isinstance(out, tuple) else out
    def put(out, x): return (x, *out[1:]) if isinstance(out, tuple) else x
    def given(module, args, kwargs):
        x = args[0] if args else kwargs["hidden_states"]
        kept["x"] = x.detach().requires_grad_()
        return ((kept["x"], *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": kept["x"]})
    def added(module, args, out):
        kept["x"] = first(out).detach().requires_grad_()
        return put(out, kept["x"])
    for l, block in enumerate(model.get_submodule(blocks)):
        if l == layer and site == "resid_pre": block.register_forward_pre_hook(given, with_kwargs=True)
        for name, part in zip(("attn_out", "mlp_out"), parts):
            if l == without: getattr(block, part).register_forward_hook(lambda m, a, out: put(out, first(out).detach()))
            elif l == layer and site == name: getattr(block, part).register_forward_hook(added)
    logits = model(torch.tensor([pair.clean_tokens]), use_cache=False).logits[0, -1]
    if "x" not in kept: return torch.zeros(len(pair.clean_tokens), WIDTH)   # its own layer is the one without
    ld = logits[pair.clean_target_id] - logits[pair.corrupt_target_id]
    return torch.autograd.grad(ld, kept["x"], allow_unused=True)[0][0] if ld.requires_grad else torch.zeros_like(kept["x"][0])


def clean_graph(model, pair):
    with A.weights_still(model): return A.Graph(model, [list(pair.clean_tokens)], [target_ids(pair)])


def test_a_gradient_is_that_of_a_plain_model(case):
    family, model = case
    pair, checked = pairs()[1], 0
    found = clean_graph(model, pair).gradients()
    for site in ("resid_pre", "attn_out", "mlp_out"):
        for layer in range(LAYERS):
            torch.testing.assert_close(found[site, layer][0], plain_gradient(family, pair, site, layer), atol=1e-4, rtol=1e-3); checked += 1
    assert checked == 3 * LAYERS


def test_a_gradient_without_a_layer_is_that_of_a_plain_model(case):
    "What the layer adds is held still, and its own outputs get no gradient at all."
    family, model = case
    pair = pairs()[1]
    graph = clean_graph(model, pair)
    whole = graph.gradients()
    for without in range(LAYERS):
        found = graph.gradients(without)
        for site in ("resid_pre", "attn_out", "mlp_out"):
            for layer in range(LAYERS):
                torch.testing.assert_close(found[site, layer][0], plain_gradient(family, pair, site, layer, without), atol=1e-4, rtol=1e-3)
        assert not found["mlp_out", without].any() and not found["z", without].any()
        if without: assert (found["resid_pre", 0] - whole["resid_pre", 0]).abs().max() > 1e-3
    torch.testing.assert_close(graph.gradients(), whole)   # nothing stays dropped


def test_a_head_is_held_to_a_small_step(case):
    "Central differences in one head's own direction, by the hooks of the reference."
    family, model = case
    pair = pairs()[1]
    own, other = (read_sites(model, t) for t in (pair.clean_tokens, pair.corrupt_tokens))
    found = clean_graph(model, pair).gradients()
    for layer in (1, LAYERS - 1):
        for head in range(HEADS):
            way = other["z", layer] - own["z", layer]
            def ld(step): return patch_one(model, pair, Patch("z", layer, "final", head), source={**own, ("z", layer): own["z", layer] + step * way})
            slope = (ld(.02) - ld(-.02)) / .04
            said = float((found["z", layer][0, -1, head] * way[-1, head]).sum())
            assert said == pytest.approx(slope, abs=2e-3 + 2e-2 * abs(slope)), (layer, head)


def test_ld_is_the_reference_and_the_weights_come_back(case):
    family, model = case
    some = [pairs()[0], pairs()[2]]
    first, *others = model.original_model.parameters()
    first.requires_grad_(True); others[0].requires_grad_(False)
    before = [p.requires_grad for p in model.original_model.parameters()]
    ld, found = A.approximated(model, some)
    runs = [(p, t) for side in ("clean_tokens", "corrupt_tokens") for p in some for t in (getattr(p, side),)]
    assert ld.tolist() == pytest.approx([hooked_ld(model, t, target_ids(p)) for p, t in runs], abs=1e-3)
    assert [p.requires_grad for p in model.original_model.parameters()] == before and all(p.grad is None for p in model.original_model.parameters())
    assert set(found) == {"atp", "ig", "atp_star"}


def test_integrated_gradients_are_complete(case):
    "Over all tokens of the embeddings they add up to the whole difference (Sundararajan et al. 2017); one gradient does not."
    family, model = case
    some = [pairs()[0], pairs()[2]]
    ld, found = A.approximated(model, some, ("atp", "ig"), steps=200)
    whole = ld.roll(2) - ld
    off = {m: (found[m]["resid_pre", 0].sum(-1) - whole).abs() / whole.abs() for m in ("atp", "ig")}
    assert off["ig"].max() < .05 and off["atp"].max() > .1, off
    few, many = (A.approximated(model, some, ("ig",), steps=n)[1]["ig"]["resid_pre", 0] for n in (1, 5))
    assert (few - many).abs().max() > 1e-3


def test_the_table_has_a_row_for_each_place(case):
    family, model = case
    some = pairs(width=2)
    table = A.approximate(model, some, name="m")
    sites = set(table.site)
    assert sites == {s for s, _ in GRADIENT_PLACES}
    assert len(table) == len(some) * 2 * 3 * LAYERS * (6 + HEADS) and not table.effect.isna().any()
    assert not table.duplicated(["battery_idx", "direction", "method", "site", "layer", "head", "position"]).any()
    one = lambda site, layer, position, direction, method="atp", i=1: table.query("battery_idx == @i and site == @site and layer == @layer and position == @position "
        "and direction == @direction and method == @method")
    pair, ids = some[1], target_ids(some[1])
    for direction in DIRECTIONS:   # the whole entity, by hand
        patched, giving = (pair.clean_tokens, pair.corrupt_tokens)[::1 if direction == "noising" else -1]
        whole = hooked_ld(model, giving, ids) - hooked_ld(model, patched, ids)
        own, theirs = (read_sites(model, t) for t in (patched, giving))
        grads = clean_graph(model, replace(pair, clean_tokens=patched)).gradients()
        for site in ("resid_pre", "attn_out", "mlp_out"):
            by_hand = (grads[site, 2][0] * (theirs[site, 2] - own[site, 2]))[2:4].sum() / whole
            assert float(one(site, 2, "entity", direction).effect.iloc[0]) == pytest.approx(float(by_hand), abs=1e-3)
    assert set(table.direction) == set(DIRECTIONS) and (table[table.method == "atp_star"].effect >= 0).all()


def test_graddrop_is_the_mean_over_layers_with_its_scale(case):
    "L / (L - 1) times the mean of the sizes; by hand from the plain model's gradients."
    family, model = case
    pair = pairs()[1]
    ld, found = A.approximated(model, [pair], ("atp_star",))
    own, other = (read_sites(model, t) for t in (pair.clean_tokens, pair.corrupt_tokens))
    for site, layer in (("resid_pre", 1), ("mlp_out", 0), ("attn_out", 2)):
        each = [(plain_gradient(family, pair, site, layer, w) * (other[site, layer] - own[site, layer])).sum(-1).abs() for w in range(LAYERS)]
        by_hand = torch.stack(each).mean(0) * LAYERS / (LAYERS - 1)
        torch.testing.assert_close(found["atp_star"][site, layer][0], by_hand, atol=1e-3, rtol=1e-2)


def test_where_nothing_bends_attribution_patching_is_exact(tmp_path):
    "A final norm that divides by a constant is linear, so behind the last MLP nothing bends; before it something does."
    model, pair, last = load(str(zoo.save("llama", tmp_path)), device="cpu", bos="on"), pairs()[1], LAYERS - 1
    norm = model.ln_final.original_component
    norm.variance_epsilon = 1e8   # far above any mean square: it divides by 10,000
    with torch.no_grad(): norm.weight.mul_(1e4)
    table = A.approximate(model, [pair], name="m", methods=("atp", "ig"))
    for direction in DIRECTIONS:
        ld, other = (hooked_ld(model, t, target_ids(pair)) for t in (pair.clean_tokens, pair.corrupt_tokens)[::1 if direction == "noising" else -1])
        exact = lambda site, layer: (patch_one(model, pair, Patch(site, layer, "final"), direction=direction) - ld) / (other - ld)
        said = table[(table.direction == direction) & (table.position == "final")].set_index(["method", "site", "layer"]).effect
        for method in ("atp", "ig"): assert said[method, "mlp_out", last] == pytest.approx(exact("mlp_out", last), abs=2e-3)
        assert abs(said["atp", "resid_pre", 2] - exact("resid_pre", 2)) > .02
        assert abs(exact("mlp_out", last)) > .02


def test_company_changes_nothing(case):
    "Pairs of several lengths go through in batches; each has what it has alone."
    family, model = case
    some = pairs(lengths=(6, 8, 6, 7, 8, 6, 6, 6, 6, 6, 6, 6))
    together = A.approximate(model, some, name="m", methods=("atp", "ig"))
    alone = pd.concat([A.approximate(model, [p], name="m", methods=("atp", "ig")) for p in some])
    keys = ["battery_idx", "direction", "method", "site", "layer", "head", "position"]
    both = [t.sort_values(keys).effect.to_numpy() for t in (together, alone)]
    np.testing.assert_allclose(*both, atol=2e-3, rtol=2e-3)


def test_a_pair_without_a_difference_has_no_effect(case, monkeypatch):
    "As with the exact ones: a millionth of a logit is not divided by."
    family, model = case
    pair = pairs()[0]
    assert A.approximate(model, [replace(pair, corrupt_tokens=pair.clean_tokens)], name="m").effect.isna().all()
    moved = {(s, 0): torch.ones(2, pair.n_tokens, *[HEADS] * (s == "z")) for s, _ in GRADIENT_PLACES}
    for apart, none in ((5e-7, True), (5e-6, False)):
        monkeypatch.setattr(A, "approximated", lambda *args, **kw: (torch.tensor([0., apart]), {"atp": moved}))
        assert A.approximate(model, [pair], name="m").effect.isna().all() == none


def test_what_a_gradient_does_not_describe_is_refused(case):
    family, model = case
    pair = pairs()[0]
    for bad in (replace(pair, corrupt_tokens=pair.corrupt_tokens + (7,)), replace(pair, whole=True)):
        with pytest.raises(InputError, match="prompts of equal length"): A.approximate(model, [bad], name="m")
    with pytest.raises(InputError, match="unknown method 'eap'"): A.approximate(model, [pair], name="m", methods=("eap",))


@pytest.mark.parametrize("family", ["deepseek_v3", "gemma4_small"])
def test_hooks_on_its_own_modules_do_as_well(family, tmp_path):
    "Where TransformerLens's bridge does not serve; a small step of the stream is what its gradient says."
    model, pair = load(str(zoo.save(family, tmp_path)), device="cpu", bos="on"), pairs()[1]
    assert model.reference_by == "module hooks", model.reference_by
    table = A.approximate(model, [pair], name="m", methods=("atp",))
    assert set(table.site) == {s for s, _ in GRADIENT_PLACES if s in sites_of(model, 0)} and not table.effect.isna().any()
    own, other = (read_sites(model, t) for t in (pair.clean_tokens, pair.corrupt_tokens))
    ld, goal = (hooked_ld(model, t, target_ids(pair)) for t in (pair.clean_tokens, pair.corrupt_tokens))
    said = table[(table.direction == "noising") & (table.position == "final")].set_index(["site", "layer"]).effect
    for site, layer in (("resid_pre", 2), ("mlp_out", 1), ("attn_out", 1)):
        way = other[site, layer] - own[site, layer]
        slope = np.subtract(*(patch_one(model, pair, Patch(site, layer, "final"), source={**own, (site, layer): own[site, layer] + s * way}) for s in (.02, -.02))) / .04
        assert said[site, layer] * (goal - ld) == pytest.approx(slope, abs=5e-3 + 3e-2 * abs(slope)), (site, layer)


def test_a_site_that_a_model_lacks_is_left_out(case, monkeypatch):
    family, model = case
    monkeypatch.setattr(A, "sites_of", lambda model, layer: [s for s in sites_of(model, layer) if s != "mlp_out" and (s != "z" or layer)])
    table = A.approximate(model, pairs()[:1], name="m", methods=("atp", "atp_star"))
    assert set(table.site) == {"resid_pre", "attn_out", "z"} and set(table[table.site == "z"].layer) == {1, 2, 3}


def both_tables(method="atp", seed=0):
    "Exact effects by hand, and the same with noise, as a method would say them."
    exact = by_hand(handed_over(), categories="aabbcc")
    rng = np.random.default_rng(seed)
    exact = exact.assign(effect=exact.effect + .3 * rng.normal(size=len(exact)))
    said = exact[exact.experiment.isin(["2A", "2B", "4F"])].assign(method=method)
    return exact, said.assign(effect=said.effect + .4 * rng.normal(size=len(said)))


def wide(table, *where):
    site, position, direction = where
    rows = table[(table.site == site) & (table.position == position) & (table.direction == direction) & table.experiment.isin(["2A", "2B", "4F"])]
    return rows.fillna({"head": -1}).pivot(index="battery_idx", columns=["layer", "head"], values="effect").to_numpy(float)


@pytest.mark.parametrize("method", ["atp", "atp_star"])
def test_a_place_is_compared_as_by_hand(method):
    "With SciPy's Spearman and sets; sizes are averaged where the method gives sizes."
    exact, said = both_tables(method)
    if method == "atp_star": said = said.assign(effect=said.effect.abs())
    table = against(exact, said, draws=200)
    assert len(table) == 2 * len(GRADIENT_PLACES)
    for row in table.itertuples():
        true, own = (wide(t, row.site, row.position, row.direction) for t in (exact, said))
        if method == "atp_star": true = np.abs(true)
        means = np.abs(true.mean(0)), np.abs(own.mean(0))
        assert row.rank_correlation == pytest.approx(spearmanr(*means).statistic) and row.low <= row.rank_correlation <= row.high
        assert row.per_pair == pytest.approx(np.mean([spearmanr(np.abs(a), np.abs(b)).statistic for a, b in zip(true, own)]))
        assert row.per_pair_low <= row.per_pair <= row.per_pair_high and row.pairs == 6
        top, others = (set(np.argsort(-m)[:row.of]) for m in means)
        assert row.missed == len(top - others) and row.of == min(10, true.shape[1] // 2)
        right = np.mean([true.mean(0)[c] * own.mean(0)[c] > 0 for c in top])
        assert np.isnan(row.same_sign) if method == "atp_star" else row.same_sign == pytest.approx(right)
    assert (table.missed > 0).any() and (table.per_pair != table.rank_correlation).all()


def test_a_pair_without_a_difference_is_not_compared():
    exact, said = both_tables()
    still = exact.battery_idx == exact.battery_idx.min()
    empty = exact.assign(ld_corrupt=exact.ld_corrupt.where(~still, exact.ld_clean), effect=exact.effect.where(~still))
    table = against(empty, said.assign(effect=said.effect.where(said.battery_idx != exact.battery_idx.min())), draws=100)
    assert set(table.pairs) == {5} and table.rank_correlation.notna().all()
