"""The report: one file that asks nobody for anything, is read by everyone, and runs no text."""
import os
import re
from dataclasses import fields

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from helpers.apart import python
from helpers.pages import CUT_OFF, violations
from markupsafe import Markup, escape
from matplotlib.figure import Figure as Drawn

from sparse_probing import plots
from sparse_probing.report import Figure, Grid, Heatmaps, Page, Section, Steps, validate_steps

NASTY = [
    '<script>hacked()</script>', '"><img src=x onerror=hacked()>', "' onclick='hacked()' x='",
    '</script><script>hacked()</script>', '</style></title></textarea><svg onload=hacked()>',
    '<!-- not a comment', ']]>', '&lt;b&gt; &amp; <b>', '{{ 7 * 7 }} {% raw %}', '${hacked()}`',
    '\u2028hacked()\u2029', 'javascript:hacked()', '\u202eturned', '\\u003cscript>',
    '日本 \U0001f642',
]
PHONE = {'width': 375, 'height': 800}
SPACE = re.compile(r'\s+')


def heatmap(tokens, titles=()):
    """A fragment as it is made elsewhere, escaped."""
    titles = titles or tokens
    spans = ''.join(f'<span class="tok" data-value="{k / 10}" title="{escape(title)}" '
                    f'style="background:#cfe3f2;color:#111">{escape(token)}</span>'
                    for k, (token, title) in enumerate(zip(tokens, titles)))
    return Markup(f'<figure class="token-heatmap">{spans}</figure>')


def steps_table(name=7):
    """A path of four steps, with a missing score and an interval."""
    kind = type(name)
    return pd.DataFrame({
        'C': [.001, .01, .1, 1], 'nonzero': [0, 1, 2, 40], 'score': [.5, np.nan, .8, .91],
        'low': [.45, np.nan, .78, .88], 'high': [.55, np.nan, .83, .93],
        'neurons': [(), (name,), (name, kind(9)), (*map(kind, range(10, 49)), name)],
        'coefficients': [(), (.5,), (.7, -.2), (*np.linspace(-1, 1, 39), .9)]})


def made_of(text, figure):
    """Every block of a page with a text in every place that takes one: class -> its arguments."""
    table = pd.DataFrame({text: [text, 'b'], 'number': [.5, 1.5]},
                         pd.Index([text, text], name=text))
    return {
        Figure: dict(figure=figure, alt=text, shows=text, shows_not=text),
        Grid: dict(table=table, caption=text, name='grid'),
        Steps: dict(table=steps_table(text), label=text, caption=text, name='steps', chosen=.1),
        Heatmaps: dict(items=[(text, heatmap([text, 'b'])), ('plain', text)], caption=text),
    }


def page_of(text, figure=None):
    """A page with a text in every place that takes one."""
    if figure is None: figure = Drawn(figsize=(2, 1))
    blocks = [block(**words) for block, words in made_of(text, figure).items()]
    first = Section(name=text, title=text, question=text, says=[text, text], blocks=blocks)
    second = Section(name=text, title=text, question=text, says=[text], blocks=[], ran=False)
    return Page(title=text, question=text, verdict=[text, text], plan={text: text},
                sections=[first, second],
                ending={text: text, 'call': text, 'of': {text: {text: text}}})


@pytest.fixture(scope='module')
def page():
    """A report of a usual size: twelve figures, a long and wide table, a path, heatmaps."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(400, 30)), np.repeat([0, 1], 200)
    coef = np.linspace(-1, 1, 30) * (np.arange(30) % 3 == 0)
    ax = plots.selected_neurons(X, y, coef, ('the', 'an')) # thousands of points
    figures = 12 * [Figure(ax, 'Ten neurons.', 'Points.', 'Whether the model uses them.')]
    plt.close()
    columns = [f'column {k} is long' for k in range(14)]
    wide = pd.DataFrame(rng.normal(size=(80, 14)), columns=columns)
    wide.loc[3, 'column 0 is long'] = np.nan
    words = [f'word{k} ' for k in range(60)]
    blocks = [Grid(wide, 'A row for each neuron.', 'neurons'),
              Steps(steps_table(), 'AUC', 'A step for each C.', 'path', .1),
              Heatmaps([('Neuron 7', heatmap(words)), ('Neuron 9', heatmap(words))], 'Shaded.')]
    sections = [Section('few', 'How few?', 'Are two enough?', ['They are.'], blocks),
                Section('read', 'Where?', 'At which layer?', ['At all.'], figures),
                Section('null', 'By chance?', 'Is it?', ['That is not known.'], [], ran=False)]
    return Page('The article', 'Which neurons?', ['Two neurons are enough.'], {'layer': 'by AUC'},
                sections, {'call': 'study(\n  lm)', 'versions': {'numpy': '2.4'}})


@pytest.fixture(scope='module')
def written(page, tmp_path_factory): return page.write(tmp_path_factory.mktemp('report') / 'a.html')


@pytest.fixture
def opened(browser, written):
    """Opens a report from the disk, in a window of its own, and keeps what it asks for and says."""
    contexts = []
    def open_page(path=written[0], **options):
        context = browser.new_context(**{'viewport': {'width': 1280, 'height': 900}} | options)
        contexts.append(context)
        tab = context.new_page()
        tab.asked, tab.said = [], []
        tab.on('request', lambda request: tab.asked.append(request.url))
        tab.on('console', lambda message: tab.said.append(message.text))
        tab.on('pageerror', lambda error: tab.said.append(str(error)))
        tab.on('dialog', lambda dialog: (tab.said.append(dialog.message), dialog.dismiss()))
        tab.goto(path.as_uri())
        return tab
    yield open_page
    for context in contexts: context.close()


def test_a_page_with_twelve_figures_is_small(written, tell):
    size = written[0].stat().st_size
    tell(f'a report with 12 figures: {size / 1e6:.2f} MB')
    assert size < 3e6


def test_the_same_report_has_the_same_bytes(page):
    assert page.html() == page.html()
    first, second = (page_of('a').html() for _ in range(2))
    assert first == second


def test_the_same_figure_has_the_same_bytes():
    grid = pd.DataFrame(np.eye(3), pd.Index(range(3), name='layer'), pd.Index(range(3)))
    ax, again = plots.score_map(grid), plots.score_map(grid)
    plt.close('all')
    pictures = {Figure(axes, 'a', 'a', 'a').source for axes in (ax, ax, again)}
    assert len(pictures) == 1


def test_the_tables_beside_the_page_are_those_that_went_in(page, written):
    grid, steps, _ = page.sections[0].blocks
    assert [path.name for path in written] == ['a.html', 'a-neurons.parquet', 'a-path.parquet']
    pd.testing.assert_frame_equal(pd.read_parquet(written[1]), grid.table)
    back = pd.read_parquet(written[2])
    for name in ('neurons', 'coefficients'): back[name] = back[name].map(tuple)
    pd.testing.assert_frame_equal(back, steps.table)


def test_a_long_table_is_cut_and_says_so(written):
    soup = BeautifulSoup(written[0].read_text(), 'html.parser')
    assert len(soup.select_one('table.sorted-by').select('tbody tr')) == 20
    assert 'The first 20 of 80 rows' in soup.main.get_text()
    assert 'a-neurons.parquet' in soup.main.get_text()


def test_a_piece_for_a_notebook_has_no_name_that_could_clash(page):
    soup = BeautifulSoup(page._repr_html_() * 2, 'html.parser')
    assert soup.select('[id], [for], [aria-labelledby], main, nav, header, h1, h2') == []
    assert len(soup.select('h3')) == 2


def test_headings_go_down_one_level_at_a_time(page):
    for html, start in ((page.html(), 1), (page.fragment(), 3)):
        soup = BeautifulSoup(html, 'html.parser')
        levels = [int(heading.name[1]) for heading in soup.select('h1, h2, h3, h4, h5, h6')]
        assert levels[0] == start and levels.count(start) == 1
        assert all(after - before <= 1 for before, after in zip(levels, levels[1:]))


def test_every_field_that_takes_text_is_walked_over():
    figure = Drawn()
    for block, words in made_of('text', figure).items():
        # an extract goes the way of the table, and has a test of its own
        assert set(words) == {field.name for field in fields(block)} - {'extract'}
    assert {field.name for field in fields(Section)} - {'blocks', 'ran'} == {
        'name', 'title', 'question', 'says'}
    assert {field.name for field in fields(Page)} == {
        'title', 'question', 'verdict', 'plan', 'sections', 'ending'}


@pytest.mark.parametrize('text', NASTY)
def test_an_extract_is_shown_and_the_table_is_kept(text, tmp_path):
    table, extract = pd.DataFrame({'a': range(30)}), pd.DataFrame({text: [text]})
    grid = Grid(table, 'What it is.', 'rows', extract)
    page = Page('t', 'q', ['v'], {'p': 'x'}, [Section('s', 's', 'q', ['s'], [grid])], {'call': 'c'})
    _, file = page.write(tmp_path / 'page.html')
    assert len(pd.read_parquet(file)) == 30
    shown = BeautifulSoup(page.html(), 'html.parser').select_one('table')
    assert text in shown.get_text() and not shown.select('script, img')


# How often a text of `page_of` stands in its body: at the top, in the line of the rungs, the plan,
# the two sections, the figure, grid, steps and heatmaps, and the ending; not those in attributes.
IN_TEXT = 4 + 2 + 2 + (5 + 4) + (2 + 6 + 3 + 4) + (2 + 1 + 3)
IN_CONTENTS = {'html': 2, 'fragment': 0}


@pytest.mark.parametrize('html', ['html', 'fragment'])
@pytest.mark.parametrize('text', NASTY)
def test_text_stays_text(text, html):
    source = getattr(page_of(text), html)()
    soup = BeautifulSoup(source, 'html.parser')
    kinds = [script.get('type') for script in soup.select('script')]
    assert kinds == ['application/json', None]
    assert len(soup.select('img')) == 1
    assert not [tag for tag in soup.find_all() if any(name[:2] == 'on' for name in tag.attrs)]
    assert soup.img['alt'] == text
    assert soup.select_one('.tok')['title'] == text
    data = soup.select_one('script[type]').string
    assert not re.search('[<>&\u2028\u2029]', data)
    for script in soup.select('script, style, title'): script.decompose()
    assert soup.get_text().count(text) == IN_TEXT + IN_CONTENTS[html]


def test_text_is_not_run_by_a_browser(opened, tmp_path):
    text = ' '.join(NASTY)
    path, *_ = page_of(text).write(tmp_path / 'a.html')
    tab = opened(path)
    shown = SPACE.sub(' ', text)
    for place in ('h1', '.verdict p', '.rungs li', 'h2 .rung', 'dd', '.ending pre', 'td', '.tok',
                  '.caption', '.now', 'figcaption', 'th button', '.curve text:last-of-type'):
        assert shown in SPACE.sub(' ', tab.locator(place).first.text_content()), place
    tab.locator('.tok').first.hover()
    assert shown in SPACE.sub(' ', tab.locator('.told').first.text_content())
    tab.locator('th button').first.click()
    assert tab.locator('.bars li').first.text_content()
    assert tab.evaluate('document.scripts.length') == 2
    assert tab.said == []
    assert tab.asked == [path.as_uri()]


def test_a_lone_surrogate_is_written(tmp_path):
    page = Page('a \ud800 b', '', [], {}, [], {})
    assert 'a ? b' in page.write(tmp_path / 'a.html')[0].read_text()


def test_a_page_asks_for_nothing(opened, written):
    tab = opened()
    tab.mouse.wheel(0, 10_000)
    tab.locator('input[type=range]').press('ArrowRight')
    tab.wait_for_timeout(300)
    assert [url for url in tab.asked if not url.startswith('data:')] == [written[0].as_uri()]
    assert tab.said == []
    assert tab.evaluate('[...document.images].every(image => image.naturalWidth > 0)')


def test_a_page_may_ask_for_nothing(opened, written, tmp_path):
    path = tmp_path / 'a.html'
    more = '<img src="other.png"><script>hacked = 1</script><style>h1 { color: red }</style></body>'
    path.write_text(written[0].read_text().replace('</body>', more))
    tab = opened(path)
    assert tab.evaluate('typeof hacked') == 'undefined'
    refused = [line for line in tab.said if 'Content Security Policy' in line]
    assert len(refused) == 3, tab.said


@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [1280, 375])
def test_a_page_is_accessible(opened, scheme, width):
    tab = opened(color_scheme=scheme, viewport={'width': width, 'height': 900})
    assert tab.evaluate('getComputedStyle(document.body).colorScheme') == scheme
    assert violations(tab) == []


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_a_page_is_accessible_without_javascript(opened, written, tmp_path, scheme):
    path = tmp_path / 'a.html' # axe itself is JavaScript, so only the page's own is taken away
    path.write_text(re.sub(r'<script>.*?</script>', '', written[0].read_text(), flags=re.S))
    assert violations(opened(path, color_scheme=scheme)) == []


def test_all_is_read_without_javascript(opened, page):
    tab = opened(java_script_enabled=False)
    text = tab.locator('body').inner_text()
    for words in ('Two neurons are enough.', 'not run', 'That is not known.', 'study(', 'word59',
                  'What it does not show: Whether the model uses them.', 'column 13 is long'):
        assert words in text
    steps = tab.locator('.steps')
    assert steps.locator('table').is_visible()
    assert steps.locator('tbody tr').count() == 4
    assert not steps.locator('input').is_visible()
    assert tab.locator('th button').count() == 0


def focused(tab): return tab.evaluate('''() => { const element = document.activeElement;
    return [element.tagName, element.className, element.textContent.slice(0, 30)].join("|"); }''')


def test_the_keyboard_reaches_all(opened):
    tab, stops = opened(), []
    while (not stops or not stops[-1].startswith('BODY')) and len(stops) < 100:
        tab.keyboard.press('Tab')
        stops.append(focused(tab))
    assert stops[0] == 'A|skip|Skip to the text'
    kinds = [stop.partition('|')[0] for stop in stops]
    assert kinds.count('INPUT') == 1
    assert kinds.count('SUMMARY') == 1
    assert kinds.count('BUTTON') == 14 # those of the steps are in a fold
    assert [stop for stop in stops if '|tok|' in stop] == ['SPAN|tok|word0 '] * 2
    assert any('|scroll|' in stop for stop in stops)


def test_the_skip_link_is_seen_and_skips(opened):
    tab = opened()
    tab.keyboard.press('Tab')
    assert tab.locator('.skip').bounding_box()['y'] >= 0
    tab.keyboard.press('Enter')
    assert tab.evaluate('document.activeElement.id') == 'content'


def test_the_slider_shows_a_step_in_words_and_bars(opened):
    tab = opened()
    slider, bars = tab.locator('input[type=range]'), tab.locator('.bars li')
    assert not tab.locator('.steps table').is_visible()
    assert slider.get_attribute('aria-valuetext') == 'C = 0.1: 2 neurons, AUC 0.80 (0.78 to 0.83)'
    assert bars.all_inner_texts()[1].split() == ['9', '-0.2', 'came', 'in']
    before = tab.locator('.marker').get_attribute('cx')
    slider.press('ArrowRight')
    assert slider.get_attribute('aria-valuetext').startswith('C = 1: 40 neurons, AUC 0.91')
    assert tab.locator('.now').inner_text() == slider.get_attribute('aria-valuetext')
    assert bars.count() == 30
    assert tab.locator('.more').inner_text() == 'and 10 more, with smaller coefficients'
    assert tab.locator('.marker').get_attribute('cx') != before
    slider.press('Home')
    slider.press('ArrowRight')
    assert slider.get_attribute('aria-valuetext') == 'C = 0.01: one neuron, AUC not known'
    assert not tab.locator('.marker').is_visible()


def test_a_table_is_sorted_by_click_and_by_key(opened):
    tab = opened()
    table = tab.locator('table.sorted-by').first
    button, head = table.locator('th button').first, table.locator('th').first
    def numbers(): return [float(text) if text != '–' else None for text in
                           table.locator('td:first-child').all_inner_texts()]
    button.click()
    assert head.get_attribute('aria-sort') == 'ascending'
    assert numbers()[:-1] == sorted(numbers()[:-1])
    assert numbers()[-1] is None
    button.press('Enter')
    assert head.get_attribute('aria-sort') == 'descending'
    assert numbers()[:-1] == sorted(numbers()[:-1], reverse=True)
    assert numbers()[-1] is None
    table.locator('th button').nth(1).press('Space')
    assert table.locator('[aria-sort]').count() == 1


def test_a_heatmap_tells_a_token_by_pointer_and_by_key(opened):
    tab = opened()
    box = tab.locator('.heatmap').first
    tokens, told = box.locator('.tok'), box.locator('.told')
    assert told.get_attribute('aria-live') == 'polite'
    tokens.nth(3).hover()
    assert told.inner_text() == '“word3 ”: 0.3'
    tokens.first.focus()
    for key, word in (('ArrowRight', 'word1'), ('End', 'word59'), ('ArrowRight', 'word59'),
                      ('ArrowLeft', 'word58'), ('Home', 'word0'), ('ArrowLeft', 'word0')):
        tab.keyboard.press(key)
        assert focused(tab) == f'SPAN|tok|{word} '
        assert told.inner_text().startswith(f'“{word} ”')
    assert box.locator('[tabindex="0"].tok').count() == 1


@pytest.mark.parametrize('javascript', [True, False])
def test_a_page_does_not_scroll_sideways_on_a_phone(opened, javascript):
    tab = opened(viewport=PHONE, java_script_enabled=javascript)
    assert tab.evaluate('document.scrollingElement.scrollWidth') <= 375
    assert tab.evaluate(CUT_OFF) == []


def test_on_paper_all_folds_are_open_and_nothing_is_cut(opened):
    tab = opened(viewport={'width': 700, 'height': 900}, color_scheme='dark')
    tab.emulate_media(media='print')
    assert tab.locator('.steps td').first.evaluate('cell => cell.checkVisibility()')
    assert not tab.locator('.live').is_visible()
    assert not tab.locator('.skip').is_visible()
    assert tab.evaluate('getComputedStyle(document.body).color') == 'rgb(29, 33, 37)'
    edges = tab.locator('table, img, pre, p').evaluate_all(
        'all => all.map(element => element.getBoundingClientRect().right)')
    assert max(edges) <= 700
    assert len(re.findall(rb'/Type\s*/Page\b', tab.pdf(format='A4'))) > 3
    assert not tab.locator('.steps details').evaluate('fold => fold.open') # as it was


def test_two_pieces_work_in_one_notebook(opened, page, tmp_path):
    path = tmp_path / 'notebook.html'
    path.write_text(f'<!doctype html><meta charset=utf-8><title>a</title>{page.fragment() * 2}')
    tab = opened(path)
    for k, key, start in ((0, 'Home', 'C = 0.001'), (1, 'End', 'C = 1')):
        tab.locator('input[type=range]').nth(k).press(key)
        assert tab.locator('.now').nth(k).inner_text().startswith(start)
    assert tab.locator('th button').count() == 2 * (14 + 5)
    assert tab.said == []


CASES = {
    'a': 'ends in .html', 'a.htm': 'a.html', '.html': 'ends in .html', '': 'is a folder',
    '.': 'is a folder', 'folder.html': 'is a folder',
}


@pytest.mark.parametrize('path', CASES)
def test_a_path_that_is_no_page_is_refused(path, tmp_path):
    (tmp_path / 'folder.html').mkdir()
    with pytest.raises(ValueError, match=CASES[path]): page_of('a').write(tmp_path / path)
    assert os.listdir(tmp_path) == ['folder.html']


@pytest.mark.parametrize('limit', [1_000, 10_000], ids=['at a table', 'at the page'])
def test_a_full_disk_leaves_the_old_report(limit, tmp_path):
    path = tmp_path / 'a.html'
    def code(title, limit):
        return ('import resource, signal, pandas as pd\n'
                'from sparse_probing.report import Grid, Page, Section\n'
                'table = pd.DataFrame({"a": range(9)})\n'
                'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
                f'resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n'
                'section = Section("a", "a", "a", [], [Grid(table, "a", "a")])\n'
                f'Page("{title}", "", [], {{}}, [section], {{}}).write({str(path)!r})\n')
    assert python(code('old', 10**7)).returncode == 0
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    run = python(code('new', limit))
    assert f'OSError: cannot write {path}' in run.stderr
    assert 'free some space, or choose another folder' in run.stderr
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(OSError, match='cannot write .*choose another folder'):
        page_of('a').write(tmp_path / 'file' / 'a.html')


STEP = dict(C=1., nonzero=1, score=.5, neurons=(1,), coefficients=(1.,))
WRONG_STEPS = {
    'has no column C': [STEP | {'c': 1}], 'is empty': [], 'finite numbers': [
        STEP | {'coefficients': (np.inf,)}], '1 neurons and 2 coefficients': [
        STEP | {'coefficients': (1., 2.)}],
    **{f'C is .*{C}': [STEP, STEP | {'C': C}] for C in (1., .5, np.inf)},
    **{rf'C is \[{C}': [STEP | {'C': C}] for C in (-1., 0., np.nan)},
}


@pytest.mark.parametrize('message', WRONG_STEPS)
def test_a_table_that_is_no_path_is_refused(message):
    table = pd.DataFrame(WRONG_STEPS[message], columns=list(STEP))
    if message == 'has no column C': table = table.drop(columns='C')
    with pytest.raises(ValueError, match=message): validate_steps(table)


def test_no_two_values_of_C_look_the_same():
    C = np.geomspace(.003, 1, 18)
    table = pd.DataFrame([STEP] * 18).assign(C=C)
    rows = Steps(table, 'AUC', '', 'path').view()['rows']
    assert len({row[0][0] for row in rows}) == 18


def test_a_path_of_one_step_and_one_without_scores_are_drawn():
    for table in (steps_table()[:1], steps_table().assign(score=np.nan, low=np.nan, high=np.nan)):
        steps = Steps(table, 'AUC', '', 'path')
        html = Page('a', '', [], {}, [Section('a', 'a', '', [], [steps])], {}).html()
        assert 'nan' not in html.lower().partition('<body')[2].partition('<script>')[0]
