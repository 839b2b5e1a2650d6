"Release, arrival and phases against slow independent definitions, and against the faults of the public study."
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from bizzaroworld import phases
from bizzaroworld.facts import InputError


def table(effects, *, position, direction="noising", swing=8.):
    "Rows of `patches` for pair × layer effects."
    sign, experiment = (-1 if direction == "noising" else 1), {"entity": "3", "final": "1"}[position]
    rows = [dict(battery_idx=i, category=f"c{i // 3}", layer=l, effect=float(e), delta=sign * swing * float(e)) for i, es in enumerate(effects) for l, e in enumerate(es)]
    return pd.DataFrame(rows).assign(model="toy", direction=direction, experiment=experiment, site="resid_pre", position=position, head=None,
                                     window=1, control=None, ld_clean=swing / 2, ld_corrupt=-swing / 2)


def study(entity, final, **options):
    return pd.concat([table(entity, position="entity", **options), table(final, position="final", **options)], ignore_index=True)


def slow_for_good(row, holds):
    "By the words of the definition: the first layer from which it holds at every layer."
    return next((l for l in range(len(row)) if all(holds(e) for e in row[l:])), len(row))


tail = st.lists(st.floats(-1.5, 1.5), min_size=5, max_size=5)


@settings(max_examples=200, deadline=None)
@given(st.lists(tail, min_size=1, max_size=4), st.sampled_from([.1, .2, .5, .9]), st.floats(.2, 2))
def test_release_and_arrival_are_their_definitions(rows, threshold, full):
    entity = pd.DataFrame([[full, *r] for r in rows])
    share = entity.div(entity[0], axis=0)
    assert phases.release(entity, threshold=threshold).tolist() == [slow_for_good(r, lambda e: abs(e) < threshold) for r in share.values.tolist()]
    final = pd.DataFrame(rows)
    assert phases.arrival(final, threshold=threshold).tolist() == [slow_for_good(r, lambda e: e >= threshold) for r in rows]


@given(st.integers(1, 48), st.integers(0, 48))
def test_a_step_is_found_where_it_is(n_layers, at):
    at = min(at, n_layers)
    step = pd.DataFrame([[float(l < at) for l in range(n_layers)]])
    assert phases.arrival(1 - step)[0] == at
    if at: assert phases.release(step)[0] == at


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("of", [phases.release_arrival, phases.legacy, phases.phase_table, phases.threshold_sweep])
def test_not_a_number_is_refused_and_named(of, bad):
    "The public study committed 'worst layer 0' from an argmin over not-a-number."
    patches = study([[1, 0]] * 4, [[0, 1]] * 4)
    patches.loc[(patches.battery_idx == 2) & (patches.layer == 1), ["effect", "delta"]] = bad
    with pytest.raises(ValueError, match="pair 2 at layer 1"): of(patches)


def test_a_study_of_48_layers_is_not_read_as_18():
    patches = study([[1.] * 30 + [0.] * 18] * 3, [[0.] * 30 + [1.] * 18] * 3)
    found = phases.release_arrival(patches)
    assert set(found.release) == set(found.arrival) == {30} and set(found.n_layers) == {48}
    with pytest.raises(InputError, match="every layer from 0 on"): phases.release_arrival(patches[patches.layer >= 5])


def test_both_directions_are_read_alike():
    entity, final = [[1, 1, .4, 0]] * 3, [[0, .1, .8, 1]] * 3
    patches = pd.concat([study(entity, final), study(entity, final, direction="denoising")])
    found = phases.release_arrival(patches)
    assert found.groupby("direction")[["release", "arrival"]].first().values.tolist() == [[2, 2], [2, 2]]
    both = phases.phase_table(patches, draws=50)
    assert both[both.direction == "noising"].iloc[:, 1:].values.tolist() == both[both.direction == "denoising"].iloc[:, 1:].values.tolist()


def test_hand_over_inside_one_block_and_overlap():
    "Storage ends and readout begins at the same layer, or readout begins before the entity is released: no layer routes."
    one = phases.phase_table(study([[1, 1, 0, 0]] * 6, [[0, 0, 1, 1]] * 6), draws=50).set_index("phase")
    assert one.loc["storage", "last"] == 1 and one.loc["readout", "first"] == 2 and one.loc["routing", "layers"] == 0
    both = phases.phase_table(study([[1, 1, 1, 0]] * 6, [[0, 1, 1, 1]] * 6), draws=50).set_index("phase")
    assert both.loc["routing", "layers"] == 0 and both.loc["readout", "first"] == 1 and both.loc["storage", "last"] == 2


def test_readout_that_never_comes_has_no_layers():
    found = phases.phase_table(study([[1, 1, .5, .4]] * 6, [[0, 0, .5, .6]] * 6), draws=50).set_index("phase")
    assert found.loc["readout", "layers"] == 0 and found.loc["routing", ["first", "last"]].tolist() == [2, 3]


def test_phase_intervals_hold_the_pairs_apart():
    "Half the categories hand over at layer 2, half at layer 6: the interval of the boundary spans both."
    entity = [[1.] * a + [0.] * (8 - a) for a in ([2] * 3 + [6] * 3) * 5]
    final = [[1 - e for e in row] for row in entity]
    found = phases.phase_table(study(entity, final), draws=2000).set_index("phase")
    assert found.loc["routing", "first"] == 2 and found.loc["readout", "first"] == 6
    assert found.loc["routing", "first_low"] == 2 and found.loc["readout", "first_high"] == 6


def test_legacy_columns_by_their_definitions():
    entity, final = np.array([[1, .9, .25, .15, .2]]), np.array([[0, .1, .7, 1.1, 1]])
    old = phases.legacy(study(entity, final, swing=10.)).iloc[0]
    assert (old.release_legacy, old["drop"], old.onset, old.worst, old.damage) == (3, 3, 2, 3, -11)
    assert old.max_damage_layer == 0 and old.early_mean == pytest.approx(-9.5) and old.late_mean == pytest.approx(-2)
    weak = phases.legacy(study(entity, final, swing=1.)).iloc[0]
    assert weak.release_legacy == 0 and weak["drop"] == 3 and pd.isna(weak.onset)


def test_total_swing_against_damage_is_an_identity():
    "P8: where the last layer brings the whole other run, r is −1 whatever the facts are."
    rng = np.random.default_rng(0)
    parts = []
    for i, swing in enumerate(rng.uniform(3, 20, 12)):
        pair = study([[1, .5, 0]], [[0, .5, 1]], swing=swing).assign(battery_idx=i, category=f"c{i // 3}")
        parts.append(pair.assign(ld_clean=(up := rng.uniform(0, swing)), ld_corrupt=up - swing))
    found = phases.correlations(phases.legacy(pd.concat(parts)), draws=200).set_index("quantity").r
    assert found.total_swing == pytest.approx(-1) and abs(found.ld_clean) < .99


def test_boundaries_of_the_phases_lie_at_nine_tenths():
    "Storage ends below 0.9 of the entity's own effect, readout begins at 0.9 of the whole difference; other shares move both."
    patches = study([[1, .95, .85, .65, .2, 0]] * 6, [[0, .1, .3, .65, .85, .95]] * 6)
    found = phases.phase_table(patches, draws=50).set_index("phase")
    assert found["first"].tolist() == [0, 2, 5] and found["last"].tolist() == [1, 4, 5]
    half = phases.phase_table(patches, share=.5, draws=50).set_index("phase")
    assert half["first"].tolist() == [0, 4, 3] and half.loc["routing", "layers"] == 0


@pytest.mark.parametrize("of", [phases.release, phases.arrival])
def test_curves_that_were_made_by_hand_are_checked_too(of):
    with pytest.raises(ValueError, match="pair 7 has an effect that is not a number"): of(pd.DataFrame([[1, np.nan, 0]], index=[7]))


def test_one_layer_and_a_pair_without_a_difference():
    "A model of one layer has the same early and late mean, and no word of NumPy's; a pair without a difference is left out everywhere."
    import warnings
    one = study([[1.], [1.]], [[.2], [.1]])
    still = study([[np.nan]], [[np.nan]]).assign(battery_idx=9, ld_corrupt=4.)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for rows in (one, pd.concat([one, still], ignore_index=True)):
            old = phases.legacy(rows)
            assert old.battery_idx.tolist() == [0, 1] and (old.early_mean == old.late_mean).all()
            assert phases.release_arrival(rows).release.tolist() == [1, 1] and len(phases.phase_table(rows)) == 3
