"""Docstrings in numpydoc's form, written into the modules from the comments of the notebooks.

A notebook explains each parameter in a comment beside it, where a reader wants it. `help()`, an
editor and the API page want a docstring. The export writes one from the other: parameters with
type and default, what is returned, raised and warned of, an example from the lesson, and which
lesson it is.
"""
import ast
import json
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

import sparse_probing
from sparse_probing import plots
from sparse_probing.course.lessons import SITE
from tools.examples import examples, module_of

WIDTH = 100
NEWS = re.compile(r'(?:^|;? ?\b)(raises|warns) ') # where a return comment turns to errors
FUNCTIONS = ast.FunctionDef, ast.AsyncFunctionDef


@dataclass
class Edit:
    """A stretch of a module, from one offset to another, and what is put in its place."""
    start: int
    end: int
    text: str


class Source:
    """The text of a module with its syntax tree, and the comments behind its lines."""

    def __init__(self, text: str):
        self.text, self.lines = text, text.splitlines(keepends=True)
        self.tree = ast.parse(text)
        self.offsets = [0]
        for line in self.lines: self.offsets.append(self.offsets[-1] + len(line.encode()))
        self.bytes = text.encode()

    def at(self, line: int, column: int) -> int: return self.offsets[line - 1] + column

    def segment(self, node: ast.AST) -> str: return ast.get_source_segment(self.text, node)

    def comment(self, node: ast.AST) -> str:
        """What stands behind `#` at the end of the line where a node ends."""
        rest = self.lines[node.end_lineno - 1].encode()[node.end_col_offset:].decode()
        match = re.match(r'[^#\'"]*#\s*(.*)', rest)
        return match[1].strip() if match else ''

    def last_comment(self, function) -> str:
        """What stands behind the colon of a header, as of an `__init__`, which returns nothing."""
        body = function.body[0]
        line = self.lines[(body.lineno - 1) - (body.lineno > function.lineno)]
        match = re.match(r'\s*\)(?:->.*)?:\s*#\s*(.*)', line)
        return match[1].strip() if match else ''


def in_order(args: ast.arguments) -> list[tuple]:
    """(stars, parameter, default) as they stand; a bare star or slash has no parameter."""
    plain = [*args.posonlyargs, *args.args]
    defaults = [None] * (len(plain) - len(args.defaults)) + args.defaults
    triples = [('', *pair) for pair in zip(plain, defaults)]
    if args.posonlyargs: triples.insert(len(args.posonlyargs), ('/', None, None))
    if args.vararg or args.kwonlyargs: triples.append(('*', args.vararg, None))
    triples += [('', *pair) for pair in zip(args.kwonlyargs, args.kw_defaults)]
    if args.kwarg: triples.append(('**', args.kwarg, None))
    return triples


def parameters(source: Source, function) -> list[tuple]:
    """(name with its stars, type, default, comment) of every parameter but `self`."""
    return [(stars + arg.arg, arg.annotation and source.segment(arg.annotation),
             default and source.segment(default), source.comment(default or arg))
            for stars, arg, default in in_order(function.args)
            if arg and arg.arg not in ('self', 'cls')]


def signature(source: Source, function) -> list[str]:
    """The parameters as they stand in a signature, without comments."""
    def word(stars, arg, default):
        if not arg: return stars
        kind = f':{source.segment(arg.annotation)}' if arg.annotation else ''
        return f'{stars}{arg.arg}{kind}' + (f'={source.segment(default)}' if default else '')
    return [word(*triple) for triple in in_order(function.args)]


def header(source: Source, function) -> str:
    """The `def` line, broken between parameters where it is long."""
    words, indent = signature(source, function), ' ' * function.col_offset
    kind = f'->{source.segment(function.returns)}' if function.returns else ''
    whole = f'def {function.name}({", ".join(words)}){kind}:'
    if function.col_offset + len(whole) <= WIDTH: return whole
    lines, line = [], indent + '    '
    for number, parameter in enumerate(words):
        more = parameter + (',' if number < len(words) - 1 else '')
        if len(line) + len(more) > WIDTH - 2:
            lines.append(line.rstrip())
            line = indent + '    '
        line += more + ' '
    return '\n'.join([f'def {function.name}(', *lines, line.rstrip(), f'{indent}){kind}:'])


def sentence(text: str) -> str:
    """A comment as a sentence: a capital where it starts with a plain word, and a full stop."""
    if re.match(r'[a-z]{2,}\b|a\b', text): text = text[0].upper() + text[1:]
    return text if text.endswith(('.', '?')) else text + '.'


def entries(text: str) -> list[tuple[str, str]]:
    """(class, when) of each error or warning that a comment names."""
    names = r'\w*(?:Error|Warning|NotYet)\b'
    parts = re.split(rf'(?:^|, and |, or |, | or | and )(?:with )?(?={names})', text)
    pairs = []
    for part in filter(None, map(str.strip, parts)):
        match = re.match(rf'({names}),? ?(.*)', part)
        if match: pairs.append([match[1], match[2].strip(' ,;')])
        elif pairs: pairs[-1][1] += f' {part}'
    for earlier, later in zip(reversed(pairs[:-1]), reversed(pairs[1:])):
        if not earlier[1]: earlier[1] = later[1] # `ValueError or TypeError for what cannot be`
    return [tuple(pair) for pair in pairs]


def told(comment: str) -> dict[str, str]:
    """What a return comment says: of the value, of errors, of warnings."""
    parts = NEWS.split(comment)
    said = {'value': parts[0].strip(' ;')}
    return said | {kind: text.strip(' ;') for kind, text in zip(parts[1::2], parts[2::2])}


def section(title: str, items: list[tuple[str, str]]) -> list[str]:
    """The lines of a numpydoc section of (heading, text)."""
    lines = ['', title, '-' * len(title)]
    for heading, text in items:
        lines.append(heading)
        if text: lines += ['    ' + line for line in textwrap.wrap(sentence(text), WIDTH - 16)]
    return lines if items else []


def typed(name: str, kind: str | None, default: str | None) -> str:
    """`name : type, default value`, as numpydoc writes it."""
    words = [kind.strip('\'"')] if kind else []
    if default == 'None': words.append('optional')
    elif default is not None: words.append(f'default {default}')
    return f'{name} : {", ".join(words)}' if words else name


def of_function(source: Source, function) -> list[str]:
    """The sections of a function: parameters, what comes back, errors, warnings."""
    items = [(typed(*of[:3]), of[3]) for of in parameters(source, function)]
    returns = function.returns
    said = told(source.comment(returns) if returns else source.last_comment(function))
    kind = returns and source.segment(returns).strip('\'"')
    is_property = any('property' in ast.unparse(d) for d in function.decorator_list)
    lines = section('Parameters', items)
    if kind and kind != 'None':
        title = 'Yields' if kind.startswith('Iterator') else 'Returns'
        lines += section(title, [(kind, said['value'])]) if not is_property or said['value'] else []
    for word, title in (('raises', 'Raises'), ('warns', 'Warns')):
        lines += section(title, entries(said.get(word, '')))
    return lines


def fields(source: Source, node: ast.ClassDef) -> list[tuple[str, str]]:
    """The fields of a dataclass, as parameters."""
    is_dataclass = any('dataclass' in ast.unparse(d) for d in node.decorator_list)
    if not is_dataclass: return []
    return [(typed(field.target.id, source.segment(field.annotation),
                   field.value and source.segment(field.value)),
             source.comment(field.value or field.annotation))
            for field in node.body if isinstance(field, ast.AnnAssign)]


def docstring(summary: str, lines: list[str], indent: int) -> str:
    """A docstring in quotes; it stays on one line where there is but a sentence."""
    if not lines: return f'"""{summary}"""' if '"' in summary else f'"{summary}"'
    text = '\n'.join([summary, *lines])
    raw = 'r' * ('\\' in text)
    quoted = f'{raw}"""{text}\n"""'.replace('\n', '\n' + ' ' * indent)
    return re.sub(r'[ ]+$', '', quoted, flags=re.M)


def rewritten(source: Source, function, tail: list[str]) -> Edit:
    """A function with its comments gone from the signature into the docstring."""
    body, indent = function.body, function.col_offset + 4
    start = source.at(function.lineno, function.col_offset)
    lines = of_function(source, function) + tail
    summary = ast.get_docstring(function)
    new = header(source, function)
    if function.name == '__init__': summary = None
    if summary: new += '\n' + ' ' * indent + docstring(summary, lines, indent)
    end = body[0].end_lineno, body[0].end_col_offset
    if not summary or not isinstance(body[0], ast.Expr):
        end = body[0].lineno, body[0].col_offset
        new += '\n' + ' ' * indent
    return Edit(start, source.at(*end), new)


def of_class(source: Source, node: ast.ClassDef, tail: list[str]) -> list[Edit]:
    """A class: its fields or the parameters of its `__init__` in its docstring, and its methods."""
    methods = [child for child in node.body if isinstance(child, FUNCTIONS)
               and (child.name == '__init__' or child.name[0] != '_')]
    inits = [method for method in methods if method.name == '__init__']
    lines = of_function(source, inits[0]) if inits else section('Parameters', fields(source, node))
    lines, first = lines + tail, node.body[0]
    text = docstring(ast.get_docstring(node), lines, node.col_offset + 4)
    start, end = ((first.lineno, first.col_offset), (first.end_lineno, first.end_col_offset))
    edits = [Edit(source.at(*start), source.at(*end), text)]
    return edits + [rewritten(source, method, []) for method in methods]


def lesson_of(notebook: Path) -> list[str]:
    """The lines that say where a name is taught."""
    title = re.match(r'# (.+)', ''.join(json.loads(notebook.read_text())['cells'][0]['source']))[1]
    page = f'{SITE}/{notebook.parent.name}/{notebook.stem}.html'
    number = re.match(r'(\d\d)-', notebook.stem)
    where = f'Taught in lesson {int(number[1])}, {title}' if number else f'Explained in {title}'
    return ['', 'Notes', '-----', f'{where}:', page]


def documented(module: Path, notebook: Path, public: list[str]) -> str:
    """The text of a module with full docstrings for its public names."""
    source, shown, edits = Source(module.read_text()), examples(notebook, public), []
    for node in source.tree.body:
        if getattr(node, 'name', None) not in public: continue
        tail = lesson_of(notebook)
        if node.name in shown: tail += ['', 'Examples', '--------', *shown[node.name]]
        is_class = isinstance(node, ast.ClassDef)
        edits += of_class(source, node, tail) if is_class else [rewritten(source, node, tail)]
    text = source.bytes
    for edit in sorted(edits, key=lambda edit: -edit.start):
        text = text[:edit.start] + edit.text.encode() + text[edit.end:]
    return text.decode()


def document(root: Path) -> None:
    """Write the docstrings of all public names of a checkout whose modules are fresh."""
    notebooks = {module_of(path): path for path in (root / 'nbs').rglob('*.ipynb')}
    for module, public in {**sparse_probing.PUBLIC, 'plots': plots.__all__}.items():
        path = root / f'sparse_probing/{module}.py'
        path.write_text(documented(path, notebooks[f'sparse_probing.{module}'], public))
