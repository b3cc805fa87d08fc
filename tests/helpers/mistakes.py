"""Plausible mistakes: answers to the *implement* exercises that each check has to reject."""
import numpy as np


def without_scale(X, y):
    # the difference is not divided by the standard deviation
    low, high = X[y == 0].mean(0), X[y == 1].mean(0)
    best = np.argmax(abs(high - low))
    return best, (low[best] + high[best]) / 2


def without_size(X, y):
    # only a neuron that is higher for class 1 can win
    low, high = X[y == 0].mean(0), X[y == 1].mean(0)
    best = np.argmax((high - low) / X.std(0))
    return best, (low[best] + high[best]) / 2


def mean_of_all_rows(X, y):
    # the threshold leans to the larger class
    low, high = X[y == 0].mean(0), X[y == 1].mean(0)
    best = np.argmax(abs(high - low) / X.std(0))
    return best, X[:, best].mean()


def reads_everything(documents):
    # a list, although a corpus may have no end
    firsts = {}
    for document in documents: firsts.setdefault(document.text, document)
    return list(firsts.values())


def goes_by_id(documents):
    # two documents may share an id, and one text may come under two
    seen = set()
    for document in documents:
        if document.id not in seen:
            seen.add(document.id)
            yield document


def keeps_the_last(documents):
    # the last of each text and not the first
    yield from {document.text: document for document in documents}.values()


def crosses_documents(tokens, ids):
    # the joint between two documents is forgotten
    places = np.arange(len(tokens.ids) - len(ids) + 1)
    return places[[list(tokens.ids[p:p + len(ids)]) == list(ids) for p in places]]


def first_token_only(tokens, ids):
    # the rest of the phrase is not looked at
    return np.flatnonzero(tokens.ids == ids[0])


def ends_where_it_began(tokens, last, ids):
    return tokens.document_of(last) == tokens.document_of(last - len(ids) + 1)


def place_of_the_last(tokens, ids):
    # where the phrase ends
    last = [p + len(ids) - 1 for p in crosses_documents(tokens, ids)]
    return np.array([p for p in last if ends_where_it_began(tokens, p, ids)])


def skips_overlaps(tokens, ids):
    # goes on behind each hit, as str.find would
    places = []
    for last in place_of_the_last(tokens, ids):
        first = last - len(ids) + 1
        if not places or first >= places[-1] + len(ids): places.append(first)
    return np.array(places, int)


def balances_overall(y, group, seed=0):
    # even over all documents together, not within each
    rng, size = np.random.default_rng(seed), np.bincount(y).min()
    drawn = [rng.choice(np.flatnonzero(y == k), size, replace=False) for k in (0, 1)]
    return np.sort(np.concatenate(drawn))


def takes_the_first(y, group, seed=0):
    # the seed is ignored
    rows = [np.zeros(0, int)]
    for g in np.unique(group):
        sides = [np.flatnonzero((group == g) & (y == k)) for k in (0, 1)]
        rows += [side[:min(map(len, sides))] for side in sides]
    return np.sort(np.concatenate(rows))


def with_replacement(y, group, seed=0):
    # a row can be kept twice
    rng, rows = np.random.default_rng(seed), [np.zeros(0, int)]
    for g in np.unique(group):
        sides = [np.flatnonzero((group == g) & (y == k)) for k in (0, 1)]
        rows += [rng.choice(side, min(map(len, sides))) for side in sides if min(map(len, sides))]
    return np.sort(np.concatenate(rows))


def by_activation(x, weight, k):
    # the columns are left out
    return np.argsort(-abs(x))[:k]


def without_sign(x, weight, k):
    # a negative activation counts as less than none
    return np.argsort(-x * np.linalg.norm(weight, axis=0))[:k]


def smallest_first(x, weight, k):
    # the k largest, in rising order
    return np.argsort(abs(x) * np.linalg.norm(weight, axis=0))[-k:]


def sums_columns(x, weight, k):
    # the sum of a column is not its length
    return np.argsort(-abs(x) * weight.sum(0), kind='stable')[:k]


def draws_rows(right, group, resamples=1000, seed=0):
    # the documents are ignored
    drawn = np.random.default_rng(seed).choice(right, (resamples, len(right))).mean(1)
    return tuple(np.quantile(drawn, [.025, .975]))


def averages_documents(right, group, resamples=1000, seed=0):
    # every document weighs the same, however many rows it has
    means = np.array([right[group == g].mean() for g in np.unique(group)])
    drawn = np.random.default_rng(seed).choice(means, (resamples, len(means)))
    return tuple(np.quantile(drawn.mean(1), [.025, .975]))


def ninety_percent(right, group, resamples=1000, seed=0):
    # the 5% and the 95% quantile
    documents = np.unique(group, return_inverse=True)[1]
    rows, hits = np.bincount(documents), np.bincount(documents, weights=right)
    shares = np.full(len(rows), 1 / len(rows))
    counts = np.random.default_rng(seed).multinomial(len(rows), shares, resamples)
    return tuple(np.quantile(counts @ hits / (counts @ rows), [.05, .95]))


def allows_nothing(X, y, coef, intercept, C):
    # a zero coefficient is held to a sum of zero
    sign = 2 * y - 1
    r = sign / (1 + np.exp(sign * (X @ coef + intercept)))
    return max(abs(C * r @ X - np.sign(coef)).max(), abs(C * r.sum()))


def forgets_the_intercept(X, y, coef, intercept, C):
    # the residuals need not balance
    sign = 2 * y - 1
    sums = C * (sign / (1 + np.exp(sign * (X @ coef + intercept)))) @ X
    return np.where(coef == 0, np.maximum(abs(sums) - 1, 0), abs(sums - np.sign(coef))).max()


def takes_sizes_only(X, y, coef, intercept, C):
    # a coefficient of the wrong sign passes
    sign = 2 * y - 1
    r = sign / (1 + np.exp(sign * (X @ coef + intercept)))
    return max(np.maximum(abs(C * r @ X) - 1, 0).max(), abs(C * r.sum()))


def by_neuron_number(C, coef):
    # not in the order of entry
    on = coef != 0
    first, last = on.argmax(0), len(C) - 1 - on[::-1].argmax(0)
    return {j: (C[first[j]], C[last[j]]) for j in np.flatnonzero(on.any(0))}


def positive_only(C, coef):
    # a negative coefficient does not count
    return when_they_live(C, coef > 0)


def until_it_first_leaves(C, coef):
    # a neuron that comes back is not seen again
    on = coef != 0
    gap = (np.cumsum(on, 0) > 0) & ~on
    return when_they_live(C, on & (np.cumsum(gap, 0) == 0))


def when_they_live(C, on):
    first, last = on.argmax(0), len(C) - 1 - on[::-1].argmax(0)
    ever = np.flatnonzero(on.any(0))
    return {int(j): (C[first[j]], C[last[j]]) for j in ever[np.argsort(first[ever], kind='stable')]}


def over_their_union(orders, k):
    # divides by the number of different neurons
    pairs = [(set(a[:k]), set(b[:k])) for i, a in enumerate(orders) for b in orders[:i]]
    return np.mean([len(a & b) / len(a | b) for a, b in pairs])


def with_themselves(orders, k):
    # compares each fold with itself too
    return np.mean([len(np.intersect1d(a[:k], b[:k])) / k for a in orders for b in orders])


def place_by_place(orders, k):
    # the same neuron in another place does not count
    return np.mean([np.mean(a[:k] == b[:k]) for i, a in enumerate(orders) for b in orders[:i]])


def of_two_maxima(validation, test):
    # compares the best scores of both kinds
    return np.nanmax(test) - np.nanmax(validation)


def above_the_average(validation, test):
    # not beside the honest choice
    return np.nanmax(test) - np.nanmean(test)


def skips_missing_one_by_one(validation, test):
    # a cell with one score still counts
    return np.nanmax(test) - np.ravel(test)[np.nanargmax(validation)]


def runs_nothing_twice(length, size, overlap):
    # forgets the overlap
    return length


def runs_full_chunks(length, size, overlap):
    # the last chunk is shorter than the others
    return max(1, -(-(length - overlap) // (size - overlap))) * size


def runs_one_more(length, size, overlap):
    # a document that ends with its chunk gets another
    return length + (length - overlap) // (size - overlap) * overlap


def across_documents(tokens, tokenizer):
    # one document after the other is taken for one
    return by_first(tokens, tokens.ids)


def any_repeat(tokens, tokenizer):
    # the first of those that come again counts as well
    pairs = np.stack([tokens.document_of(np.arange(len(tokens))), tokens.ids])
    _, inverse, counts = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)
    repeated = counts[inverse.ravel()] > 1
    return {'seen before': np.flatnonzero(repeated), 'new': np.flatnonzero(~repeated)}


def same_as_the_last(tokens, tokenizer):
    # only the token before is looked at
    begins = np.isin(np.arange(1, len(tokens)), tokens.starts)
    again = np.append(False, (tokens.ids[1:] == tokens.ids[:-1]) & ~begins)
    return {'seen before': np.flatnonzero(again), 'new': np.flatnonzero(~again)}


def pairs_that_collide(tokens, tokenizer):
    # document and token are added, so that different pairs have one number
    return by_first(tokens, tokens.document_of(np.arange(len(tokens))) + tokens.ids)


def by_first(tokens, pairs):
    new = np.unique(pairs, return_index=True)[1]
    return {'seen before': np.setdiff1d(np.arange(len(tokens)), new), 'new': np.sort(new)}


def by_value(interval, guess, gives_away):
    # the score counts, and not the lower end of its interval
    if interval[0] <= .5: return 'nothing found'
    if gives_away: return 'reads the token'
    return 'found' if interval[0] > guess else 'no more than a guess'


def without_view(interval, guess, gives_away):
    # a position where the token gives the class away counts like any other
    if interval[1] <= .5: return 'nothing found'
    return 'found' if interval[1] > guess else 'no more than a guess'


def token_first(interval, guess, gives_away):
    # asks about the token before it asks whether anything is there
    if gives_away: return 'reads the token'
    if interval[1] <= .5: return 'nothing found'
    return 'found' if interval[1] > guess else 'no more than a guess'


def within_portions(portions, k):
    # places are counted within each portion
    pairs = [(-v, j) for values in portions for j, v in enumerate(values)]
    return [j for _, j in sorted(pairs)[:k]]


def by_size(portions, k):
    # the sign of a value is lost
    values = np.concatenate([*portions])
    return np.argsort(-abs(values), kind='stable')[:k]


def later_of_equals(portions, k):
    # sorted upwards and turned around, equal values come in the wrong order
    values = np.concatenate([*portions])
    return np.argsort(values, kind='stable')[::-1][:k]


MISTAKES = {
    'check_best_neuron': [without_scale, without_size, mean_of_all_rows],
    'check_drop_duplicates': [reads_everything, goes_by_id, keeps_the_last],
    'check_find_phrase': [crosses_documents, first_token_only, place_of_the_last, skips_overlaps],
    'check_margin_of_choice': [of_two_maxima, above_the_average, skips_missing_one_by_one],
    'check_match_by_document': [balances_overall, takes_the_first, with_replacement],
    'check_largest_places': [within_portions, by_size, later_of_equals],
    'check_may_say': [by_value, without_view, token_first],
    'check_largest_writers': [by_activation, without_sign, smallest_first, sums_columns],
    'check_document_interval': [draws_rows, averages_documents, ninety_percent],
    'check_entry_order': [by_neuron_number, positive_only, until_it_first_leaves],
    'check_shared_neurons': [over_their_union, with_themselves, place_by_place],
    'check_seen_before': [across_documents, any_repeat, same_as_the_last, pairs_that_collide],
    'check_tokens_run': [runs_nothing_twice, runs_full_chunks, runs_one_more],
    'check_worst_violation': [allows_nothing, forgets_the_intercept, takes_sizes_only],
}
