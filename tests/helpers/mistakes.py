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


def medians(X, y):
    # the median of a class is not its mean
    low, high = (np.median(X[y == k], 0) for k in (0, 1))
    best = np.argmax(abs(high - low) / X.std(0))
    return best, (low[best] + high[best]) / 2


def spread_within(X, y):
    # the spread within the classes, and not over all rows
    low, high = X[y == 0].mean(0), X[y == 1].mean(0)
    best = np.argmax(abs(high - low) / (X[y == 0].std(0) + X[y == 1].std(0) + 1e-9))
    return best, (low[best] + high[best]) / 2


def threshold_first(X, y):
    # the two results in the other order
    return best_by_ratio(X, y)[::-1]


def best_by_ratio(X, y):
    low, high = X[y == 0].mean(0), X[y == 1].mean(0)
    best = np.argmax(abs(high - low) / X.std(0))
    return best, (low[best] + high[best]) / 2


def reads_one_ahead(documents):
    # the next document is read before this one is handed on
    seen, waiting = set(), None
    for document in documents:
        if document.text in seen: continue
        seen.add(document.text)
        if waiting is not None: yield waiting
        waiting = document
    if waiting is not None: yield waiting


def by_key(key):
    def goes_by_key(documents):
        seen = set()
        for document in documents:
            if key(document.text) not in seen:
                seen.add(key(document.text))
                yield document
    return goes_by_key


def neighbours_only(documents):
    # only a repeat right behind is left out
    last = None
    for document in documents:
        if document.text != last: yield document
        last = document.text


def as_text(separator):
    def searches_digits(tokens, ids):
        # numbers as letters: 5 is found in 57
        places = []
        for start, end in zip(tokens.starts, [*tokens.starts[1:], len(tokens.ids)]):
            for first in range(start, end):
                rest = separator.join(map(str, tokens.ids[first:end]))
                if rest.startswith(separator.join(map(str, ids))): places.append(first)
        return np.array(places, int)
    return searches_digits


def stops_early(tokens, ids):
    # the last place at which the phrase fits is never tried
    places = [p for p in range(len(tokens.ids) - len(ids))
              if list(tokens.ids[p:p + len(ids)]) == list(ids)]
    return np.array([p for p in places if ends_where_it_began(tokens, p + len(ids) - 1, ids)], int)


def random_for_one_class(y, group, seed=0):
    # the surplus of class 1 is not drawn
    rng, rows = np.random.default_rng(seed), [np.zeros(0, int)]
    for g in np.unique(group):
        low, high = (np.flatnonzero((group == g) & (y == k)) for k in (0, 1))
        size = min(len(low), len(high))
        rows += [rng.choice(low, size, replace=False), high[:size]]
    return np.sort(np.concatenate(rows))


def not_sorted(y, group, seed=0):
    # the rows come by document and class
    rng, rows = np.random.default_rng(seed), [np.zeros(0, int)]
    for g in np.unique(group):
        sides = [np.flatnonzero((group == g) & (y == k)) for k in (0, 1)]
        rows += [rng.choice(side, min(map(len, sides)), replace=False) for side in sides]
    return np.concatenate(rows)


def one_of_each(y, group, seed=0):
    # one pair a document, whatever there is
    rng, rows = np.random.default_rng(seed), []
    for g in np.unique(group):
        sides = [np.flatnonzero((group == g) & (y == k)) for k in (0, 1)]
        if min(map(len, sides)): rows += [rng.choice(side) for side in sides]
    return np.sort(np.array(rows, int))


def by_row_length(x, weight, k):
    # the lengths of the rows
    lengths = np.resize(np.linalg.norm(weight, axis=1), len(x))
    return np.argsort(-abs(x) * lengths, kind='stable')[:k]


def by_largest_entry(x, weight, k):
    # the largest entry of a column is not its length
    return np.argsort(-abs(x) * abs(weight).max(0), kind='stable')[:k]


def sums_of_sizes(x, weight, k):
    # the sum of the sizes is not the Euclidean length
    return np.argsort(-abs(x) * abs(weight).sum(0), kind='stable')[:k]


def documents_drawn(right, group, seed, resamples, quantiles=(.025, .975)):
    documents = np.unique(group, return_inverse=True)[1]
    rows, hits = np.bincount(documents), np.bincount(documents, weights=right)
    shares = np.full(len(rows), 1 / len(rows))
    counts = np.random.default_rng(seed).multinomial(len(rows), shares, resamples)
    return tuple(np.quantile(counts @ hits / (counts @ rows), quantiles))


def ignores_resamples(right, group, resamples=1000, seed=0):
    # always a thousand draws
    return documents_drawn(right, group, seed, 1000)


def ignores_seed(right, group, resamples=1000, seed=0):
    # always the same draws
    return documents_drawn(right, group, 0, resamples)


def numbers_as_counts(right, group, resamples=1000, seed=0):
    # as many documents as the largest number says
    hits, rows = np.bincount(group, weights=right), np.bincount(group)
    n = len(rows)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), resamples)
    return tuple(np.quantile(counts @ hits / np.maximum(counts @ rows, 1), [.025, .975]))


def violation(X, y, coef, intercept, C, zero=None, balance=None):
    sign = 2 * y - 1
    r = sign / (1 + np.exp(sign * (X @ coef + intercept)))
    zero = coef == 0 if zero is None else zero
    sums, balance = C * r @ X, C if balance is None else balance
    off = np.where(zero, np.maximum(abs(sums) - 1, 0), abs(sums - np.sign(coef)))
    return max(off.max(), abs(balance * r.sum()))


def intercept_without_C(X, y, coef, intercept, C):
    # the residuals are not weighted
    return violation(X, y, coef, intercept, C, balance=1)


def tiny_is_zero(X, y, coef, intercept, C):
    # a tiny coefficient counts as zero
    return violation(X, y, coef, intercept, C, zero=np.isclose(coef, 0))


def without_intercept(X, y, coef, intercept, C):
    # the scores lack the intercept
    return violation(X, y, coef, 0., C)


def last_of_grid(C, coef):
    # each stays until the end
    return {j: (first, C[-1]) for j, (first, _) in when_they_live(C, coef != 0).items()}


def numbers_for_C(C, coef):
    # steps of the path and not values of C
    return when_they_live(np.arange(len(C), dtype=float), coef != 0)


def pairs_with_factor(factor):
    def with_factor(tokens, tokenizer):
        # a fixed factor, which a large token exceeds
        return by_first(tokens, tokens.document_of(np.arange(len(tokens))) * factor + tokens.ids)
    return with_factor


def counts_once(orders, k):
    # neurons that every fold has
    return len(set.intersection(*(set(map(int, order[:k])) for order in orders))) / k


def over_all_neurons(orders, k):
    # divided by all neurons
    pairs = [(set(a[:k]), set(b[:k])) for i, a in enumerate(orders) for b in orders[:i]]
    return np.mean([len(a & b) for a, b in pairs]) / len(orders[0])


def leaves_out_twins(orders, k):
    # a fold that equals another is not compared with it
    pairs = [(set(a[:k]), set(b[:k])) for i, a in enumerate(orders) for b in orders[:i]
             if not np.array_equal(a, b)]
    return np.mean([len(a & b) for a, b in pairs]) / k


def best_of_validation(validation, test):
    # the validation score of the choice, and not its test score
    there = ~np.isnan(validation) & ~np.isnan(test)
    return np.max(test[there]) - np.max(validation[there])


def fills_with_zero(validation, test):
    # a missing score counts as 0
    validation, test = np.nan_to_num(validation).ravel(), np.nan_to_num(test).ravel()
    return test.max() - test[validation.argmax()]


def without_first_tokens(portions, k):
    # the first portion is not looked at
    first, *others = list(portions)
    values = np.concatenate([first * 0 - np.inf, *others])
    return np.argsort(-values, kind='stable')[:k]


def best_of_each_portion(portions, k):
    # the largest of each portion, one a portion
    start, places = 0, []
    for values in portions:
        places.append((-values.max(), start + int(values.argmax())))
        start += len(values)
    return [place for _, place in sorted(places)[:k]]


def smallest(portions, k):
    # the smallest
    return np.argsort(np.concatenate([*portions]), kind='stable')[:k]


def without_floor(length, size, overlap):
    # a document shorter than the overlap has no chunk
    return length + (-(-(length - overlap) // (size - overlap)) - 1) * overlap


def one_overlap(length, size, overlap):
    # the overlap is added once
    return length + overlap * (length > size)


def overlap_at_both_ends(length, size, overlap):
    # each neighbour counts it
    return length + 2 * overlap * max(0, -(-(length - overlap) // (size - overlap)) - 1)


def at_least_half(interval, guess, gives_away):
    # an interval that begins at one half counts as found
    if interval[1] < .5: return 'nothing found'
    if gives_away: return 'reads the token'
    return 'found' if interval[1] > guess else 'no more than a guess'


def not_below_a_guess(interval, guess, gives_away):
    # as much as a guess counts as more
    if interval[1] <= .5: return 'nothing found'
    if gives_away: return 'reads the token'
    return 'found' if interval[1] >= guess else 'no more than a guess'


def hooked(model, modules, ids, keep_hooks=False, enters=False):
    seen, handles = {}, []
    for module in modules:
        def keep(module, inputs, output): seen[module] = inputs[0] if enters else output
        handles.append(module.register_forward_hook(keep))
    model(ids)
    for handle in handles if not keep_hooks else []: handle.remove()
    return [seen[module] for module in modules]


def leaves_hooks(model, modules, ids):
    # the hooks stay
    return hooked(model, modules, ids, keep_hooks=True)


def leaves_hooks_on_failure(model, modules, ids):
    # the hooks stay where the pass fails
    return hooked(model, modules, ids)


def what_enters(model, modules, ids):
    # the input of a module
    return hooked(model, modules, ids, enters=True)


def in_running_order(model, modules, ids):
    # in the order of the model
    order = [module for module in model.modules() if module in modules]
    return hooked(model, order, ids)


def removes_all_hooks(model, modules, ids):
    # takes those of others off too
    outputs = hooked(model, modules, ids)
    for module in model.modules(): module._forward_hooks.clear()
    return outputs


def a_pass_each(model, modules, ids):
    # as many passes as modules
    return [hooked(model, [module], ids)[0] for module in modules]


def sides_of(aside): return np.flatnonzero(~aside), np.flatnonzero(aside)


def splits_rows(group, test=.3, seed=0):
    # rows and not documents
    order = np.random.default_rng(seed).permutation(len(group))
    return sides_of(np.isin(np.arange(len(group)), order[:int(test * len(group))]))


def share_of_documents(group, test=.3, seed=0):
    # a share of the documents, whatever their rows
    documents = np.random.default_rng(seed).permutation(np.unique(group))
    return sides_of(np.isin(group, documents[:max(1, round(test * len(documents)))]))


def in_order_of_numbers(group, test=.3, seed=0):
    # the first documents, without a draw
    documents, rows = np.unique(group, return_counts=True)
    last = (np.cumsum(rows) >= test * len(group)).argmax()
    return sides_of(np.isin(group, documents[:last + 1]))


def sides_exchanged(group, test=.3, seed=0):
    # training and test in the other order
    return documents_to_sides(group, test, seed)[::-1]


def without_the_last(group, test=.3, seed=0):
    # stops before the share is reached
    return documents_to_sides(group, test, seed, more=0)


def one_too_many(group, test=.3, seed=0):
    # goes on for one document more
    return documents_to_sides(group, test, seed, more=2)


def documents_to_sides(group, test, seed, more=1):
    documents, rows = np.unique(group, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(documents))
    last = (np.cumsum(rows[order]) >= test * len(group)).argmax()
    return sides_of(np.isin(group, documents[order[:last + more]]))


def hard_threshold(w, g, h, penalty):
    # keeps the whole step where it is large enough
    to = w - g / h
    return np.where(abs(to) > penalty / h, to, 0)


def penalty_not_divided(w, g, h, penalty):
    # the penalty in the unit of a slope
    to = w - g / h
    return np.sign(to) * np.maximum(abs(to) - penalty, 0)


def crosses_zero(w, g, h, penalty):
    # goes on to the other side
    to = w - g / h
    return to - np.sign(to) * np.where(np.isinf(penalty), abs(to), penalty / h)


def sign_of_w(w, g, h, penalty):
    # the sign before the step
    to = w - g / h
    return np.sign(w) * np.maximum(abs(to) - penalty / h, 0)


def slope_added(w, g, h, penalty):
    # up the slope
    return threshold(w + g / h, penalty / h)


def one_penalty(w, g, h, penalty):
    # the first penalty for all
    return threshold(w - g / h, penalty[0] / h)


def threshold(to, by): return np.sign(to) * np.maximum(abs(to) - by, 0)


def within(C, scores, error, best=None):
    mean = scores.mean(0)
    best = mean.argmax() if best is None else best
    return C[np.argmax(mean >= mean[best] - error)]


def best_only(C, scores):
    # the best, and no rule
    return C[scores.mean(0).argmax()]


def deviation_not_error(C, scores):
    # the deviation over the folds
    return within(C, scores, scores[:, scores.mean(0).argmax()].std(ddof=1))


def with_k(C, scores):
    # k in the denominator
    best = scores.mean(0).argmax()
    return within(C, scores, scores[:, best].std() / len(scores) ** .5)


def error_at_each(C, scores):
    # each C has the error of its own
    error = scores.std(0, ddof=1) / len(scores) ** .5
    return within(C, scores, error)


def largest_within(C, scores):
    # the largest C within the band
    mean, best = scores.mean(0), scores.mean(0).argmax()
    error = scores[:, best].std(ddof=1) / len(scores) ** .5
    return C[np.flatnonzero(mean >= mean[best] - error)[-1]]


def last_of_the_best(C, scores):
    # of equal means the last, and its error
    mean = scores.mean(0)
    best = len(mean) - 1 - mean[::-1].argmax()
    return within(C, scores, scores[:, best].std(ddof=1) / len(scores) ** .5, best)


def down_from_the_best(C, scores):
    # goes down from the best as long as it is within the band
    mean, k = scores.mean(0), scores.mean(0).argmax()
    bar = mean[k] - scores[:, k].std(ddof=1) / len(scores) ** .5
    while k and mean[k - 1] >= bar: k -= 1
    return C[k + (mean[k] < bar)] if k else C[-1]


def ranked(size): return np.argsort(-np.nan_to_num(size, nan=-1), kind='stable')


def class_parts(X, y): return X[y == 0], X[y == 1]


def without_error(X, y):
    # the difference of the means alone
    low, high = class_parts(X, y)
    return ranked(abs(high.mean(0) - low.mean(0)))


def signed(X, y):
    # a neuron that is lower for class 1 comes last
    low, high = class_parts(X, y)
    return ranked((high.mean(0) - low.mean(0)) / np.sqrt(low.var(0, ddof=1) / len(low)
                                                         + high.var(0, ddof=1) / len(high)))


def pooled(X, y):
    # Student's t, one variance for both classes
    low, high = class_parts(X, y)
    both = ((len(low) - 1) * low.var(0, ddof=1) + (len(high) - 1) * high.var(0, ddof=1))
    return ranked(abs(high.mean(0) - low.mean(0)) / np.sqrt(both))


def constants_first(X, y):
    # what is no number comes first
    low, high = class_parts(X, y)
    t = (high.mean(0) - low.mean(0)) / np.sqrt(low.var(0, ddof=1) / len(low)
                                               + high.var(0, ddof=1) / len(high))
    return np.argsort(-np.nan_to_num(abs(t), nan=np.inf), kind='stable')


def worst_first(X, y):
    # turned around
    return ranked_by_welch(X, y)[::-1]


def variances_exchanged(X, y):
    # each variance over the rows of the other class
    low, high = class_parts(X, y)
    return ranked(abs(high.mean(0) - low.mean(0)) / np.sqrt(low.var(0, ddof=1) / len(high)
                                                            + high.var(0, ddof=1) / len(low)))


def ranked_by_welch(X, y):
    low, high = class_parts(X, y)
    return ranked(abs(high.mean(0) - low.mean(0)) / np.sqrt(low.var(0, ddof=1) / len(low)
                                                            + high.var(0, ddof=1) / len(high)))


def wraps_around(tokens, ids):
    # the end of the corpus goes on at its beginning
    on = np.all([np.roll(tokens.ids, -k) == number for k, number in enumerate(ids)], axis=0)
    last = (np.flatnonzero(on) + len(ids) - 1) % len(tokens.ids)
    return np.flatnonzero(on)[tokens.document_of(np.flatnonzero(on)) == tokens.document_of(last)]


def long_ones_favoured(right, group, resamples=1000, seed=0):
    # a document is drawn as often as it has rows
    rng, documents = np.random.default_rng(seed), np.unique(group)
    rows = {document: right[group == document] for document in documents}
    shares = [np.concatenate([rows[name] for name in rng.choice(group, len(documents))]).mean()
              for _ in range(resamples)]
    return tuple(np.quantile(shares, [.025, .975]))


def drops_missing_apart(validation, test):
    # the two scores of a cell no longer stand together
    validation, test = validation[~np.isnan(validation)], test[~np.isnan(test)]
    return test.max() - test[min(validation.argmax(), len(test) - 1)]


def missing_in_either_is_zero(validation, test):
    # better than a score below 0
    missing = np.isnan(validation) | np.isnan(test)
    validation, test = np.where(missing, 0, validation), np.where(missing, 0, test)
    return test.max() - test.ravel()[validation.argmax()]


def spread_of_all(C, scores):
    # over all scores, not over the folds at the best
    return within(C, scores, scores.std(ddof=1) / len(scores) ** .5)


def n_in_denominator(X, y):
    # the variance of the rows that are there
    low, high = class_parts(X, y)
    return ranked(abs(high.mean(0) - low.mean(0))
                  / np.sqrt(low.var(0) / len(low) + high.var(0) / len(high)))


def perfect_last(X, y):
    # no spread in either class is taken for a constant
    low, high = class_parts(X, y)
    error = np.sqrt(low.var(0, ddof=1) / len(low) + high.var(0, ddof=1) / len(high))
    return ranked(np.where(error > 0, abs(high.mean(0) - low.mean(0)) / error, -1))


def either_half(taken):
    # one of two is no second sample
    return (taken[::2] | taken[1::2]).mean(0)


def share_of_halves(taken): return taken.mean(0)


def share_squared(taken):
    # as if halves did not share what they are cut from
    return taken.mean(0) ** 2


def far_half(taken):
    # the halves of a pair are together, not half a table apart
    half = len(taken) // 2
    return (taken[:half] & taken[half:]).mean(0)


def of_all_halves(taken): return (taken[::2] & taken[1::2]).sum(0) / len(taken)


def next_halves(taken):
    # neighbours of two pairs count as well
    return (taken[:-1] & taken[1:]).mean(0)


def pairs_as_counts(taken): return (taken[::2] & taken[1::2]).sum(0)


def own_shuffles_only(observed, nulls):
    # held against the same neuron, not against the furthest
    return (1 + (abs(nulls - .5) >= abs(observed - .5)).sum(0)) / (1 + len(nulls))


def furthest_in_shuffles(observed, nulls): return abs(nulls - .5).max(1)[:, None]


def never_counts_itself(observed, nulls):
    # a p of zero
    return (furthest_in_shuffles(observed, nulls) >= abs(observed - .5)).mean(0)


def counted_but_not_divided(observed, nulls):
    # over the shuffles, without the labels themselves
    return (1 + (furthest_in_shuffles(observed, nulls) >= abs(observed - .5)).sum(0)) / len(nulls)


def further_only(observed, nulls):
    # as far does not count
    more = furthest_in_shuffles(observed, nulls) > abs(observed - .5)
    return (1 + more.sum(0)) / (1 + len(nulls))


def high_side_only(observed, nulls):
    # low AUCs are no evidence
    more = nulls.max(1)[:, None] >= observed
    return (1 + more.sum(0)) / (1 + len(nulls))


def furthest_of_each_neuron(observed, nulls):
    # the maximum over shuffles, not over neurons
    more = abs(nulls - .5).max(0)[:, None] >= abs(observed - .5)
    return (1 + more.sum(0)) / (1 + len(more))


def times_the_neurons(observed, nulls):
    # Bonferroni: right on average, and blind to neurons that go together
    own = (1 + (abs(nulls - .5) >= abs(observed - .5)).sum(0)) / (1 + len(nulls))
    return np.minimum(1, own * len(observed))


MISTAKES = {
    'check_pair_share': [either_half, share_of_halves, share_squared, far_half, of_all_halves,
                         next_halves, pairs_as_counts],
    'check_family_p': [own_shuffles_only, never_counts_itself, counted_but_not_divided,
                       further_only, high_side_only, furthest_of_each_neuron, times_the_neurons],
    'check_best_neuron': [without_scale, without_size, mean_of_all_rows, medians, spread_within,
                          threshold_first],
    'check_drop_duplicates': [reads_everything, goes_by_id, keeps_the_last, reads_one_ahead,
                              by_key(lambda text: text.strip().lower()),
                              by_key(lambda text: text[:20]), by_key(len), neighbours_only],
    'check_find_phrase': [crosses_documents, first_token_only, place_of_the_last, skips_overlaps,
                          as_text(''), as_text(' '), stops_early, wraps_around],
    'check_margin_of_choice': [of_two_maxima, above_the_average, skips_missing_one_by_one,
                               best_of_validation, fills_with_zero, drops_missing_apart,
                               missing_in_either_is_zero],
    'check_match_by_document': [balances_overall, takes_the_first, with_replacement,
                                random_for_one_class, not_sorted, one_of_each],
    'check_largest_places': [within_portions, by_size, later_of_equals, without_first_tokens,
                             best_of_each_portion, smallest],
    'check_may_say': [by_value, without_view, token_first, at_least_half, not_below_a_guess],
    'check_largest_writers': [by_activation, without_sign, smallest_first, sums_columns,
                              by_row_length, by_largest_entry, sums_of_sizes],
    'check_outputs_of': [leaves_hooks, leaves_hooks_on_failure, what_enters, in_running_order,
                         removes_all_hooks, a_pass_each],
    'check_document_interval': [draws_rows, averages_documents, ninety_percent, ignores_resamples,
                                ignores_seed, numbers_as_counts, long_ones_favoured],
    'check_split_by_document': [splits_rows, share_of_documents, in_order_of_numbers,
                                sides_exchanged, without_the_last, one_too_many],
    'check_entry_order': [by_neuron_number, positive_only, until_it_first_leaves, last_of_grid,
                          numbers_for_C],
    'check_one_error_choice': [best_only, deviation_not_error, with_k, error_at_each,
                               largest_within, last_of_the_best, down_from_the_best, spread_of_all],
    'check_shared_neurons': [over_their_union, with_themselves, place_by_place, counts_once,
                             over_all_neurons, leaves_out_twins],
    'check_rank_by_t': [without_error, signed, pooled, constants_first, worst_first,
                        variances_exchanged, n_in_denominator, perfect_last],
    'check_seen_before': [across_documents, any_repeat, same_as_the_last, pairs_that_collide,
                          pairs_with_factor(10_000), pairs_with_factor(100_000)],
    'check_tokens_run': [runs_nothing_twice, runs_full_chunks, runs_one_more, without_floor,
                         one_overlap, overlap_at_both_ends],
    'check_worst_violation': [allows_nothing, forgets_the_intercept, takes_sizes_only,
                              intercept_without_C, tiny_is_zero, without_intercept],
    'check_soft_threshold': [hard_threshold, penalty_not_divided, crosses_zero, sign_of_w,
                             slope_added, one_penalty],
}
