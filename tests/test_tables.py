"""The tables that lessons keep can be made again: a small part of each is, and compared."""
import numpy as np
import pandas as pd
import pytest

from tools import tables

PARTS = { # a cell or two of each; layer 0 is the quickest to read
    '10-sweep': {'layers': [0], 'positions': [-1]},
    '10-tasks': {'tasks': ['hist_fig_ismale'], 'layers': [0]},
}


@pytest.fixture(scope='module', params=PARTS)
def part(request): return request.param, tables.MAKERS[request.param](**PARTS[request.param])


def test_a_part_that_is_made_again_has_the_kept_columns_and_scores(part):
    assert tables.differences(*part)['ROC-AUC'] < 1e-3


def test_a_part_that_is_made_again_is_certified(part): assert part[1].gap.max() <= 1e-6


def test_two_draws_have_the_kept_columns():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    X = rng.normal(size=(400, 8)) + y[:, None]
    groups, rows = np.arange(400) // 4, np.arange(400)
    draws = tables.two_draws(X, y, groups, rows[:300], rows[300:], 50)
    table = pd.DataFrame([{'layer': 3, **draw} for draw in draws])
    kept = pd.read_parquet(tables.KEPT / '15-sizes.parquet')
    assert table.dtypes.to_dict() == kept.dtypes.to_dict()


def test_another_column_is_refused():
    kept = pd.read_parquet(tables.KEPT / '10-tasks.parquet')
    with pytest.raises(ValueError, match='has the columns'):
        tables.differences('10-tasks', kept.assign(other=1))


def test_a_row_that_is_not_kept_is_refused():
    kept = pd.read_parquet(tables.KEPT / '10-tasks.parquet')
    with pytest.raises(ValueError, match='are not kept'):
        tables.differences('10-tasks', kept.assign(layer=kept.layer + 1))


def test_each_kept_table_has_its_maker():
    assert {path.stem for path in tables.KEPT.glob('*.parquet')} == set(tables.MAKERS)
