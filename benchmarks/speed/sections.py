"""What is measured, by name."""

from benchmarks.speed import growth, likelihood, quality, serving, start, training

SECTIONS = {
    "training": training,
    "likelihood": likelihood,
    "start": start,
    "serving": serving,
    "growth": growth,
    "quality": quality,  # last: it alone needs MNIST
}
