"""Tokenizers of every kind: where words end, what stays text, and what comes before it."""
import re
import warnings

import numpy as np
import pytest
from datatrove.data import Document
from sparse_probing import (
    capitalised,
    code_or_prose,
    compound,
    contrast,
    find,
    from_texts,
    in_parentheses,
    load_task,
    next_token_is,
    number,
    starts_sentence,
    token_id,
    tokenize,
)
from sparse_probing.tokens import (
    begins_anew,
    bos_ids,
    control_tokens,
    encode,
    spans,
    token_texts,
    unspaced,
)
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

CONTROL = ['<s>', '</s>', '<lang>', '[CLS]', '[SEP]', '<unk>']
TEXTS = [
    'the cat sat on the mat, and another cat ran.',
    'The other man sees an owl (an old one).',
    '今天的天气很好。我们去公园。',
    'вода и č Ġ',
] * 4


def fast(backend, template=None, **special):
    """The tokenizer of transformers around one of `tokenizers`."""
    if template:
        backend.post_processor = processors.TemplateProcessing(
            single=template,
            special_tokens=[
                (t, backend.token_to_id(t)) for t in CONTROL if backend.token_to_id(t) is not None
            ],
        )
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def bytes_as_letters(template=None, **special):
    """As GPT-2, Llama 3 and RoBERTa have it."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer, t.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    t.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=420,
            special_tokens=CONTROL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return fast(t, template, **special)


def with_a_bar(template=None, **special):
    """SentencePiece, as Llama 2 and Gemma have it."""
    t = Tokenizer(models.BPE(unk_token='<unk>', fuse_unk=True, byte_fallback=True))
    t.normalizer, t.decoder = (
        normalizers.Replace(' ', '▁'),
        decoders.Sequence([decoders.Replace('▁', ' '), decoders.ByteFallback(), decoders.Fuse()]),
    )
    t.pre_tokenizer = pre_tokenizers.Split('▁', 'merged_with_next')
    bytes_ = [f'<0x{k:02X}>' for k in range(256)]
    t.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=520, special_tokens=CONTROL, show_progress=False)
    )
    t.add_tokens([AddedToken(b, normalized=False) for b in bytes_])
    return fast(t, template, **{'unk_token': '<unk>', **special})


def unigram(template=None, **special):
    """SentencePiece, as in T5: a space before each text, control tokens among the pieces."""
    pieces = [(c, 0.) for c in CONTROL] + [(p, -1. - k / 50) for k, p in enumerate(
        '▁ ▁the ▁an ▁cat ▁other a n o t h e r c s w l . , ( ) < > / '
        '的 今 天 气 。 好 ▁The T'.split())]
    t = Tokenizer(models.Unigram(pieces, unk_id=5))
    t.pre_tokenizer, t.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return fast(t, template, **{'unk_token': '<unk>', **special})


def wordpiece(letters=(), pieces=('##other', '##er', '##s'), template=None, **special):
    """As BERT has it; multilingual ones have letters that elsewhere are marks."""
    words = [
        '[UNK]',
        *CONTROL,
        *'the an cat sat on a mat . , ( ) and the的'.split(),
        '的',
        '。',
        '天',
        *letters,
        *pieces,
    ]
    t = Tokenizer(
        models.WordPiece({w: i for i, w in enumerate(dict.fromkeys(words))}, unk_token='[UNK]')
    )
    t.normalizer, t.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    return fast(t, template, **{'unk_token': '[UNK]', **special})


def whole_words(template=None, **special):
    words = [*CONTROL, *'the an cat another owl ## ▁ č'.split()]
    t = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token='<unk>'))
    t.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return fast(t, template, **{'unk_token': '<unk>', **special})


def letters(template=None, **special):
    t = Tokenizer(
        models.WordLevel(
            {w: i for i, w in enumerate([*CONTROL, *' anotherwlc.한국ไปကမ'])}, unk_token='<unk>'
        )
    )
    t.pre_tokenizer, t.decoder = pre_tokenizers.Split(Regex('.'), 'isolated'), decoders.Fuse()
    return fast(t, template, **{'unk_token': '<unk>', **special})


KINDS = [bytes_as_letters, with_a_bar, unigram, wordpiece, whole_words, letters]


def read(tokenizer, *texts):
    return tokenize([Document(text=text, id=str(k)) for k, text in enumerate(texts)], tokenizer)


def hit(tokenizer, target, *texts, **options):
    """Numbers of the texts in which a target was found, once for each hit."""
    tokens = read(tokenizer, *texts)
    return tokens.document_of(find(tokens, tokenizer, target, **options)).tolist()


@pytest.mark.parametrize(
    'tokenizer, target, texts, expected',
    [
        (bytes_as_letters, ' an', ['so an owl', 'so another', 'an', 'so an'], [0, 3]),
        (with_a_bar, ' an', ['so an owl', 'so another', 'so an\nowl'], [0, 2]),
        (unigram, 'an', ['an owl', 'another', 'an'], [0, 2]),
        (wordpiece, 'an', ['an cat', 'another', 'an'], [0, 2]),
        (lambda: wordpiece(letters=('č', 'Ġ', '▁')), 'an', ['an cat', 'another', 'an'], [0, 2]),
        (lambda: wordpiece(letters=('č', 'Ġ'), pieces=()), 'an', ['an cat', 'an .'], [0, 1]),
        (whole_words, 'an', ['an owl', 'another', 'an cat an'], [0, 2, 2]),
        (letters, 'n', ['an owl', 'another', 'an'], [0, 2]),
        (letters, '한', ['한국', '한 국'], [1]),
        (letters, 'ไ', ['ไป', 'ไ ป', 'ไn'], [0, 1, 2]),
        (letters, 'n', ['ไnป', 'n한'], [0]),
        (ByT5Tokenizer, 'n', ['an owl', 'another', 'an'], [0, 2]),
    ],
    ids=lambda value: getattr(value, '__name__', str(value)),
)
def test_where_a_word_ends_in_each_kind(tokenizer, target, texts, expected):
    tokenizer = tokenizer()
    assert hit(tokenizer, target, *texts) == expected
    assert set(expected) <= set(hit(tokenizer, target, *texts, whole_word=False))


@pytest.mark.parametrize(
    'target, text, hits',
    [
        ('的', '今天的天气', 1),
        ('的', '红的。', 1),
        ('的', '好的 cat', 1),
        ('的', '好的cat', 1),
        ('。', '很好。我们', 1),
        ('、', '一、二', 1),
        ('の', '猫のA', 1),
        ('ー', 'カー、', 1),
        ('the', 'the的', 1),
        ('the', 'the，', 1),
        ('the', 'the。', 1),
        ('the', 'these', 0),
        ('the', 'the,', 0),
        ('the', 'the한', 0),
        ('the', 'the·s', 0),
        ('1', '1月', 1),
        ('1', '12', 0),
        ('.', 'e.g', 1),
        (' (', 'a (the', 1),
        ('-', 'a-b', 1),
        ('_', 'a_b', 0),
        ('1', '1年1é', 1),
        (' a', 'is aé', 0),
        ('\n', 'a\nb', 1),
        ('$', '$5', 1),
    ],
)
def test_scripts_without_spaces_and_signs(lm, target, text, hits):
    assert len(find(read(lm, text), lm, target)) == hits


@pytest.mark.parametrize(
    'letter, alone',
    [
        ('的', True),
        ('カ', True),
        ('ก', True),
        ('ລ', True),
        ('ក', True),
        ('မ', True),
        ('ཀ', True),
        ('「', True),
        ('，', True),
        ('😀', True),
        ('a', False),
        ('Ａ', False),
        ('é', False),
        ('я', False),
        ('한', False),
        ('क', False),
        ('ع', False),
        ('.', False),
        (' ', False),
        ('', False),
    ],
)
def test_letters_that_stand_alone(letter, alone): assert unspaced(letter) == alone


def test_the_error_for_too_few_names_the_rule(lm):
    tokens = read(lm, *['an owl, anoxia, anoxia and an old one'] * 3)
    with pytest.raises(
        ValueError,
        match=r'occurs 3 times as a whole word.*is a whole word left out 6 places.*'
        'whole_word=False takes these too',
    ):
        contrast(tokens, lm, {'an': ' an', 'and': ' and'}, n=9, before=0, after=0)
    with pytest.raises(ValueError) as e:
        contrast(tokens, lm, {'an': ' an', 'and': ' and'}, n=9, before=0, after=0, whole_word=False)
    assert 'whole word' not in str(e.value)


def test_texts_of_a_vocabulary(lm):
    assert list(token_texts(lm)) == lm.tokenizer.batch_decode(
        [[k] for k in range(len(lm.tokenizer))]
    )
    assert token_texts(wordpiece())[-1] == 's'
    assert ' cat' in token_texts(wordpiece())
    assert ' the' in token_texts(with_a_bar())
    assert '\ufffd' in token_texts(with_a_bar())
    assert {' cat', ' čat'} & set(token_texts(whole_words())) == {' cat'}
    assert ' ' in token_texts(letters())
    gap = Tokenizer(models.WordLevel({'the': 0, 'cat': 7, '<unk>': 9}, unk_token='<unk>'))
    gap.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    assert hit(fast(gap, unk_token='<unk>'), 'the', 'the cat', 'cat the dog') == [0, 1]
    assert len(begins_anew(fast(gap))) == 10


def test_a_letter_in_the_middle_of_a_text_is_one_token(lm): # where a space is put before each text
    t = unigram()
    assert t.convert_ids_to_tokens(token_id(t, '的')) == '的'
    assert t.convert_ids_to_tokens(token_id(t, 'an')) == '▁an'
    assert hit(t, '的', '今天的天气', '好 的') == [0, 1]


@pytest.mark.parametrize('kind', KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize('control', ['<s>', '</s>', '[CLS]', '<lang>'])
def test_the_spelling_of_a_control_token_stays_text(kind, control):
    t = kind(bos_token='<s>', eos_token='</s>', cls_token='[CLS]')
    t.add_special_tokens({'extra_special_tokens': ['<lang>']})
    spelled = t.convert_tokens_to_ids(control)
    for text in (f'the {control} cat', control, f'cat{control}cat'):
        ids = encode([text], t)[0]
        assert ids
        assert spelled not in ids
        assert not set(ids) & (set(control_tokens(t)) - {t.unk_token_id})
        assert (from_texts([text, text], [0, 1], t).ids != spelled).all()
    with pytest.raises(
        ValueError, match='is a control token of this tokenizer, which is in no text'
    ):
        token_id(t, control)


def test_control_tokens_of_the_embedded_model(lm):
    texts = ['a<|endoftext|>b', 'They write <|im_start|>user.', '<file_sep>']
    for text, document in zip(texts, np.split(read(lm, *texts).ids, read(lm, *texts).starts[1:])):
        assert lm.tokenizer.decode(document) == text
        assert len(document) > 3
    t = ByT5Tokenizer()
    assert t.decode(encode(['a</s>b'], t)[0]) == 'a</s>b'
    assert t.eos_token_id not in encode(['a</s>b'], t)[0]


def test_words_that_were_added_to_a_vocabulary_stay_one_token():
    t = bytes_as_letters()
    t.add_tokens(['zebra'])
    assert t.convert_ids_to_tokens(encode(['the zebra'], t)[0])[-1] == 'zebra'


LIKE = {
    'GPT-2': (bytes_as_letters, None, dict(bos_token='<s>', eos_token='<s>'), 0, 1),
    'SmolLM2': (bytes_as_letters, '$A', dict(bos_token='<s>'), 0, 1),
    'Llama 2': (with_a_bar, '<s> $A', dict(bos_token='<s>', eos_token='</s>'), 1, 1),
    'Llama 3': (bytes_as_letters, '<s> $A', dict(bos_token='<s>'), 1, 1),
    'RoBERTa': (
        bytes_as_letters,
        '<s> $A </s>',
        dict(bos_token='<s>', cls_token='<s>', eos_token='</s>', sep_token='</s>'),
        1,
        1,
    ),
    'BERT': (wordpiece, '[CLS] $A [SEP]', dict(cls_token='[CLS]', sep_token='[SEP]'), 1, 1),
    'T5': (unigram, '$A </s>', dict(eos_token='</s>'), 0, None),
    'BigBird': (unigram, '[CLS] $A [SEP]', dict(bos_token='<s>', cls_token='[CLS]'), 1, 1),
    'a language first': (unigram, '<lang> <s> $A </s>', dict(bos_token='<s>'), 1, 1),
    'a language only': (unigram, '<lang> $A </s>', dict(bos_token='<s>'), 0, 1),
    'twice': (with_a_bar, '<s> <s> $A', dict(bos_token='<s>'), 1, 1),
    'whole words': (whole_words, '<s> $A', dict(bos_token='<s>'), 1, 1),
    'nothing': (letters, None, {}, 0, None),
    'XLNet': (unigram, '$A </s> [CLS]', dict(bos_token='<s>', cls_token='[CLS]'), 0, 1),
}


@pytest.mark.parametrize('like', LIKE)
def test_what_comes_before_a_text(like):
    kind, template, special, auto, asked = LIKE[like]
    t = kind(template=template, **special)
    first = special.get('cls_token') if like in ('BERT', 'BigBird') else special.get('bos_token')
    number = (t.convert_tokens_to_ids(first),) if first else ()
    assert bos_ids(t) == bos_ids(t, 'auto') == number * auto
    assert bos_ids(t, False) == ()
    if asked: assert bos_ids(t, True) == number
    else:
        with pytest.raises(ValueError, match='no token that begins a sequence'): bos_ids(t, True)


@pytest.mark.parametrize('bos', ['yes', None, 1, 0, [], 'True', ''])
def test_bos_is_one_of_three(lm, tokens, bos):
    for call in (
        lambda: bos_ids(lm, bos),
        lambda: from_texts('ab', 'ab', lm, bos=bos),
        lambda: contrast(tokens, lm, {'the': ' the', 'an': ' an'}, bos=bos),
    ):
        with pytest.raises(ValueError, match="bos is 'auto', True or False"): call()


def test_windows_and_texts_with_a_token_before_them(lm, tokens):
    bos, words = lm.tokenizer.bos_token_id, {'the': ' the', 'an': ' an'}
    plain, auto, led = (
        contrast(tokens, lm, words, n=20, seed=3, bos=bos) for bos in (False, 'auto', True)
    )
    assert (plain.ids == auto.ids).all()
    assert (led.ids[:, 1:] == plain.ids).all()
    assert (led.ids[:, 0] == bos).all()
    assert led.ids.dtype == np.int32
    assert (led.place == 15).all()
    assert (led.length == 18).all()
    assert (led.ids[np.arange(40), led.place] == plain.ids[np.arange(40), plain.place]).all()
    assert (led.group == plain.group).all()
    assert len(contrast(tokens, lm, words, n=1, before=0, after=0, bos=True)) == 2
    for make in (
        lambda bos: from_texts(
            ['one', 'two three four five', 'one'], 'aba', lm, longest=2, bos=bos
        ),
        lambda bos: load_task('nyc_borough', lm, 3, bos=bos),
        lambda bos: code_or_prose(lm, 4, bos=bos),
    ):
        plain, led = make('auto'), make(True)
        assert (led.ids[:, 0] == bos).all()
        assert (led.ids[:, 1:] == plain.ids).all()
        assert (led.length == plain.length + 1).all()
        assert (led.place == led.length - 1).all()
        assert (led.group == plain.group).all()


def test_an_lm_in_place_of_its_tokenizer(lm, tokens, capsys):
    t, several = (
        lm.tokenizer,
        [Document(text='The United States (a few) saw 12 old men. It was Monday.', id='0')],
    )
    assert (tokenize(several, lm).ids == tokenize(several, t).ids).all()
    assert token_id(lm, ' the') == token_id(t, ' the')
    assert (find(tokens, lm, ' an') == find(tokens, t, ' an')).all()
    assert bos_ids(lm, True) == bos_ids(t, True)
    short = tokenize(several, lm)
    for rule, arguments in (
        (capitalised, ()),
        (number, ()),
        (in_parentheses, ()),
        (starts_sentence, ()),
        (next_token_is, (' old',)),
        (compound, (' United', ' States')),
    ):
        for name, places in rule(short, lm, *arguments).items():
            assert (places == rule(short, t, *arguments)[name]).all()
    for make in (
        lambda t: contrast(tokens, t, {'the': ' the', 'an': ' an'}, n=9),
        lambda t: from_texts('ab', 'ab', t),
        lambda t: load_task('nyc_borough', t, 3),
        lambda t: code_or_prose(t, 3),
    ):
        assert (make(lm).ids == make(t).ids).all()
        assert make(lm).tokenizer is t
    examples = from_texts(['one two', 'three'], 'ab', t)
    examples.tokenizer = lm
    examples.show(1)
    assert '[ two]' in capsys.readouterr().out


@pytest.mark.parametrize(
    'mistake, message',
    [
        (
            lambda lm, tokens: contrast(tokens, lm, [' the', ' an']),
            r"targets are a mapping.*got \[' the', ' an'\]",
        ),
        (lambda lm, tokens: contrast(tokens, lm, ' the'), 'targets are a mapping'),
        (
            lambda lm, tokens: contrast(tokens, lm, capitalised),
            'targets are a mapping.*or to places, such as a rule returns',
        ),
        (
            lambda lm, tokens: contrast(['a text'], lm, {'the': ' the'}),
            'tokens are what `tokenize` makes of documents; got list',
        ),
        (
            lambda lm, tokens: contrast(tokens, lm, {'the': ' the', 'an': ' an'}, n='10'),
            "n is a whole number; got n='10'",
        ),
        (
            lambda lm, tokens: contrast(tokens, lm, {'the': ' the', 'an': ' an'}, before=1.5),
            'before is a whole number; got before=1.5',
        ),
        (
            lambda lm, tokens: contrast(tokens, lm, {'the': ' the', 'an': ' an'}, after='2'),
            'after is a whole number',
        ),
        (
            lambda lm, tokens: contrast(tokens, lm, {'the': ' the', 'an': ' an'}, seed='0'),
            'seed is a whole number',
        ),
        (
            lambda lm, tokens: contrast(tokens, lm, {'the': ' the', 'an': ' an'}, seed=None),
            'seed is a whole number',
        ),
        (
            lambda lm, tokens: contrast(tokens, lm.model, {'the': ' the', 'an': ' an'}),
            'tokenizer is needed, or an LM.*got LlamaForCausalLM',
        ),
        (
            lambda lm, tokens: tokenize('Some text.', lm),
            "tokenize takes documents.*got 'Some text.'",
        ),
        (
            lambda lm, tokens: tokenize(['Some text.'], lm),
            r"tokenize takes documents.*Document\(text=text.*from_texts",
        ),
        (lambda lm, tokens: tokenize([{'text': 'Some'}], lm), 'tokenize takes documents'),
        (lambda lm, tokens: tokenize(None, lm), 'tokenize takes documents.*got None'),
        (lambda lm, tokens: tokenize(tokens, lm), 'tokenize takes documents'),
        (lambda lm, tokens: tokenize([Document(text='a', id='0')], None), 'got NoneType'),
        (lambda lm, tokens: tokenize([Document(text='a', id='0')], 'gpt2'), 'got str'),
        (
            lambda lm, tokens: tokenize([Document(text='a', id='0')], lm, batch=0),
            'batch must be at least 1',
        ),
        (lambda lm, tokens: token_id(lm, 5), "by its text, such as ' the'; got 5"),
        (lambda lm, tokens: find(tokens, lm, {' the'}), "by its text, such as ' the'"),
        (lambda lm, tokens: find('the text', lm, ' the'), 'tokens are what'),
        (
            lambda lm, tokens: from_texts(['a', 'b'], 'ab', lm, longest='9'),
            'longest is a whole number',
        ),
        (lambda lm, tokens: load_task('nyc_borough', lm, '10'), "n is a whole number; got n='10'"),
        (lambda lm, tokens: load_task('nyc_borough', lm, 2, seed=1.0), 'seed is a whole number'),
        (lambda lm, tokens: code_or_prose(lm, '5'), 'n is a whole number'),
        (lambda lm, tokens: from_texts(['a', 'b'], 'ab', lm.model), 'got LlamaForCausalLM'),
    ],
)
def test_first_mistakes_get_a_sentence(lm, tokens, mistake, message):
    with pytest.raises(ValueError, match=message): mistake(lm, tokens)


def test_a_word_without_its_space_is_warned_of_once(lm):
    tokens = read(lm, 'the cat saw the owl, the man.', 'the end of the day')
    with pytest.warns(UserWarning) as caught:
        contrast(tokens, lm, {'the': 'the', 'saw': ' saw'}, n=1, before=0, after=0)
    assert len(caught) == 1
    assert "' the' 3 times" in str(caught[0].message)
    assert caught[0].filename == __file__
    for quiet in (
        {'the': ' the', 'saw': ' saw'},
        {'low': 'the', 'high': ' the'},
        {'.': '.', 'the': ' the'},
    ):
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            contrast(tokens, lm, quiet, n=1, before=0, after=0)


def documents(*texts): return [Document(text=text, id=str(k)) for k, text in enumerate(texts)]


def small_tokenizers():
    """A tokenizer of each kind of vocabulary, made here."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    words = ['un', 'der', 'stand', 'the', 'cat', '.', ',', 'a', '1', '2']
    piece = Tokenizer(models.WordPiece(
        {w: k for k, w in enumerate(['[UNK]', *words, *(f'##{w}' for w in words)])},
        unk_token='[UNK]'))
    piece.pre_tokenizer, piece.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    pieces = [('<unk>', 0.)] + [(w, -2.) for w in words] + [(f'▁{w}', -2.) for w in words]
    meta = Tokenizer(models.Unigram(pieces, unk_id=0))
    meta.pre_tokenizer, meta.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    level = Tokenizer(models.WordLevel({w: k for k, w in enumerate(['<unk>', *words])}, '<unk>'))
    level.pre_tokenizer = pre_tokenizers.Whitespace()
    return {'WordPiece': PreTrainedTokenizerFast(tokenizer_object=piece, unk_token='[UNK]'),
            'Unigram': PreTrainedTokenizerFast(tokenizer_object=meta, unk_token='<unk>'),
            'WordLevel': PreTrainedTokenizerFast(tokenizer_object=level, unk_token='<unk>')}


def by_brute_force(tokens, tokenizer, pattern, after_space):
    """(last token, width) of each match in the decoded text, by decoding every beginning of it."""
    texts, hits = token_texts(tokenizer), set()
    def text_of(ids):
        plain = ''.join(texts[k] for k in ids)
        return plain if '\ufffd' not in plain else tokenizer.decode(ids)
    for start, stop in zip(tokens.starts, tokens.ends):
        ids = tokens.ids[start:stop]
        whole, border = text_of(ids), {}
        for k in range(len(ids) + 1): # a beginning that ends within a letter is none of the text
            beginning = text_of(ids[:k])
            if whole.startswith(beginning): border.setdefault(len(beginning), k)
        for match in pattern.finditer(whole):
            first = max(p for p in border if p <= match.start())
            space = whole[first:match.start()]
            inside = space and not (after_space and space.isspace())
            if inside or match.end() not in border or not match[0]: continue
            last = border[match.end()]
            hits.add((int(start + last - 1), last - border[first]))
    return hits


SMALL_TEXTS = ('the cat understand the cat.', 'understand', 'a cat, the understand. 12 a',
               'the the cat')


@pytest.mark.parametrize('kind', ['WordPiece', 'Unigram', 'WordLevel'])
@pytest.mark.parametrize('pattern', [' understand', ' the cat', 'cat', r'(?:the )+cat', r'\bcat\b',
                                     '^.*cat', 'cat$', r'(?<=the )cat', '1 ?2', 'nothing', 'nder'])
def test_matches_are_those_of_a_search_of_the_decoded_text(kind, pattern):
    tokenizer = small_tokenizers()[kind]
    tokens = tokenize(documents(*SMALL_TEXTS), tokenizer)
    compiled = re.compile(pattern)
    hits = spans(tokens, tokenizer, compiled)
    wanted = by_brute_force(tokens, tokenizer, compiled, True)
    assert set(zip(hits.place.tolist(), hits.width.tolist())) == wanted


REAL = ('An aardvark met two aardvarks. The aardvark, an old one, left.',
        'Naïve café 🙂🙂 and 日本語 text; 🙂 again: e\u0301.',
        'On 3 May 1998 and in 2024, not 12345.',
        'New York or New York again! In New Yorker style.')


@pytest.mark.parametrize('target, after_space', [
    (' aardvark', False), (' New York', False), (' café', False), (' 🙂🙂', False),
    (' 日本語', False),
    (re.compile(r'\b\d{4}\b'), True), (re.compile('🙂'), True), (re.compile('日本'), True),
    (re.compile(r'\baardvarks?\b'), True), (re.compile('ardvark'), True), (re.compile('é'), True),
    (re.compile(r'[A-Z]\w+ York\b'), True), (re.compile(r'^\w+'), True), (re.compile('zq'), True)])
def test_matches_on_a_real_tokenizer(lm, target, after_space):
    tokens = tokenize(documents(*REAL), lm)
    compiled = re.compile(re.escape(target)) if isinstance(target, str) else target
    hits = spans(tokens, lm, target, whole_word=False)
    wanted = by_brute_force(tokens, lm.tokenizer, compiled, after_space)
    assert set(zip(hits.place.tolist(), hits.width.tolist())) == wanted
    matches = sum(len(compiled.findall(lm.tokenizer.decode(tokens.ids[a:b])))
                  for a, b in zip(tokens.starts, tokens.ends))
    assert len(hits) + hits.halves == matches


def test_a_word_of_several_tokens_is_a_whole_word(lm):
    tokens = tokenize(documents(*REAL), lm)
    assert len(find(tokens, lm, ' aardvark')) == 1 # the rule is strict about a comma
    assert len(find(tokens, lm, ' aardvark', whole_word=False)) >= 2


def test_spellings_are_a_union_and_the_longest_match_wins(lm, tokens):
    the, The = (find(tokens, lm, text) for text in (' the', ' The'))
    assert find(tokens, lm, [' the', ' The']).tolist() == sorted([*the, *The])
    small = tokenize(documents('In New York today.'), lm)
    both = spans(small, lm, [' York', ' New York'])
    assert both.width.tolist() == [2] and len(both) == 1


@pytest.mark.parametrize('target', ['', [], [[' the']], [' the', ' the'], [' the', ''], 260,
                                    None, {},
                                    re.compile(b'the'), [re.compile('a'), re.compile('a')],
                                    '<|endoftext|>', [' the', 5]])
def test_what_is_no_target_is_refused(lm, tokens, target):
    with pytest.raises(ValueError): find(tokens, lm, target)
