"""Many paths on one X, and X where it lies: any rows, any labels, any threads, any device."""
import tracemalloc

import numpy as np
import pytest
import torch
from numba import set_num_threads

from sparse_probing import c_min, duality_gap, l1_path, l1_paths
from sparse_probing.matrix import FITS_AT_ONCE, Columns
from tests.helpers.second_device import SecondDevice, There

MANY = FITS_AT_ONCE + 6 # so that some wait for others to end
GRID = np.geomspace(1, 10, 4)
C = [.02, .05]


@pytest.fixture(scope='module')
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 1800)).astype('f4')
    return X, (X[:, :3].sum(1) + rng.normal(size=300) > 0).astype(int)


@pytest.fixture(scope='module')
def shuffles(data):
    rng = np.random.default_rng(1)
    return np.array([rng.permutation(data[1]) for _ in range(MANY)])


@pytest.fixture(scope='module')
def by_threads(data, shuffles):
    """The same paths with two threads and with one."""
    two = l1_paths(data[0], shuffles, GRID, relative=True)
    set_num_threads(1)
    try: return two, l1_paths(data[0], shuffles, GRID, relative=True)
    finally: set_num_threads(2)


def test_every_path_is_certified(by_threads):
    assert max(path.gap.max() for path in by_threads[0]) <= 1e-6


@pytest.mark.parametrize('value', ['C', 'objective', 'gap', 'intercept', 'coef'])
def test_the_threads_change_no_byte(value, by_threads):
    def content(path):
        got = getattr(path, value)
        return got.toarray().tobytes() if value == 'coef' else got.tobytes()
    two, one = ([content(path) for path in paths] for paths in by_threads)
    assert two == one


def test_x_is_read_where_too_many_sums_are_open(data, monkeypatch):
    """A path reads X less often than it has fits; who judges it anew, reads it for each."""
    X, y = data
    count, products = [], Columns.products
    monkeypatch.setattr(Columns, 'products', lambda self, R: count.append(1) or products(self, R))
    path = l1_path(X, y, c_min(X, y) * np.geomspace(1, 2, 30))
    assert len(count) < 20, 'a reading for c_min, and for some of the fits'
    gaps = [duality_gap(X, y, path.coef[[k]].toarray(), path.intercept[k], path.C[k])
            for k in range(30)]
    assert len(count) > 30 and max(gaps) <= 1e-6 and np.allclose(gaps, path.gap, atol=1e-6)


def test_a_path_counts_from_its_own_start(data, shuffles, by_threads):
    starts = [c_min(data[0], y) for y in shuffles]
    assert np.allclose([path.C for path in by_threads[0]], np.outer(starts, GRID))
    assert all(path.nonzero[0] == 0 and path.nonzero[1] > 0 for path in by_threads[0])


@pytest.mark.parametrize('several', [
    lambda X, y, rng: (dict(Y=[y, 1 - y, rng.permutation(y)]), [{}] * 3),
    lambda X, y, rng: (dict(rows=[np.arange(200), np.arange(300)[::-1]]), [{}] * 2),
    lambda X, y, rng: (dict(rows=[np.arange(300) % 3 > 0, None]), [{}] * 2),
    lambda X, y, rng: (dict(rows=[rng.integers(0, 300, 300)]), [{}]),
    lambda X, y, rng: (dict(sample_weight=rng.random((2, 300))), [{}] * 2),
    lambda X, y, rng: (dict(C=[[.02, .05], [.03, .06]]), [{}] * 2),
], ids=['labels', 'rows', 'bools', 'a bootstrap', 'weights', 'grids'])
def test_a_path_among_others_is_the_path_alone(several, data):
    X, y = data
    given, paths = several(X, y, np.random.default_rng(2))
    found = l1_paths(X, **dict(Y=y, C=C) | given)
    assert len(found) == len(paths)
    for k, path in enumerate(found):
        rows = given['rows'][k] if 'rows' in given else None
        rows = np.arange(len(y)) if rows is None else np.arange(len(y))[rows]
        weight = given['sample_weight'][k][rows] if 'sample_weight' in given else None
        labels = np.asarray(given['Y'][k] if 'Y' in given else y)[rows]
        alone = l1_path(X[rows], labels, path.C, sample_weight=weight)
        assert np.allclose(path.objective, alone.objective, rtol=2e-6)
        assert (path.nonzero == alone.nonzero).all() and path.gap.max() <= 1e-6


def test_a_path_ends_once_enough_neurons_are_in(data, shuffles):
    for path in l1_paths(data[0], shuffles[:5], np.geomspace(1, 100, 30), relative=True, neurons=9):
        assert path.nonzero[-1] >= 9 > path.nonzero[:-1].max() and len(path.C) < 30


@pytest.mark.parametrize('wrong, message', [
    (dict(rows=[[0, 300]]), 'rows go from 0 to 300, but X has 300'),
    (dict(rows=[[-1, 1]]), 'rows go from -1'),
    (dict(rows=[[]]), 'numbers of rows, or 300 bools'),
    (dict(rows=[np.ones(299, bool)]), 'numbers of rows, or 300 bools'),
    (dict(rows=[[.5, 1.]]), 'numbers of rows, or 300 bools'),
    (dict(rows=[]), 'one for each path is needed: rows has 0'),
    (dict(rows=[None], Y=np.zeros((2, 300))), 'Y has 2, rows has 1'),
    (dict(Y=np.zeros((2, 299))), r'X has 300 rows, Y has shape \(299,\)'),
    (dict(Y=np.zeros(300)), r'1 class\(es\)'),
    (dict(sample_weight=np.ones(299)), r'sample_weight has shape \(299,\)'),
    (dict(sample_weight=np.full((1, 300), -1.)), 'not negative'),
    (dict(C=[[.1, -1]]), 'C must be'),
    (dict(tol=0), 'both must be positive'),
    (dict(neurons=0), 'neurons'),
    (dict(X=np.ones((300, 4)), relative=True), 'no neuron varies with the class'),
], ids=lambda given: '' if isinstance(given, dict) else given)
def test_what_cannot_be_fitted_is_named(wrong, message, data):
    given = dict(X=data[0], Y=data[1], C=C) | wrong
    with pytest.raises(ValueError, match=message): l1_paths(**given)


def test_a_fit_that_is_stopped_early_says_so(data, shuffles):
    with pytest.warns(UserWarning, match='1 of 1 fits are not certified'):
        l1_paths(data[0], shuffles[:2], [.2], max_iter=1)


def test_X_is_not_copied_whole(shuffles):
    X = np.random.default_rng(0).normal(size=(2400, 6000)).astype('f4')
    y = X[:, 0] > 0
    tracemalloc.start()
    try:
        l1_paths(X, [y, ~y], [1., 3.], rows=[np.arange(1200)] * 2, relative=True)
        assert tracemalloc.get_traced_memory()[1] < X.nbytes / 2
    finally: tracemalloc.stop()


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16', 'float32', 'float64'])
def test_a_tensor_elsewhere_is_summed_there(dtype, data):
    X, (_, y) = torch.as_tensor(data[0]).to(getattr(torch, dtype)), data
    here = l1_path(X, y, C)
    with SecondDevice():
        There.copied = 0
        there = l1_path(There(X), y, C)
        assert 0 < There.copied < X.numel() / 4 # sums, and a few columns
    assert np.allclose(here.objective, there.objective, rtol=2e-6) and there.gap.max() <= 1e-6
    assert (here.nonzero == there.nonzero).all()


def test_a_device_without_double_precision_is_read_in_blocks(data, monkeypatch):
    def refuse(self): raise TypeError('this device has no float64')
    with SecondDevice():
        monkeypatch.setattr(There, 'double', refuse)
        columns = Columns(There(torch.as_tensor(data[0])))
    assert not columns.there
    assert np.allclose(columns.mean, data[0].mean(0), atol=1e-6)


@pytest.mark.parametrize('form', [
    lambda X: np.stack([X, -X], 1)[:, 0], lambda X: np.stack([X, -X], 1).transpose(1, 0, 2)[0],
    lambda X: X[::-1][::-1], lambda X: X[:, ::-1][:, ::-1], lambda X: X.astype('>f4'),
    lambda X: np.asfortranarray(X)[:, :], lambda X: np.broadcast_to(X[None], (2, *X.shape))[1],
    lambda X: X.astype('f2'), lambda X: np.asfortranarray(X.astype('f2')),
    lambda X: (1000 * X).astype('i4'), lambda X: X > 0, lambda X: X.astype('f8'),
    lambda X: X[:2], lambda X: X[:, :1]],
    ids=['a layer', 'a layer of the first axis', 'reversed twice', 'columns reversed twice',
         'other bytes', 'columns together', 'broadcast', 'half', 'half, columns together',
         'whole numbers', 'bools', 'double', 'two rows', 'one neuron'])
def test_no_sum_is_further_off_than_its_doubt(form, data):
    X = form(data[0])
    columns, r = Columns(X), np.random.default_rng(3).normal(size=len(X))
    r -= r.mean()
    wide = np.asarray(X).astype(np.longdouble)
    assert (abs(columns.products(r[None])[0] - r @ wide) <= columns.doubt(r)).all()
    for share in (1e-9, 1e-3, 1):
        change = share * np.roll(r, 1)
        assert (abs(change @ (wide - columns.mean)) <= columns.drift(change)).all()
    assert np.allclose(columns.exact(r, np.arange(columns.d)), (r @ wide).astype(float))
    assert (columns.norm >= np.sqrt((wide ** 2).sum(0))).all()
    assert (abs(wide - columns.mean).max(0) <= columns.reach * (1 + 1e-12)).all()
