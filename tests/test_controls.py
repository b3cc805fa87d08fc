"""Controls: shuffles that mean nothing, p that are as rare as they say, and leaks that show."""
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from numba import set_num_threads
from scipy.stats import false_discovery_control, kstest, norm
from sklearn.metrics import roc_auc_score

from sparse_probing import (
    SparseProbe, conditional_gain, control_labels, neuron_table, null_aucs, null_probe,
    selectivity, shuffle_labels, token_floor)

EXCHANGES = 'documents', 'within', 'free'


def drawn(n=400, d=30, documents=40, seed=0):
    """Neurons with document effects, labels of a coin, documents of uneven size."""
    rng = np.random.default_rng(seed)
    groups = np.sort(rng.integers(0, documents, n))
    X = rng.normal(size=(documents, d))[groups] + rng.normal(size=(n, d))
    return X.astype('f4'), rng.integers(0, 2, n), groups


def texts(n=400, types=60, seed=0):
    """What the controls read of Examples: one token before a marked one, in forty documents."""
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.integers(0, types, n), np.full(n, 999)], 1)
    return SimpleNamespace(ids=ids, length=np.full(n, 2), place=np.full(n, 1),
                           y=rng.integers(0, 2, n), group=np.sort(rng.integers(0, 40, n)))


@pytest.fixture(scope='module')
def calibration():
    """What 200 shuffles within documents give when each is taken for the task."""
    X, y, groups = drawn()
    shuffles = shuffle_labels(y, groups, 200, 'within', seed=9)
    tables = [neuron_table(X, labels, groups, n=199, exchange='within', seed=k)
              for k, labels in enumerate(shuffles)]
    tables = [table.sort_values('neuron') for table in tables]
    return np.array([t.p for t in tables]), np.array([t['p family'].min() for t in tables])


def test_p_is_uniform_where_nothing_is_to_be_found(calibration):
    p = calibration[0]
    assert min(kstest(p[:, j], 'uniform').pvalue for j in range(3)) > .01
    assert abs((p <= .05).mean() - .05) < .01


def test_one_false_neuron_is_as_rare_as_the_level(calibration):
    assert .02 < (calibration[1] <= .05).mean() < .08


def test_q_are_those_of_the_definition():
    """The least level at which the step-up rule takes a neuron; for BY it is divided first."""
    table = neuron_table(*drawn(), n=99)
    p, d = table.p.to_numpy(), len(table)
    for rule, divided in (('q BH', 1), ('q BY', sum(1 / k for k in range(1, d + 1)))):
        for q, own in zip(table[rule], p):
            larger = [d * divided * other / np.sum(p <= other) for other in p if other >= own]
            assert q == pytest.approx(min(1, *larger))
    by_scipy = false_discovery_control(p, method='by')
    np.testing.assert_allclose(table['q BY'], by_scipy)


@pytest.mark.parametrize('one_class', [True, False])
def test_an_interval_covers_what_it_says(one_class):
    """A thousand sets; rows taken for independent cover less where documents are of one class."""
    rng, of_row, counts = np.random.default_rng(0), np.repeat(np.arange(60), 10), []
    for _ in range(20):
        y = of_row % 2 == 0 if one_class else rng.random(600) < .5
        X = .8 * y[:, None] + rng.normal(size=(60, 50))[of_row] + rng.normal(size=(600, 50))
        for groups in (of_row, None):
            table = neuron_table(X, y, groups, n=1)
            true = norm.cdf(.8 / 2)
            counts.append(((table.low <= true) & (table.high >= true)).sum())
    by_document, by_row = sum(counts[::2]) / 1000, sum(counts[1::2]) / 1000
    assert .93 <= by_document <= .97
    assert by_row < .7 or not one_class


@pytest.mark.parametrize('form', [
    lambda X: X.astype('f2'), lambda X: X.astype('f8'), np.asfortranarray, torch.as_tensor,
    lambda X: np.stack([X, -X], 1)[:, 0]], ids=['half', 'double', 'columns', 'tensor', 'strided'])
def test_a_form_of_x_changes_nothing(form):
    X, y, groups = drawn()
    X = np.round(8 * X).astype('f4') / 8 # half precision holds these, and there are ties
    pd.testing.assert_frame_equal(neuron_table(form(X), y, groups, n=50),
                                  neuron_table(X, y, groups, n=50))


def test_a_memory_map_is_read(tmp_path):
    X, y, groups = drawn()
    np.save(tmp_path / 'X.npy', X)
    table = neuron_table(np.load(tmp_path / 'X.npy', mmap_mode='r'), y, groups, n=50)
    pd.testing.assert_frame_equal(table, neuron_table(X, y, groups, n=50))


def test_the_threads_change_no_byte():
    X, y, groups = drawn(d=300)
    two = neuron_table(X, y, groups, n=50)
    set_num_threads(1)
    try: one = neuron_table(X, y, groups, n=50)
    finally: set_num_threads(2)
    assert two.to_csv() == one.to_csv()


@pytest.mark.parametrize('exchange', EXCHANGES)
@pytest.mark.parametrize('many', [False, True], ids=['few rows', 'sums beyond single precision'])
def test_aucs_under_shuffled_labels_are_those_of_scikit_learn(exchange, many):
    X, y, groups = drawn(n=9000 if many else 300, d=3)
    nulls, labels = null_aucs(X, y, groups, 3, exchange), shuffle_labels(y, groups, 3, exchange)
    expected = [[roc_auc_score(shuffled, X[:, j]) for j in range(3)] for shuffled in labels]
    np.testing.assert_allclose(nulls, expected)


def test_whole_documents_exchange_what_they_have():
    groups = np.repeat(np.arange(6), [1, 2, 3, 4, 5, 6])
    y = groups % 2
    for labels in shuffle_labels(y, groups, 20):
        assert all(len(np.unique(labels[groups == g])) == 1 for g in range(6))
        assert sum(labels[groups == g][0] for g in range(6)) == 3


@pytest.mark.parametrize('given, message', [
    (dict(y=np.arange(8) > 3, groups=np.repeat([0, 1], 4), exchange='within'), 'whole documents'),
    (dict(y=np.zeros(8), groups=np.arange(8)), 'cannot change places'),
    (dict(y=np.arange(8) > 3), 'needs groups'),
    (dict(y=np.arange(8) > 3, groups=np.arange(7)), '8 rows, 7 groups'),
    (dict(y=np.arange(8) > 3, groups=np.arange(8), n=0), 'n must be positive'),
    (dict(y=np.arange(8) > 3, groups=np.arange(8), exchange='rows'), 'documents, within, free')])
def test_what_cannot_be_shuffled_is_refused(given, message):
    with pytest.raises(ValueError, match=message): shuffle_labels(**given)


def test_few_ways_are_told():
    with pytest.warns(UserWarning, match='in 2 ways only: no p is below 0.5'):
        shuffle_labels([0, 0, 1, 1], [0, 0, 1, 1], 100)


@pytest.mark.parametrize('change, message', [
    (dict(y=np.zeros(400)), 'Two classes'), (dict(y=np.arange(400) % 3), 'Two classes'),
    (dict(groups=np.arange(5)), '400 rows, 5 groups'),
    (dict(X=np.full((400, 2), np.nan)), 'column 0'),
    (dict(X=np.ones((300, 2))), 'X has 300 rows, y has 400')])
def test_bad_input_is_named(change, message):
    X, y, groups = drawn()
    with pytest.raises(ValueError, match=message):
        neuron_table(**dict(X=X, y=y, groups=groups, n=5) | change)


def test_five_rows_and_ties_everywhere_have_a_result():
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        table = neuron_table(np.ones((5, 3)), [0, 1, 0, 1, 1], n=10)
    assert (table.AUC == .5).all() and (table.p == 1).all() and (table['q BH'] == 1).all()


def test_one_document_has_p_and_no_interval():
    X, y, _ = drawn()
    with pytest.warns(UserWarning, match='no interval'):
        table = neuron_table(X, y, np.zeros(len(y)), n=20)
    assert table.p.between(0, 1).all() and table[['low', 'high', 'p beyond']].isna().all(axis=None)


def test_a_planted_neuron_comes_first():
    X, y, groups = drawn()
    X[:, 7] += 3 * y
    table = neuron_table(X, y, groups, n=200)
    assert table.neuron[0] == 7 and table['p family'][0] == 1 / 201 and table['p beyond'][0] < 1e-6


def test_a_code_of_tokens_is_learnt_by_heart_and_nowhere_else():
    """The planted leak of types: X is the token, one neuron for each."""
    examples = texts()
    X = 5. * (examples.ids[:, :1] == np.arange(60))
    judged = selectivity(SparseProbe(C=10), X, examples, draws=3)
    assert judged.mean('control', 'seen') > .95 and judged.value < -.3
    rare = texts(types=3000)
    X = 5. * (rare.ids[:, :1] == np.arange(3000))
    assert abs(selectivity(SparseProbe(C=10), X, rare).mean('control', 'not seen') - .5) < .1


def test_documents_are_not_learnt_by_heart():
    """The planted leak of documents: X is the document, and so is the label."""
    examples = texts()
    examples.y = np.random.default_rng(1).integers(0, 2, 40)[examples.group]
    X = 5. * (examples.group[:, None] == np.arange(40))
    assert selectivity(SparseProbe(C=10), X, examples, draws=1).mean('task') < .7


@pytest.mark.parametrize('control', [control_labels, token_floor])
def test_a_token_that_is_not_there_is_named(control):
    with pytest.raises(ValueError, match='have no token at offset -2'): control(texts(), -2)


def test_a_code_of_few_tokens_is_refused():
    with pytest.raises(ValueError, match='at offset 0 there are 1 different tokens'):
        selectivity(SparseProbe(), np.ones((400, 2)), texts(), offset=0)


def test_the_token_floor_knows_what_the_token_says_and_the_gain_what_it_does_not():
    examples = texts()
    examples.y = (examples.ids[:, 0] % 2).astype(int)
    assert roc_auc_score(examples.y, token_floor(examples)) > .99
    noise = np.random.default_rng(0).normal(size=(400, 5))
    assert abs(conditional_gain(SparseProbe(C=1), noise, examples).gain).max() < .02
    hidden = texts()
    informed = np.column_stack([noise, hidden.y + .5 * noise[:, 0]])
    assert conditional_gain(SparseProbe(C=1), informed, hidden).gain.min() > .2


def test_a_procedure_that_peeks_is_seen_under_the_null():
    """The best of 300 neurons on the rows that chose it: as good under shuffled labels."""
    X, y, groups = drawn(d=300)
    def peek(X, y, groups): return {'score': max(roc_auc_score(y, x) for x in X.T), 'ones': y.sum()}
    ran = null_probe(X, y, groups, peek, n=9)
    assert list(ran.labels) == ['task'] + ['shuffled'] * 9 and (ran.ones == y.sum()).all()
    assert ran.score[0] > .57 and (ran.score[1:] >= ran.score[0] - .02).any()
