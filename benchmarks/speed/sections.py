"""What is measured, by name."""

from benchmarks.speed import growth, likelihood, quality, serving, start, training

SECTIONS = {
    "training": training,
    "quality": quality,
    "likelihood": likelihood,
    "start": start,
    "serving": serving,
    "growth": growth,
}
