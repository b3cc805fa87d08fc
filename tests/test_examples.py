"""Tokens and examples: what must hold for any corpus, and what bad input says."""
import numpy as np
import pytest
from helpers.contrasts import TARGETS
from datatrove.data import Document
from sparse_probing import contrast, find, token_id, tokenize


def documents(*texts): return [Document(text=text, id=f'd{k}') for k, text in enumerate(texts)]


def test_batches_do_not_change_the_tokens(lm):
    several = documents(
        *(f'Document number {k} has the words of an example. ' * (k % 7 + 1) for k in range(150))
    )
    one = tokenize(several, lm.tokenizer, batch=1)
    many = tokenize(iter(several), lm.tokenizer, batch=64)
    assert (one.ids == many.ids).all()
    assert (one.starts == many.starts).all()
    assert len(one.starts) == 150
    assert one.ids.dtype == np.int32
    assert one.ends[-1] == len(one)


def test_whole_words_against_the_text_itself(lm, tokens):
    places = find(tokens, lm.tokenizer, ' an')
    for place in places[::40]:
        document = tokens.document_of(place)
        following = lm.tokenizer.decode(tokens.ids[place + 1:min(place + 2, tokens.ends[document])])
        assert lm.tokenizer.decode(tokens.ids[place:place + 1]) == ' an'
        assert not following or following[0].isspace()
    every = find(tokens, lm.tokenizer, ' an', whole_word=False)
    assert set(places) < set(every)
    assert len(every) == np.sum(tokens.ids == token_id(lm.tokenizer, ' an'))


def test_a_word_may_end_its_document(lm):
    small = tokenize(documents('What follows an', 'other words and an', 'aardvark'), lm.tokenizer)
    assert list(small.document_of(find(small, lm.tokenizer, ' an'))) == [0, 1]


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('before, after', [(14, 2), (0, 0), (40, 10)])
def test_what_a_draw_promises(lm, tokens, seed, before, after):
    n = 60 if before else 1 # a window of the bare token is the same every time
    examples = contrast(tokens, lm.tokenizer, TARGETS, n=n, before=before, after=after, seed=seed)
    assert examples.ids.shape == (2 * n, before + 1 + after)
    assert list(np.bincount(examples.y)) == [n, n]
    for k, text in enumerate(TARGETS.values()):
        rows = examples.y == k
        assert (examples.ids[rows, examples.place[rows]] == token_id(lm.tokenizer, text)).all()
    assert len(np.unique(examples.ids, axis=0)) == 2 * n
    for row in range(0, 2 * n, 7): # the window stands in the text of its own document
        document = tokens.ids[tokens.starts[examples.group[row]]:tokens.ends[examples.group[row]]]
        windows = np.lib.stride_tricks.sliding_window_view(document, examples.ids.shape[1])
        assert (windows == examples.ids[row]).all(1).any()


def test_a_repeated_document_gives_no_window_twice(lm):
    small = tokenize(
        documents(*['He saw the cat and then an owl by the old mill and left it.'] * 9),
        lm.tokenizer,
    )
    with pytest.raises(
        ValueError,
        match=r"class 'the'.*2 windows asked for, 1 found.*occurs 18 times as a whole word, "
        '9 of them.*1 of those different',
    ):
        contrast(small, lm.tokenizer, TARGETS, n=2, before=3, after=2)


def test_windows_at_the_very_edge(lm):
    small = tokenize(documents('Eat the pie', 'Eat an apple'), lm.tokenizer)
    assert len(contrast(small, lm.tokenizer, TARGETS, n=1, before=1, after=1)) == 2
    for size in (dict(before=2, after=1), dict(before=1, after=2)):
        with pytest.raises(ValueError, match='1 windows asked for, 0 found'):
            contrast(small, lm.tokenizer, TARGETS, n=1, **size)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(before=-1), 'before and after at least 0'),
        (dict(after=-1), 'before and after at least 0'),
        (dict(n=0), 'n must be at least 1'),
        (dict(targets={'the': ' the'}), 'two or more different tokens'),
        (dict(targets={'a': ' the', 'b': ' the'}), 'two or more different tokens'),
        (
            dict(targets={'the': ' the', 'x': ' aardvark'}),
            "class 'x' .' aardvark'.: 100 windows asked for, 16 found. The target occurs 17 times",
        ),
        (dict(targets={'the': ' the', 'x': ''}), 'by its text'),
        (dict(before=10**6), '100 windows asked for, 0 found'),
    ],
)
def test_bad_requests(lm, tokens, options, message):
    with pytest.raises(ValueError, match=message):
        contrast(tokens, lm.tokenizer, **{'targets': TARGETS, **options})


def test_a_corpus_without_a_hit_and_one_without_a_document(lm):
    with pytest.raises(
        ValueError,
        match=r"class 'the' \(' the'\): 100 windows asked for, 0 found. The token occurs 0 times",
    ):
        contrast(tokenize(documents('Nothing to see.'), lm.tokenizer), lm.tokenizer, TARGETS)
    with pytest.raises(ValueError, match='there are no documents'): tokenize([], lm.tokenizer)
    with pytest.raises(ValueError, match="document 'd1' is empty"):
        tokenize(documents('Some.', ''), lm.tokenizer)


def test_wordpiece_and_sentencepiece_words():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    wordpiece = Tokenizer(
        models.WordPiece({'[UNK]': 0, 'an': 1, '##other': 2, 'owl': 3, ',': 4}, unk_token='[UNK]')
    )
    wordpiece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    unigram = Tokenizer(
        models.Unigram(
            [('<unk>', 0.0), ('▁an', -1.0), ('other', -2.0), ('▁owl', -3.0), (',', -4.0)],
            unk_id=0,
        )
    )
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    for backend, unknown, expected in (
        (wordpiece, '[UNK]', [0, 2]),
        (unigram, '<unk>', [0]),
    ):  # WordPiece takes a comma for a new beginning
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token=unknown)
        small = tokenize(documents('an owl', 'another', 'an, owl'), tokenizer)
        assert list(small.document_of(find(small, tokenizer, ' an'))) == expected
        with pytest.raises(ValueError, match='not in the vocabulary'): token_id(tokenizer, 'zebra')


def test_show(examples, capsys):
    examples.show(each=3)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'the:'
    assert lines[4] == 'an:'
    assert len(lines) == 8
    assert {line.index('[ ') for line in lines[1:4] + lines[5:]} == {56}
