"""The embedded model and text, loaded once for all tests that use them."""
import os

os.environ['TQDM_DISABLE'] = '1'

import pytest

from sparse_probing import contrast, load_lm, read_documents, tokenize

TARGETS = {'the': ' the', 'an': ' an'}


@pytest.fixture(scope='session')
def lm(): return load_lm()


@pytest.fixture(scope='session')
def tokens(lm): return tokenize(read_documents('wiki'), lm.tokenizer)


@pytest.fixture(scope='session')
def examples(lm, tokens): return contrast(tokens, lm.tokenizer, TARGETS)
