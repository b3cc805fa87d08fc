"""The certified solver: random hard problems, any form of X, any number of threads."""
import numpy as np
import pytest
import torch
from tools.fuzz import judge
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import set_num_threads

from sparse_probing import c_min, duality_gap, l1_path


def test_random_hard_problems():
    found = []

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(st.integers(0, 2**32 - 1))
    def judged(seed): found.append(judge(seed))
    judged()
    assert np.mean([what.startswith('certified') for what in found]) > .95 and sum('fifty' in what for what in found) > 20


@pytest.fixture(scope='module')
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(700, 2000)).astype('f4')
    return X, (X[:, :3].sum(1) + rng.normal(size=700) > 0).astype(int)


def test_the_same_bytes_whatever_the_threads(data):
    def fit(): return l1_path(*data, [.02, .1])
    one = fit()
    set_num_threads(1)
    try: other = fit()
    finally: set_num_threads(2)
    for name in ('objective', 'gap', 'intercept'): assert getattr(one, name).tobytes() == getattr(other, name).tobytes()
    assert one.coef.data.tobytes() == other.coef.data.tobytes()


def test_any_form_of_X_gives_the_same_neurons(data, tmp_path):
    X, y = data
    np.save(tmp_path / 'X.npy', X)
    plain = l1_path(X.astype(float), y, .05)
    for form in (X, np.asfortranarray(X), np.load(tmp_path / 'X.npy', mmap_mode='r'), torch.as_tensor(X), np.repeat(X, 2, 1)[:, ::2]):
        fit = l1_path(form, y, .05)
        assert fit.gap[0] <= 1e-6 and (fit.coef.indices == plain.coef.indices).all() and np.allclose(fit.coef.data, plain.coef.data, atol=1e-3)
    assert l1_path(X.astype('f2'), y, .05).gap[0] <= 1e-6


def test_planted_wrong_solutions_are_told(data):
    X, y = data
    fit = l1_path(X, y, .05)
    coef, b = fit.coef.toarray()[0], fit.intercept[0]
    assert 0 <= duality_gap(X, y, coef, b, .05) <= 1e-6
    for wrong, at in ((coef * 1.1, b), (-coef, b), (coef, b + .5), (np.where(np.arange(2000) == 9, 1, coef), b)):
        value = abs(wrong).sum() + .05 * np.logaddexp(0, -(2 * y - 1) * (X @ wrong + at)).sum()
        gap = duality_gap(X, y, wrong, at, .05)
        assert gap > 1e-4 and gap * value >= value - fit.objective[0] - 1e-9


def test_a_grid_may_be_unsorted_and_repeat_itself(data):
    X, y = data
    C = c_min(X, y) * np.array([4, 2, 4, .5])
    fit = l1_path(X, y, C)
    assert (fit.C == C).all() and fit.nonzero[3] == 0 and (fit.coef[[0]] != fit.coef[[2]]).nnz == 0 and fit.nonzero[0] >= fit.nonzero[1] > 0


@pytest.mark.parametrize('C', [0, -1, np.nan, np.inf, [], [[1.]], [1, 0]])
def test_C_must_be_positive(C, data):
    with pytest.raises(ValueError, match='C must be'): l1_path(*data, C)


@pytest.mark.parametrize('change, message', [
    (lambda X, y: (np.where(X > 3, np.nan, X), y), 'NaN or infinity'), (lambda X, y: (np.where(X > 3, np.inf, X), y), 'NaN or infinity'),
    (lambda X, y: (X, y * 0), r'1 class\(es\)'), (lambda X, y: (X, np.arange(len(y))), r'700 class\(es\)'),
    (lambda X, y: (X, y[1:]), '700 rows'), (lambda X, y: (X[:0], y[:0]), 'rows and neurons are needed'), (lambda X, y: (X[:, :0], y), 'rows and neurons are needed'),
])
def test_bad_input(change, message, data):
    with pytest.raises(ValueError, match=message): l1_path(*change(*data), .05)
