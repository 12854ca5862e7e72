"""``python -m pyattn``: what it writes and says, and that a run which is killed goes on."""

import contextlib
import fcntl
import itertools
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time

import numpy as np
import pytest
from support import assert_same_bits

pytest.importorskip("tokenizers")
pytest.importorskip("tqdm")

import encoders

import pyattn
from pyattn._command_line import _encode, main
from pyattn._command_line._partial import HEADER
from pyattn.models import TextEncoder

LINES = [f"the cat {'sat on a mat ' * (n % 7)}" for n in range(60)] + ["", "fish, fish!"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = encoders.save(tmp_path_factory.mktemp("model"))
    encoders.add_modules(directory, {"pooling_mode": "mean"}, normalize=True)
    return directory


@pytest.fixture(scope="module")
def expected(model):
    return TextEncoder.from_pretrained(model).encode(LINES)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.txt").write_text("".join(f"{line}\n" for line in LINES))
    return tmp_path


@pytest.fixture
def encode(model, here):
    """The command with some more options, in this process: its status."""

    def run(*options, source="texts.txt", output="out.npy", model=model):
        given = ["--input", str(source), "--output", str(output), "--batch-tokens", "50"]
        return main(["encode", str(model), *given, *map(str, options)])

    return run


def files(directory):
    return sorted(p.name for p in directory.iterdir())


def one_line(text):
    assert text.count("\n") == 1 and "Traceback" not in text
    return text


# What is written


def test_lines(encode, here, expected, capsys):
    assert encode() == 0
    assert_same_bits(np.load("out.npy"), expected)
    assert files(here) == ["out.npy", "texts.txt"]
    shown = capsys.readouterr()
    assert shown.err == f"out.npy: {len(LINES)} x {encoders.HIDDEN}, float32\n" and not shown.out
    np.load("out.npy", mmap_mode="r")


def test_written_over(encode, here, expected):
    (here / "out.npy").write_text("older")
    assert encode() == 0
    assert_same_bits(np.load("out.npy"), expected)


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_ends_of_lines(encode, here, model, end):
    (here / "texts.txt").write_bytes(f"\ufeffthe cat{end}{end}a\u2028dog\x85\f{end}mat".encode())
    assert encode() == 0
    expected = TextEncoder.from_pretrained(model).encode(["the cat", "", "a dog", "mat"])
    assert_same_bits(np.load("out.npy"), expected)


def test_json_lines(encode, here, expected):
    rows = [json.dumps({"text": line, "body": line[::-1], "id": 3}) for line in LINES]
    (here / "texts.jsonl").write_text("\n".join(rows[:5]) + "\n\n \n" + "\n".join(rows[5:]))
    assert encode(source="texts.jsonl") == 0
    assert_same_bits(np.load("out.npy"), expected)
    shutil.copy("texts.jsonl", "texts.other")
    assert encode("--field", "body", source="texts.other") == 0
    assert not np.array_equal(np.load("out.npy"), expected)


@pytest.mark.parametrize("given_lines", ["", "\n"])
def test_no_texts(encode, here, given_lines):
    (here / "texts.txt").write_text(given_lines)
    assert encode() == 0
    assert np.load("out.npy").shape == (len(given_lines), encoders.HIDDEN)


def test_options(encode, model, expected):
    encoder = TextEncoder.from_pretrained(model)
    before = pyattn.get_num_threads()
    assert encode("--pooling", "cls", "--no-normalize", "--threads", 1) == 0
    assert pyattn.get_num_threads() == 1
    pyattn.set_num_threads(before)
    assert_same_bits(np.load("out.npy"), encoder.encode(LINES, pooling="cls", normalize=False))
    assert encode("--dtype", "float16", "--normalize") == 0
    assert_same_bits(np.load("out.npy"), expected.astype(np.float16))


def test_texts_that_are_cut(encode, here, capsys):
    longest = encoders.POSITIONS
    lines = ["cat " * (longest - 2), "cat " * (longest - 1), "cat", "cat " * 200]
    (here / "texts.txt").write_text("\n".join(lines))
    assert encode() == 0
    assert f"3 texts have {longest} tokens or more; the rest was cut" in capsys.readouterr().err


def test_standard_input(model, here, expected):
    run = [sys.executable, "-m", "pyattn", "encode", str(model), "--input", "-"]
    with open("texts.txt", "rb") as file:
        done = subprocess.run([*run, "--output", "a.npy"], stdin=file, capture_output=True)
    assert done.returncode == 0, done.stderr
    text = (here / "texts.txt").read_bytes()
    done = subprocess.run([*run, "--output", "b.npy"], input=text, capture_output=True)
    assert done.returncode == 0 and b"\r" not in done.stderr, done.stderr  # no bar in a pipe
    assert_same_bits(np.load("a.npy"), expected)
    assert_same_bits(np.load("b.npy"), expected)


def test_bar_on_a_terminal(model, here):
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    run = [sys.executable, "-m", "pyattn", "encode", str(model)]
    done = subprocess.run([*run, "--input", "texts.txt", "--output", "out.npy"], stderr=follower)
    os.close(follower)
    shown = b""
    with contextlib.suppress(OSError):  # that is how it ends
        while piece := os.read(leader, 1000):
            shown += piece
    os.close(leader)
    assert done.returncode == 0 and b"100%" in shown and b"62 texts" in shown


def test_info(model, capsys):
    assert main(["info"]) == 0
    assert "threads" in capsys.readouterr().out
    assert main(["info", str(model)]) == 0
    shown = capsys.readouterr().out
    for words in ("(bert)", "2, of 3 heads", "24 numbers, mean, normalized", "40 tokens", "MB"):
        assert words in shown


# What is refused


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["decode"],
        ["encode", "model"],
        ["encode", "model", "--input", "a", "--output", "b", "--batch-tokens", "0"],
        ["encode", "model", "--input", "a", "--output", "b", "--threads", "two"],
        ["encode", "model", "--input", "a", "--output", "b", "--pooling", "median"],
        ["encode", "model", "--input", "a", "--output", "b", "--dtype", "int8"],
    ],
)
def test_usage(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: python -m pyattn" in capsys.readouterr().err


def test_no_such_files(encode, here, capsys):
    assert encode(model="nowhere") == 2
    assert "nowhere: there is no such directory" in one_line(capsys.readouterr().err)
    assert encode(source="nowhere.txt") == 2
    assert "nowhere.txt" in one_line(capsys.readouterr().err)
    assert encode(source=here) == 2
    assert str(here) in one_line(capsys.readouterr().err)
    assert encode(output="nowhere/out.npy") == 2
    assert "nowhere/out.npy" in one_line(capsys.readouterr().err)
    assert main(["info", "nowhere"]) == 2
    assert "info: nowhere" in capsys.readouterr().err
    assert files(here) == ["texts.txt"]


@pytest.mark.parametrize(
    "line, words",
    [
        (b"\xff", "not UTF-8"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"3", "no field 'text'"),
        (b'{"body": "x"}', "no field 'text'"),
        (b'{"text": null}', "'text' is not a string but NoneType"),
    ],
)
def test_a_bad_line(encode, here, expected, capsys, line, words):
    """What stands before it is kept, and the run goes on once it is mended."""
    good = [json.dumps({"text": text}).encode() for text in LINES]
    path = here / "texts.jsonl"
    path.write_bytes(b"\n".join([*good[:40], line, *good[40:]]))
    assert encode(source=path) == 2
    assert "texts.jsonl, line 41: " in (shown := one_line(capsys.readouterr().err))
    assert words in shown and not (here / "out.npy").exists()
    assert json.loads((here / "out.npy.partial.json").read_text())["rows"] > 20
    path.write_bytes(b"\n".join(good))
    assert encode(source=path) == 0
    assert_same_bits(np.load("out.npy"), expected)
    assert files(here) == ["out.npy", "texts.jsonl", "texts.txt"]


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"pyattn {pyattn.__version__}\n"


@pytest.fixture
def unloaded(monkeypatch):
    """No model may be read."""
    monkeypatch.setattr(TextEncoder, "from_pretrained", lambda *_: pytest.fail("loaded"))


@pytest.mark.parametrize("ending", ["", ".partial", ".partial.json", ".partial.json.new"])
def test_output_over_the_input(encode, here, unloaded, capsys, ending):
    text = (here / "texts.txt").read_bytes()
    source = (here / "texts.txt").rename(here / f"same.txt{ending}")
    assert encode(source=source, output="same.txt") == 2
    shown = one_line(capsys.readouterr().err)
    assert f"{source}: is the input, which --output same.txt would destroy" in shown
    (here / "link.txt").symlink_to(source)
    assert encode(source="link.txt", output=here / "." / "same.txt") == 2
    assert source.read_bytes() == text and files(here) == ["link.txt", source.name]


def test_output_over_standard_input(model, here, unloaded, monkeypatch, capsys):
    text = (here / "texts.txt").read_bytes()
    with open("texts.txt") as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert main(["encode", str(model), "--input", "-", "--output", "texts.txt"]) == 2
    assert "is the input" in one_line(capsys.readouterr().err)
    assert (here / "texts.txt").read_bytes() == text


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "1_Pooling/config.json"])
def test_output_over_the_model(encode, here, model, unloaded, capsys, name):
    copy = shutil.copytree(model, here / "model")
    assert encode(model=copy, output=copy / name) == 2
    assert f"is the model's {name}, which --output" in one_line(capsys.readouterr().err)
    assert (copy / name).read_bytes() == (model / name).read_bytes()


@pytest.mark.parametrize(
    "output, words",
    [
        ("", "is a directory"),
        (".", "is a directory"),
        ("..", "is a directory"),
        ("folder", "is a directory"),
        ("to-folder", "is a directory"),
        ("pipe", "is no regular file"),
        ("to-pipe", "is no regular file"),
        ("/dev/null", "is no regular file"),
        ("nowhere/out.npy", "there is no folder"),
        ("to-nowhere", "there is no folder"),
    ],
)
def test_output_that_is_no_file(encode, here, unloaded, capsys, output, words):
    (here / "folder").mkdir()
    os.mkfifo("pipe")
    for target in ("folder", "pipe", "nowhere/out.npy"):
        (here / f"to-{target.partition('/')[0]}").symlink_to(target)
    before = files(here)
    assert encode(output=output) == 2
    assert words in one_line(capsys.readouterr().err)
    assert files(here) == before


def test_output_through_a_link(encode, here, expected, monkeypatch, capsys):
    """The file that it leads to is written, and continued there."""
    (here / "folder").mkdir()
    (here / "out.npy").symlink_to("folder/real.npy")
    interrupted(encode, monkeypatch, after=4)
    assert files(here / "folder") == ["real.npy.partial", "real.npy.partial.json"]
    assert encode() == 0
    assert (here / "out.npy").is_symlink() and files(here / "folder") == ["real.npy"]
    assert_same_bits(np.load("folder/real.npy"), expected)
    assert "out.npy: 62 x" in capsys.readouterr().err


def test_missing_extra(encode, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert encode() == 2
    assert "pip install 'pyattn[models]'" in one_line(capsys.readouterr().err)


# Killed, and continued

# Kills itself in the middle of everything: before the n-th time that one of these is called.
KILLED = """
import os, signal, sys
from pyattn import _command_line
from pyattn._command_line import _encode
_encode.SAVE_SECONDS = 0
left = [int(sys.argv.pop(1))]
def dying(function):
    def call(*args, **options):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **options)
    return call
for name in ("fsync", "replace"):
    setattr(os, name, dying(getattr(os, name)))
_encode.monotonic = dying(_encode.monotonic)
sys.exit(_command_line.main())
"""


def command(model, *options):
    given = ["--input", "texts.txt", "--output", "out.npy", "--batch-tokens", "100"]
    return ["encode", str(model), *given, *options]


def test_killed_again_and_again(model, here, expected):
    """Each run dies a little later than it took the last one to get ahead."""
    statuses = []
    for step in range(3, 40, 4):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(step), *command(model)], capture_output=True
        )
        statuses.append(done.returncode)
        if not done.returncode:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not (here / "out.npy").exists()
    assert statuses[-1] == 0 and len(statuses) > 3
    assert_same_bits(np.load("out.npy"), expected)
    assert (here / "out.npy").stat().st_size == HEADER + expected.nbytes
    assert files(here) == ["out.npy", "texts.txt"]


def test_killed_at_every_moment(encode, here, expected, monkeypatch):
    """As a kill would leave the files, but within this process, which is quicker."""

    class Killed(BaseException):
        pass

    plain = {"fsync": lambda file: None, "replace": os.replace}
    monkeypatch.setattr(_encode, "SAVE_SECONDS", 0)
    for step in itertools.count():
        left = [step]

        def dying(name):
            def call(*args):
                left[0] -= 1  # noqa: B023
                if left[0] < 0:  # noqa: B023
                    raise Killed
                return plain[name](*args)

            return call

        with monkeypatch.context() as patch:
            for name in plain:
                patch.setattr(os, name, dying(name))
            try:
                encode("--batch-tokens", 200)
            except Killed:
                assert not (here / "out.npy").exists()
            else:
                break
        assert encode() == 0
        assert_same_bits(np.load("out.npy"), expected)
        (here / "out.npy").unlink()
    assert step > 15


def test_rows_reach_the_disk_before_the_state(encode, here, monkeypatch):
    monkeypatch.setattr(_encode, "SAVE_SECONDS", 0)
    fsync, replace = os.fsync, os.replace
    synced = {}  # bytes, by inode
    counts = []

    def syncing(file):
        fsync(file)
        synced[os.fstat(file).st_ino] = os.fstat(file).st_size

    def replacing(source, target):
        assert os.stat(source).st_ino in synced
        if str(target).endswith(".json"):
            rows = json.loads(source.read_text())["rows"]
            end = HEADER + rows * encoders.HIDDEN * 4
            assert synced.pop(os.stat("out.npy.partial").st_ino) >= end
            counts.append(rows)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "replace", replacing)
    assert encode() == 0
    assert counts == sorted(counts) and counts[-1] == len(LINES) and len(set(counts)) > 5


def test_killed_while_it_begins_anew(encode, here, expected, monkeypatch):
    """Nothing of the run before is left that could be taken for one of this."""
    interrupted(encode, monkeypatch, after=4)
    with monkeypatch.context() as patch:
        patch.setattr(_encode.Partial, "save", lambda self: signal.raise_signal(signal.SIGINT))
        assert encode("--restart") == 130
    assert encode() == 0
    assert_same_bits(np.load("out.npy"), expected)


def test_rows_that_do_not_count_are_written_again(encode, here, expected, monkeypatch):
    """Data reaches the disk before the state; nobody says that it is whole."""
    interrupted(encode, monkeypatch, after=4)
    with open("out.npy.partial", "ab") as file:
        file.write(b"\xff" * 1001)
    assert encode() == 0
    assert_same_bits(np.load("out.npy"), expected)


def interrupted(encode, monkeypatch, after):
    """A run that gets Ctrl-C after some batches."""
    plain = TextEncoder.encode_tokens
    left = [after]

    def stopping(self, *args, **options):
        left[0] -= 1
        if left[0] < 0:
            signal.raise_signal(signal.SIGINT)
        return plain(self, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(TextEncoder, "encode_tokens", stopping)
        assert encode() == 130


def test_interrupted(encode, here, expected, monkeypatch, capsys):
    interrupted(encode, monkeypatch, after=4)
    shown = one_line(capsys.readouterr().err)
    assert shown == "python -m pyattn encode: interrupted; the same command continues\n"
    rows = json.loads((here / "out.npy.partial.json").read_text())["rows"]
    assert 5 < rows < 40
    computed = []
    plain = TextEncoder.encode_tokens

    def counting(self, tokens, **options):
        computed.append(len(tokens))
        return plain(self, tokens, **options)

    monkeypatch.setattr(TextEncoder, "encode_tokens", counting)
    assert encode("--batch-tokens", 70, "--threads", 3) == 0  # these may change
    assert sum(computed) == len(LINES) - rows
    assert_same_bits(np.load("out.npy"), expected)


def test_interrupted_for_real(model, here, expected):
    """A signal from outside, with input that comes slowly."""
    run = [sys.executable, "-c", KILLED, "100000", *command(model, "--batch-tokens", "1")]
    run[run.index("texts.txt")] = "-"
    child = subprocess.Popen(run, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    text = (here / "texts.txt").read_bytes()
    child.stdin.write(text[:900])
    child.stdin.flush()
    state = here / "out.npy.partial.json"
    deadline = time.monotonic() + 30
    while not state.exists() or not json.loads(state.read_text())["rows"]:
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _, shown = child.communicate(timeout=30)
    assert child.returncode == 130 and b"the same command continues" in shown, shown
    done = subprocess.run(run, input=text, capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert_same_bits(np.load("out.npy"), expected)


def test_another_job(encode, here, expected, model, tmp_path_factory, monkeypatch, capsys):
    """What is begun is not mixed with something else."""
    interrupted(encode, monkeypatch, after=4)
    other = encoders.save(
        tmp_path_factory.mktemp("other"), tensors=encoders.weights("bert", seed=1)
    )
    encoders.add_modules(other, {"pooling_mode": "mean"}, normalize=True)
    capsys.readouterr()
    before = files(here)
    for options, word in [
        (["--pooling", "max"], "pooling (mean, now max)"),
        (["--no-normalize"], "normalize (True, now False)"),
        (["--dtype", "float16"], "dtype (float32, now float16)"),
        (["--field", "text"], "field (None, now text)"),
    ]:
        assert encode(*options) == 2
        assert f"another {word}. --restart" in one_line(capsys.readouterr().err)
    assert encode(model=other) == 2
    assert "another model" in one_line(capsys.readouterr().err)
    with monkeypatch.context() as patch:
        patch.setattr(_encode, "get_isa", lambda: "abacus")
        assert encode() == 2
        assert "another instruction set" in capsys.readouterr().err
    text = (here / "texts.txt").read_text()
    for changed in (text.replace("the cat", "the dog", 3), text[:50], text[30:]):
        (here / "texts.txt").write_text(changed)
        assert encode() == 2
        assert "another input: what it has read of texts.txt" in one_line(capsys.readouterr().err)
    assert files(here) == before
    (here / "texts.txt").write_text(text + "one more line\n")  # was not read yet
    assert encode() == 0
    assert_same_bits(np.load("out.npy")[:-1], expected)


def test_files_beside_the_model(encode, here, expected, model, monkeypatch, capsys):
    """Only what the encoder reads makes it another one: not its own output, nor odd files."""
    copy = shutil.copytree(model, here / "model")

    def again(*options):
        return encode(*options, model=copy, output=copy / "out.json")

    interrupted(again, monkeypatch, after=4)
    (copy / "folder.json").mkdir()
    (copy / "link.json").symlink_to("nowhere")
    (copy / "checkpoint-7").mkdir()
    (copy / "checkpoint-7" / "model.safetensors").write_bytes(b"")
    with open(os.fsencode(copy) + b"/\xff.json", "wb"):
        os.mkfifo(copy / "pipe.json")
    assert again() == 0
    assert_same_bits(np.load(copy / "out.json"), expected)


@pytest.mark.parametrize(
    "name", ["0_Model/model.safetensors", "0_Model/config.json", "1_Pooling/config.json"]
)
def test_a_model_in_a_folder_that_changes(encode, here, model, monkeypatch, capsys, name):
    copy = shutil.copytree(model, here / "model")
    (copy / "0_Model").mkdir()
    for file in ("model.safetensors", "config.json", "tokenizer.json"):
        (copy / file).rename(copy / "0_Model" / file)
    modules = json.loads((copy / "modules.json").read_text())
    modules[0]["path"] = "0_Model"
    (copy / "modules.json").write_text(json.dumps(modules))
    interrupted(lambda: encode(model=copy), monkeypatch, after=4)
    if name.endswith("json"):
        (copy / name).write_text((copy / name).read_text() + " ")
    else:
        encoders.save_tensors(copy / name, encoders.weights("bert", seed=1))
    capsys.readouterr()
    assert encode(model=copy) == 2
    assert "begun with another model" in one_line(capsys.readouterr().err)


def test_a_model_whose_name_is_not_utf8(encode, here, expected, model):
    copy = shutil.copytree(model, here / os.fsdecode(b"m\xff"))
    assert encode(model=copy) == 0
    assert_same_bits(np.load("out.npy"), expected)
    run = [sys.executable, "-m", "pyattn", "info", str(copy)]
    done = subprocess.run(run, capture_output=True)
    assert done.returncode == 0 and b"m\\xff (bert)" in done.stdout, done.stderr


def test_restart(encode, expected, monkeypatch):
    interrupted(encode, monkeypatch, after=4)
    assert encode("--pooling", "max", "--restart") == 0
    assert encode("--restart") == 0
    assert_same_bits(np.load("out.npy"), expected)


def test_a_last_line_that_grows(encode, here, monkeypatch, capsys):
    """It was a whole line when it was read, and is not any more."""
    (here / "texts.txt").write_text("cat\ndog")
    with monkeypatch.context() as patch:
        patch.setattr(_encode.Partial, "finish", lambda self: signal.raise_signal(signal.SIGINT))
        assert encode() == 130
    (here / "texts.txt").write_text("cat\ndogs are here\n")
    assert encode() == 2
    assert "another input" in capsys.readouterr().err
    (here / "texts.txt").write_text("cat\ndog")
    assert encode() == 0 and len(np.load("out.npy")) == 2


BROKEN_STATES = ["", "{", "[]", "{}", '{"rows": "3"}', "\xff", "[" * 100_000]
BROKEN_STATES.append('{"rows": -1, "bytes": 9, "sha256": "", "full": 0, "job": {}}')


@pytest.mark.parametrize("text", BROKEN_STATES)
def test_a_state_that_is_broken(encode, here, monkeypatch, capsys, text):
    interrupted(encode, monkeypatch, after=4)
    (here / "out.npy.partial.json").write_bytes(text.encode("latin-1"))
    capsys.readouterr()
    assert encode() == 2
    assert "out.npy.partial.json: is not the state" in one_line(capsys.readouterr().err)


def test_a_state_that_is_gone_at_the_end(encode, here, expected, monkeypatch):
    plain = os.replace

    def tidied(source, target):
        plain(source, target)
        if str(target).endswith("out.npy"):
            (here / "out.npy.partial.json").unlink()

    monkeypatch.setattr(os, "replace", tidied)
    assert encode() == 0
    assert_same_bits(np.load("out.npy"), expected)


def test_rows_that_are_gone(encode, here, monkeypatch, capsys):
    interrupted(encode, monkeypatch, after=4)
    os.truncate("out.npy.partial", 500)
    capsys.readouterr()
    assert encode() == 2
    assert re.search(r"partial: has 500 bytes, \d+ were", one_line(capsys.readouterr().err))


def test_two_at_a_time(encode, here, model, expected, capsys):
    run = [sys.executable, "-m", "pyattn", *command(model)]
    run[run.index("texts.txt")] = "-"
    child = subprocess.Popen(run, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 30
    while not (here / "out.npy.partial.json").exists():
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.02)
    assert encode() == 2
    assert "another process is writing it" in one_line(capsys.readouterr().err)
    child.communicate((here / "texts.txt").read_bytes(), timeout=30)
    assert_same_bits(np.load("out.npy"), expected)
