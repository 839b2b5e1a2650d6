"The rules of the article's claims on studies made by hand: each verdict can come out, and does where it should."
import numpy as np
import pytest
from bizzaroworld import article
from bizzaroworld.results import study_by_hand
from bizzaroworld.schema import by_hand, handed_over
from bizzaroworld.verdicts import evidence

KINDS = "aabbccddeeffgghhii"   # eighteen pairs
usual = handed_over()


def seen(change=lambda row, value: value):
    "The evidence of a study in which one thing is otherwise."
    return evidence(study_by_hand(by_hand(lambda row: change(row, usual(row)), categories=KINDS)))


def at(**where): return lambda row: all(row[k] == v for k, v in where.items())


def put(number, **where):
    "A change that gives some rows another effect."
    fits = at(**where)
    return lambda row, value: number if fits(row) else value


def test_a_state_beside_an_increment():
    assert article.stream_against_mlp(seen(put(.8, site="mlp_out", position="entity", layer=1))).verdict == "artefact of the method"
    assert article.stream_against_mlp(seen()).verdict == "differs"   # a tenth each: ten times, not eighteen
    eighteenth = article.stream_against_mlp(seen(lambda row, value: (1 + .1 * (row["battery_idx"] % 2 - .5)) / 18 if row["site"] == "mlp_out" else value))
    assert eighteenth.verdict == "reproduced" and eighteenth.found.low <= 18 <= eighteenth.found.high


@pytest.mark.parametrize("one,verdict", [(True, "reproduced"), (False, "differs")])
def test_a_head_index_is_held_to_equal_heads(one, verdict):
    fullest = lambda row, value: .5 * (row["head"] == (0 if one else row["battery_idx"] % 2)) if row["site"] == "z" and row["position"] == "entity" and row["layer"] == 1 else value
    assert article.one_index(seen(fullest)).verdict == verdict


def test_a_head_at_the_entity_and_at_the_end():
    assert article.negligible_head(seen()).verdict == "artefact of the method"   # nothing there, six tenths here
    assert article.negligible_head(seen(put(.05, site="z"))).verdict == "reproduced"
    assert article.negligible_head(seen(put(.4, site="z", position="entity", layer=1, head=0))).verdict == "differs"


def test_a_pattern_of_its_own_is_more_than_chance():
    by_kind = lambda row, value: .1 * ord(row["category"]) % 1 if row["site"] == "z" and value else value
    no_kind = lambda row, value: .3 * (row["battery_idx"] % 2) + .1 if row["site"] == "z" and value else value
    assert article.own_pattern(seen(by_kind)).verdict == "reproduced" and article.own_pattern(seen(no_kind)).verdict == "differs"
    assert article.between([1, 1, 2, 2], list("aabb")) == 1 and article.between([1, 2, 1, 2], list("aabb")) == 0 and np.isnan(article.between([1, 1], list("ab")))


def test_late_blocks_pass_on_or_do_not():
    late = lambda number: lambda row, value: number if row["site"] in ("attn_out", "mlp_out") and row["position"] == "final" and row["layer"] >= 2 else value
    assert [article.pass_through(seen(late(n))).verdict for n in (.02, .4)] == ["reproduced", "differs"]


def test_what_patching_cannot_settle_says_what_would():
    for rule in (article.empty_map, article.lost_to_a_tokenizer, article.where_to_intervene):
        found = rule(seen())
        assert found.verdict == "not comparable" and "settle" in found.cause
