"""The embedded model and text, loaded once for all tests that use them, a way to run code apart, and a word at the end."""
import os
import subprocess
import sys

os.environ['TQDM_DISABLE'] = '1'

import pytest

from sparse_probing import contrast, load_lm, read_documents, tokenize

TARGETS = {'the': ' the', 'an': ' an'}
TOLD = pytest.StashKey[list]()


def python(code, environment=None):
    """Run code in a fresh process with a whole environment of its own, or this one."""
    return subprocess.run([sys.executable, '-c', code], env=environment, capture_output=True, text=True)


@pytest.fixture
def tell(request):
    """Keep a line for the summary: what is measured but does not fail."""
    return request.config.stash.setdefault(TOLD, []).append


def pytest_terminal_summary(terminalreporter, config):
    for line in config.stash.get(TOLD, []): terminalreporter.line(line)


@pytest.fixture(scope='session')
def lm(): return load_lm()


@pytest.fixture(scope='session')
def tokens(lm): return tokenize(read_documents('wiki'), lm.tokenizer)


@pytest.fixture(scope='session')
def examples(lm, tokens): return contrast(tokens, lm.tokenizer, TARGETS)
