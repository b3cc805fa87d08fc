"""Splits, scores and baselines."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import check_estimator
from sparse_probing import MeanDifference, baselines, density, evaluate, split
from sparse_probing.probe import count_scores, order_scores

SCORES = {
    'accuracy': lambda y, s: metrics.accuracy_score(y, s > 0), 'balanced accuracy': lambda y, s: metrics.balanced_accuracy_score(y, s > 0),
    'precision': lambda y, s: metrics.precision_score(y, s > 0, zero_division=0), 'recall': lambda y, s: metrics.recall_score(y, s > 0),
    'F1': lambda y, s: metrics.f1_score(y, s > 0, zero_division=0), 'MCC': lambda y, s: metrics.matthews_corrcoef(y, s > 0),
    'ROC-AUC': metrics.roc_auc_score, 'average precision': metrics.average_precision_score,
}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10 ** 6), st.integers(4, 60), st.sampled_from([1, 3, 1000]))
def test_weighted_scores_are_scikit_learn_s_on_repeated_rows(seed, n, values):
    rng = np.random.default_rng(seed)
    y = np.r_[True, False, rng.random(n - 2) < rng.random()]
    score = rng.integers(-values, values + 1, n) / 2.
    weights = np.ones((3, n), int)
    weights[:, 2:] = rng.integers(0, 4, (3, n - 2)) # the first two keep both classes present
    ours = count_scores(y, score > 0, weights.astype(float)) | order_scores(y, score, weights.astype(float))
    assert list(ours) == list(SCORES)
    for name, theirs in SCORES.items():
        for row in range(3):
            expected = theirs(np.repeat(y, weights[row]), np.repeat(score, weights[row]))
            assert ours[name][row] == pytest.approx(expected, abs=1e-9), name


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    # one neuron, two normal classes a distance of 1 apart: a threshold half-way is right with probability 0.691
    rng, hits = np.random.default_rng(0), 0
    probe = MeanDifference().fit(np.array([[-.5], [.5]]), [0, 1])
    for seed in range(200):
        y = np.arange(120) % 2
        table = evaluate(probe, rng.normal(y - .5)[:, None], y, resamples=300, seed=seed)
        hits += table.low['accuracy'] <= .6915 <= table.high['accuracy']
    assert 180 <= hits <= 199


def test_evaluate_is_repeatable_and_refuses_one_class():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80, 3)), np.array(list('ab') * 40)
    probe = LogisticRegression().fit(X, y)
    first = evaluate(probe, X, y)
    assert first.equals(evaluate(probe, X, y)) and not first.equals(evaluate(probe, X, y, seed=1))
    assert (first.low <= first.value).all() and (first.value <= first.high).all()
    with pytest.raises(ValueError, match='all of one class'): evaluate(probe, X[y == 'a'], y[y == 'a'])
    with pytest.raises(ValueError, match='rows of those two are needed'): evaluate(probe, X, np.array(list('ac') * 40))
    with pytest.raises(ValueError, match='X has 80 rows, y has 79'): evaluate(probe, X, y[1:])
    with pytest.raises(ValueError, match='resamples is one whole number'): evaluate(probe, X, y, resamples=[10, 20])
    with pytest.raises(ValueError, match='a probe of two classes'): evaluate(LogisticRegression().fit(X, np.arange(80) % 3), X, np.arange(80) % 3)


def test_many_rows_are_resampled_in_parts():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40_000, 1)), np.arange(40_000) % 2
    table = evaluate(MeanDifference().fit(np.array([[-1.], [1.]]), [0, 1]), X + .5 * y[:, None], y, resamples=300)
    assert (table.high - table.low < .03).all() and table.value['ROC-AUC'] == pytest.approx(.638, abs=.01)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10 ** 6), st.integers(6, 40))
def test_a_grouped_split_shares_no_document_and_keeps_the_classes(seed, documents):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, documents, 200)
    y = np.arange(200) % 2
    train, test = split(y, groups, seed=seed)
    assert sorted([*train, *test]) == list(range(200)) and not set(groups[train]) & set(groups[test])
    assert all(len(np.unique(y[side])) == 2 for side in (train, test))
    assert all((a == b).all() for a, b in zip(split(y, groups, seed=seed), (train, test)))


def test_a_grouped_split_of_many_documents_is_close_to_the_share_asked_for(examples):
    for seed in range(5):
        train, test = split(examples.y, examples.group, test=.3, seed=seed)
        for k in (0, 1): assert abs(np.mean(examples.y[test] == k) * len(test) / 100 - .3) < .05


def test_a_split_without_groups_is_stratified_to_the_row():
    train, test = split(np.repeat([0, 1], 100))
    assert (len(train), len(test)) == (140, 60) and sum(test < 100) == 30


@pytest.mark.parametrize('y, groups, message', [
    (np.zeros(10), None, 'two or more classes'), (np.arange(10) % 2, np.zeros(10), 'all rows are of one document'),
    (np.repeat([0, 1], 5), np.repeat([0, 1], 5), '2 documents cannot be split'), (np.arange(10) % 2, np.arange(9), '10 rows, 9 groups'), (np.arange(10) % 2, np.zeros((10, 1)), r'10 rows, groups of shape \(10, 1\)'),
    (np.arange(10) % 2, 'a', 'groups of shape'), (np.arange(10) % 2, [*range(9), None], '1 of 10 rows have no group'),
])
def test_what_cannot_be_split(y, groups, message):
    with pytest.raises(ValueError, match=message): split(y, groups)


@pytest.mark.filterwarnings('ignore:Skipping check check_array_api_input')
def test_mean_difference_is_a_scikit_learn_estimator(): check_estimator(MeanDifference())


def test_baselines_on_a_plain_case():
    X, y = np.array([[0., 5.], [1., 5.], [4., 5.], [5., 5.], [5., 5.]]), np.array([0, 0, 1, 1, 1])
    fitted = {name: guess.fit(X, y) for name, guess in baselines().items()}
    assert fitted['majority'].score(X, y) == .6 and fitted['mean difference'].score(X, y) == 1
    assert list(fitted['mean difference'].coef_[0]) == [pytest.approx(14 / 3 - .5), 0]
    with pytest.raises(ValueError, match='Two classes are needed, got 1 class'): MeanDifference().fit(X, y * 0)


def test_density():
    assert density(np.array([[0., 1e-300, 0., 2.]])) == .5 and density([0.]) == 0
    with pytest.raises(ValueError, match='no coefficients'): density([])
