"""Splits, folds, scores and baselines; what a fit is, and how any probe is asked for its fits."""
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.utils.estimator_checks import check_estimator

from sparse_probing.probe import (
    Fit, LinearProbe, MeanDifference, as_probe, balanced_accuracy, baselines, count_scores,
    decision, density, evaluate, folds, order_scores, row_weights, split, two_classes, validate_k)

SCORES = {
    'accuracy': lambda y, s: metrics.accuracy_score(y, s > 0),
    'balanced accuracy': lambda y, s: metrics.balanced_accuracy_score(y, s > 0),
    'precision': lambda y, s: metrics.precision_score(y, s > 0, zero_division=0),
    'recall': lambda y, s: metrics.recall_score(y, s > 0),
    'F1': lambda y, s: metrics.f1_score(y, s > 0, zero_division=0),
    'MCC': lambda y, s: metrics.matthews_corrcoef(y, s > 0),
    'ROC-AUC': metrics.roc_auc_score,
    'average precision': metrics.average_precision_score,
}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10 ** 6), st.integers(4, 60), st.sampled_from([1, 3, 1000]))
def test_weighted_scores_are_scikit_learn_s_on_repeated_rows(seed, n, values):
    rng = np.random.default_rng(seed)
    y = np.r_[True, False, rng.random(n - 2) < rng.random()]
    score = rng.integers(-values, values + 1, n) / 2.
    weights = np.ones((3, n), int)
    weights[:, 2:] = rng.integers(0, 4, (3, n - 2)) # the first two keep both classes present
    weights = weights.astype(float)
    ours = count_scores(y, score > 0, weights) | order_scores(y, score, weights)
    assert list(ours) == list(SCORES)
    for name, theirs in SCORES.items():
        for row in range(3):
            times = weights[row].astype(int)
            expected = theirs(np.repeat(y, times), np.repeat(score, times))
            assert ours[name][row] == pytest.approx(expected, abs=1e-9), name


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    # one neuron, normal classes a distance of 1 apart: half-way is right with probability 0.691
    rng, hits = np.random.default_rng(0), 0
    probe = MeanDifference().fit(np.array([[-.5], [.5]]), [0, 1])
    for seed in range(200):
        y = np.arange(120) % 2
        table = evaluate(probe, rng.normal(y - .5)[:, None], y, resamples=300, seed=seed)
        hits += table.low['accuracy'] <= .6915 <= table.high['accuracy']
    assert 180 <= hits <= 199


@pytest.fixture(scope='module')
def fitted():
    """A probe, and the rows that it was fitted to."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80, 3)), np.array(list('ab') * 40)
    return LogisticRegression().fit(X, y), X, y


def test_evaluate_is_repeatable(fitted):
    assert evaluate(*fitted).equals(evaluate(*fitted))
    assert not evaluate(*fitted).equals(evaluate(*fitted, seed=1))


def test_an_interval_holds_the_value(fitted):
    table = evaluate(*fitted)
    assert (table.low <= table.value).all()
    assert (table.value <= table.high).all()


def test_what_cannot_be_evaluated(fitted):
    probe, X, y = fitted
    thirds = np.arange(80) % 3
    of_three = LogisticRegression().fit(X, thirds)
    wrong = {
        'all of one class': (probe, X[y == 'a'], y[y == 'a']),
        'rows of those two are needed': (probe, X, np.array(list('ac') * 40)),
        'X has 80 rows, y has 79': (probe, X, y[1:]),
        'resamples is one whole number': (probe, X, y, [10, 20]),
        'a probe of two classes': (of_three, X, thirds),
    }
    for message, arguments in wrong.items():
        with pytest.raises(ValueError, match=message): evaluate(*arguments)


def test_many_rows_are_resampled_in_parts():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40_000, 1)), np.arange(40_000) % 2
    probe = MeanDifference().fit(np.array([[-1.], [1.]]), [0, 1])
    table = evaluate(probe, X + .5 * y[:, None], y, resamples=300)
    assert (table.high - table.low < .03).all()
    assert table.value['ROC-AUC'] == pytest.approx(.638, abs=.01)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10 ** 6), st.integers(6, 40))
def test_a_grouped_split_shares_no_document_and_keeps_the_classes(seed, documents):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, documents, 200)
    y = np.arange(200) % 2
    train, test = split(y, groups, seed=seed)
    assert sorted([*train, *test]) == list(range(200))
    assert not set(groups[train]) & set(groups[test])
    assert all(len(np.unique(y[side])) == 2 for side in (train, test))
    again = split(y, groups, seed=seed)
    assert (again[0] == train).all() and (again[1] == test).all()


def test_a_grouped_split_of_many_documents_is_close_to_the_share_asked_for(examples):
    for seed in range(5):
        train, test = split(examples.y, examples.group, test=.3, seed=seed)
        shares = np.bincount(examples.y[test]) / np.bincount(examples.y)
        assert abs(shares - .3).max() < .05


def test_a_split_without_groups_is_stratified_to_the_row():
    train, test = split(np.repeat([0, 1], 100))
    assert (len(train), len(test)) == (140, 60) and sum(test < 100) == 30


ALTERNATING = np.arange(10) % 2


@pytest.mark.parametrize('y, groups, message', [
    (np.zeros(10), None, 'two or more classes'),
    (ALTERNATING, np.zeros(10), 'all rows are of one document'),
    (np.repeat([0, 1], 5), np.repeat([0, 1], 5), '2 documents cannot be split'),
    (ALTERNATING, np.arange(9), '10 rows, 9 groups'),
    (ALTERNATING, np.zeros((10, 1)), r'10 rows, groups of shape \(10, 1\)'),
    (ALTERNATING, 'a', 'groups of shape'),
    (ALTERNATING, [*range(9), None], '1 of 10 rows have no group'),
    (ALTERNATING[:, None], None, 'the class of each row'),
])
def test_what_cannot_be_split(y, groups, message):
    with pytest.raises(ValueError, match=message): split(y, groups)


def test_folds_hold_out_every_row_once():
    held_out = [rows for _, rows in folds(np.arange(60) % 2, 4, np.arange(60) // 3)]
    assert sorted(np.concatenate(held_out)) == list(range(60))


def test_a_document_is_on_one_side_of_a_fold():
    groups = np.random.default_rng(0).integers(0, 12, 120)
    for seen, held_out in folds(np.arange(120) % 2, 3, groups):
        assert not set(groups[seen]) & set(groups[held_out])


def test_folds_of_the_same_seed_are_the_same():
    y = np.arange(40) % 2
    def rows(seed): return np.concatenate([held_out for _, held_out in folds(y, 4, None, seed)])
    assert (rows(1) == rows(1)).all()
    assert (rows(1) != rows(2)).any()


def test_a_splitter_of_scikit_learn_gives_its_own_folds():
    y, groups = np.arange(40) % 2, np.arange(40) // 4
    theirs = list(GroupKFold(5).split(y, y, groups))
    for ours, other in zip(folds(y, GroupKFold(5), groups), theirs):
        assert (ours[1] == other[1]).all()


def test_no_folds_where_none_are_asked_for(): assert folds(np.arange(4) % 2, None) == []


def test_a_fold_of_one_class_is_refused():
    with pytest.raises(ValueError, match='of 2 folds, one has rows of one class only'):
        folds(np.repeat([0, 1], 5), 2, np.repeat([0, 1], 5))


@pytest.fixture(scope='module')
def fit(): return Fit(1., np.array([4, 1]), np.array([2., -1.]), .5, 0., 1)


def test_a_fit_scores_rows_by_its_neurons_and_intercept(fit):
    X = np.random.default_rng(0).normal(size=(9, 6))
    assert np.allclose(fit.scores(X), 2 * X[:, 4] - X[:, 1] + .5)


def test_a_fit_scores_any_form_of_X(fit, tmp_path):
    X = np.random.default_rng(0).normal(size=(9, 6)).astype('f2')
    np.save(tmp_path / 'X.npy', X)
    memory_map = np.load(tmp_path / 'X.npy', mmap_mode='r')
    for form in (X.astype('f4'), np.asfortranarray(X), memory_map, torch.as_tensor(X)):
        assert (fit.scores(form) == fit.scores(X)).all()


def test_a_fit_without_neurons_scores_its_intercept():
    empty = Fit(1., np.zeros(0, int), np.zeros(0), .5, 0., 0)
    assert (empty.scores(np.ones((3, 2))) == .5).all()


def test_a_probe_of_a_fit_scores_as_the_fit_does(fit):
    X = np.random.default_rng(0).normal(size=(9, 6))
    probe = ByHand(fit).fit(X, np.arange(9) % 2)
    assert np.allclose(probe.decision_function(X), fit.scores(X))
    assert probe.neurons_.tolist() == [4, 1]
    assert probe.density_ == 2 / 6


class ByHand(LinearProbe):
    """A probe whose fit is known beforehand."""
    def __init__(self, known): self.known = known

    def fit(self, X, y): return self.set_fits(np.unique(y), [self.known], X.shape[1])


def test_probabilities_follow_the_scores(fit):
    X = np.random.default_rng(0).normal(size=(9, 6))
    probe = ByHand(fit).fit(X, np.arange(9) % 2)
    assert np.allclose(probe.predict_proba(X)[:, 1], 1 / (1 + np.exp(-fit.scores(X))))
    assert np.allclose(probe.predict_proba(X).sum(1), 1)


def test_another_classifier_has_one_fit_that_scores_as_it_does(fitted):
    probe, X, y = fitted
    other = as_probe(LogisticRegression())
    own, = other.fits(X, y, other.settings(X, y))
    assert (own.scores(X) == probe.decision_function(X)).all()
    assert np.allclose(own.coef, probe.coef_[0, own.neurons])
    assert np.isnan([own.setting, own.gap]).all()


def test_a_classifier_without_scores_gives_its_probability_less_one_half(fitted):
    _, X, y = fitted
    own, = as_probe(GaussianNB()).fits(X, y)
    bayes = GaussianNB().fit(X, y)
    assert (own.scores(X) == bayes.predict_proba(X)[:, 1] - .5).all()
    assert (decision(bayes, X) == own.scores(X)).all()


def test_a_classifier_without_coefficients_is_taken_to_read_every_neuron(fitted):
    own, = as_probe(GaussianNB()).fits(*fitted[1:])
    assert own.neurons.tolist() == [0, 1, 2]


def test_the_classifier_that_was_given_stays_as_it_was(fitted):
    classifier = LogisticRegression()
    next(as_probe(classifier).fits(*fitted[1:]))
    assert not hasattr(classifier, 'coef_')


def test_weights_of_rows_reach_another_classifier(fitted):
    _, X, y = fitted
    weight = np.where(y == 'a', 1., 5.)
    own, = as_probe(LogisticRegression()).fits(X, y, sample_weight=weight)
    theirs = LogisticRegression().fit(X, y, sample_weight=weight)
    assert (own.scores(X) == theirs.decision_function(X)).all()


def test_nothing_to_vary_is_an_error_where_values_are_given(fitted):
    for ask in (as_probe(GaussianNB()).settings, as_probe(GaussianNB()).fits):
        with pytest.raises(ValueError, match='GaussianNB has nothing to vary'):
            list(ask(*fitted[1:], [1, 2]))


def test_the_weight_of_a_row_is_its_own_times_that_of_its_class():
    y = np.array([0, 0, 0, 1])
    assert row_weights(None, y) is None
    assert row_weights('balanced', y).tolist() == [2 / 3, 2 / 3, 2 / 3, 2]
    assert row_weights({0: 1, 1: 4}, y, [1, 2, 3, 4]).tolist() == [1, 2, 3, 16]


def test_two_classes_are_sorted_and_the_second_is_positive():
    classes, second = two_classes(['the', 'an', 'the'])
    assert classes.tolist() == ['an', 'the']
    assert second.tolist() == [True, False, True]


@pytest.mark.parametrize('y', [[1, 1], [1, 2, 3]])
def test_one_class_or_three_are_refused(y):
    with pytest.raises(ValueError, match='Two classes are needed'): two_classes(y)


@pytest.mark.parametrize('ks', [[], [0], [9], [1.5], [2, 1], [1, 1]])
def test_k_that_cannot_be(ks):
    with pytest.raises(ValueError, match='k must be between 1 and 8'): validate_k(ks, 8)


def test_balanced_accuracy_is_scikit_learn_s():
    rng = np.random.default_rng(0)
    y, scores = rng.random(50) < .2, rng.normal(size=50)
    theirs = metrics.balanced_accuracy_score(y, scores > 0)
    assert balanced_accuracy(y, scores) == pytest.approx(theirs)


@pytest.mark.filterwarnings('ignore:Skipping check check_array_api_input')
def test_mean_difference_is_a_scikit_learn_estimator(): check_estimator(MeanDifference())


@pytest.fixture(scope='module')
def plain_guesses():
    """The baselines on five rows, where one neuron varies and one does not."""
    X, y = np.array([[0., 5.], [1., 5.], [4., 5.], [5., 5.], [5., 5.]]), np.array([0, 0, 1, 1, 1])
    return {name: guess.fit(X, y) for name, guess in baselines().items()}, X, y


def test_the_majority_is_right_as_often_as_its_class(plain_guesses):
    guesses, X, y = plain_guesses
    assert guesses['majority'].score(X, y) == .6


def test_the_coefficients_of_the_mean_difference_are_the_difference_of_the_means(plain_guesses):
    guesses, X, y = plain_guesses
    assert list(guesses['mean difference'].coef_[0]) == [pytest.approx(14 / 3 - .5), 0]
    assert guesses['mean difference'].score(X, y) == 1


def test_the_mean_difference_is_of_two_classes(plain_guesses):
    _, X, y = plain_guesses
    with pytest.raises(ValueError, match='Two classes are needed, got 1 class'):
        MeanDifference().fit(X, y * 0)


def test_density_counts_what_is_not_exactly_zero():
    assert density(np.array([[0., 1e-300, 0., 2.]])) == .5
    assert density([0.]) == 0


def test_no_coefficients_have_no_density():
    with pytest.raises(ValueError, match='no coefficients'): density([])
