"""Right answers to the exercises in other styles than the solutions: a check has to accept them."""
from math import sqrt

import numpy as np


def best_by_loop(X, y):
    best, size, threshold = 0, -1., 0.
    for j in range(X.shape[1]):
        low, high = X[y == 0, j].mean(), X[y == 1, j].mean()
        if abs(high - low) / X[:, j].std() > size:
            best, size, threshold = j, abs(high - low) / X[:, j].std(), (low + high) / 2
    return [best, threshold]


def first_of_each(documents):
    seen = []
    for document in documents:
        if document.text in seen: continue
        seen.append(document.text)
        yield document


def filtered(documents):
    seen = {}
    return (document for document in documents
            if seen.setdefault(document.text, document) is document)


def phrase_by_loop(tokens, ids):
    ends, places = [*tokens.starts[1:], len(tokens.ids)], []
    for start, end in zip(tokens.starts, ends):
        for place in range(start, end - len(ids) + 1):
            if all(tokens.ids[place + k] == ids[k] for k in range(len(ids))): places.append(place)
    return places


def phrase_by_shifts(tokens, ids):
    places = np.arange(max(0, len(tokens.ids) - len(ids) + 1))
    for k, number in enumerate(ids): places = places[tokens.ids[places + k] == number]
    return places[tokens.document_of(places) == tokens.document_of(places + len(ids) - 1)]


def matched_by_shuffle(y, group, seed=0):
    rng, kept = np.random.default_rng(seed), []
    order = rng.permutation(len(y))
    for document in set(group.tolist()):
        rows = [[row for row in order if group[row] == document and y[row] == k] for k in (0, 1)]
        size = min(map(len, rows))
        kept += rows[0][:size] + rows[1][:size]
    return sorted(map(int, kept))


def writers_by_loop(x, weight, k):
    lengths = [abs(x[j]) * sqrt(sum(value ** 2 for value in weight[:, j])) for j in range(len(x))]
    return sorted(range(len(x)), key=lambda j: -lengths[j])[:k]


def writers_by_product(x, weight, k):
    return (-np.sqrt(((weight * x) ** 2).sum(0))).argsort(kind='stable')[:k].tolist()


def outputs_by_list(model, modules, ids):
    seen = [None] * len(modules)
    def note(number): return lambda module, inputs, output: seen.__setitem__(number, output.clone())
    handles = [module.register_forward_hook(note(k)) for k, module in enumerate(modules)]
    try: model(ids)
    finally: [handle.remove() for handle in handles]
    return seen


def interval_by_loop(right, group, resamples=1000, seed=0):
    rng, documents = np.random.default_rng(seed), sorted(set(group.tolist()))
    rows = {document: right[group == document] for document in documents}
    shares = []
    for _ in range(resamples):
        drawn = rng.integers(0, len(documents), len(documents))
        hits = sum(rows[documents[k]].sum() for k in drawn)
        shares.append(hits / sum(len(rows[documents[k]]) for k in drawn))
    return [np.percentile(shares, 2.5), np.percentile(shares, 97.5)]


def sides_by_loop(group, test=.3, seed=0):
    documents, aside = sorted(set(group.tolist())), set()
    np.random.default_rng(seed).shuffle(documents)
    for document in documents:
        if sum(name in aside for name in group.tolist()) >= test * len(group): break
        aside.add(document)
    rows = range(len(group))
    return [r for r in rows if group[r] not in aside], [r for r in rows if group[r] in aside]


def violation_by_loop(X, y, coef, intercept, C):
    residuals = []
    for row, label in zip(X, y):
        sign = 1 if label == 1 else -1
        residuals.append(sign / (1 + np.exp(sign * (row @ coef + intercept))))
    worst = abs(C * sum(residuals))
    for j, weight in enumerate(coef):
        total = C * sum(r * x for r, x in zip(residuals, X[:, j]))
        off = max(0, abs(total) - 1) if weight == 0 else abs(total - (1 if weight > 0 else -1))
        worst = max(worst, off)
    return worst


def threshold_by_loop(w, g, h, penalty):
    values = []
    for wj, gj, hj, pj in zip(w, g, h, penalty):
        to = wj - gj / hj
        values.append(to - pj / hj if to > pj / hj else to + pj / hj if to < -pj / hj else 0.)
    return values


def threshold_by_clip(w, g, h, penalty):
    to = w - g / h
    return to - np.clip(to, -penalty / h, penalty / h)


def lives_by_loop(C, coef):
    lives = {}
    for step, row in enumerate(coef):
        for j, value in enumerate(row):
            if value: lives[j] = [lives.get(j, [C[step]])[0], C[step]]
    return lives


def lives_as_numpy(C, coef):
    lives = [(C[on].min(), j, C[on].max()) for j, on in enumerate((coef != 0).T) if on.any()]
    return {j: np.array([first, last]) for first, j, last in sorted(lives)}


def choice_by_loop(C, scores):
    means = [sum(column) / len(column) for column in scores.T]
    best = means.index(max(means))
    spread = sum((score - means[best]) ** 2 for score in scores[:, best]) / (len(scores) - 1)
    bar = means[best] - sqrt(spread / len(scores))
    return next(c for c, mean in zip(C, means) if mean >= bar)


def seen_by_set(tokens, tokenizer):
    seen, places = set(), {'new': [], 'seen before': []}
    for place, number in enumerate(tokens.ids.tolist()):
        if place in set(tokens.starts.tolist()): seen = set()
        places['seen before' if number in seen else 'new'].append(place)
        seen.add(number)
    return places


def shared_by_matrix(orders, k):
    on = np.zeros((len(orders), len(orders[0])))
    for fold, order in enumerate(orders): on[fold, order[:k]] = 1
    return (on @ on.T)[np.triu_indices(len(orders), 1)].mean() / k


def ranked_by_loop(X, y):
    def size(j):
        low, high = X[y == 0, j], X[y == 1, j]
        error = sqrt(low.var(ddof=1) / len(low) + high.var(ddof=1) / len(high))
        apart = abs(high.mean() - low.mean())
        return apart / error if error else np.inf if apart else -1.
    return sorted(range(X.shape[1]), key=size, reverse=True)


def margin_by_loop(validation, test):
    pairs = [(v, t) for v, t in zip(np.ravel(validation), np.ravel(test)) if v == v and t == t]
    return max(t for _, t in pairs) - max(pairs)[1]


def places_by_heap(portions, k):
    kept, place = [], 0
    for values in portions:
        for value in values:
            kept = sorted([*kept, (-value, place)])[:k]
            place += 1
    return [place for _, place in kept]


def run_by_cutting(length, size, overlap):
    start, total = 0, min(size, length)
    while start + size < length:
        start += size - overlap
        total += min(size, length - start)
    return total


def said_by_table(interval, guess, gives_away):
    _, low, _ = interval
    answers = {(False, False): 'nothing found', (False, True): 'nothing found',
               (True, True): 'reads the token',
               (True, False): 'found' if low > guess else 'no more than a guess'}
    return answers[low > .5, bool(gives_away)]


def pairs_by_loop(taken):
    pairs = len(taken) // 2
    return [sum(taken[2 * k][j] and taken[2 * k + 1][j] for k in range(pairs)) / pairs
            for j in range(len(taken[0]))]


def pairs_by_shape(taken): return taken.reshape(-1, 2, taken.shape[1]).all(1).mean(0)


def family_by_loop(observed, nulls):
    luckiest = [max(abs(auc - .5) for auc in shuffle) for shuffle in nulls]
    return [(1 + sum(lucky >= abs(auc - .5) for lucky in luckiest)) / (1 + len(luckiest))
            for auc in observed]


def family_by_rows(observed, nulls):
    luckiest = abs(np.vstack([observed, nulls]) - .5).max(1)
    luckiest[0] = np.inf
    return (luckiest[:, None] >= abs(np.asarray(observed) - .5)).mean(0)


RIGHT = {
    'check_pair_share': [pairs_by_loop, pairs_by_shape],
    'check_family_p': [family_by_loop, family_by_rows],
    'check_best_neuron': [best_by_loop],
    'check_drop_duplicates': [first_of_each, filtered],
    'check_find_phrase': [phrase_by_loop, phrase_by_shifts],
    'check_match_by_document': [matched_by_shuffle],
    'check_largest_writers': [writers_by_loop, writers_by_product],
    'check_outputs_of': [outputs_by_list],
    'check_document_interval': [interval_by_loop],
    'check_split_by_document': [sides_by_loop],
    'check_worst_violation': [violation_by_loop],
    'check_soft_threshold': [threshold_by_loop, threshold_by_clip],
    'check_entry_order': [lives_by_loop, lives_as_numpy],
    'check_one_error_choice': [choice_by_loop],
    'check_seen_before': [seen_by_set],
    'check_shared_neurons': [shared_by_matrix],
    'check_rank_by_t': [ranked_by_loop],
    'check_margin_of_choice': [margin_by_loop],
    'check_largest_places': [places_by_heap],
    'check_tokens_run': [run_by_cutting],
    'check_may_say': [said_by_table],
}
