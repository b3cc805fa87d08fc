"""Models and texts from a hub: a small one on loopback that serves a tiny GPT-2 and a page of FineWeb, and none at all."""
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import hub
import pytest
from conftest import python
from sparse_probing import load_lm

TEXTS = [f'Number {k}: this is the text of an article about the number {k}, and an example of the kind.' for k in range(40)]
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
