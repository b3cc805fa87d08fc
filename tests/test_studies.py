"""A study as its reader meets it: what the page says, what may change it, and what stays behind."""
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sparse_probing
from bs4 import BeautifulSoup
from helpers.disks import mounted

from sparse_probing import Tokens, contrast, record, studies
from sparse_probing.studies import GIVES_AWAY, SCORE, Request, study, token_floor

COMMAND = Path(sys.executable).with_name('sparse-probing')
SMALL = '--n', '100', '--layers', '9,29', '--contexts', '1000'


@pytest.fixture(scope='module')
def article(lm, tokens):
    examples = contrast(tokens, lm, {'the': ' the', 'an': ' an'}, 100)
    return record(lm, examples, [9, 29], [-1, 0])


@pytest.fixture(scope='module')
def report(lm, article): return study(lm, article)


def relabelled(activations, y): return replace(activations, examples=replace(
    activations.examples, y=np.asarray(y)))


def words_of(report, folder):
    """The text of a study's page, without scripts, in one line."""
    page, *_ = report.to_html(folder / 'study.html')
    soup = BeautifulSoup(page.read_text(), 'html.parser')
    for hidden in soup(['script', 'style', 'head']): hidden.decompose()
    return ' '.join(soup.get_text(' ').split())


def call(*words, cwd=None):
    return subprocess.run([COMMAND, *map(str, words)], cwd=cwd, capture_output=True, text=True,
                          env=os.environ | {'COLUMNS': '200'})


@pytest.mark.parametrize('seed', [1, 2, 3])
def test_shuffled_labels_give_nothing_found(lm, article, tmp_path, seed):
    y = np.random.default_rng(seed).permutation(article.examples.y)
    report = study(lm, relabelled(article, y))
    text = words_of(report, tmp_path)
    assert 'Nothing found' in text and 'guessing has 0.5' in text
    for name in ('few', 'stable', 'which'): assert not report.rungs[name].ran
    assert text.count('Not run: nothing was found') == 3 and not report.found
    assert report.rungs['null'].ran and (report.rungs['null'].tables['shuffled'].p > .05).all()


def test_a_token_in_view_is_said_to_be_read(lm, article, tmp_path):
    only = replace(article, X=article.X[:, :, 1:], positions=(0,))
    text = words_of(study(lm, only), tmp_path)
    assert 'Position 0 reads the token' in text
    assert 'says nothing about what the model knows' in text


def test_a_position_that_gives_the_token_away_is_shown_and_not_chosen(report, tmp_path):
    assert report.plan.candidates == [-1] and int(report.choice.position) == -1
    assert set(report.rungs['read'].tables['sweep'].position) == {-1, 0}
    assert 'Position 0 reads the token' in words_of(report, tmp_path)


def test_rungs_that_were_not_run_are_on_the_page(report, tmp_path):
    text = words_of(report, tmp_path)
    assert not report.rungs['cause'].ran and 'the rung cause was not run' in text
    for name in ('null', 'stable'): assert f'the rung {name} was not run' not in text
    assert 'It remains unknown whether the model uses what can be read.' in text


def test_the_verdict_has_the_numbers_of_the_tables(report):
    score = report.rungs['read'].tables['scores'].loc[SCORE]
    assert f'{score.value:.2f} ({score.low:.2f} to {score.high:.2f})' in report.verdict[0]
    steps = report.rungs['few'].tables['steps']
    best = steps.loc[steps.score.idxmax()]
    fewest = steps[steps.score >= best.low].nonzero.iloc[0]
    assert report.verdict[1].startswith(f'{fewest} neuron')
    assert len(report.rungs['which'].tables['neurons']) == min(fewest, 30)


def test_the_null_is_that_of_the_test_rows_by_their_documents(lm, report, article):
    """The p once more, from the probe that the study chose."""
    from sklearn.metrics import roc_auc_score
    from sparse_probing import SparseProbe, shuffle_labels
    examples, choice = article.examples, report.choice
    train = training_rows(lm, article)
    aside = np.setdiff1d(np.arange(len(examples)), train)
    X, y = article.at(int(choice.layer), -1), examples.y
    mean, spread = X[train].mean(0), X[train].std(0)
    probe = SparseProbe(choice.setting).fit((X[train] - mean) / spread, y[train])
    scores = probe.decision_function((X[aside] - mean) / spread)
    mixed = shuffle_labels(y[aside] == 1, examples.group[aside], 1000)
    nulls = np.array([roc_auc_score(labels, scores) for labels in mixed])
    table = report.rungs['null'].tables['shuffled']
    np.testing.assert_allclose(table[SCORE][1:], nulls, atol=1e-4)
    as_high = (1 + (nulls >= table[SCORE][0] - 1e-9).sum()) / 1001
    assert table.p[0] == pytest.approx(as_high, abs=.002)
    assert f'p = {table.p[0]:.3f}' in report.rungs['null'].says[0] and report.found


def test_a_feature_that_fails_its_null_is_not_claimed(lm, article, monkeypatch):
    def as_high(climb): return np.full(1000, .9), .8, 1.
    monkeypatch.setattr(studies, 'luck_of_test_rows', as_high)
    failed = study(lm, article)
    assert not failed.found and failed.verdict[0].startswith('Not shown to be more')
    assert 'p = 1.000' in failed.verdict[1] and len(failed.verdict) == 2


def test_a_null_that_cannot_be_tried_is_not_passed(lm, article, monkeypatch):
    def none(climb): raise ValueError('the labels cannot change places')
    monkeypatch.setattr(studies, 'luck_of_test_rows', none)
    untried = study(lm, article)
    assert not untried.found and untried.verdict[0].startswith('Not shown to be more')
    assert untried.verdict[1] == 'Not told: the labels cannot change places.'


def test_neurons_that_come_back_stand_in_the_table_of_neurons(report, tmp_path):
    shares = report.rungs['stable'].tables['shares'].set_index('neuron').share
    table = report.rungs['which'].tables['neurons']
    assert table['share of halves'].tolist() == shares[table.neuron].tolist()
    back = int((shares >= .75).sum())
    sentence = report.rungs['stable'].says[0]
    assert sentence.startswith(f'{back} neuron') and sentence in report.verdict
    assert sentence in words_of(report, tmp_path)


def test_the_token_that_is_read_has_no_code_where_there_are_two(lm, article):
    only = replace(article, X=article.X[:, :, 1:], positions=(0,))
    says = study(lm, only).rungs['null'].says
    assert any('2 different tokens' in sentence for sentence in says)


def test_the_command_says_by_its_exit_code_that_chance_does_as_well(tmp_path):
    coin = np.random.default_rng(5).integers(0, 2, 60)
    pd.DataFrame({'text': [text for text, _ in ROWS], 'label': coin}).to_csv(
        tmp_path / 'coin.csv', index=False)
    run = call('study', '--labelled', tmp_path / 'coin.csv', '--layers', '9', '--out',
               tmp_path / 'out')
    assert run.returncode == 3, run.stdout + run.stderr
    assert 'Nothing found' in run.stdout and finished(tmp_path / 'out').exists()


def test_every_fit_is_certified(report):
    assert (report.rungs['few'].tables['steps'].gap <= 1e-6).all()
    assert (report.rungs['read'].tables['sweep'].gap <= 1e-6).all()


def test_the_token_floor_is_the_log_odds_of_its_counts(article):
    """Against counts by hand, on one fold after the other."""
    from sparse_probing import folds
    from sklearn.metrics import roc_auc_score
    examples, train = article.examples, np.arange(len(article.examples))
    ids, y, scores = examples.ids[train, examples.place - 1], examples.y == 1, []
    for seen, held_out in folds(y, 5, examples.group, 0):
        odds = [np.log((np.sum((ids[seen] == k) & y[seen]) + .5)
                       / (np.sum((ids[seen] == k) & ~y[seen]) + .5)) for k in ids[held_out]]
        known = np.isin(ids[held_out], ids[seen])
        vocabulary = len(np.unique(ids[seen]))
        shift = np.log((np.sum(~y[seen]) + .5 * vocabulary) / (np.sum(y[seen]) + .5 * vocabulary))
        prior = np.log(y[seen].mean() / (~y[seen]).mean())
        score = np.where(known, np.array(odds) + shift, 0) + prior
        scores.append(roc_auc_score(y[held_out], score.round(9))) # what is equal stays equal
    assert np.isclose(np.mean(scores), token_floor(examples, train, -1, 0))
    assert token_floor(examples, train, 0, 0) >= GIVES_AWAY


def test_a_neuron_that_is_right_on_test_rows_alone_changes_nothing(lm, article, report):
    aside = np.setdiff1d(np.arange(len(article.examples)), training_rows(lm, article))
    X = article.X.copy()
    X[aside, 1, 0, 77] = 1000 * article.examples.y[aside] # layer 29, position -1
    planted = study(lm, replace(article, X=X))
    for name in ('layer', 'position', 'setting', 'validation'):
        assert planted.choice[name] == report.choice[name]
    same = report.rungs['few'].tables['steps'].neurons.tolist()
    assert planted.rungs['few'].tables['steps'].neurons.tolist() == same
    assert planted.rungs['which'].tables['neurons'].neuron.tolist() == (
        report.rungs['which'].tables['neurons'].neuron.tolist())


def test_a_neuron_that_is_right_on_training_rows_is_chosen(lm, article):
    """The counterpart: the plant is of a size that matters, where it may matter."""
    train, X = training_rows(lm, article), article.X.copy()
    X[train, 0, 0, 77] = 1000 * article.examples.y[train] # layer 9
    planted = study(lm, replace(article, X=X))
    assert int(planted.choice.layer) == 9
    assert not planted.rungs['which'].ran # on test rows it says nothing


def training_rows(lm, activations):
    from sparse_probing.studies import begin
    request = Request(lm, activations, 'wiki', 0, None, None, 'neurons', 1000, {})
    return begin(request, None, 0).train


@pytest.mark.parametrize('feature', ['targets', 'rule', 'examples'])
def test_each_form_of_a_feature_is_studied(lm, tokens, article, feature):
    from sparse_probing import capitalised
    few = Tokens(tokens.ids[:tokens.ends[40]], tokens.starts[:41])
    given = {'targets': {'the': ' the', 'of': ' of'}, 'rule': capitalised,
             'examples': article.examples}[feature]
    report = study(lm, given, few, 40, layers=[9], positions=-1, contexts=1000)
    assert report.plan.counts == ((100, 100) if feature == 'examples' else (40, 40))
    assert report.call.startswith('study(load_lm(')


@pytest.mark.parametrize('feature, message', [
    ('the', 'a study takes targets such as'),
    (None, 'a study takes targets such as'),
    ({'the': ' the'}, 'two or more different tokens'),
    ({'the': ' the', 'never': ' zyzzyva'}, 'never'),
    ({'a': ' a', 'b': ' the', 'c': ' an'}, 'two classes')])
def test_a_feature_that_is_none_is_refused(lm, tokens, feature, message):
    with pytest.raises(ValueError, match=message):
        study(lm, feature, tokens, 20, layers=[3], positions=-1)


def test_a_study_needs_a_model_and_rows(lm, article):
    with pytest.raises((TypeError, ValueError), match='an LM is needed'): study('gpt2', article)
    for rows, message in ((slice(0, 3), 'wo'), (article.examples.y == 0, 'wo')):
        few = replace(article, X=article.X[rows], examples=article.examples[rows])
        with pytest.raises(ValueError, match=message): study(lm, few)


def test_a_package_that_was_not_installed_has_its_version_all_the_same(monkeypatch):
    def of_others(name):
        if name == 'sparse_probing': raise PackageNotFoundError(name)
        return version(name)
    monkeypatch.setattr(studies, 'version', of_others)
    assert studies.versions()['sparse_probing'] == sparse_probing.__version__


def finished(out): return out / 'study.html'


def test_a_killed_study_goes_on_and_ends_as_if_never_killed(tmp_path):
    whole = call('study', *SMALL, '--out', tmp_path / 'whole')
    assert whole.returncode == 0, whole.stderr
    words = [COMMAND, 'study', *SMALL, '--out', tmp_path / 'killed']
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               start_new_session=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / 'killed' / 'cells').glob('*.parquet')):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not finished(tmp_path / 'killed').exists()
    kept = (tmp_path / 'killed/cells').glob('*.parquet')
    cells = {path: path.stat().st_mtime_ns for path in kept}
    again = call('study', *SMALL, '--out', tmp_path / 'killed')
    assert again.returncode == 0, again.stderr
    assert all(path.stat().st_mtime_ns == time_before for path, time_before in cells.items())
    paths = sorted((tmp_path / 'whole').glob('study-*.parquet'))
    assert len(paths) > 6
    for path in paths:
        other = tmp_path / 'killed' / path.relative_to(tmp_path / 'whole')
        pd.testing.assert_frame_equal(pd.read_parquet(path), pd.read_parquet(other))
    assert not list(tmp_path.rglob('*.partial'))


def test_a_full_disk_leaves_no_half_and_with_more_room_it_goes_on(lm, article, tmp_path):
    words = dict(layers=[9, 29], positions=-1, contexts=1000)
    with mounted(tmp_path / 'small', 'size=1m') as small:
        with pytest.raises(OSError, match='No space left on device'):
            study(lm, article.examples, out=small / 'study', **words)
        assert not list(small.rglob('*.partial')) and not list(small.rglob('*.safetensors'))
        subprocess.run(['mount', '-o', 'remount,size=9m', str(small)], check=True)
        report = study(lm, article.examples, out=small / 'study', **words)
        subprocess.run(['dd', 'if=/dev/zero', f'of={small / "filler"}'], capture_output=True)
        with pytest.raises(OSError, match='No space left on device'):
            report.to_html(small / 'study/study.html')
        assert not list(small.rglob('*.partial')) and not list(small.rglob('*.html'))


def labelled(folder, name, text):
    (folder / name).write_text(text)
    return folder / name


ROWS = [(f'It was a {word} film, number {k}.', label) for k in range(30)
        for word, label in (('wonderful', 'good'), ('dreadful', 'bad'))]


@pytest.mark.parametrize('name', ['rows.csv', 'rows.jsonl.gz'])
def test_a_labelled_file_of_ones_own(tmp_path, name):
    table = pd.DataFrame(ROWS, columns=['review', 'verdict'])
    if 'jsonl' in name: table.to_json(tmp_path / name, orient='records', lines=True)
    else: table.to_csv(tmp_path / name, sep='\t' if 'tsv' in name else ',', index=False)
    run = call('study', '--labelled', tmp_path / name, '--text-column', 'review', '--label-column',
               'verdict', '--layers', '9', '--out', tmp_path / 'out')
    assert run.returncode == 0, run.stderr
    assert "'bad' and 'good' can be told apart" in run.stdout
    assert finished(tmp_path / 'out').stat().st_size < 3e6


WRONG = {
    'a CSV without the column': ('rows.csv', 'text,sign\na,1\nb,0\n', (), "no column 'label'"),
    'no text column': ('rows.csv', 'review,label\na,1\nb,0\n', (), "no column 'text'"),
    'one class': ('rows.csv', 'text,label\nyes,1\nno,1\nwell,1\n', (), 'of one class'),
    'three rows': ('rows.csv', 'text,label\nyes,1\nno,0\nwell,1\n', (), 'documents'),
    'three classes': ('rows.csv', 'text,label\nyes,1\nno,0\nwell,2\n', (), 'two classes'),
    'an empty text': ('rows.csv', 'text,label\n,1\nno,0\n', (), 'row 1 of 2'),
    'no rows': ('rows.csv', 'text,label\n', (), 'no rows'),
    'no table': ('rows.csv', '', (), 'cannot be read as csv'),
    'not JSON': ('rows.jsonl', '{"text": ', (), 'cannot be read as jsonl'),
    'another ending': ('rows.xlsx', 'PK', (), 'a labelled file ends in'),
    'unknown model': (None, '', ('--model', './no/such/model'), 'no/such/model'),
    'unknown task': (None, '', ('--task', 'no-such-task'), 'no task'),
    'unknown rule': (None, '', ('--rule', 'no_such_rule'), 'no rule'),
    'two features': (None, '', ('--rule', 'number', '--task', 'x'), 'give one of'),
    'a pattern that matches nothing': (None, '', ('--target', '/zq{9}/', '--target', ' an'), 'zq'),
    'half a token': (None, '', ('--target', '/hing/', '--target', ' an'), 'token'),
    'a pattern that is none': (None, '', ('--target', '/(/', '--target', ' an'), r'\('),
    'a layer too many': (None, '', ('--layers', '99'), 'out of range'),
    'a site that is none': (None, '', ('--site', 'head'), 'site'),
    'a text that is not there': (None, '', ('--text', 'no/such/text'), 'no/such/text'),
}


@pytest.mark.parametrize('case', WRONG)
def test_bad_input_gets_a_sentence_and_leaves_no_half(tmp_path, case):
    name, text, words, message = WRONG[case]
    if name: words = ('--labelled', labelled(tmp_path, name, text), *words)
    run = call('study', '--n', '20', '--out', tmp_path / 'out', *words)
    assert run.returncode == 1 and 'Traceback' not in run.stderr
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith('sparse-probing: ') and re.search(message, last), run.stderr
    assert not finished(tmp_path / 'out').exists()
    left = [path.name for path in (tmp_path / 'out').rglob('*') if path.is_file()]
    assert set(left) <= {'study.lock'}


def test_a_study_of_other_words_is_refused_in_the_same_folder(lm, article, tmp_path):
    examples = article.examples
    study(lm, examples, layers=[9], positions=-1, out=tmp_path)
    with pytest.raises(ValueError, match='choose another folder'):
        study(lm, examples, layers=[29], positions=-1, out=tmp_path)
    with pytest.raises(ValueError, match='choose another folder'):
        study(lm, replace(examples, y=1 - examples.y), layers=[9], positions=-1, out=tmp_path)


NASTY = '</script><script>alert(1)</script>"\'<b>&amp;'


def test_nasty_names_stay_text(lm, article, tmp_path):
    examples = replace(article.examples, classes=(NASTY, 'an'))
    strange = replace(lm, name=f'model{NASTY}')
    report = study(strange, replace(article, examples=examples, model=strange.name))
    page, *_ = report.to_html(tmp_path / 'study.html')
    source = page.read_text()
    assert '<script>alert(1)' not in source
    assert NASTY in BeautifulSoup(source, 'html.parser').get_text()


def test_the_page_ends_with_what_is_needed_to_get_it_again(report, tmp_path):
    text = words_of(report, tmp_path)
    for word in (report.call, 'torch', 'seed', *report.about['fingerprints'].values()):
        assert str(word) in text
    assert report._repr_html_()


def test_tables_lie_beside_the_page(report, tmp_path):
    page, *tables = report.to_html(tmp_path / 'study.html')
    assert page.stat().st_size < 3e6
    by_name = {path.stem.removeprefix('study-'): pd.read_parquet(path) for path in tables}
    assert len(by_name['steps']) == 30 and len(by_name['neurons']) > 0
    assert json.dumps(by_name['floor'].guess.tolist())


def test_a_token_that_gives_the_class_away_is_in_view_behind_it_too(lm, article):
    """Position -1 comes after position -2, so the model has read what stands there."""
    from sparse_probing.studies import begin
    ids = article.examples.ids.copy()
    ids[np.arange(len(ids)), article.examples.place - 2] = 300 + article.examples.y
    X = np.repeat(article.X[:, :, :1], 3, axis=2)
    planted = replace(article, X=X, positions=(-3, -2, -1),
                      examples=replace(article.examples, ids=ids))
    request = Request(lm, planted, 'wiki', 0, None, None, 'neurons', 1000, {})
    plan = begin(request, None, 0).plan
    assert plan.candidates == [-3] and plan.gives_away(-2) and plan.gives_away(-1)


def test_the_sparsest_step_has_neurons():
    from sparse_probing.studies import sparsest
    steps = pd.DataFrame({'nonzero': [0, 1, 4], 'score': [.5, .52, .55], 'low': [.5, .47, .49]})
    assert sparsest(steps).nonzero == 1
    below_chance = steps.assign(score=[.5, .4, .45], low=[.5, .38, .43])
    assert sparsest(below_chance).nonzero == 4
