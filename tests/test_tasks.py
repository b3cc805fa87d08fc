"""Labelled sets and rules: what must hold for each of them, and what bad input says."""
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from helpers.apart import python
from datatrove.data import Document
from sparse_probing import (
    Tokens,
    capitalised,
    carriers,
    code_or_prose,
    compound,
    contrast,
    from_texts,
    in_parentheses,
    list_tasks,
    load_task,
    next_token_is,
    number,
    record,
    split,
    starts_sentence,
    tasks,
    tokenize,
)


def rows_of(name):
    return tasks.read_rows(
        carriers.carrier_file('tasks', tasks.catalogue().file[name]), ['prompt', 'target']
    )


def test_the_list():
    table = list_tasks()
    usable = table[table.refused == '']
    assert len(usable) == 127
    assert len(table) == 152
    assert table.index.is_unique
    assert not set(tasks.LEFT_OUT) & set(table.index)
    assert usable.classes.between(2, tasks.MOST).all()
    assert (usable.distinct <= usable.rows).all()
    assert usable.balance.between(.05, .5).all()
    assert (table.source.str.len() > 4).all()
    assert table.source.notna().all()
    table.loc[:, 'rows'] = 0 # the reader's copy
    assert (list_tasks().rows > 0).all()


def test_what_the_list_says_of_faults_is_so():
    table, content = list_tasks(), {}
    for name, file in tasks.catalogue().file.items():
        content.setdefault(carriers.carrier_file('tasks', file).read_bytes(), []).append(name)
    for names in content.values():
        if len(names) > 1:
            assert [
                f'its file is that of {names[0]}, byte for byte' in table.refused[name]
                for name in names
            ] == [False, True]
    assert sum(len(names) > 1 for names in content.values()) == 3
    news = [
        set(rows.prompt[rows.target == '0']) for rows in (rows_of(f'agnews_{k}') for k in range(3))
    ]
    assert news[0] == news[1] == news[2]
    assert all('mis-formatted' in table.refused[f'agnews_{k}'] for k in range(3))
    assert table.faults['glue_sst2'] == '5000 rows end in a blank'
    assert rows_of('glue_sst2').prompt.str.endswith(' ').all()
    assert '83 prompts with more than one label' in table.faults['disease_class']


def test_every_usable_task_loads(lm):
    table = list_tasks()
    for name in table.index[table.refused == '']:
        examples, rows = load_task(name, lm.tokenizer), rows_of(name)
        assert len(examples) == len(rows) == table.rows[name]
        assert len(examples.classes) == table.classes[name]
        assert [examples.classes[k] for k in examples.y] == list(rows.target)
        assert list(examples.classes) == sorted(set(rows.target))
        assert (examples.place == examples.length - 1).all()
        assert examples.length.min() >= 1
        assert examples.ids.shape[1] == examples.length.max() <= 64
        assert (
            examples.ids[np.arange(examples.ids.shape[1]) >= examples.length[:, None]] == 0
        ).all()
        assert pd.Series(examples.group).groupby(rows.prompt.to_numpy()).nunique().eq(1).all()
        if not rows.prompt.duplicated().any(): continue
        train, test = split(examples.y, examples.group)
        assert not set(rows.prompt.iloc[train]) & set(rows.prompt.iloc[test])


def test_n_rows_of_each_class(lm):
    one, same, other = (
        load_task('nyc_borough', lm.tokenizer, n=50, seed=seed) for seed in (3, 3, 4)
    )
    assert list(np.bincount(one.y)) == [50] * 5
    assert (one.ids == same.ids).all()
    assert one.ids.shape != other.ids.shape or (one.ids != other.ids).any()


@pytest.mark.parametrize(
    'name, n, message',
    [
        ('hist_fig_male', 9, "no task 'hist_fig_male'; the nearest are hist_fig_ismale"),
        ('5_hist_fig_ismale', 9, 'the nearest are hist_fig_ismale'),
        ('', 9, 'the nearest are none'),
        ('us_lat', 9, "'us_lat' is refused: 4266 different values: a number is no class"),
        ('amzn_rev', 9, "'amzn_rev' is refused: its file is that of yelp_data"),
        ('agnews_1', 9, 'refused: mis-formatted.*source code'),
        ('toxic_is', 9, 'is left out of the tasks: it is a set of hateful or toxic text'),
        ('hate_hat', 9, r'no task(?!.*hate_hate)'),
        (
            'headline_isiran',
            695,
            "695 rows a class asked for; class 'False' has 694, 'True' has 694: ask for 1 to 694",
        ),
        ('glue_sst2', 0, '0 rows a class'),
    ],
)
def test_bad_requests(lm, name, n, message):
    with pytest.raises(ValueError, match=message): load_task(name, lm.tokenizer, n)


def packed(path, text):
    path.write_bytes(pa.compress(text.encode(), 'zstd', asbytes=True))
    return path


def test_damaged_and_empty_files(lm, tmp_path, monkeypatch):
    real, path = carriers.carrier_file, tmp_path / 'small.csv.zst'
    monkeypatch.setattr(
        tasks, 'carrier_file', lambda asset, ending=None: path if ending else real(asset)
    )
    whole = carriers.carrier_file('tasks', tasks.catalogue().file['glue_sst2']).read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(
            ValueError, match=r'small.csv.zst is truncated, or not a table.*sparse-probing fetch'
        ):
            load_task('glue_sst2', lm.tokenizer)
    packed(path, 'prompt,target\n')
    for n in (None, 5):
        with pytest.raises(ValueError, match='there are no rows'):
            load_task('glue_sst2', lm.tokenizer, n)
    packed(path, 'prompt,target\na,1\nb,1\n')
    with pytest.raises(ValueError, match="all 2 rows are of one class, '1'"):
        load_task('glue_sst2', lm.tokenizer)
    packed(path, 'text,label\na,1\n')
    with pytest.raises(ValueError, match=r"not a table with the columns \['prompt', 'target'\]"):
        load_task('glue_sst2', lm.tokenizer)
    packed(path, 'prompt,target\nNA,1\nnan,0\n')
    assert len(load_task('glue_sst2', lm.tokenizer)) == 2


def test_a_truncated_file_of_the_carrier_is_found_by_its_checksum(tmp_path, monkeypatch):
    file = tasks.catalogue().file['glue_sst2']
    listed = next(f for f in carriers.metadata.files('sae-probes') if str(f).endswith(file))
    half = tmp_path / 'half.zst'
    half.write_bytes(listed.locate().read_bytes()[:1000])
    listed.locate = lambda: half
    monkeypatch.setattr(carriers.metadata, 'files', lambda package: [listed])
    with pytest.raises(ValueError, match='half.zst is corrupt or truncated.*sparse-probing fetch'):
        carriers.carrier_file('tasks', file)
    with pytest.raises(ValueError, match=r'has no file \*/no.csv.zst'):
        carriers.carrier_file('tasks', '/no.csv.zst')


def test_the_carrier_is_not_imported():
    run = python(
        'import sys; from sparse_probing import list_tasks; list_tasks(); '
        'print([m for m in sys.modules if "sae" in m.split(".")[0]])'
    )
    assert run.stdout.strip() == '[]', run.stderr


@pytest.mark.parametrize(
    'name', ['code_HTML', 'wikidatasex_or_gender', 'context_ans', 'twt_emotion', 'cancer_cat']
)
@pytest.mark.parametrize('longest', [1, 16, 64])
def test_left_truncation_is_exact(lm, name, longest):
    texts = rows_of(name).prompt[::20].tolist() + [
        'x' * 3000,
        'a  b ' * 900,
        '\n \n' * 999 + 'end',
        ' ' * 5000,
        'ende\u0301 \U0001f600' * 300,
    ]
    whole = lm.tokenizer(texts, add_special_tokens=False, verbose=False)['input_ids']
    assert tasks.last_tokens(texts, lm.tokenizer, longest) == [ids[-longest:] for ids in whole]


def test_padded_rows_are_recorded_like_rows_alone(lm):
    texts = [
        'Short.',
        'A somewhat longer sentence, with a clause.',
        'One two three four five six seven eight nine ten eleven twelve.',
    ]
    together = record(lm, from_texts(texts, [0, 1, 1], lm.tokenizer), layers=[5]).X
    for row, text in enumerate(texts):
        alone = record(lm, from_texts([text, text], [0, 1], lm.tokenizer), layers=[5]).X[0]
        assert np.abs(together[row] - alone).max() < 1e-5


@pytest.mark.parametrize(
    'texts, labels, options, message',
    [
        (['a', 'b'], [1], {}, '2 texts and 1 labels'),
        ([], [], {}, 'there are no rows'),
        (['a', 'b'], [1, 1], {}, "one class, '1'"),
        (['a', ''], [0, 1], {}, "text 1 is ''"),
        (['a', None], [0, 1], {}, 'text 1 is None'),
        (['a', 'b'], [0, 1], dict(longest=0), 'at least 1 token'),
        (['a', 'b'], [0, 1], dict(group=[1]), '2 texts and 1 groups'),
    ],
)
def test_bad_texts(lm, texts, labels, options, message):
    with pytest.raises(ValueError, match=message):
        from_texts(texts, labels, lm.tokenizer, **options)


def test_groups_are_what_the_model_sees(lm):
    examples = from_texts(['one two', 'and two', 'one two', 'two'], 'abab', lm.tokenizer, longest=1)
    assert list(examples.group) == [0, 0, 0, 1]
    assert examples.classes == ('a', 'b') # ' two' and 'two' differ
    assert list(from_texts('abab', 'xyxy', lm.tokenizer, group=[7, 7, 8, 8]).group) == [7, 7, 8, 8]


@pytest.fixture(scope='module')
def part(tokens):
    """The first documents, shortened, and their tokens as text."""
    stretches = [
        np.arange(start, min(start + 1500, end))
        for start, end in zip(tokens.starts[:12], tokens.ends[:12])
    ]
    lengths = np.array([len(s) for s in stretches])
    return Tokens(tokens.ids[np.concatenate(stretches)], np.cumsum(lengths) - lengths)


def read_slowly(small, lm):
    """(document's texts, place in it, place in all) of each token."""
    for start, end in zip(small.starts, small.ends):
        texts = [lm.tokenizer.decode([i]) for i in small.ids[start:end]]
        for k in range(len(texts)): yield texts, k, start + k


def first_of_word(texts, k): return k == 0 or texts[k][:1].isspace() or not texts[k - 1].strip()


def slow_next(texts, k):
    if k + 1 == len(texts): return None
    return (
        'before the'
        if texts[k + 1] == ' the'
        else 'before another'
        if texts[k + 1][:1].isspace()
        else None
    )


def slow_capital(texts, k):
    letter = texts[k].strip()[:1]
    return (first_of_word(texts, k) or None) and (
        'capitalised' if letter.isupper() else 'lower case' if letter.islower() else None
    )


def slow_number(texts, k):
    letters = texts[k].strip()
    return (first_of_word(texts, k) or None) and (
        'number' if letters.isdecimal() else 'word' if letters.isalpha() else None
    )


def slow_parentheses(texts, k):
    if not texts[k].strip().isalpha(): return None
    line = ''.join(texts[max((j + 1 for j in range(k) if '\n' in texts[j]), default=0):k + 1])
    depth = 0
    for letter in line: depth = max(depth + (letter == '(') - (letter == ')'), 0)
    return 'inside' if depth else 'outside'


def slow_sentence(texts, k):
    if not (texts[k][:1].isspace() and texts[k].strip()[:1].isupper()) or not k: return None
    before = texts[k - 1].strip()
    if before.isalpha() and before.islower(): return 'inside a sentence'
    word = texts[k - 2].strip() if k > 1 else ''
    return (
        'sentence start'
        if before in ('.', '!', '?') and word.isalpha() and word.islower() and len(word) > 2
        else None
    )


def slow_compound(texts, k):
    return (
        None
        if texts[k] != ' the'
        else 'compound'
        if k and texts[k - 1] == ' of'
        else 'second alone'
    )


@pytest.mark.parametrize(
    'rule, arguments, slow',
    [
        (next_token_is, (' the',), slow_next),
        (capitalised, (), slow_capital),
        (number, (), slow_number),
        (in_parentheses, (), slow_parentheses),
        (starts_sentence, (), slow_sentence),
        (compound, (' of', ' the'), slow_compound),
    ],
    ids=lambda value: getattr(value, '__name__', ''),
)
def test_rules_against_a_slow_reading(lm, tokens, part, rule, arguments, slow):
    answer, wanted = rule(part, lm.tokenizer, *arguments), {}
    for texts, k, place in read_slowly(part, lm):
        wanted.setdefault(slow(texts, k), []).append(place)
    for name, places in answer.items(): assert list(places) == wanted[name] and len(places)
    everywhere = rule(tokens, lm.tokenizer, *arguments)
    examples = contrast(tokens, lm.tokenizer, everywhere, n=100, seed=1)
    for k, places in enumerate(everywhere.values()):
        assert set(examples.ids[examples.y == k, 14]) <= set(tokens.ids[places])


def test_rules_do_not_cross_documents(lm):
    small = tokenize(
        [Document(text=t, id=t) for t in ('Open (and', 'left of', ' the end. So', ' The')],
        lm.tokenizer,
    )
    assert list(small.document_of(in_parentheses(small, lm.tokenizer)['inside'])) == [0]
    assert not len(next_token_is(small, lm.tokenizer, ' the')['before the'])
    assert not len(compound(small, lm.tokenizer, ' of', ' the')['compound'])
    assert list(small.document_of(starts_sentence(small, lm.tokenizer)['sentence start'])) == [2]


def test_code_or_prose(lm):
    one, same = code_or_prose(lm.tokenizer, n=80), code_or_prose(lm.tokenizer, n=80)
    assert (one.ids == same.ids).all()
    assert one.classes == ('code', 'prose')
    assert list(np.bincount(one.y)) == [80, 80]
    assert all(set(one.y[one.group == g]) == {0, 1} for g in set(one.group))
    for module, docstring, code in tasks.library_functions():
        assert docstring
        assert re.match(r'(@|def )', code)
        assert module in tasks.MODULES
    with pytest.raises(ValueError, match='0 functions asked for'): code_or_prose(lm.tokenizer, n=0)


def test_places_in_a_contrast(lm, tokens):
    a, b = np.arange(0, len(tokens), 3), np.arange(1, len(tokens), 3)
    examples = contrast(tokens, lm.tokenizer, {'a': a[::-1], 'b': list(b)}, n=40)
    assert list(np.bincount(examples.y)) == [40, 40]
    assert len(np.unique(examples.ids, axis=0)) == 80
    for targets, message in (
        ({'a': a, 'b': a[:5]}, r"got \['a', 'b'\] with 5 places in common"),
        ({'a': a}, 'two or more'),
        ({'a': a, 'b': b / 2}, 'places are whole numbers'),
        ({'a': a, 'b': b + len(tokens)}, 'places are whole numbers'),
        ({'a': a, 'b': []}, "class 'b': 100 windows asked for, 0 found. There are 0 places"),
        (
            {'a': a, 'b': [16, 19]},
            "class 'b': 100 windows asked for, 2 found. There are 2 places, 2 of them",
        ),
    ):
        with pytest.raises(ValueError, match=message): contrast(tokens, lm.tokenizer, targets)


def test_a_window_is_in_one_class_only(lm):
    small = tokenize(
        [Document(text='one two three four', id=str(k)) for k in range(6)]
        + [Document(text='five six seven eight', id='b')],
        lm.tokenizer,
    )
    places = small.starts + 2
    with pytest.raises(
        ValueError, match="class 'b': 1 windows asked for, 0 found. There are 3 places, 3 of them"
    ):
        contrast(small, lm.tokenizer, {'a': places[:3], 'b': places[3:6]}, n=1, before=1, after=0)
