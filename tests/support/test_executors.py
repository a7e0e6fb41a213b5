"""Work by executors: how much of it is under way, with how many threads, and what becomes of what goes wrong."""

import pickle
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from mfpde.equation.finite import NotFiniteError
from mfpde.support import executors
from mfpde.support.executors import Bounded, BrokenPool, check_executor, each, workers_of
from mfpde.support.threads import at_most, available


class Slow(ThreadPoolExecutor):
    """Threads that note how many tasks are under way or wait."""

    def __init__(self, workers):
        super().__init__(workers)
        self.under_way, self.most, self.lock = 0, 0, threading.Lock()

    def submit(self, function, *arguments):
        with self.lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        future = super().submit(function, *arguments)
        future.add_done_callback(self.ended)
        return future

    def ended(self, future):
        with self.lock:
            self.under_way -= 1


def test_few_tasks_are_under_way_and_none_is_asked_for_before():
    asked = []

    def tasks():
        for k in range(40):
            asked.append(k)
            yield k

    found = {}
    with Slow(3) as executor:
        for task, result in each(executor, lambda k: time.sleep(0.001) or k * k, tasks(), "the test"):
            found[task] = result
            assert len(asked) <= len(found) + 2 * 3
    assert found == {k: k * k for k in range(40)}
    assert 3 <= executor.most <= 6


def test_the_first_task_has_a_head_start(monkeypatch):
    """It leaves compiled code in its cache; but others do not wait for a long one."""
    began, go = [], threading.Event()

    def work(k):
        began.append(k)
        if k == 0:
            go.wait(10.0)
        return k

    with ThreadPoolExecutor(2) as executor:
        threading.Timer(0.3, lambda: (began.append("go"), go.set())).start()
        assert sorted(task for task, _ in each(executor, work, range(3), "the test")) == [0, 1, 2]
        assert began[:2] == [0, "go"]
        monkeypatch.setattr(executors, "HEAD_START", 0.05)
        began.clear()
        go.clear()
        done = each(executor, work, range(3), "the test")
        assert {next(done)[0], next(done)[0]} == {1, 2}
        go.set()
        assert next(done) == (0, 0)


def test_somebody_looks_while_nothing_comes(monkeypatch):
    monkeypatch.setattr(executors, "LOOK", 0.02)
    monkeypatch.setattr(executors, "HEAD_START", 0.01)
    looked = []
    with ThreadPoolExecutor(1) as executor:
        for _ in each(executor, lambda k: time.sleep(0.3), [0], "the test", look=lambda: looked.append(1)):
            pass
    assert len(looked) >= 4


def test_threads_of_a_task_are_bounded(monkeypatch):
    """By what is asked for, whatever the work asks for within."""
    monkeypatch.setattr("numba.config.NUMBA_NUM_THREADS", 8)

    def work(task):
        with at_most(4):
            blas = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
            return available(), blas

    np.ones((4, 4)) @ np.ones((4, 4))
    with ThreadPoolExecutor(1) as executor:
        ((_, (threads, blas)),) = each(executor, work, [0], "the test")
    assert threads == 1
    assert set(blas) == {1}
    with at_most(3), at_most(2), at_most(5):
        assert available() == 2


class Odd(Exception):
    """What does not pickle."""

    def __init__(self):
        super().__init__("this and that")
        self.lock = threading.Lock()


def test_exceptions_travel():
    """A process pool breaks where one does not."""

    def odd(task):
        raise Odd

    def plain(task):
        raise NotFiniteError("V", np.nan, "x = 3").at(0.5)

    with pytest.raises(RuntimeError, match="Odd: this and that"):
        Bounded(odd)(0)
    with pytest.raises(NotFiniteError, match=r"V is not finite at x = 3, t = 0\.5 \(nan\)") as caught:
        Bounded(plain)(0)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.place) == (str(caught.value), caught.value.place)


def test_what_was_under_way_is_said():
    class Breaks:
        count = 0

        def submit(self, function, *arguments):
            self.count += 1
            if self.count > 4:
                raise executors.BrokenExecutor("gone")
            future = Future()
            if self.count < 3:
                future.set_result(function(*arguments))
            return future

    done = each(Breaks(), lambda k: k, range(9), "the test")
    assert next(done) == (0, 0)
    with pytest.raises(BrokenPool, match=r"the pool of the test broke \(gone\): a worker ended") as caught:
        next(done)
    assert caught.value.worked
    assert caught.value.under_way == [1, 2, 3]


@pytest.mark.parametrize(("attributes", "count"), [({"_max_workers": 3}, 3), ({"num_workers": 5}, 5), ({}, 4)])
def test_how_many_workers_there_are(attributes, count):
    class Some:
        pass

    some = Some()
    vars(some).update(attributes)
    assert workers_of(some) == count


def test_a_client_of_dask_is_no_executor():
    class Client:
        def submit(self, function, *arguments):
            raise AssertionError

        def get_executor(self):
            raise AssertionError

    with pytest.raises(ValueError, match=r"is a client and no executor: give executor=client\.get_executor\(\)"):
        check_executor(Client())


def test_workers_of_dask_come_and_go():
    class Client:
        def nthreads(self):
            return {"one": 2, "other": 3}

    class Some:
        _client = Client()

    assert workers_of(Some()) == 5
