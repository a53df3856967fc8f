"""A real limit on the wire between ranks: every rank gets a network interface of its own, of a given speed.

Each rank enters a network namespace that holds one interface, and all interfaces meet at a bridge. The kernel's
token bucket filter limits each in both directions, as a full-duplex NIC on a switch: what the rank sends at the
rank's end, what it is sent at the bridge's end. Queues are long enough to drop nothing, as a fabric with flow control.

The bridge belongs to a process of its own, the hub, which lives until the caller closes its standard input or dies.
Namespaces have no names; they and all in them vanish with the hub and the ranks, however these end, and two runs at
once cannot meet. Linux with `ip` and `tc` (iproute2), as root or where a user namespace may be made.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from assay.errors import JobError

INTERFACE = "eth0"  # of each rank, inside its namespace
FRAME, PAYLOAD = 1514, 1448  # bytes on the wire that count, of which TCP carries so many for the sender
BURST_FRAMES, BURST_S = 2, 600e-6
QUEUE_BYTES = 64 * 2**20
QUEUE_FRAMES = 100_000
COMMAND_S = 20.0
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000

# Files of the namespaces that a rank must enter, in this order.
Doors = list[str]


@dataclass(frozen=True)
class Network:
    """One full-duplex NIC per rank.

    Attributes:
        bandwidth_bps: bits/s in each direction, headers included.
        latency_s: s from one rank to another, for a frame of no length.
    """

    bandwidth_bps: float
    latency_s: float = 0.0

    def __post_init__(self) -> None:
        if not (self.bandwidth_bps > 0 and self.latency_s >= 0):
            raise JobError(f"{self}: give a bandwidth above 0 bits/s and a latency of at least 0 s")

    @property
    def payload(self) -> Network:
        """The network as those who send on it see it: without the headers of frames."""
        return replace(self, bandwidth_bps=self.bandwidth_bps * PAYLOAD / FRAME)


@functools.cache
def network_reason(network: Network = Network(1e9)) -> str | None:
    """Why ranks cannot be given such a network here, in words, or None: it is tried, once per process."""
    try:
        with wired(1, network):
            return None
    except JobError as error:
        return str(error)


@contextmanager
def wired(world_size: int, network: Network | None) -> Iterator[list[Doors]]:
    """The doors to each rank's side of the network, which stands until the block is left. None: nothing to enter.

    Raises JobError where this machine cannot, with the reason.
    """
    if network is None:
        yield [[] for _ in range(world_size)]
        return
    numbers = (str(world_size), str(float(network.bandwidth_bps)), str(float(network.latency_s)))
    command = [sys.executable, "-m", "assay.network", *numbers]
    hub = subprocess.Popen(command, cwd=Path(__file__).parent.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                           text=True, start_new_session=True)  # fmt: skip
    try:
        assert hub.stdout is not None
        answer = json.loads(hub.stdout.readline() or '{"reason": "the process that holds it has died"}')
        if "reason" in answer:
            raise JobError(f"no network of {network.bandwidth_bps:g} bit/s between ranks here: {answer['reason']}")
        yield answer["doors"]
    finally:
        hub.kill()
        hub.communicate()


def enter(doors: Doors) -> None:
    """Move this process, which must have one thread only, into a rank's side of the network. Raises OSError."""
    for door in doors:
        _enter(door)


def _libc(call: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, call)(*arguments) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{call}: {os.strerror(error)}")


def _enter(door: str) -> None:
    handle = os.open(door, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _libc("setns", handle, 0)
    finally:
        os.close(handle)


def _hub(world_size: int, network: Network) -> None:
    """Build the network, say where its doors are, and hold it until nobody needs it any more."""
    try:
        answer: dict[str, object] = {"doors": _build(world_size, network)}
    except (JobError, OSError, subprocess.SubprocessError) as error:
        answer = {"reason": str(error)}
    print(json.dumps(answer), flush=True)
    sys.stdin.read()


def _build(world_size: int, network: Network) -> list[Doors]:
    for program in ("ip", "tc"):
        if shutil.which(program) is None:
            raise JobError(f"no program {program} on PATH (it comes with iproute2, sometimes in /usr/sbin)")
    if network.bandwidth_bps == float("inf"):
        raise JobError("a real network needs a finite bandwidth")
    user = [f"/proc/{os.getpid()}/ns/user"] if _become_root() else []
    sides = [_new_namespace() for _ in range(world_size)]
    _new_namespace()  # the bridge's, in which the hub stays
    _run("ip", "link add bridge0 type bridge", "link set bridge0 up")
    for rank, side in enumerate(sides):
        outer, limit = f"veth{rank}", _limit(network)
        # reno is in every kernel; BBR and CUBIC read the queue's delay, which here comes from the rank's own sending
        _run("ip", "link set lo up", f"link add {INTERFACE} type veth peer name {outer} netns {os.getpid()}",
             f"address add 10.0.0.{rank + 1}/24 dev {INTERFACE} noprefixroute", f"link set {INTERFACE} up",
             f"route add 10.0.0.0/24 dev {INTERFACE} src 10.0.0.{rank + 1} congctl reno", inside=side)  # fmt: skip
        _run("tc", f"qdisc add dev {INTERFACE} root handle 1: {limit}", inside=side)
        _run("ip", f"link set {outer} master bridge0 up")
        _run("tc", f"qdisc add dev {outer} root handle 1: {limit}")
        if network.latency_s:
            delay = f"netem delay {network.latency_s * 1e6:.0f}us limit {QUEUE_FRAMES}"
            _run("tc", f"qdisc add dev {outer} parent 1:1 {delay}")
    return [[*user, side] for side in sides]


def _limit(network: Network) -> str:
    burst = max(BURST_FRAMES * FRAME, int(BURST_S * network.bandwidth_bps / 8))
    return f"tbf rate {network.bandwidth_bps:.0f}bit burst {burst} limit {QUEUE_BYTES}"


def _become_root() -> bool:
    """May this process make network namespaces? If only in a user namespace, enter one, and say so."""
    try:
        _libc("unshare", CLONE_NEWNET)
        return False
    except PermissionError:
        user, group = os.geteuid(), os.getegid()
    try:
        _libc("unshare", CLONE_NEWUSER)
    except OSError as error:
        raise JobError(f"this user may make neither network nor user namespaces ({error.strerror})") from error
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    return True


def _new_namespace() -> str:
    _libc("unshare", CLONE_NEWNET)
    return f"/proc/{os.getpid()}/fd/{os.open('/proc/self/ns/net', os.O_RDONLY)}"


def _run(program: str, *commands: str, inside: str | None = None) -> None:
    done = subprocess.run([program, "-batch", "-"], input="\n".join(commands), text=True, capture_output=True,
                          timeout=COMMAND_S, preexec_fn=None if inside is None else lambda: _enter(inside))  # fmt: skip
    if done.returncode != 0:
        raise JobError(f"`{program} {' / '.join(commands)}` failed: {' '.join(done.stderr.split())}")


if __name__ == "__main__":
    _hub(int(sys.argv[1]), Network(float(sys.argv[2]), float(sys.argv[3])))
