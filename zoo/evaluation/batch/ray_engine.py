"""Rows from many processes, on one machine or a cluster: a part of 10,000 rows is the unit of work.

Ray's actors hold the model and its tasks decode beside them. A part comes back whole to the process
that writes, so that what dies on the way is computed again and nothing stands there twice. Batches
are those of one process, and so are the rows, to the bit; Ray Data, which forms batches from the
blocks that happen to be there, does not promise that.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ...data.cores import available_cores
from ...errors import MissingDependencyError, ProviderError, ResourceError, ZooError
from ...files.strays import hidden_name, sweep
from .archives import Tar, count_images
from .items import Source
from .job import Run
from .rows import PartFile, RowOptions
from .sources import Shards
from .stream import PART_ROWS

if TYPE_CHECKING:
    from ..predictor import Predictor
    from .ray_actor import ActorFacts

PART_RETRIES = 10  # of a part whose actor was lost; actors themselves are restarted without limit
STARTS = 3  # tries; Ray gives a node half a minute, which a busy machine may exceed
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AUTH_MODE": "token",
    # names two systems, and does everywhere what it does there: listens on the loopback alone
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


@dataclass(frozen=True)
class RayEngine:
    """Actors that hold a model, and tasks that decode for them.

    Args:
        open_model: opens a predictor, from a path or a name; called in every actor.
        actors: how many; 0: as many as GPUs allow, or half of the CPUs.
        gpus_per_actor: 0 for a model on the CPU.
        threads: CPUs of each actor, for its model.
        address: of a cluster, "auto" for the one that this machine or process belongs to; "": one
            is started here, and stopped at the end.
        cpus: logical CPUs of that one; 0: as many as there are cores, at least 2.
    """

    open_model: Callable[[], Predictor]
    actors: int = 0
    gpus_per_actor: float = 0.0
    threads: int = 1
    address: str = ""
    cpus: int = 0

    @contextlib.contextmanager
    def opened(self, source: Source, options: RowOptions) -> Iterator[Run]:
        """Raises: ResourceError (code "cluster") for a cluster that cannot hold the actors and a
        decoder, or cannot be reached; ProviderError if actors run on different providers; what
        opening the model raises; MissingDependencyError without Ray.
        """
        folder = os.getcwd()
        cpus = self.cpus or max(2, available_cores())
        if not (self.address or self.gpus_per_actor):  # all that there will be
            self._places([{"Alive": True, "Resources": {"CPU": cpus}}])
        with _cluster(self.address, cpus) as ray, _own_errors():
            actors, decoders = self._places(ray.nodes())
            source = _counted(ray, source)
            workers = options.workers or -(-decoders // actors)
            from .ray_actor import RowActor

            kind = ray.remote(
                num_cpus=self.threads,
                num_gpus=self.gpus_per_actor,
                max_restarts=-1,
                max_task_retries=PART_RETRIES,
            )(RowActor)
            given = (self.open_model, options, folder, workers)
            handles = [kind.remote(*given) for _ in range(actors)]
            facts = ray.get([actor.facts.remote() for actor in handles])
            _check_same(facts)
            yield _RayRun(ray, handles, facts, ray.put(source), source.count or 0)

    def _places(self, nodes: Sequence[dict[str, Any]]) -> tuple[int, int]:
        """(actors, CPUs left for decoding). Raises: ResourceError, see `opened`."""
        alive = [node["Resources"] for node in nodes if node["Alive"]]
        cpus = int(sum(node.get("CPU", 0) for node in alive))
        gpus = sum(node.get("GPU", 0) for node in alive)
        room = sum(self._room(node.get("CPU", 0), node.get("GPU", 0)) for node in alive)
        default = room if self.gpus_per_actor else max(1, cpus // 2 // self.threads)
        actors = self.actors or min(default, room) or 1
        left = cpus - actors * self.threads
        if actors > room or left < 1:
            gpu = f" and {self.gpus_per_actor:g} GPUs" if self.gpus_per_actor else ""
            raise ResourceError(
                f"{actors} actors of {self.threads} CPUs{gpu} each and one decoder need "
                f"{actors * self.threads + 1} logical CPUs; the cluster has {cpus} (and {gpus:g} "
                f"GPUs, room for {room} such actors): it would wait for ever. Pass fewer --actors",
                code="cluster",
            )
        return actors, left

    def _room(self, cpus: float, gpus: float) -> int:
        by_cpu = int(cpus // self.threads)
        return min(by_cpu, int(gpus / self.gpus_per_actor)) if self.gpus_per_actor else by_cpu


@dataclass(frozen=True)
class _RayRun:
    ray: Any
    actors: Sequence[Any]
    known: list[ActorFacts]
    source: Any
    count: int

    @property
    def facts(self) -> ActorFacts:
        return self.known[0]

    @property
    def report(self) -> dict[str, Any]:
        actors = [{"node": f.node, "process": f.process, "runs_on": f.origin} for f in self.known]
        return {"engine": f"ray {self.ray.__version__}", "actors": actors}

    def parts(
        self, missing: Iterable[tuple[int, int | None]], on_rows: Callable[[int], None]
    ) -> Iterator[PartFile]:
        end = -(-self.count // PART_ROWS)
        numbers = (n for first, after in missing for n in range(first, after or end))
        waiting: dict[Any, Any] = {}

        def hand_out(actor: Any) -> None:
            for number in numbers:
                waiting[actor.part.remote(number, [self.source])] = actor
                return

        for actor in self.actors:
            hand_out(actor)
        while waiting:
            done = self.ray.wait(list(waiting))[0][0]
            part, facts = self.ray.get(done)
            hand_out(waiting.pop(done))
            if facts not in self.known:  # restarted, perhaps elsewhere
                self.known.append(facts)
                _check_same(self.known)
            on_rows(part.rows)
            yield part


def _check_same(facts: Sequence[ActorFacts]) -> None:
    """Raises: ProviderError (code "mixed")."""
    first = facts[0].same_everywhere
    for other in facts[1:]:
        theirs = other.same_everywhere
        for key in sorted(first.keys() | theirs.keys()):
            if first.get(key) != theirs.get(key):
                raise ProviderError(
                    f"actors differ: {key} is {str(first.get(key))[:60]} on node "
                    f"{facts[0].node[:8]} and {str(theirs.get(key))[:60]} on {other.node[:8]}; "
                    "their rows would, too. Install the same on all nodes",
                    code="mixed",
                )


def _counted(ray: Any, source: Source) -> Source:
    """The source with the number of images of every archive, which tasks count side by side."""
    count = ray.remote(num_cpus=1)(count_images)
    if isinstance(source, Tar):
        return replace(source, count=ray.get(count.remote(source)))
    if isinstance(source, Shards) and source.count is None:
        counts = ray.get([count.remote(shard) for shard in source.sources])
        pairs = zip(source.sources, counts, strict=True)
        return replace(source, sources=[replace(shard, count=n) for shard, n in pairs])  # type: ignore[type-var]
    return source


@contextlib.contextmanager
def _own_errors() -> Iterator[None]:
    """What our code raised in an actor or task, as it raised it."""
    import ray

    try:
        yield
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, ZooError):
            raise cause from None
        raise
    except ray.exceptions.RayActorError as error:
        raise ResourceError(
            f"a part of rows lost its process {PART_RETRIES + 1} times: too little memory, or a "
            f"model that crashes ({ascii(str(error))[1:80]}); --resume goes on",
            code="lost_actor",
        ) from None


@contextlib.contextmanager
def _cluster(address: str, cpus: int) -> Iterator[Any]:
    """Ray, connected; a cluster that was started here is stopped at the end, with its files."""
    ray = _imported(local=not address)
    if ray.is_initialized():
        yield ray
        return
    with _short_folder() as folder:
        where: dict[str, Any] = {"address": address}
        if not address:
            where = {"_temp_dir": folder, "include_dashboard": False, "num_cpus": cpus}
        # workers look for modules where the driver stands: in an empty folder, not in the user's
        with contextlib.chdir(folder), _same_handlers():
            _connect(ray, address, where)
        try:
            yield ray
        finally:
            ray.shutdown()


def _connect(ray: Any, address: str, where: dict[str, Any]) -> None:
    """Raises: ResourceError (code "cluster")."""
    tries = 1 if address else STARTS
    for left in reversed(range(tries)):
        try:
            ray.init(log_to_driver=False, logging_level="ERROR", **where)
            return
        except Exception as error:  # a node that is slow to start is an `Exception`, no more
            ray.shutdown()
            if not left:
                what = f"no Ray cluster at {address!r}" if address else "Ray did not start"
                reason = ascii(" ".join(str(error).split()))[1:120]
                raise ResourceError(f"{what}: {reason}", code="cluster") from None


def _imported(local: bool) -> Any:
    if local:
        for name, value in {**_QUIET, "RAY_AUTH_TOKEN": secrets.token_hex(32)}.items():
            os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise MissingDependencyError(
            "--engine ray needs Ray: pip install 'convattn-zoo[ray]'"
        ) from None
    return ray


@contextlib.contextmanager
def _short_folder() -> Iterator[str]:
    """A folder for Ray's sockets, whose paths have about 100 characters at most. What killed
    processes left there is swept.
    """
    place = "/tmp" if os.path.isdir("/tmp") else tempfile.gettempdir()
    sweep(place)
    folder = os.path.join(place, hidden_name())
    os.mkdir(folder, 0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _same_handlers() -> Iterator[None]:
    """Ray takes SIGTERM for itself; afterwards it is whose it was."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGTERM, before)
