"""The main job as a user runs it: train, stop, resume, predict; what is wrong is one clear line."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from lampion.cli import main
from lampion.vision import load_digits

FILES = [
    "checkpoint.pt",
    "confusion.png",
    "curves.png",
    "metrics.csv",
    "mistakes.png",
    "model.txt",
    "run.json",
]


def train(folder, *options):
    assert main(["train", "digits", "--out", str(folder), *options]) == 0
    return json.loads((folder / "run.json").read_text())["results"]


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    """Three epochs, without interruption."""
    folder = tmp_path_factory.mktemp("short")
    train(folder, "--epochs", "3")
    return folder


@pytest.mark.slow
def test_the_whole_job_reaches_98_percent(tmp_path):
    start = time.perf_counter()
    assert train(tmp_path)["test accuracy"] >= 0.98
    assert time.perf_counter() - start < 60


def test_the_run_folder_holds_everything(short_run):
    pytest.importorskip("matplotlib", reason="the pictures need Matplotlib")
    assert sorted(os.listdir(short_run)) == FILES
    rows = list(csv.DictReader((short_run / "metrics.csv").read_text().splitlines()))
    assert [int(r["epoch"]) for r in rows] == [1, 2, 3]
    assert float(rows[2]["training loss"]) < float(rows[0]["training loss"])
    record = json.loads((short_run / "run.json").read_text())
    assert record["settings"]["seed"] == 0
    assert set(record["versions"]) == {"lampion", "numpy", "python"}
    for name in ("confusion.png", "curves.png", "mistakes.png"):
        assert (short_run / name).read_bytes().startswith(b"\x89PNG")
    assert "38,378 parameters" in (short_run / "model.txt").read_text()


def test_one_seed_gives_one_figure(short_run, tmp_path):
    again = train(tmp_path, "--epochs", "3")
    first = json.loads((short_run / "run.json").read_text())["results"]
    assert {k: again[k] for k in ("test accuracy", "test loss")} == {
        k: first[k] for k in ("test accuracy", "test loss")
    }
    other = train(tmp_path, "--epochs", "3", "--seed", "1")
    assert other["test loss"] != first["test loss"]


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_a_stopped_run_goes_on_where_it_was(short_run, tmp_path):
    command = [
        sys.executable,
        "-m",
        "lampion",
        "train",
        "digits",
        "--epochs",
        "3",
        "--out",
        str(tmp_path),
    ]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "metrics.csv").exists() and job.poll() is None:
        time.sleep(0.02)
    time.sleep(0.05)  # into the second epoch
    job.send_signal(signal.SIGINT)
    out, errors = job.communicate(timeout=60)
    assert job.returncode == 130, errors
    assert "Go on with: lampion train digits --resume" in out
    train(tmp_path, "--resume")
    assert (tmp_path / "metrics.csv").read_text() == (short_run / "metrics.csv").read_text()


@pytest.mark.parametrize("size", [8, 100])
def test_predict_reads_a_scan(short_run, tmp_path, capsys, size):
    images, labels = load_digits()
    picture = np.kron(images[0], np.ones((size // 8, size // 8)))
    if size != 8:
        picture = np.pad(
            255 - picture * 15.0, 10, constant_values=255.0
        )  # dark on light, with a border
    np.save(tmp_path / "scan.npy", picture)
    assert main(["predict", str(tmp_path / "scan.npy"), "--run", str(short_run)]) == 0
    first = next(line for line in capsys.readouterr().out.splitlines() if "%" in line)
    assert first.split()[0] == str(labels[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (np.zeros((8, 8)), "is blank"),
        (np.ones((2, 2, 2)), "expects a gray picture"),
        (np.array([["a"]]), "is no array of numbers"),
    ],
)
def test_predict_says_what_is_wrong(short_run, tmp_path, capsys, content, message):
    path = tmp_path / "x.npy"
    if content is not None:
        np.save(path, content)
    assert main(["predict", str(path), "--run", str(short_run)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("lampion: [predict]")
    assert message in error
    assert error.count("\n") == 1


def test_missing_and_damaged_checkpoints(tmp_path, capsys):
    assert main(["train", "digits", "--resume", "--out", str(tmp_path)]) == 1
    assert "train first with `lampion train digits" in capsys.readouterr().err
    (tmp_path / "checkpoint.pt").write_bytes(b"damaged")
    assert main(["train", "digits", "--resume", "--out", str(tmp_path)]) == 1
    assert "is damaged or no archive" in capsys.readouterr().err
    assert (tmp_path / "checkpoint.pt").read_bytes() == b"damaged"


@pytest.mark.parametrize("options", [["--epochs", "0"], ["--batch-size", "-1"], ["--seed", "x"]])
def test_bad_options(options, capsys):
    with pytest.raises(SystemExit):
        main(["train", "digits", *options])
    assert "expects a whole number" in (error := capsys.readouterr().err) or "invalid int" in error


def test_run_gives_a_script_lampion_as_torch(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(
        "import sys, torch, torch.nn as nn\nfrom torch.utils.data import DataLoader\nfrom torch "
        "import optim\n"
        "print(torch.__name__, nn.Linear(2, 1).weight.shape, sys.argv[1:])\n"
    )
    command = [sys.executable, "-m", "lampion", "run", str(script), "--flag", "7"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "lampion torch.Size([1, 2]) ['--flag', '7']\n", done.stderr
