"""The plain PyTorch loop: the whole data set as one tensor, the fused Adam."""

import torch

from benchmarks.speed.contestant import serve
from benchmarks.speed.inputs import gray_images
from benchmarks.speed.torch_nets import VAE


def epoch_of(task: dict, vae: VAE, images: torch.Tensor):
    """Returns the function that trains for one epoch of dynamically binarized images."""
    optimizer = torch.optim.Adam(vae.parameters(), 1e-3, fused=True)
    loss_of = torch.compile(vae) if task.get("compiled") else vae
    batch_size = task["batch_size"]
    lower = task.get("dtype") == "mixed_bfloat16"
    if task["network"] == "conv" and task.get("channels_last", True):
        vae.to(memory_format=torch.channels_last)

    def epoch():
        order = torch.randperm(len(images))
        for rows in order.split(batch_size):
            x = torch.bernoulli(images[rows])
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=lower):
                loss = loss_of(x)
            loss.backward()
            optimizer.step()

    return epoch


def _prepare(task):
    torch.manual_seed(0)
    images = torch.tensor(gray_images(task["num_images"])).permute(0, 3, 1, 2) / 255
    epoch = epoch_of(task, VAE(task["network"]), images)
    epoch()
    return epoch


if __name__ == "__main__":
    serve(_prepare)
