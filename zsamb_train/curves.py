"""A run's numbers in files: ``curves.csv``, and ``curves.png`` drawn from it."""

import csv
from pathlib import Path

from zsamb_core.files.whole_file import write_over

COLUMNS = ("step", "loss", "rate", "style", "style_error", "content", "content_error")
Line = dict[str, str]


class Curves:
    """Lines of ``curves.csv``. A run that goes on drops those from behind its checkpoint."""

    def __init__(self, folder: Path, step: int) -> None:
        self.path, self.lines = folder / "curves.csv", []
        if self.path.is_file():
            with self.path.open(encoding="utf-8", newline="") as file:
                self.lines = [line for line in csv.DictReader(file) if _step(line) <= step]

    def add(self, step: int, **values: float | None) -> None:
        line = {name: "" if value is None else f"{value:.6g}" for name, value in values.items()}
        self.lines.append({"step": str(step), **line})

    def newest(self) -> dict[str, float]:
        """The last line's numbers, for trackers."""
        line = self.lines[-1] if self.lines else {}
        return {name: float(value) for name, value in line.items() if value and name != "step"}

    def write(self) -> None:
        write_over(self.path, self._write)

    def _write(self, path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="")
            writer.writeheader()
            writer.writerows(self.lines)

    def draw(self) -> None:
        """Loss above, gains beneath, with their standard errors."""
        from matplotlib.figure import Figure  # not pyplot: no window, no global state

        figure = Figure(figsize=(8, 6), layout="constrained")
        above, beneath = figure.subplots(2, 1, sharex=True)
        above.plot(*self._column("loss"), color="tab:gray")
        above.set_ylabel("loss")
        for name, color in (("style", "tab:blue"), ("content", "tab:red")):
            steps, values = self._column(name)
            error = [float(line[f"{name}_error"] or 0) for line in self.lines if line.get(name)]
            beneath.errorbar(steps, values, error, label=f"{name} gain", color=color, capsize=3, marker=".")
        beneath.axhline(0, color="black", linewidth=0.5)
        beneath.set_ylabel("error saved by the style picture")
        beneath.set_xlabel("step")
        beneath.legend()
        write_over(self.path.with_suffix(".png"), lambda path: figure.savefig(path, format="png", dpi=100))

    def _column(self, name: str) -> tuple[list[int], list[float]]:
        there = [line for line in self.lines if line.get(name)]
        return [_step(line) for line in there], [float(line[name]) for line in there]


def _step(line: Line) -> int:
    return int(line["step"])
