"""What a learner types wrong first: a sentence about the argument, not an error from inside."""
import re
from types import SimpleNamespace

import pytest
import sparse_probing as sp

PYTHONS_OWN = re.compile('has no attribute|not supported between|unsupported operand|unhashable|'
                         'is not (iterable|subscriptable|callable)|must be str, not|'
                         'could not convert')


@pytest.fixture(scope='module')
def world(lm, tokens, examples):
    activations = sp.record(lm, examples, 3)
    return SimpleNamespace(
        lm=lm, tokens=tokens, examples=examples, activations=activations, X=activations.at(3),
        y=examples.y, documents=list(sp.read_documents('news', 2)),
        targets={'a': ' the', 'b': ' an'})


MISTAKES = {
    'a string for documents': lambda w: sp.tokenize('The cat', w.lm),
    'strings for documents': lambda w: sp.tokenize(['The cat'], w.lm),
    'no tokenizer': lambda w: sp.tokenize(w.documents, None),
    'a model for its tokenizer': lambda w: sp.tokenize(w.documents, w.lm.model),
    'documents and tokenizer swapped': lambda w: sp.tokenize(w.lm.tokenizer, w.documents),
    'a list of targets': lambda w: sp.contrast(w.tokens, w.lm, [' the', ' an']),
    'documents for tokens': lambda w: sp.contrast(w.documents, w.lm, w.targets),
    'a string for n': lambda w: sp.contrast(w.tokens, w.lm, w.targets, n='10'),
    'one class': lambda w: sp.contrast(w.tokens, w.lm, {'a': ' the'}),
    'a number for a token': lambda w: sp.contrast(w.tokens, w.lm, {'a': 5, 'b': ' an'}),
    'nothing for a token': lambda w: sp.contrast(w.tokens, w.lm, {'a': None, 'b': ' an'}),
    'find a number': lambda w: sp.find(w.tokens, w.lm, 5),
    'text and tokenizer swapped': lambda w: sp.token_id(' the', w.lm),
    'a rule on documents': lambda w: sp.next_token_is(w.documents, w.lm, ' the'),
    'another rule on documents': lambda w: sp.compound(w.documents, w.lm, ' United', ' States'),
    'a rule without a tokenizer': lambda w: sp.capitalised(w.tokens, None),
    'record by a model': lambda w: sp.record(w.lm.model, w.examples, 3),
    'record, swapped': lambda w: sp.record(w.examples, w.lm, 3),
    'record texts': lambda w: sp.record(w.lm, ['The cat'], 3),
    'record a layer by its name': lambda w: sp.record(w.lm, w.examples, '3'),
    'neurons of an LM': lambda w: sp.neuron_input(w.lm, 3),
    'neurons of no layer': lambda w: sp.neuron_input(w.lm.model, 99),
    'save, swapped': lambda w: sp.save_activations('file', w.activations),
    'split examples': lambda w: sp.split(w.examples),
    'groups of the wrong length': lambda w: sp.split(w.y, groups=w.examples.group[:5]),
    'evaluate before fit': lambda w: sp.evaluate(sp.SparseProbe(), w.X, w.y),
    'evaluate, swapped': lambda w: sp.evaluate(w.X, w.y, sp.SparseProbe()),
    'several C for one': lambda w: sp.SparseProbe(C=[1, 10]).fit(w.X, w.y),
    'C as a string': lambda w: sp.SparseProbe(C='10').fit(w.X, w.y),
    'several k for one': lambda w: sp.KSparseProbe(k=[1, 2]).fit(w.X, w.y),
    'an unknown ranking': lambda w: sp.KSparseProbe(by='f').fit(w.X, w.y),
    'activations for a matrix': lambda w: sp.SparseProbe().fit(w.activations, w.y),
    'a path of activations': lambda w: sp.sparsity_path(w.activations, w.y),
    'two groups for a path': lambda w: sp.sparsity_path(w.X, w.y, groups=[1, 2]),
    'rank, swapped': lambda w: sp.rank_neurons(w.y, w.X),
    'sweep a matrix': lambda w: sp.sweep(w.X, w.y),
    'sweep a list': lambda w: sp.sweep([w.activations]),
    'sweep a class': lambda w: sp.sweep(w.activations, sp.SparseProbe),
    'one group for a sweep': lambda w: sp.sweep(w.activations, groups=[1]),
    'labels and tokenizer swapped': lambda w: sp.from_texts(['a', 'b'], w.lm, ['x', 'y']),
    'labels of one class': lambda w: sp.from_texts(['a', 'b'], ['x', 'x'], w.lm),
    'an unknown task': lambda w: sp.load_task('moods', w.lm),
    'rows of a task as a string': lambda w: sp.load_task('living-room', w.lm, n='5'),
    'no model': lambda w: sp.load_lm(None),
    'a model with a typing error': lambda w: sp.load_lm('smolm2'),
    'no source': lambda w: next(sp.read_documents(None)),
    'a source with a typing error': lambda w: next(sp.read_documents('wikki')),
    'a limit as a string': lambda w: next(sp.read_documents('wiki', limit='5')),
    'harvest by a model': lambda w: sp.harvest('news', w.lm.model, w.targets, layers=3, out='out'),
    'harvest a list of targets': lambda w: sp.harvest('news', w.lm, [' the'], layers=3, out='out'),
    'harvest documents': lambda w: sp.harvest(w.documents, w.lm, w.targets, layers=3, out='out'),
    'harvest a layer by its name': lambda w: sp.harvest('news', w.lm, w.targets, layers='3',
                                                        out='out'),
    'harvest to nowhere': lambda w: sp.harvest('news', w.lm, w.targets, layers=3, out=None),
    'chunks as a string': lambda w: sp.harvest('news', w.lm, w.targets, layers=3, out='out',
                                               context='512'),
    'a store that is not there': lambda w: sp.ActivationStore('nowhere'),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_a_mistake_gets_a_sentence(world, tmp_path, monkeypatch, mistake):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((TypeError, ValueError, OSError)) as error: MISTAKES[mistake](world)
    assert not PYTHONS_OWN.search(str(error.value))
    assert len(str(error.value)) > 25
    assert list(tmp_path.iterdir()) == []
