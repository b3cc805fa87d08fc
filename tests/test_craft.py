"""What every notebook owes its reader: a question, prose, short cells, figures, tests, and exercises whose checks can be trusted."""
import ast
import importlib
import inspect
import json
import re
import textwrap

import pytest
import sparse_probing
from fastcore.docments import docments
from mistakes import MISTAKES
from tools.sync import NOTEBOOKS, ROOT

from sparse_probing import checks

LESSONS = [p for p in NOTEBOOKS if p.parent.name == 'lessons']
TEACHING = [p for p in LESSONS if p.stem != '00-tour']
LIBRARY = [p for p in NOTEBOOKS if p.parent.name == 'lib']
READING_ORDER = [p.stem.partition('-')[2] for p in TEACHING]
PLUMBING = {'plots', 'checks', 'sites', 'fingerprints', 'store', 'executors', 'ledger'}

# Ranges that a good notebook keeps are told; these are the ones that fail.
PROSE = .30, .70 # share of the cells that are prose; 45-60% is the aim
LINES = 25, 40   # of a code cell, and of one that holds a class or only imports
GROSS = 10       # lines above that

# What starts processes or runs for long has its tests in `test_cli.py`, and is only named here.
ELSEWHERE = {'bench': {'bench_tour', 'our_way', 'usual_way', 'count_nonzeros', 'bench_solver', 'bench_growth', 'bench_ksparse', 'bench_sweep', 'bench_harvest'}, 'report': {'execute', 'run_lesson'},
             'executors': {'Ray', 'Slurm', 'ask', 'queue', 'wait_for_job', 'hand_over'}, # `test_executors.py`
             'cli': {'main', 'options', 'tell_version', 'show', 'tour', 'sweep', 'harvest', 'verify', 'recorded', 'draw_maps', 'lessons', 'check', 'doctor', 'fetch', 'bench', 'look_at_packages', 'look_at_assets', 'look_at_machine'}}


def name(path): return path.stem


def cells(path, kind=None):
    """(kind, source) of every cell of a notebook."""
    found = [(cell['cell_type'], ''.join(cell['source'])) for cell in json.loads(path.read_text())['cells']]
    return [source for k, source in found if k == kind] if kind else found


def exported(source): return re.search(r'^#\| *exports?\b', source, re.M)


def section(path, heading):
    """The cells under a `##` heading."""
    found, inside = [], False
    for kind, source in cells(path):
        if kind == 'markdown' and source.startswith('## '): inside = source.startswith(f'## {heading}')
        if inside: found.append((kind, source))
    return found


def definitions(path):
    """Functions, classes and tables that a notebook exports: name -> syntax tree."""
    found = {}
    for source in filter(exported, cells(path, 'code')):
        for node in ast.parse(source).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)): found[node.name] = node
            if isinstance(node, ast.Assign): found |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
    return found


def names_in(node): return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} | {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}


@pytest.mark.parametrize('path', NOTEBOOKS, ids=name)
def test_a_title_and_a_question(path):
    first = cells(path)[0]
    assert first[0] == 'markdown' and re.fullmatch(r'# .+\n\n> .+\?', first[1]), first


@pytest.mark.parametrize('path', LESSONS, ids=name)
def test_a_lesson_has_its_parts(path):
    card = cells(path)[1][1]
    assert 15 <= int(re.search(r'\*\*Minutes\*\* \| (\d+)', card)[1]) <= 40
    assert re.search(r'\*\*Module\*\*', card) and re.search(r'\*\*You have\*\*', card) and re.search(r'\*\*You will (build|do)\*\*', card) and re.search(r'\*\*You can then answer\*\*', card)
    headings = [source.splitlines()[0] for source in cells(path, 'markdown') if source.startswith('## ')]
    assert headings[0] == '## Predict first' and headings[-3:] == ['## Exercises', '## Take-away', '## Solutions']
    take_away = section(path, 'Take-away')[0][1]
    assert 2 <= take_away.count('\n- ') <= 5
    assert path == LESSONS[-1] or '**Next:**' in take_away
    text = '\n'.join(cells(path, 'markdown'))
    assert 'does not show' in text and re.search(r'\btrap\b', text, re.I)
    assert any('fig-alt' in source for source in cells(path, 'code'))


@pytest.mark.parametrize('module', [*sparse_probing.PUBLIC, 'plots', 'checks'])
def test_public_names_are_documented(module):
    undocumented, loaded = [], importlib.import_module(f'sparse_probing.{module}')
    for public in sparse_probing.PUBLIC.get(module, loaded.__all__):
        thing = getattr(loaded, public)
        if not callable(thing) or thing is checks.NotYet: continue
        if not thing.__doc__: undocumented.append(public)
        methods = [m for n, m in vars(thing).items() if inspect.isfunction(m) and n[0] != '_'] if inspect.isclass(thing) else []
        for function in [thing] * ('__init__' not in vars(thing) or hasattr(thing, '__dataclass_fields__')) + methods:
            if not function.__doc__: undocumented.append(function.__qualname__)
            said = docments(function)
            undocumented += [f'{function.__qualname__}: {parameter}' for parameter in inspect.signature(function).parameters if parameter != 'self' and not said.get(parameter)]
    assert not undocumented


@pytest.mark.parametrize('path', TEACHING + LIBRARY, ids=name)
def test_every_export_is_tested_and_used_in_its_notebook(path):
    defined = definitions(path)
    if not defined: return
    tested, used = set(), set()
    for source in cells(path, 'code'):
        if exported(source) or re.match(r'#\| *(default_exp|eval: false)', source): continue
        tree = ast.parse(source)
        used |= names_in(tree)
        if any(isinstance(node, (ast.Assert, ast.Try)) for node in ast.walk(tree)): tested |= names_in(tree)
    calls = {n: names_in(node) & set(defined) for n, node in defined.items()}
    defined = {n: node for n, node in defined.items() if not isinstance(node, ast.Assign)}
    elsewhere = ELSEWHERE.get(path.stem, set()) | {n for n in defined if n.startswith('check_')} # each check has a lesson, which the tests below hold against it
    assert not set(defined) - reached(tested, calls) - elsewhere, 'no inline test reaches these'
    assert not set(defined) - reached(used, calls) - elsewhere, 'the notebook never uses these'


def reached(names, calls):
    """Names, and the definitions that these lead to."""
    found = names & set(calls)
    while new := {callee for n in found for callee in calls[n]} - found: found |= new
    return found


@pytest.mark.parametrize('path', TEACHING, ids=name)
def test_imports_follow_the_reading_order(path):
    allowed = {*READING_ORDER[:TEACHING.index(path) + 1], *PLUMBING} # its own module too, where workers import it
    for source in cells(path, 'code'):
        if re.match(r'#\| *eval: false', source): continue
        for imported in re.findall(r'^\s*from sparse_probing\.?(\w*) import', source, re.M): assert imported in allowed, source


@pytest.mark.parametrize('path', [*LESSONS, *LIBRARY], ids=name)
def test_cells_are_short_and_prose_is_plenty(path, tell):
    kinds = [kind for kind, _ in cells(path)]
    share = kinds.count('markdown') / len(kinds)
    long = []
    for source in cells(path, 'code'):
        code = [line for line in source.splitlines() if line.strip() and not line.startswith('#|')]
        roomy = any(line.startswith(('class ', '@dataclass')) for line in code) or all(line.startswith(('import ', 'from ', ' ')) for line in code)
        limit = LINES[roomy]
        if len(code) > limit: long.append((len(code), limit, code[0][:50]))
    aside = '' if .45 <= share <= .60 else ' (aim 45-60%)'
    tell(f'{path.stem}: {share:.0%} of {len(kinds)} cells are prose{aside}' + ''.join(f'; {n} lines (aim {limit}): {first}' for n, limit, first in long))
    assert PROSE[0] <= share <= PROSE[1]
    assert not [cell for cell in long if cell[0] > cell[1] + GROSS]


@pytest.mark.parametrize('path', NOTEBOOKS, ids=name)
def test_only_stubs_are_not_evaluated(path):
    for source in cells(path, 'code'):
        if re.search(r'^#\| *eval: *false', source, re.M):
            assert ('code', source) in section(path, 'Exercises') and (source.rstrip().endswith('... # your code') or re.fullmatch(r'#\| eval: false\ncheck_\w+\(\w+\)', source))


def folded(path, number):
    """The code cells of a solution, which stand in a collapsed callout."""
    found, inside = [], False
    for kind, source in section(path, 'Solutions'):
        if source.startswith('::::'): inside = source == f':::: {{.callout-tip collapse="true" title="Solution of exercise {number}"}}'
        if inside and kind == 'code': found.append(source)
    return found


def exercise(path):
    """(check, stub, solution): the name of the check of a lesson's second exercise, and two function sources."""
    code = [source for kind, source in section(path, 'Exercises') if kind == 'code']
    stub = next(source for source in code if source.rstrip().endswith('... # your code'))
    solution = folded(path, 2)[0]
    return re.search(r'^(check_\w+)\(', '\n'.join(code), re.M)[1], stub, solution


@pytest.mark.parametrize('path', LESSONS, ids=name)
def test_a_lesson_has_three_exercises(path):
    text = '\n'.join(source for kind, source in section(path, 'Exercises') if kind == 'markdown')
    parts = re.split(r'^### ', text, flags=re.M)[1:]
    assert [part.splitlines()[0] for part in parts] == ['Exercise 1: predict', 'Exercise 2: implement', 'Exercise 3: investigate']
    for part in parts:
        assert re.search(r'\*Difficulty [123] of 3, \d+ minutes\.\*', part)
        assert part.count('<summary>Hint 1</summary>') == part.count('<summary>Hint 2</summary>') == 1
    revealed = [source for kind, source in section(path, 'Exercises') if kind == 'code' and 'reveal(' in source]
    assert revealed and all(re.search(r"reveal\(\s*f['\"].*\{", source, re.S) and '#| echo: false' in source for source in revealed)


@pytest.mark.parametrize('path', LESSONS, ids=name)
def test_a_lesson_says_how_to_check(path):
    assert f'`sparse-probing check {int(path.stem[:2])}`' in section(path, 'Exercises')[0][1]


@pytest.mark.parametrize('path', LESSONS, ids=name)
def test_a_solution_is_folded_has_the_signature_asked_for_and_is_checked(path):
    check, stub, solution = exercise(path)
    asked, answered = (ast.parse(source).body for source in (stub, solution))
    function = next(node for node in answered if isinstance(node, ast.FunctionDef) and node.name == asked[-1].name)
    assert ast.unparse(function.args) == ast.unparse(asked[-1].args) and ast.get_docstring(asked[-1])
    assert folded(path, 2)[1].strip() == f'{check}({function.name})' and folded(path, 3)
    assert all(source in folded(path, 2) + folded(path, 3) for kind, source in section(path, 'Solutions') if kind == 'code')


@pytest.mark.parametrize('path', LESSONS, ids=name)
def test_a_check_rejects_the_stub_and_plausible_mistakes(path):
    check, stub, _ = exercise(path)
    judge, space = getattr(checks, check), {}
    exec(compile('from __future__ import annotations\n' + stub, 'stub', 'exec'), space)
    asked = ast.parse(stub).body[-1].name
    assert len(MISTAKES[check]) >= 2
    for wrong in [space[asked], *MISTAKES[check]]:
        with pytest.raises(checks.NotYet, match='Hint: .+'): judge(wrong)


def test_a_check_never_holds_its_answer():
    asked = {ast.parse(exercise(path)[1]).body[-1].name for path in LESSONS}
    assert not asked & set(definitions(ROOT / 'nbs/lib/checks.ipynb'))
    assert {exercise(path)[0] for path in LESSONS} == set(MISTAKES)


@pytest.mark.parametrize('path', sorted((ROOT / 'nbs/selftest').glob('*.ipynb')), ids=name)
def test_a_self_test_asks_five_questions_and_points_to_the_cells(path):
    questions = [source for source in cells(path, 'markdown') if source.startswith('## Question')]
    assert len(questions) == 5
    for question in questions:
        assert '<details><summary>Answer</summary>' in question
        lesson, label = re.search(r'\]\(\.\./lessons/([\w-]+\.ipynb)#([\w-]+)\)', question).groups()
        assert any(f'#| label: {label}\n' in source for source in cells(ROOT / 'nbs/lessons' / lesson, 'code')), label
