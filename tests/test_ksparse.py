"""Rankings that see only what they may, refits and a search held against what others find."""
from itertools import combinations

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mutual_info_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sparse_probing import KSparseProbe, best_subset, k_curve, rank_neurons, smallest_k
from sparse_probing.ksparse import RANKINGS, mutual_information
from sparse_probing.subsets import Subsets


@pytest.fixture(scope='module')
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(240, 40)).astype('f4')
    return X, (X[:, :3] @ [1, 1, -1] + rng.normal(size=240) > 0).astype(int), np.arange(240) // 6


@pytest.mark.parametrize('by', RANKINGS)
def test_held_out_rows_have_no_say(by, data):
    X, y, groups = data
    folds = list(GroupKFold(4).split(X, y, groups))

    def fits(X):
        pipeline = make_pipeline(StandardScaler(), KSparseProbe(3, by=by))
        run = cross_validate(pipeline, X, y, cv=folds, return_estimator=True)
        return [(scaler.mean_, scaler.scale_, probe.neurons_, probe.coef_)
                for scaler, probe in run['estimator']]

    plain, (seen, held_out) = fits(X), folds[0]
    planted, open_secret = X.copy(), X.copy()
    planted[held_out, 39] = 50 * y[held_out] # the label itself, in rows held out only
    open_secret[seen, 39] = 50 * y[seen]
    for before, after in zip(plain[0], fits(planted)[0]): assert (before == after).all()
    if by == 'random': return
    assert 39 in fits(open_secret)[0][2]
    assert 39 not in plain[0][2]


@pytest.mark.parametrize('by', RANKINGS)
def test_k_curve_keeps_folds_apart(by, data):
    X, _, groups = data
    noise = np.random.default_rng(3).permutation(np.arange(240) % 2)
    table = k_curve(X, noise, [5], by=by, groups=groups, dense=False)
    assert table['ROC-AUC'].mean() < .6
    assert len(table) == 5


def test_the_refit_is_that_of_others(data):
    X, y, _ = data
    for weight in (None, 'balanced'):
        rows = np.r_[np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:30]]
        probe = KSparseProbe(4, C=.3, class_weight=weight, tol=1e-12).fit(X[rows], y[rows])
        scaled = StandardScaler().fit_transform(X[rows][:, probe.neurons_].astype(float))
        theirs = LogisticRegression(C=.3, class_weight=weight, tol=1e-10).fit(scaled, y[rows])
        ours = probe.decision_function(X[rows])
        assert np.allclose(ours, theirs.decision_function(scaled), atol=1e-4)
    assert probe.gap_[0] <= 1e-12
    assert probe.score(X, y) > .7


def test_the_means_refit_is_linear_discriminant_analysis_without_correlations(data):
    X, y, _ = data
    probe = KSparseProbe(1, refit='means').fit(X, y)
    j = probe.neurons_[0]
    first, second = (abs(X[:, j] - X[y == c, j].mean()) for c in (0, 1))
    assert (probe.predict(X) == (second < first)).all()


def test_a_search_over_k_in_a_pipeline(data):
    X, y, groups = data
    pipeline = make_pipeline(StandardScaler(), KSparseProbe())
    grid = {'ksparseprobe__k': [1, 3, 40], 'ksparseprobe__by': ['F', 'random']}
    search = GridSearchCV(pipeline, grid, cv=GroupKFold(3), scoring='roc_auc')
    search.fit(X, y, groups=groups)
    assert search.best_params_['ksparseprobe__by'] == 'F'
    assert set(search.best_estimator_[-1].neurons_) >= {0, 1, 2}


@pytest.mark.parametrize('by', [by for by in RANKINGS if by != 'l1'])
def test_rankings_take_any_form_of_X(by, data, tmp_path):
    X, y, _ = data
    X = X.astype('f2')
    np.save(tmp_path / 'X.npy', X)
    order, memory_map = rank_neurons(X, y, by), np.load(tmp_path / 'X.npy', mmap_mode='r')
    forms = X.astype('f4'), X.astype('f8'), np.asfortranarray(X), memory_map, torch.as_tensor(X)
    for form in forms: assert (rank_neurons(form, y, by) == order).all()
    coarse = rank_neurons(torch.as_tensor(X).bfloat16().half(), y, by)
    assert by == 'random' or set(coarse[:2]) <= set(order[:6])


def test_mutual_information_is_that_of_the_bins():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1600, 1)), rng.random(1600) < .3
    x[y] += .5
    binned = np.argsort(np.argsort(x[:, 0])) * 16 // 1600
    information = mutual_information(x, y)[0]
    assert np.isclose(information, mutual_info_score(binned, y) - 15 / 3200, atol=1e-9)
    half = np.maximum(x, 0) # half of it is exactly zero: one bin, less bias
    assert mutual_information(half, y)[0] < information
    assert information < mutual_information(x + y[:, None], y)[0]


@pytest.mark.parametrize('by', RANKINGS)
def test_a_number_that_is_none_is_named(by, data):
    X, y, _ = data
    for wrong in (np.nan, np.inf):
        damaged = np.where(np.arange(40) == 7, wrong, X)
        with pytest.raises(ValueError, match='NaN or infinity.* in column 7'):
            k_curve(damaged, y, [40], by=by)


def test_a_far_offset_does_not_drown_the_spread(data):
    X, y, _ = data
    X = X.astype('f8')
    assert (rank_neurons(X + 1e7, y, 'F')[:10] == rank_neurons(X, y, 'F')[:10]).all()


def test_constant_neurons_come_last_and_weigh_nothing(data):
    X, y, _ = data
    still = np.c_[np.full(240, .1, 'f4'), X[:, :2], np.full(240, 7e6, 'f4')]
    for by in ('F', 'mutual information', 'adaptive'):
        assert set(rank_neurons(still, y, by)[:2]) == {1, 2}
    probe = KSparseProbe(4).fit(still, y)
    assert probe.coef_[0, 0] == probe.coef_[0, 3] == 0
    assert np.isfinite(probe.intercept_).all()


def test_classes_that_one_neuron_separates(data):
    X, y, _ = data
    X = np.c_[X, y]
    probe = KSparseProbe(1, C=1e6).fit(X, y)
    assert probe.neurons_[0] == 40
    assert probe.score(X, y) == 1
    assert probe.gap_[0] <= 1e-6


def test_a_refit_that_stops_early_warns_with_the_gap_it_reached(data):
    X, y, _ = data
    message = 'the refit on 3 neurons stopped at a relative gap of .*raise max_iter'
    with pytest.warns(ConvergenceWarning, match=message):
        probe = KSparseProbe(3, C=100, max_iter=1, tol=1e-12).fit(X, y)
    assert probe.gap_[0] > 1e-12


@pytest.mark.parametrize('seed', range(6))
def test_the_best_subset_is_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(60, 8)) @ rng.normal(size=(8, 8)) # correlated
    y = X[:, :3].sum(1) + 2 * rng.normal(size=60) > 0
    subsets = Subsets.of(X, y, .7)
    for k in range(1, 9):
        values = {chosen: subsets.fit(chosen).value for chosen in combinations(range(8), k)}
        least = min(values.values())
        best, hurried = (best_subset(X, y, k, C=.7, nodes=nodes) for nodes in (5000, 1))
        assert best.proven
        assert np.isclose(best.objective, least)
        assert np.isclose(values[tuple(best.neurons)], best.objective)
        assert hurried.bound <= least * (1 + 1e-9)
        assert hurried.objective >= best.objective * (1 - 1e-9)


def test_a_hurried_search_does_not_claim_a_proof(data):
    X, y, _ = data
    hurried = best_subset(X, y, 6, nodes=2)
    assert not hurried.proven
    assert hurried.bound < hurried.objective
    assert len(hurried.neurons) == 6


def test_the_smallest_k_by_the_rule(data):
    X, y, groups = data
    table = k_curve(X, y, [1, 2, 4, 40], by=['F', 'random'], groups=groups)
    assert set(table.ranking) == {'F', 'random', 'dense'}
    assert set(table.fold) == set(range(5))
    assert table.gap.max() <= 1e-6
    assert set(table[table.ranking == 'dense'].k) == {40}
    dense = table[table.ranking == 'dense']['ROC-AUC']
    bar = dense.mean() - dense.std() / 5 ** .5
    means = table[table.ranking == 'F'].groupby('k')['ROC-AUC'].mean()
    assert smallest_k(table)['F'] == next(k for k in (1, 2, 4, 40) if means[k] >= bar)
    table['hopeless'] = table['ROC-AUC'] * (table.ranking != 'random')
    hopeless = smallest_k(table, 'hopeless')
    assert hopeless.isna()['random']
    assert hopeless['F'] == smallest_k(table)['F']


@pytest.mark.parametrize('change, message', [
    (dict(k=0), 'between 1 and 40'),
    (dict(k=41), 'between 1 and 40'),
    (dict(k=2.5), 'between 1 and 40'),
    (dict(k='3'), "got '3'"),
    (dict(k=[1, 2]), r'k is one whole number, 1 or more; got \[1, 2\]: .*`k_curve`'),
    (dict(by='p'), "unknown ranking 'p'"),
    (dict(by=['F', 'random']), 'by is one ranking'),
    (dict(refit='lasso'), "unknown refit 'lasso'"),
    (dict(refit=['logistic']), 'unknown refit'),
    (dict(C=0), 'C must be positive'),
    (dict(C=[1, 2]), 'C is one positive number'),
    (dict(tol=[1e-6]), 'tol is one positive number'),
    (dict(max_iter=[5, 10]), 'max_iter is one whole number'),
])
def test_bad_parameters(change, message, data):
    with pytest.raises(ValueError, match=message): KSparseProbe(**change).fit(*data[:2])


@pytest.mark.parametrize('change, message', [
    (dict(ks=[4, 2]), 'increase'),
    (dict(ks=[]), 'between 1 and 40'),
    (dict(ks=[64]), 'between 1 and 40'),
    (dict(groups=np.arange(3)), '240 rows, 3 groups'),
    (dict(groups=np.arange(240) // 120), 'number of groups: 2'),
    (dict(groups=np.arange(240) // 60, cv=4, y=np.arange(240) // 120), 'rows of one class only'),
    (dict(y=np.zeros(240)), 'Two classes are needed'),
    (dict(y=np.arange(240) % 3), 'Two classes are needed'),
])
def test_bad_curves(change, message, data):
    arguments = dict(X=data[0], y=data[1]) | change
    with pytest.raises(ValueError, match=message): k_curve(**arguments)


def test_subsets_are_small(data):
    for k in (0, 9):
        with pytest.raises(ValueError, match='between 1 and 8'): best_subset(*data[:2], k)
    with pytest.raises(ValueError, match='k is one whole number'): best_subset(*data[:2], [1, 2])
    with pytest.raises(ValueError, match='C is one positive number'):
        best_subset(*data[:2], 1, C=[1, 2])


def test_a_whole_number_may_be_a_float(data):
    neurons = [KSparseProbe(k).fit(*data[:2]).neurons_.tolist() for k in (4, 4.)]
    assert neurons[0] == neurons[1]


def test_the_settings_of_a_probe_are_powers_of_two(data):
    assert KSparseProbe().settings(*data[:2]).tolist() == [1, 2, 4, 8, 16, 32]
    assert KSparseProbe().settings(*data[:2], [4, 1, 4.]).tolist() == [1, 4]


@pytest.mark.parametrize('refit', ['logistic', 'means'])
def test_a_fit_at_each_k_is_that_of_a_probe_fitted_there(refit, data):
    X, y, _ = data
    for fit in KSparseProbe(refit=refit, tol=1e-12).fits(X, y, [1, 5]):
        probe = KSparseProbe(fit.setting, refit=refit, tol=1e-12).fit(X, y)
        assert fit.neurons.tolist() == probe.neurons_.tolist()
        assert np.allclose(fit.scores(X), probe.decision_function(X), atol=1e-4)
        assert fit.gap <= 1e-12


def test_fits_are_the_same_for_any_form_of_X_and_any_names_of_classes(data, tmp_path):
    X, y, _ = data
    np.save(tmp_path / 'X.npy', X)
    plain = [fit.scores(X) for fit in KSparseProbe().fits(X, y)]
    memory_map, names = np.load(tmp_path / 'X.npy', mmap_mode='r'), np.array(['a', 'b'])[y]
    for form, classes in ((memory_map, y), (torch.as_tensor(X), y), (X, names), (X, list(y == 1))):
        again = [fit.scores(X) for fit in KSparseProbe().fits(form, classes)]
        assert np.array_equal(again, plain)


def test_class_weights_count_in_fits_and_multiply_those_of_rows(data):
    X, y, _ = data
    rows = np.arange(240) % 3 + 1.
    weighted, = KSparseProbe(class_weight={0: 1, 1: 5}).fits(X, y, [3], sample_weight=rows)
    by_hand, = KSparseProbe().fits(X, y, [3], sample_weight=rows * np.where(y == 1, 5, 1))
    plain, = KSparseProbe().fits(X, y, [3])
    assert (weighted.coef == by_hand.coef).all()
    assert (weighted.coef != plain.coef).all()


def test_the_same_scores_as_transformer_lens(lm, examples):
    from transformer_lens.tools.analysis.sparse_probing import sweep_sparse_probe

    from sparse_probing import record
    X, y = record(lm, examples, layers=[3], positions=-1).at(3, -1), examples.y
    ks = [1, 4, 16, 64]
    tensor, labels, groups = map(torch.as_tensor, (X.copy(), y, examples.group))
    theirs = sweep_sparse_probe(tensor, labels, ks=ks, groups=groups, preprocess='standardize',
                                std_floor=0)
    for k, result in zip(ks, theirs.results):
        train, test = result.train_indices.numpy(), result.test_indices.numpy()
        probe = KSparseProbe(k, by='mean difference', C=100 / len(train), class_weight='balanced')
        scores = probe.fit(X[train], y[train]).decision_function(X[test])
        assert set(probe.neurons_) == set(result.selected_features.tolist())
        assert abs(roc_auc_score(y[test], scores) - result.metrics.roc_auc) < .01
