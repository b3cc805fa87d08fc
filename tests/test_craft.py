"""What every notebook owes its reader: a question, prose, short cells, figures, tests, exercises.

Exercises have checks, and a check has to reject what a learner might plausibly write instead.
"""
import ast
import importlib
import inspect
import json
import re

import pytest
import sparse_probing
from fastcore.docments import docments
from helpers.house import BELOW_A_LESSON, BELOW_A_ROOM, NOTEBOOKS, ROOT, imports_of
from helpers.answers import RIGHT
from helpers.mistakes import MISTAKES

from sparse_probing.course import checks
from sparse_probing.course.lessons import TRACK, lesson_minutes


def name(path): return str(path.relative_to(ROOT / 'nbs').with_suffix(''))


LESSONS = [path for path in NOTEBOOKS if path.parent.name == 'lessons']
TEACHING = [path for path in LESSONS if path.stem != '00-tour']
LIBRARY = [path for path in NOTEBOOKS if path.parent.name in ('lib', 'course', 'bench')]
SELF_TESTS = [path for path in NOTEBOOKS if path.parent.name == 'selftest']
READING_ORDER = [path.stem.partition('-')[2] for path in TEACHING]
# Modules that say what they hold in `__all__` alone: `PUBLIC` has the names of all others.
OPEN_ROOMS = ['plots', *(name(path).replace('/', '.') for path in LIBRARY
                         if path.parent.name in ('course', 'bench'))]

BUILT = {4, 5, 6, 7, 9} # lessons in which the reader builds the heart of the module

# Ranges that a good notebook keeps are told; these are the ones that fail.
PROSE = .30, .70 # share of the cells that are prose; 45-60% is the aim
LINES = 25, 40   # of a code cell, and of one that holds a class or only imports
GROSS = 10       # lines above that

# What no inline test reaches.
NOT_INLINE = {
    # starts processes, and is tested in `test_cli.py`
    'lib/cli': {
        'main', 'options', 'print_version', 'tour', 'lessons', 'check', 'doctor', 'required',
        'installed', 'look_at_packages', 'look_at_extras', 'look_at_assets', 'look_at_cache',
        'look_at_machine', 'fetch', 'carriers_to_install', 'sweep', 'sweep_examples',
        'draw_maps', 'report_sweep', 'harvest', 'show_store', 'verify', 'bench', 'show',
        'study', 'study_feature', 'show_study', 'only_one', 'at_most'},
    # takes a whole study, as lesson 16 and `test_studies.py` make one
    'lib/pages': {'limit', 'figure', 'floor_parts', 'read_parts', 'few_parts', 'cloud',
                  'context_lines', 'token_lines', 'which_parts', 'null_parts', 'stable_parts',
                  'plan_words', 'ending', 'page_of'},
    'course/runs': {'execute_lesson', 'run_lesson'},
    # needs a cluster, and is tested in `test_executors.py`
    'lib/executors': {'Ray', 'Slurm', 'ask', 'queue', 'wait_for_job', 'hand_over'},
    # runs for minutes, by `sparse-probing bench`; its parts are tested on its page
    'bench/tour': {'bench_tour', 'our_way', 'usual_way', 'count_nonzeros'},
    'bench/solver': {'bench_solver'},
    'bench/growth': {'bench_growth'},
    'bench/ksparse': {'bench_ksparse'},
    'bench/sweep': {'bench_sweep'},
    'bench/harvest': {'bench_harvest', 'race_rows'},
}


def cells(path, kind=None):
    """(kind, source) of every cell of a notebook, or the sources of one kind."""
    pairs = [(cell['cell_type'], ''.join(cell['source']))
             for cell in json.loads(path.read_text())['cells']]
    return [source for k, source in pairs if k == kind] if kind else pairs


def is_exported(source): return re.search(r'^#\| *export[is]?\b', source, re.M)


def is_evaluated(source): return not re.search(r'^#\| *eval: *false', source, re.M)


def section(path, heading):
    """The cells under a `##` heading."""
    in_section, pairs = False, []
    for kind, source in cells(path):
        if kind == 'markdown' and source.startswith('## '):
            in_section = source.startswith(f'## {heading}')
        if in_section: pairs.append((kind, source))
    return pairs


def definitions(path):
    """Functions, classes and tables that a notebook exports: name -> syntax tree."""
    nodes = {}
    for source in filter(is_exported, cells(path, 'code')):
        for node in ast.parse(source).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)): nodes[node.name] = node
            if isinstance(node, ast.Assign):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
                nodes |= dict.fromkeys(names, node)
    return nodes


def names_in(node):
    nodes = list(ast.walk(node))
    return ({n.id for n in nodes if isinstance(n, ast.Name)}
            | {n.attr for n in nodes if isinstance(n, ast.Attribute)})


@pytest.mark.parametrize('path', NOTEBOOKS, ids=name)
def test_a_title_and_a_question(path):
    kind, source = cells(path)[0]
    assert kind == 'markdown'
    assert re.fullmatch(r'# .+\n\n> .+\?', source), source


@pytest.mark.parametrize('path', LESSONS, ids=name)
def test_a_lesson_has_a_card(path):
    card = cells(path)[1][1]
    read, exercises = lesson_minutes(path)
    assert f'| **Minutes** | {read} to read, {exercises} for the exercises |' in card, 'make sync'
    assert 10 <= read <= 25 and 30 <= exercises <= 65
    number = int(path.stem[:2])
    verb = 'build' if number in BUILT else 'see' if number else 'do' # who builds has an exercise
    for row in ('Module', 'You have', f'You will {verb}', 'You can then answer'):
        assert f'**{row}**' in card, row


@pytest.mark.parametrize('path', LESSONS, ids=name)
def test_a_lesson_has_its_parts(path):
    sources = cells(path, 'markdown')
    headings = [source.splitlines()[0] for source in sources if source.startswith('## ')]
    assert headings[0] == '## Predict first'
    assert headings[-3:] == ['## Exercises', '## Take-away', '## Solutions']
    assert 'does not show' in '\n'.join(sources)
    assert re.search(r'\btrap\b', '\n'.join(sources), re.I)
    assert any('fig-alt' in source for source in cells(path, 'code'))


@pytest.mark.parametrize('path', LESSONS, ids=name)
def test_a_take_away_is_short_and_names_the_next_lesson(path):
    take_away = section(path, 'Take-away')[0][1]
    assert 2 <= take_away.count('\n- ') <= 5
    assert path == LESSONS[-1] or '**Next:**' in take_away


def undocumented_parts(thing):
    """Which docstrings and parameters of a function, or of a class and its methods, lack a word."""
    functions = [thing]
    if inspect.isclass(thing):
        # an error has no parameters of its own; where there is an `__init__`, it has those of
        # the class, and the `__init__` of a dataclass is made from its fields
        has_init = '__init__' in vars(thing) and not hasattr(thing, '__dataclass_fields__')
        if issubclass(thing, Exception) or has_init: functions = []
        functions += [method for n, method in vars(thing).items()
                      if inspect.isfunction(method) and n[0] != '_']
    lacking = [] if thing.__doc__ else [thing.__qualname__]
    for function in functions:
        if not function.__doc__: lacking.append(function.__qualname__)
        comments = docments(function)
        lacking += [f'{function.__qualname__}: {parameter}'
                    for parameter, of in inspect.signature(function).parameters.items()
                    # fastcore reads no comment behind `**options`
                    if parameter != 'self' and of.kind != of.VAR_KEYWORD
                    and not comments.get(parameter)]
    return lacking


@pytest.mark.parametrize('module', [*sparse_probing.PUBLIC, *OPEN_ROOMS])
def test_public_names_are_documented(module):
    loaded = importlib.import_module(f'sparse_probing.{module}')
    for public in sparse_probing.PUBLIC.get(module, loaded.__all__):
        thing = getattr(loaded, public)
        assert not callable(thing) or undocumented_parts(thing) == []


def reached(names, calls):
    """Names, and the definitions that these lead to."""
    known = names & set(calls)
    while new := {callee for n in known for callee in calls[n]} - known: known |= new
    return known


@pytest.mark.parametrize('path', TEACHING + LIBRARY, ids=name)
def test_every_export_is_tested_and_used_in_its_notebook(path):
    nodes = definitions(path)
    tested, used = set(), set()
    for source in cells(path, 'code'):
        if is_exported(source) or not is_evaluated(source) or source.startswith('#| default_exp'):
            continue
        tree = ast.parse(source)
        used |= names_in(tree)
        if any(isinstance(node, (ast.Assert, ast.Try)) for node in ast.walk(tree)):
            tested |= names_in(tree)
    calls = {n: names_in(node) & set(nodes) for n, node in nodes.items()}
    functions = {n for n, node in nodes.items() if not isinstance(node, ast.Assign)}
    # each check is held against the exercise of its lesson by the tests below
    functions -= {n for n in functions if n.startswith('check_')}
    functions -= NOT_INLINE.get(name(path), set())
    assert functions - reached(tested, calls) == set(), 'no inline test reaches these'
    assert functions - reached(used, calls) == set(), 'the notebook never uses these'


@pytest.mark.parametrize('path', TEACHING, ids=name)
def test_the_cells_of_a_lesson_follow_the_reading_order(path):
    lesson = path.stem.partition('-')[2]
    # its own module too, where workers import it
    earlier = READING_ORDER[:READING_ORDER.index(lesson) + 1]
    below = set().union(*(BELOW_A_LESSON[e] for e in earlier))
    below |= set().union(*(BELOW_A_ROOM[room] for room in below))
    for source in filter(is_evaluated, cells(path, 'code')):
        rooms = imports_of(re.sub(r'^[!%].*', '', source, flags=re.M))[0]
        assert rooms <= {*earlier, *below, 'plots', 'course.checks'}, source


@pytest.mark.parametrize('path', [*LESSONS, *LIBRARY], ids=name)
def test_cells_are_short_and_prose_is_plenty(path, tell):
    kinds = [kind for kind, _ in cells(path)]
    share = kinds.count('markdown') / len(kinds)
    long_cells = []
    for source in cells(path, 'code'):
        code = [line for line in source.splitlines()
                if line.strip() and not line.startswith('#|')]
        is_class = any(line.startswith(('class ', '@dataclass')) for line in code)
        is_imports = all(line.startswith(('import ', 'from ', ' ')) for line in code)
        limit = LINES[is_class or is_imports]
        if len(code) > limit: long_cells.append((len(code), limit, code[0][:50]))
    aside = '' if .45 <= share <= .60 else ' (aim 45-60%)'
    lengths = ''.join(f'; {n} lines (aim {limit}): {first}' for n, limit, first in long_cells)
    tell(f'{name(path)}: {share:.0%} of {len(kinds)} cells are prose{aside}{lengths}')
    assert PROSE[0] <= share <= PROSE[1]
    assert [cell for cell in long_cells if cell[0] > cell[1] + GROSS] == []


@pytest.mark.parametrize('path', NOTEBOOKS, ids=name)
def test_only_stubs_and_their_checks_are_not_evaluated(path):
    for source in cells(path, 'code'):
        if is_evaluated(source): continue
        is_stub = source.rstrip().endswith('... # your code')
        assert is_stub or re.fullmatch(r'#\| eval: false\ncheck_\w+\(\w+\)', source)
        assert ('code', source) in section(path, 'Exercises')


def folded(path, number):
    """The code cells of a solution, which stand in a collapsed callout."""
    start = f':::: {{.callout-tip collapse="true" title="Solution of exercise {number}"}}'
    sources, inside = [], False
    for kind, source in section(path, 'Solutions'):
        if source.startswith('::::'): inside = source == start
        if inside and kind == 'code': sources.append(source)
    return sources


def stubs(path):
    """What is to be written in a lesson: for each the number, the name of its check, the stub."""
    code = [source for kind, source in section(path, 'Exercises') if kind == 'code']
    bare = [source for source in code if source.rstrip().endswith('... # your code')]
    calls = re.findall(r'^(check_\w+)\(', '\n'.join(code), re.M)
    return list(zip((2, 4), calls, bare, strict=False))


WRITTEN = [(path, *stub) for path in LESSONS for stub in stubs(path)]
def asked_for(stub): return ast.parse(stub).body[-1]


@pytest.mark.parametrize('path', LESSONS, ids=name)
def test_a_lesson_has_its_exercises(path):
    sources = [source for kind, source in section(path, 'Exercises') if kind == 'markdown']
    parts = re.split(r'^### ', '\n'.join(sources), flags=re.M)[1:]
    titles = ['predict', 'implement', 'investigate', *['build'] * (int(path.stem[:2]) in BUILT)]
    assert [part.splitlines()[0] for part in parts] == [
        f'Exercise {number}: {title}' for number, title in enumerate(titles, 1)]
    assert len(stubs(path)) == len(titles) // 2
    for part in parts:
        assert re.search(r'\*Difficulty [123] of 3, \d+ minutes\.\*', part)
        assert part.count('<summary>Hint 1</summary>') == 1
        assert part.count('<summary>Hint 2</summary>') == 1


@pytest.mark.parametrize('path', LESSONS, ids=name)
def test_an_answer_is_revealed_with_a_number_from_the_run(path):
    revealing = [source for kind, source in section(path, 'Exercises')
                 if kind == 'code' and 'reveal(' in source]
    assert revealing
    for source in revealing:
        assert re.search(r"reveal\(\s*f['\"].*\{", source, re.S)
        assert '#| echo: false' in source


@pytest.mark.parametrize('path', LESSONS, ids=name)
def test_a_lesson_says_how_to_check(path):
    command = f'`sparse-probing check {int(path.stem[:2])}`'
    assert command in section(path, 'Exercises')[0][1]


@pytest.mark.parametrize('path, number, check, stub', WRITTEN)
def test_a_solution_has_the_signature_asked_for(path, number, check, stub):
    asked, solution = asked_for(stub), folded(path, number)[0]
    answered = next(node for node in ast.parse(solution).body
                    if isinstance(node, ast.FunctionDef) and node.name == asked.name)
    assert ast.unparse(answered.args) == ast.unparse(asked.args)
    assert ast.get_docstring(asked)


@pytest.mark.parametrize('path, number, check, stub', WRITTEN)
def test_a_solution_is_folded_and_checked(path, number, check, stub):
    assert folded(path, number)[1].strip() == f'{check}({asked_for(stub).name})'


@pytest.mark.parametrize('path', LESSONS, ids=name)
def test_all_solutions_are_folded(path):
    assert folded(path, 3)
    code = [source for kind, source in section(path, 'Solutions') if kind == 'code']
    assert set(code) <= {source for number in (2, 3, 4) for source in folded(path, number)}


@pytest.mark.parametrize('path, number, check, stub', WRITTEN)
def test_an_untouched_stub_is_told_so(path, number, check, stub):
    space = {}
    exec(compile('from __future__ import annotations\n' + stub, 'stub', 'exec'), space)
    with pytest.raises(checks.NotYet, match='is still the stub. Hint: .+'):
        getattr(checks, check)(space[asked_for(stub).name])


@pytest.mark.parametrize('check, wrong', [(check, wrong) for check, answers in MISTAKES.items()
                                          for wrong in answers])
def test_a_check_rejects_a_plausible_mistake(check, wrong):
    with pytest.raises(checks.NotYet, match='Hint: .+'): getattr(checks, check)(wrong)


@pytest.mark.parametrize('check, right', [(check, right) for check, answers in RIGHT.items()
                                          for right in answers])
def test_a_check_accepts_a_right_answer_in_another_style(check, right):
    getattr(checks, check)(right)


def test_a_check_never_holds_its_answer():
    asked = {asked_for(stub).name for _, _, _, stub in WRITTEN}
    assert asked & set(definitions(ROOT / 'nbs/course/checks.ipynb')) == set()


def test_every_check_has_an_exercise_and_mistakes():
    of_module = {n for n in checks.__all__ if n.startswith('check_')}
    assert {check for _, _, check, _ in WRITTEN} == set(MISTAKES) == set(RIGHT) == of_module
    assert all(len(answers) >= 5 for answers in MISTAKES.values())


def test_the_two_hour_track_is_two_hours():
    track = [lesson_minutes(path)[0] for path in LESSONS if int(path.stem[:2]) in TRACK]
    assert len(track) == len(TRACK) and 105 <= sum(track) <= 125


@pytest.mark.parametrize('path', SELF_TESTS, ids=name)
def test_a_self_test_asks_five_questions_and_points_to_the_cells(path):
    questions = [source for source in cells(path, 'markdown') if source.startswith('## Question')]
    assert len(questions) == 5
    for question in questions:
        assert '<details><summary>Answer</summary>' in question
        link = re.search(r'\]\(\.\./lessons/([\w-]+\.ipynb)#([\w-]+)\)', question)
        code = cells(ROOT / 'nbs/lessons' / link[1], 'code')
        assert any(f'#| label: {link[2]}\n' in source for source in code), link[2]
