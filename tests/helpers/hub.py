"""A minimal Hugging Face hub on loopback, for tests.

`serve` answers the hub paths that `transformers` and `datatrove` ask for from plain folders, so
that `from_pretrained("gpt2")` and `ParquetReader("hf://datasets/HuggingFaceFW/fineweb/data")`
run for real, unpatched.
Both read HF_ENDPOINT when imported, so run them in a subprocess:

    make_gpt2(tmp / "gpt2", texts)
    make_fineweb(tmp / "fineweb", texts)
    with serve({"gpt2": tmp / "gpt2"}, {"HuggingFaceFW/fineweb": tmp / "fineweb"}) as hub:
        subprocess.run([sys.executable, ...], env=client_env(hub.url, tmp / "cache"), check=True)
    assert any(re.fullmatch("GET /gpt2/resolve/.*/model.safetensors", line) for line in hub.asked)
"""

import hashlib
import json
import os
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit


def make_gpt2(folder, texts, vocab_size=512, **config):
    """Write a tiny random GPT-2 and a BPE trained on `texts`, as the hub's own gpt2 is laid out."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    end = _save_tokenizer(folder, texts, vocab_size)
    shape = {"n_layer": 4, "n_embd": 32, "n_head": 2} | config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPT2LMHeadModel(
            GPT2Config(vocab_size=end + 1, bos_token_id=end, eos_token_id=end, **shape)
        )
    model.transformer.save_pretrained(
        folder
    )  # the hub's weights have no "transformer." prefix: "wte.weight", ...
    model.config.architectures = ["GPT2LMHeadModel"]
    model.config.save_pretrained(folder)


def _save_tokenizer(folder, texts, vocab_size):
    """Train and write a GPT-2 tokenizer; return the id of <|endoftext|>, the last one."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import GPT2Tokenizer

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(
        [*texts, *[" the an"] * 1000], trainer
    )  # " the" and " an": one token in any case
    learnt = json.loads(bpe.to_str())["model"]
    end = len(learnt["vocab"])
    vocab = learnt["vocab"] | {"<|endoftext|>": end}
    merges = [tuple(merge) for merge in learnt["merges"]]
    GPT2Tokenizer(vocab, merges, model_max_length=1024).save_pretrained(folder)
    return end


def make_fineweb(folder, texts, file="data/CC-MAIN-2013-20/000_00000.parquet"):
    """Write `texts` as a Parquet file with FineWeb's columns, at the path of its first file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    n = len(texts)
    columns = {
        "text": list(texts),
        "id": [f"<urn:uuid:00000000-0000-0000-0000-{i:012d}>" for i in range(n)],
        "dump": ["CC-MAIN-2013-20"] * n,
        "url": [f"http://example.com/{i}" for i in range(n)],
        "date": ["2013-05-18T05:48:54Z"] * n,
        "file_path": ["s3://commoncrawl/crawl-data/CC-MAIN-2013-20/segments/0/warc/0.warc.gz"] * n,
        "language": ["en"] * n,
        "language_score": pa.array([0.9] * n, pa.float64()),
        "token_count": pa.array([len(text.split()) for text in texts], pa.int64()),
    }
    path = Path(folder, file)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def client_env(url, cache):
    """The environment of a subprocess whose only hub is `url` and whose only cache is `cache`."""
    inherited = re.compile("HF_|HUGGING|TRANSFORMERS_|.*_proxy$", re.IGNORECASE)
    clean = {name: value for name, value in os.environ.items() if not inherited.match(name)}
    quiet = {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DISABLE_SAFETENSORS_CONVERSION": "1",
    }  # the latter calls a remote Space
    return clean | quiet | {"HF_ENDPOINT": url, "HF_HOME": str(cache)}


class Hub(NamedTuple):
    url: str  # the endpoint, "http://127.0.0.1:PORT"
    asked: list  # "METHOD /path?query" of each request, in order of arrival


@contextmanager
def serve(models, datasets):
    """Serve the repo folders {id: folder} on a free port of 127.0.0.1, and yield a `Hub`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = False  # server_close then waits for the requests under way
    server.repos = {"models": models, "datasets": datasets}
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield Hub(f"http://127.0.0.1:{server.server_port}", server.asked)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Answers in HTTP/1.0, the class's default: one request per connection, none left open."""

    timeout = 10
    API = re.compile(
        r"/api/(?P<kind>models|datasets)/(?P<id>[^/]+(?:/[^/]+)??)"
        r"(?:/(?P<verb>revision|tree|paths-info)/(?P<rev>[^/]+)(?:/(?P<path>.+))?)?"
    )
    FILE = re.compile(
        r"/(?:(?P<kind>datasets)/)?(?P<id>[^/]+(?:/[^/]+)?)"
        r"/(?P<verb>resolve)/(?P<rev>[^/]+)/(?P<path>.+)"
    )

    def do_GET(self):
        self.server.asked.append(f"{self.command} {self.path}")
        url = urlsplit(self.path)
        match = self.API.fullmatch(url.path) or self.FILE.fullmatch(url.path)
        if not match:
            return self.fail("EntryNotFound")
        repo = self.server.repos[match["kind"] or "models"].get(match["id"])
        if repo is None:
            return self.fail("RepoNotFound")
        files = {
            p.relative_to(repo).as_posix(): p.read_bytes()
            for p in sorted(Path(repo).rglob("*"))
            if p.is_file()
        }
        self.commit = _sha1(repr([(name, _oid(data)) for name, data in files.items()]).encode())
        if match["rev"] not in (None, "main", self.commit):
            return self.fail("RevisionNotFound")
        path = unquote(match["path"] or "")
        if match["verb"] == "resolve":
            return self.send_bytes(files.get(path))
        if match["verb"] == "tree":
            return self.send_tree(
                _entries(files), path, parse_qs(url.query).get("recursive") == ["true"]
            )
        if match["verb"] == "paths-info":
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            return self.send_json(
                [entry for entry in _entries(files) if entry["path"] in form["paths"]]
            )
        self.send_json(
            {
                "id": match["id"],
                "sha": self.commit,
                "siblings": [{"rfilename": name} for name in files],
            }
        )

    do_HEAD = do_POST = do_GET

    def send_bytes(self, data):
        """A file, or the range of it that was asked for."""
        if data is None:
            return self.fail("EntryNotFound")
        headers = {"ETag": f'"{_oid(data)}"', "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            return self.send(200, data, headers)
        first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
        self.send(
            206,
            data[first : last + 1],
            headers | {"Content-Range": f"bytes {first}-{last}/{len(data)}"},
        )

    def send_tree(self, entries, folder, recursive):
        """What lies in `folder` ("": the root), directly or, if `recursive`, at any depth."""
        prefix = folder + "/" if folder else ""
        inside = [entry for entry in entries if entry["path"].startswith(prefix)]
        listed = [
            entry for entry in inside if recursive or "/" not in entry["path"].removeprefix(prefix)
        ]
        self.send_json(listed) if listed else self.fail("EntryNotFound")

    def send_json(self, answer):
        self.send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def fail(self, code):
        self.send(404, headers={"X-Error-Code": code})

    def send(self, status, body=b"", headers=None):
        commit = {"X-Repo-Commit": self.commit} if hasattr(self, "commit") else {}
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | commit | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args):
        """Nothing on stderr: `asked` is the log."""


def _entries(files):
    """The hub's listing of a repo: its folders, then its files."""
    folders = sorted({str(parent) for name in files for parent in Path(name).parents} - {"."})
    listing = [
        {"type": "directory", "path": name, "oid": _sha1(name.encode()), "size": 0}
        for name in folders
    ]
    return listing + [
        {"type": "file", "path": n, "oid": _oid(data), "size": len(data)}
        for n, data in files.items()
    ]


def _oid(data):
    """The git blob id, which the hub gives as a file's oid and ETag."""
    return _sha1(b"blob %d\0" % len(data) + data)


def _sha1(data):
    return hashlib.sha1(data).hexdigest()
