"""Harvests: values, engines, kills, and whatever may be wrong with a corpus, folder or store."""
import json
import os
import pickle
import random
import re
import subprocess
import sys
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers import killing, slurm_node
from helpers.disks import mounted
from helpers.harvesting import (SENTENCE, TARGETS, content, furthest, here, off, same, write_lines,
                                write_texts)
from helpers.tiny import ENCODERS, FAMILIES, tiny

from sparse_probing import (ActivationStore, capitalised, harvest, load_lm, next_token_is,
                            read_documents, record, sparsity_path, sweep, tokenize)
from sparse_probing.activations import gather, looks_ahead
from sparse_probing.contexts import chunks, find_hits, prune
from sparse_probing.ledger import SKIPPED, Deal, alone_in, plan
from sparse_probing.sites import lone_mlp, neuron_input
from sparse_probing.store import get_datafolder
from sparse_probing.tokens import Tokens

COMMAND = Path(sys.executable).with_name('sparse-probing')
CHUNKS = dict(layers=(0, 2), limit=3, context=100, shard_tokens=300)


@pytest.fixture(scope='module')
def folder(tmp_path_factory): return tmp_path_factory.mktemp('stores')


@pytest.fixture(scope='module')
def windows(lm, folder):
    """Windows of two layers at two positions, all of them run."""
    words = dict(layers=(0, 3), positions=(-2, 0), limit=12, prune=False)
    return here('news', lm, TARGETS, out=folder / 'windows', **words)


@pytest.fixture(scope='module')
def led(lm, folder):
    """Windows with a token before them; position -15 is that token."""
    words = dict(layers=(0, 3), positions=(-15, -14, 0), limit=4, bos=True, prune=False)
    return here('news', lm, TARGETS, out=folder / 'led', **words)


@pytest.fixture(scope='module', params=[True, False], ids=['pruned', 'whole'])
def chunked(request, lm, folder):
    """Chunks of a hundred tokens, in several shards, and the stretches by hand."""
    out = folder / f'chunked {request.param}'
    store = here('news', lm, TARGETS, out=out, prune=request.param, **CHUNKS)
    tokens = tokenize(read_documents('news', CHUNKS['limit']), lm.tokenizer)
    return store, tokens, chunks(tokens, find_hits(tokens, lm.tokenizer, TARGETS), 100, 14, 2)


@torch.inference_mode()
def by_hook(lm, ids, layer):
    """The neurons of a layer at every token of one sequence, by the whole model."""
    rows, mlp = [], lm.model.model.layers[layer].mlp
    def keep(module, inputs): rows.append(inputs[0][0])
    handle = mlp.down_proj.register_forward_pre_hook(keep)
    lm.model(torch.as_tensor(ids.astype(np.int64))[None])
    handle.remove()
    return rows[0].numpy()


def by_hand(lm, tokens, contexts, layer, before=()):
    """The vector of each hit, when the model runs over all of its stretch."""
    stretches = [np.concatenate([before, tokens.ids[first:last]])
                 for first, last in zip(contexts.start, contexts.stop)]
    vectors = [by_hook(lm, ids, layer) for ids in stretches]
    places = contexts.hits.place - contexts.start[contexts.hits.context] + len(before)
    return np.stack([vectors[k][place] for k, place in zip(contexts.hits.context, places)])


def marked_tokens(store):
    """The token that each example of a store marks."""
    return store.examples.ids[np.arange(len(store)), store.examples.place]


def test_windows_are_what_record_reads_bit_for_bit(lm, windows):
    assert len(windows) > 100
    assert windows.examples.ids.shape[1] == 17
    assert same(windows, record(lm, windows.examples, (0, 3), (-2, 0)))


def test_windows_that_end_at_their_hit_give_the_same(lm, windows, tmp_path, tell):
    words = dict(layers=(0, 3), positions=(-2, 0), limit=12)
    cut = here('news', lm, TARGETS, out=tmp_path / 'cut', **words)
    assert cut.manifest['counts']['run'] < windows.manifest['counts']['run']
    assert cut.rows.equals(windows.rows)
    tell(f'windows cut after their hit: off by {furthest(cut, windows):.1e} of the largest value')
    assert furthest(cut, windows) <= 1e-5


def test_chunks_are_what_the_whole_model_says_over_each_chunk(lm, chunked, tell):
    store, tokens, contexts = chunked
    assert len(store.manifest['shards']) > 1
    for layer in store.layers:
        distance = off(store.at(layer), by_hand(lm, tokens, contexts, layer))
        tell(f'chunks, layer {layer}: values off by {distance:.1e} of the largest')
        assert distance <= 1e-5


def test_rows_say_where_each_hit_stands(chunked):
    store, tokens, contexts = chunked
    hits = contexts.hits
    assert store.rows.token.tolist() == tokens.ids[hits.place].tolist()
    assert store.rows.place.tolist() == hits.offset.tolist()
    assert store.rows.label.tolist() == hits.label.tolist()


@pytest.mark.parametrize('family', FAMILIES)
def test_skipping_and_cutting_change_nothing_in_any_family(family):
    lm, rng = tiny(FAMILIES[family][0], family in ENCODERS), np.random.default_rng(0)
    tokens = Tokens(rng.integers(5, 120, 200).astype(np.int32), np.array([0, 90]))
    def rule(tokens, tokenizer):
        return {'a': np.array([3, 8, 50, 95, 190])[:len(tokens)] % len(tokens)}
    whole = chunks(tokens, find_hits(tokens, None, rule), 40, 5, 2)
    ahead = looks_ahead(lm, [0, 2])
    less = prune(whole, None if ahead else 0)
    assert ahead == (family in ENCODERS)
    assert len(less) < len(whole)
    assert (lone_mlp(lm.model, 2) is None) == (family in ('OPT', 'BLOOM', 'BERT', 'RoBERTa'))
    words = dict(layers=[0, 2], positions=(-1, 0))
    before, after = gather(lm, whole, **words), gather(lm, less, **words, alone=True)
    assert all(off(after[key], before[key]) <= 1e-5 for key in before)


@pytest.mark.parametrize('site', ['mlp', 'attention', 'residual'])
def test_other_sites_are_what_record_reads(lm, tmp_path, site):
    words = dict(layers=1, limit=4, site=site, prune=False)
    store = here('news', lm, TARGETS, out=tmp_path / 'store', **words)
    assert store.site == site
    assert store.at(1).shape[1] == lm.width
    assert same(store, record(lm, store.examples, 1, site=site))


def test_half_precision_costs_less_on_the_disk_than_in_the_model(lm, tmp_path, tell):
    types = {'full': {}, 'half': {'dtype': 'float16'}, 'coarse': {'precision': 'bfloat16'}}
    X = {name: here('news', lm, TARGETS, layers=2, limit=4, out=tmp_path / name, **words).at(2)
         for name, words in types.items()}
    stored, computed = off(X['half'], X['full']), off(X['coarse'], X['full'])
    tell(f'stored as float16: off by {stored:.1e}; computed in bfloat16: {computed:.1e}')
    assert 0 < stored < 1e-3 < computed < .1
    assert X['half'].dtype == np.float32


@pytest.fixture(scope='module')
def every_tenth(lm, folder):
    """Every tenth token beside two named ones, in two stores of one seed."""
    words = dict(layers=0, limit=6, seed=3)
    return [here('news', lm, TARGETS | {'any': 10}, out=folder / name, **words)
            for name in ('any', 'again')]


def test_every_nth_token_begins_anew_in_each_document(every_tenth):
    sampled = every_tenth[0].rows.query('label == 2')
    assert all(len(set(group.place % 10)) == 1 for _, group in sampled.groupby('group'))
    assert len(set(sampled.place % 10)) > 1


def test_the_same_seed_gives_the_same_bytes(every_tenth):
    first, second = (content(store.folder.path) for store in every_tenth)
    assert first == second


def test_a_rule_finds_what_no_token_names(lm, tmp_path):
    store = here('news', lm, capitalised, layers=0, limit=6, out=tmp_path / 'rule')
    texts = lm.tokenizer.batch_decode(store.rows.token.to_numpy()[:, None])
    words = [text.strip() for text in texts]
    assert store.classes == ('capitalised', 'lower case')
    assert store.rows.rule[0] == 'sparse_probing.tasks.capitalised'
    assert [word[0].isupper() for word in words] == (store.rows.label == 0).tolist()


def test_a_rule_may_have_arguments(lm, tmp_path):
    rule = partial(next_token_is, text=' the')
    store = here('news', lm, rule, layers=0, limit=3, out=tmp_path / 'partial')
    assert store.classes[0] == 'before the'


def test_a_rule_names_all_of_its_classes(lm):
    tokens = tokenize(read_documents('news', 2), lm.tokenizer)
    def other(tokens, tokenizer): return {'a': [0]} if len(tokens) == 1 else {'b': [1]}
    def same_class(tokens, tokenizer): return {'a': [0]} if len(tokens) == 1 else {'a': [1]}
    assert find_hits(tokens, lm.tokenizer, same_class).label.tolist() == [0]
    with pytest.raises(ValueError, match=r"the rule gave classes \['b'\]"):
        find_hits(tokens, lm.tokenizer, other)


@pytest.fixture(scope='module')
def large(lm, folder):
    """A store of some hundred rows, in half precision."""
    words = dict(layers=(0, 1), positions=(-1, 0), limit=150, dtype='float16', shard_tokens=4000)
    return here('news', lm, TARGETS, out=folder / 'large', **words)


def test_a_sample_reads_what_was_drawn(large):
    few = large.sample(80)
    assert len(few) == 160
    assert np.bincount(few.examples.y).tolist() == [80, 80]
    assert (few.at(1, 0) == large.at(1, 0)[few.chosen]).all()


def test_a_store_takes_the_place_of_activations(large):
    few = large.sample(80)
    examples = few.examples
    path = sparsity_path(few.at(1, 0), examples.y == 1, cv=3, groups=examples.group)
    table = sweep(few, along=[.01, .1])
    assert path.held_out is not None
    assert table.gap.max() <= 1e-6
    assert set(table.position) == {-1, 0}


def test_a_store_in_a_file_system_of_fsspec(lm, tmp_path):
    local, remote = (here('news', lm, TARGETS, layers=0, limit=4, out=out)
                     for out in (tmp_path / 'local', 'memory://harvest'))
    assert same(remote, local)
    assert remote.rows.equals(local.rows)
    assert remote.verify() == []


SHORT = dict(limit=7, ranks=3)


@pytest.fixture(scope='module')
def undisturbed(lm, folder):
    """The files of a harvest that nobody disturbs."""
    threads = torch.get_num_threads()
    out = folder / 'undisturbed'
    here('wiki', lm, TARGETS, out=out, threads=1, **killing.WORDS, **SHORT)
    torch.set_num_threads(threads) # as they were for other tests
    return content(out)


@pytest.mark.parametrize('executor, whom', [('local', 'group'), ('ray', 'worker')])
def test_a_harvest_that_was_killed_gives_the_same_store(undisturbed, tmp_path, executor, whom):
    sign, out = 'shards/*.safetensors', tmp_path / 'store'
    shards, killed, _ = killing.disturbed(out, executor, whom, sign, .1, random.Random(0), **SHORT)
    assert killed
    assert 0 < shards < len(undisturbed) - 2, 'it was killed in the middle'
    assert content(out) == undisturbed


def test_slurm_gives_the_same_store(undisturbed, tmp_path):
    if reason := slurm_node.missing(): pytest.skip(reason)
    with slurm_node.slurm(): killing.finish(killing.start(tmp_path / 'store', 'slurm', **SHORT))
    assert content(tmp_path / 'store') == undisturbed


def truncated(path): path.write_bytes(path.read_bytes()[:-20])
def empty(path): path.write_bytes(b'')
def no_text(path): write_texts(path.parent, path.stem, [SENTENCE], column='body')
def none(path): write_texts(path.parent, path.stem, [SENTENCE, None])


def flipped(path):
    """Another content in the middle of the text."""
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    middle = (column.file_offset or 4) + column.total_compressed_size // 2
    content = bytearray(path.read_bytes())
    content[middle:middle + 40] = bytes(byte ^ 0xff for byte in content[middle:middle + 40])
    path.write_bytes(content)


def footer(path):
    """Another length of what stands at the end."""
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xff
    path.write_bytes(content)


@pytest.fixture
def three_files(tmp_path):
    """A corpus of three files, the second to be damaged."""
    for name in ('a', 'b', 'c'):
        write_texts(tmp_path / 'text', name, [f'{name}{k} {SENTENCE}' for k in range(40)])
    return tmp_path / 'text'


@pytest.mark.parametrize('damage', [truncated, empty, flipped, footer, no_text, none])
def test_a_bad_file_is_named(lm, three_files, tmp_path, damage):
    damage(three_files / 'b.parquet')
    with pytest.raises(ValueError, match='b.parquet'):
        here(three_files, lm, TARGETS, layers=0, ranks=3, out=tmp_path / 'out')


@pytest.mark.parametrize('damage', [truncated, empty, flipped, footer, no_text, none])
def test_a_bad_file_is_skipped_and_noted(lm, three_files, tmp_path, damage):
    damage(three_files / 'b.parquet')
    message = 'documents or files were skipped, the first: .*b.parquet'
    with pytest.warns(UserWarning, match=message):
        store = here(three_files, lm, TARGETS, layers=0, ranks=3, out=tmp_path / 'out',
                     on_error='skip')
    assert {name.partition('/')[0] for name in store.rows.document} >= {'a', 'c'}
    assert 'b.parquet' in store.manifest['skipped'][0]


def test_a_bad_file_fails_its_own_rank_alone(lm, three_files, tmp_path):
    truncated(three_files / 'b.parquet')
    words = dict(layers=0, ranks=3, threads=1, workers=2, out=tmp_path / 'out')
    message = r'1 of 3 ranks failed, the others are done: rank 1: ValueError: \S+b.parquet'
    with pytest.raises(RuntimeError, match=message): harvest(three_files, lm, TARGETS, **words)
    assert len(list((tmp_path / 'out/run/tasks').iterdir())) == 2
    assert not (tmp_path / 'out/manifest.json').exists()
    write_texts(three_files, 'b', [SENTENCE])
    with pytest.raises(ValueError, match='holds another harvest .files: '): # it is another corpus
        harvest(three_files, lm, TARGETS, **words)


def test_odd_characters_do_no_harm(lm, tmp_path):
    source = write_texts(tmp_path / 'text', 'a', ['\0\0\0', f'\0 {SENTENCE} \0'])
    store = here(source, lm, {'any': 1}, layers=0, context=128, out=tmp_path / 'store')
    assert set(store.rows.document) == {'a/0', 'a/1'}


def test_a_text_of_ten_megabytes(lm, tmp_path):
    source = write_texts(tmp_path / 'text', 'a', [SENTENCE * 27000, SENTENCE])
    store = here(source, lm, {'any': 20000}, layers=0, context=128, out=tmp_path / 'store')
    assert store.rows.place.max() > 10**6
    assert len(store) > 100


def test_nothing_found_is_an_error_each_time(lm, tmp_path):
    for _ in range(2):
        with pytest.raises(ValueError, match=r'no hit in 3 documents of [\d,]+ tokens'):
            here('news', lm, {'x': ' synthesis'}, layers=0, limit=3, out=tmp_path / 'a')


def test_a_class_that_was_not_found_is_a_warning(lm, tmp_path):
    targets = {'the': ' the', 'x': ' synthesis'}
    with pytest.warns(UserWarning, match=r"class 'x' \(' synthesis'\) was never found"):
        here('news', lm, targets, layers=0, limit=3, out=tmp_path / 'b')


@pytest.mark.parametrize('words, message', [
    (dict(layers=30), 'layers .30. are out of range'),
    (dict(layers=()), 'nothing to record'),
    (dict(positions=3), 'positions .3,. are out of range'),
    (dict(site='neuron'), 'unknown site'),
    (dict(context=16), "context is 'window'"),
    (dict(context=10**6), "context is 'window'"),
    (dict(dtype='int8'), 'dtype is one of'),
    (dict(precision='double'), 'precision is one of'),
    (dict(ranks=0), 'ranks is at least 1'),
    (dict(workers=0), 'workers is at least 1'),
    (dict(limit=0), 'limit must be at least 1'),
    (dict(executor='dask'), 'choose one of local, ray, slurm'),
    (dict(on_error='ignore'), 'on_error is one of'),
    (dict(targets={'x': ''}), 'by its text'),
    (dict(targets={'x': [' the', ' the']}), 'given twice'),
    (dict(targets={'x': re.compile(b'the')}), 'compile a str'),
    (dict(targets={}), 'targets are a mapping'),
    (dict(targets={'x': 0}), 'n for every n-th'),
    (dict(targets={'x': ' the', 'y': ' the'}), 'places in common'),
    (dict(source='nowhere/*.parquet'), 'matches no file'),
    (dict(targets=[' the', ' an']), 'targets are a mapping'),
    (dict(before='14'), "before is a whole number; got before='14'"),
    (dict(after=2.), 'after is a whole number'),
    (dict(seed='0'), 'seed is a whole number'),
    (dict(ranks='2'), 'ranks is a whole number'),
    (dict(limit='2'), 'limit is a whole number'),
    (dict(before=-1), 'before and after are at least 0'),
    (dict(bos='yes'), "bos is 'auto', True or False")])
def test_what_cannot_be_harvested_is_said_before_anything_is_written(lm, tmp_path, words, message):
    words = dict(source='news', targets=TARGETS, layers=0, limit=2) | words
    source, targets = words.pop('source'), words.pop('targets')
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        here(source, lm, targets, out=tmp_path / 'out', **words)
    assert not (tmp_path / 'out/manifest.json').exists()
    assert not (tmp_path / 'out/shards').exists()


@pytest.mark.parametrize('part', ['model', 'tokenizer'])
def test_a_part_of_an_lm_is_none(lm, tmp_path, part):
    given = getattr(lm, part)
    message = f'lm is a model with its tokenizer.*got {type(given).__name__}'
    with pytest.raises(ValueError, match=message):
        harvest('news', given, TARGETS, layers=0, out=tmp_path / 'out')
    assert not (tmp_path / 'out/run').exists()


def test_another_model_behind_the_same_name_is_refused(lm, tmp_path):
    changed = load_lm()
    with torch.no_grad(): next(changed.model.parameters()).add_(1)
    with pytest.raises(ValueError, match="loaded as 'smollm2' has other weights than"):
        here('news', changed, TARGETS, layers=0, limit=2, out=tmp_path)


@pytest.fixture
def finished(lm, tmp_path):
    """A finished store, and how it was called for."""
    words = dict(layers=0, limit=3, out=tmp_path / 'store')
    return here('news', lm, TARGETS, **words), words


def test_the_same_words_find_the_same_store(lm, finished):
    store, words = finished
    before = content(words['out'])
    assert here('news', lm, TARGETS, **words).manifest == store.manifest
    assert content(words['out']) == before


@pytest.mark.parametrize('other, message', [
    (dict(layers=1, limit=4), r'layers: \[0\] there, \[1\] asked for; limit: 3 there, 4 asked for'),
    (dict(ranks=2), 'ranks: 1 there, 2 asked for')])
def test_other_words_are_refused_by_what_differs(lm, finished, other, message):
    words = finished[1]
    before = content(words['out'])
    with pytest.raises(ValueError, match=message): here('news', lm, TARGETS, **words | other)
    assert content(words['out']) == before


def test_one_folder_has_one_driver(lm, tmp_path):
    words = dict(layers=0, limit=3, out=tmp_path / 'other')
    with alone_in(get_datafolder(str(tmp_path / 'other'))):
        with pytest.raises(RuntimeError, match='another harvest is running in'):
            here('news', lm, TARGETS, **words)


def test_a_full_disk_leaves_no_half_and_with_more_room_it_goes_on(lm, tmp_path):
    words = dict(layers=0, limit=100, shard_tokens=2000)
    message = 'cannot write .*No space left on device.*free some space'
    with mounted(tmp_path / 'small', 'size=3m') as small:
        with pytest.raises(OSError, match=message):
            here('news', lm, TARGETS, out=small / 'store', **words)
        assert not list(small.rglob('*.partial'))
        assert list(small.rglob('*.safetensors'))
        subprocess.run(['mount', '-o', 'remount,size=60m', str(small)], check=True)
        store = here('news', lm, TARGETS, out=small / 'store', **words)
        assert len(store.manifest['shards']) > 2


def test_a_folder_that_cannot_be_written_is_named(lm, tmp_path):
    message = 'cannot write into .*choose another folder'
    with mounted(tmp_path / 'fixed', 'ro') as fixed, pytest.raises(OSError, match=message):
        here('news', lm, TARGETS, layers=0, limit=2, out=fixed / 'store')


FOUR_SHARDS = dict(layers=0, limit=60, shard_tokens=2000)


@pytest.fixture
def damaged(lm, tmp_path):
    """A store with four bad shards: cut, two swapped, one edited; and its files before."""
    out = tmp_path / 'store'
    store = here('news', lm, TARGETS, out=out, **FOUR_SHARDS)
    before, faults = content(out), store.verify()
    first, second, third, fourth = (out / shard['name'] for shard in store.manifest['shards'][:4])
    first.write_bytes(first.read_bytes()[:-100])
    second_bytes = second.read_bytes()
    second.write_bytes(third.read_bytes())
    third.write_bytes(second_bytes)
    with open(fourth, 'r+b') as file:
        file.seek(-5, os.SEEK_END)
        file.write(b'x')
    assert faults == []
    return store, before, [first, second, third, fourth]


def verify_by_command(store):
    """What the command line says of a store."""
    command = [COMMAND, 'verify', store.folder.path]
    return subprocess.run(command, capture_output=True, text=True)


def test_bad_shards_are_named(damaged):
    store, _, shards = damaged
    faults = store.verify()
    assert [path.name in line for path, line in zip(shards, faults)] == [True] * 4
    assert len(faults) == 4
    message = '00000-00000.safetensors is damaged.*sparse-probing verify'
    with pytest.raises(ValueError, match=message): store.at(0)


def test_the_command_verifies_a_store(damaged):
    store = damaged[0]
    run = verify_by_command(store)
    assert run.returncode == 1
    assert '4 of ' in run.stdout
    assert '00003.safetensors has other content' in run.stdout


def test_lost_shards_are_harvested_again(lm, damaged):
    store, before, shards = damaged
    out = Path(store.folder.path)
    for path in [out / 'manifest.json', *shards]: path.unlink()
    again = here('news', lm, TARGETS, out=out, **FOUR_SHARDS)
    assert again.verify() == []
    assert content(out) == before
    run = verify_by_command(again)
    assert run.returncode == 0
    assert 'as they were written' in run.stdout


def test_the_command_harvests(tmp_path):
    command = [COMMAND, 'harvest', '--text', 'news', '--target', ' the', '--target', ' an',
               '--layers', '0', '--positions', '-1,0', '--limit', '6', '--context', '128',
               '--dtype', 'float16', '--out', tmp_path / 'store']
    environment = {k: v for k, v in os.environ.items() if k != 'TQDM_DISABLE'}
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert "' the'" in run.stdout
    assert 'ActivationStore(' in run.stdout
    assert 'hits' in run.stderr
    assert '100%' in run.stderr, 'a bar shows how far it is'
    assert 'Loading weights' not in run.stderr.split('harvest:')[-1]
    shown = re.findall(r'(\d+)/6 .*?, ([\d,]+) tokens run, (\d+) hits', run.stderr)
    assert len(shown) <= len(set(shown)) + 1, 'a line for each news, and the last when it ends'
    store = ActivationStore(tmp_path / 'store')
    assert store.positions == (-1, 0)
    assert store.manifest['config']['context'] == 128
    assert store.classes == (' the', ' an')


def test_windows_with_a_token_before_them_are_what_record_reads(lm, led):
    assert same(led, record(lm, led.examples, (0, 3), (-15, -14, 0)))
    assert (marked_tokens(led) == led.rows.token).all()
    assert led.manifest['config']['bos'] == [lm.tokenizer.bos_token_id]


def test_a_token_before_each_window_changes_the_values_and_no_row(lm, led, tmp_path):
    plain = here('news', lm, TARGETS, out=tmp_path / 'plain', prune=False, layers=0, limit=4)
    assert (led.examples.ids[:, 0] == lm.tokenizer.bos_token_id).all()
    assert (led.examples.ids[:, 1:] == plain.examples.ids).all()
    assert led.rows.equals(plain.rows)
    assert led.manifest['counts']['run'] == 18 * len(led)
    assert plain.manifest['counts']['run'] == 17 * len(led)
    assert off(plain.at(0), led.at(0)) > .01
    assert len(np.unique(led.at(0, -15), axis=0)) == 1, 'that token says the same everywhere'


def test_windows_with_a_token_before_them_can_end_at_their_hit(lm, led, tmp_path):
    words = dict(layers=(0, 3), positions=(-15, -14, 0), limit=4, bos=True)
    cut = here('news', lm, TARGETS, out=tmp_path / 'cut', **words)
    assert furthest(cut, led) <= 1e-5


ONE_CHUNKED = dict(layers=2, limit=1, context=100, shard_tokens=300)


@pytest.fixture(scope='module', params=[True, False], ids=['pruned', 'whole'])
def led_chunks(request, lm, folder):
    """Chunks with a token before them, and the stretches by hand."""
    words = ONE_CHUNKED | dict(prune=request.param, out=folder / f'led chunks {request.param}')
    store = here('news', lm, TARGETS, bos=True, **words)
    tokens = tokenize(read_documents('news', 1), lm)
    return store, tokens, chunks(tokens, find_hits(tokens, lm, TARGETS), 100, 14, 2), words


def test_chunks_with_a_token_before_them(lm, led_chunks):
    store, tokens, contexts, _ = led_chunks
    bos = [lm.tokenizer.bos_token_id]
    assert off(store.at(2), by_hand(lm, tokens, contexts, 2, bos)) <= 1e-5
    assert store.rows.place.tolist() == contexts.hits.offset.tolist()
    assert (marked_tokens(store) == store.rows.token).all()
    assert (store.examples.ids[:, 0] == bos).all()


def test_the_token_before_each_chunk_counts_as_run(led_chunks):
    store, _, contexts, words = led_chunks
    run = store.manifest['counts']['run']
    everything = (contexts.stop - contexts.start + 1).sum()
    assert run < everything if words['prune'] else run == everything


def test_without_the_token_before_each_chunk_it_is_another_harvest(lm, led_chunks):
    with pytest.raises(ValueError, match=r'bos: \[1\] there, \[\] asked for'):
        here('news', lm, TARGETS, **led_chunks[3])


def test_a_hit_of_a_chunk_does_not_look_at_the_token_before_it(lm, tmp_path):
    with pytest.raises(ValueError, match='positions .-15,. are out of range'):
        here('news', lm, TARGETS, positions=-15, bos=True, out=tmp_path, **ONE_CHUNKED)


def test_the_token_before_a_chunk_takes_a_place_of_the_model(lm, tmp_path):
    longest = lm.model.config.max_position_embeddings
    with pytest.raises(ValueError, match=f'from 17 to {longest - 1}'):
        here('news', lm, TARGETS, layers=2, context=longest, out=tmp_path, bos=True)


@pytest.fixture
def anoxia(lm, tmp_path):
    """A harvest of two texts, in which ' an' stands only inside words."""
    texts = ['They saw anoxia, anoxia and anoxia.', '今天的天气很好。我们去公园。']
    source = write_texts(tmp_path / 'text', 'a', texts)
    return partial(here, source, lm, layers=0, before=0, after=0, out=tmp_path / 'out')


def test_whole_words_that_leave_nothing_are_an_error(anoxia):
    message = 'no hit in 2 documents.*whole word left out 3 places.*whole_word=False takes these'
    with pytest.raises(ValueError, match=message): anoxia({'an': ' an'})


def test_parts_of_words_are_taken_where_asked_for(anoxia):
    assert len(anoxia({'an': ' an'}, whole_word=False)) == 3
    with pytest.raises(ValueError, match='whole_word: False there, True asked for'):
        anoxia({'an': ' an'})


def test_a_text_without_spaces_has_whole_words(lm, anoxia, tmp_path):
    store = anoxia({'de': '的', 'stop': '。'})
    ActivationStore(tmp_path / 'out', lm).examples.show(1) # an LM in place of its tokenizer
    assert np.bincount(store.examples.y).tolist() == [1, 2]
    assert not any('inside' in key for key in store.manifest['counts'])


def test_a_class_of_parts_of_words_is_a_warning(anoxia):
    message = "class 'an' .* was never found. The rule that a hit is a whole word left out 3 places"
    with pytest.warns(UserWarning, match=message): anoxia({'an': ' an', 'de': '的'})


def invoke(*words):
    """Run the command line in this process."""
    from sparse_probing.cli import app
    from typer.testing import CliRunner
    return CliRunner().invoke(app, ['harvest', '--text', 'news', *words])


def test_two_spellings_on_the_command_line_are_two_classes(tmp_path):
    run = invoke('--target', 'The', '--target', ' The', '--layers', '0', '--limit', '6', '--before',
                 '0', '--bos', 'true', '--no-whole-word', '--out', str(tmp_path / 'store'))
    assert run.exit_code == 0, run.output
    store = ActivationStore(tmp_path / 'store')
    assert store.classes == ('The', ' The')
    assert np.bincount(store.examples.y).min() > 0
    assert store.manifest['config']['bos'] == [1]
    assert not store.manifest['config']['whole_word']


def test_another_word_for_bos_is_refused_on_the_command_line(tmp_path):
    run = invoke('--target', 'The', '--layers', '0', '--bos', 'no', '--out', str(tmp_path))
    assert '--bos is one of auto, true, false' in str(run.exception)


LINES = [json.dumps({'text': f'{k}: {SENTENCE}'}).encode() for k in range(1000)]
CUT = LINES[0][:30]
BAD = {'one': {3: CUT}, 'first': {0: CUT}, 'last': {999: CUT},
       'several': {0: b'[]', 500: b'{"text": "\xff"}', 501: b'7', 999: b'{"text": null}'}}


@pytest.fixture(scope='module', params=['', '.gz', '.zst'])
def ending(request): return request.param


@pytest.fixture(scope='module', params=BAD)
def bad_lines(request, ending, tmp_path_factory):
    """A file with bad lines, and which those are."""
    bad = BAD[request.param]
    lines = [bad.get(k, line) for k, line in enumerate(LINES)]
    return write_lines(tmp_path_factory.mktemp('bad') / 'c', ending, lines), bad


@pytest.mark.parametrize('ranks', [1, 3])
def test_a_bad_line_costs_that_line_alone(bad_lines, ending, ranks):
    source, bad = bad_lines
    folder, files, _ = plan(source)
    documents = [document for rank in range(ranks)
                 for document in Deal(folder, files, skip=True).run(None, rank, ranks)]
    notes = {d.id: d.metadata[SKIPPED] for d in documents if SKIPPED in d.metadata}
    texts = {d.id: d.text for d in documents if d.id not in notes}
    assert set(notes) == {f'a.jsonl{ending}/{k}' for k in bad}
    good = [k for k in range(1000) if k not in bad]
    assert texts == {f'a.jsonl{ending}/{k}': f'{k}: {SENTENCE}' for k in good}
    for k in bad:
        place = f'c/a.jsonl{ending}, line {k + 1}, document {k}: '
        assert place in notes[f'a.jsonl{ending}/{k}']


def test_a_bad_line_is_named_with_its_place(bad_lines, ending):
    source, bad = bad_lines
    folder, files, _ = plan(source)
    place = f'a.jsonl{ending}, line {min(bad) + 1}, document {min(bad)}: '
    with pytest.raises(ValueError, match=place): list(Deal(folder, files).run())


def test_a_bad_line_counts_as_a_document(bad_lines):
    assert plan(bad_lines[0], 700)[2] == 700


def test_a_cut_file_keeps_what_stands_before_the_cut(tmp_path):
    path = write_lines(tmp_path / 'c', '.gz', LINES) / 'a.jsonl.gz'
    path.write_bytes(path.read_bytes()[:-9])
    write_lines(tmp_path / 'c', '', LINES[:5])
    folder, files, _ = plan(tmp_path / 'c')
    documents = list(Deal(folder, files, skip=True).run())
    assert [d.id for d in documents if SKIPPED in d.metadata] == ['a.jsonl.gz']
    assert 'truncated' in documents[-1].metadata[SKIPPED]
    assert len(documents) > 900
    assert documents[-2].text == f'{len(documents) - 7}: {SENTENCE}'


@pytest.fixture
def one_bad_line(tmp_path):
    """Forty lines, the fourth of them cut."""
    return write_lines(tmp_path / 'c', '', [CUT if k == 3 else LINES[k] for k in range(40)])


def test_a_bad_line_ends_a_harvest(lm, one_bad_line, tmp_path):
    message = 'c/a.jsonl, line 4, document 3: it is not valid JSON'
    with pytest.raises(ValueError, match=message):
        here(one_bad_line, lm, TARGETS, layers=0, out=tmp_path / 'a')


def test_a_bad_line_of_a_harvest_is_noted_where_asked_for(lm, one_bad_line, tmp_path):
    with pytest.warns(UserWarning, match='1 documents or files were skipped'):
        store = here(one_bad_line, lm, TARGETS, layers=0, out=tmp_path / 'b', on_error='skip')
    assert store.manifest['counts']['documents'] == 40
    assert len(store.manifest['skipped']) == 1
    assert 'c/a.jsonl, line 4, document 3: ' in store.manifest['skipped'][0]
    assert set(store.rows.document) == {f'a.jsonl/{k}' for k in range(40) if k != 3}


@pytest.mark.parametrize('pattern', ['', '/*/*.jsonl', '/**', '/2020'])
def test_documents_are_called_as_read_documents_calls_them(tmp_path, monkeypatch, pattern):
    for year in ('2020', '2021'): write_lines(tmp_path / 'c' / year, '', LINES[:3])
    monkeypatch.chdir(tmp_path)
    ids = [d.id for d in read_documents(f'c{pattern}')]
    assert len(set(ids)) == len(ids) >= 3
    ways = f'c{pattern}', f'./c{pattern}', tmp_path / f'c{pattern}', f'file://{tmp_path}/c{pattern}'
    for source in ways:
        folder, files, _ = plan(source)
        assert [d.id for d in Deal(folder, files).run()] == ids
        assert folder.path == plan(f'c{pattern}')[0].path
    sent = pickle.loads(pickle.dumps(folder)) # as a worker gets it
    assert [d.id for d in Deal(sent, files).run()] == ids


SEVERAL = {'city': [' New York', ' London'], 'year': re.compile(r'\b(19|20)\d\d\b'),
           'said': ' President'}


@pytest.mark.parametrize('context', ['window', 64, 2000])
def test_words_of_several_tokens_are_harvested_as_a_plain_hook_reads_them(lm, tmp_path, context):
    """Positions before a word count from its first token, those from 0 on from its last."""
    positions, before, after, layer = (-2, -1, 0, 1), 14, 2, 1
    store = here('news', lm, SEVERAL, layers=layer, positions=positions, limit=40,
                 context=context, before=before, after=after, out=tmp_path / 'store')
    examples, rows = store.examples, store.rows
    assert set(examples.y) == {0, 1, 2} and examples.width.max() > 2
    tokens = tokenize(islice(read_documents('news'), 40), lm)
    number = {document.id: k for k, document in enumerate(islice(read_documents('news'), 40))}
    seen = []
    handle = neuron_input(lm.model, layer).register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0][0]))
    try:
        for row in range(0, len(rows), 7):
            k = number[rows.document[row]]
            place = tokens.starts[k] + rows.place[row]
            first = place - examples.width[row] + 1
            text = lm.tokenizer.decode(tokens.ids[first:place + 1])
            assert re.fullmatch(r' New York| London| ?(19|20)\d\d| President', text)
            if context == 64: continue # which of its chunks a hit is in, only the harvest knows
            start, stop = tokens.starts[k], tokens.ends[k] # a chunk of 2000 is a whole document
            if context == 'window': start, stop = first - before, place + after + 1
            ids = tokens.ids[start:stop]
            seen.clear()
            with torch.inference_mode(): lm.model(torch.tensor(ids[None].astype(int)))
            for position in positions:
                at = (first if position < 0 else place) + position - start
                assert np.allclose(store.at(layer, position)[row], seen[0][at], atol=1e-4)
    finally: handle.remove()


def test_another_pattern_is_another_harvest(lm, tmp_path):
    words = dict(layers=0, limit=3, out=tmp_path / 'store')
    here('news', lm, {'year': re.compile('[0-9]{4}')}, **words)
    for other in (re.compile('[0-9]{3}'), re.compile('[0-9]{4}', re.IGNORECASE), ' year'):
        with pytest.raises(ValueError, match='targets'):
            here('news', lm, {'year': other}, **words)


def test_halves_of_tokens_are_counted_and_said(lm, tmp_path):
    hing, words = re.compile('hing'), dict(layers=0, limit=10)
    with pytest.warns(UserWarning, match='[0-9]+ matches begin or end within a token'):
        store = here('news', lm, {'the': ' the', 'hing': hing}, out=tmp_path / 'both', **words)
    matches = sum(len(hing.findall(document.text))
                  for document in islice(read_documents('news'), 10))
    counts = store.manifest['counts']
    assert counts['half tokens of hing'] + counts.get('hits of hing', 0) == matches > 0
    with pytest.raises(ValueError, match='matches begin or end within a token and have no place'):
        here('news', lm, {'hing': hing}, out=tmp_path / 'halves', **words)
