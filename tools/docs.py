"""Build the site: `make docs`. The notebooks become `_docs/`, which asks no other host."""
import ast
import json
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from bs4 import BeautifulSoup
from latex2mathml.converter import convert
from nbdev import processors
from nbdev.config import get_config
from nbdev.serve import proc_nbs
from smalldocs.config import load
from smalldocs.site import Site

from sparse_probing.course.lessons import learners_copy, lesson_paths
from tools.sync import ROOT

# `colab` is a branch, which the workflow makes of `_docs/colab`.
COLAB = 'https://colab.research.google.com/github/{user}/{repo}/blob/colab/{name}'
TABLE = 'https://raw.githubusercontent.com/{user}/{repo}/colab/{name}'
INSTALL = """# Colab starts with an empty machine: this installs the package, and fetches the model
# and the text. It takes some minutes.
!pip install --quiet 'sparse_probing[course,embedded] @ git+https://github.com/{user}/{repo}'
!sparse-probing fetch"""
NOT_RUNNING = ['a', 'code', 'pre', 'math', 'header', 'table'] # no running text
DEFINITIONS = ast.FunctionDef, ast.ClassDef
LANDMARKS = {
    '#quarto-sidebar': 'Pages',
    '#TOC': 'On this page',
    '.toc-actions': 'This page in the repository',
    '.page-navigation': 'Previous and next page',
    '.quarto-secondary-nav': 'Where you are',
}

# The search of smalldocs fetches its index, which a browser forbids to a page that was opened as
# a file. A script may be loaded.
SEARCH = """const fetched = window.fetch;
window.fetch = (url, ...rest) => !String(url).endsWith('search.json') ? fetched(url, ...rest) :
  new Promise((resolve, reject) => {
    const script = document.createElement('script');
    script.src = String(url).replace(/json$/, 'js');
    script.onload = () => resolve({json: () => window.searchIndex});
    script.onerror = reject;
    document.head.append(script);
  });
"""


def build(out: Path) -> Site:
    """Process the notebooks, render them, finish every page; raise where smalldocs warns."""
    settings, folder = get_config(), processed()
    site = Site(load(folder), quiet=True)
    site.out = out
    site.build()
    # The name that `output-file` would have given is the one the file has.
    warnings = [warning for warning in site.warnings if 'output-file' not in warning]
    assert not warnings, '\n'.join(warnings)
    glossary = terms(out / 'reference/glossary.html')
    for page in out.rglob('*.html'):
        if page.parent.name == 'studies': continue # each is whole by itself, and stays as it is
        page.write_text(finish(page, out, glossary, settings))
    for css in out.rglob('*.css'):
        css.write_text(re.sub(r'@import url\(https?:[^)]*\);?', '', css.read_text()))
    write_search(out)
    (out / '.nojekyll').touch()
    write_colab(out / 'colab', settings)
    return site


def processed() -> Path:
    """The folder of the notebooks as nbdev prepares them for a site."""
    settings = get_config()
    # A reader wants to see how a thing works: what a module keeps to itself is shown like the rest.
    processors._hide_dirs.discard('exporti')
    folder = proc_nbs(n_workers=0, force=True)
    host = f'{settings.doc_host}{settings.doc_baseurl}/'
    for notebook in folder.rglob('*.ipynb'):
        notebook.write_text(name_folds(notebook.read_text().replace(host, '/')))
    return folder


def name_folds(text: str) -> str:
    """A notebook whose folded cells say what they hold: the names they define, or the imports."""
    notebook = json.loads(text)
    for cell in notebook['cells']:
        source = ''.join(cell['source'])
        if not re.search(r'^#\| *code-fold: *true', source, re.M): continue
        names = re.findall(r'^(?:def|class) (\w+)|^([A-Z_]+) = ', source, re.M)
        title = ', '.join(filter(None, (name for pair in names for name in pair))) or 'Imports'
        summary = rf'\1#| code-summary: {title}\n'
        cell['source'] = re.sub(r'(#\| *code-fold: *true\n)', summary, source)
    return json.dumps(notebook)


def write_search(out: Path) -> None:
    """Put the index of the search where a page that was opened as a file can load it."""
    index = json.dumps(json.loads((out / 'search.json').read_text()), ensure_ascii=False)
    (out / 'search.js').write_text(f'window.searchIndex = {index};\n')
    (out / 'site_libs/search.js').write_text(SEARCH)


def write_colab(folder: Path, settings) -> None:
    """Write a copy of each lesson for Colab, and the tables that lessons read beside them."""
    folder.mkdir()
    for path in lesson_paths(): nbformat.write(colab_copy(path, settings), folder / path.name)
    for table in lesson_paths()[0].parent.glob('*.parquet'):
        shutil.copyfile(table, folder / table.name)


def colab_copy(path: Path, settings):
    """A learner's copy for Colab.

    Its first cell installs, solutions and answers are folded, links lead to the site.
    """
    notebook, names = learners_copy(path), {'user': settings.user, 'repo': settings.repo}
    lines = [INSTALL.format(**names)]
    for table in sorted(path.parent.glob('*.parquet')):
        read = any(table.name in cell.source for cell in notebook.cells)
        if read: lines.append(f'!wget --quiet {TABLE.format(**names, name=table.name)}')
    for cell in notebook.cells:
        if cell.cell_type == 'markdown': cell.source = from_site(cell.source, path, settings)
        elif cell.metadata.pop('jupyter', {}).get('source_hidden'): fold_in_colab(cell)
    solutions = next(cell for cell in notebook.cells if cell.source.startswith('## Solutions'))
    solutions.metadata['id'] = solutions.id
    notebook.metadata['colab'] = {'collapsed_sections': [solutions.id]}
    notebook.cells.insert(0, nbformat.v4.new_code_cell('\n'.join(lines), id='install'))
    return notebook


def fold_in_colab(cell) -> None:
    """Fold a cell: Colab knows a fold by a title and `cellView`."""
    is_needed = re.search(r'^#\| *(code-fold|hide|default_exp)', cell.source, re.M)
    title = 'Needed, and not explained here' if is_needed else 'Solution'
    if cell.source.startswith('#| echo'): title = 'Answer'
    cell.outputs = []
    cell.metadata['cellView'] = 'form'
    cell.source = f'#@title {title}\n{cell.source}'


def from_site(markdown: str, path: Path, settings) -> str:
    """Markdown of a notebook whose links to other notebooks lead to their pages on the site."""
    def address(link):
        notebook = (path.parent / link[1]).resolve().relative_to(ROOT / 'nbs')
        page = notebook.with_suffix('.html').as_posix()
        return f']({settings.doc_host}{settings.doc_baseurl}/{page}{link[2] or ""})'
    return re.sub(r'\]\((?!https?:)([^)#]+\.ipynb)(#[^)]+)?\)', address, markdown)


def terms(glossary: Path) -> dict[str, tuple[str, str]]:
    """The glossary's words, longest first, each with its anchor and its first sentence."""
    soup = BeautifulSoup(glossary.read_text(), 'html.parser')
    definitions = {}
    for heading in soup.main.select('section > h2'):
        sentence = heading.find_next('p').get_text().partition('. ')[0]
        definitions[heading.get_text()] = heading.parent.get('id') or heading['id'], sentence
    return dict(sorted(definitions.items(), key=lambda item: -len(item[0])))


def finish(page: Path, out: Path, glossary: dict, settings) -> str:
    """The HTML of a page, with local maths and search, anchors of functions, and further links."""
    soup = BeautifulSoup(page.read_text(), 'html.parser')
    root = '../' * (len(page.relative_to(out).parts) - 1)
    for element in soup.select('script[src*="//"], link[href*="//"]:not([rel=canonical])'):
        element.decompose()
    soup.head.append(soup.new_tag('script', src=f'{root}site_libs/search.js'))
    name_landmarks(soup)
    for planned in soup.select('#quarto-sidebar a.sidebar-link[href=""]'):
        planned.name = 'span' # a lesson that is not there yet is no link
        del planned['href']
    for maths in soup.select('span.math'): to_mathml(maths)
    for header in soup.select('.callout-header[data-bs-toggle]'): fold(header, soup)
    for cell in soup.select('.cell'): anchor(cell, soup)
    size_pictures(soup, ROOT / 'nbs' / page.relative_to(out).with_suffix('.ipynb'))
    for wide in soup.select('main pre, main math[display=block], .cell-output-display, .sd-table'):
        wide['tabindex'] = '0' # may scroll, also by the keyboard
    if page.parent.name in ('lessons', 'selftest'):
        link_terms(soup, glossary, f'{root}reference/glossary.html')
    if page.parent.name == 'lessons':
        notebook = f'{page.stem}.ipynb'
        launch(soup, COLAB.format(user=settings.user, repo=settings.repo, name=notebook))
    return str(soup)


def name_landmarks(soup) -> None:
    """Tell the navigations of a page apart for those who hear it."""
    for selector, label in LANDMARKS.items():
        for element in soup.select(selector):
            element['role'], element['aria-label'] = 'navigation', label
    for toggle in soup.select('#quarto-sidebar a[data-bs-toggle]'): toggle['role'] = 'button'


def to_mathml(maths) -> None:
    """Turn a formula in TeX into MathML, which a browser draws by itself."""
    display = 'block' if 'display' in maths['class'] else 'inline'
    formula = convert(maths.string.strip()[2:-2], display=display)
    maths.replace_with(BeautifulSoup(formula, 'html.parser'))


PROSE = '675' # pixels that a picture of the prose is wide


def size_pictures(soup, notebook: Path) -> None:
    """Show each picture at the width its notebook says; it has twice as many pixels."""
    cells = json.loads(notebook.read_text())['cells']
    outputs = [output for cell in cells for output in cell.get('outputs', ())]
    pictures = [output for output in outputs if 'image/png' in output.get('data', ())]
    prose, drawn = [], [] # the pictures of the prose lie in `nbs/figures`
    for image in soup.select('main img'):
        (prose if 'figures/' in image['src'] else drawn).append(image)
    for image in prose: image['width'] = PROSE
    for image, picture in zip(drawn, pictures, strict=True):
        image['width'] = picture['metadata']['image/png']['width']


def fold(header, soup) -> None:
    """Turn a collapsed callout into the fold that needs no script and obeys the keyboard."""
    summary, details = soup.new_tag('summary'), soup.new_tag('details')
    summary.string = header.select_one('.callout-title-container').get_text().strip()
    details.extend([summary, header.parent.select_one('.callout-body')])
    header.parent.replace_with(details)


def anchor(cell, soup) -> None:
    """Give every function, class and method of a cell the anchor that backticked names link to."""
    code = cell.select_one('code.sourceCode')
    try: tree = ast.parse(code.get_text()) if code else ast.Module([], [])
    except SyntaxError: return
    names = []
    for node in tree.body:
        if not isinstance(node, DEFINITIONS): continue
        names.append(node.name)
        if isinstance(node, ast.ClassDef):
            methods = [member for member in node.body if isinstance(member, DEFINITIONS)]
            names += [f'{node.name}.{method.name}' for method in methods]
    for name in map(str.lower, names):
        if not soup.find(id=name): cell.insert(0, soup.new_tag('span', id=name))


def link_terms(soup, glossary: dict, target: str) -> None:
    """Link the first mention of each glossary word in running text."""
    for term, (anchor, definition) in glossary.items():
        flags = re.I if len(term) > 1 else 0 # C and k are written as they are
        pattern = re.compile(rf'(?<![\w-]){re.escape(term)}(?:s|es)?(?![\w-])', flags)
        for text in soup.main.find_all(string=pattern):
            if text.find_parent(NOT_RUNNING) or not text.find_parent(['p', 'li']): continue
            match = pattern.search(text)
            link = soup.new_tag('a', href=f'{target}#{anchor}', title=definition)
            link['class'] = 'term'
            link.string = match[0]
            text.replace_with(text[:match.start()], link, text[match.end():])
            break


def launch(soup, colab: str) -> None:
    """Put a link that opens the lesson in Colab under its title."""
    line = soup.new_tag('p', attrs={'class': 'launch'})
    link = soup.new_tag('a', href=colab)
    link.string = 'Open in Colab'
    line.append(link)
    soup.select_one('#title-block-header').append(line)


def main() -> None:
    """Build the site beside the old one, and put it in its place."""
    with TemporaryDirectory(dir=ROOT, prefix='.docs-') as folder:
        site = build(Path(folder) / 'site')
        shutil.rmtree(ROOT / '_docs', ignore_errors=True)
        (Path(folder) / 'site').rename(ROOT / '_docs')
    print(f'{len(site.pages)} pages in _docs/: open _docs/index.html')


if __name__ == '__main__': main()
