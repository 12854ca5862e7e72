"""``python -m pyattn generate``: what it writes and says."""

import io
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("tokenizers")
pytest.importorskip("tqdm")

import generators

from pyattn._command_line import main
from pyattn.models import TextGenerator

OPTIONS = {"--temperature": 1.5, "--top-k": 50, "--top-p": 0.9, "--seed": 3, "--max-tokens": 9}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return generators.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(directory):
    return TextGenerator.from_pretrained(directory)


@pytest.fixture
def generate(directory, capfdbinary, monkeypatch):
    """The command in this process: its status, standard output and error."""

    def run(*arguments, given=b"", model=directory):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        status = main(["generate", str(model), *map(str, arguments)])
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return status, out.decode(), err.decode()

    return run


def test_answer(generate, model):
    (expected,) = model.generate(["the cat"], max_tokens=9)
    assert generate("the cat", "--max-tokens", 9) == (0, f"{expected}\n", "")
    for given in (b"the cat", b"the cat\n", b"the cat\r\n"):
        assert generate("--max-tokens", 9, given=given)[1] == f"{expected}\n"
    assert generate("-", "--max-tokens", 9, given=b"the cat\n\n")[1] != f"{expected}\n"


def test_options(generate, model):
    arguments = [a for pair in OPTIONS.items() for a in pair]
    options = {name[2:].replace("-", "_"): value for name, value in OPTIONS.items()}
    (expected,) = model.generate(["the cat"], **options)
    assert generate("the cat", *arguments)[1] == f"{expected}\n"
    stop = expected[2:4]
    (expected,) = model.generate(["the cat"], **options, stop=[stop, "zzz"])
    assert generate("the cat", *arguments, "--stop", stop, "--stop", "zzz")[1] == f"{expected}\n"
    for more in ("--storage", "float32", "--cache", "int8", "--threads", "2"), ():
        assert generate("the cat", *more)[0] == 0


def test_chat(generate, model):
    messages = [{"role": "system", "content": "the"}, {"role": "user", "content": "cat"}]
    (expected,) = model.generate([model.chat_prompt(messages)], max_tokens=9)
    assert generate("cat", "--chat", "--system", "the", "--max-tokens", 9)[1] == f"{expected}\n"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["the", "--max-tokens", 500], "prompt has 1 tokens and max_tokens is 500"),
        (["the", "--top-p", 0], "top_p must be within"),
        (["the", "--temperature", "nan"], "temperature must be finite"),
        (["the", "--system", "no"], "--system is for chats: use --chat too"),
        ([""], "prompt has no tokens"),
    ],
)
def test_refused(generate, arguments, message):
    status, out, err = generate(*arguments)
    assert status == 2 and not out and message in err
    assert err.count("\n") == 1 and err.startswith("python -m pyattn generate: ")


def test_input_and_model_that_are_none(generate, tmp_path):
    assert "standard input is not UTF-8" in generate(given=b"\xff")[2]
    assert "there is no such directory" in generate("the", model=tmp_path / "nowhere")[2]


@pytest.mark.parametrize("option", [("--seed", "-1"), ("--temperature", "hot"), ("--top-k", "0")])
def test_options_that_are_none(option, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["generate", "model", "the", *option])
    assert caught.value.code == 2 and "is not a" in capsys.readouterr().err


def test_info(directory, capsys):
    assert main(["info", str(directory)]) == 0
    out = capsys.readouterr().out
    assert "(llama)" in out and "4 heads over 2 of 16" in out and "96 tokens" in out


def test_as_it_comes(directory):
    """Pieces are there before the end, and Ctrl-C ends it with its own status."""
    tensors = generators.weights("llama")
    config = {"max_position_embeddings": 1 << 20, "eos_token_id": None}
    long = generators.save(directory / "long", tensors=tensors, settings=config)
    command = [sys.executable, "-m", "pyattn", "generate", str(long), "the cat"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout.read(1)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and err == b"python -m pyattn generate: interrupted\n"
