"The verdicts on data without structure, and on the published model's own numbers."
from types import SimpleNamespace
import numpy as np
import pandas as pd
import pytest
from bizzaroworld import claims


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
    return claims.verdicts([study()]).set_index("id")


def test_every_claim_has_a_verdict_and_a_cause(table):
    assert len(table) == 17 and set(table.verdict) <= set(claims.VERDICTS) and table.cause.str.len().min() > 5
    assert not table.drop(columns=["low", "high"]).isna().any().any()
    inside = table.dropna(subset=["low", "high"])
    assert (inside.low <= inside.ours + 1e-9).all() and (inside.ours <= inside.high + 1e-9).all()


def test_heads_without_a_route_pass_nothing_and_look_spread():
    even = claims.p15(claims.evidence(study()))
    assert even.verdict == "reproduced" and " 0 of 48 heads pass" in even.cause


def test_one_head_that_routes_is_found():
    heads = np.random.default_rng(1).normal(0, .02, (60, 12, 4))
    heads[:, 7, 2] += .6
    found = claims.p15(claims.evidence(study(heads=heads)))
    assert found.verdict == "artefact of the method" and "L7H2" in found.cause      # the entity's map shows nothing of it


def test_the_control_of_the_strongest_head_keeps_its_rate():
    "Where no head is special the strongest one exceeds its control about one time in twenty."
    above = []
    for s in range(60):
        rng = np.random.default_rng(s)
        part = pd.DataFrame([dict(battery_idx=i, category=f"c{i // 3}", layer=l, head=h, effect=rng.normal(), experiment="4F", site="z", position="final", direction="noising", window=1, control=None)
                             for i in range(12) for l in range(4) for h in range(2)])
        above.append(claims.concentration(part, shuffles=99, seed=s)["p"] <= .05)
    assert np.mean(above) <= .15


def test_depth_is_compared_between_models():
    early, late, deep = study("early", release=4), study("late", release=9), study("deep", n_layers=23, release=17, seed=2)
    verdict = claims.verdicts([early, late]).query("id == 'P17'").verdict
    assert set(verdict) == {"differs"}
    same = claims.verdicts([study("a", release=8), deep]).query("id == 'P17'")
    assert set(same.verdict) == {"reproduced"}, same.cause.tolist()


def test_numbers_of_the_published_model_are_compared_with_its_own():
    own = study("gemma-3-12b-it")
    assert claims.p2(claims.evidence(own)).verdict in ("reproduced", "differs")
    assert claims.p2(claims.evidence(study("other"))).verdict == "not comparable"
