"""Harvests: the values, every engine, kills, and whatever may be wrong with a corpus, a folder or a store."""
import gzip
import json
import os
import pickle
import random
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import slurm_node
import torch
from tools import torture
from sparse_probing import ActivationStore, capitalised, harvest, load_lm, next_token_is, read_documents, record, sparsity_path, split, sweep, tokenize
from sparse_probing.activations import gather, looks_ahead
from sparse_probing.contexts import chunks, find_hits, prune
from sparse_probing.sites import lone_mlp
from sparse_probing.ledger import SKIPPED, Deal, alone_in, plan
from sparse_probing.store import get_datafolder
from sparse_probing.tokens import Tokens
from helpers.tiny import ENCODERS, FAMILIES, tiny

TARGETS = {'the': ' the', 'an': ' an'}


class Inline:
    """An executor without processes: one rank after the other, here."""
    def __init__(self, pipeline, tasks, **others): self.pipeline, self.tasks = pipeline, tasks
    def run(self, watch):
        for rank in range(self.tasks):
            data = None
            for step in self.pipeline: data = step(data, rank, self.tasks)
            watch()


here = partial(harvest, executor=Inline, threads=2, tasks=1)


def off(a, b):
    """The largest difference, as a share of the largest value."""
    return abs(a - b).max() / abs(b).max()


# ---- the values

def test_windows_are_what_record_reads_bit_for_bit(lm, tmp_path, tell):
    words = dict(layers=(0, 3), positions=(-2, 0), limit=12)
    whole = here('news', lm, TARGETS, out=tmp_path / 'whole', prune=False, **words)
    recorded = record(lm, whole.examples, (0, 3), (-2, 0))
    assert len(whole) > 100 and whole.examples.ids.shape[1] == 17
    for layer in (0, 3):
        for position in (-2, 0): assert (whole.at(layer, position) == recorded.at(layer, position)).all()
    cut = here('news', lm, TARGETS, out=tmp_path / 'cut', **words)
    assert cut.manifest['counts']['run'] < whole.manifest['counts']['run'] and cut.rows.equals(whole.rows)
    furthest = max(off(cut.at(layer, position), whole.at(layer, position)) for layer in (0, 3) for position in (-2, 0))
    tell(f'windows cut after their hit: values off by {furthest:.1e} of the largest')
    assert furthest <= 1e-5


@torch.inference_mode()
def plain(lm, ids, layer):
    """The neurons of a layer at every token of one sequence, by the whole model and a hook of our own."""
    kept = []
    handle = lm.model.model.layers[layer].mlp.down_proj.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0][0]))
    lm.model(torch.as_tensor(ids.astype(np.int64))[None])
    handle.remove()
    return kept[0].numpy()


@pytest.mark.parametrize('prune', [True, False])
def test_chunks_are_what_the_whole_model_says_over_each_chunk(lm, tmp_path, tell, prune):
    store = here('news', lm, TARGETS, layers=(0, 2), limit=3, context=100, out=tmp_path / 'store', prune=prune, shard_tokens=300)
    tokens = tokenize(read_documents('news', 3), lm.tokenizer)
    found = chunks(tokens, find_hits(tokens, lm.tokenizer, TARGETS), 100, 14, 2)
    assert len(store.manifest['shards']) > 1 and store.rows.token.tolist() == tokens.ids[found.hits.place].tolist()
    assert store.rows.place.tolist() == found.hits.offset.tolist() and store.rows.label.tolist() == found.hits.label.tolist()
    values = {layer: [plain(lm, tokens.ids[a:b], layer) for a, b in zip(found.start, found.stop)] for layer in (0, 2)}
    for layer in (0, 2):
        there = np.stack([values[layer][c][p - found.start[c]] for c, p in zip(found.hits.context, found.hits.place)])
        tell(f'chunks, prune={prune}, layer {layer}: values off by {off(store.at(layer), there):.1e} of the largest')
        assert off(store.at(layer), there) <= 1e-5


@pytest.mark.parametrize('family', FAMILIES)
def test_skipping_and_cutting_change_nothing_in_any_family(family):
    lm, rng = tiny(FAMILIES[family][0], family in ENCODERS), np.random.default_rng(0)
    tokens = Tokens(rng.integers(5, 120, 200).astype(np.int32), np.array([0, 90]))
    hits = find_hits(tokens, None, lambda tokens, tokenizer: {'a': np.array([3, 8, 50, 95, 190])[:len(tokens)] % len(tokens)})
    whole, ahead = chunks(tokens, hits, 40, 5, 2), looks_ahead(lm, [0, 2])
    less = prune(whole, None if ahead else 0)
    assert ahead == (family in ENCODERS) and len(less) < len(whole)
    assert (lone_mlp(lm.model, 2) is None) == (family in ('OPT', 'BLOOM', 'BERT', 'RoBERTa'))
    before, after = gather(lm, whole, [0, 2], (-1, 0)), gather(lm, less, [0, 2], (-1, 0), alone=True)
    for key in before: assert off(after[key], before[key]) <= 1e-5


def test_a_rule_names_all_of_its_classes(lm):
    tokens = tokenize(read_documents('news', 2), lm.tokenizer)
    swapped = lambda tokens, tokenizer: {'a': [0]} if len(tokens) == 1 else {'a': [1]}
    assert find_hits(tokens, lm.tokenizer, swapped).label.tolist() == [0]
    with pytest.raises(ValueError, match=r"the rule gave classes \['b'\]"): find_hits(tokens, lm.tokenizer, lambda tokens, tokenizer: {'a': [0]} if len(tokens) == 1 else {'b': [1]})


@pytest.mark.parametrize('site', ['mlp', 'attention', 'residual'])
def test_other_sites(lm, tmp_path, site):
    store = here('news', lm, TARGETS, layers=1, limit=4, site=site, out=tmp_path / 'store', prune=False)
    assert store.site == site and (store.at(1) == record(lm, store.examples, 1, site=site).at(1, 0)).all() and store.at(1).shape[1] == lm.width


def test_types_of_numbers(lm, tmp_path, tell):
    full, half, coarse = (here('news', lm, TARGETS, layers=2, limit=8, out=tmp_path / name, **words).at(2)
                          for name, words in (('a', {}), ('b', dict(dtype='float16')), ('c', dict(precision='bfloat16'))))
    tell(f'stored as float16: off by {off(half, full):.1e} of the largest; computed in bfloat16: {off(coarse, full):.1e}')
    assert 0 < off(half, full) < 1e-3 < off(coarse, full) < .1 and half.dtype == np.float32


def test_every_nth_token_rules_and_samples(lm, tmp_path):
    store = here('news', lm, TARGETS | {'any': 10}, layers=0, limit=6, out=tmp_path / 'any', seed=3)
    again = here('news', lm, TARGETS | {'any': 10}, layers=0, limit=6, out=tmp_path / 'again', seed=3)
    assert torture.content(tmp_path / 'any') == torture.content(tmp_path / 'again')
    some = store.rows[store.rows.label == 2]
    assert all(len(set(group.place % 10)) == 1 for _, group in some.groupby('group')) and len(set(some.place % 10)) > 1
    store = here('news', lm, capitalised, layers=0, limit=6, out=tmp_path / 'rule')
    assert store.classes == ('capitalised', 'lower case') and store.rows.rule[0] == 'sparse_probing.tasks.capitalised'
    words = [text.strip() for text in lm.tokenizer.batch_decode(store.rows.token.to_numpy()[:, None])]
    assert all(word[0].isupper() == (label == 0) for word, label in zip(words, store.rows.label))
    assert here('news', lm, partial(next_token_is, text=' the'), layers=0, limit=6, out=tmp_path / 'partial').classes[0] == 'before the'


def test_a_store_takes_the_place_of_activations(lm, tmp_path):
    store = here('news', lm, TARGETS, layers=(0, 1), positions=(-1, 0), limit=150, dtype='float16', out=tmp_path / 'store', shard_tokens=4000).sample(80)
    assert len(store) == 160 and np.bincount(store.examples.y).tolist() == [80, 80]
    few = store.examples
    assert (store.at(1, 0) == ActivationStore(tmp_path / 'store').at(1, 0)[store.chosen]).all()
    path = sparsity_path(store.at(1, 0), few.y == 1, cv=3, groups=few.group)
    table = sweep(store, along=[.01, .1])
    assert table.gap.max() <= 1e-6 and set(table.position) == {-1, 0} and path.held_out is not None


def test_a_store_in_a_file_system_of_fsspec(lm, tmp_path):
    local = here('news', lm, TARGETS, layers=0, limit=4, out=tmp_path / 'local')
    remote = here('news', lm, TARGETS, layers=0, limit=4, out='memory://harvest')
    assert (remote.at(0) == local.at(0)).all() and remote.verify() == [] and remote.rows.equals(local.rows)


# ---- engines and kills

SHORT = dict(limit=7, tasks=3)


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp('whole') / 'store'
    torture.finish(torture.start(out, 'local', **SHORT))
    return torture.content(out)


@pytest.mark.parametrize('executor, whom', [('local', 'group'), ('ray', 'worker')])
def test_a_harvest_that_was_killed_gives_the_same_store(undisturbed, tmp_path, executor, whom):
    shards, killed, _ = torture.disturbed(tmp_path / 'store', executor, whom, 'shards/*.safetensors', .1, random.Random(0), **SHORT)
    assert killed and 0 < shards < len(undisturbed) - 2
    assert torture.content(tmp_path / 'store') == undisturbed


def test_slurm_gives_the_same_store(undisturbed, tmp_path):
    if reason := slurm_node.missing(): pytest.skip(reason)
    with slurm_node.slurm(): torture.finish(torture.start(tmp_path / 'store', 'slurm', **SHORT))
    assert torture.content(tmp_path / 'store') == undisturbed


# ---- what may be wrong

def text(folder, name, texts):
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table({'text': texts, 'id': [f'{name}/{k}' for k in range(len(texts))]}), folder / f'{name}.parquet')
    return folder / f'{name}.parquet'


SENTENCE = 'It was said in the town that the old bridge over the river would have to be closed for an hour on the first day of the week. ' * 3


def truncated(path): path.write_bytes(path.read_bytes()[:-20])
def empty(path): path.write_bytes(b'')
def flipped(path):
    column, content = pq.ParquetFile(path).metadata.row_group(0).column(0), bytearray(path.read_bytes()) # its text
    middle = column.file_offset + column.total_compressed_size // 2 if column.file_offset else 4 + column.total_compressed_size // 2
    content[middle:middle + 40] = bytes(byte ^ 0xff for byte in content[middle:middle + 40])
    path.write_bytes(content)
def footer(path):
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xff
    path.write_bytes(content)
def no_text(path): pq.write_table(pa.table({'body': [SENTENCE]}), path)
def none(path): pq.write_table(pa.table({'text': [SENTENCE, None]}), path)


@pytest.mark.parametrize('damage', [truncated, empty, flipped, footer, no_text, none])
def test_a_bad_file_fails_its_own_task_or_is_skipped(lm, tmp_path, damage):
    source = tmp_path / 'text'
    bad = [text(source, name, [f'{name}{k} {SENTENCE}' for k in range(40)]) for name in ('a', 'b', 'c')][1]
    damage(bad)
    words = dict(layers=0, tasks=3, threads=1, workers=2)
    if damage is truncated: # the real thing once: two others are done, and the error names the file
        with pytest.raises(RuntimeError, match=r'1 of 3 tasks failed, the others are done: task 1: ValueError: \S+b.parquet') as error: harvest(source, lm, TARGETS, out=tmp_path / 'a', **words)
        assert len(list((tmp_path / 'a/run/tasks').iterdir())) == 2 and not (tmp_path / 'a/manifest.json').exists()
        text(source, 'b', [f'b{k} {SENTENCE}' for k in range(40)])
        with pytest.raises(ValueError, match='holds another harvest .files: '): harvest(source, lm, TARGETS, out=tmp_path / 'a', **words)
        damage(bad)
    else:
        with pytest.raises(ValueError, match='b.parquet'): here(source, lm, TARGETS, layers=0, tasks=3, out=tmp_path / 'a')
    with pytest.warns(UserWarning, match='documents or files were skipped, the first: .*b.parquet'):
        store = here(source, lm, TARGETS, layers=0, tasks=3, out=tmp_path / 'b', on_error='skip')
    assert {name.partition('/')[0] for name in store.rows.document} >= {'a', 'c'} and store.manifest['skipped'] and 'b.parquet' in store.manifest['skipped'][0]


def test_texts_of_any_size_and_of_odd_characters(lm, tmp_path):
    long = SENTENCE * 27000 # 10 MB
    source = text(tmp_path / 'text', 'a', ['\0\0\0', f'\0 {SENTENCE} \0', long, SENTENCE])
    store = here(source, lm, {'any': 1}, layers=0, limit=2, context=128, out=tmp_path / 'small')
    assert set(store.rows.document) == {'a/0', 'a/1'}
    store = here(source, lm, {'any': 20000}, layers=0, context=128, out=tmp_path / 'large')
    assert store.rows.place.max() > 10**6 and set(store.rows.document) >= {'a/2'} and len(store) > 100


def test_nothing_found_is_an_error_and_a_class_that_was_not_found_a_warning(lm, tmp_path):
    with pytest.raises(ValueError, match=r'no hit in 3 documents of [\d,]+ tokens'): here('news', lm, {'x': ' synthesis'}, layers=0, limit=3, out=tmp_path / 'a')
    with pytest.raises(ValueError, match='no hit in 3 documents'): here('news', lm, {'x': ' synthesis'}, layers=0, limit=3, out=tmp_path / 'a')
    with pytest.warns(UserWarning, match=r"class 'x' \(' synthesis'\) was never found"): here('news', lm, {'the': ' the', 'x': ' synthesis'}, layers=0, limit=3, out=tmp_path / 'b')


@pytest.mark.parametrize('words, message', [
    (dict(layers=30), 'layers .30. are out of range'), (dict(layers=()), 'nothing to record'), (dict(positions=3), 'positions .3,. are out of range'),
    (dict(site='neuron'), 'unknown site'), (dict(context=16), "context is 'window'"), (dict(context=10**6), "context is 'window'"), (dict(dtype='int8'), 'dtype is one of'),
    (dict(precision='double'), 'precision is one of'), (dict(tasks=0), 'at least 1'), (dict(limit=0), 'limit must be at least 1'), (dict(executor='dask'), 'choose one of local, ray, slurm'),
    (dict(on_error='ignore'), 'on_error is one of'), (dict(targets={'x': ' the an'}), 'not one token'), (dict(targets={}), 'targets are a mapping'), (dict(targets={'x': 0}), 'n for every n-th'),
    (dict(targets={'x': ' the', 'y': ' the'}), 'places in common'), (dict(source='nowhere/*.parquet'), 'matches no file')])
def test_what_cannot_be_harvested_is_said_before_anything_is_written(lm, tmp_path, words, message):
    words = dict(source='news', targets=TARGETS, layers=0, limit=2) | words
    with pytest.raises((ValueError, FileNotFoundError), match=message): here(words.pop('source'), lm, words.pop('targets'), out=tmp_path / 'out', **words)
    assert not (tmp_path / 'out/manifest.json').exists() and not (tmp_path / 'out/shards').exists()


def test_another_model_behind_the_same_name(lm, tmp_path):
    changed = load_lm()
    with torch.no_grad(): next(changed.model.parameters()).add_(1)
    with pytest.raises(ValueError, match="loaded as 'smollm2' has other weights than"): here('news', changed, TARGETS, layers=0, limit=2, out=tmp_path)


def test_one_folder_is_one_harvest_of_one_driver(lm, tmp_path):
    words = dict(layers=0, limit=3, out=tmp_path / 'store')
    store = here('news', lm, TARGETS, **words)
    before = torture.content(tmp_path / 'store')
    assert here('news', lm, TARGETS, **words).manifest == store.manifest
    with pytest.raises(ValueError, match=r"layers: \[0\] there, \[1\] asked for; limit: 3 there, 4 asked for"): here('news', lm, TARGETS, **words | dict(layers=1, limit=4))
    with pytest.raises(ValueError, match='tasks: 1 there, 2 asked for'): here('news', lm, TARGETS, tasks=2, **words)
    with alone_in(get_datafolder(str(tmp_path / 'other'))), pytest.raises(RuntimeError, match='another harvest is running'): here('news', lm, TARGETS, **words | dict(out=tmp_path / 'other'))
    assert torture.content(tmp_path / 'store') == before


@contextmanager
def mounted(folder, *options):
    folder.mkdir()
    done = subprocess.run(['mount', '-t', 'tmpfs', '-o', ','.join(options), 'tmpfs', str(folder)], capture_output=True, text=True)
    if done.returncode: pytest.skip(f'no file system can be mounted here: {done.stderr.strip()}')
    try: yield folder
    finally: subprocess.run(['umount', '-l', str(folder)], check=True)


def test_a_full_disk_and_a_folder_that_cannot_be_written(lm, tmp_path):
    words = dict(layers=0, limit=100, shard_tokens=2000)
    with mounted(tmp_path / 'small', 'size=3m') as small:
        with pytest.raises(OSError, match='cannot write .*No space left on device.*free some space'): here('news', lm, TARGETS, out=small / 'store', **words)
        assert not list(small.rglob('*.partial')) and list(small.rglob('*.safetensors'))
        subprocess.run(['mount', '-o', 'remount,size=60m', str(small)], check=True)
        assert len(here('news', lm, TARGETS, out=small / 'store', **words).manifest['shards']) > 2, 'with more room it goes on'
    with mounted(tmp_path / 'fixed', 'ro') as fixed, pytest.raises(OSError, match='cannot write into .*choose another folder'): here('news', lm, TARGETS, out=fixed / 'store', **words)


def test_a_shard_that_is_cut_swapped_edited_or_lost(lm, tmp_path):
    store = here('news', lm, TARGETS, layers=0, limit=60, out=tmp_path / 'store', shard_tokens=2000)
    first, second, third, fourth = (tmp_path / 'store' / shard['name'] for shard in store.manifest['shards'][:4])
    whole = torture.content(tmp_path / 'store')
    assert store.verify() == []
    first.write_bytes(first.read_bytes()[:-100])
    a, b = second.read_bytes(), third.read_bytes()
    second.write_bytes(b)
    third.write_bytes(a)
    with open(fourth, 'r+b') as file:
        file.seek(-5, os.SEEK_END)
        file.write(b'x')
    said = store.verify()
    assert len(said) == 4 and all(f'{k:05d}.safetensors' in line for k, line in enumerate(said)), said
    with pytest.raises(ValueError, match='00000-00000.safetensors is damaged.*sparse-probing verify'): store.at(0)
    command = Path(sys.executable).with_name('sparse-probing')
    run = subprocess.run([command, 'verify', tmp_path / 'store'], capture_output=True, text=True)
    assert run.returncode == 1 and '4 of ' in run.stdout and '00003.safetensors has other content' in run.stdout
    (tmp_path / 'store/manifest.json').unlink() # harvested again, the shards of the wrong length are made anew
    for path in (first, second, third, fourth): path.unlink()
    assert here('news', lm, TARGETS, layers=0, limit=60, out=tmp_path / 'store', shard_tokens=2000).verify() == [] and torture.content(tmp_path / 'store') == whole
    run = subprocess.run([command, 'verify', tmp_path / 'store'], capture_output=True, text=True)
    assert run.returncode == 0 and 'as they were written' in run.stdout


def test_the_command_line(tmp_path):
    command = [Path(sys.executable).with_name('sparse-probing'), 'harvest', '--text', 'news', '--target', ' the', '--target', ' an', '--layers', '0', '--positions', '-1,0',
               '--limit', '6', '--tasks', '2', '--context', '128', '--dtype', 'float16', '--out', tmp_path / 'store']
    run = subprocess.run(command, capture_output=True, text=True, env={k: v for k, v in os.environ.items() if k != 'TQDM_DISABLE'})
    assert run.returncode == 0 and "' the'" in run.stdout and 'ActivationStore(' in run.stdout, run.stderr
    assert 'hits' in run.stderr and '100%' in run.stderr and 'Loading weights' not in run.stderr.split('harvest:')[-1] and len(run.stderr.replace('\r', '\n').splitlines()) < 80
    store = ActivationStore(tmp_path / 'store')
    assert store.positions == (-1, 0) and store.manifest['config']['context'] == 128 and store.classes == (' the', ' an')


# ---- the right tokens

def test_windows_with_a_token_before_them_are_what_record_reads_bit_for_bit(lm, tmp_path):
    words = dict(layers=(0, 3), positions=(-15, -14, 0), limit=4, bos=True) # position -15 is the token before the window
    whole = here('news', lm, TARGETS, out=tmp_path / 'whole', prune=False, **words)
    recorded, plain = record(lm, whole.examples, (0, 3), (-15, -14, 0)), here('news', lm, TARGETS, out=tmp_path / 'plain', prune=False, layers=0, limit=4)
    assert (whole.examples.ids[:, 0] == lm.tokenizer.bos_token_id).all() and (whole.examples.ids[:, 1:] == plain.examples.ids).all() and whole.rows.equals(plain.rows)
    assert (whole.examples.ids[np.arange(len(whole)), whole.examples.place] == whole.rows.token).all() and whole.manifest['config']['bos'] == [lm.tokenizer.bos_token_id]
    for layer in (0, 3):
        for position in (-15, -14, 0): assert (whole.at(layer, position) == recorded.at(layer, position)).all()
    assert whole.manifest['counts']['run'] == 18 * len(whole) == plain.manifest['counts']['run'] + len(whole) and off(plain.at(0), whole.at(0)) > .01
    assert len(np.unique(whole.at(0, -15), axis=0)) == 1 # which says the same everywhere
    cut = here('news', lm, TARGETS, out=tmp_path / 'cut', **words)
    assert max(off(cut.at(layer, position), whole.at(layer, position)) for layer in (0, 3) for position in (-15, -14, 0)) <= 1e-5


@pytest.mark.parametrize('prune', [True, False])
def test_chunks_with_a_token_before_them(lm, tmp_path, prune):
    store = here('news', lm, TARGETS, layers=2, limit=1, context=100, out=tmp_path / 'store', prune=prune, shard_tokens=300, bos=True)
    tokens, bos = tokenize(read_documents('news', 1), lm), [lm.tokenizer.bos_token_id]
    found = chunks(tokens, find_hits(tokens, lm, TARGETS), 100, 14, 2)
    values = [plain(lm, np.concatenate([bos, tokens.ids[a:b]]), 2) for a, b in zip(found.start, found.stop)]
    there = np.stack([values[c][p - found.start[c] + 1] for c, p in zip(found.hits.context, found.hits.place)])
    assert off(store.at(2), there) <= 1e-5 and store.rows.place.tolist() == found.hits.offset.tolist()
    assert (store.examples.ids[np.arange(len(store)), store.examples.place] == store.rows.token).all() and (store.examples.ids[:, 0] == bos).all()
    if not prune: assert store.manifest['counts']['run'] == (found.stop - found.start + 1).sum()
    with pytest.raises(ValueError, match=r"bos: \[1\] there, \[\] asked for"): here('news', lm, TARGETS, layers=2, limit=1, context=100, out=tmp_path / 'store', prune=prune, shard_tokens=300)
    with pytest.raises(ValueError, match='positions .-15,. are out of range'): here('news', lm, TARGETS, layers=2, limit=1, context=100, out=tmp_path / 'other', positions=-15, bos=True)
    longest = lm.model.config.max_position_embeddings
    with pytest.raises(ValueError, match=f"from 17 to {longest - 1}"): here('news', lm, TARGETS, layers=2, context=longest, out=tmp_path / 'other', bos=True)


def test_whole_words_in_a_harvest(lm, tmp_path):
    source = text(tmp_path / 'text', 'a', ['They saw anoxia, anoxia and anoxia.', '今天的天气很好。我们去公园。'])
    words = dict(layers=0, before=0, after=0)
    with pytest.raises(ValueError, match=r'no hit in 2 documents.*whole word left out 3 places.*whole_word=False takes these too'): here(source, lm, {'an': ' an'}, out=tmp_path / 'a', **words)
    assert len(here(source, lm, {'an': ' an'}, out=tmp_path / 'b', whole_word=False, **words)) == 3
    with pytest.raises(ValueError, match='whole_word: False there, True asked for'): here(source, lm, {'an': ' an'}, out=tmp_path / 'b', **words)
    store = here(source, lm, {'de': '的', 'stop': '。'}, out=tmp_path / 'c', **words)
    ActivationStore(tmp_path / 'c', lm).examples.show(1) # an LM in place of its tokenizer
    assert np.bincount(store.examples.y).tolist() == [1, 2] and not any('inside' in key for key in store.manifest['counts'])
    with pytest.warns(UserWarning, match=r"class 'an' .* was never found. The rule that a hit is a whole word left out 3 places"): here(source, lm, {'an': ' an', 'de': '的'}, out=tmp_path / 'd', **words)


@pytest.mark.parametrize('words, message', [
    (dict(lm='model'), 'lm is a model with its tokenizer.*got LlamaForCausalLM'), (dict(lm='tokenizer'), 'lm is a model with its tokenizer'), (dict(targets=[' the', ' an']), 'targets are a mapping'),
    (dict(before='14'), "before is a whole number; got before='14'"), (dict(after=2.), 'after is a whole number'), (dict(seed='0'), 'seed is a whole number'), (dict(tasks='2'), 'tasks is a whole number'),
    (dict(limit='2'), 'limit is a whole number'), (dict(before=-1), 'before and after are at least 0'), (dict(bos='yes'), "bos is 'auto', True or False")])
def test_first_mistakes_of_a_harvest(lm, tmp_path, words, message):
    words = dict(lm=lm, targets=TARGETS, layers=0, out=tmp_path / 'out') | words
    lm = {'model': lm.model, 'tokenizer': lm.tokenizer}[words['lm']] if isinstance(words['lm'], str) else lm
    with pytest.raises(ValueError, match=message): harvest('news', lm, words.pop('targets'), **{k: v for k, v in words.items() if k != 'lm'})
    assert not (tmp_path / 'out/run').exists()


def test_two_spellings_on_the_command_line_are_two_classes(tmp_path):
    from sparse_probing.cli import app
    from typer.testing import CliRunner
    words = ['harvest', '--text', 'news', '--target', 'The', '--target', ' The', '--layers', '0', '--limit', '6', '--tasks', '1', '--before', '0', '--bos', 'true', '--no-whole-word', '--out', str(tmp_path / 'store')]
    run = CliRunner().invoke(app, words)
    assert run.exit_code == 0, run.output
    store = ActivationStore(tmp_path / 'store')
    assert store.classes == ('The', ' The') and np.bincount(store.examples.y).min() > 0 and store.manifest['config']['bos'] == [1] and not store.manifest['config']['whole_word']
    assert '--bos is one of auto, true, false' in str(CliRunner().invoke(app, words[:-1] + [str(tmp_path / 'other'), '--bos', 'no']).exception)


# ---- reading: what a bad row costs, and the ids of documents

def packed(folder, ending, rows):
    """A file of JSON lines, bytes each, compressed as its name says."""
    folder.mkdir(exist_ok=True)
    content = b'\n'.join(rows)
    pack = {'.gz': gzip.compress, '.zst': lambda content: pa.compress(content, 'zstd', asbytes=True)}.get(ending, bytes)
    (folder / f'a.jsonl{ending}').write_bytes(pack(content))
    return folder


LINES = [json.dumps({'text': f'{k}: {SENTENCE}'}).encode() for k in range(1000)]
CUT = LINES[0][:30]


@pytest.mark.parametrize('ending', ['', '.gz', '.zst'])
@pytest.mark.parametrize('bad', [{3: CUT}, {0: CUT}, {999: CUT}, {0: b'[]', 500: b'{"text": "\xff"}', 501: b'7', 999: b'{"text": null}'}], ids=['one', 'first', 'last', 'several'])
@pytest.mark.parametrize('tasks', [1, 3])
def test_a_bad_line_costs_that_line_alone(tmp_path, bad, ending, tasks):
    folder, files, _ = plan(packed(tmp_path / 'c', ending, [bad.get(k, line) for k, line in enumerate(LINES)]))
    documents = [d for rank in range(tasks) for d in Deal(folder, files, skip=True).run(None, rank, tasks)]
    notes = {d.id: d.metadata[SKIPPED] for d in documents if SKIPPED in d.metadata}
    assert {d.id: d.text for d in documents if d.id not in notes} == {f'a.jsonl{ending}/{k}': f'{k}: {SENTENCE}' for k in range(1000) if k not in bad}
    assert sorted(notes) == sorted(f'a.jsonl{ending}/{k}' for k in bad)
    for k in bad: assert f'c/a.jsonl{ending}, line {k + 1}, document {k}: ' in notes[f'a.jsonl{ending}/{k}']
    with pytest.raises(ValueError, match=f'a.jsonl{ending}, line {min(bad) + 1}, document {min(bad)}: '): list(Deal(folder, files).run())
    assert plan(tmp_path / 'c', 700)[2] == 700, 'a bad line counts as a document'


def test_a_cut_file_keeps_what_stands_before_the_cut(tmp_path):
    whole = packed(tmp_path / 'c', '.gz', LINES) / 'a.jsonl.gz'
    whole.write_bytes(whole.read_bytes()[:-9])
    packed(tmp_path / 'c', '', LINES[:5])
    folder, files, _ = plan(tmp_path / 'c')
    documents = list(Deal(folder, files, skip=True).run())
    assert [d.id for d in documents if SKIPPED in d.metadata] == ['a.jsonl.gz'] and 'truncated' in documents[-1].metadata[SKIPPED]
    assert len(documents) > 900 and documents[-2].text == f'{len(documents) - 7}: {SENTENCE}'


def test_a_bad_line_of_a_harvest_is_noted_with_its_place(lm, tmp_path):
    source = packed(tmp_path / 'c', '', [CUT if k == 3 else line for k, line in enumerate(LINES[:40])])
    with pytest.raises(ValueError, match='c/a.jsonl, line 4, document 3: it is not valid JSON'): here(source, lm, TARGETS, layers=0, out=tmp_path / 'a')
    with pytest.warns(UserWarning, match='1 documents or files were skipped'): store = here(source, lm, TARGETS, layers=0, out=tmp_path / 'b', on_error='skip')
    assert store.manifest['counts']['documents'] == 40 and len(store.manifest['skipped']) == 1 and 'c/a.jsonl, line 4, document 3: ' in store.manifest['skipped'][0]
    assert set(store.rows.document) == {f'a.jsonl/{k}' for k in range(40)} - {'a.jsonl/3'}


@pytest.mark.parametrize('pattern', ['', '/*/*.jsonl', '/**', '/2020'])
def test_documents_of_a_harvest_are_called_as_read_documents_calls_them(tmp_path, monkeypatch, pattern):
    for year in ('2020', '2021'):
        (tmp_path / 'c').mkdir(exist_ok=True)
        packed(tmp_path / 'c' / year, '', LINES[:3])
    monkeypatch.chdir(tmp_path)
    ids = [d.id for d in read_documents(f'c{pattern}')]
    assert len(set(ids)) == len(ids) >= 3
    for source in (f'c{pattern}', f'./c{pattern}', tmp_path / f'c{pattern}', f'file://{tmp_path}/c{pattern}'):
        folder, files, _ = plan(source)
        assert [d.id for d in Deal(folder, files).run()] == ids and folder.path == plan(f'c{pattern}')[0].path
    assert [d.id for d in Deal(pickle.loads(pickle.dumps(folder)), files).run()] == ids, 'as a worker gets it'
