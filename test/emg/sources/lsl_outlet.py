"""An LSL outlet for the tests, run as its own process: a stand-in for an amplifier.

Prints `ready` once it can be found, and a line `start .. period .. sent ..` when its time is over. Commands
on stdin, one per line: `pause`, `resume`, `quit`.
"""

from __future__ import annotations

import argparse
import select
import sys
import time

import numpy as np
import pylsl


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument(
        "--declared", type=float, default=0.0, help="declared rate where it is not the true one"
    )
    parser.add_argument("--channels", type=int, default=2)
    parser.add_argument("--burst", type=int, default=10, help="samples per push")
    parser.add_argument(
        "--jitter", type=float, default=0.0, help="standard deviation of the stamp of a push, s"
    )
    parser.add_argument(
        "--ppm", type=float, default=0.0, help="how much longer each sample lasts than the rate says"
    )
    parser.add_argument("--unit", default="microvolts")
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--gap", default="", help="first:count of samples that are never sent")
    parser.add_argument("--offset", type=float, default=0.0, help="added to every stamp, s")
    parser.add_argument(
        "--speed", type=float, default=1.0, help="stamps advance as told, pushes come this much faster"
    )
    args = parser.parse_args()
    rng = np.random.default_rng(1)
    info = pylsl.StreamInfo(
        args.name, "EMG", args.channels, args.declared or args.rate, "float32", f"id-{args.name}"
    )
    described = info.desc().append_child("channels")
    for k in range(args.channels):
        channel = described.append_child("channel")
        channel.append_child_value("label", f"F{k + 1}")
        if args.unit:
            channel.append_child_value("unit", args.unit)
    outlet = pylsl.StreamOutlet(info, max_buffered=60)
    print("ready", flush=True)
    while not outlet.have_consumers():
        time.sleep(0.005)
    gap = [int(v) for v in args.gap.split(":")] if args.gap else [0, 0]
    period = (1.0 + args.ppm * 1e-6) / args.rate
    start = pylsl.local_clock()
    sent = 0
    index = 0
    paused = False
    while index * period < args.seconds:
        if select.select([sys.stdin], [], [], 0)[0]:
            line = sys.stdin.readline().strip()
            if line in ("quit", ""):
                break
            paused = line == "pause"
        if paused:
            time.sleep(0.01)
            start += 0.01 / args.speed
            continue
        time.sleep(max(0.0, start + (index + args.burst) * period / args.speed - pylsl.local_clock()))
        k = np.arange(index, index + args.burst)
        index += args.burst
        k = k[(k < gap[0]) | (k >= gap[0] + gap[1])]
        if not len(k):
            continue
        # channel 0 counts samples, so that the receiver can know the true time of each
        block = np.zeros((len(k), args.channels), np.float32)
        block[:, 0] = k % 2**23
        block[:, 1:] = rng.normal(0, 20, (len(k), args.channels - 1))
        stamp = start + k[-1] * period / args.speed + rng.normal(0, args.jitter) + args.offset
        outlet.push_chunk(block, stamp)
        sent += len(k)
    print(f"start {start!r} period {period / args.speed!r} sent {sent}", flush=True)
    sys.stdin.readline()  # what is under way must not die with this process: wait to be told to go


if __name__ == "__main__":
    main()
