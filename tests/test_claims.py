"The verdicts on data without structure, and on the published model's own numbers."
from types import SimpleNamespace
import numpy as np
import pandas as pd
import pytest
from bizzaroworld import claims, concentration, faithfulness, inference, judged, legacy, verdicts


def study(model="toy", *, n_layers=12, n_heads=4, heads=None, release=8, seed=0):
    "60 pairs in 20 categories; `heads` gives pair × layer × head effects at the final position, else noise."
    rng, rows = np.random.default_rng(seed), []
    swing = rng.uniform(8, 20, 60)
    def add(experiment, site, position, head, effects):
        for i in range(60):
            rows.extend(dict(battery_idx=i, category=f"c{i // 3:02}", experiment=experiment, site=site, position=position, head=head, layer=l, effect=effects[i, l],
                             ld_clean=swing[i] / 2, ld_corrupt=-swing[i] / 2) for l in range(n_layers))
    noise = lambda: rng.normal(0, .02, (60, n_layers))
    late = np.clip((np.arange(n_layers) - release + 1) / 3, 0, 1)
    for x in ("1", "2A"): add(x, "resid_pre", "final", None, late + noise())
    for x in ("3", "2B"): add(x, "resid_pre", "entity", None, 1 - late + noise() * (np.arange(n_layers) > 0))
    for x, at in (("2A", "final"), ("2B", "entity")): add(x, "attn_out", at, None, noise())
    for h in range(n_heads):
        add("4", "z", "entity", h, noise())
        add("4F", "z", "final", h, noise() if heads is None else heads[:, :, h])
    patches = pd.DataFrame(rows).assign(model=model, direction="noising", window=1, control=None).eval("delta = -effect * (ld_clean - ld_corrupt)")
    triage = patches.drop_duplicates("battery_idx").eval("total_swing = ld_clean - ld_corrupt").sort_values("total_swing", ascending=False)
    return SimpleNamespace(triage=triage, patches=patches, run=dict(model=model, counts={}))


@pytest.fixture(scope="module")
def table():
    return judged.verdicts([study()]).set_index("id")


def test_every_claim_has_a_verdict_and_a_cause(table):
    assert len(table) == 27 and set(table.verdict) <= set(verdicts.VERDICTS) and table.cause.str.len().min() > 5
    judged_by_a_number = table[(table.index != "P26") & ~table.cause.str.contains("run that experiment first")]   # one is not a matter of patching
    assert len(judged_by_a_number) > 20 and not judged_by_a_number.drop(columns=["low", "high"]).isna().any().any()
    inside = table.dropna(subset=["low", "high"])
    assert (inside.low <= inside.ours + 1e-9).all() and (inside.ours <= inside.high + 1e-9).all()


def test_heads_without_a_route_pass_nothing_and_look_spread():
    even = claims.spread_over_heads(verdicts.evidence(study()))
    assert even.verdict == "reproduced" and " 0 of 48 heads pass" in even.cause


def test_one_head_that_routes_is_found():
    heads = np.random.default_rng(1).normal(0, .02, (60, 12, 4))
    heads[:, 7, 2] += .6
    found = claims.spread_over_heads(verdicts.evidence(study(heads=heads)))
    assert found.verdict == "artefact of the method" and "L7H2" in found.cause      # the entity's map shows nothing of it


def test_the_control_of_the_strongest_head_keeps_its_rate():
    "Where no head is special the strongest one exceeds its control about one time in twenty."
    above = []
    for s in range(60):
        rng = np.random.default_rng(s)
        part = pd.DataFrame([dict(battery_idx=i, category=f"c{i // 3}", layer=l, head=h, effect=rng.normal(), experiment="4F", site="z", position="final", direction="noising", window=1, control=None)
                             for i in range(12) for l in range(4) for h in range(2)])
        above.append(concentration.concentration(part, shuffles=99, seed=s)["p"] <= .05)
    assert np.mean(above) <= .15


def test_depth_is_compared_between_models():
    early, late, deep = study("early", release=4), study("late", release=9), study("deep", n_layers=23, release=17, seed=2)
    verdict = judged.verdicts([early, late]).query("id == 'P17'").verdict
    assert set(verdict) == {"differs"}
    same = judged.verdicts([study("a", release=8), deep]).query("id == 'P17'")
    assert set(same.verdict) == {"reproduced"}, same.cause.tolist()


def test_numbers_of_the_published_model_are_compared_with_its_own():
    own = study("gemma-3-12b-it")
    found = claims.size_of_swing(verdicts.evidence(own))      # 14 logits by hand, 18.43 published
    assert found.verdict == "differs" and found.found.high < verdicts.published_number("P2", part="mean")
    own.triage.total_swing += verdicts.published_number("P2", part="mean") - own.triage.total_swing.mean()
    assert claims.size_of_swing(verdicts.evidence(own)).verdict == "reproduced"
    assert claims.size_of_swing(verdicts.evidence(study("other"))).verdict == "not comparable"


PAIRS, LAYERS = 60, 12


def patch_rows(effects, swing=10., **about):
    "Rows of `patches` for pair × layer effects, noising."
    fixed = dict(model="toy", direction="noising", window=1, control=None, head=None, token_index=0, ld_clean=swing / 2, ld_corrupt=-swing / 2) | about
    rows = [dict(battery_idx=i, category=f"c{i // 3:02}", layer=l, effect=float(x), delta=-swing * float(x)) for i, xs in enumerate(effects) for l, x in enumerate(xs)]
    return pd.DataFrame(rows).assign(**fixed)


def full_study(**columns):
    "The study above with controls of known size, maps, and knock-outs."
    s = study()
    flat = lambda x: np.full((PAIRS, LAYERS), x)
    at = lambda layer, x: np.where(np.arange(LAYERS) == layer, x, 0.) + flat(0)
    more = [patch_rows(flat(.5)[:20], experiment=x, site="resid_pre", position=p, control="other_category") for x, p in (("1", "final"), ("3", "entity"))]
    more += [patch_rows(flat(.25)[:20], experiment=x, site="resid_pre", position="token", control="wrong_position") for x in ("1", "3")]
    for window, size in ((1, .2), (5, .4)):
        more += [patch_rows(at(7, size), experiment="7", site="knockout", position="entity", window=window),
                 patch_rows(at(7, .03), experiment="7", site="knockout", position="token", window=window, control="wrong_position"),
                 patch_rows(at(8, size * 2), experiment="5", site="attn_out", position="token", window=window, token_index=4),
                 patch_rows(at(8, 9), experiment="5", site="attn_out", position="token", window=window, token_index=3)]      # another token: must not be read
    more.append(patch_rows(at(11, 1), experiment="5", site="resid_pre", position="token", token_index=4))
    s.patches = pd.concat([s.patches, *more], ignore_index=True)
    s.triage = s.triage.assign(n_tokens=5)
    return s


@pytest.fixture(scope="module")
def full():
    return verdicts.evidence(full_study())


def test_a_control_stands_beside_its_claim_on_its_own_pairs(full):
    text = claims.end_of_storage(full).control
    assert "on 20 pairs" in text and "a run of another category 0.50" in text and "another token 0.25" in text and "random" not in text
    assert claims.end_of_storage(verdicts.evidence(study())).control == verdicts.NO_CONTROL
    few = full.old[full.old.battery_idx < 20]
    last = [(old.worst == LAYERS - 1).mean() for old in (few, full.old)]
    assert f"the study's own patch {verdicts.as_text(last[0])} (" in claims.last_layer_worst(full).control and verdicts.as_text(last[0]) != verdicts.as_text(last[1])
    every = judged.verdicts([full_study()])
    assert every.control.str.len().min() > 5 and not (every.cause + every.control).str.contains(r"\bnan\b|\d\.\d{4}").any()


def test_a_control_does_not_enter_the_study_s_own_number(full):
    plain = verdicts.evidence(study())
    for rule in (claims.worst_layer, claims.release_in_logits, claims.one_block, claims.end_of_storage, claims.start_of_readout):
        np.testing.assert_allclose(rule(full).found, rule(plain).found)


def test_knockouts_are_told_by_window_with_the_other_token(full):
    said, away = claims._knockouts(full)
    assert "0.20 (0.20 to 0.20) in L7 alone" in said and "0.40 (0.40 to 0.40) in 5 layers around L7" in said and away.count("0.03") == 2 * 3


def test_attention_is_read_at_the_final_token_and_in_windows(full):
    assert claims.at_final(full, "attn_out", 1).to_numpy().max() == pytest.approx(.4)
    wide = claims.peak_ratio(full, claims.at_final(full, "resid_pre", 1), claims.at_final(full, "attn_out", 5))
    assert float(wide.estimate) == pytest.approx(1 / .8)
    cause = claims.stream_against_attention(full).cause
    assert "it is 2.50 (" in cause and ", 1.25 (" in cause and cause.index("with one layer") < cause.index("with 5"), "the same pairs with one layer and with five"


def test_faithfulness_is_a_ratio_of_means_over_pairs():
    rows = [dict(direction="noising", ranking=r, seed=s, share=share, battery_idx=i, category=f"c{i}", ld=ld, ld_full=full, ld_empty=-2.)
            for r, s, share, lds in (("attribution", -1, .05, (1., 4.)), ("random", 0, .05, (-2., 0.)), ("random", 1, .05, (0., -2.))) for i, (ld, full) in enumerate(zip(lds, (2., 8.)))]
    e = SimpleNamespace(tables=dict(circuit=pd.DataFrame(rows)))
    assert float(faithfulness.over_pairs_at(e.tables["circuit"], "attribution", .05).estimate) == pytest.approx((3 + 6) / (4 + 10))
    assert float(faithfulness.over_pairs_at(e.tables["circuit"], "random", .05).estimate) == pytest.approx((1 + 1) / (4 + 10))


def test_the_interval_of_a_difference_covers_as_often_as_it_says():
    crossed = inference.difference(inference.Interval(0., -1., 2.), inference.Interval(0., -3., 4.))
    assert crossed.low == pytest.approx(-np.hypot(1, 4)) and crossed.high == pytest.approx(np.hypot(2, 3))
    rng, hits = np.random.default_rng(0), 0
    for _ in range(300):
        one, two = rng.normal(1, 1, (20, 3)) + rng.normal(0, .5, (20, 1)), rng.exponential(.7, (20, 3))
        ends = [inference.cluster_bootstrap(x.ravel(), np.repeat(np.arange(20), 3), draws=500) for x in (one, two)]
        d = inference.difference(*ends)
        hits += d.low <= .3 <= d.high
    assert .92 <= hits / 300 <= .99


def test_scaling_turns_round_with_the_models():
    a, b = study("a", release=4), study("b", n_layers=23, release=17, seed=2)
    there, back = claims.scales_with_depth([a, b]), claims.scales_with_depth([b, a])
    np.testing.assert_allclose(there.difference, -back.difference)
    np.testing.assert_allclose(there.low, -back.high)
    assert len(claims.scales_with_depth([a, b, study("c")])) == 12 and not there.within.any()
    assert claims.scales_with_depth([a]).empty


def test_legacy_numbers_are_those_of_the_definition():
    s = full_study()
    table = legacy.legacy_beside(s, control="other_category").set_index("quantity")
    rows = s.patches[s.patches.control.isna()]
    delta = {x: rows[rows.experiment == x].pivot(index="battery_idx", columns="layer", values="delta").to_numpy() for x in ("1", "3")}
    worst = [int(np.argmin(d)) for d in delta["1"]]
    release = [next((l for l, x in enumerate(d) if abs(x) < 2), LAYERS) for d in delta["3"]]
    assert table.legacy["worst layer"] == pytest.approx(np.mean(worst) / 11) and table.legacy["release"] == pytest.approx(np.median(release) / 11)
    assert table.control["worst layer"] == 0 and table.control["release"] == pytest.approx(12 / 11) and table.control_n["release"] == 0      # −5 logits everywhere
    assert legacy.legacy_beside(s, selection="A", control="other_category").n.max() == 15


def test_no_interval_is_no_agreement():
    "Neither with a published number nor with another model: one pair agrees with nothing, and differs from nothing."
    none = inference.Interval(.5, np.nan, np.nan)
    assert verdicts.agrees(none, .5) == verdicts.agrees(none, 9) == verdicts.overlaps(none, 0, 1) == "not comparable"
    many, few = study("many"), study("few")
    few.patches, few.triage = few.patches[few.patches.battery_idx == 0], few.triage[few.triage.battery_idx == 0]
    both = {s.run["model"]: verdicts.evidence(s) for s in (many, few)}
    for one, other in (("many", "few"), ("few", "many")):
        found = claims.same_depth(both[one], [both[other]])
        assert found.verdict == "not comparable" and "All agree" not in found.cause and "nan" not in found.cause
    assert set(judged.verdicts([few]).verdict) == {"not comparable"}


def test_a_model_of_one_layer_and_a_pair_without_a_difference_are_judged():
    for s in (study(n_layers=1, release=0), study()):
        s.patches.loc[s.patches.battery_idx == 7, ["ld_clean", "ld_corrupt", "effect"]] = 2., 2., np.nan
        table = judged.verdicts([s])
        assert len(table) == 27 and not (table.cause + table.control).str.contains(r"\bnan\b|\binf\b").any()
        assert 7 not in verdicts.evidence(s).pairs.battery_idx.values and len(legacy.sensitivity(s))


def test_a_name_in_a_cause_is_no_markup():
    found = claims.same_depth(verdicts.evidence(study("a")), [verdicts.evidence(study("*b* <i>"))])
    assert "*b* <i>" in found.cause and "*b*" not in found._repr_markdown_() and "<i>" not in found._repr_markdown_()
