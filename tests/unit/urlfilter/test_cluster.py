"""Shards processed by a cluster of two workers, of which one is killed midway."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from network_extension.urlfilter.cluster import ClusterError, ClusterRunner
from network_extension.urlfilter.database_build import BuildOptions, build, current_version
from network_extension.urlfilter.database_build_plan import Target
from network_extension.urlfilter.database_build_shard import ShardFiles, ShardTask

distributed = pytest.importorskip("distributed", reason="the extra cluster is not installed")


@pytest.fixture
def cluster() -> Iterator[Any]:
    with warnings.catch_warnings():
        # distributed's own, about ports, clocks and descriptors of processes that die as they should here.
        warnings.simplefilter("ignore")
        with distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=0, silence_logs=50
        ) as local:
            yield local


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_cluster_that_loses_a_worker_builds_the_same_database(cluster: Any, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("".join(f"host{number}.example\n" for number in range(3000)))
    options = BuildOptions(target=Target(shard_count=8))
    killed: list[int] = []

    def run(tasks: Iterator[ShardTask]) -> Iterator[ShardFiles]:
        with ClusterRunner(cluster.scheduler_address) as runner:
            for number, files in enumerate(runner(tasks)):
                if number == 1:
                    killed.append(cluster.workers[0].process.process.pid)
                    os.kill(killed[0], signal.SIGKILL)
                yield files

    manifest = build([path], tmp_path / "clustered", options, now=0.0, remote=run)  # type: ignore[arg-type]  # a closure
    assert killed and manifest.shard_count == 8
    alone = build([path], tmp_path / "alone", options, now=0.0)
    assert alone.shards == manifest.shards
    assert (current_version(tmp_path / "clustered") / "urls-7.bin").stat().st_size == alone.shards[7].bin_bytes


def test_a_scheduler_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("network_extension.urlfilter.cluster._CONNECT_SECONDS", 0.2)
    with pytest.raises(ClusterError, match=r"no scheduler answers at tcp://127.0.0.1:9"):
        ClusterRunner("tcp://127.0.0.1:9")
