"""What machine this is."""

import os
import platform

import tensorflow as tf


def describe_hardware() -> str:
    """Names the machine for those who compare numbers of time: "x86_64 CPU, 2 cores".

    GPUs and TPUs, where TensorFlow sees some, are named behind it, with how many there are.
    """
    parts = [f"{platform.machine()} CPU, {os.cpu_count()} cores"]
    for kind in ("GPU", "TPU"):
        devices = tf.config.list_physical_devices(kind)
        names = [
            tf.config.experimental.get_device_details(device).get("device_name", kind)
            for device in devices
        ]
        parts += [f"{names.count(name)} x {name}" for name in dict.fromkeys(names)]
    return "; ".join(parts)
