"""The sparse probe as others use it, its fits, and the path on any form of X."""
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sparse_probing import SparseProbe, c_min, duality_gap, evaluate, sparsity_path


@pytest.fixture(scope='module')
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(160, 50)).astype('f4')
    return X, (X[:, :2].sum(1) + rng.normal(size=160) > 0).astype(int), np.arange(160) // 4


def test_a_search_over_C_in_a_pipeline(data):
    X, y, _ = data
    pipeline = make_pipeline(StandardScaler(), SparseProbe())
    search = GridSearchCV(pipeline, {'sparseprobe__C': [1e-4, .05, .5]}).fit(X, y)
    assert search.best_params_['sparseprobe__C'] > 1e-4
    assert {0, 1} <= set(search.best_estimator_[-1].neurons_)


def test_a_fit_that_stops_early_warns_with_the_gap_it_reached(data):
    X, y, _ = data
    message = r'relative gap is .*e.* and not 1.0e-06. Raise max_iter'
    with pytest.warns(ConvergenceWarning, match=message):
        probe = SparseProbe(C=1, max_iter=1).fit(X, y)
    assert probe.gap_[0] > 1e-6


def test_three_classes_are_three_certified_fits(data):
    X, _, _ = data
    y = np.array(['low', 'middle', 'high'])[np.digitize(X[:, 0], [-.5, .5])]
    probe = SparseProbe(C=.1).fit(X, y)
    assert probe.coef_.shape == (3, 50)
    assert probe.gap_.shape == (3,) and (probe.gap_ <= 1e-6).all()
    assert duality_gap(X, y == 'low', probe.coef_[1], probe.intercept_[1], .1) <= 1e-6
    assert 0 in probe.neurons_


def test_balanced_classes_are_weighted_rows(data):
    X, y, _ = data
    rows = np.r_[np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:20]]
    share = np.bincount(y[rows]) / len(rows)
    balanced = SparseProbe(C=.2, class_weight='balanced').fit(X[rows], y[rows])
    weighted = SparseProbe(C=.2).fit(X[rows], y[rows], sample_weight=.5 / share[y[rows]])
    plain = SparseProbe(C=.2).fit(X[rows], y[rows])
    assert (balanced.coef_ == weighted.coef_).all()
    assert (balanced.coef_ != plain.coef_).any()


def test_the_path_takes_any_form_of_X(data, tmp_path):
    X, y, groups = data
    np.save(tmp_path / 'X.npy', X)
    path = sparsity_path(X, y, cv=4, groups=groups)
    for form in (np.load(tmp_path / 'X.npy', mmap_mode='r'), torch.as_tensor(X)):
        assert sparsity_path(form, y, cv=4, groups=groups).table.equals(path.table)
    assert (path.table[['gap', 'fold_gap']] <= 1e-6).all(axis=None)
    assert set(sparsity_path(X.astype('f2'), y).neurons(2)) == set(path.neurons(2)) == {0, 1}


def test_folds_keep_documents_apart_and_scores_are_of_unseen_rows(data):
    X, _, groups = data
    noise = np.random.default_rng(1).permutation(np.arange(160) % 2)
    path = sparsity_path(X, noise, C=[1, 10], cv=5, groups=groups)
    assert path.table.train.iloc[-1] > .7
    assert path.table.held_out.max() < .65


@pytest.mark.parametrize('change, message', [
    (dict(C=[2, 1]), 'must increase'),
    (dict(C=[1, 1]), 'must increase'),
    (dict(C=-1), 'C must be'),
    (dict(groups=[1, 2], cv=3), '160 rows, 2 groups'),
    (dict(cv=3, groups=np.arange(160) // 80), 'number of groups: 2'),
    (dict(tol=0), 'must be positive'),
    (dict(groups=[1, 2]), '160 rows, 2 groups'),
    (dict(tol=[1e-4, 1e-6]), 'tol is one positive number'),
    (dict(max_iter=[10]), 'max_iter is one whole number'),
])
def test_bad_input(change, message, data):
    with pytest.raises(ValueError, match=message): sparsity_path(*data[:2], **change)


@pytest.mark.parametrize('change, message', [
    (dict(C=[1, 10]), r'C is one positive number; got \[1, 10\]: .*`sparsity_path`'),
    (dict(C=np.ones(1)), 'C is one positive number'),
    (dict(C='1'), "got '1'"),
    (dict(C=None), 'C must be positive'),
    (dict(C=-1), 'C must be'),
    (dict(C=np.inf), 'C must be'),
    (dict(tol=[1e-3]), 'tol is one positive number'),
    (dict(max_iter=(5, 10)), 'max_iter is one whole number'),
    (dict(max_iter=2.5), 'max_iter must be positive, one whole number'),
    (dict(max_iter=0), 'max_iter must be'),
])
def test_a_probe_takes_one_number_each(change, message, data):
    with pytest.raises(ValueError, match=message): SparseProbe(**change).fit(*data[:2])


def test_the_default_grid_starts_where_the_first_neuron_enters(data):
    X, y, _ = data
    path = sparsity_path(X, y)
    assert np.isclose(path.C[0], c_min(X, y))
    assert path.table.nonzero.iloc[0] == 0 < path.table.nonzero.iloc[1]


def test_the_settings_of_a_probe_are_ten_C_from_the_first_neuron_s(data):
    X, y, _ = data
    assert np.allclose(SparseProbe().settings(X, y), c_min(X, y) * np.geomspace(1, 100, 10))


def test_settings_that_are_given_come_in_order(data):
    assert SparseProbe().settings(*data[:2], [3, 1, 3]).tolist() == [1, 3]


def test_a_fit_at_each_C_is_certified_and_scores_as_a_probe_fitted_there(data):
    X, y, _ = data
    for fit in SparseProbe().fits(X, y, [.05, .5]):
        probe = SparseProbe(C=fit.setting).fit(X, y)
        assert duality_gap(X, y, probe.coef_, probe.intercept_, fit.setting) <= 1e-6
        assert np.allclose(fit.scores(X), probe.decision_function(X), atol=.02)
        assert fit.gap <= 1e-6


def test_fits_are_the_same_for_any_form_of_X_and_any_names_of_classes(data, tmp_path):
    X, y, _ = data
    np.save(tmp_path / 'X.npy', X)
    plain = [fit.scores(X) for fit in SparseProbe().fits(X, y)]
    memory_map, names = np.load(tmp_path / 'X.npy', mmap_mode='r'), np.array(['a', 'b'])[y]
    for form, classes in ((memory_map, y), (torch.as_tensor(X), y), (X, names), (X, list(y == 1))):
        again = [fit.scores(X) for fit in SparseProbe().fits(form, classes)]
        assert np.array_equal(again, plain)


def test_class_weights_count_in_fits_and_multiply_those_of_rows(data):
    X, y, _ = data
    rows = np.arange(160) % 3 + 1.
    weighted, = SparseProbe(class_weight={0: 1, 1: 5}).fits(X, y, [.1], sample_weight=rows)
    by_hand, = SparseProbe().fits(X, y, [.1], sample_weight=rows * np.where(y == 1, 5, 1))
    plain, = SparseProbe().fits(X, y, [.1])
    assert (weighted.scores(X) == by_hand.scores(X)).all()
    assert (weighted.scores(X) != plain.scores(X)).any()


def test_fits_are_of_two_classes(data):
    with pytest.raises(ValueError, match='Two classes are needed, got 3'):
        SparseProbe().fits(data[0], np.arange(160) % 3)


@pytest.fixture(scope='module')
def path(data): return sparsity_path(*data[:2], cv=4, groups=data[2])


def test_the_probe_of_a_path_is_the_fit_at_the_best_C(path, data):
    X, y, _ = data
    probe, row = path.probe(), int(path.table.held_out.to_numpy().argmax())
    assert probe.C == path.best_C
    assert (probe.coef_ == path.fits.coef[[row]].toarray()).all()
    assert probe.intercept_[0] == path.fits.intercept[row]
    assert (probe.gap_[0], probe.n_iter_[0]) == (path.fits.gap[row], path.fits.n_iter[row])
    assert probe.neurons_.tolist() == np.flatnonzero(probe.coef_[0]).tolist()
    assert probe.density_ == path.table.density[probe.C]
    assert probe.n_features_in_ == 50


def test_the_probe_of_a_path_predicts_and_can_be_evaluated(path, data):
    X, y, _ = data
    probe = path.probe(path.one_error_C)
    assert probe.score(X, y) > .7
    assert evaluate(probe, X, y).value['accuracy'] == probe.score(X, y)


def test_the_probe_of_a_path_answers_in_the_classes_of_the_path(data):
    X, y, _ = data
    names = np.array(['no', 'yes'])[y]
    probe = sparsity_path(X, names, [.1, 1.]).probe(1.)
    assert set(probe.predict(X)) == {'no', 'yes'}
    assert probe.score(X, names) > .7


def test_the_probe_of_a_path_can_be_fitted_again(path, data):
    again = clone(path.probe()).fit(*data[:2])
    assert np.allclose(again.coef_, path.probe().coef_, atol=.01)


def test_a_C_that_is_not_on_the_grid_is_named_with_the_nearest(path):
    message = 'C=123 is not on the grid, where the nearest is .* path.C'
    with pytest.raises(ValueError, match=message):
        path.probe(123)


def test_without_held_out_scores_a_C_has_to_be_named(data):
    unscored = sparsity_path(*data[:2], [.1, 1.])
    with pytest.raises(ValueError, match='call sparsity_path with cv=5, or name a C of the grid'):
        unscored.probe()
    assert unscored.probe(.1).C == .1
