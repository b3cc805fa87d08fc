"""What is computed from fixed input stays as it was, byte for byte on a machine that is known."""
import json

import numpy as np
import pytest
from helpers import kept

from sparse_probing import contrast

KEPT = json.loads(kept.KEPT.read_text())
SAME = KEPT.get(kept.machine())
EXPECTED = SAME or next(iter(KEPT.values()))


@pytest.fixture(scope='module')
def now(lm, tokens, tmp_path_factory):
    examples = contrast(tokens, lm.tokenizer, kept.TARGETS, 20)
    return kept.everything(lm, examples, tmp_path_factory.mktemp('kept'))


def test_the_same_things_are_computed(now): assert set(now) == set(EXPECTED)


@pytest.mark.parametrize('name', EXPECTED)
def test_numbers_are_what_they_were(now, name):
    np.testing.assert_allclose(now[name]['gist'], EXPECTED[name]['gist'], rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(SAME is None, reason=f'nothing was kept on a machine like {kept.machine()}')
@pytest.mark.parametrize('name', [name for name in EXPECTED if 'digest' in EXPECTED[name]])
def test_bytes_are_what_they_were(now, name): assert now[name]['digest'] == EXPECTED[name]['digest']
