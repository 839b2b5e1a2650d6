"Fed with noise, the methods of the inference chapter must find nothing; fed with an effect, they must find it."
import time
import numpy as np
import pytest
from scipy import stats
from bizzaroworld import inference

SETS, CLUSTERS = 1000, np.repeat(np.arange(20), 3)


def noise(seed, between, cells=20, shift=0):
    "60 pairs × cells without an effect; `between` is the spread of the categories, that of the pairs is 1."
    rng = np.random.default_rng(seed)
    return rng.normal(shift, between, size=(20, cells)).repeat(3, axis=0) + rng.normal(size=(60, cells))


def limit(rate=.05, sets=SETS):
    "More false positives than this in `sets` data sets happen once in a thousand times where the true rate is 5 %."
    return stats.binom.ppf(.999, sets, rate) / sets


@pytest.mark.parametrize("between", [0, 1])
def test_false_positives_of_max_t(between):
    rate = np.mean([inference.max_t(noise(s, between), CLUSTERS, draws=400, seed=s).p.min() <= .05 for s in range(SETS)])
    assert rate <= limit(), f"{rate:.3f} of data sets without an effect have a 'significant' cell"


@pytest.mark.parametrize("between", [0, 1])
def test_false_positives_of_the_corrected_cells(between):
    rate = np.mean([inference.cell_tests(noise(s, between), CLUSTERS).passes.any() for s in range(SETS)])
    assert rate <= limit(), f"{rate:.3f} of maps without an effect have a head that passes"


@pytest.mark.parametrize("between", [0, 1, 3])
def test_false_positives_of_the_interval(between):
    "A fresh single number a data set: its 95 % interval must not leave out 0 more often than 5 %."
    misses = []
    for s in range(SETS):
        found = inference.cluster_bootstrap(noise(s, between, cells=1)[:, 0], CLUSTERS, draws=1000, seed=s)
        misses.append(not found.low <= 0 <= found.high)
    assert np.mean(misses) <= limit(), f"{np.mean(misses):.3f} of the intervals leave out the true mean"


def test_ignoring_the_categories_would_fail():
    "The same data, each pair its own category: the interval is far too narrow. This is what clustering is for."
    misses = []
    for s in range(100):
        found = inference.cluster_bootstrap(noise(s, 3, cells=1)[:, 0], np.arange(60), draws=500, seed=s)
        misses.append(not found.low <= 0 <= found.high)
    assert np.mean(misses) > .15


def test_peak_without_a_peak_excludes_no_layer():
    wrong = [(~inference.peak(_frame(noise(s, 1, cells=8)), CLUSTERS, draws=300, seed=s).may_be_peak).any() for s in range(SETS)]
    assert np.mean(wrong) <= limit(), f"{np.mean(wrong):.3f} of flat curves have a 'peak'"


def test_an_effect_is_found():
    values = noise(0, .5)
    values[:, 7] += 1.5
    assert inference.max_t(values, CLUSTERS).p.idxmin() == 7 and inference.max_t(values, CLUSTERS).p[7] < .01
    assert inference.cell_tests(values, CLUSTERS).passes[7]
    told = inference.peak(_frame(values), CLUSTERS)
    assert told.may_be_peak.tolist() == [i == 7 for i in range(20)]


def test_a_shift_is_covered():
    "The interval covers a mean other than 0 as well, so it does not pass by being centred on 0."
    hits = []
    for s in range(100):
        found = inference.cluster_bootstrap(noise(s, 1, cells=1, shift=2)[:, 0], CLUSTERS, draws=500, seed=s)
        hits.append(found.low <= 2 <= found.high and found.low > 0)
    assert np.mean(hits) >= .88


def test_the_bootstrap_agrees_with_a_plain_loop():
    values, clusters = noise(3, 1, cells=2)[:12], np.repeat([0, 1, 2, 2], 3)
    rng, slow = np.random.default_rng(0), []
    for _ in range(20_000):
        rows = [rng.choice(np.flatnonzero(clusters == c), (clusters == c).sum()) for c in rng.choice(3, 3)]
        slow.append(values[np.concatenate(rows)].mean(0))
    weights = inference.resample(clusters, draws=20_000)
    fast = inference.mean(values, weights)
    for q in (.05, .25, .5, .75, .95): np.testing.assert_allclose(np.quantile(fast, q, axis=0), np.quantile(slow, q, axis=0), atol=.04)


def test_the_order_of_pairs_does_not_matter():
    values, clusters = noise(1, 1, cells=3), CLUSTERS
    order = np.random.default_rng(0).permutation(60)
    a, b = (inference.cluster_bootstrap(values[o], clusters[o], draws=20_000) for o in (np.arange(60), order))
    np.testing.assert_allclose(a.estimate, b.estimate)
    np.testing.assert_allclose([a.low, a.high], [b.low, b.high], atol=.05)
    np.testing.assert_allclose(inference.cell_tests(values, clusters).t, inference.cell_tests(values[order], clusters[order]).t)


def test_max_t_agrees_with_scipy_on_one_cell():
    "With one cell there is nothing to correct, so SciPy's own sign-flip test says the same."
    means = noise(5, 1, cells=1).reshape(20, 3).mean(1) + .3
    ours = inference.max_t(means[:, None], np.arange(20), draws=20_000).p[0]
    theirs = stats.permutation_test((means,), lambda x, axis: np.abs(x.mean(axis)), permutation_type="samples", n_resamples=20_000,
        alternative="greater", rng=np.random.default_rng(0)).pvalue
    assert ours == pytest.approx(theirs, abs=.015)


def test_all_draws_are_taken_at_once():
    "Ten thousand draws are a few products of matrices: the statistic is asked as often for ten thousand as for a hundred."
    asked = []
    def counted(values, weights): asked.append(len(weights)); return inference.mean(values, weights)
    for draws in (100, 10_000):
        asked.clear(); inference.cluster_bootstrap(noise(0, 1), CLUSTERS, statistic=counted, draws=draws)
        assert sorted(asked) == [1, draws], asked



def _frame(values):
    import pandas as pd
    return pd.DataFrame(values)


def test_a_pair_without_a_difference_has_no_effect_and_the_others_do():
    "And what has no effect although there is a difference is a fault, which is refused."
    import pandas as pd
    rows = pd.DataFrame([dict(battery_idx=i, category="ab"[i % 2], layer=l, experiment="1", site="resid_pre", position="final", direction="noising", head=None, window=1, control=None,
        ld_clean=3., ld_corrupt=3. - swing, effect=l / 2 if swing > 1e-6 else bad, delta=0.) for i, (swing, bad) in enumerate([(4, 0), (0, np.nan), (2, 0), (5e-7, np.inf)]) for l in range(3)])
    assert set(inference.measured(rows).battery_idx) == {0, 2}
    assert list(inference.pair_matrix(rows, experiment="1").index) == [0, 2] and inference.mean_by_layer(inference.measured(rows))["mean"].tolist() == [0, .5, 1]
    with pytest.raises(ValueError, match="pair 2 at layer 0 is nan"): inference.pair_matrix(rows.assign(effect=rows.effect.where(rows.battery_idx != 2)), experiment="1")
    assert inference.measured(rows.drop(columns=["ld_clean"])) is not None


def test_statistics_of_nearly_nothing_say_that_they_are_none():
    import pandas as pd
    one = pd.DataFrame([[.5], [.4]])
    p = inference.peak(one, ["a", "b"], draws=100)
    assert len(p) == 1 and p.may_be_peak.all() and p.share_of_draws.tolist() == [1]      # one layer has no other
    none = inference.over_pairs(pd.DataFrame(dict(category=[], battery_idx=[], effect=[])))
    assert np.isnan(none).all() and np.isnan(inference.detectable(1)) and inference.detectable(2) > inference.detectable(3)
    assert np.isnan(inference.cluster_bootstrap([[1., 2.]], ["a"], statistic=inference.correlation)).all()
