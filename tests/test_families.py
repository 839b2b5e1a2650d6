"""Every family of the zoo: what the package computes, held to plain hooks on Hugging Face's own modules (`plain_hooks`).

With BIZZAROWORLD_WRITE=1 the table of `data/families.csv` is written; otherwise the table there must be in step.
"""
import os, random, time
from pathlib import Path
import numpy as np, pandas as pd, pytest, torch
import plain_hooks, zoo
from plain_hooks import heads_of, ld, lens_ld, path_ld, patched_ld, patched_logits, read, sites_of
from bizzaroworld import circuit, cli, engine, lens, routing
from bizzaroworld.battery import Pair
from bizzaroworld.controls import control, lenders
from bizzaroworld.facts import InputError
from bizzaroworld.engine import patch_all
from bizzaroworld.network import Network
from bizzaroworld.models import load
from bizzaroworld.patching import DIRECTIONS, IN_WINDOWS, Patch, target_ids, token_indices

TABLE = Path(__file__).resolve().parent.parent/"data"/"families.csv"
NAMES, MOST, LAYERS = [*zoo.FAMILIES, *zoo.UNLISTED], 2e-3, 4
MISSING = dict(mpt=("q",))   # sites that a family has and that we do not reach
rows = {}   # of the table, as the tests go

# length and span of the entity: all longer than the windows; at the first token, inside, at the last
SPANS = [(7, 0, 1), (9, 3, 5), (6, 5, 6), (12, 4, 7)]

def pairs_of(vocabulary, seed=0):
    "Random tokens; the two prompts differ in the entity and nowhere else."
    draw, pairs = random.Random(seed), []
    for i, (n, start, stop) in enumerate(SPANS):
        clean = [draw.randrange(4, vocabulary) for _ in range(n)]
        corrupt = [4 + (t - 4 + 1 + draw.randrange(vocabulary - 6)) % (vocabulary - 4) if start <= j < stop else t for j, t in enumerate(clean)]
        a, b = draw.sample(range(4, vocabulary), 2)
        pairs.append(Pair(battery_idx=i, category=f"width {stop - start}", clean_prompt="", corrupt_prompt="", clean_target="", corrupt_target="",
            clean_tokens=tuple(clean), corrupt_tokens=tuple(corrupt), clean_target_id=a, corrupt_target_id=b, entity_span=(start, stop)))
    return pairs

class Case:
    "A family's plain model, the loaded one, and the pairs; the plain runs are read once."
    def __init__(self, family, folder):
        zoo.save(family, folder)
        self.family, self.folder, self.plain = family, folder, zoo.tiny(family)
        self.model = load(str(folder), device="cpu")
        self.net, self.pairs, self.runs = Network(self.model), pairs_of(zoo.TOKENS["vocab_size"]), {}
        self.sites = (*self.net.anatomy.sites, "knockout")
        assert self.sites == tuple(s for s in sites_of(family) if s not in MISSING.get(family, ()))

    def __repr__(self): return self.family

    def read(self, tokens):
        "The plain run of some tokens."
        if tokens not in self.runs: self.runs[tokens] = read(self.plain, self.family, tokens)
        return self.runs[tokens]

    def ld(self, pair, run="clean"): return ld(self.read(getattr(pair, f"{run}_tokens"))["logits"], target_ids(pair))

    def patched(self, pair, direction, patch, *, tokens=None, source=None):
        "The plain number of one patch."
        giving = pair.corrupt_tokens if direction == "noising" else pair.clean_tokens
        return patched_ld(self.plain, self.family, pair.clean_tokens, pair.corrupt_tokens, direction, patch.site, patch.layer,
            token_indices(patch.position, pair) if tokens is None else tokens, patch.head, target_ids(pair), patch.window, source or self.read(giving))

@pytest.fixture(scope="module", params=NAMES)
def case(request, tmp_path_factory): return Case(request.param, tmp_path_factory.mktemp(request.param))

def heads(case, site, layer): return range(heads_of(case.plain, case.family, site, layer)) if site in ("z", "q", "k", "v") else [None]

def patches_of(case):
    "What experiments 1 to 4F, 6 and 7 patch: each site that the family has, at each layer, head and position."
    found = []
    for site in case.sites:
        where = dict(q=["final"], k=["entity"], v=["entity"], knockout=["entity"]).get(site, ["entity", "final"])
        for layer in range(LAYERS):
            found += [Patch(site, layer, p, h, w) for p in where for h in heads(case, site, layer) for w in ((1, 3, 5) if site == "knockout" else (1,))]
    return found

def maps_of(case, pair):
    "Experiment 5: each token from the entity on, with windows."
    return [Patch(site, l, t, window=w) for site in ("resid_pre", "attn_out", "mlp_out") for w in (1, 3, 5) for t in range(pair.entity_span[0], pair.n_tokens) for l in range(LAYERS)]

def sample(kinds, draw, each):
    "A few of each kind."
    return [x for some in kinds.values() for x in draw.sample(some, min(each, len(some)))]

def test_every_patch(case):
    "Every experiment, both directions, four pairs in one call; held to plain hooks on a sample that has each kind."
    draw, patches, kinds = random.Random(1), patches_of(case), {}
    result = patch_all(case.net, case.pairs, patches)
    for i, pair in enumerate(case.pairs):
        assert abs(float(result.ld_clean[i]) - case.ld(pair)) < MOST and abs(float(result.ld_corrupt[i]) - case.ld(pair, "corrupt")) < MOST
        own = maps_of(case, pair) if i % 2 else []   # of two of the pairs
        maps = patch_all(case.net, [pair], own) if own else None
        for d, direction in enumerate(DIRECTIONS):
            for j, p in enumerate(patches): kinds.setdefault((p.site, p.layer, direction), []).append((pair, direction, p, float(result.ld[d, i, j])))
            for j, p in enumerate(own): kinds.setdefault((p.site, p.window, "token", direction), []).append((pair, direction, p, float(maps.ld[d, 0, j])))
    chosen = sample(kinds, draw, 2)
    assert len(chosen) >= 150
    off = [(abs(got - case.patched(pair, direction, p)), p, direction, pair) for pair, direction, p, got in chosen]
    worst = max(off, key=lambda o: o[0] if o[0] == o[0] else float("inf"))
    rows[case.family] = dict(family=case.family, model_class=type(case.plain).__name__, largest_difference=worst[0], patches=len(off), sites=" ".join(case.sites))
    assert worst[0] < MOST, (case.family, worst, sorted({(o[1].site, o[1].layer) for o in off if not o[0] < MOST}))
    moved = [abs(got - case.ld(pair, "clean" if direction == "noising" else "corrupt")) for pair, direction, p, got in chosen]
    assert max(moved) > .3   # the comparison can fail

def test_controls(case):
    "Nothing moves by itself; another pair's entity and another token are those of plain hooks; a random vector moves something."
    patches = [Patch("resid_pre", 1, "entity"), Patch("attn_out", 2, "final"), Patch("mlp_out", 1, "entity")]
    base = lambda pair, d: case.ld(pair, ("clean", "corrupt")[d])
    for name in ("null", "wrong_position", "same_category", "random_vector"):
        kept, result = control(case.net, case.pairs, patches, name)
        assert kept and torch.isfinite(result.ld).all(), name
        lent = dict(zip([p.battery_idx for p in case.pairs], lenders(case.pairs, case.pairs, same=True, seed=0)))
        for d, direction in enumerate(DIRECTIONS):
            for i, pair in enumerate(kept):
                for j, patch in enumerate(patches):
                    got = float(result.ld[d, i, j])
                    if name == "null": assert abs(got - base(pair, d)) < 1e-3
                    if name == "wrong_position": assert abs(got - case.patched(pair, direction, patch, tokens=token_indices("elsewhere", pair))) < MOST
                    if name == "same_category": assert abs(got - case.patched(pair, direction, patch, source=moved(case, pair, lent[pair.battery_idx][d]))) < MOST, (pair, patch)
        if name == "random_vector": assert max(abs(float(result.ld[d, i, 0]) - base(p, d)) for d in (0, 1) for i, p in enumerate(kept)) > .01

def moved(case, pair, lent):
    "A lender's activations, its entity and its final token at the places of the pair's."
    lender, tokens = lent
    theirs, out = case.read(tokens), {}
    for key, store in theirs.items():
        if not isinstance(key, tuple) or store.ndim != 2: continue
        out[key] = store.new_zeros(pair.n_tokens, store.shape[1])
        for mine, his in [*zip(range(*pair.entity_span), range(*lender.entity_span)), (pair.n_tokens - 1, lender.n_tokens - 1)]: out[key][mine] = store[his]
    return out

def test_attention(case):
    "The weights from the final token to the entity are those that the model gives out."
    if case.family == "falcon_alibi": pytest.skip("gives out no weights but in its wrong eager form")
    table = routing.attention_to_entity(case.net, case.pairs).set_index(["battery_idx", "run", "layer", "head"]).weight
    for pair in case.pairs:
        for run in ("clean", "corrupt"):
            with torch.no_grad(): weights = case.plain(torch.tensor([list(getattr(pair, f"{run}_tokens"))]), output_attentions=True, use_cache=False).attentions
            for layer, w in enumerate(weights):
                own = w[0, :, -1, slice(pair.entity_span[0], min(pair.entity_span[1], pair.n_tokens - 1))].sum(-1)   # the final token is no entity
                ours = [table[pair.battery_idx, run, layer, h] for h in range(len(own))]
                np.testing.assert_allclose(ours, own.numpy(), atol=1e-5)

def before_cap(case, logits):
    "Logits before the final soft-cap, where there is one."
    cap = getattr(case.plain.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.atanh(logits.double() / cap)

NORMED = "norms its whole residual stream"
NOT_BY_TOKEN = dict(opt_350m=NORMED, falcon_alibi="does not show its attention weights", bitnet="not its weights times its values")   # what is said

def test_attribution_adds_up(case):
    "The parts of direct logit attribution add up to LD before the final soft-cap; or why there are none."
    if case.family in NOT_BY_TOKEN:
        with pytest.raises(InputError, match=NOT_BY_TOKEN[case.family]): routing.direct_logit_attribution(case.net, case.pairs)
        return
    table = routing.direct_logit_attribution(case.net, case.pairs)
    sums = table.groupby(["battery_idx", "run"]).contribution.sum()
    for pair in case.pairs:
        for run in ("clean", "corrupt"):
            whole = ld(before_cap(case, case.read(getattr(pair, f"{run}_tokens"))["logits"]), target_ids(pair))
            assert abs(sums[pair.battery_idx, run] - whole) < MOST, (pair.battery_idx, run)

def test_paths(case):
    "A sample of paths, each by three plain forwards."
    if case.family == "opt_350m":
        with pytest.raises(InputError, match=NORMED): routing.path_patching(case.net, case.pairs, [(0, 1)])
        return
    pairs, kinds = case.pairs[1:3], {}
    table = routing.path_patching(case.net, pairs, [(0, 1)], random=0)
    for row in table.itertuples(): kinds.setdefault((row.receiver, row.position, row.direction), []).append(row)
    by_index, worst = {p.battery_idx: p for p in pairs}, 0
    draw = random.Random(2)   # of each kind the one that moves most in one direction, any in the other
    for row in [max(some, key=lambda r: abs(r.effect)) if kind[2] == "noising" else draw.choice(some) for kind, some in kinds.items()]:
        pair = by_index[row.battery_idx]
        both = (pair.clean_tokens, pair.corrupt_tokens)
        mine, theirs = both if row.direction == "noising" else both[::-1]
        to = (None, None) if row.receiver == "final" else (row.layer, row.head)
        slow = path_ld(case.plain, case.family, mine, theirs, (row.sender_layer, row.sender_head), token_indices(row.position, pair), target_ids(pair), row.receiver, *to)
        assert abs(slow - row.ld_patched) < MOST, (case.family, row, slow)
        worst = max(worst, abs(row.ld_patched - case.ld(pair, "clean" if row.direction == "noising" else "corrupt")))
    assert worst > .01

STEP = 2e-3

def test_circuit(case):
    "All kept is the model, none kept is the other run, and the gradient is the slope."
    pairs = [p for p in case.pairs if p.entity_span[1] < p.n_tokens]   # the final token is the same in both runs
    own, other = circuit.both_runs(case.net, pairs)
    parts = len(circuit.components(case.net))
    masks = torch.stack([torch.ones(parts), torch.zeros(parts)])[None]
    found = circuit.masked_ld(case.net, own, other, pairs, masks)
    for i, pair in enumerate(pairs):
        assert abs(float(found[i, 0]) - case.ld(pair)) < MOST
        assert abs(float(found[i, 1]) - case.ld(pair, "corrupt")) < MOST, pair
    slope = circuit.attribution(case.net, pairs)
    for part in random.Random(3).sample(range(parts), 3):
        near = torch.ones(3, parts); near[1, part], near[2, part] = 1 + STEP, 1 - STEP
        at, up, down = circuit.masked_ld(case.net, own, other, pairs, near[None]).detach().unbind(1)
        sides = torch.stack([(up - at) / STEP, (at - down) / STEP])
        off = (slope[:, part] - sides).abs().amin(0)   # on one side a router may choose another expert
        assert (off < .02 + .03 * slope[:, part].abs()).all(), (part, slope[:, part], sides)

def test_lens(case):
    "What each layer would say: the model's own top on its stream; the last is LD itself."
    runs = routing.pair_runs(case.net, case.pairs)
    ids = torch.tensor([target_ids(p) for p in case.pairs]).repeat(2, 1)
    found = lens.read_lens(case.net, runs, runs.lengths - 1, ids)
    for i, pair in enumerate(case.pairs):
        for r, run in enumerate(("clean", "corrupt")):
            ours = found[i + r * len(case.pairs)]
            assert abs(float(ours[-1]) - case.ld(pair, run)) < MOST
            for layer in (0, 2): assert abs(float(ours[layer]) - lens_ld(case.plain, case.family, getattr(pair, f"{run}_tokens"), layer, target_ids(pair))) < MOST

# ---- the table

def test_table_is_in_step():
    "The committed table has every family with the sites that it has, and no row above 2e-3 logits."
    if os.environ.get("BIZZAROWORLD_WRITE"):
        assert set(rows) == set(NAMES), f"run all families to write the table; missing: {set(NAMES) - set(rows)}"
        pd.DataFrame([rows[n] for n in NAMES]).to_csv(TABLE, index=False, float_format="%.1e")
    table = pd.read_csv(TABLE).set_index("family")
    assert list(table.index) == NAMES and (table.largest_difference < MOST).all()
    for name in NAMES: assert table.sites[name] == " ".join(s for s in sites_of(name) if s not in MISSING.get(name, ()))
    for name, row in rows.items(): assert table.model_class[name] == row["model_class"] and table.patches[name] == row["patches"], name

# ---- what is refused

BATTERY = """category,clean_prompt,corrupt_prompt,clean_target,corrupt_target
capitals,The capital of France is,The capital of Japan is, Paris, Tokyo
opposites,The opposite of hot is,The opposite of big is, cold, small
"""

@pytest.mark.parametrize("family", zoo.REFUSED)
def test_refused_by_name(family, tmp_path):
    "One line, exit 2: the class, and the part that is unknown; nothing is written."
    zoo.save(family, tmp_path/family)
    (tmp_path/"few.csv").write_text(BATTERY)
    status, said = cli.typed(f"study --model {tmp_path/family} --battery {tmp_path/'few.csv'} --experiments 1 --out {tmp_path/'out'} --device cpu")
    print(status, said)
    assert status == 2 and len(said.splitlines()) == 1, said
    assert type(zoo.tiny(family)).__name__ in said, said
    assert not (tmp_path/"out").exists() or not list((tmp_path/"out").iterdir())
