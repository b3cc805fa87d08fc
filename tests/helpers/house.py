"""The rooms of the house: the modules of the package, and which of them a room may import."""
import ast
from pathlib import Path

import sparse_probing
from tools.sync import NOTEBOOKS, ROOT # noqa: F401

TEXT_WING = {'carriers', 'sources', 'tokens', 'examples', 'sites', 'contexts', 'activations',
             'tasks', 'store', 'executors', 'ledger', 'harvests', 'neurons', 'onward', 'edits',
             'writes', 'outcomes'}
PROBE_WING = {'matrix', 'probe', 'solver', 'path', 'ksparse', 'subsets', 'controls',
              'selection'}
MEETING_PLACE = {'sweeps'}
BOTTOM = {'plots', 'files', 'fingerprints', 'extras'}
ON_BOTH = {'studies', 'pages'} # ask models, texts and probes together
ON_THE_BOTTOM = {'report'} # of neither wing; knows no model, no text and no probe

# What stands below a lesson, beside the lessons before it and `plots`.
BELOW_A_LESSON = {
    'sources': {'carriers', 'sites'},
    'tokens': set(),
    'examples': set(),
    'activations': {'sites', 'contexts', 'files', 'store'},
    'probe': {'matrix'},
    'solver': {'matrix'},
    'path': {'matrix'},
    'tasks': {'carriers'},
    'ksparse': {'matrix', 'subsets'},
    'sweeps': {'files', 'fingerprints', 'matrix'},
    'controls': {'matrix'},
    'selection': {'matrix'},
    'neurons': {'sites', 'contexts', 'store'},
    'harvests': {'sites', 'contexts', 'files', 'fingerprints', 'store', 'executors', 'ledger'},
    'studies': {'files', 'fingerprints', 'pages'},
}
# What a room that is no lesson may import.
BELOW_A_ROOM = {
    'plots': set(),
    'files': set(),
    'fingerprints': set(),
    'extras': set(),
    'report': {'files'},
    'sites': set(),
    'matrix': set(),
    'carriers': {'files', 'extras'},
    'contexts': {'fingerprints', 'tokens', 'examples'},
    'store': {'files', 'fingerprints', 'examples', 'contexts'},
    'executors': {'files', 'extras', 'store'},
    'ledger': {'files', 'fingerprints', 'sources', 'examples', 'contexts', 'store', 'executors'},
    'subsets': {'matrix', 'probe', 'solver', 'path'},
    'pages': {'report', 'sweeps', 'plots'},
    'onward': {'sites', 'sources', 'tokens', 'examples', 'activations'},
    'edits': {'sites', 'sources', 'examples', 'activations'},
    'writes': {'sites', 'sources', 'examples', 'activations', 'neurons', 'onward'},
    'outcomes': {'files'},
}
LESSONS = list(BELOW_A_LESSON)


def modules() -> dict[str, Path]:
    """All modules by name, such as 'probe' and 'course.checks', but for the front door."""
    package = ROOT / 'sparse_probing'
    return {'.'.join(path.relative_to(package).with_suffix('').parts): path
            for path in sorted(package.rglob('*.py')) if path.stem not in ('__init__', '_modidx')}


def owner(name: str) -> str:
    """The module of a name that is imported from the front door; the name itself for a module."""
    return next((module for module, names in sparse_probing.PUBLIC.items() if name in names), name)


def run_time_nodes(tree: ast.AST):
    """All nodes of a module but those that are only for whoever checks its types."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.unparse(node.test): continue
        yield node
        yield from run_time_nodes(node)


def imports_of(source: str, module: str = '') -> tuple[set[str], set[str]]:
    """What a module or a cell imports at run time, also inside of functions.

    The first set holds modules of the package, such as 'probe', 'bench' and 'course.checks'; the
    second one other packages.
    """
    inside, outside = set(), set()
    for node in run_time_nodes(ast.parse(source)):
        if isinstance(node, ast.Import): names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = node.module or ''
            if node.level:
                folders = ['sparse_probing', *module.split('.')][:-node.level]
                start = '.'.join([*folders, start]).rstrip('.')
            # a folder has no names of its own: what comes from it is a module
            is_folder = (ROOT / start.replace('.', '/')).is_dir()
            names = [f'{start}.{alias.name}' for alias in node.names] if is_folder else [start]
        else: continue
        for name in names:
            first, _, rest = name.partition('.')
            if first != 'sparse_probing': outside.add(first)
            elif rest: inside.add(owner(rest))
    return inside, outside
