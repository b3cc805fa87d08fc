"""The site: whole, readable by everyone, the same as files, showing what the notebooks hold."""
import ast
import base64
import json
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from helpers.pages import CUT_OFF, violations

from tools import docs
from tools.sync import NOTEBOOKS, ROOT


def page_of(notebook): return notebook.relative_to(ROOT / 'nbs').with_suffix('.html').as_posix()


PAGES = sorted(map(page_of, NOTEBOOKS))
LESSONS = [path for path in NOTEBOOKS if path.parent.name == 'lessons']

# Code, output and tables that scroll sideways.
SCROLLED = '''() => [...document.querySelectorAll('main pre, main .cell-output-display')]
  .filter(element => element.scrollWidth > element.clientWidth + 1)
  .map(element => element.textContent.split('\\n').toSorted((a, b) => b.length - a.length)[0])'''

# Code has thousands of coloured words of a dozen kinds. One of each in each kind of box is enough
# to judge its contrast, and the others become plain text, which is judged too.
ONE_OF_EACH_COLOUR = '''() => {
  const seen = new Set();
  for (const word of [...document.querySelectorAll('main pre span')]) {
    const box = getComputedStyle(word.closest('pre')).backgroundColor;
    const kind = [word.className, getComputedStyle(word).color, box].join();
    if (word.children.length) continue;
    if (seen.has(kind)) word.replaceWith(word.textContent);
    seen.add(kind);
  }
  document.querySelector('main').normalize();
}'''
OPEN_FOLDS = 'document.querySelectorAll("details").forEach(fold => fold.open = true)'
IS_DARK = 'dark => document.documentElement.classList.contains("quarto-dark") === dark'


@pytest.fixture(scope='session')
def site(tmp_path_factory):
    """The folder of a freshly built site."""
    folder = tmp_path_factory.mktemp('site')
    docs.build(folder)
    return folder


@pytest.fixture(scope='session')
def soups(site):
    return {page.relative_to(site).as_posix(): BeautifulSoup(page.read_text(), 'html.parser')
            for page in site.rglob('*.html') if page.parent.name != 'studies'}


@pytest.fixture(scope='session')
def served(site):
    """The site on loopback, as `make serve` shows it."""
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments): pass
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()


@pytest.fixture
def tab(browser):
    """A new window, and every address it asks for."""
    context = browser.new_context(viewport={'width': 1280, 'height': 900},
                                  permissions=['clipboard-read', 'clipboard-write'])
    page = context.new_page()
    page.asked = []
    page.on('request', lambda request: page.asked.append(request.url))
    yield page
    context.close()


def test_every_notebook_is_a_page_of_the_site(soups): assert sorted(soups) == PAGES


STUDIES = sorted(path.name for path in (ROOT / 'nbs/studies').glob('*.html'))


@pytest.mark.parametrize('name', STUDIES)
def test_a_finished_study_is_on_the_site_as_it_was_written(name, site, soups):
    assert (site / 'studies' / name).read_bytes() == (ROOT / 'nbs/studies' / name).read_bytes()
    links = soups['howto/two_studies.html'].select('main a[href]')
    assert f'../studies/{name}' in {link['href'] for link in links}


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('name', STUDIES)
def test_a_finished_study_can_be_read_by_everyone(name, scheme, site, tab):
    tab.emulate_media(color_scheme=scheme)
    tab.goto((site / 'studies' / name).as_uri())
    assert [address for address in tab.asked if not address.startswith(('file:', 'data:'))] == []
    assert violations(tab) == []


def test_a_page_is_small(site):
    sizes = {name: (site / name).stat().st_size for name in PAGES}
    assert {name: size for name, size in sizes.items() if size > 1.5e6} == {}


def test_the_list_for_language_models_has_every_page(site):
    assert (site / 'llms.txt').read_text().count('](') == len(PAGES)


def leads_somewhere(link, page, site, soups):
    """Whether a link of a page is to another site, or to a file, and place in it, of this one."""
    address = urlsplit(link)
    if address.scheme or address.netloc: return True
    target = (page.parent / unquote(address.path)).resolve() if address.path else page
    if target.is_dir(): target /= 'index.html'
    if not target.exists(): return False
    if not address.fragment: return True
    return bool(soups[target.relative_to(site).as_posix()].find(id=unquote(address.fragment)))


@pytest.mark.parametrize('name', PAGES)
def test_links_images_and_fragments_lead_somewhere(site, soups, name):
    elements = soups[name].select('[href], [src]')
    links = {element.get('href') or element.get('src') for element in elements} - {'', None}
    assert [link for link in links if not leads_somewhere(link, site / name, site, soups)] == []


def cells_of(path): return json.loads(path.read_text())['cells']


def outputs_of(path):
    """What the cells of a notebook put out that are shown, each as a type -> content."""
    for cell in cells_of(path):
        if re.search(r'^#\| *(hide|export\b|default_exp)', ''.join(cell['source']), re.M): continue
        for output in cell.get('outputs', []):
            yield output.get('data', {'text/plain': output.get('text', '')})


def letters(text): return ''.join(''.join(text).split())


def letters_of_html(html):
    soup = BeautifulSoup(''.join(html), 'html.parser')
    for style in soup.select('style'): style.decompose()
    return letters(soup.get_text())


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_a_page_shows_what_the_notebook_puts_out(soups, path):
    main = soups[page_of(path)].main
    pictures, text = {image['src'] for image in main.select('img')}, letters(main.get_text())
    for data in outputs_of(path):
        if png := data.get('image/png'): assert f'data:image/png;base64,{png.strip()}' in pictures
        elif html := data.get('text/html'): assert letters_of_html(html) in text
        elif 'text/markdown' not in data: assert letters(data['text/plain']) in text


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_a_page_shows_all_that_the_notebook_defines(soups, path):
    text = letters(soups[page_of(path)].main.get_text())
    for cell in cells_of(path):
        source = ''.join(cell['source'])
        if not re.match(r'#\| *exports?i?\b\s*\n', source): continue
        definitions = re.findall(r'^(?:def|class) \w+', source, re.M)
        assert [line for line in definitions if letters(line) not in text] == []


def test_every_picture_says_what_it_shows(soups):
    for name, soup in soups.items():
        for image in soup.select('main img'):
            assert len(image.get('alt', '')) > 60, name


def sidebar():
    """The notebooks that `_quarto.yml` lists."""
    def links(entries):
        for entry in entries:
            if isinstance(entry, str): yield entry
            elif 'contents' in entry: yield from links(entry['contents'])
            elif 'href' in entry: yield entry['href']
    settings = yaml.safe_load((ROOT / '_quarto.yml').read_text())
    return list(links(settings['website']['sidebar']['contents']))


def test_the_sidebar_lists_every_notebook_once():
    assert sorted(sidebar()) == sorted(p.relative_to(ROOT / 'nbs').as_posix() for p in NOTEBOOKS)


def test_the_sidebar_of_a_page_leads_to_every_page(soups):
    links = soups['index.html'].select('#quarto-sidebar a.sidebar-link[href]')
    assert set(PAGES) <= {link['href'].removeprefix('./') for link in links}


def colab_link(name):
    return docs.COLAB.format(user='sparse-probing', repo='sparse_probing', name=name)


@pytest.mark.parametrize('path', LESSONS, ids=lambda p: p.stem)
def test_a_lesson_links_the_glossary_colab_and_what_is_around_it(soups, path):
    soup = soups[page_of(path)]
    assert len(soup.select('a.term[href^="../reference/glossary.html#"]')) > 5
    assert soup.select_one('.launch a')['href'] == colab_link(path.name)
    actions = {link.get_text().strip() for link in soup.select('.toc-actions a')}
    assert {'Edit this page', 'Report an issue'} <= actions
    assert soup.select('.page-navigation a')
    assert soup.select('#TOC a')


def test_the_readme_links_every_lesson_in_colab():
    links = set(re.findall(r'https://colab[^)"]+', (ROOT / 'README.md').read_text()))
    assert links == {colab_link(path.name) for path in LESSONS}


def test_every_lesson_has_a_copy_for_colab(site):
    copies = {path.name for path in (site / 'colab').glob('*.ipynb')}
    assert copies == {path.name for path in LESSONS}


def code_of(notebook): return [cell for cell in notebook.cells if cell.cell_type == 'code']


REPOSITORY = 'git+https://github.com/sparse-probing/sparse_probing'
INSTALL = f"""!pip install --quiet 'sparse_probing[course,embedded] @ {REPOSITORY}'
!sparse-probing fetch
"""


@pytest.mark.parametrize('path', LESSONS, ids=lambda p: p.stem)
def test_a_copy_for_colab_is_clean_and_begins_with_the_install(site, path):
    copy = nbformat.read(site / 'colab' / path.name, 4)
    nbformat.validate(copy)
    first = copy.cells[0]
    assert first.cell_type == 'code'
    assert INSTALL in f'{first.source}\n'
    for cell in code_of(copy):
        assert not cell.outputs
        assert cell.execution_count is None
    for cell in code_of(copy)[1:]: ast.parse(cell.source)
    for cell in copy.cells:
        assert '::::' not in cell.source
        assert '#| eval: false' not in cell.source
        if cell.cell_type == 'markdown': # every link leads to a place that Colab has
            assert not re.search(r'\]\((?!https?:|#)[^)]*\.\w+[)#]', cell.source)


@pytest.mark.parametrize('path', LESSONS, ids=lambda p: p.stem)
def test_a_copy_for_colab_fetches_the_tables_that_its_lesson_reads(site, path):
    first = nbformat.read(site / 'colab' / path.name, 4).cells[0]
    for table in path.parent.glob('*.parquet'):
        assert (table.name in first.source) == (f"'{table.name}'" in path.read_text())
        assert (site / 'colab' / table.name).read_bytes() == table.read_bytes()


@pytest.mark.parametrize('path', LESSONS, ids=lambda p: p.stem)
def test_a_copy_for_colab_folds_its_answers_and_solutions(site, path):
    copy = nbformat.read(site / 'colab' / path.name, 4)
    start = next(k for k, cell in enumerate(copy.cells) if cell.source.startswith('## Solutions'))
    assert copy.metadata.colab.collapsed_sections == [copy.cells[start].metadata.id]
    solutions = [cell for cell in copy.cells[start:] if cell.cell_type == 'code']
    answers = [cell for cell in code_of(copy) if '#| echo: false' in cell.source]
    assert solutions
    assert answers
    for cell in [*solutions, *answers]:
        assert cell.metadata.cellView == 'form'
        assert cell.source.startswith(('#@title Solution\n', '#@title Answer\n'))


def texts(elements): return [element.get_text().strip() for element in elements]


def planned(home): return [row for row in home.select('main tr') if 'planned' in row.get_text()]


def test_lessons_that_are_planned_are_shown(soups):
    rows = [texts(row.select('td')) for row in planned(soups['index.html'])]
    assert {row[0] for row in rows} == {'14'}
    entries = texts(soups['index.html'].select('#quarto-sidebar span.sidebar-link'))
    assert entries == [f'{number} {title} (planned)' for number, title, *_ in rows]


def test_lessons_that_are_planned_are_no_links(soups):
    assert not [row for row in planned(soups['index.html']) if row.select('a')]
    assert not soups['index.html'].select('#quarto-sidebar a.sidebar-link[href=""]')


def test_the_four_parts_are_those_of_the_sidebar(soups):
    parts = texts(soups['index.html'].select('main td strong'))
    assert parts == ['I Text and neurons', 'II Sparse probes', 'III Do we believe it?',
                     'IV At scale, and all together']
    headings = '#quarto-sidebar .sidebar-item-section > .sidebar-item-container .sidebar-item-text'
    assert set(parts) <= set(texts(soups['index.html'].select(headings)))


@pytest.mark.parametrize('name', PAGES)
def test_a_page_is_accessible_in_light_and_dark(tab, served, name):
    tab.emulate_media(color_scheme='light')
    tab.goto(f'{served}/{name}')
    tab.evaluate(OPEN_FOLDS)
    tab.evaluate(ONE_OF_EACH_COLOUR)
    tab.wait_for_timeout(300) # colours fade in
    assert violations(tab) == []
    tab.click('a.quarto-color-scheme-toggle:visible')
    tab.wait_for_function(IS_DARK, arg=True)
    tab.wait_for_timeout(300)
    assert violations(tab) == []


@pytest.mark.parametrize('name', PAGES)
def test_a_page_asks_no_other_host(tab, served, name):
    tab.goto(f'{served}/{name}')
    assert [url for url in tab.asked if not url.startswith((served, 'data:'))] == []


@pytest.mark.parametrize('name', PAGES)
def test_no_code_scrolls_sideways_at_1280(tab, served, name):
    tab.goto(f'{served}/{name}')
    tab.evaluate(OPEN_FOLDS)
    assert tab.evaluate(SCROLLED) == []


@pytest.mark.parametrize('name', PAGES)
def test_a_page_does_not_scroll_sideways_on_a_phone(tab, served, name):
    tab.set_viewport_size({'width': 375, 'height': 800})
    tab.goto(f'{served}/{name}')
    assert tab.evaluate('document.scrollingElement.scrollWidth') <= 375
    assert tab.evaluate(CUT_OFF) == []


@pytest.mark.parametrize('opened', ['served', 'as files'])
def test_search_finds_the_lesson_that_defines_a_word(tab, served, site, opened):
    root = served if opened == 'served' else site.as_uri()
    tab.goto(f'{root}/lessons/02-tokens.html')
    lessons = {'density': 'Probe', 'leading space': 'Tokens', 'sparsity_path': 'Path'}
    for word, lesson in lessons.items():
        tab.fill('.smalldocs-search input:visible', word)
        tab.wait_for_selector('.search-result-title')
        tab.wait_for_timeout(400) # the search waits for the end of the typing
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
        for image in soup.select('main img'):
            assert int(image['width']) < 1000
            inside, drawn = image['src'].startswith('data:'), image['src'].partition(',')[2]
            if inside: assert base64.b64decode(drawn)[:4] == b'\x89PNG'
            else: assert (ROOT / 'nbs/figures' / image['src'].rpartition('/')[2]).is_file()
