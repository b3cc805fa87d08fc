"""Rankings that see only what they may, refits held against others', and a search held against trying everything."""
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

from sparse_probing import KSparseProbe, best_subset, k_curve, rank_neurons, smallest_k, split
from sparse_probing.ksparse import RANKINGS, Subsets, mutual_information, standardise


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
        run = cross_validate(make_pipeline(StandardScaler(), KSparseProbe(3, by=by)), X, y, cv=folds, return_estimator=True)
        return [(e[0].mean_, e[0].scale_, e[1].neurons_, e[1].coef_) for e in run['estimator']]

    plain, (seen, held_out) = fits(X), folds[0]
    planted, open_secret = X.copy(), X.copy()
    planted[held_out, 39] = 50 * y[held_out]  # the label itself, in rows of the first fold's other side only
    open_secret[seen, 39] = 50 * y[seen]
    for before, after in zip(plain[0], fits(planted)[0]): assert (before == after).all()
    if by != 'random': assert 39 in fits(open_secret)[0][2] and 39 not in plain[0][2]


@pytest.mark.parametrize('by', RANKINGS)
def test_k_curve_keeps_folds_apart(by, data):
    X, _, groups = data
    noise = np.random.default_rng(3).permutation(np.arange(240) % 2)
    table = k_curve(X, noise, [5], by=by, groups=groups, dense=False)
    assert table['ROC-AUC'].mean() < .6 and len(table) == 5


def test_the_refit_is_that_of_others(data):
    X, y, _ = data
    for weight in (None, 'balanced'):
        rows = np.r_[np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:30]]
        probe = KSparseProbe(4, C=.3, class_weight=weight, tol=1e-12).fit(X[rows], y[rows])
        scaled = StandardScaler().fit_transform(X[rows][:, probe.neurons_].astype(float))
        theirs = LogisticRegression(C=.3, class_weight=weight, tol=1e-10).fit(scaled, y[rows])
        assert np.allclose(probe.decision_function(X[rows]), theirs.decision_function(scaled), atol=1e-4)
    assert probe.gap_[0] <= 1e-12 and probe.score(X, y) > .7


def test_the_means_refit_is_linear_discriminant_analysis_without_correlations(data):
    X, y, _ = data
    probe = KSparseProbe(1, refit='means').fit(X, y)
    j = probe.neurons_[0]
    assert (probe.predict(X) == (abs(X[:, j] - X[y == 1, j].mean()) < abs(X[:, j] - X[y == 0, j].mean()))).all()


def test_a_search_over_k_in_a_pipeline(data):
    X, y, groups = data
    search = GridSearchCV(make_pipeline(StandardScaler(), KSparseProbe()), {'ksparseprobe__k': [1, 3, 40], 'ksparseprobe__by': ['F', 'random']}, cv=GroupKFold(3), scoring='roc_auc')
    search.fit(X, y, groups=groups)
    assert search.best_params_['ksparseprobe__by'] == 'F' and set(search.best_estimator_[-1].neurons_) >= {0, 1, 2}


@pytest.mark.parametrize('by', [by for by in RANKINGS if by != 'l1'])
def test_rankings_take_any_form_of_X(by, data, tmp_path):
    X, y, _ = data
    X = X.astype('f2')
    np.save(tmp_path / 'X.npy', X)
    orders = [rank_neurons(form, y, by) for form in (X, X.astype('f4'), X.astype('f8'), np.asfortranarray(X), np.load(tmp_path / 'X.npy', mmap_mode='r'), torch.as_tensor(X), torch.as_tensor(X).bfloat16().half())]
    for order in orders[:-1]: assert (order == orders[0]).all()
    assert set(orders[-1][:2]) <= set(orders[0][:6]) or by == 'random'


def test_mutual_information_is_that_of_the_bins():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1600, 1)), rng.random(1600) < .3
    x[y] += .5
    binned = np.argsort(np.argsort(x[:, 0])) * 16 // 1600
    assert np.isclose(mutual_information(x, y)[0], mutual_info_score(binned, y) - 15 / 3200, atol=1e-9)
    relu = np.maximum(x, 0)  # half of it is exactly zero: one bin, less bias
    assert mutual_information(relu, y)[0] < mutual_information(x, y)[0] < mutual_information(x + y[:, None], y)[0]


@pytest.mark.parametrize('by', RANKINGS)
def test_a_number_that_is_none_is_named(by, data):
    X, y, _ = data
    for wrong in (np.nan, np.inf):
        with pytest.raises(ValueError, match='NaN or infinity.* in column 7'): k_curve(np.where(np.arange(40) == 7, wrong, X), y, [40], by=by)


def test_a_far_offset_does_not_drown_the_spread(data):
    X, y, _ = data
    assert (rank_neurons(X.astype('f8') + 1e7, y, 'F')[:10] == rank_neurons(X.astype('f8'), y, 'F')[:10]).all()


def test_constant_neurons_come_last_and_weigh_nothing(data):
    X, y, _ = data
    still = np.c_[np.full(240, .1, 'f4'), X[:, :2], np.full(240, 7e6, 'f4')]
    for by in ('F', 'mutual information', 'adaptive'): assert set(rank_neurons(still, y, by)[:2]) == {1, 2}
    probe = KSparseProbe(4).fit(still, y)
    assert probe.coef_[0, 0] == probe.coef_[0, 3] == 0 and np.isfinite(probe.intercept_).all()


def test_classes_that_one_neuron_separates(data):
    X, y, _ = data
    X = np.c_[X, y]
    probe = KSparseProbe(1, C=1e6).fit(X, y)
    assert probe.neurons_[0] == 40 and probe.score(X, y) == 1 and probe.gap_[0] <= 1e-6


def test_a_refit_that_stops_early_warns_with_the_gap_it_reached(data):
    X, y, _ = data
    with pytest.warns(ConvergenceWarning, match='the refit on 3 neurons stopped at a relative gap of .*raise max_iter'):
        probe = KSparseProbe(3, C=100, max_iter=1, tol=1e-12).fit(X, y)
    assert probe.gap_[0] > 1e-12


@pytest.mark.parametrize('seed', range(6))
def test_the_best_subset_is_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(60, 8)) @ rng.normal(size=(8, 8))  # correlated
    y = X[:, :3].sum(1) + 2 * rng.normal(size=60) > 0
    subsets = Subsets(np.ascontiguousarray(standardise(X, np.arange(8))[0].T), np.where(y, 1., -1.), .7)
    for k in range(1, 9):
        values = {s: subsets.fit(s).value for s in combinations(range(8), k)}
        best, hurried = (best_subset(X, y, k, C=.7, nodes=nodes) for nodes in (5000, 1))
        assert best.proven and np.isclose(best.objective, min(values.values())) and np.isclose(values[tuple(best.neurons)], best.objective)
        assert hurried.bound <= min(values.values()) * (1 + 1e-9) and hurried.objective >= best.objective * (1 - 1e-9)


def test_a_hurried_search_does_not_claim_a_proof(data):
    X, y, _ = data
    hurried = best_subset(X, y, 6, nodes=2)
    assert not hurried.proven and hurried.bound < hurried.objective and len(hurried.neurons) == 6


def test_the_smallest_k_by_the_rule(data):
    X, y, groups = data
    table = k_curve(X, y, [1, 2, 4, 40], by=['F', 'random'], groups=groups)
    assert set(table.ranking) == {'F', 'random', 'dense'} and set(table.fold) == set(range(5)) and (table.gap.dropna() <= 1e-6).all()
    dense = table[table.ranking == 'dense']['ROC-AUC']
    bar = dense.mean() - dense.std() / 5 ** .5
    means = table[table.ranking == 'F'].groupby('k')['ROC-AUC'].mean()
    assert smallest_k(table)['F'] == next(k for k in (1, 2, 4, 40) if means[k] >= bar)
    table['hopeless'] = table['ROC-AUC'] * (table.ranking != 'random')
    assert smallest_k(table, 'hopeless').isna()['random'] and smallest_k(table, 'hopeless')['F'] == smallest_k(table)['F']


@pytest.mark.parametrize('change, message', [
    (dict(k=0), 'between 1 and 40'), (dict(k=41), 'between 1 and 40'), (dict(k=2.5), 'between 1 and 40'), (dict(by='p'), "unknown ranking 'p'"),
    (dict(refit='lasso'), "unknown refit 'lasso'"), (dict(C=0), 'C must be positive'), (dict(k=[1, 2]), r'k is one whole number, 1 or more; got \[1, 2\]: .*`k_curve`'), (dict(k='3'), "got '3'"), (dict(C=[1, 2]), 'C is one positive number'),
    (dict(tol=[1e-6]), 'tol is one positive number'), (dict(max_iter=[5, 10]), 'max_iter is one whole number'), (dict(by=['F', 'random']), 'by is one ranking'), (dict(refit=['logistic']), 'unknown refit'),
])
def test_bad_parameters(change, message, data):
    with pytest.raises(ValueError, match=message): KSparseProbe(**change).fit(*data[:2])


@pytest.mark.parametrize('change, message', [
    (dict(ks=[4, 2]), 'increase'), (dict(ks=[]), 'between 1 and 40'), (dict(ks=[64]), 'between 1 and 40'), (dict(groups=np.arange(240) // 120), 'number of groups: 2'),
    (dict(groups=np.repeat([0, 1, 2, 3], 60), cv=4, y=np.repeat([0, 1], 120)), 'rows of one class only'), (dict(y=np.zeros(240)), 'Two classes are needed'),
    (dict(groups=np.arange(3)), '240 rows, 3 groups'), (dict(y=np.arange(240) % 3), 'Two classes are needed'),
])
def test_bad_curves(change, message, data):
    with pytest.raises(ValueError, match=message): k_curve(**dict(zip(('X', 'y'), data)) | change)


def test_subsets_are_small(data):
    for k in (0, 9):
        with pytest.raises(ValueError, match='between 1 and 8'): best_subset(*data[:2], k)
    with pytest.raises(ValueError, match='k is one whole number'): best_subset(*data[:2], [1, 2])
    with pytest.raises(ValueError, match='C is one positive number'): best_subset(*data[:2], 1, C=[1, 2])
    assert KSparseProbe(4.).fit(*data[:2]).neurons_.tolist() == KSparseProbe(4).fit(*data[:2]).neurons_.tolist()


def test_the_same_scores_as_transformer_lens(lm, examples):
    from transformer_lens.tools.analysis.sparse_probing import sweep_sparse_probe

    from sparse_probing import record
    X, y, ks = record(lm, examples, layers=[3], positions=-1).at(3, -1), examples.y, [1, 4, 16, 64]
    theirs = sweep_sparse_probe(torch.as_tensor(X.copy()), torch.as_tensor(y), ks=ks, groups=torch.as_tensor(examples.group), preprocess='standardize', std_floor=0)
    for k, one in zip(ks, theirs.results):
        train, test = one.train_indices.numpy(), one.test_indices.numpy()
        probe = KSparseProbe(k, by='mean difference', C=100 / len(train), class_weight='balanced').fit(X[train], y[train])
        assert set(probe.neurons_) == set(one.selected_features.tolist())
        assert abs(roc_auc_score(y[test], probe.decision_function(X[test])) - one.metrics.roc_auc) < .01
