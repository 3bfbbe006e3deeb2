"""The plain PyTorch loop: the whole data set as one tensor, and Adam as it comes or fused."""

import functools
import tempfile

import numpy as np
import torch
from torch import nn

from benchmarks.speed.contestants.images import binary_images, gray_images, latents, splits
from benchmarks.speed.contestants.process import learner, serve, timed
from benchmarks.speed.contestants.torch_nets import LATENTS, VAE


def tensor(images: np.ndarray) -> torch.Tensor:
    """Returns images, (num, height, width, 1), as PyTorch has them: (num, 1, height, width)."""
    return torch.tensor(images).permute(0, 3, 1, 2)


def network(task: dict) -> VAE:
    """Returns the network of a task, fresh, from a fixed seed."""
    torch.manual_seed(0)
    vae = VAE(task["network"], task.get("latent_dim", LATENTS))
    return vae.to(memory_format=torch.channels_last) if task["network"] == "conv" else vae


def _precision(task):
    return torch.autocast("cpu", torch.bfloat16, enabled=task.get("dtype") == "mixed_bfloat16")


def _epoch_of(task, vae, images):
    optimizer = torch.optim.Adam(vae.parameters(), 1e-3, fused=task.get("fused", False))
    loss_of = torch.compile(vae) if task.get("compiled") else vae

    def epoch():
        order = torch.randperm(len(images))
        for rows in order.split(task["batch_size"]):
            x = torch.bernoulli(images[rows])
            optimizer.zero_grad(set_to_none=True)
            with _precision(task):
                loss = loss_of(x)
            loss.backward()
            optimizer.step()

    return epoch


def _train(task):
    epoch = _epoch_of(task, network(task), tensor(gray_images(task["num_images"])) / 255)
    epoch()
    return epoch


def _learn(task):
    train, test = map(tensor, splits(task))
    vae = network(task)
    train_one_epoch = _epoch_of(task, vae, train / 255)

    @torch.inference_mode()
    def elbo():
        return -sum(float(vae(x)) * len(x) for x in test.split(1000)) / len(test)

    return learner(train_one_epoch, elbo)


def _score(task):
    images = tensor(binary_images(task["num_images"]))
    vae = network(task).eval()
    decoder = torch.compile(vae.decoder) if task.get("compiled") else vae.decoder
    num_samples = task["num_samples"]

    @torch.inference_mode()
    def score(images):
        with _precision(task):
            loc, log_variance = vae.encoder(images).float().chunk(2, dim=-1)
            estimates = []
            for x, mean, log_std in zip(images, loc, 0.5 * log_variance, strict=True):
                noise = torch.randn(num_samples, len(mean))
                z = mean + log_std.exp() * noise
                prior_to_posterior = (noise**2 - z**2).sum(-1) / 2 + log_std.sum()
                logits = decoder(z).float()
                entropy = nn.functional.binary_cross_entropy_with_logits(
                    logits, x.expand_as(logits), reduction="none"
                )
                log_weights = prior_to_posterior - entropy.sum((1, 2, 3))
                estimates.append(log_weights.logsumexp(0) - np.log(num_samples))
        return {"nll": -float(torch.stack(estimates).mean())}

    score(images[:5])
    return lambda: score(images)


def _decode(task):
    decoder = nn.Sequential(network(task).decoder, nn.Sigmoid()).eval()
    call = _served(decoder, task["runtime"])

    @torch.inference_mode()
    def work():
        return {
            "milliseconds": {
                size: timed(functools.partial(call, latents(size))) for size in task["batch_sizes"]
            }
        }

    with torch.inference_mode():
        for size in task["batch_sizes"]:
            call(latents(size))
    return work


def _served(decoder, kind):
    if kind == "ONNX":
        import onnxruntime

        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/decoder.onnx"
            batch = {"z": {0: "batch"}}
            names = {"input_names": ["z"], "output_names": ["image"]}
            example = (torch.tensor(latents(2)),)
            torch.onnx.export(decoder, example, path, dynamic_axes=batch, dynamo=False, **names)
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda z: session.run(None, {"z": z})
    if kind == "compiled":
        decoder = torch.compile(decoder, dynamic=False)
    return lambda z: decoder(torch.from_numpy(z)).numpy()


if __name__ == "__main__":
    serve(train=_train, learn=_learn, score=_score, decode=_decode)
