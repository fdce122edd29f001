"""A Dask cluster as an executor: one that runs somewhere, or one of this machine that ends with the work.

A worker does one piece at a time; a piece whose worker is lost is done by another one, four times at most. Where
workers say that they have resources GPU, a piece takes one.
"""

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from landscape.checks import first_line
from landscape.processes.devices import VISIBLE, dealt, visible_devices

LOCAL = "local"
GPU = "GPU"  # the resource's name, as Dask's documentation has it
ENVIRONMENT = "distributed.nanny.pre-spawn-environ"  # of Dask's workers
TRIM = "MALLOC_TRIM_THRESHOLD_"  # in it; whatever its value, glibc then maps each tensor above 128 KiB anew
WAIT = 60  # seconds for the scheduler, and for its first worker; our choice


@contextmanager
def cluster(
    address: str, workers: int = 2, *, devices: Sequence[str] | None = None, wait: float = WAIT
) -> Iterator[Executor]:
    """An executor of the cluster's.

    Args:
        address: of a scheduler, such as tcp://HOST:8786, which is left running; or "local".
        workers: of "local": processes of one thread each.
        devices: of "local": GPUs dealt out to them, each its own one first; default all that this process may use.
        wait: seconds for the scheduler, and then for its first worker.
    Raises:
        ImportError: without Dask.
        ValueError: if no scheduler answers there, or no worker comes.
    """
    try:
        import dask
        from distributed import Client
        from distributed.comm import get_address_host_port
    except ImportError as error:
        raise ImportError(
            f"a cluster needs {error.name}: {first_line(error)}; pip install 'landscape-toolkit[cluster]'"
        ) from error
    if address == LOCAL:
        found = visible_devices() if devices is None else list(devices)
        environment = {name: value for name, value in dask.config.get(ENVIRONMENT).items() if name != TRIM}
        settings = dask.config.set(
            {
                ENVIRONMENT: environment,
                "distributed.worker.daemon": False,  # they may start others, that read data
                "distributed.worker.profile.enabled": False,  # looks at the stack a hundred times a second
            }
        )
        with _environment_kept(dask.config), settings, _local(workers, found) as own, Client(own) as client:
            yield _executor(client)
        return
    try:  # before a client does, which would be left half made
        socket.create_connection(get_address_host_port(address), timeout=wait).close()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no Dask scheduler answers at {address}: {first_line(error)}; start one by `dask scheduler`, or take "
            f"{LOCAL!r}"
        ) from error
    with Client(address, timeout=wait) as client:
        try:
            client.wait_for_workers(1, timeout=wait)
        except TimeoutError as error:
            raise ValueError(
                f"the scheduler at {address} must have a worker, got none in {wait:g} s; start them by `dask worker "
                f"{address} --nthreads 1`"
            ) from error
        yield _executor(client)


@contextmanager
def _environment_kept(config: Any) -> Iterator[None]:
    """Put back what Dask sets in this process's environment for its workers: threads, and how memory is given back."""
    names = config.get(ENVIRONMENT)
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _executor(client: Any) -> Executor:
    """Of the workers with GPUs, where there are some."""
    known = client.scheduler_info()["workers"].values()
    gpus = any(worker["resources"].get(GPU) for worker in known)
    executor: Executor = client.get_executor(resources={GPU: 1} if gpus else None)
    return executor


def _local(workers: int, devices: Sequence[str]) -> Any:
    """Processes of one thread each, which are started anew when they are lost; no other machine can reach them."""
    from distributed import Nanny, Scheduler, SpecCluster

    here = {"host": "127.0.0.1", "protocol": "tcp://", "port": 0, "dashboard": False, "dashboard_address": ":0"}
    quiet = logging.CRITICAL  # what fails is said in one line where the work is asked for

    def options(rank: int) -> dict[str, Any]:
        own = {"env": {VISIBLE: dealt(devices, rank)}, "resources": {GPU: 1}} if devices else {}
        return {**here, "nthreads": 1, "memory_limit": 0, "silence_logs": quiet, **own}

    return SpecCluster(
        workers={rank: {"cls": Nanny, "options": options(rank)} for rank in range(workers)},
        scheduler={"cls": Scheduler, "options": here},
        silence_logs=quiet,
    )
