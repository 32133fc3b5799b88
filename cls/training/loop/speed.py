"""What makes a CPU training fast: threads, and a memory allocator that keeps what it has."""

from __future__ import annotations

import logging

import cv2
import torch

from cls.machine import cores, keep_memory

__all__ = ["cores", "keep_memory", "prepare_process"]

_log = logging.getLogger("cls.training")


def prepare_process() -> None:
    """Sets up this process for training: all cores to torch, one thread for each OpenCV call, memory kept."""
    torch.set_num_threads(cores())
    cv2.setNumThreads(1)
    if keep_memory():
        _log.debug("freed memory is kept for the next step")
