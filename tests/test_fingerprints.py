"""Two calls with something changed in between: it is refused by its name, or changes no byte."""
import json
import os
import sys
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from types import MethodType

import numpy as np
import pytest
import sklearn
import torch
import transformers as tf
from helpers.apart import python
from helpers.harvesting import content, here
from helpers.made_up import made_up
from joblib import parallel_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch.nn.modules import module as everywhere

from sparse_probing import KSparseProbe, SparseProbe, find, load_lm, sweep
from sparse_probing.fingerprints import rule_parts
from sparse_probing.harvests import validate_rule

HEAVY = 'torch', 'transformers', 'datatrove'
WORDS = 'the cat sat on a mat and dog ran over hill to see sun'.split()
TEXTS = ['the cat sat on the mat and a dog ran over the hill to see the sun',
         'a dog sat on the cat and the dog ran to see a mat']


def test_no_library_of_models_is_loaded_to_take_fingerprints():
    run = python('import sys\nfrom sparse_probing.fingerprints import fingerprint\n'
                 'fingerprint([1, "a", print])\nprint(*sys.modules)')
    assert run.returncode == 0, run.stderr
    assert not {*HEAVY} & {*run.stdout.split()}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A small model and its tokenizer, saved."""
    path = tmp_path_factory.mktemp('model')
    vocabulary = {word: k for k, word in enumerate(['<unk>', '</s>', *WORDS])}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token='<unk>'))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = tf.PreTrainedTokenizerFast(tokenizer_object=plain, unk_token='<unk>',
                                           eos_token='</s>')
    tokenizer.save_pretrained(path)
    torch.manual_seed(0)
    config = tf.LlamaConfig(vocab_size=16, hidden_size=16, num_hidden_layers=2,
                            num_attention_heads=2, intermediate_size=24)
    tf.LlamaForCausalLM(config).save_pretrained(path)
    return path


class World:
    """What a harvest is made from, to be changed."""
    def __init__(self, model, path):
        self.path, self.source = path, path / 'text'
        self.lm, self.targets = load_lm(str(model), 'cpu'), {'cat': 'cat', 'dog': 'dog'}
        self.words = dict(layers=[0], before=1, after=0, out=path / 'store')
        self.source.mkdir()
        for name, text in zip(('x', 'y'), TEXTS): self.write(name, text)

    def write(self, name, text):
        line = json.dumps({'text': text, 'id': name})
        (self.source / f'{name}.jsonl').write_text(f'{line}\n')

    def harvest(self, **words):
        return here(self.source, self.lm, self.targets, **self.words | words)

    def files(self): return content(self.path / 'store')

    @property
    def block(self): return self.lm.model.model.layers[0]


@pytest.fixture
def world(folder, tmp_path): return World(folder, tmp_path)


WORD, ORDER = 'cat', {'cat': 1, 'dog': 2}
def helper(): return WORD
def by_global(tokens, tokenizer): return {'hit': find(tokens, tokenizer, WORD)}
def by_helper(tokens, tokenizer): return {'hit': find(tokens, tokenizer, helper())}
def by_default(tokens, tokenizer, word='cat'): return {'hit': find(tokens, tokenizer, word)}
def by_keyword(tokens, tokenizer, *, word='cat'): return {'hit': find(tokens, tokenizer, word)}
def by_order(tokens, tokenizer): return {name: find(tokens, tokenizer, name) for name in ORDER}
def by_closure(word):
    def rule(tokens, tokenizer): return {'hit': find(tokens, tokenizer, word)}
    return rule


class ByState:
    shared = 'cat'
    def __init__(self, word): self.word = word
    def __call__(self, tokens, tokenizer):
        return {'hit': find(tokens, tokenizer, self.word), 'other': find(tokens, tokenizer, 'sun')}
    def method(self, tokens, tokenizer): return {'hit': find(tokens, tokenizer, self.word)}


def imported(world, text, patch):
    """A module of one's own, imported from the disk."""
    code = ('from sparse_probing import find\n'
            f'WORD = {text!r}\n'
            'def rule(tokens, tokenizer): return dict(hit=find(tokens, tokenizer, WORD))\n')
    (world.path / 'my_rules.py').write_text(code)
    patch.syspath_prepend(str(world.path))
    patch.delitem(sys.modules, 'my_rules', raising=False)
    import my_rules
    return my_rules


def through_module(tokens, tokenizer):
    import my_rules
    return {'hit': find(tokens, tokenizer, my_rules.WORD)}


HERE = sys.modules[__name__]
RULES = {  # name -> (a rule, what is done to it: another rule, or nothing; what the error names)
    'a global': (
        lambda w, p: by_global,
        lambda w, p: p.setattr(HERE, 'WORD', 'dog'),
        'rule: global WORD changed',
    ),
    'a global of a helper': (
        lambda w, p: by_helper,
        lambda w, p: p.setattr(HERE, 'WORD', 'dog'),
        'rule: global helper changed',
    ),
    'the code of a helper': (
        lambda w, p: by_helper,
        lambda w, p: p.setattr(HERE, 'helper', lambda: 'dog'),
        'rule: global helper changed',
    ),
    'the order of the classes': (
        lambda w, p: by_order,
        lambda w, p: p.setattr(HERE, 'ORDER', dict(reversed(ORDER.items()))),
        'rule: global ORDER changed',
    ),
    'a closure': (
        lambda w, p: by_closure('cat'),
        lambda w, p: by_closure('dog'),
        'rule: closure word changed',
    ),
    'a default': (
        lambda w, p: by_default,
        lambda w, p: p.setattr(by_default, '__defaults__', ('dog',)),
        'rule: defaults changed',
    ),
    'a default by name': (
        lambda w, p: by_keyword,
        lambda w, p: p.setattr(by_keyword, '__kwdefaults__', {'word': 'dog'}),
        'rule: defaults changed',
    ),
    'its code': (
        lambda w, p: lambda tokens, tokenizer: {'hit': find(tokens, tokenizer, 'cat')},
        lambda w, p: lambda tokens, tokenizer: {'hit': find(tokens, tokenizer, 'dog')},
        'rule: code changed',
    ),
    'an argument': (
        lambda w, p: partial(by_default, word='cat'),
        lambda w, p: partial(by_default, word='dog'),
        'rule: argument word changed',
    ),
    'the state of an object': (
        lambda w, p: ByState('cat'),
        lambda w, p: ByState('dog'),
        'rule: attribute word changed',
    ),
    'a variable of a class': (
        lambda w, p: ByState('cat'),
        lambda w, p: p.setattr(ByState, 'shared', 'dog'),
        'rule: class changed',
    ),
    'the object of a method': (
        lambda w, p: ByState('cat').method,
        lambda w, p: ByState('dog').method,
        'rule: object changed',
    ),
    'what it wraps': (
        lambda w, p: wraps(by_default)(lambda *given: by_default(*given)),
        lambda w, p: p.setattr(by_default, '__defaults__', ('dog',)),
        'rule: .*changed',
    ),
    'the source of its module': (
        lambda w, p: imported(w, 'cat', p).rule,
        lambda w, p: w.path.joinpath('my_rules.py').write_text('# edited'),
        'rule: module source changed',
    ),
    'its module, imported anew': (
        lambda w, p: imported(w, 'cat', p).rule,
        lambda w, p: imported(w, 'dog', p).rule,
        'rule: global WORD changed',
    ),
    'a variable of another module': (
        lambda w, p: imported(w, 'cat', p) and through_module,
        lambda w, p: p.setattr('my_rules.WORD', 'dog'),
        'rule: global import my_rules changed',
    ),
}


@pytest.mark.parametrize('name', RULES)
def test_another_rule_is_refused_by_what_changed(world, monkeypatch, name):
    first, change, message = RULES[name]
    world.targets = first(world, monkeypatch)
    store = world.harvest()
    assert len(store) > 0
    assert world.harvest().rows.equals(store.rows), 'called again it is the same rule'
    before = world.files()
    if callable(other := change(world, monkeypatch)): world.targets = other
    with pytest.raises(ValueError, match=message): world.harvest()
    assert world.files() == before


def edit(value, number=3):
    value.data.view(-1)[number] += .125 # past the counter that torch keeps of changes


def steering(module, args, output): return output
def patched(of, name):
    def method(self, *args, **kwargs): return getattr(of, name)(self, *args, **kwargs)
    return method
def hook(w): w.block.register_forward_hook(steering)
def everyone(w): w.undo = everywhere.register_module_forward_hook(steering)
def own_forward(w): w.block.mlp.forward = MethodType(type(w.block.mlp).forward, w.block.mlp)
def parametrized(w): torch.nn.utils.parametrizations.weight_norm(w.block.mlp.down_proj)
def widened(w): w.block.mlp = torch.nn.Sequential(w.block.mlp)
def normalised(w): w.lm.tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
def padded(w):
    w.lm.tokenizer.pad_token = w.lm.tokenizer.eos_token
    w.lm.tokenizer(['the cat', 'the'], padding=True, truncation=True, max_length=1)
def touched(w): os.utime(w.source / 'x.jsonl', (0, 0))
def same_size(w):
    before = os.stat(w.source / 'x.jsonl')
    w.write('x', TEXTS[0].replace('cat', 'mat', 1))
    os.utime(w.source / 'x.jsonl', ns=(before.st_atime_ns, before.st_mtime_ns))
def copied(w):
    (w.path / 'elsewhere').mkdir()
    w.source = Path(os.path.relpath(w.source.rename(w.path / 'elsewhere/text')))
def config(key, value): return lambda w: setattr(w.lm.model.config, key, value)
def option(**words): return lambda w: w.words.update(words)
def target(**targets): return lambda w: setattr(w, 'targets', targets)
def attribute(name, value): return lambda w: setattr(w.block.self_attn, name, value)


REFUSED = {
    'one weight': (lambda w: edit(w.block.mlp.down_proj.weight, 7), 'weights changed'),
    'the embedding': (lambda w: edit(w.lm.model.get_input_embeddings().weight), 'weights changed'),
    'a buffer': (lambda w: edit(w.lm.model.model.rotary_emb.inv_freq), 'buffers changed'),
    'the type of the weights': (lambda w: w.lm.model.bfloat16(), 'weights changed'),
    'a setting': (config('rms_norm_eps', 0.5), 'settings.rms_norm_eps: 1e-06 there, 0.5 asked for'),
    'how attention is computed': (config('_attn_implementation', 'eager'), 'settings.attention: '),
    'a scale': (attribute('scaling', 0.1), 'modules changed'),
    'a part': (widened, 'weights changed'),
    'another activation': (
        lambda w: setattr(w.block.mlp, 'act_fn', torch.nn.ReLU()),
        'modules changed',
    ),
    'a hook': (hook, 'model.layers.0 has a forward hook'),
    'a hook before': (
        lambda w: w.block.mlp.register_forward_pre_hook(steering),
        'model.layers.0.mlp has a forward hook',
    ),
    'a hook on everything': (everyone, 'global forward hook'),
    'a forward of its own': (own_forward, 'model.layers.0.mlp has its own forward'),
    'a parametrization': (parametrized, 'parametriz'),
    'the normaliser': (normalised, 'tokenizer: normalizer changed'),
    'a new token': (
        lambda w: w.lm.tokenizer.add_tokens(['moon']),
        'tokenizer: added_tokens changed',
    ),
    'the special tokens': (
        lambda w: setattr(w.lm.tokenizer, 'unk_token', 'sun'),
        'tokenizer: special tokens changed',
    ),
    'a text of the same size and time': (same_size, 'files: x.jsonl changed'),
    'a new file': (lambda w: w.write('z', TEXTS[0]), 'files: z.jsonl was added'),
    'a file that is gone': (
        lambda w: (w.source / 'y.jsonl').unlink(),
        'files: y.jsonl was removed',
    ),
    'a new name': (
        lambda w: (w.source / 'x.jsonl').rename(w.source / 'z.jsonl'),
        'files: x.jsonl was removed; files: z.jsonl was added',
    ),
    'another target': (target(cat='cat', dog='sun'), "targets.dog: \"'dog'\" there"),
    'the order of the targets': (target(dog='dog', cat='cat'), "classes: .'cat', 'dog'. there"),
} | {
    name: (option(**{name: value}), message or f'{name}: ')
    for name, value, message in (
        ('layers', [1], ''),
        ('positions', (-1, 0), ''),
        ('site', 'mlp', ''),
        ('context', 8, ''),
        ('before', 2, ''),
        ('after', 1, ''),
        ('limit', 1, ''),
        ('dtype', 'float16', ''),
        ('precision', 'bfloat16', ''),
        ('ranks', 2, ''),
        ('threads', 1, ''),
        ('seed', 5, ''),
        ('prune', False, ''),
        ('batch_tokens', 4, ''),
        ('shard_tokens', 4, ''),
        ('on_error', 'skip', ''),
    )
}
ACCEPTED = {
    'a call of the tokenizer': padded,
    'the time of a file': touched,
    'the place of the text': copied,
    'the number of workers': option(workers=2),
    'a gradient': lambda w: w.lm.model.requires_grad_(False),
    'an output that nobody reads': config('output_hidden_states', True),
    'the name of the model': lambda w: setattr(w.lm, 'name', os.path.relpath(w.lm.name)),
    'training': lambda w: w.lm.model.train(),
}


@pytest.mark.parametrize('name', REFUSED)
def test_another_model_corpus_or_option_is_refused_by_its_name(world, name):
    change, message = REFUSED[name]
    world.harvest()
    before = world.files()
    change(world)
    try:
        with pytest.raises(ValueError, match=message): world.harvest()
    finally:
        if hasattr(world, 'undo'): world.undo.remove()
    assert world.files() == before


@pytest.mark.parametrize('name', ACCEPTED)
def test_what_is_accepted_changes_no_byte(world, name):
    store = world.harvest()
    before = world.files()
    ACCEPTED[name](world)
    assert world.harvest().rows.equals(store.rows)
    assert world.files() == before
    if name == 'training': return # `record` and the workers see to that
    fresh = world.harvest(out=world.path / 'fresh')
    assert (fresh.at(0) == store.at(0)).all()
    assert fresh.rows.equals(store.rows)


def test_the_code_of_a_class_that_was_replaced(world, monkeypatch):
    world.harvest()
    of = type(world.block.mlp)
    monkeypatch.setattr(of, 'forward', lambda self, x: self.down_proj(self.up_proj(x)))
    with pytest.raises(ValueError, match='code changed'): world.harvest()


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda w: edit(w.block.mlp.down_proj.weight, 7), 'has other weights than'),
        (normalised, 'has other tokenizer.normalizer than'),
        (config('rms_norm_eps', 0.5), 'has other settings.rms_norm_eps than'),
        (attribute('scaling', 0.1), 'has other modules than'),
    ],
)
def test_a_worker_runs_the_model_in_hand_or_none(world, change, message):
    change(world)
    with pytest.raises(ValueError, match=message): world.harvest()


@pytest.mark.parametrize(
    'given, precision, message',
    [
        (torch.float32, 'bfloat16', None),
        (torch.bfloat16, 'bfloat16', None),
        (torch.bfloat16, 'float32', "with dtype=torch.float32, or ask for precision='bfloat16'"),
    ],
)
def test_weights_are_compared_in_the_precision_of_the_run(world, given, precision, message):
    world.lm = load_lm(world.lm.name, 'cpu', given)
    if message is None: assert len(world.harvest(precision=precision)) > 0
    else:
        with pytest.raises(ValueError, match=message): world.harvest(precision=precision)


def test_a_worker_imports_the_rule_in_hand_or_none(world, monkeypatch):
    monkeypatch.setattr('sparse_probing.harvests.SAME_RULES', set())
    rule = imported(world, 'cat', monkeypatch).rule
    wanted = rule_parts(rule)
    message = 'has other global WORD, module source than the one given'
    with pytest.raises(ValueError, match=message):
        validate_rule(imported(world, 'dog', monkeypatch).rule, wanted)
    validate_rule(imported(world, 'cat', monkeypatch).rule, wanted)


def test_what_has_no_fingerprint_is_named(world):
    with open(os.devnull) as file:
        with pytest.raises(ValueError, match='the closure word of the rule has no fingerprint'):
            world.targets = by_closure(file)
            world.harvest()
        with pytest.raises(ValueError, match='probe of the sweep has no fingerprint'):
            probe = KSparseProbe(by=lambda X, y, seed: file)
            sweep(made_up(), probe, [1], out=world.path, n_jobs=1)


PROGRAM = '''
import re, sys
from functools import partial
import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sparse_probing import SparseProbe, find, harvest, load_lm, sweep
sys.path.insert(0, 'tests')
from helpers.harvesting import Inline
from helpers.made_up import made_up
WANTED, PATTERN = {'cat', 'dog', 'sun', 'mat'}, re.compile('c|d')
def scaled(X, by): return X * by
def fits(word): return word in WANTED and PATTERN.match(word) and word in {'cat', 'dog', 'hill'}
def rule(tokens, tokenizer, *, shift):
    return {word: find(tokens, tokenizer, word) for word in ('cat', 'dog') if fits(word)}
if __name__ == '__main__':
    model, text, out = sys.argv[1:]
    steps = partial(scaled, by=2.), np.tanh, lambda X: X + 1
    probe = make_pipeline(*map(FunctionTransformer, steps), SparseProbe())
    sweep(made_up(80, 1), probe, [.1], out=out + '/cells', n_jobs=1)
    words = dict(layers=[0], before=1, after=0, ranks=1, executor=Inline, out=out + '/store')
    store = harvest(text, load_lm(model, 'cpu'), partial(rule, shift=np.ones(2)), **words)
    print(store.manifest['hash'])
'''


def test_a_new_process_takes_up_what_another_began(world):
    program = world.path / 'program.py'
    program.write_text(PROGRAM)
    arguments = ['', world.lm.name, str(world.source), str(world.path)]
    code = ('import runpy, sys\n'
            f'sys.argv = {arguments!r}\n'
            f'runpy.run_path({str(program)!r}, run_name="__main__")')
    first, second = (python(code, os.environ | {'PYTHONHASHSEED': seed}) for seed in '12')
    assert first.returncode == 0, first.stderr[-2000:]
    assert second.returncode == 0, second.stderr[-2000:]
    assert first.stdout.strip().splitlines()[-1] == second.stdout.strip().splitlines()[-1]


def doubled(X): return 2 * X
def halved(X, by=2.): return X / by
def ranking(X, y, seed):
    return np.argsort(-abs(X[y].mean(0) - X[~y].mean(0)) * len(WORD), kind='stable')


class Nearest(ClassifierMixin, BaseEstimator):
    """A classifier of one's own."""
    def __init__(self, power=1): self.power = power
    def fit(self, X, y):
        self.classes_, self.coef_ = np.unique(y), X[y].mean(0) - X[~y].mean(0)
        return self
    def decision_function(self, X): return X @ np.sign(self.coef_) ** self.power
    def predict(self, X): return self.decision_function(X) > 0


BASE, LINEAR = (
    made_up(80, 1),
    make_pipeline(FunctionTransformer(doubled), StandardScaler(), SparseProbe(C=0.1)),
)
def other(**changes): return dict(activations=replace(BASE, **changes))
def other_examples(**changes): return other(examples=replace(BASE.examples, **changes))
def nudged(X):
    X = X.copy()
    X[7, 0, 0, 3] += 1e-4
    return X


SWEEPS = {  # name -> (the first call, what changes, what the error names, if it is one)
    'one number': ({}, other(X=nudged(BASE.X)), 'X changed'),
    'the labels': ({}, other_examples(y=np.r_[BASE.examples.y[:-2], 1, 0]), 'y changed'),
    'the documents': ({}, other_examples(group=np.arange(80) // 2), 'groups changed'),
    'groups': ({}, dict(groups=np.arange(80) // 5), 'groups changed'),
    'folds': ({}, dict(cv=4), 'cv changed'),
    'a splitter': (dict(cv=GroupKFold(3)), dict(cv=GroupKFold(4)), 'cv changed'),
    'its random state': (
        dict(cv=StratifiedKFold(3, shuffle=True, random_state=0)),
        dict(cv=StratifiedKFold(3, shuffle=True, random_state=1)),
        'cv changed',
    ),
    'the state of a generator': (
        dict(cv=StratifiedKFold(3, shuffle=True, random_state=np.random.RandomState(0))),
        dict(cv=StratifiedKFold(3, shuffle=True, random_state=np.random.RandomState(1))),
        'cv changed',
    ),
    'test': ({}, dict(test=0.4), 'test changed'),
    'seed': ({}, dict(seed=1), 'seed changed'),
    'along': (dict(along=[0.1]), dict(along=[0.2]), 'along changed'),
    'tol': (dict(probe=SparseProbe()), dict(probe=SparseProbe(tol=1e-4)), 'probe, tol changed'),
    'max_iter': (
        dict(probe=SparseProbe()),
        dict(probe=SparseProbe(max_iter=300)),
        'probe, max_iter changed',
    ),
    'class_weight': (
        dict(probe=SparseProbe()),
        dict(probe=SparseProbe(class_weight='balanced')),
        'probe, class_weight changed',
    ),
    'another probe': (dict(probe=LogisticRegression()), dict(probe=Nearest()), 'probe'),
    'C inside a pipeline': (
        {},
        dict(probe=make_pipeline(StandardScaler(), SparseProbe(C=3))),
        'probe, sparseprobe__C changed',
    ),
    'a step': ({}, dict(probe=SparseProbe()), 'probe'),
    'a function': (
        dict(probe=LINEAR),
        dict(probe=make_pipeline(FunctionTransformer(halved), *LINEAR[1:])),
        'probe, functiontransformer__func changed',
    ),
    'an argument of a function': (
        dict(probe=make_pipeline(FunctionTransformer(partial(halved, by=2.0)), SparseProbe())),
        dict(probe=make_pipeline(FunctionTransformer(partial(halved, by=3.0)), SparseProbe())),
        'functiontransformer__func changed',
    ),
    'the global of a ranking': (
        dict(probe=KSparseProbe(by=ranking), along=[1]),
        lambda p: p.setattr(HERE, 'WORD', 'mouse'),
        'probe, by changed',
    ),
    'the code of an estimator': (
        dict(probe=Nearest()),
        lambda p: p.setattr(Nearest, 'decision_function', lambda self, X: X[:, 0]),
        'probe',
    ),
    'its parameter': (dict(probe=Nearest()), dict(probe=Nearest(3)), 'probe, power changed'),
    'refit': (
        dict(probe=KSparseProbe(), along=[1]),
        dict(probe=KSparseProbe(refit='means')),
        'probe, refit changed',
    ),
    'a random state': (
        dict(probe=LogisticRegression(random_state=np.random.RandomState(0))),
        dict(probe=LogisticRegression(random_state=np.random.RandomState(1))),
        'probe, random_state changed',
    ),
    'the number of threads': ({}, dict(n_jobs=2), None),
    'the form of along': (dict(along=[0.1, 0.2]), dict(along=np.array([0.1, 0.2])), None),
    'a probe that was fitted': (
        dict(probe=SparseProbe()),
        dict(probe=SparseProbe().fit(BASE.X[:, 0, 0], BASE.examples.y)),
        None,
    ),
    'the order of the memory': ({}, other(X=np.asfortranarray(BASE.X)), None),
    'a name': ({}, other(model='else'), None),
    'data frames': (
        {},
        lambda p: p.setitem(sklearn._config._global_config, 'transform_output', 'pandas'),
        None,
    ),
}


@pytest.mark.filterwarnings('ignore:.*certified')
@pytest.mark.parametrize('name', SWEEPS)
def test_another_sweep_is_refused_by_what_changed_or_is_the_same(tmp_path, monkeypatch, name):
    words, change, message = SWEEPS[name]
    words = dict(activations=BASE, cv=3, n_jobs=1) | words
    table = sweep(**words, out=tmp_path)
    assert sweep(**words, out=tmp_path).equals(table)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    words |= (change(monkeypatch) or {}) if callable(change) else change
    if message is None:
        with parallel_config('threading'):
            assert sweep(**words, out=tmp_path).equals(table)
            assert sweep(**words).equals(table)
    else:
        message = f'other data, or with other settings .*{message}'
        with pytest.raises(ValueError, match=message): sweep(**words, out=tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize('setting', ['pandas', 'default'])
def test_settings_of_scikit_learn_change_no_sweep(setting):
    plain = sweep(BASE, LINEAR, [.1, .2], n_jobs=1)
    # a thread has settings of its own, as a process has
    with sklearn.config_context(transform_output=setting), parallel_config('threading'):
        for n_jobs in (1, 2): assert sweep(BASE, LINEAR, [.1, .2], n_jobs=n_jobs).equals(plain)
    own = make_pipeline(StandardScaler().set_output(transform='pandas'), SparseProbe())
    same = make_pipeline(StandardScaler(), SparseProbe())
    assert sweep(BASE, own, [.1], n_jobs=1).equals(sweep(BASE, same, [.1], n_jobs=1))


def test_cells_of_an_earlier_version_are_refused(tmp_path):
    import pyarrow.parquet as pq
    sweep(BASE, out=tmp_path, n_jobs=1)
    cell = next(tmp_path.iterdir())
    table = pq.read_table(cell)
    pq.write_table(table.replace_schema_metadata({'made_from': 'af' * 16}), cell)
    with pytest.raises(ValueError, match='it does not say which'):
        sweep(BASE, out=tmp_path, n_jobs=1)


def test_a_splitter_with_a_state_gives_each_cell_the_same_folds():
    words = dict(activations=made_up(80, 2), along=[.1], probe=SparseProbe())
    def folds(): return StratifiedKFold(3, shuffle=True, random_state=np.random.RandomState(0))
    with parallel_config('threading'):
        first, second = (sweep(cv=folds(), n_jobs=n_jobs, **words) for n_jobs in (1, 2))
    assert first.equals(second)


@pytest.mark.parametrize(
    'words, message',
    [
        (
            dict(activations=BASE.X[:, 0, 0], probe=BASE.examples.y),
            'sweep takes Activations.* got ndarray.* use `k_curve',
        ),
        (dict(activations={'a': BASE.X}), "got ndarray for task 'a'"),
        (dict(activations={}), 'no task to sweep'),
        (dict(probe=SparseProbe), r'write SparseProbe\(\)'),
        (dict(probe=BASE.examples.y), 'got ndarray'),
        (dict(probe=StandardScaler()), 'got StandardScaler'),
        (dict(groups=np.zeros((80, 1))), 'groups of shape'),
        (dict(groups=['a'] * 79), '80 rows, 79 groups'),
        (dict(groups=np.r_[np.arange(79.0), np.nan]), '1 of 80 rows have no group'),
    ],
)
def test_first_mistakes_get_a_sentence(words, message):
    with pytest.raises(ValueError, match=message): sweep(**dict(activations=BASE, n_jobs=1) | words)
