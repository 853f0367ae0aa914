"""`lampion train digits`: a small convolutional network learns to read handwritten digits.

The program a PyTorch user would write, whole: splits, training with a progress bar, validation,
checkpoints that can be resumed in the middle of an epoch, the test split's confusion matrix and
mistakes. May import everything but cli.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy import ndarray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import lampion as torch

from .. import nn
from ..errors import check
from ..explain.summary import summary
from ..nn import functional as F
from ..optim import AdamW
from ..optim.lr_scheduler import OneCycleLR
from ..utils.data import DataLoader, TensorDataset
from ..vision.digits import BRIGHTEST, load_digits
from . import pictures
from .folder import RunFolder

CLASSES = tuple(str(d) for d in range(10))
VALIDATION, TEST = 270, 270  # scans; the other 1,257 are for training


@dataclass(frozen=True)
class Settings:
    """What a run depends on; the same settings give the same figures."""

    seed: int = 0
    epochs: int = 20
    batch_size: int = 64
    lr: float = 0.01
    weight_decay: float = 0.01


class DigitsNet(nn.Module):
    """Two convolutions with batch normalization, pooling, and two linear layers with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),  # (N, 16, 8, 8)
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),  # (N, 32, 8, 8)
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),  # (N, 32, 4, 4)
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),  # (N, 512)
            nn.Dropout(0.3),
            nn.Linear(512, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores (N, 10) of images (N, 1, 8, 8) with values from 0 to 1."""
        return self.classifier(self.features(images))


def splits(seed: int) -> dict[str, TensorDataset]:
    """Training, validation and test scans, shuffled by the seed and disjoint."""
    images, labels = load_digits()
    order = np.random.default_rng(seed).permutation(len(images))
    x = torch.from_numpy(images[order].astype(np.float32) / BRIGHTEST).unsqueeze(1)  # (N, 1, 8, 8)
    y = torch.from_numpy(labels[order])
    bounds = {
        "test": (0, TEST),
        "validation": (TEST, TEST + VALIDATION),
        "training": (TEST + VALIDATION, len(x)),
    }
    return {name: TensorDataset(x[a:b], y[a:b]) for name, (a, b) in bounds.items()}


class Training:
    """A run: the model, the optimizer and where in which epoch it stands;
    saved and restored as a whole.
    """

    def __init__(self, settings: Settings, folder: RunFolder) -> None:
        self.settings, self.folder = settings, folder
        torch.manual_seed(settings.seed)
        self.data = splits(settings.seed)
        self.model = DigitsNet()
        self.optimizer = AdamW(
            self.model.parameters(), settings.lr, weight_decay=settings.weight_decay
        )
        self.steps = len(self.loader())
        self.scheduler = OneCycleLR(
            self.optimizer, settings.lr, epochs=settings.epochs, steps_per_epoch=self.steps
        )
        self.epoch = self.step = 0
        self.sums = [0.0, 0, 0]  # of this epoch: loss, right, seen
        self.history: list[dict[str, Any]] = []
        self.epoch_state = torch.get_rng_state()

    def loader(self) -> DataLoader:
        """The training batches in a new random order."""
        return DataLoader(self.data["training"], self.settings.batch_size, shuffle=True)

    def save(self) -> None:
        """Writes the checkpoint."""
        self.folder.save_checkpoint(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
                "settings": asdict(self.settings),
                "position": {"epoch": self.epoch, "step": self.step, "sums": self.sums},
                "random": {"epoch start": self.epoch_state, "now": torch.get_rng_state()},
                "history": self.history,
            }
        )

    @classmethod
    def resumed(cls, folder: RunFolder) -> Training:
        """The run in the folder, where it stopped."""
        state = folder.load_checkpoint()
        run = cls(Settings(**state["settings"]), folder)
        run.model.load_state_dict(state["model"])
        run.optimizer.load_state_dict(state["optimizer"])
        run.scheduler.load_state_dict(state["scheduler"])
        run.epoch, run.step = state["position"]["epoch"], state["position"]["step"]
        run.sums, run.history = state["position"]["sums"], state["history"]
        run.epoch_state = state["random"]["epoch start"]
        torch.set_rng_state(state["random"]["now"])
        return run

    def batches(self) -> Iterator:
        """The epoch's batches that are still to come; the order is that of the epoch's start."""
        if self.step == 0:
            self.epoch_state = torch.get_rng_state()
            yield from self.loader()
            return
        now = torch.get_rng_state()
        torch.set_rng_state(self.epoch_state)
        batches = iter(self.loader())
        for _ in range(self.step):
            next(batches)
        torch.set_rng_state(now)
        yield from batches

    def train_step(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """One update of the parameters."""
        scores = self.model(images)
        loss = F.cross_entropy(scores, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        right = (scores.argmax(1) == labels).sum().item()
        n = len(labels)
        self.sums = [self.sums[0] + loss.item() * n, self.sums[1] + right, self.sums[2] + n]
        self.step += 1

    def end_epoch(self) -> dict[str, Any]:
        """Validates, notes the epoch's figures and saves."""
        loss, right, seen = self.sums
        scores, labels = predict_split(self.model, self.data["validation"])
        row = {
            "epoch": self.epoch + 1,
            "training loss": loss / seen,
            "training accuracy": right / seen,
            "validation loss": F.cross_entropy(scores, labels).item(),
            "validation accuracy": (scores.argmax(1) == labels).float().mean().item(),
        }
        self.history.append(row)
        self.epoch, self.step, self.sums = self.epoch + 1, 0, [0.0, 0, 0]
        self.folder.write_metrics(self.history)
        self.save()
        return row


def predict_split(model: nn.Module, data: TensorDataset) -> tuple[torch.Tensor, torch.Tensor]:
    """The model's scores (N, 10) and the labels (N,) of a split."""
    model.eval()
    with torch.no_grad():
        pairs = [(model(images), labels) for images, labels in DataLoader(data, 256)]
    model.train()
    return torch.cat([s for s, _ in pairs]), torch.cat([y for _, y in pairs])


class Interrupted(Exception):
    """Ctrl-C was pressed; the checkpoint is written."""


@contextmanager
def interrupts_noted() -> Iterator[list]:
    """The first Ctrl-C only makes a note, so that no step is cut in half;
    the second stops at once.
    """
    seen: list = []

    def note(number: int, frame: Any) -> None:
        seen.append(number)
        signal.signal(signal.SIGINT, before)

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not in the main thread: nobody can press Ctrl-C here
        yield seen
        return
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


def train(run: Training, console: Console) -> None:
    """Trains to the last epoch; on Ctrl-C saves after the step and raises Interrupted."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with interrupts_noted() as interrupts, Progress(*columns, console=console) as progress:
        total = run.settings.epochs * run.steps
        bar = progress.add_task("training", total=total, completed=run.epoch * run.steps + run.step)
        while run.epoch < run.settings.epochs:
            for images, labels in run.batches():
                run.train_step(images, labels)
                progress.advance(bar)
                if interrupts:
                    run.save()
                    raise Interrupted
            row = run.end_epoch()
            progress.update(
                bar,
                description=f"epoch {row['epoch']}: loss {row['training loss']:.4f}, "
                f"validation {row['validation accuracy']:.2%}",
            )


def evaluate(run: Training) -> dict[str, Any]:
    """The test split's figures; draws the run's pictures where Matplotlib is installed."""
    scores, labels = predict_split(run.model, run.data["test"])
    chances = F.softmax(scores, 1).numpy()
    truth, read = labels.numpy(), chances.argmax(1)
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (truth, read), 1)
    wrong = np.flatnonzero(truth != read)
    if pictures.available():
        draw(run, counts, truth, read, chances, wrong)
    return {
        "test accuracy": float((truth == read).mean()),
        "test loss": F.cross_entropy(scores, labels).item(),
        "test mistakes": int(len(wrong)),
    }


def draw(
    run: Training, counts: ndarray, truth: ndarray, read: ndarray, chances: ndarray, wrong: ndarray
) -> None:
    """Curves, confusion matrix and mistakes as PNG files in the run's folder."""
    folder = run.folder.path
    images = run.data["test"].tensors[0].numpy()[wrong, 0]
    pictures.draw_curves(run.history, folder / "curves.png")
    pictures.draw_confusion(counts, CLASSES, folder / "confusion.png")
    pictures.draw_mistakes(
        images, truth[wrong], read[wrong], chances.max(1)[wrong], folder / "mistakes.png"
    )


def train_digits(out: str, settings: Settings, resume: bool, console: Console) -> dict[str, Any]:
    """The whole job; returns the results that run.json holds."""
    folder = RunFolder(out)
    run = Training.resumed(folder) if resume else Training(settings, folder)
    folder.create()
    table = summary(run.model, torch.zeros(1, 1, 8, 8))
    folder.write_text("model.txt", table + "\n")
    console.print(table, highlight=False)
    start = time.perf_counter()
    train(run, console)
    seconds = time.perf_counter() - start
    results = {**evaluate(run), "seconds": round(seconds, 2)}
    folder.write_record(asdict(run.settings), results)
    return results


def predict_digit(image: ndarray, out: str) -> ndarray:
    """The chances (10,) of each digit for an image (8, 8) of ink from 0 to 1,
    by the run's checkpoint.
    """
    check(
        image.shape == (8, 8),
        lambda: f"[predict] expects an 8 by 8 image, got {image.shape}",
        ValueError,
    )
    model = DigitsNet()
    model.load_state_dict(RunFolder(out).load_checkpoint()["model"])
    model.eval()
    with torch.no_grad():
        scores = model(torch.from_numpy(image.astype(np.float32))[None, None])  # (1, 10)
    return F.softmax(scores, 1)[0].numpy()
