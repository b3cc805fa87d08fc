"""The site: whole, readable by everyone, the same from a USB stick, and showing what the notebooks hold."""
import ast
import base64
import json
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from tools import browser as chromium
from tools import docs
import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from tools.sync import NOTEBOOKS, ROOT
from playwright.sync_api import sync_playwright

PAGES = sorted(p.relative_to(ROOT / 'nbs').with_suffix('.html').as_posix() for p in NOTEBOOKS)

# What lies beyond the right edge of a narrow window, where no box of its own scrolls it into view.
CUT_OFF = '''() => [...document.querySelectorAll('main *')].filter(element => {
  if (element.getBoundingClientRect().right <= innerWidth + 1 || element.closest('.visually-hidden')) return false;
  for (let box = element; box.tagName !== 'MAIN'; box = box.parentElement) if (/auto|scroll/.test(getComputedStyle(box).overflowX)) return false;
  return true;
}).map(element => element.outerHTML.slice(0, 200))'''


@pytest.fixture(scope='session')
def site(tmp_path_factory):
    """The folder of a freshly built site."""
    folder = tmp_path_factory.mktemp('site')
    docs.build(folder)
    return folder


@pytest.fixture(scope='session')
def soups(site): return {p.relative_to(site).as_posix(): BeautifulSoup(p.read_text(), 'html.parser') for p in site.rglob('*.html')}


@pytest.fixture(scope='session')
def served(site):
    """The site on loopback, as `make serve` shows it."""
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments): pass
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()


@pytest.fixture(scope='session')
def browser():
    ready = chromium.starting()
    if not ready: pytest.fail('these tests need Chromium: `make test` brings it, and so does `python tests/browser.py`')
    with sync_playwright() as playwright:
        started = chromium.launch(playwright, ready[0])
        yield started
        started.close()


@pytest.fixture
def tab(browser):
    """A new window, and every address it asks for."""
    context = browser.new_context(viewport={'width': 1300, 'height': 900}, permissions=['clipboard-read', 'clipboard-write'])
    page = context.new_page()
    page.asked = []
    page.on('request', lambda request: page.asked.append(request.url))
    yield page
    context.close()


def test_every_notebook_is_a_page_of_the_site_and_small(site, soups):
    assert sorted(soups) == PAGES
    assert {name: size for name in PAGES if (size := (site / name).stat().st_size) > 1.5e6} == {}
    assert (site / 'llms.txt').read_text().count('](') == len(PAGES)


@pytest.mark.parametrize('name', PAGES)
def test_links_images_and_fragments_lead_somewhere(site, soups, name):
    broken = []
    for element in soups[name].select('[href], [src]'):
        link = element.get('href') or element.get('src')
        address = urlsplit(link)
        if address.scheme or address.netloc or not link: continue
        target = ((site / name).parent / unquote(address.path)).resolve() if address.path else site / name
        if target.is_dir(): target /= 'index.html'
        found = target.exists()
        if found and address.fragment: found = bool(soups[target.relative_to(site).as_posix()].find(id=unquote(address.fragment)))
        if not found: broken.append(link)
    assert not broken


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_a_page_shows_what_the_notebook_holds(soups, path):
    soup = soups[path.relative_to(ROOT / 'nbs').with_suffix('.html').as_posix()]
    shown = {image['src'] for image in soup.select('main img')}
    text = ''.join(soup.main.get_text().split())
    for cell in json.loads(path.read_text())['cells']:
        if re.search(r'^#\| *(hide|export\b|default_exp)', ''.join(cell['source']), re.M): continue
        for output in cell.get('outputs', []):
            data = output.get('data', {'text/plain': output.get('text', '')})
            if 'image/png' in data: assert f"data:image/png;base64,{data['image/png'].strip()}" in shown
            elif not {'text/html', 'text/markdown'} & set(data): assert ''.join(''.join(data['text/plain']).split()) in text
            elif 'text/html' in data:
                words = BeautifulSoup(''.join(data['text/html']), 'html.parser')
                for style in words.select('style'): style.decompose()
                assert ''.join(words.get_text().split()) in text


def test_every_picture_says_what_it_shows(soups):
    for name, soup in soups.items():
        for image in soup.select('main img'): assert len(image.get('alt', '')) > 60, name


def test_every_page_is_in_the_sidebar(soups):
    there = {a['href'].removeprefix('./') for a in soups['index.html'].select('#quarto-sidebar a.sidebar-link[href]')}
    assert set(PAGES) <= there


LESSONS = [p for p in NOTEBOOKS if p.parent.name == 'lessons']


def colab_link(name): return docs.COLAB.format(user='sparse-probing', repo='sparse_probing', name=name)


def test_lessons_link_the_glossary_and_colab(soups):
    for name, soup in soups.items():
        if not name.startswith('lessons/'): continue
        assert len(soup.select('a.term[href^="../reference/glossary.html#"]')) > 5
        assert soup.select_one('.launch a')['href'] == colab_link(name.removeprefix('lessons/').replace('.html', '.ipynb'))
        assert {'Edit this page', 'Report an issue'} <= {a.get_text().strip() for a in soup.select('.toc-actions a')}
        assert soup.select('.page-navigation a') and soup.select('#TOC a')


def test_every_link_to_colab_has_its_copy(site):
    linked = set(re.findall(r'https://colab[^)"]+', (ROOT / 'README.md').read_text()))
    assert linked == {colab_link(path.name) for path in LESSONS}
    assert {path.name for path in (site / 'colab').glob('*.ipynb')} == {path.name for path in LESSONS}


def code_of(notebook): return [cell for cell in notebook.cells if cell.cell_type == 'code']


@pytest.mark.parametrize('path', LESSONS, ids=lambda p: p.stem)
def test_a_copy_for_colab_is_clean_and_begins_with_the_install(site, path):
    copy = nbformat.read(site / 'colab' / path.name, 4)
    nbformat.validate(copy)
    assert copy.cells[0].cell_type == 'code' and re.search(r'^!pip install .*git\+https://github.com/sparse-probing/sparse_probing && sparse-probing fetch$', copy.cells[0].source, re.M)
    assert all(not cell.outputs and cell.execution_count is None for cell in code_of(copy))
    for cell in code_of(copy)[1:]: ast.parse(cell.source)
    for cell in copy.cells: assert '::::' not in cell.source and '#| eval: false' not in cell.source
    for cell in copy.cells: assert cell.cell_type == 'code' or not re.search(r'\]\((?!https?:|#)[^)]*\.\w+[)#]', cell.source)
    for table in path.parent.glob('*.parquet'): # what the lesson reads beside it
        assert (table.name in copy.cells[0].source) == (f"'{table.name}'" in path.read_text()) and (site / 'colab' / table.name).read_bytes() == table.read_bytes()


@pytest.mark.parametrize('path', LESSONS, ids=lambda p: p.stem)
def test_a_copy_for_colab_folds_its_answers_and_solutions(site, path):
    copy = nbformat.read(site / 'colab' / path.name, 4)
    start = next(k for k, cell in enumerate(copy.cells) if cell.source.startswith('## Solutions'))
    assert copy.metadata.colab.collapsed_sections == [copy.cells[start].metadata.id]
    solutions = [cell for cell in copy.cells[start:] if cell.cell_type == 'code']
    answers = [cell for cell in code_of(copy) if '#| echo: false' in cell.source]
    assert solutions and answers
    for cell in [*solutions, *answers]: assert cell.metadata.cellView == 'form' and cell.source.startswith(('#@title Solution\n', '#@title Answer\n'))


def test_lessons_that_are_planned_are_shown_and_are_no_links(soups):
    home = soups['index.html']
    side = [item.get_text().strip() for item in home.select('#quarto-sidebar span.sidebar-link')]
    rows = [[cell.get_text().strip() for cell in row.select('td')] for row in home.select('main tr') if 'planned' in row.get_text()]
    assert side == [f'{number} {title} (planned)' for number, title, *_ in rows] and {row[0] for row in rows} == {'11', '12', '13', '14', '16'}
    assert not [row for row in home.select('main tr') if 'planned' in row.get_text() and row.select('a')]
    assert not home.select('#quarto-sidebar a.sidebar-link[href=""]')
    parts = [part.get_text().strip() for part in home.select('main td strong')]
    assert parts == ['I Text and neurons', 'II Sparse probes', 'III Do we believe it?', 'IV At scale, and all together']
    assert set(parts) <= {section.get_text().strip() for section in home.select('#quarto-sidebar .sidebar-item-section > .sidebar-item-container .sidebar-item-text')}


@pytest.mark.parametrize('name', PAGES)
def test_a_page_in_a_browser(tab, served, site, name):
    """It asks no other host, passes axe in light and dark with all folds open, and does not scroll sideways on a phone."""
    wrong = []
    for scheme in 'light', 'dark':
        tab.emulate_media(color_scheme='light')
        tab.goto(f'{served}/{name}')
        if scheme == 'dark': tab.click('a.quarto-color-scheme-toggle:visible')
        tab.wait_for_function('dark => document.documentElement.classList.contains("quarto-dark") === dark', arg=scheme == 'dark')
        tab.evaluate('document.querySelectorAll("details").forEach(fold => fold.open = true)')
        tab.wait_for_timeout(300)  # colours fade in
        for v in Axe().run(tab).response['violations']:
            if v['impact'] != 'minor': wrong += [f"{scheme} {v['id']}: {node['html'][:200]}" for node in v['nodes'][:9]]
    assert not wrong, "\n".join(wrong)
    tab.set_viewport_size({'width': 375, 'height': 800})
    tab.reload()
    assert tab.evaluate('document.scrollingElement.scrollWidth') <= 375
    assert tab.evaluate(CUT_OFF) == []
    assert [url for url in tab.asked if not url.startswith((served, 'data:'))] == []


@pytest.mark.parametrize('opened', ['served', 'as files'])
def test_search_finds_the_lesson_that_defines_a_word(tab, served, site, opened):
    root = served if opened == 'served' else site.as_uri()
    tab.goto(f'{root}/lessons/02-tokens.html')
    for word, lesson in (('density', 'Probe'), ('neuron_input', 'Activations'), ('leading space', 'Tokens')):
        tab.fill('.smalldocs-search input:visible', word)
        tab.wait_for_selector('.search-result-title')
        tab.wait_for_timeout(400)  # the search waits for the end of the typing
        assert lesson in tab.locator('.search-result-title').all_inner_texts()
    tab.fill('.smalldocs-search input:visible', 'density')
    tab.wait_for_timeout(400)
    tab.locator('.search-result', has=tab.get_by_text('Probe', exact=True)).first.click()
    tab.wait_for_url('**/lessons/05-probe.html*')
    assert all(url.startswith((root, 'data:')) for url in tab.asked)


def test_code_can_be_copied(tab, served):
    tab.goto(f'{served}/index.html')
    button = tab.locator('.code-copy-button').last
    button.click()
    copied = tab.evaluate('navigator.clipboard.readText()')
    assert copied.strip() and copied.strip() in tab.locator('main').inner_text()


def test_the_cheat_sheet_prints_on_two_sides(tab, served):
    tab.goto(f'{served}/reference/cheatsheet.html')
    assert len(re.findall(rb'/Type\s*/Page\b', tab.pdf(format='A4'))) == 2


def test_a_picture_is_whole_and_has_its_size(soups):
    for soup in soups.values():
        for image in soup.select('main img'): assert int(image['width']) < 1000 and base64.b64decode(image['src'].partition(',')[2])[:4] == b'\x89PNG'
