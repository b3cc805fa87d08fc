"""The probe as others use it, and the path on any form of X."""
import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sparse_probing import SparseProbe, c_min, duality_gap, sparsity_path


@pytest.fixture(scope='module')
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(160, 50)).astype('f4')
    return X, (X[:, :2].sum(1) + rng.normal(size=160) > 0).astype(int), np.arange(160) // 4


def test_a_search_over_C_in_a_pipeline(data):
    X, y, _ = data
    search = GridSearchCV(make_pipeline(StandardScaler(), SparseProbe()), {'sparseprobe__C': [1e-4, .05, .5]}).fit(X, y)
    assert search.best_params_['sparseprobe__C'] > 1e-4 and {0, 1} <= set(search.best_estimator_[-1].neurons_)


def test_a_fit_that_stops_early_warns_with_the_gap_it_reached(data):
    X, y, _ = data
    with pytest.warns(ConvergenceWarning, match=r'relative gap is .*e.* and not 1.0e-06. Raise max_iter'): probe = SparseProbe(C=1, max_iter=1).fit(X, y)
    assert probe.gap_[0] > 1e-6


def test_three_classes_are_three_certified_fits(data):
    X, _, _ = data
    y = np.array(['low', 'middle', 'high'])[np.digitize(X[:, 0], [-.5, .5])]
    probe = SparseProbe(C=.1).fit(X, y)
    assert probe.coef_.shape == (3, 50) and probe.gap_.shape == (3,) and (probe.gap_ <= 1e-6).all()
    assert duality_gap(X, y == 'low', probe.coef_[1], probe.intercept_[1], .1) <= 1e-6 and 0 in probe.neurons_


def test_balanced_classes_are_weighted_rows(data):
    X, y, _ = data
    rows = np.r_[np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:20]]
    share = np.bincount(y[rows]) / len(rows)
    a = SparseProbe(C=.2, class_weight='balanced').fit(X[rows], y[rows])
    b = SparseProbe(C=.2).fit(X[rows], y[rows], sample_weight=.5 / share[y[rows]])
    assert (a.coef_ == b.coef_).all() and (a.coef_ != SparseProbe(C=.2).fit(X[rows], y[rows]).coef_).any()


def test_the_path_takes_any_form_of_X(data, tmp_path):
    X, y, groups = data
    np.save(tmp_path / 'X.npy', X)
    paths = [sparsity_path(form, y, cv=4, groups=groups) for form in (X, np.load(tmp_path / 'X.npy', mmap_mode='r'), torch.as_tensor(X))]
    for path in paths:
        assert path.table.equals(paths[0].table) and (path.table[['gap', 'fold_gap']] <= 1e-6).all(axis=None)
    assert set(sparsity_path(X.astype('f2'), y).neurons(2)) == set(paths[0].neurons(2)) == {0, 1}


def test_folds_keep_documents_apart_and_scores_are_of_unseen_rows(data):
    X, _, groups = data
    noise = np.random.default_rng(1).permutation(np.arange(160) % 2)
    path = sparsity_path(X, noise, C=[1, 10], cv=5, groups=groups)
    assert path.table.train.iloc[-1] > .7 and path.table.held_out.max() < .65


@pytest.mark.parametrize('change, message', [
    (dict(C=[2, 1]), 'must increase'), (dict(C=[1, 1]), 'must increase'), (dict(C=-1), 'C must be'), (dict(groups=[1, 2], cv=3), '160 rows, 2 groups'),
    (dict(cv=3, groups=np.arange(160) // 80), 'number of groups: 2'), (dict(tol=0), 'must be positive'), (dict(groups=[1, 2]), '160 rows, 2 groups'), (dict(tol=[1e-4, 1e-6]), 'tol is one positive number'),
    (dict(max_iter=[10]), 'max_iter is one whole number'),
])
def test_bad_input(change, message, data):
    with pytest.raises(ValueError, match=message): sparsity_path(*data[:2], **change)


@pytest.mark.parametrize('change, message', [(dict(C=[1, 10]), r'C is one positive number; got \[1, 10\]: .*`sparsity_path`'), (dict(C=np.ones(1)), 'C is one positive number'), (dict(C='1'), "got '1'"), (dict(C=None), 'C must be positive'), (dict(C=-1), 'C must be'),
    (dict(C=np.inf), 'C must be'), (dict(tol=[1e-3]), 'tol is one positive number'), (dict(max_iter=(5, 10)), 'max_iter is one whole number'), (dict(max_iter=2.5), 'max_iter must be positive, one whole number'), (dict(max_iter=0), 'max_iter must be')])
def test_a_probe_takes_one_number_each(change, message, data):
    with pytest.raises(ValueError, match=message): SparseProbe(**change).fit(*data[:2])


def test_the_default_grid_starts_where_the_first_neuron_enters(data):
    X, y, _ = data
    path = sparsity_path(X, y)
    assert np.isclose(path.C[0], c_min(X, y)) and path.table.nonzero.iloc[0] == 0 < path.table.nonzero.iloc[1]
