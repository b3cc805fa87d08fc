"""Make the tables that lessons 10 and 15 keep beside them, from nothing: `make tables`.

`python -m tools.tables --quick` makes a small part of each, and compares it with what is kept.
"""
import argparse
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from sparse_probing import (
    KSparseProbe, contrast, harvest, load_lm, load_task, read_documents, record,
    sparsity_path, split, sweep, tokenize)
from tools.sync import ROOT

KEPT = ROOT / 'nbs/lessons'
TASKS = (
    'art_type_book', 'athlete_sport_football', 'click_bait', 'glue_cola', 'headline_istrump',
    'hist_fig_isamerican', 'hist_fig_ismale', 'living-room', 'movie_sent', 'temp_sense',
    'twt_emotion_happiness', 'world_country_Italy')
NEURONS = 1, 2, 4, 8, 16, 32, 64, 128, 256

# A lesson needs one score of each fit; small numbers keep the package small.
TYPES = {
    'layer': 'int16', 'position': 'int16', 'fold': 'int16', 'nonzero': 'int16',
    'density': 'float32', 'gap': 'float32', 'ROC-AUC': 'float32'}
CELL = 'task', 'layer', 'position', 'part', 'fold'
COLUMNS = *CELL, 'setting', 'nonzero', 'density', 'gap', 'ROC-AUC'


def small(table: pd.DataFrame) -> pd.DataFrame:
    """The columns of a sweep that are kept."""
    return table[list(COLUMNS)].astype(TYPES).reset_index(drop=True)


def whole_sweep(layers=range(30), positions=range(-6, 1), n: int = 1000) -> pd.DataFrame:
    """` the` or ` an`, at every layer and position, along C: lesson 10."""
    lm = load_lm()
    tokens = tokenize(read_documents('wiki'), lm.tokenizer)
    examples = contrast(tokens, lm, {' the': ' the', ' an': ' an'}, n, before=14)
    activations = {'the / an': record(lm, examples, list(layers), list(positions))}
    table = small(sweep(activations))
    return table.astype({'setting': 'float32'})


def tasks_sweep(tasks=TASKS, layers=(*range(0, 30, 3), 29), n: int = 300) -> pd.DataFrame:
    """A dozen labelled sets at every third layer and the last, along k: lesson 10."""
    lm = load_lm()
    activations = {name: record(lm, load_task(name, lm, n), list(layers), [0]) for name in tasks}
    return small(sweep(activations, KSparseProbe(by='F'), list(NEURONS)))


def two_draws(X, y, groups, train, test, n: int, seed: int = 0) -> Iterator[dict]:
    """Fit two probes on n rows a class each, which they do not share: their neurons and scores."""
    rng = np.random.default_rng(seed)
    drawn = [rng.permutation(train[y[train] == label])[:2 * n] for label in (0, 1)]
    for draw in range(2):
        rows = np.concatenate([of_class[draw * n:(draw + 1) * n] for of_class in drawn])
        path = sparsity_path(X[rows], y[rows], cv=5, groups=groups[rows])
        best = int(np.argmax(path.held_out()))
        coef = path.fits.coef[[best]]
        score = X[test] @ coef.toarray()[0] + path.fits.intercept[best]
        yield {'n': n, 'draw': draw, 'AUC': roc_auc_score(y[test], score),
               'gap': path.table.gap.max(), 'neurons': coef.indices}


def sizes(layers=(3, 20), counts=(50, 100, 200, 500, 1000, 2000)) -> pd.DataFrame:
    """` the` or ` a`, one token before it, with more and more examples: lesson 15."""
    with TemporaryDirectory() as folder:
        targets = {'the': ' the', 'a': ' a'}
        store = harvest('wiki', load_lm(), targets, layers=list(layers), positions=(-1, 0),
                        context=512, dtype='float16', workers=2, out=Path(folder) / 'store')
        y, groups = store.examples.y, store.examples.group
        train, test = split(y, groups)
        rows = []
        for layer in layers:
            X = store.at(layer, -1)
            for n in counts:
                rows += [{'layer': layer, **row} for row in two_draws(X, y, groups, train, test, n)]
    return pd.DataFrame(rows)


MAKERS = {'10-sweep': whole_sweep, '10-tasks': tasks_sweep, '15-sizes': sizes}
QUICK = { # what is asked for with --quick: some minutes and not an hour
    '10-sweep': {'layers': [29], 'positions': [-1]},
    '10-tasks': {'tasks': ['art_type_book', 'hist_fig_ismale'], 'layers': [27]},
    '15-sizes': {'layers': [3], 'counts': [50, 100, 200]},
}


def numbered(table: pd.DataFrame) -> pd.DataFrame:
    """A table with the columns that say which fit a row is of: its cell, and its step along it."""
    cell = [column for column in (*CELL, 'n', 'draw') if column in table]
    steps = table.groupby(cell, sort=False).cumcount()
    return table.assign(step=steps).set_index([*cell, 'step'])


def differences(name: str, table: pd.DataFrame) -> dict[str, float]:
    """How far the scores and gaps of a table, or of a part of one, are from those that are kept."""
    kept = pd.read_parquet(KEPT / f'{name}.parquet')
    if table.dtypes.to_dict() != kept.dtypes.to_dict():
        raise ValueError(f'{name} has the columns {table.dtypes.to_dict()}, '
                         f'and those that are kept are {kept.dtypes.to_dict()}')
    fresh, kept = numbered(table), numbered(kept)
    unknown = fresh.index.difference(kept.index)
    if len(unknown): raise ValueError(f'{len(unknown)} rows of {name} are not kept: {unknown[:3]}')
    numbers = [column for column in ('AUC', 'ROC-AUC', 'gap') if column in table]
    return abs(fresh[numbers] - kept.loc[fresh.index, numbers]).max().astype(float).to_dict()


def main() -> None:
    """Make the tables that are named, all of them where none is."""
    parser = argparse.ArgumentParser(description=__doc__, prog='python -m tools.tables')
    parser.add_argument('names', nargs='*', metavar='name', help=f'of {", ".join(MAKERS)}; or all')
    parser.add_argument('--quick', action='store_true', help='a part of each, only compared')
    words = parser.parse_args()
    for name in words.names or MAKERS:
        if name not in MAKERS: parser.error(f'{name!r} is none of {", ".join(MAKERS)}')
        table = MAKERS[name](**QUICK[name] if words.quick else {})
        far = ', '.join(f'{key} {value:.1g}' for key, value in differences(name, table).items())
        print(f'{name}: {len(table):,} rows, at most so far from the kept ones: {far}', flush=True)
        if not words.quick: table.to_parquet(KEPT / f'{name}.parquet')


if __name__ == '__main__': main()
