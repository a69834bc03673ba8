"""Work spread over processes of this machine, and work whose numbers are those of one thread."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import wraps
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread
from typing import Any, ParamSpec, TypeVar

from threadpoolctl import threadpool_limits

from mld_ff.errors import InputError
from mld_ff.subprocesses import check_processes

State = TypeVar("State")
Item = TypeVar("Item")
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")
AHEAD = 2
"""Items that wait for each process: enough to keep it busy, few enough to fit into memory."""


def spread(
    work: Callable[[State, Item], Result], state: State, items: Iterable[Item], processes: int
) -> Iterator[Result]:
    """`work(state, item)` of every item, in their order, whatever the number of processes.

    Items are taken as processes become free, so a stream of any length fits into memory. `work`
    must be a function of a module. Raises what `work` raises, and InputError if a process is
    killed.
    """
    check_processes(processes)
    if processes == 1:
        yield from (work(state, item) for item in items)
        return
    # a server that has imported what passes need starts each process in 10 ms instead of 1 s
    context = get_context("forkserver")
    context.set_forkserver_preload(["mld_ff.inference.fitting", "mld_ff.inference.product_forces"])
    with ProcessPoolExecutor(processes, context, _begin, (state,)) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(_work, work, item))
                if len(waiting) > AHEAD * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise InputError(
                "a process was killed, perhaps for lack of memory: use fewer processes (and in a"
                ' script of your own, begin the main part with `if __name__ == "__main__":`)'
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def in_one_thread(work: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The same function, with one thread of BLAS: with two it adds up in another order, and a fit
    with angles differed from digit 5 on."""

    @wraps(work)
    def alone(*arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        with threadpool_limits(1):
            return work(*arguments, **options)

    return alone


_state: Any = None
"""In a process of the pool: what all items share."""


def _begin(state: Any) -> None:
    global _state
    _state = state
    threadpool_limits(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that is killed tells nobody, and its processes would wait for work for ever."""
    if (parent := parent_process()) is not None:
        wait([parent.sentinel])
        os._exit(1)


def _work(work: Callable[[State, Item], Result], item: Item) -> Result:
    return work(_state, item)
