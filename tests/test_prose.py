"""A number in the prose of a lesson comes from its run: it stands in an output, or in the code."""
import json
import re

import pytest

from tools.sync import ROOT

LESSONS = sorted((ROOT / 'nbs/lessons').glob('*.ipynb'))
OF_LESSONS = [*(ROOT / 'nbs/selftest').glob('*.ipynb'), ROOT / 'nbs/reference/cheatsheet.ipynb']
NUMBER = re.compile(r'(?<![\w.,-])[-+]?(?:\d[\d,]*\d|\d)?\.?\d+%?(?!\w)')
# What has digits and says nothing about a run.
ASIDE = [
    r'\$\$.*?\$\$|\$[^$\n]+\$', r'```.*?```', r'`[^`]*`', # formulas, code
    r'\[\d+ [A-Z]\w+\]\([^)]*\)', r'\]\([^)]*\)', # links
    r'^#+ [^\n]*', r'\*Difficulty[^\n]*?\*', r'<summary>[^\n]*?</summary>', r'\| \*\*Minutes[^\n]*',
    r'\b(?:1[89]|20)\d\d\b', r'\b[Ll]essons? \d+', r'[Cc]hapter \d+',
    r'\b(?:GPT-2|L[12]|F1|Gemma \d|scikit-learn \d\.\d+|(?:bfloat|float|int)\d+)\b',
]
ASIDE = re.compile('|'.join(f'(?:{pattern})' for pattern in ASIDE), re.M | re.S)


def parts_of(notebook):
    """What is said, as (where, text), and what the run has: code and outputs."""
    said, run = [], []
    for cell in notebook['cells']:
        source = ''.join(cell['source'])
        if cell['cell_type'] == 'markdown':
            said.append((cell['id'], ASIDE.sub(' ', source)))
            continue
        if alt := re.search(r'#\| fig-alt: (.*)', source): said.append((cell['id'], alt[1]))
        run.append(re.sub(r'#\| fig-alt: .*', '', source))
        for output in cell['outputs']:
            data = output.get('data', {})
            run += [''.join(text) for text in (output.get('text', []), data.get('text/plain', []),
                                               data.get('text/markdown', []))]
    return said, '\n'.join(run)


def value(number):
    """A number as it is written: its value, and the last digit that counts."""
    digits = number.rstrip('%').replace(',', '')
    places = len(digits.partition('.')[2])
    is_share = number.endswith('%')
    return abs(float(digits)) / (100 if is_share else 1), places + 2 * is_share


def unfounded(notebook, elsewhere=''):
    """The numbers in prose and alt texts that neither the run has nor what ran elsewhere."""
    said, run = parts_of(notebook)
    run += f'\n{elsewhere}'
    known = {value(number)[0] for number in NUMBER.findall(run)}
    known |= {float(number) for number in re.findall(r'(?<![\w.#])\d*\.?\d+(?:e-?\d+)?', run)}
    missing = []
    for where, text in said:
        for number in NUMBER.findall(text):
            size, places = value(number)
            if not any(round(other, places) == round(size, places) for other in known):
                missing.append((where, number))
    return missing


@pytest.mark.parametrize('path', LESSONS, ids=lambda path: path.stem)
def test_every_number_in_prose_is_in_the_run(path):
    assert unfounded(json.loads(path.read_text())) == []


@pytest.mark.parametrize('path', OF_LESSONS, ids=lambda path: path.stem)
def test_what_is_said_of_the_lessons_is_in_one_of_their_runs(path):
    runs = '\n'.join(parts_of(json.loads(lesson.read_text()))[1] for lesson in LESSONS)
    assert unfounded(json.loads(path.read_text()), runs) == []


@pytest.mark.parametrize('path', LESSONS, ids=lambda path: path.stem)
def test_a_planted_number_is_found(path):
    notebook = json.loads(path.read_text())
    for cell in notebook['cells']:
        if cell['cell_type'] != 'markdown' or not ''.join(cell['source']).strip(): continue
        kept = cell['source']
        for planted in ('61.37%', '7,919', '0.4177', '8461'):
            cell['source'] = [*kept, f'\n\nThat is {planted} of them.']
            assert unfounded(notebook) == [(cell['id'], planted)], planted
        cell['source'] = kept
        break


def test_a_number_that_was_changed_is_found_in_most_places():
    found = tried = 0
    for path in LESSONS:
        notebook = json.loads(path.read_text())
        for cell in notebook['cells']:
            if cell['cell_type'] != 'markdown': continue
            source = ''.join(cell['source'])
            for number in set(NUMBER.findall(ASIDE.sub(' ', source))):
                if len(re.sub(r'\D', '', number)) < 2 or number not in source: continue
                digit = re.search(r'\d(?=\D*$)', number)
                other = str((int(digit[0]) + 3) % 10)
                changed = number[:digit.start()] + other + number[digit.end():]
                kept, cell['source'] = cell['source'], [source.replace(number, changed)]
                tried += 1
                found += bool(unfounded(notebook))
                cell['source'] = kept
    assert tried > 90 and found / tried > .7
