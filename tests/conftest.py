"""The embedded model and text, loaded once for all tests of a process, and a word at the end."""
import os
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

WORKER = os.environ.get('PYTEST_XDIST_WORKER') # of `pytest -n`: several share the cores
os.environ['TQDM_DISABLE'] = '1'
# Threads that wait for others by spinning would take the time that another worker needs.
if WORKER: os.environ |= {'OMP_WAIT_POLICY': 'PASSIVE', 'OPENBLAS_THREAD_TIMEOUT': '4'}

from helpers.contrasts import TARGETS

from sparse_probing import contrast, load_lm, read_documents, tokenize

# The tests of a file share what is expensive to make, and stay together. Those of the independent
# files share nothing, and go where there is time. Two files use Slurm, and one of them installs it.
INDEPENDENT = {'test_notebooks', 'test_style'}
TOGETHER = {'test_executors': 'clusters', 'test_harvest': 'clusters'}


class ByFile(LoadScopeScheduling):
    """Deals out tests by what they share."""
    def _split_scope(self, nodeid):
        file = Path(nodeid.partition('::')[0]).stem
        return nodeid if file in INDEPENDENT else TOGETHER.get(file, file)


def pytest_xdist_make_scheduler(config, log): return ByFile(config, log)


@pytest.fixture
def tell(request):
    """Keep a line for the summary: what is measured but does not fail."""
    def keep(line): request.node.user_properties.append(('tell', line))
    return keep


def pytest_terminal_summary(terminalreporter):
    """Print the lines of `tell`, which come with the reports, from whatever process."""
    reports = [report for kind in terminalreporter.stats.values() for report in kind]
    for report in reports:
        if getattr(report, 'when', '') != 'call': continue
        for key, line in report.user_properties:
            if key == 'tell': terminalreporter.line(line)


@pytest.fixture(scope='session')
def lm(): return load_lm()


@pytest.fixture(scope='session')
def tokens(lm): return tokenize(read_documents('wiki'), lm.tokenizer)


@pytest.fixture(scope='session')
def examples(lm, tokens): return contrast(tokens, lm.tokenizer, TARGETS)


@pytest.fixture(scope='module') # what runs after the tests of a file is not to share its loop
def browser():
    """Chromium, as `python -m tools.browser` brings it."""
    from playwright.sync_api import sync_playwright

    from tools import browser as chromium
    ready = chromium.starting()
    if not ready: pytest.fail('these tests need Chromium, which `python -m tools.browser` brings')
    with sync_playwright() as playwright:
        started = chromium.launch(playwright, ready[0])
        yield started
        started.close()
