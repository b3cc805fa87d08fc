"""Models and texts from a hub: a small one on loopback, and none at all."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from helpers import hub
import pytest
import torch
from helpers.apart import python
from sparse_probing import load_lm

TEXTS = [
    f'Number {k}: this is the text of an article about the number {k}, and an example of the kind.'
    for k in range(40)
]
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
    for path in (
        '/api/models/gpt2',
        '/gpt2/resolve/.*/config.json',
        '/gpt2/resolve/.*/model.safetensors',
        '/gpt2/resolve/.*/tokenizer.json',
        '/api/datasets/HuggingFaceFW/fineweb/tree/main/data%2FCC-MAIN-2013-20',
        '/datasets/HuggingFaceFW/fineweb/resolve/main/data/CC-MAIN-2013-20/000_00000.parquet',
    ):
        assert re.search(path, asked), f'{path} was not asked for'
    again = python(
        'from sparse_probing import load_lm; print(load_lm("gpt2").layers)',
        hub.client_env('http://127.0.0.1:9', tmp_path),
    )
    assert again.stdout.strip() == '4', (
        again.stderr
    )  # what was downloaded once loads without a network


def test_the_tour_runs_on_gpt2_and_fineweb(repositories, tmp_path):
    command = [
        Path(sys.executable).with_name('sparse-probing'),
        'tour',
        '--model',
        'gpt2',
        '--text',
        'fineweb',
        '--n',
        '30',
        '--out',
        tmp_path / 'report',
    ]
    with hub.serve(*repositories) as here:
        run = subprocess.run(
            command, env=hub.client_env(here.url, tmp_path / 'hub'), capture_output=True, text=True
        )
    assert run.returncode == 0, run.stderr
    result = json.loads((tmp_path / 'report/tour.json').read_text())
    assert (result['model'], result['text'], result['X_shape'], result['documents']) == (
        'gpt2',
        'fineweb',
        [60, 128],
        400,
    )


def test_no_network_ends_in_an_error_that_names_the_embedded_default(tmp_path):
    nowhere = hub.client_env('http://127.0.0.1:9', tmp_path)
    run = python('from sparse_probing import load_lm; load_lm("gpt2")', nowhere)
    assert run.returncode
    assert "OSError: cannot load the model 'gpt2'" in run.stderr
    assert "load_lm('smollm2')" in run.stderr
    run = python('from sparse_probing import read_documents; read_documents("fineweb")', nowhere)
    assert run.returncode
    assert 'ConnectionError: cannot reach fineweb' in run.stderr
    assert "read_documents('wiki')" in run.stderr


def test_a_hub_that_has_no_such_model_and_one_with_pickles_only(repositories, tmp_path):
    models, datasets = repositories
    pickles = tmp_path / 'pickles'
    shutil.copytree(models['gpt2'], pickles)
    (pickles / 'model.safetensors').rename(pickles / 'pytorch_model.bin')
    code = (
        'from sparse_probing import load_lm\nfor name in ("me/none", "me/pickles"):\n'
        ' try: load_lm(name)\n except OSError as e: print(e)'
    )
    with hub.serve({'me/pickles': pickles}, {}) as here:
        run = python(code, hub.client_env(here.url, tmp_path / 'hub'))
    assert (
        "cannot load the model 'me/none'" in run.stdout
        and "cannot load the model 'me/pickles'" in run.stdout
    ), run.stderr
    assert 'safetensors' in run.stdout


def test_a_local_folder_and_a_damaged_one(repositories, tmp_path):
    folder = tmp_path / 'mine'
    shutil.copytree(repositories[0]['gpt2'], folder)
    assert load_lm(str(folder)).layers == load_lm(folder).layers == 4
    weights = folder / 'model.safetensors'
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(OSError, match='cannot load the model'): load_lm(folder)
    with pytest.raises(OSError, match="cannot load the model './none'.*smollm2"): load_lm('./none')



MODULE = """open({!r}, 'w')
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer
class C(GPT2Config): model_type = 'mine'
class M(GPT2LMHeadModel): pass
class T(GPT2Tokenizer): pass
"""
CODE = {
    'AutoConfig': 'code.C',
    'AutoModel': 'code.M',
    'AutoModelForCausalLM': 'code.M',
    'AutoTokenizer': ['code.T', 'code.T'],
}


@pytest.fixture
def checkpoint(repositories, tmp_path):
    """A folder with a model of other settings, and code that leaves a file where it runs."""
    folder = tmp_path / 'checkpoint'
    shutil.copytree(repositories[0]['gpt2'], folder)
    for name in ('code.py', 'custom_generate/generate.py'):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(MODULE.format(str(tmp_path / 'ran')))
    def change(name='config.json', **settings):
        file = folder / name
        file.write_text(
            json.dumps((json.loads(file.read_text()) if file.exists() else {}) | settings)
        )
        return folder
    return change


def asked(): raise AssertionError('a question was asked')


@pytest.mark.parametrize(
    'changes',
    [
        dict(config=dict(auto_map=CODE)),
        dict(tokenizer_config=dict(auto_map=CODE)),
        dict(tokenizer_config=dict(auto_map=CODE, tokenizer_class='T')),
        dict(tokenizer_config=dict(auto_map=['code.T', None])),
        dict(generation_config=dict(custom_generate='code', auto_map=CODE)),
        dict(config=dict(auto_map=CODE, architectures=None)),
        dict(config=dict(architectures='GPT2LMHeadModel')),
    ],
)
def test_a_family_that_is_known_loads_without_the_code_beside_it(
    checkpoint, tmp_path, monkeypatch, changes
):
    monkeypatch.setattr('builtins.input', lambda *words: asked())
    for name, settings in changes.items(): folder = checkpoint(f'{name}.json', **settings)
    loaded = load_lm(folder)
    assert type(loaded.model).__module__.startswith('transformers.')
    assert loaded.layers == 4
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(model_type='mine', auto_map=CODE), 'code of its own, which is never run'),
        (
            dict(model_type='mine', auto_map={'AutoConfig': 'me/other--code.C'}),
            'code of its own, which is never run',
        ),
        (dict(model_type='mine'), 'does not recognize this architecture'),
        (dict(architectures=['M'], auto_map=CODE), "the architecture 'M', which is no model"),
        (dict(architectures=['os']), "the architecture 'os', which is no model"),
        (dict(architectures=['AutoModel']), 'which is no model'),
        (dict(architectures=['GPT2Tokenizer']), 'which is no model'),
        (dict(architectures=['__version__']), 'which is no model'),
        (dict(architectures=['GPT2Config']), 'which is no model'),
        (dict(architectures=5), 'which is no model'),
        (dict(architectures=['LlamaForCausalLM']), 'The cause'),
        (dict(n_layer='two'), "'n_layer' expected int"),
    ],
)
def test_what_is_no_model_or_needs_its_code_is_refused(
    checkpoint, tmp_path, monkeypatch, settings, message
):
    monkeypatch.setattr('builtins.input', lambda *words: asked())
    with pytest.raises(OSError, match=f"cannot load the model '.*checkpoint'(?s:.*){message}"):
        load_lm(checkpoint(**settings))
    assert not (tmp_path / 'ran').exists()


def test_code_behind_a_hub_is_not_run_either(checkpoint, tmp_path):
    folder = checkpoint(model_type='mine', auto_map=CODE)
    code = (
        'from sparse_probing import load_lm\ntry: load_lm("me/code")\nexcept OSError as e: print(e)'
    )
    with hub.serve({'me/code': folder}, {}) as here:
        run = subprocess.run(
            [sys.executable, '-c', code],
            env=hub.client_env(here.url, tmp_path / 'hub'),
            input='y\n' * 9,
            capture_output=True,
            text=True,
        )
    assert (
        "cannot load the model 'me/code'" in run.stdout
        and 'code of its own' in run.stdout
        and '[y/N]' not in run.stdout
    ), run.stderr
    assert not (tmp_path / 'ran').exists()
    assert 'code.py' not in ' '.join(here.asked)


def only(folder, *names):
    """Leave nothing else in a folder."""
    for path in list(folder.iterdir()):
        if path.name not in names: shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


ADAPTER = dict(base_model_name_or_path='me/base', peft_type='LORA')


@pytest.mark.parametrize(
    'names',
    [
        (),
        ('tokenizer.json', 'tokenizer_config.json'),
        ('config.json',),
        ('config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json'),
    ],
    ids=len,
)
@pytest.mark.parametrize(
    'settings, base',
    [
        (ADAPTER, "'me/base'"),
        (ADAPTER | dict(peft_type='PROMPT_TUNING'), "'me/base'"),
        ({}, 'not named'),
    ],
    ids=['lora', 'prompt', 'empty'],
)
def test_an_adapter_says_what_to_do(checkpoint, names, settings, base):
    folder = only(checkpoint('adapter_config.json', **settings), 'adapter_config.json', *names)
    (folder / 'adapter_model.safetensors').touch()
    with pytest.raises(
        OSError,
        match=rf'adapter of the model .?{base}.*PeftModel.*merge_and_unload.*save_pretrained',
    ):
        load_lm(folder)


def test_an_adapter_behind_a_hub_says_what_to_do(checkpoint, tmp_path):
    folder = only(checkpoint('adapter_config.json', **ADAPTER), 'adapter_config.json')
    with hub.serve({'me/adapter': folder}, {}) as here:
        run = python(
            'from sparse_probing import load_lm; load_lm("me/adapter")',
            hub.client_env(here.url, tmp_path / 'hub'),
        )
    assert run.returncode
    assert "OSError: cannot load the model 'me/adapter'" in run.stderr
    assert "adapter of the model 'me/base'" in run.stderr


@pytest.mark.parametrize(
    'names, message',
    [
        ((), 'The cause'),
        (('config.json',), 'no tokenizer|The cause'),
        (('config.json', 'model.safetensors'), 'no tokenizer'),
        (('tokenizer.json', 'tokenizer_config.json'), 'The cause'),
        (
            ('config.json', 'tokenizer.json', 'tokenizer_config.json'),
            'no file named model.safetensors',
        ),
    ],
    ids=['empty', 'config', 'no tokenizer', 'no model', 'no weights'],
)
def test_a_folder_in_which_something_is_missing(checkpoint, names, message):
    with pytest.raises(OSError, match=f'cannot load the model .*({message})'):
        load_lm(only(checkpoint(), *names))


@pytest.mark.parametrize(
    'name, error',
    [
        (None, TypeError),
        ('', TypeError),
        (5, TypeError),
        (b'gpt2', TypeError),
        ('a b/c?d', OSError),
        ('x.gguf', OSError),
        ('checkpoint/config.json', OSError),
    ],
    ids=repr,
)
def test_names_that_are_none(checkpoint, tmp_path, monkeypatch, name, error):
    checkpoint()
    (tmp_path / 'x.gguf').write_bytes(b'GGUF')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match="the name of a model is 'smollm2'|cannot load the model"):
        load_lm(name)


@pytest.mark.parametrize(
    'words, message',
    [
        (dict(dtype='auto'), 'dtype is a kind of floating-point number'),
        (dict(dtype='int8'), 'dtype is a'),
        (dict(dtype=torch.int64), 'dtype is a'),
        (dict(dtype='float12'), 'dtype is a'),
        (dict(dtype=16), 'dtype is a'),
        (dict(device='gpu'), "cannot compute on the device 'gpu'"),
        (dict(device='cuda:99'), "cannot compute on the device 'cuda:99'"),
        (dict(device=3.5), 'cannot compute on the device 3.5'),
    ],
    ids=str,
)
def test_places_and_numbers_that_are_not_to_be_had(checkpoint, words, message):
    with pytest.raises(ValueError, match=message): load_lm(checkpoint(), **words)


def test_a_kind_of_number_by_its_name(checkpoint):
    assert (
        load_lm(checkpoint(), dtype='float16').model.dtype
        == load_lm(checkpoint(), dtype=torch.float16).model.dtype
        == torch.float16
    )
