"""Which files of a source are read, and what becomes of every row of them."""
import codecs
import gzip
import json
import random
import re
import warnings
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.core import url_to_fs
from sparse_probing import find, read_documents, sources, tokenize


def write(path, texts=('One.', 'Two.')):
    lines = ''.join(json.dumps({'text': t}) + '\n' for t in texts).encode()
    if path.suffix == '.parquet': pq.write_table(pa.table({'text': list(texts)}), path)
    elif path.suffix == '.gz': path.write_bytes(gzip.compress(lines))
    elif path.suffix == '.zst': path.write_bytes(pa.compress(lines, "zstd", asbytes=True))
    else: path.write_bytes(lines if path.suffix == '.jsonl' else '\n'.join(texts).encode())
    return path


@pytest.mark.parametrize('name', ['a.parquet', 'a.jsonl', 'a.jsonl.gz', 'a.jsonl.zst'])
def test_file_folder_and_glob(tmp_path, name):
    path = write(tmp_path / name)
    for source in (path, tmp_path, tmp_path / '*', str(path)):
        assert [d.text for d in read_documents(source)] == ['One.', 'Two.']
    assert len(list(read_documents(path, limit=1))) == 1


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path):
    assert [d.text for d in read_documents(write(tmp_path / 'part[1].jsonl'))] == ['One.', 'Two.']


def test_a_folder_with_several_kinds_and_a_file_that_is_none(tmp_path):
    for name in ('a.parquet', 'b.jsonl', 'c.txt', 'd.pdf'): write(tmp_path / name)
    with pytest.warns(UserWarning, match="files that end in '.pdf' are not read, such as .*d.pdf"):
        assert [d.text for d in read_documents(tmp_path)] == [
            'One.',
            'Two.',
            'One.',
            'Two.',
            'One.\nTwo.',
        ]


@pytest.mark.parametrize('name, damage, message', [
    ('a.parquet', lambda b: b[:len(b) // 2], 'a.parquet is damaged'),
    ('a.jsonl.gz', lambda b: b[:-9], 'a.jsonl.gz is damaged.*[Tt]runcated'),
    ('a.jsonl.zst', lambda b: b[:-2], 'a.jsonl.zst is damaged.*[Tt]runcated'),
    ('a.jsonl', lambda b: b[:-4], 'a.jsonl, line 2, document 1: it is not valid JSON'),
    ('a.txt', lambda b: b + b'\xff\xfe', 'a.txt is damaged.*utf-8'),
    ('a.jsonl', lambda b: b + b'{"text": ""}\n', 'document 2: it is empty'),
    ('a.jsonl', lambda b: b + b'{"body": "x"}\n', r"document 2: it is empty.*\['body'\]"),
    ('a.jsonl', lambda b: b + b'[1, 2]\n', 'document 2: .*not an object'),
    ('a.txt', lambda b: b'', 'document 0: it is empty'),
])
def test_a_damaged_file_is_named(tmp_path, name, damage, message):
    path = write(tmp_path / name)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message): list(read_documents(path))


def test_what_matches_nothing(tmp_path):
    for source in (tmp_path, tmp_path / 'none.parquet', tmp_path / '*.jsonl', 'wikipedia'):
        with pytest.raises(
            FileNotFoundError, match="matches no file that ends in.*'wiki' and 'news'"
        ):
            read_documents(source)
    with pytest.raises(ValueError, match='limit must be at least 1'):
        read_documents('news', limit=0)


def test_text_that_is_hard_to_read(tmp_path, lm):
    hard = [
        'NUL \0 inside the text',
        'emoji 👩‍👩‍👧 and the flag 🏴‍☠️',
        'Hebrew שלום and the Arabic سلام in one',
        'a word ' * 1_500_000,
    ]
    for name in ('a.parquet', 'b.jsonl'):
        write(tmp_path / name, hard)
        documents = list(read_documents(tmp_path / name))
        assert [d.text for d in documents] == hard
    tokens = tokenize(documents, lm.tokenizer)
    assert lm.tokenizer.decode(tokens.ids[:tokens.starts[1]]) == hard[0]
    assert list(tokens.document_of(find(tokens, lm.tokenizer, ' the'))) == [0, 1, 2]
    assert len(tokens) > 3_000_000



GOOD = b'{"text": "A good line."}'
BAD_LINES = {
    b'{"text": "cut': 'not valid JSON',
    b'{"text": "a\xffb"}': "not valid JSON.*can't decode byte 0xff",
    b'{"text": "\\ud83d"}': 'not valid JSON.*surrogates',
    b'[1, 2]': 'not an object',
    b'7': 'not an object',
    b'null': 'not an object',
    b'"a text"': 'not an object',
    b'one two': 'not valid JSON',
    b'{}': 'it is empty',
    b'{"text": null}': 'it is empty',
    b'{"text": ""}': 'it is empty',
    b'{"text": " \\n\\t"}': 'it is empty',
    b'{"text": "\\ufeff"}': 'it is empty',
    b'{"text": 5}': 'of type int',
    b'{"text": NaN}': 'of type float',
    b'{"text": ["a", "b"]}': 'of type list.*join',
    b'{"text": {"en": "a"}}': 'of type dict',
    b'{"text": true}': 'of type bool',
    b'[' * 100_000: 'not valid JSON',
}


@pytest.mark.parametrize('line', BAD_LINES, ids=lambda line: line[:20].decode('latin-1'))
def test_a_bad_line_is_named_by_its_place(tmp_path, line):
    path = tmp_path / 'a.jsonl'
    path.write_bytes(b'\n'.join([GOOD, b'', GOOD, b'  ', line, GOOD]))
    reading = read_documents(path)
    assert [next(reading).id, next(reading).id] == ['a.jsonl/0', 'a.jsonl/1']
    with pytest.raises(ValueError, match=f'a.jsonl, line 5, document 2: .*{BAD_LINES[line]}'):
        next(reading)


@pytest.mark.parametrize(
    'content, texts',
    [
        (b'{"text": "a"}\r\n{"text": "b"}\r\n', ['a', 'b']),
        (b'{"text": "a"}\n{"text": "b"}', ['a', 'b']),
        (b' {"text": "a"}\t\n\n\r\n{"text": "b"}', ['a', 'b']),
        (b'', []),
        ('{"text": "a\u2028b\u0085c"}'.encode(), ['a\u2028b\u0085c']),
        (b'{"text": "a", "score": NaN, "n": 123456789012345678901234567890}', ['a']),
        (b'{"text": "\\ud83d\\ude00"}', ['😀']),
    ],
)
def test_lines_that_are_good(tmp_path, content, texts):
    for name, packed in (
        ('a.jsonl', content),
        ('a.jsonl.gz', gzip.compress(content)),
        ('a.jsonl.zst', pa.compress(content, 'zstd', asbytes=True)),
    ):
        (tmp_path / name).write_bytes(packed)
        assert [d.text for d in read_documents(tmp_path / name)] == texts


@pytest.mark.parametrize(
    'name, pack',
    [
        ('a.jsonl', bytes),
        ('a.jsonl.gz', gzip.compress),
        ('a.jsonl.zst', lambda b: pa.compress(b, 'zstd', asbytes=True)),
        ('a.txt', bytes),
        ('a.txt.gz', gzip.compress),
    ],
)
def test_a_mark_of_byte_order_is_no_part_of_the_text(tmp_path, name, pack):
    line = json.dumps({'text': 'The cat.'}).encode() if 'jsonl' in name else b'The cat.'
    (tmp_path / name).write_bytes(pack(codecs.BOM_UTF8 + line))
    assert [d.text for d in read_documents(tmp_path)] == ['The cat.']


def test_marks_of_byte_order_elsewhere(tmp_path):
    (tmp_path / 'a.jsonl').write_bytes(
        2 * (codecs.BOM_UTF8 + b'{"text": "\\ufeffOne.\\ufeff"}\n')
    )  # two files made one
    pq.write_table(pa.table({'text': ['\ufeffOne.\ufeff']}), tmp_path / 'b.parquet')
    assert [d.text for d in read_documents(tmp_path)] == ['One.\ufeff'] * 3


@pytest.mark.parametrize(
    'name, content, message',
    [
        ('a.jsonl', '{"text": "a"}'.encode('utf-16'), 'in UTF-16'),
        ('a.txt', codecs.BOM_UTF16_BE + 'a'.encode('utf-16-be'), 'in UTF-16'),
        ('a.txt', 'a'.encode('utf-32'), 'in UTF-16 or UTF-32'),
        ('a.txt', codecs.BOM_UTF32_BE + 'a'.encode('utf-32-be'), 'in UTF-32'),
        ('a.txt.gz', gzip.compress('a'.encode('utf-16'), mtime=0), 'in UTF-16'),
        ('a.jsonl', gzip.compress(GOOD, mtime=0), 'with gzip: let its name end in .gz'),
        ('a.txt', pa.compress(b'a', 'zstd', asbytes=True), 'with zstd: let its name end in .zst'),
        ('a.jsonl.gz', GOOD, 'damaged or not what its name says'),
        ('a.jsonl.zst', GOOD, 'damaged or not what its name says'),
        ('a.jsonl.gz', b'', 'damaged'),
        ('a.jsonl.zst', b'', 'damaged'),
        ('a.parquet', GOOD, 'damaged or not what its name says'),
        ('a.txt', 'é'.encode('latin-1'), "can't decode byte"),
    ],
)
def test_a_file_in_another_form_says_in_which(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f'{name}.*{message}'): list(read_documents(tmp_path))


@pytest.mark.parametrize('ending', ['.gz', '.zst'])
def test_the_lines_before_a_cut_are_read(tmp_path, ending):
    rng, lines = random.Random(0), []
    for k in range(20_000): lines.append(json.dumps({'text': f'{k} {rng.random()}'}))
    content = '\n'.join(lines).encode()
    packed = (
        gzip.compress(content) if ending == '.gz' else pa.compress(content, 'zstd', asbytes=True)
    )
    (tmp_path / f'a.jsonl{ending}').write_bytes(packed[:len(packed) // 2])
    texts = []
    with pytest.raises(ValueError, match='damaged'):
        for document in read_documents(tmp_path): texts.append(document.text)
    assert len(texts) > 7_000
    assert texts == [json.loads(line)['text'] for line in lines[:len(texts)]]



@pytest.mark.parametrize(
    'column',
    [pa.array(['One.'], kind) for kind in (pa.string(), pa.large_string(), pa.string_view())]
    + [pa.array(['One.'], kind).dictionary_encode() for kind in (pa.string(), pa.large_string())],
    ids=lambda column: str(column.type)[:30],
)
def test_text_in_any_kind_of_string(tmp_path, column):
    pq.write_table(pa.table({'text': column}), tmp_path / 'a.parquet')
    assert [(d.text, d.id) for d in read_documents(tmp_path)] == [('One.', 'a.parquet/0')]


@pytest.mark.parametrize(
    'column, message',
    [
        (pa.array([b'One.']), "of type bytes, not a string: b'One.'. To mend it, decode"),
        (pa.array([b'One.'], pa.large_binary()), 'of type bytes'),
        (pa.array([b'One.'], pa.binary(4)), 'of type bytes'),
        (pa.array([b'One.']).dictionary_encode(), 'of type bytes'),
        (pa.array([['One.', 'Two.']]), 'of type list.*join'),
        (pa.array([{'en': 'One.'}]), 'of type dict'),
        (pa.array([1.5]), 'of type float'),
        (pa.array([True]), 'of type bool'),
        (pa.array([Decimal('1.5')]), 'of type Decimal'),
        (pa.array([0], pa.timestamp('s')), 'of type datetime'),
        (pa.nulls(1), 'it is empty'),
        (pa.array([b'\xff']).view(pa.string()), "can't decode byte 0xff"),
    ],
)
def test_a_column_that_is_no_text_says_of_which_type_it_is(tmp_path, column, message):
    pq.write_table(pa.table({'text': column}), tmp_path / 'a.parquet')
    with pytest.raises(ValueError, match=f'a.parquet, document 0: .*{message}'):
        list(read_documents(tmp_path))


def test_other_columns_do_not_stand_in_the_way(tmp_path):
    odd = dict(
        far=pa.array([10**12, 0], pa.timestamp('s')),
        zone=pa.array([1, 2], pa.timestamp('us', 'Mars/Base')),
        day=pa.array([2**30, 0], pa.date32()),
        long=pa.array([2**62, 1], pa.duration('s')),
        raw=pa.array([b'\xff', b'']),
        broken=pa.array([b'\xff', b'a']).view(pa.string()),
        nested=pa.array([[{'a': [1]}], None]),
        twice=pa.StructArray.from_arrays([pa.array([1, 2])] * 2, names=['a', 'a']),
        nano=pa.array([1, 2], pa.timestamp('ns')),
        none=pa.nulls(2),
    )
    pq.write_table(
        pa.table({'text': ['One.', 'Two.'], 'id': [7, 8], **odd}), tmp_path / 'a.parquet'
    )
    assert [(d.text, d.id) for d in read_documents(tmp_path)] == [('One.', '7'), ('Two.', '8')]



@pytest.mark.parametrize(
    'row_id, expected',
    [
        (None, 'a.jsonl/1'),
        ('', 'a.jsonl/1'),
        ('  ', 'a.jsonl/1'),
        (float('nan'), 'a.jsonl/1'),
        (0, '0'),
        (7, '7'),
        (False, 'False'),
        ('x', 'x'),
        ('None', 'None'),
    ],
    ids=repr,
)
def test_an_id_that_is_none(tmp_path, row_id, expected):
    (tmp_path / 'a.jsonl').write_text(
        '{"text": "One."}\n' + json.dumps({'text': 'Two.', 'id': row_id})
    )
    assert [d.id for d in read_documents(tmp_path)] == ['a.jsonl/0', expected]


def test_an_id_that_is_none_in_parquet(tmp_path):
    pq.write_table(
        pa.table({'text': ['One.', 'Two.', 'Three.'], 'id': [1.5, None, float('nan')]}),
        tmp_path / 'a.parquet',
    )
    assert [d.id for d in read_documents(tmp_path)] == ['1.5', 'a.parquet/1', 'a.parquet/2']


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Two folders with files of one name, and the current folder beside them."""
    for name in ('c/2020/part-0.jsonl', 'c/2021/part-0.jsonl', 'c/top.txt'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(GOOD)
    (tmp_path / 'link').symlink_to('c')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HOME', str(tmp_path))
    return tmp_path


SPELLINGS = [
    'c',
    './c',
    'c/',
    'c/.',
    '~/c',
    'c/../c',
    '{here}/c',
    '{here}//c/',
    'file://{here}/c',
    'link',
    '{here}/link/',
    Path('c'),
    Path('~/c'),
]


@pytest.mark.parametrize('source', SPELLINGS, ids=str)
def test_a_source_has_one_spelling_and_its_documents_the_same_ids(tree, source):
    if isinstance(source, str): source = source.format(here=tree)
    assert [d.id for d in read_documents(source)] == [
        '2020/part-0.jsonl/0',
        '2021/part-0.jsonl/0',
        'top.txt/0',
    ]
    assert (
        sources.canonical(source) == str(tree / 'c') == sources.canonical(sources.canonical(source))
    )


@pytest.mark.parametrize(
    'source, ids',
    [
        ('c/*/part-0.jsonl', ['2020/part-0.jsonl/0', '2021/part-0.jsonl/0']),
        ('c/2020/*', ['part-0.jsonl/0']),
        ('c/202?/*.jsonl', ['2020/part-0.jsonl/0', '2021/part-0.jsonl/0']),
        ('c/**', ['2020/part-0.jsonl/0', '2021/part-0.jsonl/0', 'top.txt/0']),
        ('c/**/*.jsonl', ['2020/part-0.jsonl/0', '2021/part-0.jsonl/0']),
        ('c/2020/part-0.jsonl', ['part-0.jsonl/0']),
        ('**/top.txt', ['c/top.txt/0']),
    ],
)
def test_ids_begin_where_the_pattern_does(tree, source, ids):
    for spelled in (source, f'./{source}', tree / source, f'file://{tree}/{source}'):
        assert [d.id for d in read_documents(spelled)] == ids
        assert sources.canonical(spelled) == str(tree / source)


def test_ids_of_a_source_that_is_not_local(tree):
    fs, _ = url_to_fs('memory://')
    fs.put(str(tree / 'c'), '/remote', recursive=True)
    try:
        assert [d.id for d in read_documents('memory://remote/')] == [
            d.id for d in read_documents('c')
        ]
    finally: fs.rm('/remote', recursive=True)
    assert (
        sources.canonical('memory://remote/')
        == sources.canonical('memory:///remote')
        == 'memory:///remote'
    )


def test_a_file_that_is_a_link_is_read_by_the_name_of_the_link(tree):
    (tree / 'blob').write_bytes(GOOD)
    (tree / 'named.jsonl').symlink_to('blob')
    assert sources.canonical('named.jsonl') == str(tree / 'named.jsonl')
    assert [d.id for d in read_documents('named.jsonl')] == ['named.jsonl/0']


@pytest.mark.parametrize('source', [None, '', 5, ['a.txt'], ('a.txt',), b'a.txt'], ids=repr)
def test_what_is_no_source(source):
    with pytest.raises(TypeError, match="a source is 'wiki'.*got "): read_documents(source)



def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(GOOD if '.jsonl' in name.lower() else b'A text.')


NO_DATA = (
    '.ipynb_checkpoints/a-checkpoint.txt',
    '.git/a.txt',
    '__MACOSX/a.jsonl',
    '_temporary/0/a.jsonl',
    '._a.jsonl',
    '.hidden.txt',
    '_SUCCESS',
    '_metadata',
    '_a.jsonl',
    'b/.c/a.txt',
    'b/_d.txt',
)


@pytest.mark.parametrize('pattern', ['', '/**', '/**/*', '/**/*.*'])
def test_names_that_are_by_custom_no_data(tmp_path, pattern):
    put(tmp_path, 'a.txt', 'b/a.txt', *NO_DATA)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert [d.id for d in read_documents(f'{tmp_path}{pattern}')] == ['a.txt/0', 'b/a.txt/0']


@pytest.mark.parametrize(
    'name, source, ids',
    [
        ('_a.jsonl', '_a.jsonl', ['_a.jsonl/0']),
        ('.a.txt', '.a.txt', ['.a.txt/0']),
        ('_private/a.txt', '_private', ['a.txt/0']),
        ('.cache/corpus/a.txt', '.cache/corpus', ['a.txt/0']),
        ('.cache/corpus/a.txt', '.cache/*/a.txt', ['corpus/a.txt/0']),
        ('_x/a.txt', '_*/a.txt', ['_x/a.txt/0']),
        ('b/_x/a.txt', '*/_x/*', ['b/_x/a.txt/0']),
        ('b/.x.txt', '**/.*.txt', ['b/.x.txt/0']),
    ],
)
def test_what_is_asked_for_by_name_is_data(tmp_path, name, source, ids):
    put(tmp_path, name)
    assert [d.id for d in read_documents(tmp_path / source)] == ids


@pytest.mark.parametrize(
    'name, text',
    [
        ('x.jsonl.txt', 'A line.'),
        ('x.jsonl.gz.txt', 'A line.'),
        ('data.jsonl/x.txt', 'A line.'),
        ('X.TXT', 'A line.'),
        ('x.parquet.txt', 'A line.'),
        ('x.txt.jsonl', None),
        ('X.JSONL', None),
        ('x.txt/y.jsonl', None),
        ('x.Jsonl', None),
    ],
)
def test_a_file_is_read_by_the_end_of_its_name(tmp_path, name, text):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(GOOD)
    for source in (path, path.parent, tmp_path):
        assert [d.text for d in read_documents(source)] == [
            GOOD.decode() if text else 'A good line.'
        ]


@pytest.mark.parametrize(
    'name', ['X.TXT.GZ', 'x.txt.gz', 'x.gz.txt.gz', 'x.jsonl.ZST', 'x.Parquet']
)
def test_compressed_files_by_the_end_of_their_names(tmp_path, name):
    if name.lower().endswith('.parquet'):
        pq.write_table(pa.table({'text': ['One.']}), tmp_path / name)
    elif name.lower().endswith('.gz'):
        (tmp_path / name).write_bytes(gzip.compress(b'One.') + gzip.compress(b''))  # of two members
    else: (tmp_path / name).write_bytes(pa.compress(b'{"text": "One."}', 'zstd', asbytes=True))
    assert [d.text for d in read_documents(tmp_path)] == ['One.']


@pytest.mark.parametrize(
    'name, ending',
    [
        ('x.json', '.json'),
        ('x.csv', '.csv'),
        ('x.csv.gz', '.csv.gz'),
        ('x.parquet.gz', '.parquet.gz'),
        ('x.jsonl.bz2', '.bz2'),
        ('README', ''),
        ('x.txt~', '.txt~'),
        ('jsonl', ''),
    ],
)
def test_what_is_not_read_is_said(tmp_path, name, ending):
    put(tmp_path, 'a.txt', name)
    with pytest.warns(
        UserWarning,
        match=f"files that end in '{re.escape(ending)}' are not read, such as .*{re.escape(name)}",
    ):
        assert len(list(read_documents(tmp_path))) == 1
    with (
        pytest.warns(UserWarning, match='are not read'),
        pytest.raises(FileNotFoundError, match='matches no file that ends in'),
    ):
        read_documents(tmp_path / name)


def test_folders_that_a_pattern_finds_are_said(tmp_path):
    put(tmp_path, 'a.txt', 'sub.jsonl/b.txt')
    with pytest.warns(
        UserWarning, match='folders in a pattern are not read, such as .*/sub.jsonl/'
    ):
        assert [d.id for d in read_documents(tmp_path / '*')] == ['a.txt/0']


@pytest.mark.parametrize(
    'folder',
    ['[2020] news', 'what?', 'a*b', '[!a]', '[[x]]', 'a]b[', '**x', '{a,b}', "it's", 'a b/[c]/d?'],
)
def test_a_folder_with_any_characters(tmp_path, folder):
    put(tmp_path / folder, 'a.jsonl', 'b/c.jsonl', 'e[1].txt')
    here = f'{tmp_path}/{folder}'
    for pattern, ids in (
        ('', ['a.jsonl/0', 'b/c.jsonl/0', 'e[1].txt/0']),
        ('/*.jsonl', ['a.jsonl/0']),
        ('/**/*.jsonl', ['a.jsonl/0', 'b/c.jsonl/0']),
        ('/*/*.jsonl', ['b/c.jsonl/0']),
        ('/b/*', ['c.jsonl/0']),
        ('/e[1].txt', ['e[1].txt/0']),
        ('/[a]*', ['a.jsonl/0']),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            assert [d.id for d in read_documents(here + pattern)] == ids


def test_brackets_below_a_pattern_and_a_pattern_that_is_one(tmp_path):
    put(tmp_path, 'x/[2020] news/a.txt', 'y/[2020] news/a.txt', 'y/2 news/a.txt')
    assert [d.id for d in read_documents(tmp_path / '*/[2020] news/*.txt')] == [
        'x/[2020] news/a.txt/0',
        'y/[2020] news/a.txt/0',
    ]
    assert [d.id for d in read_documents(tmp_path / 'y/[0-9] news/*.txt')] == ['2 news/a.txt/0']
    with pytest.raises(
        ValueError, match=r'stands for folders and is no piece of a name such as \*\*.txt'
    ):
        read_documents(tmp_path / '**.txt')
