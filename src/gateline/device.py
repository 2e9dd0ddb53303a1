"""Decisions of the process that training and inference share: threads, denormal numbers, memory, determinism, device, precision."""

from __future__ import annotations

import ctypes
import os

import torch

from gateline.errors import WorkloadError
from gateline.workload.run_wide import DEVICES, PRECISIONS

THREADS = 1
"""More threads split sums differently, so the bytes of the weights would depend on the number of cores; and for recurrent
products of this size a second thread brings next to nothing."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""As malloc.h of glibc numbers them."""
MMAP_THRESHOLDS = 2**30, 2**25
"""Bytes; the first that glibc accepts."""


def configure_process(device: str, precision: str) -> tuple[torch.device, torch.dtype]:
    """Set up the process; call it once, before any arithmetic.

    Args:
        device: ``cpu``, ``cuda`` or ``auto`` (cuda if there is one).
        precision: ``float32``, ``bfloat16``, ``float16``, or ``auto`` (bfloat16 where the processor has
            instructions for it, else float32).

    Returns:
        The device, and the type that autocast shall use (float32: no autocast).

    Raises:
        WorkloadError: the device is not there, or cannot compute in that precision.
    """
    # Vanishing gradients become denormal numbers, which make long windows several times slower on CPUs.
    torch.set_flush_denormal(True)
    torch.set_num_threads(THREADS)
    keep_freed_memory()
    # The same as use_deterministic_algorithms(True, warn_only=True), which also imports the compiler (1.5 seconds).
    torch.set_deterministic_debug_mode("warn")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # for finding bugs; costs a twentieth of a step
    if device == "cuda" and not torch.cuda.is_available():
        raise WorkloadError(
            "device",
            expected="a CUDA device",
            found="none",
            do="Set `device: cpu`, or `auto` where there is no GPU; on Kubeflow, a pod with GPUs (and there `auto`, too) needs the "
            "image of train that `python -m infra.images build --step train --torch cuda` makes",
        )
    if device not in DEVICES:
        raise WorkloadError("device", expected=", ".join(DEVICES), found=repr(device), do="Correct params.yaml")
    chosen = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    if chosen.type == "cuda":
        os.environ.setdefault(
            "CUBLAS_WORKSPACE_CONFIG", ":4096:2"
        )  # else recurrent layers differ from run to run (cuDNN's manual)
        torch.set_float32_matmul_precision("high")  # TF32 in every product, as cuDNN has it in recurrent layers anyway
    if precision not in PRECISIONS:
        raise WorkloadError(
            "precision", expected=", ".join(PRECISIONS), found=repr(precision), do="Correct params.yaml"
        )
    if precision == "auto":
        precision = "bfloat16" if computes_bfloat16(chosen) else "float32"
    if precision == "float16" and chosen.type == "cpu":
        raise WorkloadError("precision", expected="float32 or bfloat16 on a CPU", found="float16", do="Use bfloat16")
    of_autocast: torch.dtype = getattr(torch, precision)
    return chosen, of_autocast


def keep_freed_memory() -> None:
    """Let glibc keep what is freed, for the next step, instead of handing it back to the system; elsewhere do nothing.

    A step over long windows frees and asks for hundreds of megabytes (the gates of every step, kept for the way back). By
    default these come from the system each time, page by page and zeroed, which takes up to half of the time of a step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    # It answers 0 where it refuses, as glibc up to 2.34 does above 32 MiB. Where no larger threshold holds, the other one is
    # left alone as well: setting it would freeze the first at its 128 KiB, which else rises by itself.
    if any(mallopt(M_MMAP_THRESHOLD, size) for size in MMAP_THRESHOLDS):
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def computes_bfloat16(device: torch.device) -> bool:
    """Tell whether a device multiplies bfloat16 matrices itself: a GPU since Ampere, a CPU with AMX or AVX512-BF16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    instructions = torch.cpu.get_capabilities()
    return bool(instructions.get("amx_bf16") or instructions.get("avx512_bf16"))
