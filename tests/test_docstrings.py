"""What `help()`, an editor and the API page say of each public name: all of it, and it runs."""
import ast
import doctest
import importlib
import inspect
import re
from functools import cache

import jedi
import pytest
import sparse_probing
from sparse_probing import plots

from tools.sync import ROOT

PUBLIC = {**sparse_probing.PUBLIC, 'plots': plots.__all__}
NAMES = [(module, name) for module, names in PUBLIC.items() for name in names]
# A word that points to another line: each line is read alone, as in the hover of an editor.
ELSEWHERE = r'^(Its?|Theirs?|Them|Another)\b|\bafter it\b|\bthe same as\b|\b(?<!such )as (in )?`'
LESSON = r'(Taught in lesson \d+, .+|Explained in .+): https://\S+/(lessons|lib)/[\w-]+\.html'


def thing_of(module, name):
    return getattr(importlib.import_module(f'sparse_probing.{module}'), name)


def functions_of(thing):
    """A function, or the public methods of a class, by name."""
    if not inspect.isclass(thing): return {thing.__name__: thing}
    return {name: method for name, method in vars(thing).items()
            if inspect.isfunction(method) and name[0] != '_'}


def section(doc, title):
    """The lines of a section of a docstring, without the indent of all of them."""
    match = re.search(rf'^{title}\n-+\n((?:.+\n?)*)', inspect.cleandoc(doc or ''), re.M)
    return match[1].splitlines() if match else []


class Remembered:
    """Runs examples; what several of them begin with is run once."""

    def __init__(self): self.states = {}

    def run(self, name, doc):
        """The number of statements that did not give what the docstring says."""
        test = doctest.DocTestParser().get_doctest(doc, {'__name__': '__main__'}, name, None, 0)
        runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
        examples, done = test.examples, ''
        assert examples
        for example in examples:
            is_import = example.source.startswith(('from ', 'import '))
            if not is_import: done += example.source
            if done in self.states and not is_import and not example.want:
                test.globs |= self.states[done]
                continue
            test.examples = [example]
            runner.run(test, clear_globs=False)
            self.states[done] = {key: value for key, value in test.globs.items()
                                 if key != '__builtins__'}
        return runner.summarize(verbose=False).failed


@pytest.fixture(scope='module')
def remembered(lm): return Remembered()


@pytest.mark.parametrize('module, name', NAMES)
def test_an_example_gives_what_it_says(module, name, remembered, capsys):
    assert remembered.run(name, thing_of(module, name).__doc__) == 0, capsys.readouterr().out


@pytest.mark.parametrize('module, name', NAMES)
def test_every_parameter_is_explained_with_its_type_and_default(module, name):
    thing = thing_of(module, name)
    functions = functions_of(thing)
    if inspect.isclass(thing): functions[name] = thing
    for function in functions.values():
        takes = inspect.signature(function).parameters.values()
        own = [of for of in takes if of.name != 'self']
        if inspect.isclass(thing) and function is thing and '__init__' not in vars(thing): continue
        lines = section(function.__doc__, 'Parameters')
        said = {line.partition(' : ')[0].lstrip('*'): (line, after)
                for line, after in zip(lines, [*lines[1:], '']) if not line.startswith(' ')}
        assert list(said) == [of.name for of in own], function.__qualname__
        for of in own:
            line, words = said[of.name]
            assert of.kind in (of.VAR_POSITIONAL, of.VAR_KEYWORD) or ' : ' in line, line
            if of.default is None: assert line.endswith('optional'), line
            elif of.default is not of.empty and isinstance(of.default, (int, float, str)):
                assert re.search(r', default \S', line), line
            assert re.match(r'    \S', words), f'{function.__qualname__}: {line} is not explained'
            assert not re.search(ELSEWHERE, words.strip()), words


@pytest.mark.parametrize('module, name', NAMES)
def test_it_says_what_comes_back_and_where_it_is_taught(module, name):
    thing = thing_of(module, name)
    assert re.fullmatch(LESSON, ' '.join(section(thing.__doc__, 'Notes')))
    for function in functions_of(thing).values():
        kind = inspect.signature(function).return_annotation
        if kind in (None, 'None'): continue
        assert kind is not inspect.Signature.empty, f'{function.__qualname__} has no return type'
        assert section(function.__doc__, 'Returns') or section(function.__doc__, 'Yields')


@cache
def definitions():
    """All functions and methods of the package, by name: several may have one name."""
    nodes = {}
    for path in (ROOT / 'sparse_probing').glob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef): nodes.setdefault(node.name, []).append(node)
    return nodes


def raises(node, seen):
    """Whether a function raises an error, itself or by a function of the package that it calls."""
    for child in ast.walk(node):
        if isinstance(child, ast.Raise) and child.exc is not None: return True
        name = getattr(child, 'func', None) and getattr(child.func, 'id', None)
        if name in definitions() and name not in seen:
            seen.add(name)
            if any(raises(other, seen) for other in definitions()[name]): return True
    return False


@pytest.mark.parametrize('module, name', NAMES)
def test_whoever_raises_says_what(module, name):
    tree = ast.parse((ROOT / f'sparse_probing/{module}.py').read_text())
    node = next(node for node in tree.body if getattr(node, 'name', None) == name)
    methods = [child for child in node.body if isinstance(child, ast.FunctionDef)
               and (child.name == '__init__' or child.name[0] != '_')]
    for function in methods if isinstance(node, ast.ClassDef) else [node]:
        if not raises(function, {function.name}): continue
        owner = node if function.name == '__init__' else function
        lines = section(ast.get_docstring(owner), 'Raises')
        assert lines and len(lines) % 2 == 0, f'{owner.name}: {lines}' # an error, and when
        assert all(re.fullmatch(r'\w+(Error|NotYet)', line) for line in lines[::2]), lines
        assert all(line.startswith('    ') for line in lines[1::2]), lines


@pytest.mark.parametrize('module, name', NAMES)
def test_an_editor_sees_it_without_running_anything(module, name):
    path = ROOT / f'sparse_probing/{module}.py'
    text = path.read_text()
    line = next(node.lineno for node in ast.parse(text).body if getattr(node, 'name', None) == name)
    column = text.splitlines()[line - 1].index(name)
    definition = jedi.Script(text, path=path).help(line, column)[0]
    assert definition.docstring(raw=True) == inspect.cleandoc(thing_of(module, name).__doc__)
