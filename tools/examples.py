"""An example for each public name, cut out of the notebook that defines it.

The lesson runs each name on real data soon after it defines it. An example is the first such
statement with all that it needs: the earlier statements that made its variables, and the imports.
Where another place shows a name better, its cell says so: `#| example: LM, load_lm`.
"""
import ast
import builtins
import json
import re
import symtable
import textwrap
from dataclasses import dataclass
from pathlib import Path

import sparse_probing

from tools.sync import NOTEBOOKS

WIDTH = 92
NOT_RUN = re.compile(r'^#\| *(eval: *false|slow)|^[!%]', re.M)
LONGEST = 17 # lines of an example that no cell was marked for
OWNER = {name: 'sparse_probing' for names in sparse_probing.PUBLIC.values() for name in names}


def children(table):
    """The scopes inside of one, at any depth."""
    for child in table.get_children():
        yield child
        yield from children(child)


@dataclass
class Statement:
    """A statement of a notebook that is run: what it reads, what it changes, what it shows."""
    node: ast.stmt
    source: str
    shown: list # lines of output, where it is the last of a cell that shows something
    wanted: set # names whose example its cell says it is

    def __post_init__(self):
        self.changes = set()
        table = symtable.symtable(self.source, 'cell', 'exec')
        symbols = table.get_symbols()
        self.reads = {symbol.get_name() for symbol in symbols if symbol.is_referenced()}
        self.makes = {symbol.get_name() for symbol in symbols
                      if symbol.is_assigned() or symbol.is_imported()}
        for child in children(table):
            self.reads |= {symbol.get_name() for symbol in child.get_symbols()
                           if symbol.is_global() and symbol.is_referenced()}
        if isinstance(self.node, ast.AugAssign):
            self.reads |= self.makes
            self.changes, self.makes = self.makes, set()
        nodes = list(ast.walk(self.node))
        targets = [target for node in nodes if isinstance(node, ast.Assign)
                   for target in node.targets]
        self.changes |= {re.match(r'\w*', ast.unparse(target))[0] for target in targets
                         if isinstance(target, (ast.Attribute, ast.Subscript))}
        self.calls = {node.func.id for node in nodes
                      if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}

    @property
    def is_import(self): return isinstance(self.node, (ast.Import, ast.ImportFrom))


def output(cell: dict) -> list[str]:
    """The lines of text that a cell shows."""
    lines = []
    for of in cell.get('outputs', []):
        data = of.get('data', {})
        text = of.get('text') or data.get('text/plain', [])
        if 'image/png' in data or 'text/markdown' in data: continue
        lines += ''.join(text).splitlines()
    return lines


def statements(notebook: Path) -> list[Statement]:
    """All statements that a notebook runs and does not export, and its imports, in order."""
    found = []
    for cell in json.loads(notebook.read_text())['cells']:
        source = ''.join(cell['source'])
        if cell['cell_type'] != 'code' or NOT_RUN.search(source): continue
        exported = re.search(r'^#\| *(export[is]?|default_exp)\b', source, re.M)
        wanted = re.search(r'^#\| *example: *(.+)', source, re.M)
        names = {name.strip() for name in wanted[1].split(',')} if wanted else set()
        nodes = ast.parse(source).body
        for node in nodes:
            if exported and not isinstance(node, (ast.Import, ast.ImportFrom)): continue
            last = node is nodes[-1] and isinstance(node, (ast.Expr, ast.For))
            found.append(Statement(node, ast.get_source_segment(source, node),
                                   output(cell) if last else [], names))
    return found


def needed(all_of: list[Statement], number: int) -> list[int]:
    """The numbers of the statements that one needs, itself included, in order."""
    chosen, done = {number}, set()
    open_ones = [(name, number) for name in all_of[number].reads]
    while open_ones:
        name, before = open_ones.pop()
        if (name, before) in done: continue
        done.add((name, before))
        for k in range(before - 1, -1, -1):
            if name in all_of[k].makes or name in all_of[k].changes:
                if k not in chosen:
                    chosen.add(k)
                    open_ones += [(read, k) for read in all_of[k].reads]
                if name in all_of[k].makes: break
    return sorted(chosen)


def imports(used: set, parts: list[Statement], module: str, own: set) -> list[str]:
    """The import lines for the names that are used: of our own, those that the front door has."""
    plain, named = set(), {}
    for part in parts:
        for alias in part.node.names:
            name, renamed = alias.asname or alias.name, f' as {alias.asname}' * bool(alias.asname)
            if name not in used: continue
            if isinstance(part.node, ast.Import): plain.add(f'import {alias.name}{renamed}')
            else:
                owner = OWNER.get(name, part.node.module)
                named.setdefault(owner, set()).add(alias.name + renamed)
    for name in used & own: named.setdefault(OWNER.get(name, module), set()).add(name)
    lines = sorted(plain)
    for owner, names in sorted(named.items()):
        line = f'from {owner} import {", ".join(sorted(names))}'
        wrapped = textwrap.wrap(line.replace('import ', 'import (') + ')', WIDTH,
                                subsequent_indent='    ')
        lines += [line] if len(line) <= WIDTH else wrapped
    return lines


def prompt(source: str) -> list[str]:
    """A statement as it looks at the prompt of Python."""
    first, *others = source.splitlines()
    block = re.match(r'(for|with|def|class|try|if|while)\b|@', first)
    lines = [f'>>> {first}', *(f'... {line}'.rstrip() for line in others)]
    return lines + ['...'] * bool(block)


def exported_names(notebook: Path) -> set:
    """What a notebook exports."""
    names = set()
    for cell in json.loads(notebook.read_text())['cells']:
        source = ''.join(cell['source'])
        is_exported = re.search(r'^#\| *export[is]?\b', source, re.M)
        for node in ast.parse(source).body if is_exported else []:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)): names.add(node.name)
            if isinstance(node, ast.Assign):
                names |= {t.id for t in node.targets if isinstance(t, ast.Name)}
    return names


def module_of(notebook: Path) -> str:
    """The module that a notebook exports to."""
    name = re.search(r'#\| default_exp ([\w.]+)', notebook.read_text())
    return f'sparse_probing.{name[1]}' if name else ''


def examples(notebook: Path, public: list[str]) -> dict[str, list[str]]:
    """For each public name of a notebook the lines of its example."""
    return {name: lines for name in public if (lines := marked(name) or called(notebook, name))}


def marked(name: str) -> list[str]:
    """The example of a name in whatever notebook has a cell that says it is."""
    for notebook in NOTEBOOKS:
        if not re.search(rf'#\| *example:[^"]*\b{name}\b', notebook.read_text()): continue
        parts = statements(notebook)
        numbers = [k for k, part in enumerate(parts) if name in part.wanted]
        if numbers: return lines_of(notebook, parts, {*numbers}, numbers[-1])
    return []


def called(notebook: Path, name: str) -> list[str]:
    """The first statement that calls a name, with all that it needs, if that is not too much."""
    parts = statements(notebook)
    for number, part in enumerate(parts):
        if name not in part.calls: continue
        last = look(parts, number)
        lines = lines_of(notebook, parts, {number, last}, last)
        if len(lines) <= LONGEST: return lines
    return []


def look(parts: list[Statement], number: int) -> int:
    """The number of the statement that shows what one has made, if it comes soon; else the same."""
    made = parts[number].makes
    known = set().union(*(parts[k].makes for k in needed(parts, number)))
    known |= set(dir(builtins)).union(*(part.makes for part in parts if part.is_import))
    for later in range(number, min(number + 4, len(parts))):
        part = parts[later]
        is_look = made & part.reads and part.reads <= known and len(part.shown) <= LONGEST // 2
        if is_look and isinstance(part.node, ast.Expr) and part.shown: return later
    return number


def lines_of(notebook: Path, parts: list[Statement], numbers: set[int], last: int) -> list[str]:
    """Statements with all that they need, as typed at a prompt, and what the last of them shows."""
    chosen = [parts[k] for k in sorted(set().union(*(needed(parts, k) for k in numbers)))]
    used = set().union(*(part.reads for part in chosen))
    made = set().union(*(part.makes for part in chosen if not part.is_import))
    own, module = exported_names(notebook), module_of(notebook)
    lines = [f'... {line}' if line.startswith(' ') else f'>>> {line}'
             for line in imports(used - made, [p for p in parts if p.is_import], module, own)]
    for part in chosen:
        if not part.is_import: lines += prompt(part.source)
    return lines + [short(line) for line in parts[last].shown]


def short(line: str) -> str:
    """A line of output, cut where it is long; doctest knows what the dots mean."""
    return line if len(line) <= WIDTH else line[:WIDTH].rpartition(' ')[0] + ' ...'
