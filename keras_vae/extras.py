"""Libraries that only an extra installs: imported when they are needed, not before."""

import importlib
from types import ModuleType

# Where a library is not called what its module is.
_LIBRARIES = {
    "ai_edge_litert": "ai-edge-litert",
    "grpc": "grpcio",
    "huggingface_hub": "huggingface-hub",
    "markdown_it": "markdown-it-py",
    "sklearn": "scikit-learn",
    "tensorflow_datasets": "tensorflow-datasets",
    "tensorflow_serving": "tensorflow-serving-api",
}


def require(module: str, extra: str, need: str) -> ModuleType:
    """Imports a module of a library that an extra installs, or says how to install it.

    Args:
        module: Its full name, such as "sklearn.svm".
        extra: Name of the extra in setup.cfg.
        need: Who needs it, and a verb: "Figures need".

    Raises:
        ImportError: If it cannot be imported. The message names the library, the command that
            installs it, and the reason.

    Example:

    >>> require("nowhere.to_be_found", "data", "Figures need")
    Traceback (most recent call last):
    ImportError: Figures need nowhere: pip install "keras-vae[data]" (No module named 'nowhere').
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        root = module.partition(".")[0]
        raise ImportError(
            f'{need} {_LIBRARIES.get(root, root)}: pip install "keras-vae[{extra}]" ({error}).'
        ) from error
